"""Find, run and export MONAI bundles."""

from osteo_monai.bundle.prepare import prepare_run, refuse_unknown_settings
from osteo_monai.bundle.runner import (
    BUNDLES_VARIABLE,
    InferenceBundle,
    export_weights,
    find_bundle,
    load_bundle,
    merge_inference_config,
)

__all__ = [
    "BUNDLES_VARIABLE",
    "InferenceBundle",
    "export_weights",
    "find_bundle",
    "load_bundle",
    "merge_inference_config",
    "prepare_run",
    "refuse_unknown_settings",
]
