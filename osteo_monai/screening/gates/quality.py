"""Quality gates: each is a small pure function that looks at one fact and returns a ``Finding`` or ``None``.

A gate never changes a number and never replaces a missing fact by a default. Severities follow one rule: where the
density could be wrong without a reader noticing the study is refused; where it stays usable with care it is warned.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, Severity, Sex, VertebraLevel
from osteo_monai.imaging.acquisition import kernel_is_sharp
from osteo_monai.imaging.plausibility import check_values, sample
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.screening.ct.levels import Vertebra
from osteo_monai.screening.ct.naming import PITCH_MM, MissedBody, Naming
from osteo_monai.screening.result import Opinion, OpinionName

_CUSTOM = "project custom, no source read"


def _limit(value: float, source: str) -> float:
    """Return a dataclass field holding ``value`` that carries where the value comes from."""
    return field(default=value, metadata={"source": source})  # type: ignore[no-any-return]


@dataclass(frozen=True)
class QualityLimits:
    """Every threshold of the gates; ``QualityLimits.sources()`` says where each comes from.

    The unit stands in the name; a name without a unit is a fraction or a count.
    """

    level_offset_refusal: float = _limit(0.25, f"{_CUSTOM}: a quarter of a vertebra; the column network errs by 1 mm")
    certainty_minimum: float = _limit(
        0.85, f"{_CUSTOM}: posterior of the level's name; benchmarks/naming_vid_spines.py"
    )
    certainty_told: float = _limit(0.95, f"{_CUSTOM}: one wrong name in twenty")
    missed_probability: float = _limit(0.5, f"{_CUSTOM}: a body is more likely missed than not")
    pitch_error_maximum_mm: float = _limit(9.0, "4.5 SD of 2 mm about a person's own pitch (VID, 1,245 people)")
    disc_error_maximum_mm: float = _limit(7.0, f"{_CUSTOM}: the smallest lumbar disc; the two networks see other discs")
    border_voxels: float = _limit(1, f"{_CUSTOM}: a mask in the outermost slice, row or column may go on outside")
    volume_minimum_cm3: float = _limit(8.0, "half of 30 x 20 x 40 mm (spinebase) for the smallest bodies, rounded down")
    volume_maximum_cm3: float = _limit(80.0, "twice the 36 ml of the TotalSegmentator reference case, rounded up")
    height_minimum_mm: float = _limit(12.0, "half of the lower body height of 20-30 mm (spinebase), rounded up")
    height_maximum_mm: float = _limit(45.0, "one and a half of the upper body height of 20-30 mm (spinebase)")
    aspect_minimum: float = _limit(0.9, f"{_CUSTOM}: width over depth is 40/35 = 1.1 at least (spinebase), with room")
    aspect_maximum: float = _limit(2.3, f"{_CUSTOM}: width over depth is 50/30 = 1.7 at most (spinebase), with room")
    section_ratio_minimum: float = _limit(
        0.6, f"{_CUSTOM}: sections of neighbours differ by 5-10 %; a crush widens them"
    )
    section_ratio_maximum: float = _limit(1.5, f"{_CUSTOM}: neighbours differ by 5-10 %; half a body more is a leak")
    height_loss_warning: float = _limit(0.20, "height loss of Genant's grade 1 and of the project's clinical notes")
    height_loss_exclusion: float = _limit(0.25, "height loss from which Genant's semiquantitative grade 2 begins")
    metal_hu: float = _limit(2500.0, f"{_CUSTOM}: above cortical bone, 1200 +- 250 HU (Michalski 2020)")
    metal_volume_mm3: float = _limit(20.0, f"{_CUSTOM}: a few voxels, so that one noisy voxel is not an implant")
    dense_maximum_cm3: float = _limit(0.5, f"{_CUSTOM}: a ball of 10 mm; vertebroplasty leaves several cm3")
    aorta_certainty_minimum: float = _limit(0.2, "measurement.tissues: enough for a warning, not for calibration")
    aorta_enhanced_hu: float = _limit(100.0, "rule of thumb, native blood is 40-60 HU; unverified, so it only warns")
    aorta_refused_hu: float = _limit(
        350.0,
        f"{_CUSTOM}: published shifts end at +20 HU, arterial (TotalSegmentator spine report), 6 % of an enhancement "
        "of 300 HU; beyond it nobody has measured one",
    )
    kvp_reference: float = _limit(120.0, "Pan 2024: all studies at 120 kVp")
    kvp_minimum: float = _limit(80.0, "lowest tube voltage with a computed calibration factor")
    kvp_maximum: float = _limit(140.0, "highest tube voltage with a computed calibration factor")
    slice_thickness_maximum_mm: float = _limit(5.0, "the project's clinical notes, section 8")
    overlap_ratio: float = _limit(0.95, f"{_CUSTOM}: rounding of the spacing in the header")
    age_minimum_years: float = _limit(18.0, "youngest age of the norms (Pan 2024, Table 1)")
    age_maximum_years: float = _limit(90.0, "oldest age of the norms (Pan 2024, Table 1: 80-89)")
    spread_maximum_mg_cm3: float = _limit(40.0, f"{_CUSTOM}: L1 110.5 and L2 113.3 mg/cm3 in 13 patients (ERAP)")
    spread_sclerosis_mg_cm3: float = _limit(
        60.0, f"{_CUSTOM}: two SD of adults (28 mg/cm3, Pan 2024); DXA leaves out a vertebra one SD above the next"
    )
    region_voxels_minimum: float = _limit(50, f"{_CUSTOM}: standard error of noise of 40 HU below 6 HU")
    region_volume_minimum_cm3: float = _limit(0.5, f"{_CUSTOM}: a ball of 10 mm; ERAP regions hold 7.8 +- 2.6 cm3")
    air_low_hu: float = _limit(-1030.0, "Michalski 2020: air -1000 (-30/+20) HU")
    air_high_hu: float = _limit(-980.0, "Michalski 2020: air -1000 (-30/+20) HU")
    fat_low_hu: float = _limit(-130.0, "Michalski 2020: fat -100 +- 30 HU")
    fat_high_hu: float = _limit(-70.0, "Michalski 2020: fat -100 +- 30 HU")
    opinions_apart_mg_cm3: float = _limit(20.0, f"{_CUSTOM}: half the width of osteopenia, 80 to 120 mg/cm3 (Pan 2024)")
    opinions_apart: float = _limit(0.2, f"{_CUSTOM}: twice the SD of 8-9 % of a line from HU (measurement.calibration)")
    near_threshold_mg_cm3: float = _limit(10.0, f"{_CUSTOM}: 8 % of 120 mg/cm3, one SD of a line from HU")
    runner_up_probability: float = _limit(0.25, f"{_CUSTOM}: a class that is given one chance in four is not ruled out")
    bone_minimum_hu: float = _limit(200.0, f"{_CUSTOM}: every trunk holds cortical bone above 200 HU")

    @classmethod
    def sources(cls) -> dict[str, str]:
        """Return where each limit comes from, by its name."""
        return {f.name: f.metadata["source"] for f in fields(cls)}


LIMITS = QualityLimits()


def _finding(code: str, severity: Severity, message: str) -> Finding:
    return Finding(code=code, severity=severity, message=message)


# --- the image and its header -------------------------------------------------------------------------------------


def values_are_hu(
    hu: NDArray[np.float32], valid: NDArray[np.bool_] | None = None, limits: QualityLimits = LIMITS
) -> Finding | None:
    """Refuse values that cannot be the Hounsfield units of a trunk (MR, windowed, normalised or shifted images).

    Args:
        hu: (X, Y, Z) the volume.
        valid: (X, Y, Z), False where padded; ``None`` means all valid.
    """
    refusals, _ = check_values(hu, valid, declared_ct=True)
    if refusals:
        return refusals[0]
    high = float(np.percentile(sample(hu, valid), 99.9))
    if high < limits.bone_minimum_hu:
        message = f"The image holds no bone or was cut by a window: 99.9 % of its values lie below {high:.0f} HU."
        return _finding("bone_cut_off", Severity.REFUSAL, message)
    return None


def tube_voltage(kvp: float | None, by_physics: bool = True, limits: QualityLimits = LIMITS) -> Finding | None:
    """Judge the tube voltage in kV: unknown or other than 120 warns, outside 80-140 refuses.

    Args:
        kvp: tube voltage, ``None`` where nobody knows it.
        by_physics: the calibration is computed for the tube voltage; otherwise it is a line that should hold for it.
    """
    if kvp is None:
        then = (
            f"{limits.kvp_reference:g} kV was assumed for the calibration, so the density has low confidence."
            if by_physics
            else "nothing shows that the calibration holds for it."
        )
        return _finding("kvp_unknown", Severity.WARNING, f"The tube voltage is unknown: {then}")
    if not limits.kvp_minimum <= kvp <= limits.kvp_maximum:
        message = (
            f"The tube voltage of {kvp:g} kV is outside {limits.kvp_minimum:g}-{limits.kvp_maximum:g} kV, "
            "where Hounsfield units can be turned into density."
        )
        return _finding("kvp_out_of_range", Severity.REFUSAL, message)
    if abs(kvp - limits.kvp_reference) > 0.5:
        then = (
            "the density was corrected by physics and has low confidence."
            if by_physics
            else "the calibration must be one for this tube voltage."
        )
        message = f"The tube voltage is {kvp:g} kV, not {limits.kvp_reference:g} kV: {then}"
        return _finding("kvp_not_120", Severity.WARNING, message)
    return None


def tube_voltage_stated(header: float | None, stated: float | None) -> Finding | None:
    """Tell where the tube voltage comes from when the user stated one."""
    if stated is None:
        return None
    if header is None:
        message = f"The tube voltage of {stated:g} kV was stated by the user; the file does not hold it."
        return _finding("kvp_stated", Severity.INFO, message)
    if abs(header - stated) <= 0.5:
        return None
    message = f"The user stated {stated:g} kV, the header says {header:g} kV: the header was believed."
    return _finding("kvp_contradicted", Severity.WARNING, message)


def slice_thickness(thickness_mm: float | None, spacing_mm: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse slices so thick that end plates and discs blur into the trabecular region."""
    thickest = max(spacing_mm, thickness_mm or 0.0)
    if thickest <= limits.slice_thickness_maximum_mm + 1e-3:
        return None
    message = f"Slices are {thickest:.1f} mm thick; at most {limits.slice_thickness_maximum_mm:g} mm can be measured."
    return _finding("slice_too_thick", Severity.REFUSAL, message)


def slice_overlap(thickness_mm: float | None, spacing_mm: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Tell that slices overlap (harmless for a mean, but the noise of neighbours is shared)."""
    if thickness_mm is None or spacing_mm >= limits.overlap_ratio * thickness_mm:
        return None
    message = f"The slices overlap: {thickness_mm:g} mm thick, {spacing_mm:.2f} mm apart."
    return _finding("overlapping_slices", Severity.INFO, message)


def kernel(name: str | None) -> Finding | None:
    """Judge the reconstruction kernel: sharp warns, unknown is told."""
    sharp = kernel_is_sharp(name)
    if sharp is None:
        said = f"'{name}' is not one of the known ones" if name else "is not named in the header"
        return _finding("kernel_unknown", Severity.INFO, f"The reconstruction kernel {said}.")
    if sharp:
        message = (
            f"The reconstruction kernel '{name}' is sharp: noise and edges are enhanced, which spreads the values "
            "in the region and can disturb the outlining."
        )
        return _finding("sharp_kernel", Severity.WARNING, message)
    return None


def contrast_in_header(contrast: str | None) -> Finding | None:
    """Flag a contrast agent named in the header; nothing is corrected."""
    if not contrast:
        return None
    message = f"The header speaks of contrast agent ('{contrast}'): it raises the density and is not corrected."
    return _finding("contrast_flagged", Severity.WARNING, message)


def aorta_enhancement(aorta_hu: float | None, certainty: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Flag blood that is denser than native blood, and refuse it beyond what has been measured; nothing is corrected.

    Args:
        aorta_hu: median HU of the aortic lumen beside a vertebra; ``None`` where none was found.
        certainty: 0 to 1, how surely it is the aorta.
    """
    if aorta_hu is None or certainty < limits.aorta_certainty_minimum or not aorta_hu > limits.aorta_enhanced_hu:
        return None
    if aorta_hu > limits.aorta_refused_hu:
        message = (
            f"The aorta measures {aorta_hu:.0f} HU: with contrast agent this strong (above "
            f"{limits.aorta_refused_hu:g} HU) nobody knows by how much the bone reads too dense."
        )
        return _finding("contrast_strong", Severity.REFUSAL, message)
    message = (
        f"The aorta measures {aorta_hu:.0f} HU (above {limits.aorta_enhanced_hu:g}): contrast agent is likely, "
        "which raises the density and is not corrected."
    )
    return _finding("contrast_enhanced", Severity.WARNING, message)


def air_value(air_hu: float | None, limits: QualityLimits = LIMITS) -> Finding | None:
    """Warn when the air around the person is not near -1000 HU: the scale of the scan is off."""
    if air_hu is None or limits.air_low_hu <= air_hu <= limits.air_high_hu:
        return None
    message = (
        f"Air measures {air_hu:.0f} HU, expected {limits.air_low_hu:g} to {limits.air_high_hu:g}: "
        "the scanner's scale may be off."
    )
    return _finding("air_off_range", Severity.WARNING, message)


def fat_value(fat_hu: float | None, limits: QualityLimits = LIMITS) -> Finding | None:
    """Warn when body fat is not near -100 HU: the scale of the scan is off."""
    if fat_hu is None or limits.fat_low_hu <= fat_hu <= limits.fat_high_hu:
        return None
    message = (
        f"Fat measures {fat_hu:.0f} HU, expected {limits.fat_low_hu:g} to {limits.fat_high_hu:g}: "
        "the scanner's scale may be off."
    )
    return _finding("fat_off_range", Severity.WARNING, message)


# --- the person ---------------------------------------------------------------------------------------------------


def age(age_years: float | None, limits: QualityLimits = LIMITS) -> Finding | None:
    """Judge the age: a minor is refused, above the norms warns, unknown is told and never replaced."""
    if age_years is None:
        message = "The age is unknown: no comparison with norms, and a minor cannot be excluded."
        return _finding("age_unknown", Severity.INFO, message)
    if age_years < limits.age_minimum_years:
        message = f"The person is {age_years:g} years old: the classes hold for adults of 18 years and above only."
        return _finding("age_below_18", Severity.REFUSAL, message)
    if age_years > limits.age_maximum_years:
        message = f"The person is {age_years:g} years old: norms end at {limits.age_maximum_years:g} years."
        return _finding("age_outside_norms", Severity.WARNING, message)
    return None


def sex(value: Sex | None) -> Finding | None:
    """Tell that the sex is unknown; it is never replaced by a default."""
    if value is not None:
        return None
    return _finding("sex_unknown", Severity.INFO, "The sex is unknown: no comparison with norms.")


# --- the levels ---------------------------------------------------------------------------------------------------


def levels_present(
    found: Mapping[VertebraLevel, float],
    wanted: Sequence[VertebraLevel],
    unnamed: int = 0,
    limits: QualityLimits = LIMITS,
) -> Finding | None:
    """Refuse when a wanted level is not among those found in the field of view.

    Args:
        found: certainty of each level that was found, told where it is too low to use the name.
        unnamed: number of bodies that were found and have no name.
    """
    missing = [level for level in wanted if level not in found]
    if not missing:
        return None
    names = [str(v) if p >= limits.certainty_minimum else f"{v} ({p:.0%} certain)" for v, p in found.items()]
    bodies = "1 body was" if unnamed == 1 else f"{unnamed} bodies were"
    none = f"{bodies} found, and none can be named" if unnamed else "no vertebra was found"
    seen = f"found: {', '.join(names)}" if names else none
    message = f"The scan does not show {' and '.join(missing)} ({seen})."
    return _finding("levels_not_covered", Severity.REFUSAL, message)


def level_certainty(
    level: VertebraLevel,
    certainty: float,
    runner_up: VertebraLevel | None,
    limits: QualityLimits = LIMITS,
    transitional: bool = False,
) -> Finding | None:
    """Refuse a level whose name is not certain enough (posterior probability), tell one that is not quite certain.

    Args:
        transitional: the spine seems to have another number of ribs or lumbar bodies: its names must be more certain.
    """
    if certainty >= limits.certainty_told:
        return None
    other = f"; it may be {runner_up}" if runner_up is not None else ""
    if certainty >= limits.certainty_minimum and not transitional:
        return _finding(
            "level_certainty", Severity.INFO, f"{level} is named with a certainty of {certainty:.0%}{other}."
        )
    message = f"The vertebra named {level} has a certainty of only {certainty:.0%}{other}."
    return _finding("level_uncertain", Severity.REFUSAL, message)


def level_witness(sentence: str | None) -> Finding | None:
    """Tell what the names of the levels rest on."""
    return None if sentence is None else _finding("last_rib", Severity.INFO, sentence)


def body_missed(missed: MissedBody, wanted: Sequence[VertebraLevel], limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse where the distances ask for a body beside the wanted ones that was not found."""
    order = list(VertebraLevel)
    if missed.probability < limits.missed_probability or missed.level is None:
        return None
    near = [v for v in wanted if abs(order.index(v) - order.index(missed.level)) <= 1]
    if not near:
        return None
    message = f"A body was probably missed at z = {missed.position_mm[2]:.0f} mm, beside {' and '.join(near)}."
    return _finding("body_missed", Severity.REFUSAL, message)


def pitch(upper: Vertebra, lower: Vertebra, scale: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse two neighbours that lie nearer or farther apart than this person's other vertebrae allow.

    Args:
        scale: the person's distances relative to the mean person's.
    """
    usual = PITCH_MM.get((upper.level.value, lower.level.value))
    distance = math.dist(upper.centre_mm, lower.centre_mm)
    if usual is None:
        message = f"{upper.level} and {lower.level} are not neighbours, but nothing was found between them."
        return _finding("levels_not_consecutive", Severity.REFUSAL, message)
    expected = scale * usual[0]
    if abs(distance - expected) <= limits.pitch_error_maximum_mm:
        return None
    message = (
        f"The centres of {upper.level} and {lower.level} lie {distance:.0f} mm apart, where {expected:.0f} mm are "
        "expected of this person: a body was missed or misplaced."
    )
    return _finding("pitch_off_range", Severity.REFUSAL, message)


def spine_variant(naming: Naming, names: Sequence[VertebraLevel], limits: QualityLimits = LIMITS) -> Finding | None:
    """Warn of a spine with another number of ribs or lumbar bodies than twelve and five."""
    ribs, lumbar = (max(counts, key=lambda n: counts[n]) for counts in (naming.ribbed_count, naming.lumbar_count))
    sure = min(naming.ribbed_count[ribs], naming.lumbar_count[lumbar]) >= limits.missed_probability
    if (ribs, lumbar) == (12, 5) or not sure or VertebraLevel.T13 in names or VertebraLevel.L6 in names:
        return None
    message = (
        f"The spine seems to have {ribs} pairs of ribs and {lumbar} lumbar bodies: check the naming of the levels."
    )
    return _finding("transitional_spine", Severity.WARNING, message)


def level_offset(
    level: VertebraLevel, offset_mm: float, step_mm: float, limits: QualityLimits = LIMITS
) -> Finding | None:
    """Refuse an outline that does not lie where the body was found.

    Args:
        offset_mm: distance along the column from the found centre to the outline's.
        step_mm: distance from the disc below to the disc above.
    """
    share = abs(offset_mm) / step_mm
    if share < limits.level_offset_refusal:
        return None
    message = (
        f"The body outlined as {level} lies {abs(offset_mm):.0f} mm from where it was found, {share:.0%} of its height."
    )
    return _finding("level_offset", Severity.REFUSAL, message)


def disc_disagreement(
    level: VertebraLevel, offsets_mm: Sequence[float | None], limits: QualityLimits = LIMITS
) -> Finding | None:
    """Refuse a body one of whose discs the outlines have clearly elsewhere.

    Args:
        offsets_mm: how far above its place the outlines show each disc; ``None`` where they show none.
    """
    worst = max((abs(o) for o in offsets_mm if o is not None), default=0.0)
    if worst <= limits.disc_error_maximum_mm:
        return None
    message = f"The outlines show a disc of {level} {worst:.0f} mm from where it was found: its borders are unsure."
    return _finding("disc_disagreement", Severity.REFUSAL, message)


def level_left_out(level: VertebraLevel, reason: str) -> Finding:
    """Warn that a level is not measured, so that the density rests on the others."""
    return _finding("level_left_out", Severity.WARNING, f"{level} was left out: {reason.rstrip('.')}.")


def sclerosis(level: VertebraLevel, above_mg_cm3: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Leave out a level that is so much denser than its neighbour that something else than bone loss differs.

    Args:
        above_mg_cm3: density of the level less that of the other one.
    """
    if above_mg_cm3 <= limits.spread_sclerosis_mg_cm3:
        return None
    reason = f"it is {above_mg_cm3:.0f} mg/cm3 denser than the level beside it; sclerosis or a fracture is likely"
    return level_left_out(level, reason)


def section_beside_neighbours(
    level: VertebraLevel, section_mm2: float, neighbours_mm2: Sequence[float], limits: QualityLimits = LIMITS
) -> Finding | None:
    """Refuse an outline whose section is much larger or smaller than those of the same person beside it."""
    if not neighbours_mm2:
        return None
    usual = float(np.median(neighbours_mm2))
    if limits.section_ratio_minimum <= section_mm2 / usual <= limits.section_ratio_maximum:
        return None
    message = (
        f"The outlined body of {level} has a section of {section_mm2 / 100:.1f} cm2, those beside it "
        f"{usual / 100:.1f} cm2."
    )
    return _finding("outline_unlike_neighbours", Severity.REFUSAL, message)


def supernumerary_level(found: Sequence[VertebraLevel]) -> Finding | None:
    """Warn of a transitional spine (T13 or L6): counting from above and from below disagree."""
    odd = [level for level in found if level in (VertebraLevel.T13, VertebraLevel.L6)]
    if not odd:
        return None
    message = f"A supernumerary vertebra ({', '.join(odd)}) was found: check the naming of the levels."
    return _finding("transitional_spine", Severity.WARNING, message)


def level_complete(level: VertebraLevel, complete: bool) -> Finding | None:
    """Refuse a body that the localiser saw cut by the end of the scan."""
    if complete:
        return None
    return _finding("level_cut", Severity.REFUSAL, f"{level} is cut by the end of the scan.")


def body_inside_volume(
    level: VertebraLevel,
    body: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None = None,
    limits: QualityLimits = LIMITS,
) -> Finding | None:
    """Refuse a body whose mask touches the border of the volume, or voxels that the scanner padded.

    Args:
        body: (X, Y, Z) mask of one body on the whole volume.
        valid: (X, Y, Z), False where padded; ``None`` means all valid.
    """
    margin = int(limits.border_voxels)
    inner = (slice(margin, -margin),) * 3
    outside = int(body.sum()) - int(body[inner].sum())
    if valid is not None:
        outside += int((body & ~valid).sum())
    if outside == 0:
        return None
    return _finding("level_cut", Severity.REFUSAL, f"{level} is cut by the border of the field of view.")


# --- the bodies ---------------------------------------------------------------------------------------------------


def body_found(level: VertebraLevel, voxels: int) -> Finding | None:
    """Refuse a level in which the segmentation outlined nothing."""
    if voxels > 0:
        return None
    return _finding("body_not_found", Severity.REFUSAL, f"The body of {level} could not be outlined.")


def body_volume(level: VertebraLevel, volume_cm3: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse a body mask whose volume no lumbar body has."""
    low, high = limits.volume_minimum_cm3, limits.volume_maximum_cm3
    if low <= volume_cm3 <= high:
        return None
    message = f"The outlined body of {level} holds {volume_cm3:.1f} cm3, expected {low:g} to {high:g} cm3."
    return _finding("body_volume_off_range", Severity.REFUSAL, message)


def body_shape(
    level: VertebraLevel, width_mm: float, depth_mm: float, height_mm: float, limits: QualityLimits = LIMITS
) -> Finding | None:
    """Refuse a body mask whose height, or width over depth, no lumbar body has."""
    if not limits.height_minimum_mm <= height_mm <= limits.height_maximum_mm:
        message = (
            f"The outlined body of {level} is {height_mm:.0f} mm high, expected "
            f"{limits.height_minimum_mm:g} to {limits.height_maximum_mm:g}."
        )
        return _finding("body_shape_off_range", Severity.REFUSAL, message)
    aspect = width_mm / depth_mm if depth_mm > 0 else math.inf
    if not limits.aspect_minimum <= aspect <= limits.aspect_maximum:
        message = f"The outlined body of {level} is {width_mm:.0f} mm wide and {depth_mm:.0f} mm deep, unlike a body."
        return _finding("body_shape_off_range", Severity.REFUSAL, message)
    return None


def metal(level: VertebraLevel, metal_volume_mm3: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse metal in or beside a measured vertebra.

    Args:
        metal_volume_mm3: volume above ``limits.metal_hu`` in or near the vertebra.
    """
    if metal_volume_mm3 <= limits.metal_volume_mm3:
        return None
    return _finding("metal", Severity.REFUSAL, f"Metal lies in or beside {level}: its density cannot be measured.")


def cement(level: VertebraLevel, dense_cm3: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse cement or strong sclerosis inside a measured body.

    Args:
        dense_cm3: volume away from the cortex that is too dense for trabecular bone.
    """
    if dense_cm3 <= limits.dense_maximum_cm3:
        return None
    message = f"{dense_cm3:.1f} cm3 inside {level} are too dense for trabecular bone: cement or sclerosis."
    return _finding("cement_or_sclerosis", Severity.REFUSAL, message)


def height_loss(
    level: VertebraLevel,
    loss: float | None,
    height_mm: float,
    spacing_mm: float,
    limits: QualityLimits = LIMITS,
) -> Finding | None:
    """Judge the height loss of a body, less what the slices alone can make (90 % one-sided).

    From 20 % on (Genant grade 1) it warns with code ``possible_fracture``. From 25 % on (grade 2) the code is
    ``fracture``: the pipeline then leaves the level out, because impaction packs the bone and raises its density.

    Args:
        loss: fraction of the tallest part, or of the neighbours' height.
        height_mm: of the body.
        spacing_mm: distance between slices.
    """
    if loss is None:
        return None
    certain = loss - height_loss_margin(height_mm, spacing_mm)
    if not certain > limits.height_loss_warning:
        return None
    if certain > limits.height_loss_exclusion:
        message = f"{level} has lost {loss:.0%} of its height: a fracture is likely, and the level was left out."
        return _finding("fracture", Severity.WARNING, message)
    message = f"{level} has lost {loss:.0%} of its height: a fracture is possible; look at the sagittal view."
    return _finding("possible_fracture", Severity.WARNING, message)


def height_loss_margin(height_mm: float, spacing_mm: float) -> float:
    """Return by how much a height loss may be wrong (90 % one-sided), as a fraction of the height.

    An outline ends at a slice, so an end plate is known to a uniform error of one slice distance, SD spacing /
    sqrt(12); 0.7 mm more stand for tilt and noise (project custom). A height has two ends, a loss compares two heights.
    """
    end_plate = math.hypot(spacing_mm / math.sqrt(12.0), 0.7)
    return 1.28 * 2.0 * end_plate / max(height_mm, 1.0)


def region_size(level: VertebraLevel, voxels: int, volume_cm3: float, limits: QualityLimits = LIMITS) -> Finding | None:
    """Refuse a trabecular region too small for a mean."""
    if voxels >= limits.region_voxels_minimum and volume_cm3 >= limits.region_volume_minimum_cm3:
        return None
    message = f"Only {voxels} voxels ({volume_cm3:.2f} cm3) of trabecular bone are left in {level}: too few to measure."
    return _finding("too_few_trabecular_voxels", Severity.REFUSAL, message)


def body_not_measurable(level: VertebraLevel, reason: str) -> Finding:
    """Refuse an outline that has no measurable shape (hollow, split, far too small)."""
    return _finding("body_not_measurable", Severity.REFUSAL, f"The outline of {level} is no vertebral body: {reason}.")


def region_not_possible(level: VertebraLevel, reason: str) -> Finding:
    """Refuse a body in which no trabecular region can be placed."""
    return _finding("too_few_trabecular_voxels", Severity.REFUSAL, f"{level}: {reason}")


# --- the study ----------------------------------------------------------------------------------------------------


def level_spread(densities: Sequence[float], limits: QualityLimits = LIMITS) -> Finding | None:
    """Warn when the measured levels differ by more than neighbours do (mg/cm3)."""
    if len(densities) < 2:
        return None
    spread = max(densities) - min(densities)
    if spread <= limits.spread_maximum_mg_cm3:
        return None
    message = f"The measured levels differ by {spread:.0f} mg/cm3: fracture, sclerosis or a wrong outline is possible."
    return _finding("level_spread", Severity.WARNING, message)


def levels_measured(measured: Sequence[VertebraLevel], wanted: Sequence[VertebraLevel]) -> Finding | None:
    """Refuse when no level is left; warn when the density rests on one level instead of two."""
    if not measured:
        message = f"No level is left to measure of {' and '.join(wanted)}."
        return _finding("no_level_left", Severity.REFUSAL, message)
    if len(measured) == 1:
        message = f"{measured[0]} alone: the density rests on one level; the classes were set for the mean of two."
        return _finding("single_level", Severity.WARNING, message)
    return None


def calibration_not_possible(reason: str) -> Finding:
    """Refuse when the chosen calibration does not hold for this scan."""
    return _finding("calibration_not_possible", Severity.REFUSAL, f"The density cannot be calibrated: {reason}.")


def calibration_verified(calibration: CalibrationUsed) -> Finding | None:
    """Warn of a scanner line whose source nobody has checked."""
    if calibration.method != "registry" or "unverified" not in calibration.note:
        return None
    message = "The calibration line of this scanner was not verified in its primary source."
    return _finding("calibration_unverified", Severity.WARNING, message)


def standard_of_thresholds(calibration: CalibrationUsed, thresholds: DensityThresholds) -> Finding | None:
    """Warn that no class is given because density and thresholds are in different mineral standards."""
    if calibration.standard == thresholds.standard:
        return None
    message = (
        f"The density is in mg/cm3 {calibration.standard}, the thresholds are in mg/cm3 {thresholds.standard}: "
        "no class is given."
    )
    return _finding("standard_differs", Severity.WARNING, message)


# --- the opinions -------------------------------------------------------------------------------------------------

OPINION_WORDS: dict[OpinionName, str] = {
    "hu_line": "HU line",
    "hu_rule": "HU rule of L1",
    "density_regression": "density regression",
    "classifier": "classifier",
}

_POSSIBLE_REASONS = {
    "contrast_enhanced": "contrast agent, which raises the HU",
    "contrast_flagged": "contrast agent, which raises the HU",
    "kvp_unknown": "the unknown tube voltage",
    "kvp_contradicted": "the contradicted tube voltage",
    "kvp_not_120": "the tube voltage other than 120 kV",
    "calibration_unverified": "the unverified calibration line",
    "air_off_range": "a scale that may be off (air)",
    "fat_off_range": "a scale that may be off (fat)",
    "sharp_kernel": "the sharp kernel",
    "level_spread": "levels that differ from each other",
    "possible_fracture": "a possible fracture",
}
"""Findings that can make opinions differ, the likeliest first."""


def opinions_differ(
    opinions: Sequence[Opinion],
    findings: Sequence[Finding],
    thresholds: DensityThresholds,
    limits: QualityLimits = LIMITS,
) -> Finding | None:
    """Compare the HU line, the density regression and the classifier, and say what a reader should do.

    - Two of them say normal and osteoporosis: warned, the class is not to be used.
    - Neighbouring classes: told only, where one of the two stands near the threshold between them or does not rule out
      the other's class; else warned.
    - The same class, but densities whose 90 % intervals do not meet or that are farther apart than the limits: warned.
    - Otherwise they agree, which is told.

    The rule of L1 shares the HU with the line and was published against DXA: it is shown, and has no vote.

    Args:
        opinions: of one study; fewer than two that can be compared give ``None``.
        findings: what is known of this scan, for reasons that are likely.
        thresholds: of the classes.
        limits: of ``opinions_apart*``, ``near_threshold_mg_cm3`` and ``runner_up_probability``.
    """
    voters = [o for o in opinions if o.name != "hu_rule"]
    classed = [o for o in voters if o.status is not None]
    measured = [o for o in voters if o.density is not None]
    apart = _densities_apart(measured, limits)
    pairs = [(a, b) for a, b in itertools.combinations(classed, 2) if a.status is not b.status]
    if not pairs and apart is None:
        if len(classed) < 2:
            return None
        message = f"The opinions agree: {_listed(OPINION_WORDS[o.name] for o in classed)} say {classed[0].status}."
        return _finding("opinions_agree", Severity.INFO, message)
    said = f"The opinions differ: {'; '.join(_opinion_words(o) for o in voters)}."
    if apart is not None:
        said += f" {apart}"
    opposite = any({a.status, b.status} == {BoneStatus.NORMAL, BoneStatus.OSTEOPOROSIS} for a, b in pairs)
    near = [_border_words(a, b, thresholds, limits) for a, b in pairs]
    if apart is None and not opposite and all(near):
        classes = _listed((s for s in BoneStatus if s in {o.status for o in classed}), "or")
        message = f"{said} This is a borderline bone ({_listed(dict.fromkeys(n for n in near if n))}): {classes}."
        return _finding("opinions_borderline", Severity.INFO, message)
    if opposite:
        advice = "Do not use the class or the density: measure by QCT or DXA."
    elif pairs:
        advice = "The class is not certain: measure by QCT or DXA before anything follows from it."
    else:
        advice = "The class is the same; do not use the density itself, for a percentile or for follow-up."
    known = {f.code for f in findings}
    reasons = list(dict.fromkeys(words for code, words in _POSSIBLE_REASONS.items() if code in known))
    if apart is None:  # what lies beside a threshold explains a class, not a distance
        reasons += list(dict.fromkeys(n for n in near if n))
    why = (
        f"Possible reasons in this scan: {_listed(reasons)}."
        if reasons
        else "Nothing known of this scan explains it: the line from HU or a network is wrong here."
    )
    return _finding("opinions_differ", Severity.WARNING, f"{said} {why} {advice}")


def _densities_apart(measured: Sequence[Opinion], limits: QualityLimits) -> str | None:
    """Say by how much two densities of one standard are too far apart, or nothing."""
    for a, b in itertools.combinations([o.density for o in measured if o.density is not None], 2):
        if a.standard is not b.standard:
            continue
        difference = abs(a.mg_cm3 - b.mg_cm3)
        limit = max(limits.opinions_apart_mg_cm3, limits.opinions_apart * (a.mg_cm3 + b.mg_cm3) / 2)
        if a.interval_high < b.interval_low or b.interval_high < a.interval_low:
            return f"The densities are {difference:.0f} mg/cm3 apart and their 90 % intervals do not meet."
        if difference > limit:
            return f"The densities are {difference:.0f} mg/cm3 apart, more than the {limit:.0f} that are expected."
    return None


def _border_words(a: Opinion, b: Opinion, thresholds: DensityThresholds, limits: QualityLimits) -> str | None:
    """Say why two neighbouring classes may be one borderline bone, or nothing."""
    statuses = {a.status, b.status}
    if statuses == {BoneStatus.NORMAL, BoneStatus.OSTEOPOROSIS}:
        return None
    border = thresholds.normal_above if BoneStatus.NORMAL in statuses else thresholds.osteoporosis_below
    for one in (a, b):
        near = one.density is not None and abs(one.density.mg_cm3 - border) <= limits.near_threshold_mg_cm3
        if near and one.density is not None and one.density.standard is thresholds.standard:
            return f"a density of the {OPINION_WORDS[one.name]} near the threshold of {border:g} mg/cm3"
    for one, other in ((a, b), (b, a)):
        if one.density is None and one.probabilities is not None and other.status is not None:
            chance = one.probabilities[other.status]
            if chance >= limits.runner_up_probability:
                return f"a {OPINION_WORDS[one.name]} that gives {other.status} {chance:.0%}"
    return None


def _opinion_words(opinion: Opinion) -> str:
    words = f"{OPINION_WORDS[opinion.name]} {opinion.status or 'no class'}"
    if opinion.density is not None:
        words += f" ({opinion.density.mg_cm3:.1f} mg/cm3)"
    elif opinion.probabilities is not None and opinion.status is not None:
        words += f" ({opinion.probabilities[opinion.status]:.0%})"
    return words


def _listed(words: Iterable[str], last: str = "and") -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *first, final = words
    return f"{', '.join(first)} {last} {final}" if first else final


NOT_HU = frozenset({"not_hounsfield_units", "bone_cut_off"})
"""Refusals of the values themselves: no network may look at such an image."""

OF_THE_STUDY = frozenset({"disc_disagreement"})
"""Refusals of one level that cast doubt on the others: it cannot just be left out."""

_FIRST = ("levels_not_covered", "level_cut", "level_uncertain", "body_missed", "pitch_off_range", "contrast_strong")
"""What a radiologist would say first, before what the header holds."""


def first_reasons_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return refusals first, those of the field of view and the levels before all others, then the rest in order."""

    def rank(finding: Finding) -> tuple[int, int]:
        refused = finding.severity is Severity.REFUSAL
        first = _FIRST.index(finding.code) if refused and finding.code in _FIRST else len(_FIRST)
        return (0 if refused else 1, first)

    return sorted(findings, key=rank)


Verdict = Literal["accepted", "accepted_with_warnings", "refused"]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return ``refused``, ``accepted_with_warnings`` or ``accepted``, whichever the worst finding asks for."""
    severities = {f.severity for f in findings}
    if Severity.REFUSAL in severities:
        return "refused"
    return "accepted_with_warnings" if Severity.WARNING in severities else "accepted"
