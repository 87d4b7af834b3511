"""Texture of the trabecular region: first-order statistics, co-occurrence and apparent microarchitecture by level.

In a body CT a voxel contains several trabeculae, so that values of microarchitecture are *apparent*: they rank scans of
one protocol and are no histomorphometry. Each group of features is computed only where the voxel size allows, otherwise
the result has the reason. ITK's filters are needed (extra ``texture``); their first use takes 15 to 20 s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.utils.optional import import_optional

EXTRA = "texture"
"""Extra of this package that installs the ITK modules."""
_COOCCURRENCE = "itk.itkCoocurrenceTextureFeaturesImageFilterPython"
_MORPHOMETRY = "itk.itkBoneMorphometryFeaturesFilterPython"

BONE_HU = 150.0
"""HU from which a voxel counts as bone (project custom): no published value fits all scanners."""
MICROARCHITECTURE_VOXEL_MM = (0.25, 0.5)
"""Largest pixel and slice spacing for microarchitecture. At 0.234 mm and 0.5 mm BV/TV and Tb.Sp of MDCT correlate with
HR-pQCT (r 0.92 to 0.96), Tb.Th does not (Issever 2010, doi 10.1007/s00330-009-1571-7)."""
TEXTURE_VOXEL_MM = (1.0, 3.0)
"""Largest pixel and slice spacing for first-order and co-occurrence features (project custom): texture of coarser
voxels depends on partial volumes of cortex and vessels."""
TEXTURE_CUBE_MM = 1.0
"""Edge of the cubes that texture is computed on, equal for all scans, since texture depends on the voxel size."""
MIN_REGION_VOXELS = 100
"""Fewest cubes of a region (project custom)."""
BINS, RANGE_HU, RADIUS_CUBES = 16, (-100.0, 400.0), 2
"""Histogram of the co-occurrence and of the entropy, and half-width of the co-occurrence window in cubes."""

_ITK_COOCCURRENCE = (
    "energy",
    "entropy",
    "correlation",
    "inverse_difference_moment",
    "inertia",
    "cluster_shade",
    "cluster_prominence",
    "haralick_correlation",
)
"""Order of the components of ITK's co-occurrence filter."""
COOCCURRENCE_NAMES = tuple(name for name in _ITK_COOCCURRENCE if "correlation" not in name)
"""Those that are used. ITK divides the covariance of both its correlations by the squared variance, so that they depend
on the unit and exceed 1."""

GROUPS = ("first_order", "glcm", "microarchitecture")
"""Groups of features, each computed or not as a whole."""

UNITS: Mapping[str, str] = {
    "first_order_mean": "HU",
    "first_order_sd": "HU",
    "first_order_skewness": "1",
    "first_order_kurtosis": "1",
    "first_order_p10": "HU",
    "first_order_p90": "HU",
    "first_order_entropy": "bit",
    **{f"glcm_{name}": "1" for name in COOCCURRENCE_NAMES},
    "bv_tv": "1",
    "tb_n": "1/mm",
    "tb_th": "mm",
    "tb_sp": "mm",
}
"""Unit of each feature. Tb.N counts boundaries along the three axes, two thirds of the number of plates along one."""


@dataclass(frozen=True)
class LevelTexture:
    """Features of one vertebral body.

    Attributes:
        level: of the body.
        features: values by the names of :data:`UNITS`; those that are undefined or not computed are missing.
        not_computed: reason by group of features, see :data:`GROUPS`.
        voxel_mm: spacing of the scan along x, y and z.
    """

    level: VertebraLevel
    features: Mapping[str, float]
    not_computed: Mapping[str, str] = field(default_factory=dict)
    voxel_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Cubes:
    """A region and its surroundings on cubes: HU and mask (X, Y, Z), edge in mm."""

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_]
    edge: float


def check_texture_installed() -> None:
    """Check that the extra ``texture`` is installed, before work starts; this imports ITK.

    Raises:
        MissingExtraError: it is not installed.
    """
    for module in ("itk", _COOCCURRENCE, _MORPHOMETRY):
        import_optional(module, EXTRA, "Texture analysis")


def level_texture(
    volume: CTVolume, regions: Mapping[VertebraLevel, NDArray[np.bool_]], bone_hu: float = BONE_HU
) -> tuple[LevelTexture, ...]:
    """Compute the texture of each trabecular region.

    Args:
        volume: the scan.
        regions: bool (X, Y, Z) on the grid of ``volume`` by level, as :func:`osteo_monai.measurement.trabecular_region`
            returns them.
        bone_hu: HU from which a voxel counts as bone in the microarchitecture.

    Returns:
        One result a level, in the order of ``regions``.

    Raises:
        ValueError: a region has another shape than the volume.
        MissingExtraError: the extra ``texture`` is not installed.
    """
    for level, region in regions.items():
        if region.shape != volume.hu.shape:
            raise ValueError(
                f"region of {level} must have the shape of the volume {volume.hu.shape}, got {region.shape}"
            )
    return tuple(_of_level(volume, level, region, bone_hu) for level, region in regions.items())


def texture_rows(levels: Sequence[LevelTexture]) -> list[dict[str, str | float]]:
    """Return rows for a table: level, feature, value, unit; a group that was not computed has one row with its
    reason.
    """
    rows: list[dict[str, str | float]] = []
    for result in levels:
        for name, value in result.features.items():
            rows.append({"level": str(result.level), "feature": name, "value": value, "unit": UNITS[name], "note": ""})
        for group, reason in result.not_computed.items():
            rows.append({"level": str(result.level), "feature": group, "value": "", "unit": "", "note": reason})
    return rows


def _of_level(volume: CTVolume, level: VertebraLevel, region: NDArray[np.bool_], bone_hu: float) -> LevelTexture:
    features: dict[str, float] = {}
    missing: dict[str, str] = {}
    finest = float(min(volume.spacing))
    groups: tuple[tuple[str, tuple[float, float], float, Callable[[_Cubes], dict[str, float]]], ...] = (
        ("first_order", TEXTURE_VOXEL_MM, TEXTURE_CUBE_MM, first_order),
        ("glcm", TEXTURE_VOXEL_MM, TEXTURE_CUBE_MM, cooccurrence),
        ("microarchitecture", MICROARCHITECTURE_VOXEL_MM, finest, lambda cubes: microarchitecture(cubes, bone_hu)),
    )
    for name, limit, edge, compute in groups:
        reason = _too_coarse(volume.spacing, limit)
        if reason is None:
            cubes = _cubes(volume, region, edge)
            if cubes is None:
                reason = f"The region must have at least {MIN_REGION_VOXELS} cubes of {edge:g} mm."
            else:
                features |= compute(cubes)
        if reason is not None:
            missing[name] = reason
    return LevelTexture(level, features, missing, volume.spacing)


def _too_coarse(spacing: tuple[float, float, float], limit: tuple[float, float]) -> str | None:
    pixel, step = max(spacing[:2]), spacing[2]
    if pixel <= limit[0] + 1e-3 and step <= limit[1] + 1e-3:
        return None
    return (
        f"Voxels must be at most {limit[0]:g} mm in plane and {limit[1]:g} mm between slices, "
        f"got {pixel:.2g} and {step:.2g} mm."
    )


def _cubes(volume: CTVolume, region: NDArray[np.bool_], edge: float) -> _Cubes | None:
    """Resample the box of a region with a margin to cubes, HU linearly and the mask by nearest neighbour.

    Equal edges treat all directions alike. ITK's morphometry also needs them: it divides the crossings along x by the z
    spacing and vice versa (seen with plates in itk-bonemorphometry 1.5.1).
    """
    if not region.any():
        return None
    spacing = np.array(volume.spacing)
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(4.0 * edge / spacing[axis])) + 1  # both filters read neighbours outside the mask
        box.append(slice(max(int(occupied[0]) - margin, 0), min(int(occupied[-1]) + margin + 1, region.shape[axis])))
    part = tuple(box)
    grid = [
        int(np.floor((s.stop - s.start - 1) * step / edge + 1e-6)) + 1 for s, step in zip(part, spacing, strict=True)
    ]

    import SimpleITK as sitk  # late: slow to import, and needed here only

    def resampled(array: NDArray[Any], interpolator: int) -> NDArray[Any]:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array[part].transpose(2, 1, 0)))
        image.SetSpacing(spacing.tolist())
        output = sitk.Resample(
            image, grid, sitk.Transform(), interpolator, (0.0, 0.0, 0.0), (edge,) * 3, np.eye(3).ravel().tolist()
        )
        return np.asarray(sitk.GetArrayFromImage(output)).transpose(2, 1, 0)

    mask = resampled(region.astype(np.uint8), sitk.sitkNearestNeighbor) > 0
    if np.count_nonzero(mask) < MIN_REGION_VOXELS:
        return None
    return _Cubes(resampled(volume.hu.astype(np.float32), sitk.sitkLinear), mask, edge)


def first_order(cubes: _Cubes) -> dict[str, float]:
    """Return statistics of the HU in the region; entropy in bits over 16 bins from -100 to 400 HU."""
    from scipy import stats  # late: slow to import, and needed here only

    values = cubes.hu[cubes.mask].astype(np.float64)
    counts, _ = np.histogram(values.clip(*RANGE_HU), BINS, RANGE_HU)
    p10, p90 = np.percentile(values, [10, 90])
    constant = bool(np.ptp(values) < 1e-6)
    return {
        "first_order_mean": float(values.mean()),
        "first_order_sd": float(values.std(ddof=1)),
        "first_order_skewness": 0.0 if constant else float(stats.skew(values)),
        "first_order_kurtosis": 0.0 if constant else float(stats.kurtosis(values)),
        "first_order_p10": float(p10),
        "first_order_p90": float(p90),
        "first_order_entropy": float(stats.entropy(counts / counts.sum(), base=2)),
    }


def cooccurrence(cubes: _Cubes) -> dict[str, float]:
    """Return the mean of ITK's co-occurrence features in windows of 5 x 5 x 5 cubes about each cube of the region."""
    itk = import_optional("itk", EXTRA, "Texture analysis")
    module = import_optional(_COOCCURRENCE, EXTRA, "Texture analysis")
    features = module.itkCoocurrenceTextureFeaturesImageFilterIF3VIF3.New()
    features.SetInput(_as_itk(itk, cubes.hu, cubes.edge))
    features.SetMaskImage(_as_itk(itk, cubes.mask.astype(np.uint8), cubes.edge))
    features.SetNumberOfBinsPerAxis(BINS)
    features.SetNeighborhoodRadius([RADIUS_CUBES] * 3)
    features.SetHistogramMinimum(RANGE_HU[0])
    features.SetHistogramMaximum(RANGE_HU[1])
    features.Update()
    values = itk.array_from_image(features.GetOutput()).transpose(2, 1, 0, 3)[cubes.mask].mean(axis=0)
    by_name = dict(zip(_ITK_COOCCURRENCE, values, strict=True))
    return {f"glcm_{name}": float(by_name[name]) for name in COOCCURRENCE_NAMES}


def microarchitecture(cubes: _Cubes, bone_hu: float = BONE_HU) -> dict[str, float]:
    """Return apparent BV/TV, Tb.N (1/mm), Tb.Th and Tb.Sp (mm); without those that are undefined.

    Tb.N counts boundaries along the three axes; Tb.Th = BV/TV / Tb.N and Tb.Sp = (1 - BV/TV) / Tb.N.
    """
    itk = import_optional("itk", EXTRA, "Trabecular morphometry")
    module = import_optional(_MORPHOMETRY, EXTRA, "Trabecular morphometry")
    measure = module.itkBoneMorphometryFeaturesFilterIF3.New()
    measure.SetInput(_as_itk(itk, cubes.hu, cubes.edge))
    measure.SetMaskImage(_as_itk(itk, cubes.mask.astype(np.uint8), cubes.edge))
    measure.SetThreshold(float(bone_hu))
    measure.Update()
    values = {
        "bv_tv": float(measure.GetBVTV()),
        "tb_n": float(measure.GetTbN()),
        "tb_th": float(measure.GetTbTh()),
        "tb_sp": float(measure.GetTbSp()),
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _as_itk(itk: Any, array: NDArray[np.generic], edge: float) -> Any:  # an itk.Image, whose module is loaded late
    image = itk.image_from_array(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([edge] * 3)
    return image
