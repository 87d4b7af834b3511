"""Dictionary transforms that the bundles name."""

from osteo_monai.transforms.centre_heat import CentreHeatd
from osteo_monai.transforms.class_maps import CLASS_NAMES, NAME_LABELS, LocalizationClassesd
from osteo_monai.transforms.saving import SaveVertebraed
from osteo_monai.transforms.spacing import AxisAlignedSpacing, AxisAlignedSpacingd
from osteo_monai.transforms.vertebra_decoding import DecodeVertebraed, LocatedVertebra

__all__ = [
    "CLASS_NAMES",
    "NAME_LABELS",
    "AxisAlignedSpacing",
    "AxisAlignedSpacingd",
    "CentreHeatd",
    "DecodeVertebraed",
    "LocalizationClassesd",
    "LocatedVertebra",
    "SaveVertebraed",
]
