"""The trabecular region of a vertebral body, in which HU are measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.measurement.frame import ALIGNED_STEP_MM, BodyFrame, body_frame


@dataclass(frozen=True)
class RegionRule:
    """Conditions on a voxel centre of the region; distances in mm, fractions of the size of the body."""

    name: str
    version: str
    cortex_mm: float
    """Least distance to the surface of the body mask, in three dimensions."""
    endplate_mm: float
    """Least distance along the axis to the end plates, at each column; never less than one voxel."""
    endplate_fraction: float
    """The same as a share of the height of the column; the stricter one applies."""
    vein_depth: float
    """Posterior share of the depth that is excluded around mid-height, where the basivertebral vein enters."""
    vein_height: float
    """Share of the height, about its middle, over which it is excluded."""
    min_voxels: int
    min_cm3: float


CENTRAL_TRABECULAR = RegionRule(
    name="central-trabecular",
    version="1.0",
    cortex_mm=4.0,
    endplate_mm=4.0,
    endplate_fraction=0.1,
    vein_depth=0.3,
    vein_height=0.5,
    min_voxels=60,
    min_cm3=1.5,
)
"""4 mm is the erosion of the TotalSegmentator spine report, a tenth of the height the end-plate cut of ERAP (3 mm
erosion). Trabecular bone is denser towards the end plates: in our one real CT the central half of the height reads 5 HU
lower than this rule at both L1 and L2. The posterior 30 % about mid-height hold the foramen and trunk of the
basivertebral vein."""

CENTRAL_TRABECULAR_RELAXED = RegionRule(
    name="central-trabecular-relaxed",
    version="1.0",
    cortex_mm=3.0,
    endplate_mm=3.0,
    endplate_fraction=0.1,
    vein_depth=0.25,
    vein_height=0.5,
    min_voxels=30,
    min_cm3=1.0,
)
"""For coarse grids and small or flattened bodies, in which the rule above leaves too few voxels."""

REGION_RULE = f"{CENTRAL_TRABECULAR.name} {CENTRAL_TRABECULAR.version}"
"""The rule tried first: a calibration fitted with it holds for regions of it and of the relaxed one."""

RULES: tuple[RegionRule, ...] = (CENTRAL_TRABECULAR, CENTRAL_TRABECULAR_RELAXED)
"""Tried in this order."""


@dataclass(frozen=True)
class Region:
    """The trabecular region of one body.

    Attributes:
        mask: bool (X, Y, Z) on the CT grid; empty if there is a ``reason``.
        rule: the applied rule (the last one tried if there is a ``reason``).
        volume_cm3: voxels times voxel volume.
        reason: why there is no region, in a sentence; ``None`` if there is one.
    """

    mask: NDArray[np.bool_]
    rule: RegionRule
    volume_cm3: float
    reason: str | None = None

    @property
    def name(self) -> str:
        """Name and version of the rule, for results."""
        return f"{self.rule.name} {self.rule.version}"

    @property
    def version(self) -> str:
        """Version of the rule."""
        return self.rule.version

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.mask.sum())

    @property
    def usable(self) -> bool:
        """Whether there is a region to measure."""
        return self.reason is None


def trabecular_region(
    body: NDArray[np.bool_],
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    valid: NDArray[np.bool_] | None = None,
    frame: BodyFrame | None = None,
) -> Region:
    """Return the central trabecular region of a body.

    A voxel belongs to it if its centre lies 4 mm or more inside the body's surface, 4 mm, a tenth of the height and
    one voxel or more from both end plates along the body's own (perhaps tilted) axis, and not in the posterior 30 % of
    the depth within the middle half of the height. Distances are physical and sub-voxel, so 3 mm cubes and voxels of
    0.7 x 0.7 x 2 mm give the same region. No HU window is applied, because a window pulls the mean towards its own
    middle; only voxels that are invalid or not finite are left out. If too few voxels remain, a relaxed rule of
    another name is tried.

    Args:
        body: bool (X, Y, Z), one vertebral body.
        hu: HU of the same shape.
        affine: (4, 4) voxel index to RAS+ mm.
        valid: bool of the same shape, False where the scanner padded.
        frame: of the body, if built before.

    Returns:
        the region; ``reason`` is set and the mask empty if no valid region exists.

    Raises:
        ValueError: the arrays do not fit together.
    """
    mask = np.asarray(body, dtype=bool)
    if mask.shape != hu.shape:
        raise ValueError(f"body must have the shape of hu {hu.shape}, got {mask.shape}")
    if valid is not None and valid.shape != hu.shape:
        raise ValueError(f"valid must have the shape of hu {hu.shape}, got {valid.shape}")
    empty = np.zeros(mask.shape, dtype=bool)
    if frame is None:
        try:
            frame = body_frame(mask, affine)
        except ValueError as error:
            return Region(empty, RULES[-1], 0.0, f"The vertebral body cannot be measured: {error}.")

    box, points = _voxels_around(mask, affine)
    usable = np.isfinite(hu[box])
    if valid is not None:
        usable &= valid[box]
    if np.count_nonzero(usable & mask[box]) < 0.9 * np.count_nonzero(mask[box]):
        return Region(empty, RULES[-1], 0.0, "More than a tenth of the vertebral body holds no valid HU.")

    inside = np.flatnonzero((mask[box] & usable).ravel())
    points = points[inside]
    distance = frame.distance_at(points)
    local = frame.to_body(points)
    below, above = _gap_to_endplates(frame, local)
    height = np.maximum(below + above, 1e-6)
    level = below / height  # 0 at the lower end plate, 1 at the upper one
    try:
        ahead = _depth_fraction(frame, local)
    except ValueError as error:
        return Region(empty, RULES[-1], 0.0, f"The vertebral body cannot be measured: {error}.")
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    voxel_cm3 = abs(float(np.linalg.det(matrix))) / 1000.0
    voxel_mm = float(np.abs(frame.axes[2] @ matrix).max())  # how far one voxel reaches along the axis
    kept = 0
    for rule in RULES:
        gap = np.maximum(max(rule.endplate_mm, voxel_mm), rule.endplate_fraction * height)
        vein = (ahead < rule.vein_depth) & (np.abs(level - 0.5) <= 0.5 * rule.vein_height)
        chosen = (distance >= rule.cortex_mm) & (np.minimum(below, above) >= gap) & ~vein
        kept = int(chosen.sum())
        if kept >= rule.min_voxels and kept * voxel_cm3 >= rule.min_cm3:
            region = np.zeros(mask[box].shape, dtype=bool)
            region.ravel()[inside[chosen]] = True
            empty[box] = region
            return Region(empty, rule, kept * voxel_cm3)
    last = RULES[-1]
    return Region(
        empty,
        last,
        0.0,
        f"Too little trabecular bone is left away from cortex, end plates and vein: {kept} voxels "
        f"({kept * voxel_cm3:.2f} cm3), at least {last.min_voxels} voxels and {last.min_cm3:g} cm3 are required.",
    )


def _voxels_around(
    mask: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Return the bounding box of the mask and the RAS+ mm of its voxel centres in C order."""
    box = tuple(
        slice(int(i.min()), int(i.max()) + 1)
        for axis in range(3)
        for i in [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))]
    )
    index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = np.asarray(affine, dtype=np.float64)
    return box, index @ matrix[:3, :3].T + matrix[:3, 3]


def _gap_to_endplates(frame: BodyFrame, local: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance along the axis from each point (body axes) down and up to the surface of the body, mm."""
    solid = frame.aligned > 0
    filled = solid.any(axis=2)
    first = solid.argmax(axis=2)
    last = solid.shape[2] - 1 - solid[:, :, ::-1].argmax(axis=2)
    bottom = np.where(filled, _crossing(frame.aligned, first, -1), np.nan)
    top = np.where(filled, _crossing(frame.aligned, last, +1), np.nan)
    at = np.rint((local[:, :2] - frame.aligned_origin[:2]) / ALIGNED_STEP_MM).astype(int)
    at = np.clip(at, 0, np.array(filled.shape) - 1)
    base = frame.aligned_origin[2]
    low = base + ALIGNED_STEP_MM * bottom[at[:, 0], at[:, 1]]
    high = base + ALIGNED_STEP_MM * top[at[:, 0], at[:, 1]]
    below, above = local[:, 2] - low, high - local[:, 2]
    return np.nan_to_num(below, nan=0.0), np.nan_to_num(above, nan=0.0)


def _crossing(distance: NDArray[np.float32], at: NDArray[np.intp], step: int) -> NDArray[np.float64]:
    """Return the index along the last axis where the distance is zero, between ``at`` (inside) and the next sample."""
    inside = np.take_along_axis(distance, at[..., None], axis=2)[..., 0].astype(np.float64)
    beyond = np.clip(at + step, 0, distance.shape[2] - 1)
    outside = np.take_along_axis(distance, beyond[..., None], axis=2)[..., 0].astype(np.float64)
    span = np.maximum(inside - outside, 1e-6)
    return at + step * np.clip(inside / span, 0.0, 1.0)


def _depth_fraction(frame: BodyFrame, local: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the position of each point between the posterior wall (0) and the anterior one (1), mid-sagittal.

    Raises:
        ValueError: the mask has no solid middle, such as a shell or a fragment.
    """
    coordinates = [frame.aligned_origin[a] + ALIGNED_STEP_MM * np.arange(n) for a, n in enumerate(frame.aligned.shape)]
    solid = frame.aligned > 0
    middle = solid[np.abs(coordinates[0]) <= 4.0][:, :, np.abs(coordinates[2]) <= 4.0]
    occupied = np.flatnonzero(middle.mean(axis=(0, 2)) >= 0.5)
    if len(occupied) == 0:
        raise ValueError("its outline has no solid middle")
    back, front = coordinates[1][occupied[0]], coordinates[1][occupied[-1]]
    return np.asarray((local[:, 1] - back) / max(front - back, 1e-6))
