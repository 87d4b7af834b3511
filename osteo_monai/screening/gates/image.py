"""Gates of the image and its acquisition: HU values, slices, tube voltage, kernel, contrast agent, tissues."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import KVP_TOLERANCE, Finding
from osteo_monai.imaging.acquisition import kernel_is_sharp
from osteo_monai.imaging.plausibility import check_values, sample
from osteo_monai.screening.gates.gate import Gate, info, refusal, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits

UNREADABLE = frozenset({"not_hounsfield_units", "bone_cut_off"})
"""Refusals of the values themselves: no network is run on such an image."""


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """The image and its acquisition.

    Attributes:
        hu: (X, Y, Z) in HU.
        valid: (X, Y, Z), False where padded; ``None`` if all voxels are valid.
        slice_spacing_mm: distance between slices.
        slice_thickness_mm: of the header; ``None`` if unknown.
        kvp_in_header: tube voltage of the header in kV; ``None`` if unknown.
        kvp_of_caller: tube voltage given by the caller in kV, if any; used if the header has none.
        by_physics: the calibration is computed for the tube voltage; otherwise it is a line for one tube voltage.
        by_site: the calibration is of the site, which refuses another tube voltage than its own.
        kernel, contrast: of the header.
    """

    hu: NDArray[np.float32]
    slice_spacing_mm: float
    valid: NDArray[np.bool_] | None = None
    slice_thickness_mm: float | None = None
    kvp_in_header: float | None = None
    kvp_of_caller: float | None = None
    by_physics: bool = True
    by_site: bool = False
    kernel: str | None = None
    contrast: str | None = None

    @property
    def kvp(self) -> float | None:
        """The tube voltage in kV that is used: the header's, else the caller's."""
        return self.kvp_of_caller if self.kvp_in_header is None else self.kvp_in_header


BONE_MINIMUM_HU = Limit("bone_minimum_hu", 200.0, "HU", f"{CUSTOM}: cortical bone of every trunk is denser than 200 HU")


def hounsfield_units(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse values that cannot be the HU of a trunk (MR, windowed, normalised or shifted images)."""
    refusals, _ = check_values(facts.hu, facts.valid, declared_ct=True)
    if refusals:
        return refusals[0]
    high = float(np.percentile(sample(facts.hu, facts.valid), 99.9))
    if high < limits[BONE_MINIMUM_HU]:
        message = f"The image shows no bone or was cut by a window: 99.9 % of its values are below {high:.0f} HU."
        return refusal("bone_cut_off", message)
    return None


SLICE_THICKNESS_MAXIMUM = Limit("slice_thickness_maximum", 5.0, "mm", "the project's clinical notes, section 8")


def slice_thickness(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse slices so thick that end plates and discs blur into the trabecular region."""
    thickest = max(facts.slice_spacing_mm, facts.slice_thickness_mm or 0.0)
    if thickest <= limits[SLICE_THICKNESS_MAXIMUM] + 1e-3:
        return None
    message = f"Slice thickness must be at most {limits[SLICE_THICKNESS_MAXIMUM]:g} mm, got {thickest:.1f} mm."
    return refusal("slice_too_thick", message)


OVERLAP_RATIO = Limit("overlap_ratio", 0.95, "1", f"{CUSTOM}: rounding of the spacing in the header")


def slice_overlap(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Report overlapping slices (harmless for a mean, but neighbours share noise)."""
    thickness, spacing = facts.slice_thickness_mm, facts.slice_spacing_mm
    if thickness is None or spacing >= limits[OVERLAP_RATIO] * thickness:
        return None
    return info("overlapping_slices", f"The slices overlap: {thickness:g} mm thick, {spacing:.2f} mm apart.")


def caller_voltage(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Report that the tube voltage was given by the caller, or that it contradicts the header."""
    header, given = facts.kvp_in_header, facts.kvp_of_caller
    if given is None:
        return None
    if header is None:
        return info("kvp_stated", f"The tube voltage of {given:g} kV was given by the user; the file has none.")
    if abs(header - given) <= KVP_TOLERANCE:
        return None
    message = f"The user gave {given:g} kV, the header has {header:g} kV: the header value was used."
    return warning("kvp_contradicted", message)


KVP_REFERENCE = Limit("kvp_reference", 120.0, "kV", "Pan 2024: all studies at 120 kVp")
KVP_MINIMUM = Limit("kvp_minimum", 80.0, "kV", "lowest tube voltage with a computed calibration factor")
KVP_MAXIMUM = Limit("kvp_maximum", 140.0, "kV", "highest tube voltage with a computed calibration factor")


def tube_voltage(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Check the tube voltage: unknown or other than 120 kV warns, outside 80-140 kV refuses."""
    kvp, reference = facts.kvp, limits[KVP_REFERENCE]
    if kvp is None:
        consequence = (
            f"{reference:g} kV was assumed for the calibration, so the density has low confidence."
            if facts.by_physics
            else "the calibration may not hold for it."
        )
        return warning("kvp_unknown", f"The tube voltage is unknown: {consequence}")
    low, high = limits[KVP_MINIMUM], limits[KVP_MAXIMUM]
    if not low <= kvp <= high:
        message = f"Tube voltage must be {low:g}-{high:g} kV to convert HU to density, got {kvp:g} kV."
        return refusal("kvp_out_of_range", message)
    if abs(kvp - reference) > KVP_TOLERANCE and not facts.by_site:
        consequence = (
            "the density was corrected by physics and has low confidence."
            if facts.by_physics
            else "the calibration must be one for this tube voltage."
        )
        return warning("kvp_not_120", f"The tube voltage is {kvp:g} kV, not {reference:g} kV: {consequence}")
    return None


def kernel(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Check the reconstruction kernel: sharp warns, unknown is reported."""
    name = facts.kernel
    sharp = kernel_is_sharp(name)
    if sharp is None:
        reason = f"'{name}' is not in the list of kernels" if name else "is missing from the header"
        return info("kernel_unknown", f"The reconstruction kernel {reason}.")
    if not sharp:
        return None
    message = (
        f"The reconstruction kernel '{name}' is sharp: it enhances noise and edges, which spreads the values in the "
        "region and can disturb the segmentation."
    )
    return warning("sharp_kernel", message)


def contrast_in_header(facts: ImageFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn of a contrast agent in the header; nothing is corrected."""
    if not facts.contrast:
        return None
    message = f"The header records a contrast agent ('{facts.contrast}'): it raises the density and is not corrected."
    return warning("contrast_flagged", message)


IMAGE_GATES: tuple[Gate[ImageFacts], ...] = (
    hounsfield_units,
    slice_thickness,
    slice_overlap,
    caller_voltage,
    tube_voltage,
    kernel,
    contrast_in_header,
)
"""Run before any network."""


@dataclass(frozen=True)
class TissueFacts:
    """Air, fat and blood near the measured vertebrae; ``None`` where a tissue was not found.

    Attributes:
        air_hu, fat_hu: median HU.
        aorta_hu: median HU of the aortic lumen beside a vertebra.
        aorta_certainty: 0 to 1, that it is the aorta.
        corrected: the density is also given with a correction for contrast agent.
    """

    air_hu: float | None = None
    fat_hu: float | None = None
    aorta_hu: float | None = None
    aorta_certainty: float = 0.0
    corrected: bool = False


AIR_LOW = Limit("air_low", -1030.0, "HU", "Michalski 2020: air -1000 (-30/+20) HU")
AIR_HIGH = Limit("air_high", -980.0, "HU", "Michalski 2020: air -1000 (-30/+20) HU")


def air_value(facts: TissueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn if the air around the patient is not near -1000 HU: the HU scale may be off."""
    low, high = limits[AIR_LOW], limits[AIR_HIGH]
    if facts.air_hu is None or low <= facts.air_hu <= high:
        return None
    message = f"Air measures {facts.air_hu:.0f} HU, expected {low:g} to {high:g}: the HU scale may be off."
    return warning("air_off_range", message)


FAT_LOW = Limit("fat_low", -130.0, "HU", "Michalski 2020: fat -100 +- 30 HU")
FAT_HIGH = Limit("fat_high", -70.0, "HU", "Michalski 2020: fat -100 +- 30 HU")


def fat_value(facts: TissueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn if body fat is not near -100 HU: the HU scale may be off."""
    low, high = limits[FAT_LOW], limits[FAT_HIGH]
    if facts.fat_hu is None or low <= facts.fat_hu <= high:
        return None
    message = f"Fat measures {facts.fat_hu:.0f} HU, expected {low:g} to {high:g}: the HU scale may be off."
    return warning("fat_off_range", message)


AORTA_CERTAINTY_MINIMUM = Limit(
    "aorta_certainty_minimum", 0.2, "1", "measurement.tissues: enough for a warning, not for calibration"
)
AORTA_ENHANCED_HU = Limit(
    "aorta_enhanced_hu", 100.0, "HU", "rule of thumb, native blood is 40-60 HU; unverified, so it only warns"
)
AORTA_REFUSED_HU = Limit(
    "aorta_refused_hu",
    350.0,
    "HU",
    f"{CUSTOM}: published shifts end at +20 HU, arterial (TotalSegmentator spine report), 6 % of an enhancement of "
    "300 HU; no shift was measured beyond it",
)


def aorta_enhancement(facts: TissueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn of blood denser than native blood, refuse it beyond published shifts."""
    hu, enhanced, strong = facts.aorta_hu, limits[AORTA_ENHANCED_HU], limits[AORTA_REFUSED_HU]
    if hu is None or facts.aorta_certainty < limits[AORTA_CERTAINTY_MINIMUM] or not hu > enhanced:
        return None
    if hu > strong:
        message = (
            f"The aorta measures {hu:.0f} HU: for contrast agent above {strong:g} HU the increase of bone density "
            "is unknown."
        )
        return refusal("contrast_strong", message)
    consequence = "is corrected in a second density only" if facts.corrected else "is not corrected"
    message = (
        f"The aorta measures {hu:.0f} HU (above {enhanced:g}): contrast agent is likely, which raises the density and "
        f"{consequence}."
    )
    return warning("contrast_enhanced", message)


TISSUE_GATES: tuple[Gate[TissueFacts], ...] = (air_value, fat_value, aorta_enhancement)
"""Run on the tissues around the segmented bodies."""
