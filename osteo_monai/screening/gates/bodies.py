"""Gates of the segmented bodies: place, size, shape, metal, cement, fracture, trabecular region."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, VertebraLevel
from osteo_monai.screening.gates.gate import Gate, refusal, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits
from osteo_monai.utils.text import share_words

CORRELATED = frozenset({"disc_disagreement"})
"""Refusals of one level that make the others doubtful: such a level cannot be left out, the study is refused."""


@dataclass(frozen=True, eq=False)
class OutlineFacts:
    """The segmented body of one level.

    Attributes:
        body: (X, Y, Z) mask on the whole volume; at least one voxel.
        valid: (X, Y, Z), False where padded; ``None`` if all voxels are valid.
        volume_cm3: of the mask.
        offset_mm: distance along the column from the located centre to the centre of the mask.
        step_mm: distance from the disc below to the disc above.
        disc_offsets_mm: how far above its located place the mask has each disc; ``None`` where it shows no disc.
    """

    level: VertebraLevel
    body: NDArray[np.bool_]
    valid: NDArray[np.bool_] | None
    volume_cm3: float
    offset_mm: float
    step_mm: float
    disc_offsets_mm: tuple[float | None, ...]


BORDER_VOXELS = Limit(
    "border_voxels", 1, "voxel", f"{CUSTOM}: a mask in the outermost slice, row or column may extend beyond it"
)


def inside_volume(facts: OutlineFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a body whose mask touches the border of the volume or padded voxels."""
    margin = int(limits[BORDER_VOXELS])
    faces = [part for axis in range(3) for part in _outermost(facts.body, axis, margin)]
    if not any(face.any() for face in faces) and (facts.valid is None or facts.valid[facts.body].all()):
        return None
    return refusal("level_cut", f"{facts.level} is cut by the border of the field of view.")


def _outermost(body: NDArray[np.bool_], axis: int, margin: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the first and the last ``margin`` planes of a mask along an axis."""
    along = np.moveaxis(body, axis, 0)
    return along[:margin], along[max(len(along) - margin, 0) :]


VOLUME_MINIMUM = Limit(
    "volume_minimum", 8.0, "cm3", "half of 30 x 20 x 40 mm (spinebase) for the smallest bodies, rounded down"
)
VOLUME_MAXIMUM = Limit("volume_maximum", 80.0, "cm3", "twice the 36 ml of the TotalSegmentator reference, rounded up")


def body_volume(facts: OutlineFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a mask of a volume that no lumbar body has."""
    low, high = limits[VOLUME_MINIMUM], limits[VOLUME_MAXIMUM]
    if low <= facts.volume_cm3 <= high:
        return None
    message = (
        f"Volume of the segmented body of {facts.level}: {facts.volume_cm3:.1f} cm3, expected {low:g} to {high:g}."
    )
    return refusal("body_volume_off_range", message)


LEVEL_OFFSET_MAXIMUM = Limit(
    "level_offset_maximum", 0.25, "1", f"{CUSTOM}: a quarter of a vertebra; the column network errs by 1 mm"
)


def level_offset(facts: OutlineFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a mask that is not where the body was located."""
    distance = abs(facts.offset_mm)
    share = distance / facts.step_mm
    if share < limits[LEVEL_OFFSET_MAXIMUM]:
        return None
    message = (
        f"The body segmented as {facts.level} is {distance:.0f} mm from its located centre, "
        f"{share_words(share)} of its height."
    )
    return refusal("level_offset", message)


DISC_ERROR_MAXIMUM = Limit(
    "disc_error_maximum", 7.0, "mm", f"{CUSTOM}: the smallest lumbar disc; beyond it the networks see different discs"
)


def disc_disagreement(facts: OutlineFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a body if the segmentation has one of its discs clearly elsewhere."""
    worst = max((abs(o) for o in facts.disc_offsets_mm if o is not None), default=0.0)
    if worst <= limits[DISC_ERROR_MAXIMUM]:
        return None
    message = (
        f"The segmentation has a disc of {facts.level} {worst:.0f} mm from where it was located: the borders of the "
        "body are uncertain."
    )
    return refusal("disc_disagreement", message)


OUTLINE_GATES: tuple[Gate[OutlineFacts], ...] = (inside_volume, body_volume, level_offset, disc_disagreement)
"""Run for each segmented body with at least one voxel."""


def body_not_found(level: VertebraLevel) -> Finding:
    """Refuse a level without any segmented voxel."""
    return refusal("body_not_found", f"The body of {level} could not be segmented.")


def body_not_measurable(level: VertebraLevel, reason: str) -> Finding:
    """Refuse a mask without measurable shape (hollow, split, far too small)."""
    return refusal("body_not_measurable", f"The segmentation of {level} is not a vertebral body: {reason}.")


@dataclass(frozen=True)
class BodyFacts:
    """What was measured in one body.

    Attributes:
        width_mm, depth_mm, height_mm: of the body.
        section_mm2: area of its axial section; ``neighbour_sections_mm2`` are those of bodies beside it.
        metal_mm3: volume of metal in or near the vertebra.
        dense_cm3: volume away from the cortex that is too dense for trabecular bone.
        region_voxels, region_cm3: size of the trabecular region.
        no_region: reason why no region could be placed, if any.
    """

    level: VertebraLevel
    width_mm: float
    depth_mm: float
    height_mm: float
    section_mm2: float
    neighbour_sections_mm2: tuple[float, ...]
    metal_mm3: float
    dense_cm3: float
    region_voxels: int
    region_cm3: float
    no_region: str | None


HEIGHT_MINIMUM = Limit(
    "height_minimum", 12.0, "mm", "half of the lower body height of 20-30 mm (spinebase), rounded up"
)
HEIGHT_MAXIMUM = Limit("height_maximum", 45.0, "mm", "one and a half of the upper body height of 20-30 mm (spinebase)")
ASPECT_MINIMUM = Limit(
    "aspect_minimum", 0.9, "1", f"{CUSTOM}: width over depth is at least 40/35 = 1.1 (spinebase), with margin"
)
ASPECT_MAXIMUM = Limit(
    "aspect_maximum", 2.3, "1", f"{CUSTOM}: width over depth is at most 50/30 = 1.7 (spinebase), with margin"
)


def body_shape(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a height, or a width over depth, that no lumbar body has."""
    low, high = limits[HEIGHT_MINIMUM], limits[HEIGHT_MAXIMUM]
    if not low <= facts.height_mm <= high:
        message = (
            f"Height of the segmented body of {facts.level}: {facts.height_mm:.0f} mm, expected {low:g} to {high:g}."
        )
        return refusal("body_shape_off_range", message)
    aspect = facts.width_mm / facts.depth_mm if facts.depth_mm > 0 else math.inf
    if limits[ASPECT_MINIMUM] <= aspect <= limits[ASPECT_MAXIMUM]:
        return None
    message = (
        f"The segmented body of {facts.level} is {facts.width_mm:.0f} mm wide and {facts.depth_mm:.0f} mm deep, "
        "which is not the shape of a vertebral body."
    )
    return refusal("body_shape_off_range", message)


SECTION_RATIO_MINIMUM = Limit(
    "section_ratio_minimum",
    0.6,
    "1",
    f"{CUSTOM}: sections of neighbours differ by 5-10 %; a crush fracture widens them",
)
SECTION_RATIO_MAXIMUM = Limit(
    "section_ratio_maximum", 1.5, "1", f"{CUSTOM}: neighbours differ by 5-10 %; half a body more is a leak"
)


def section_of_neighbours(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a section much larger or smaller than those of the neighbours."""
    if not facts.neighbour_sections_mm2:
        return None
    usual = float(np.median(facts.neighbour_sections_mm2))
    if limits[SECTION_RATIO_MINIMUM] <= facts.section_mm2 / usual <= limits[SECTION_RATIO_MAXIMUM]:
        return None
    message = (
        f"The segmented body of {facts.level} has a section of {facts.section_mm2 / 100:.1f} cm2, its neighbours have "
        f"{usual / 100:.1f} cm2."
    )
    return refusal("outline_unlike_neighbours", message)


METAL_HU = Limit("metal_hu", 2500.0, "HU", f"{CUSTOM}: above cortical bone, 1200 +- 250 HU (Michalski 2020)")
METAL_VOLUME_MAXIMUM = Limit(
    "metal_volume_maximum", 20.0, "mm3", f"{CUSTOM}: a few voxels, so that one noisy voxel is not an implant"
)


def metal(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse metal in or beside a measured vertebra."""
    if facts.metal_mm3 <= limits[METAL_VOLUME_MAXIMUM]:
        return None
    return refusal("metal", f"Metal in or beside {facts.level}: its density cannot be measured.")


def region_placed(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a body in which no trabecular region can be placed."""
    if facts.no_region is None:
        return None
    return refusal("too_few_trabecular_voxels", f"{facts.level}: {facts.no_region}")


REGION_VOXELS_MINIMUM = Limit(
    "region_voxels_minimum", 50, "voxel", f"{CUSTOM}: standard error of noise of 40 HU below 6 HU"
)
REGION_VOLUME_MINIMUM = Limit(
    "region_volume_minimum", 0.5, "cm3", f"{CUSTOM}: a sphere of 10 mm; ERAP regions have 7.8 +- 2.6 cm3"
)


def region_size(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a trabecular region too small for a mean."""
    enough = facts.region_voxels >= limits[REGION_VOXELS_MINIMUM] and facts.region_cm3 >= limits[REGION_VOLUME_MINIMUM]
    if enough or facts.no_region is not None:
        return None
    message = (
        f"Only {facts.region_voxels} voxels ({facts.region_cm3:.2f} cm3) of trabecular bone are left in {facts.level}: "
        "too few to measure."
    )
    return refusal("too_few_trabecular_voxels", message)


DENSE_MAXIMUM = Limit("dense_maximum", 0.5, "cm3", f"{CUSTOM}: a sphere of 10 mm; vertebroplasty leaves several cm3")


def cement(facts: BodyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse cement or strong sclerosis inside a measured body."""
    if facts.dense_cm3 <= limits[DENSE_MAXIMUM] or facts.no_region is not None:
        return None
    message = f"{facts.dense_cm3:.1f} cm3 inside {facts.level} are too dense for trabecular bone: cement or sclerosis."
    return refusal("cement_or_sclerosis", message)


BODY_GATES: tuple[Gate[BodyFacts], ...] = (
    body_shape,
    section_of_neighbours,
    metal,
    region_placed,
    region_size,
    cement,
)
"""Run for each body after it was measured."""


@dataclass(frozen=True)
class HeightFacts:
    """Height loss of one body.

    Attributes:
        loss: fraction of its tallest part or of its neighbours' height; ``None`` if unknown.
        height_mm: of the body.
        spacing_mm: distance between slices.
    """

    level: VertebraLevel
    loss: float | None
    height_mm: float
    spacing_mm: float

    @property
    def margin(self) -> float:
        """Uncertainty of a height loss (90 % one-sided), as a fraction of the height.

        A mask ends at a slice, so an end plate has a uniform error of one slice distance, SD spacing / sqrt(12);
        0.7 mm are added for tilt and noise (project custom). A height has two ends, a loss compares two heights.
        """
        end_plate = math.hypot(self.spacing_mm / math.sqrt(12.0), 0.7)
        return 1.28 * 2.0 * end_plate / max(self.height_mm, 1.0)


HEIGHT_LOSS_WARNING = Limit(
    "height_loss_warning", 0.20, "1", "height loss of Genant's grade 1 and of the project's clinical notes"
)
HEIGHT_LOSS_EXCLUSION = Limit(
    "height_loss_exclusion", 0.25, "1", "height loss from which Genant's semiquantitative grade 2 begins"
)


def height_loss(facts: HeightFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Check the height loss of a body minus its uncertainty.

    Above 20 % (Genant grade 1) the code is ``possible_fracture``. Above 25 % (grade 2) the code is ``fracture``: the
    pipeline then leaves the level out, because impaction compacts bone and raises its density.
    """
    if facts.loss is None:
        return None
    certain = facts.loss - facts.margin
    if not certain > limits[HEIGHT_LOSS_WARNING]:
        return None
    lost = f"{facts.level} has lost {share_words(facts.loss)} of its height"
    if certain > limits[HEIGHT_LOSS_EXCLUSION]:
        return warning("fracture", f"{lost}: fracture is likely, the level was left out.")
    return warning("possible_fracture", f"{lost}: fracture is possible, check the sagittal view.")


HEIGHT_GATES: tuple[Gate[HeightFacts], ...] = (height_loss,)
"""Run for each body and its neighbours once their heights are known."""
