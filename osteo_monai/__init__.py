"""Opportunistic osteoporosis screening in CT and radiographs, as a MONAI workflow.

The names in ``__all__`` are the public interface. Each one is imported on first use, so that ``import osteo_monai``
loads neither torch nor MONAI. ``docs/first_steps.md`` shows them in use.

Example:
    >>> import osteo_monai
    >>> osteo_monai.DensityThresholds().status(75.0, osteo_monai.MineralStandard.K2HPO4)
    <BoneStatus.OSTEOPOROSIS: 'osteoporosis'>
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.bundle import load_bundle
    from osteo_monai.data import Manifest, read_manifest
    from osteo_monai.domain import (
        BoneStatus,
        DensityThresholds,
        Finding,
        MineralStandard,
        Severity,
        Sex,
        VertebraLevel,
        View,
    )
    from osteo_monai.errors import (
        ConfigError,
        ManifestError,
        ModelMissingError,
        NotEstimableError,
        OsteoError,
        ScanRefusedError,
        UnattainableError,
        UnusableInputError,
    )
    from osteo_monai.imaging import CTVolume, read_ct
    from osteo_monai.imaging.radiograph import Radiograph, read_radiograph
    from osteo_monai.reporting.evaluation import EvaluationOptions, evaluate
    from osteo_monai.screening import (
        InternalCalibration,
        PhantomCalibration,
        PhysicsCalibration,
        RadiographOptions,
        RegistryCalibration,
        Screening,
        ScreeningOptions,
        ScreeningResult,
        SiteCalibration,
        UserCalibration,
        screen,
        screen_radiographs,
    )
    from osteo_monai.screening_files import write_screening
    from osteo_monai.statistics.meta_analysis import pool_studies
    from osteo_monai.virtual.cohort import make_cohort, make_ct, make_radiograph

__all__ = [
    "BoneStatus",
    "CTVolume",
    "ConfigError",
    "DensityThresholds",
    "EvaluationOptions",
    "Finding",
    "InternalCalibration",
    "Manifest",
    "ManifestError",
    "MineralStandard",
    "ModelMissingError",
    "NotEstimableError",
    "OsteoError",
    "PhantomCalibration",
    "PhysicsCalibration",
    "Radiograph",
    "RadiographOptions",
    "RegistryCalibration",
    "ScanRefusedError",
    "Screening",
    "ScreeningOptions",
    "ScreeningResult",
    "Severity",
    "Sex",
    "SiteCalibration",
    "UnattainableError",
    "UnusableInputError",
    "UserCalibration",
    "VertebraLevel",
    "View",
    "__version__",
    "evaluate",
    "load_bundle",
    "make_cohort",
    "make_ct",
    "make_radiograph",
    "pool_studies",
    "read_ct",
    "read_manifest",
    "read_radiograph",
    "screen",
    "screen_radiographs",
    "write_screening",
]

try:
    __version__ = metadata.version("osteo-monai")
except metadata.PackageNotFoundError:  # a source tree on the path without installation
    __version__ = "0+unknown"

if not TYPE_CHECKING:  # hidden from type checkers: they use the imports above and report names that do not exist
    _NAMES = {
        "bundle": ("load_bundle",),
        "data": ("Manifest", "read_manifest"),
        "domain": (
            "BoneStatus",
            "DensityThresholds",
            "Finding",
            "MineralStandard",
            "Severity",
            "Sex",
            "VertebraLevel",
            "View",
        ),
        "errors": (
            "ConfigError",
            "ManifestError",
            "ModelMissingError",
            "NotEstimableError",
            "OsteoError",
            "ScanRefusedError",
            "UnattainableError",
            "UnusableInputError",
        ),
        "imaging": ("CTVolume", "read_ct"),
        "imaging.radiograph": ("Radiograph", "read_radiograph"),
        "reporting.evaluation": ("EvaluationOptions", "evaluate"),
        "screening": (
            "InternalCalibration",
            "PhantomCalibration",
            "PhysicsCalibration",
            "RadiographOptions",
            "RegistryCalibration",
            "Screening",
            "ScreeningOptions",
            "ScreeningResult",
            "SiteCalibration",
            "UserCalibration",
            "screen",
            "screen_radiographs",
        ),
        "screening_files": ("write_screening",),
        "statistics.meta_analysis": ("pool_studies",),
        "virtual.cohort": ("make_cohort", "make_ct", "make_radiograph"),
    }
    _MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
