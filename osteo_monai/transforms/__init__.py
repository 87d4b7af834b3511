"""Transforms of the bundles' configs."""

from osteo_monai.transforms.body_mask import VertebralBodyMaskd
from osteo_monai.transforms.centre_heat import CentreHeatd
from osteo_monai.transforms.class_maps import CLASS_NAMES, NAME_LABELS, LocalizationClassesd
from osteo_monai.transforms.column_decoding import DecodeColumnd, FoundBody
from osteo_monai.transforms.covariates import COVARIATES, CovariatePlanesd, Covariatesd, covariate_reference
from osteo_monai.transforms.density import DensityInputd, EstimateDensityd, RandAcquisitiond
from osteo_monai.transforms.heat_maps import HeatMapsd
from osteo_monai.transforms.hounsfield import CheckHounsfieldd
from osteo_monai.transforms.inside_cortex import InsideCortexd
from osteo_monai.transforms.load_radiograph import LoadRadiographd
from osteo_monai.transforms.radiograph import PatchGridd, RandomisedRadiographs
from osteo_monai.transforms.random_planes import RandomPlanes
from osteo_monai.transforms.saving import SaveVertebraed
from osteo_monai.transforms.spacing import AxisAlignedSpacing, AxisAlignedSpacingd
from osteo_monai.transforms.straightening import StraightenColumnd
from osteo_monai.transforms.vertebra_decoding import DecodeVertebraed, LocatedVertebra
from osteo_monai.transforms.vertebral_slices import RandomisedSlices, VertebralSlicesd

__all__ = [
    "CLASS_NAMES",
    "COVARIATES",
    "NAME_LABELS",
    "AxisAlignedSpacing",
    "AxisAlignedSpacingd",
    "CentreHeatd",
    "CheckHounsfieldd",
    "CovariatePlanesd",
    "Covariatesd",
    "DecodeColumnd",
    "DecodeVertebraed",
    "DensityInputd",
    "EstimateDensityd",
    "FoundBody",
    "HeatMapsd",
    "InsideCortexd",
    "LoadRadiographd",
    "LocalizationClassesd",
    "LocatedVertebra",
    "PatchGridd",
    "RandAcquisitiond",
    "RandomPlanes",
    "RandomisedRadiographs",
    "RandomisedSlices",
    "SaveVertebraed",
    "StraightenColumnd",
    "VertebralBodyMaskd",
    "VertebralSlicesd",
    "covariate_reference",
]
