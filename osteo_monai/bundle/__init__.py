"""Find, run, train and export MONAI bundles.

Names that need torch and MONAI are imported at first use, so that finding a bundle is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osteo_monai.bundle.find import BUNDLES_VARIABLE, find_bundle

if TYPE_CHECKING:
    from osteo_monai.bundle.checks import check_images, check_run, check_weights, require_file, require_setting
    from osteo_monai.bundle.export import export_onnx, export_weights, merge_configs, write_merged_configs
    from osteo_monai.bundle.prepare import CheckedWorkflow, prepare_run, run_bundle
    from osteo_monai.bundle.runner import Bundle, InferenceBundle, load_bundle
    from osteo_monai.bundle.slabs import segment_by_slabs

__all__ = [
    "BUNDLES_VARIABLE",
    "Bundle",
    "CheckedWorkflow",
    "InferenceBundle",
    "check_images",
    "check_run",
    "check_weights",
    "export_onnx",
    "export_weights",
    "find_bundle",
    "load_bundle",
    "merge_configs",
    "prepare_run",
    "require_file",
    "require_setting",
    "run_bundle",
    "segment_by_slabs",
    "write_merged_configs",
]

_MODULES = {
    "Bundle": "runner",
    "CheckedWorkflow": "prepare",
    "InferenceBundle": "runner",
    "check_images": "checks",
    "check_run": "checks",
    "check_weights": "checks",
    "export_onnx": "export",
    "export_weights": "export",
    "load_bundle": "runner",
    "merge_configs": "export",
    "prepare_run": "prepare",
    "require_file": "checks",
    "require_setting": "checks",
    "run_bundle": "prepare",
    "segment_by_slabs": "slabs",
    "write_merged_configs": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
