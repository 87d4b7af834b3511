"""Find, run, train and export MONAI bundles.

Names that need torch and MONAI are imported at first use, so that finding a bundle is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osteo_monai.bundle.find import BUNDLES_VARIABLE, find_bundle, install_command, user_bundles
from osteo_monai.bundle.pins import (
    check_trusted,
    config_files,
    differences,
    foreign_code,
    make_pins,
    pinned_files,
    pinned_names,
)

if TYPE_CHECKING:
    from osteo_monai.bundle.checks import (
        check_images,
        check_run,
        check_seed,
        check_weights,
        require_file,
        require_setting,
        warn_random_start,
    )
    from osteo_monai.bundle.export import export_onnx, export_weights, merge_configs, write_merged_configs
    from osteo_monai.bundle.fetching import fetch_bundle
    from osteo_monai.bundle.packing import LARGE_FILE_BYTES, pack_bundles, publishing_problems
    from osteo_monai.bundle.prepare import CheckedWorkflow, prepare_run, run_bundle
    from osteo_monai.bundle.runner import Bundle, InferenceBundle, load_bundle
    from osteo_monai.bundle.slabs import segment_by_slabs

__all__ = [
    "BUNDLES_VARIABLE",
    "LARGE_FILE_BYTES",
    "Bundle",
    "CheckedWorkflow",
    "InferenceBundle",
    "check_images",
    "check_run",
    "check_seed",
    "check_trusted",
    "check_weights",
    "config_files",
    "differences",
    "export_onnx",
    "export_weights",
    "fetch_bundle",
    "find_bundle",
    "foreign_code",
    "install_command",
    "load_bundle",
    "make_pins",
    "merge_configs",
    "pack_bundles",
    "pinned_files",
    "pinned_names",
    "prepare_run",
    "publishing_problems",
    "require_file",
    "require_setting",
    "run_bundle",
    "segment_by_slabs",
    "user_bundles",
    "warn_random_start",
    "write_merged_configs",
]

_MODULES = {
    "Bundle": "runner",
    "CheckedWorkflow": "prepare",
    "InferenceBundle": "runner",
    "LARGE_FILE_BYTES": "packing",
    "check_images": "checks",
    "check_run": "checks",
    "check_seed": "checks",
    "check_weights": "checks",
    "export_onnx": "export",
    "export_weights": "export",
    "fetch_bundle": "fetching",
    "load_bundle": "runner",
    "merge_configs": "export",
    "pack_bundles": "packing",
    "prepare_run": "prepare",
    "publishing_problems": "packing",
    "require_file": "checks",
    "require_setting": "checks",
    "warn_random_start": "checks",
    "run_bundle": "prepare",
    "segment_by_slabs": "slabs",
    "write_merged_configs": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
