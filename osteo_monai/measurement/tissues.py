"""Tissues around a vertebral body (air, fat, muscle, blood, cortical bone) for the HU scale, and metal or cement.

Tissues are found by position and HU, on blocks of about 2 x 2 x 3 mm with low noise. A tissue that is not found is
``None``, never a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement.calibration import TISSUES, TissueSample
from osteo_monai.measurement.frame import ALIGNED_STEP_MM, BodyFrame, body_frame
from osteo_monai.utils.occupied import occupied_box

BLOCK_MM = (2.0, 2.0, 3.0)
MIN_AREA_MM2 = 100.0
"""Smallest area of a reported tissue, summed over slices."""
FAT_WINDOW = (-190.0, -30.0)
MUSCLE_WINDOW = (-10.0, 120.0)
"""Wide windows of fat and muscle, so that a shifted HU scale is detected and not cut off."""
MODE_REACH_HU = 20.0
"""Blocks this near to the most frequent HU are muscle; fat inside lies below (0 to 7 HU in real scans)."""
CORTICAL_STEP_MM = (1.1, 3.0)
"""Largest pixel and slice distance that resolve the cortex of an arch (1085 to 1315 HU; 892 HU at 5 mm)."""
CORTICAL_HU = 500.0
CORTICAL_PERCENTILE = 97.0
METAL_HU = 2500.0
"""Above any bone: dense cortex reaches 2200 HU at 80 kVp."""
METAL_REACH_MM = 25.0
DENSE_HU = 450.0
"""Inside the eroded body: above trabecular bone of any age (young adults 236 +- 42 HU) smoothed over 2 mm."""
NATIVE_BLOOD_HU = 45.0
"""Native aorta, 40 to 60 HU (depends on haematocrit); the excess is enhancement."""
ENHANCED_BLOOD_HU = 100.0
"""A flag, not a correction: the rule of thumb for an enhanced aorta."""


@dataclass(frozen=True)
class Aorta:
    """The aortic lumen beside a vertebral body.

    Attributes:
        hu: median of the lumen.
        sd: standard deviation over blocks.
        area_mm2: area sampled, summed over slices.
        centre_mm: RAS+ mm.
        radius_mm: radius of the best circle.
        certainty: 0 to 1, similarity to a round, homogeneous vessel in the expected place. Below 0.2 none is returned;
            below 0.5 it may warn of contrast agent but is not used for calibration (real scans: 0.3 in a dissected
            aorta, 0.4 in a calcified one, 0.5 to 0.8 in native ones).
    """

    hu: float
    sd: float
    area_mm2: float
    centre_mm: tuple[float, float, float]
    radius_mm: float
    certainty: float

    @property
    def enhancement_hu(self) -> float:
        """HU above native blood; noise around zero in a native scan."""
        return self.hu - NATIVE_BLOOD_HU

    @property
    def enhanced(self) -> bool:
        """Whether the blood carries contrast agent."""
        return self.hu > ENHANCED_BLOOD_HU


@dataclass(frozen=True)
class Surroundings:
    """Tissues in the slices of a vertebral body; ``None`` if not found."""

    air: TissueSample | None
    subcutaneous_fat: TissueSample | None
    visceral_fat: TissueSample | None
    muscle: TissueSample | None
    aorta: Aorta | None
    cortical_bone: TissueSample | None = None

    @property
    def fat(self) -> TissueSample | None:
        """Subcutaneous fat, which is purer, else visceral fat."""
        return self.subcutaneous_fat or self.visceral_fat

    def calibration_samples(self) -> Mapping[str, TissueSample]:
        """Return the tissues for internal calibration.

        Left out: blood that is enhanced or uncertain, and cortical bone, whose HU depend on pixel and slice (partial
        volume) more than on the scanner. Muscle beside enhanced blood is marked.
        """
        samples: dict[str, TissueSample] = {}
        native = self.aorta is None or self.aorta.hu <= TISSUES["blood"].window[1]
        if self.air is not None:
            samples["air"] = self.air
        if self.fat is not None:
            samples["adipose"] = self.fat
        if self.muscle is not None:
            samples["muscle"] = replace(self.muscle, enhanced=not native)
        if self.aorta is not None and self.aorta.certainty >= 0.5 and native:
            a = self.aorta
            samples["blood"] = TissueSample(a.hu, a.area_mm2, a.sd, a.centre_mm)
        return samples


@dataclass(frozen=True)
class _Blocks:
    """A slab of the volume averaged to blocks, with its index-to-mm affine."""

    hu: NDArray[np.float32]
    valid: NDArray[np.bool_]
    affine: NDArray[np.float64]
    spacing: NDArray[np.float64]

    def points(self) -> NDArray[np.float64]:
        index = np.stack(np.meshgrid(*(np.arange(n) for n in self.hu.shape), indexing="ij"), axis=-1)
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def sample(self, mask: NDArray[np.bool_]) -> TissueSample | None:
        area = float(np.count_nonzero(mask)) * float(self.spacing[0] * self.spacing[1])
        if area < MIN_AREA_MM2:
            return None
        values = self.hu[mask]
        centre = self.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + self.affine[:3, 3]
        place = (float(centre[0]), float(centre[1]), float(centre[2]))
        return TissueSample(float(np.median(values)), area, float(values.std()), place)

    def sample_near_mode(self, mask: NDArray[np.bool_]) -> TissueSample | None:
        """Sample blocks near the most frequent HU, for a tissue that has another one inside."""
        if self.sample(mask) is None:
            return None
        counts, edges = np.histogram(self.hu[mask], bins=np.arange(*MUSCLE_WINDOW, 1.0))
        mode = float(edges[ndimage.gaussian_filter1d(counts.astype(np.float64), 5.0).argmax()]) + 0.5
        return self.sample(mask & (np.abs(self.hu - mode) <= MODE_REACH_HU))


def surroundings(
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    body: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None = None,
    frame: BodyFrame | None = None,
) -> Surroundings:
    """Sample the tissues in the slices of one vertebral body.

    - air: at least 8 mm outside the person and below -850 HU, in slices with air in three corners; a constant
      lowest value (padding) is not air.
    - subcutaneous fat: 4 to 25 mm under the skin. Visceral fat: in front of the body, within 80 mm, 30 mm deep. Both
      only where fat is 10 mm thick or more.
    - muscle: the erector spinae behind and beside the arch, without the fat inside: blocks near the most frequent HU.
    - cortical bone: the densest cortex of the arch that is wider than three pixels, in scans of thin slices.
    - aorta: see :func:`find_aorta`.

    Args:
        hu: HU, (X, Y, Z).
        affine: (4, 4) voxel index to RAS+ mm.
        body: bool (X, Y, Z), one vertebral body.
        valid: bool (X, Y, Z), False where the scanner padded.
        frame: of the body, if built before.

    Raises:
        ValueError: the arrays do not fit, or the body is too small.
    """
    for name, array in (("body", body), ("valid", valid)):
        if array is not None and array.shape != hu.shape:
            raise ValueError(f"{name} must have the shape of hu {hu.shape}, got {array.shape}")
    frame = frame or body_frame(body, affine)
    blocks = _slab(hu, affine, body, valid)
    person = _person(blocks)
    if not person.any():
        return Surroundings(None, None, None, None, None)
    step = tuple(float(s) for s in blocks.spacing[:2])
    depth = np.zeros(person.shape, dtype=np.float32)
    away = np.zeros(person.shape, dtype=np.float32)
    for k in range(person.shape[2]):
        if not person[:, :, k].all():
            depth[:, :, k] = ndimage.distance_transform_edt(person[:, :, k], sampling=step)
        if person[:, :, k].any():
            away[:, :, k] = ndimage.distance_transform_edt(~person[:, :, k], sampling=step)
    floor = blocks.hu[blocks.valid].min(initial=0.0) + 0.5
    corners = ~person[[0, 0, -1, -1], [0, -1, 0, -1], :]
    around = corners.sum(axis=0) >= 3  # in a crop the outside of the solid may be lung or bowel gas
    air = blocks.sample(blocks.valid & around & (away >= 8.0) & (blocks.hu < -850.0) & (blocks.hu > floor))

    own = frame.to_body(blocks.points().reshape(-1, 3)).reshape(*person.shape, 3)
    u, v = own[..., 0], own[..., 1]
    cross = np.ones((3, 3, 1), dtype=bool)
    # a layer thinner than 10 mm has no block without muscle or skin: -70 HU in one real scan of a thin person
    fat = ndimage.binary_erosion(_within(blocks, FAT_WINDOW) & person, cross, iterations=2)
    subcutaneous = blocks.sample(fat & (depth >= 4.0) & (depth <= 25.0))
    near = np.sum(own**2, axis=-1) <= 80.0**2
    visceral = blocks.sample(fat & (depth >= 30.0) & near & (v >= 0.0))

    back = _extent(frame, 1)[0]
    erectors = (np.abs(u) >= 12.0) & (np.abs(u) <= 60.0) & (v <= back - 22.0) & (v >= back - 60.0)
    lean = ndimage.binary_erosion(_within(blocks, MUSCLE_WINDOW) & person, cross, iterations=2)
    muscle = blocks.sample_near_mode(lean & erectors)
    cortex = _cortical_bone(hu, affine, body, frame)
    return Surroundings(air, subcutaneous, visceral, muscle, _find_aorta(blocks, frame), cortex)


def _cortical_bone(
    hu: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_], frame: BodyFrame
) -> TissueSample | None:
    """Return the densest resolved cortex of the vertebral arch; ``None`` where voxels are too large to resolve it."""
    matrix = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    pixel, step = CORTICAL_STEP_MM
    if max(spacing[:2]) > pixel or spacing[2] > step:
        return None
    box = _box(hu, affine, body, 60.0)
    box = (*box[:2], slice(*(int(n) for n in np.flatnonzero(body.any(axis=(0, 1)))[[0, -1]] + [0, 1])))
    part = hu[box]
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)[:, :, None]
    # a value that its neighbours nearly reach is not lowered by the soft tissue beside it
    index = np.argwhere((part > CORTICAL_HU) & (ndimage.minimum_filter(part, footprint=cross) >= 0.8 * part))
    index = index + [s.start for s in box]
    places = index @ matrix[:3, :3].T + matrix[:3, 3]
    own = frame.to_body(places)
    back = _extent(frame, 1)[0]
    arch = (np.abs(own[:, 0]) <= 45.0) & (own[:, 1] <= back) & (own[:, 1] >= back - 60.0)
    values = hu[tuple(index[arch].T)]
    area = float(values.size * spacing[0] * spacing[1])
    if area < MIN_AREA_MM2 or float(values.max()) > METAL_HU:
        return None
    x, y, z = places[arch].mean(axis=0).tolist()
    return TissueSample(float(np.percentile(values, CORTICAL_PERCENTILE)), area, float(values.std()), (x, y, z))


def _within(blocks: _Blocks, window: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray(blocks.valid & (blocks.hu >= window[0]) & (blocks.hu <= window[1]))


def _slab(
    hu: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_], valid: NDArray[np.bool_] | None
) -> _Blocks:
    matrix = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    slices = np.flatnonzero(body.any(axis=(0, 1)))
    part = hu[:, :, slices[0] : slices[-1] + 1]
    good = np.isfinite(part)
    if valid is not None:
        good &= valid[:, :, slices[0] : slices[-1] + 1]
    factor = np.maximum(np.rint(np.array(BLOCK_MM) / spacing).astype(int), 1)
    factor = np.minimum(factor, part.shape)
    shape = np.array(part.shape) // factor
    trimmed = tuple(slice(0, int(n)) for n in shape * factor)

    def blocked(array: NDArray[np.float32]) -> NDArray[np.float32]:
        split = [int(n) for pair in zip(shape, factor, strict=True) for n in pair]
        return np.asarray(array[trimmed].reshape(split).mean(axis=(1, 3, 5), dtype=np.float32))

    coarse = matrix.copy()
    coarse[:3, :3] = matrix[:3, :3] * factor
    corner = (factor - 1) / 2.0  # index of the first block's centre
    corner[2] += slices[0]
    coarse[:3, 3] = matrix[:3, :3] @ corner + matrix[:3, 3]
    if good.all():
        return _Blocks(
            blocked(part.astype(np.float32, copy=False)), np.ones(shape, dtype=bool), coarse, spacing * factor
        )
    filled = np.where(good, part, np.float32(-1000.0)).astype(np.float32)
    return _Blocks(blocked(filled), blocked(good.astype(np.float32)) > 0.999, coarse, spacing * factor)


def _person(blocks: _Blocks) -> NDArray[np.bool_]:
    """Return the largest solid part of each slice with its inner air, without the table where it is thin."""
    solid = blocks.hu > -350.0
    person = np.zeros_like(solid)
    for k in range(solid.shape[2]):
        # the person continues beyond the border of a crop: no erosion from there, or corners would become skin
        core = ndimage.binary_erosion(solid[:, :, k], iterations=2, border_value=1)
        opened = ndimage.binary_dilation(core, iterations=2)
        labels, count = ndimage.label(opened)
        if count:
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            person[:, :, k] = ndimage.binary_fill_holes(labels == sizes.argmax())
    return person


def _extent(frame: BodyFrame, axis: int) -> tuple[float, float]:
    """Return the first and last coordinate (mm, body axes) of the solid through the centre along one axis."""
    coordinates = [frame.aligned_origin[a] + ALIGNED_STEP_MM * np.arange(n) for a, n in enumerate(frame.aligned.shape)]
    at = [int(np.argmin(np.abs(c))) for c in coordinates]
    index: list[int | slice] = [*at]
    index[axis] = slice(None)
    line = np.flatnonzero(frame.aligned[tuple(index)] > 0)
    if line.size == 0:
        return 0.0, 0.0
    return float(coordinates[axis][line[0]]), float(coordinates[axis][line[-1]])


AORTA_RADII_MM = (8.0, 10.0, 12.5, 15.0)
"""Radii tried; the abdominal aorta at L1 and L2 is 15 to 25 mm wide in adults."""
AORTA_GRID_MM = 2.0
MIN_AORTA_CERTAINTY = 0.2
AORTA_LEFT_MM = 8.0
"""Expected distance of the centre of the aorta to the left of the midline, and ..."""
AORTA_GAP_MM = 4.0
"""... of its wall in front of the vertebral body. Usual anatomy, checked on three real scans."""
AORTA_SPREAD_MM = (18.0, 14.0)
"""Standard deviations of the place to the side and forwards: tortuous aortas deviate far."""


def find_aorta(
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    body: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None = None,
    frame: BodyFrame | None = None,
) -> Aorta | None:
    """Find the aortic lumen in front and to the left of a lumbar body.

    The slices are resampled to the axes of the body. Each circle of 8 to 15 mm radius is scored in each slice by the
    homogeneity of its inside, the share of the ring around it that differs, and the distance from the expected place;
    the place and radius with the best mean over the height of the body is returned.

    Arguments and errors as :func:`surroundings`. Returns ``None`` if the search area is not in the image.
    """
    frame = frame or body_frame(body, affine)
    return _find_aorta(_slab(hu, affine, body, valid), frame)


def _find_aorta(blocks: _Blocks, frame: BodyFrame) -> Aorta | None:
    front = _extent(frame, 1)[1]
    low, high = _extent(frame, 2)
    reach = max(AORTA_RADII_MM) + 6.0
    u = np.arange(-40.0 - reach, 26.0 + reach, AORTA_GRID_MM)
    v = np.arange(front - reach, front + 42.0 + reach, AORTA_GRID_MM)
    w = np.arange(low + 2.0, high - 2.0 + 1e-6, 3.0)
    if w.size == 0:
        return None
    grid = np.stack(np.meshgrid(u, v, w, indexing="ij"), axis=-1)
    index = np.linalg.inv(blocks.affine)
    where = frame.to_world(grid.reshape(-1, 3)) @ index[:3, :3].T + index[:3, 3]
    picture = ndimage.map_coordinates(blocks.hu, where.T, order=1, mode="nearest").reshape(grid.shape[:3])
    seen = ndimage.map_coordinates(blocks.valid.astype(np.float32), where.T, order=0, mode="constant")
    seen = seen.reshape(grid.shape[:3]) > 0.5
    body = frame.distance_at(frame.to_world(grid.reshape(-1, 3))).reshape(grid.shape[:3])

    centres_u = np.flatnonzero((u >= -40.0) & (u <= 26.0))
    centres_v = np.flatnonzero((v >= front + 2.0) & (v <= front + 42.0))
    best: tuple[float, int, int, float] | None = None
    for radius in AORTA_RADII_MM:
        score = _circle_scores(picture, seen, body, centres_u, centres_v, radius)
        prior_u = (u[centres_u] + AORTA_LEFT_MM) / AORTA_SPREAD_MM[0]
        prior_v = (v[centres_v] - front - AORTA_GAP_MM - radius) / AORTA_SPREAD_MM[1]
        score = score * np.exp(-0.5 * (prior_u[:, None] ** 2 + prior_v[None, :] ** 2))
        i, j = (int(n) for n in np.unravel_index(int(np.argmax(score)), score.shape))
        if best is None or score[i, j] > best[0]:
            best = float(score[i, j]), int(centres_u[i]), int(centres_v[j]), radius
    if best is None or best[0] < MIN_AORTA_CERTAINTY:
        return None
    score_best, i, j, radius = best
    lumen = (u[:, None] - u[i]) ** 2 + (v[None, :] - v[j]) ** 2 <= (0.7 * radius) ** 2
    values = picture[lumen][seen[lumen]]
    if values.size * AORTA_GRID_MM**2 < MIN_AREA_MM2:
        return None
    centre = frame.to_world(np.array([[u[i], v[j], (low + high) / 2.0]]))[0]
    return Aorta(
        hu=float(np.median(values)),
        sd=float(values.std()),
        area_mm2=float(values.size) * AORTA_GRID_MM**2,
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        radius_mm=radius,
        certainty=float(np.clip(score_best, 0.0, 1.0)),
    )


def _circle_scores(
    picture: NDArray[np.float32],
    seen: NDArray[np.bool_],
    body: NDArray[np.float64],
    centres_u: NDArray[np.intp],
    centres_v: NDArray[np.intp],
    radius: float,
) -> NDArray[np.float64]:
    """Score 0 to 1 of a circle around each centre, mean over the slices; (len(centres_u), len(centres_v))."""
    reach = int(np.ceil((radius + 5.0) / AORTA_GRID_MM))
    span = np.arange(-reach, reach + 1)
    far = np.hypot(*np.meshgrid(span, span, indexing="ij")) * AORTA_GRID_MM
    disc = np.argwhere(far <= radius - 2.0) - reach
    ring = np.argwhere((far >= radius + 2.0) & (far <= radius + 5.0)) - reach

    def gather(array: NDArray[np.generic], offsets: NDArray[np.intp]) -> NDArray[np.generic]:
        at_u = centres_u[:, None, None] + offsets[None, None, :, 0]
        at_v = centres_v[None, :, None] + offsets[None, None, :, 1]
        return np.asarray(array[at_u, at_v])  # (U, V, offsets, W)

    inside = gather(picture, disc).astype(np.float32)
    middle = np.median(inside, axis=2)
    spread = np.median(np.abs(inside - middle[:, :, None]), axis=2) * 1.4826
    outer = gather(picture, ring).astype(np.float32)
    differs = np.clip((np.abs(outer - middle[:, :, None]) - 15.0) / 35.0, 0.0, 1.0).mean(axis=2)
    even = np.exp(-0.5 * (np.maximum(spread - 6.0, 0.0) / (10.0 + 0.08 * np.abs(middle))) ** 2)
    blood = np.clip((middle - 5.0) / 15.0, 0.0, 1.0) * np.clip((800.0 - middle) / 100.0, 0.0, 1.0)
    free = (gather(body, disc).astype(np.float32).max(axis=2) < 0.0) & gather(seen, disc).astype(bool).all(axis=2)
    return np.asarray((differs * even * blood * free).mean(axis=2), dtype=np.float64)


def metal_volume_mm3(
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    body: NDArray[np.bool_],
    threshold: float = METAL_HU,
    reach_mm: float = METAL_REACH_MM,
) -> float:
    """Return the volume in mm3 of metal within ``reach_mm`` of the body (screws enter from behind).

    Voxels above ``threshold`` count if they touch another one, so that a single noisy voxel does not. Metal that is not
    near the body, such as a swallowed tablet or a clip, does not count.
    Raises ``ValueError`` if the shapes differ or the body is empty.
    """
    box = _box(hu, affine, body, reach_mm)
    dense = hu[box] > threshold
    if not dense.any():
        return 0.0
    labels, count = ndimage.label(dense)
    sizes = np.bincount(labels.ravel())
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    away = ndimage.distance_transform_edt(~body[box], sampling=spacing)
    nearest = np.append(0.0, ndimage.minimum(away, labels, np.arange(1, count + 1)))
    counts = (sizes >= 2) & (nearest <= reach_mm)
    counts[0] = False
    voxel = abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
    return float(sizes[counts].sum()) * voxel


def dense_volume_cm3(
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    body: NDArray[np.bool_],
    threshold: float = DENSE_HU,
    frame: BodyFrame | None = None,
) -> float:
    """Return the volume in cm3 that is too dense for trabecular bone, 4 mm or more inside the body: cement or
    sclerosis.

    HU are smoothed by 1 mm (Gaussian) first, so that noise is not counted.
    Raises ``ValueError`` if the arrays do not fit or the body is too small.
    """
    box = _box(hu, affine, body, 6.0)
    frame = frame or body_frame(body, affine)
    matrix = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    smooth = ndimage.gaussian_filter(hu[box].astype(np.float32), 1.0 / spacing)
    candidates = np.argwhere((smooth > threshold) & body[box])
    if len(candidates) == 0:
        return 0.0
    index = candidates + np.array([s.start for s in box])
    inner = frame.distance_at(index @ matrix[:3, :3].T + matrix[:3, 3]) >= 4.0
    return float(inner.sum()) * abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0


def _box(
    hu: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_], margin_mm: float
) -> tuple[slice, ...]:
    if body.shape != hu.shape:
        raise ValueError(f"body must have the shape of hu {hu.shape}, got {body.shape}")
    occupied = occupied_box(body)
    if occupied is None:
        raise ValueError("body must hold at least one voxel, got none")
    spacing = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    margins = [int(np.ceil(margin_mm / step)) for step in spacing]
    return tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, count))
        for part, margin, count in zip(occupied, margins, hu.shape, strict=True)
    )
