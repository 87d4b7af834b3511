"""CT volumes: validating readers for DICOM and NIfTI, geometry, and writing on the original grid."""

from osteo_monai.imaging.acquisition import kernel_is_sharp
from osteo_monai.imaging.nifti import read_label_map
from osteo_monai.imaging.original_grid import on_original_grid
from osteo_monai.imaging.reading import find_studies, read_acquisition, read_ct
from osteo_monai.imaging.volume import Acquisition, CTVolume, SourceFrame
from osteo_monai.imaging.writing import write_label_map

__all__ = [
    "Acquisition",
    "CTVolume",
    "SourceFrame",
    "find_studies",
    "kernel_is_sharp",
    "on_original_grid",
    "read_acquisition",
    "read_ct",
    "read_label_map",
    "write_label_map",
]
