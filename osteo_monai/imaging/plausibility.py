"""Checks whether voxel values can be Hounsfield units of a person, independent of the header."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.findings import refusal, warning
from osteo_monai.utils.text import share_words

PADDING_HU = -1024.0
"""Value of padded voxels: air at the lower end of the usual scale."""

UNDECLARED_PADDING_BELOW_HU = -1500.0
"""Below this a value is no attenuation (air is -1000 HU, ringing reaches about -1200) but scanner padding."""

AIR_BELOW_HU = -200.0
FAT_BELOW_HU = -30.0
"""Every CT of a trunk contains air or at least fat (-130 to -70 HU); an image without either is not in HU."""

MAX_DENSE_HU = 4500.0
"""Above the 12-bit scale (3071 HU) there is metal only; more than a twentieth of it means wrapped or scaled values."""

_SAMPLE_VOXELS = 1_000_000


def sample(hu: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return about a million valid voxels on a regular sub-grid, flat."""
    step = max(1, round((hu.size / _SAMPLE_VOXELS) ** (1 / 3)))
    cut = (slice(None, None, step),) * 3
    values = hu[cut]
    return values[valid[cut]] if valid is not None else values.ravel()


def check_values(
    hu: NDArray[np.float32], valid: NDArray[np.bool_] | None, declared_ct: bool
) -> tuple[list[Finding], list[Finding]]:
    """Check whether the values of a volume are Hounsfield units.

    Args:
        hu: (X, Y, Z) values that are said to be HU.
        valid: voxels that count, ``None`` for all.
        declared_ct: whether a header states CT and HU; without it the absence of air is a refusal, not a warning.

    Returns:
        refusals and other findings.
    """
    values = sample(hu, valid)
    if values.size < 100:
        return [refusal("no_valid_voxels", "Nearly all of the image is padding: there is nothing to measure.")], []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [refusal("constant_volume", f"Every voxel has the same value, {low:.4g}: this is not an image.")], []
    bounds = f"(values from {low:.4g} to {high:.4g})"
    problem = _scale_problem(values, low, high)
    if problem:
        return [refusal("not_hounsfield_units", f"{problem} {bounds}.")], []
    lowest = float(np.percentile(values, 0.5))
    if lowest > FAT_BELOW_HU:
        message = f"The image has neither air nor fat, so its values are not Hounsfield units {bounds}."
        return [refusal("not_hounsfield_units", message)], []
    if lowest > AIR_BELOW_HU:
        message = f"The image has no air, so its values cannot be confirmed as Hounsfield units {bounds}."
        return ([], [warning("no_air", message)]) if declared_ct else ([refusal("not_hounsfield_units", message)], [])
    return [], []


def _scale_problem(values: NDArray[np.float32], low: float, high: float) -> str | None:
    """Return why values between ``low`` and ``high`` cannot be HU, without the full stop; ``None`` if they can."""
    if low >= 0:
        return f"The image has no negative value and so is not in HU: it may be {_likely_kind(values, high)}"
    if high - low < 300:
        return "The range of the values is too small for Hounsfield units of a person"
    if np.mean(values > MAX_DENSE_HU) > 0.05:
        return "More than a twentieth of the image is denser than any tissue: the values are not HU"
    tissue = float(np.mean((values > -250) & (values < 250)))
    if tissue < 0.01:
        return (
            f"Only {share_words(tissue, 2)} of the voxels are between -250 and 250 HU, the range of fat and soft "
            "tissue: the values are not HU"
        )
    return None


def _likely_kind(values: NDArray[np.float32], high: float) -> str:
    """Return the likely content of an image without negative values."""
    if bool(np.all(values == np.round(values))) and np.unique(values).size <= 128 and high < 256:
        return "a label map or mask"
    if high <= 1:
        return "an image rescaled to 0..1"
    if high <= 255:
        return "an image rescaled to 0..255"
    return "another modality, or CT numbers without their rescale"


def blank_slices(lows: NDArray[np.float32], highs: NDArray[np.float32]) -> tuple[list[Finding], list[Finding]]:
    """Check for slices of one single value, given the lowest and highest HU of each slice in spatial order."""
    blank = np.flatnonzero(lows == highs)
    if blank.size == 0 or blank.size == lows.size:
        return [], []
    filled = np.flatnonzero(lows != highs)
    inside = int(np.count_nonzero((blank > filled[0]) & (blank < filled[-1])))
    if inside:
        message = f"{inside} slices inside the scan are empty: images are missing or damaged."
        return [refusal("blank_slices", message)], []
    return [], [warning("blank_slices", f"{blank.size} slices at the ends of the scan are empty.")]
