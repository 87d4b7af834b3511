"""The slice engine and the runner of a bundle."""

from osteo_monai.inferers.bundle import InferenceBundle, export_weights, find_bundle, load_bundle
from osteo_monai.inferers.slices import AutocastInferer, AxialSliceInferer, bfloat16_is_fast

__all__ = [
    "AutocastInferer",
    "AxialSliceInferer",
    "InferenceBundle",
    "bfloat16_is_fast",
    "export_weights",
    "find_bundle",
    "load_bundle",
]
