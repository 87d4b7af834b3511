"""Anatomical landmarks that name vertebrae: the bone at each side of a body, and the sacrum below the last one.

A rib and a transverse process are found by geometry on HU at bodies whose places are known; nothing is learned. The
column is resampled to slices about its own axis, bone is taken by a threshold, and what starts at the side of a
vertebra is followed along its own course to its end. Right and left are traced apart and vote apart. What a body shows
becomes a bounded log-likelihood for each of four roles; a naming step weighs it with everything else that is known.

Limits are "project custom" unless a source is named: they were chosen on eight real scans (benchmark folder
``ct_real_dev``), where ribs of T12 end 66 to 104 mm beside the axis, ribs of T11 beyond 103 mm and transverse processes
at 28 to 52 mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.special import expit, logit
from scipy.stats import norm

Side = Literal["right", "left"]
Role = Literal["ribbed", "last_ribbed", "lumbar", "last_lumbar"]
Point = tuple[float, float, float]

SIDES: tuple[Side, ...] = get_args(Side)
ROLES: tuple[Role, ...] = get_args(Role)
"""``ribbed``: carries a rib and is not the last that does; ``last_ribbed``; ``lumbar``: no rib, and not the last above
the sacrum; ``last_lumbar``."""
MAX_LOG_LIKELIHOOD = 4.0
"""No body's landmarks favour or reject a role by more than this, so that no single observation decides."""

STEP_MM = 2.0
"""Step of the straightened column: thin twelfth ribs are 5 to 6 mm thick."""
HALF_WIDTH_MM, BEHIND_MM, FRONT_MM = 150.0, 80.0, 10.0
"""Window about the axis: to each side, behind and in front of it. Abdominal organs lie in front of it for the most."""
BELOW_MM, ABOVE_MM = 90.0, 25.0
"""How far the window goes below the lowest and above the highest end plate: a twelfth rib descends up to 87 mm."""
AIR_HU = -900.0
"""A scan's lowest value is padding or clipped air if it lies below this."""
SMOOTHING_STEPS = 0.5
"""Gaussian over the straightened column, in steps."""

CORTEX_PERCENTILE, CORTEX_SHARE, LENIENT_HU = 95.0, 0.30, (110.0, 140.0)
"""Bone begins at this share of the person's cortical bone (that percentile of HU within 25 mm of the axis, arch
included), within these limits. Enhanced muscle has up to 80 HU."""
STRICTER_HU = (0.0, 40.0, 100.0)
"""Thresholds above that one which are tried as well: they part ribs from enhanced organs that touch them."""

INNER_MM = 27.0
"""Bone farther than this beside the axis is no body."""
ROOT_MM, GAP_MM = 36.0, 9.0
"""What belongs to a vertebra begins nearer to the axis than the first, or not farther than the second from a part that
does: thin ribs fade near their neck."""
RIB_BEHIND_MM = 14.0
"""A rib begins at least so far behind the axis (21 to 38 mm on real scans); veins and kidneys do not, and neither do
processes of L5."""
HEAD_MM = 18.0
"""Beside the axis, where a rib that is followed back meets its body."""
OSTEOPHYTE_MM, OSTEOPHYTE_FRONT_MM = 40.0, -8.0
"""Nearer to the axis than the first and farther forward than the second lie osteophytes, psoas and vessels, no ribs."""
ROOT_BEHIND_MM = 65.0
"""No rib and no process begins farther behind the axis than this."""
BIN_MM = 4.0
"""Course and section of a structure are taken in bins of this length along it."""
MAX_SECTION_MM2 = 330.0
"""A section above this is no rib and no process: the structure has run into an organ or the pelvis. Oblique sections of
thick ribs have up to 250 mm2."""
MIN_STRAIGHTNESS = 0.6
"""Distance of both ends over the length; ribs within the window have 0.8 to 1, the rim of the pelvis less."""
MIN_VOXELS = 8
"""Fewer voxels of the straightened column than this (0.06 cm3) are noise."""
FOLLOWED_MM = 25.0
"""From this length on a structure has a direction, and is followed back along it to the head."""
PITCH_MM, PITCH_RANGE_MM = 33.0, (22.0, 42.0)
"""Distance of neighbouring centres, and limits of it where a body is missing: 32 to 37 mm from T12 to L5, SD 2.5 to 3
mm over people (the VerSe-based key points of ``vid_spines``)."""
PROCESS_HEIGHT, HEAD_HEIGHT = 0.12, 0.20
"""Height at which a process starts and where a rib followed back meets its body, in vertebral pitches above the centre:
-0.2 to 0.3, and -0.2 to 0.6, on real scans."""
CLEAR, DOUBTFUL, NEAR, SAME = 0.38, 0.48, 0.80, 0.15
"""Distance from that height, in pitches: up to the first a structure clearly belongs to a body, from the second on it
may as well be the neighbour's; nearer than the third it keeps one from saying that a body has none. Starts
of one structure at two thresholds differ by less than the fourth."""
MAX_THICKNESS_MM = 14.5
"""What is thicker than this is no rib and no process (they have 4 to 13 mm); the pelvis has 15 and more."""
STUB_MM = 33.0
"""What ends nearer to the axis than this is the root of an arch that sticks out, not a process that was seen."""

MIN_SEEN = 0.5
"""Share of a box that must lie in the scan for its content to be known."""
SLAB_MM = 9.0
"""Height of these boxes."""


@dataclass(frozen=True)
class _Finding:
    """A share of bone that tells of the sacrum.

    Attributes:
        beside, before: the box, from and to, in mm beside the axis (either side) and in front of it.
        hu: what counts as bone, or as anything firmer than fat and muscle.
        pitches: how far below the centre of the body the boxes lie; their mean counts.
        even, unit: share for even odds, and change of it for a factor e.
        bounds: smallest and largest log-odds.
    """

    beside: tuple[float, float]
    before: tuple[float, float]
    hu: float
    pitches: tuple[float, ...]
    even: float
    unit: float
    bounds: tuple[float, float]

    def log_odds(self, share: float) -> float:
        """Log-odds of a share; NaN stays NaN."""
        return float(np.clip((share - self.even) / self.unit, *self.bounds))


_WINGS = _Finding((27.0, 45.0), (-45.0, 0.0), 150.0, (0.45, 0.55, 0.65), 0.13, 0.03, (-2.5, 2.5))
"""Beside the disc below the last lumbar body lie the wings of the sacrum: 0.16 to 0.45 of bone. Beside other lumbar
discs there is nothing (up to 0.09), beside thoracic ones the necks of ribs (up to 0.2)."""
_ILIUM = _Finding((45.0, 90.0), (-75.0, -30.0), 180.0, (0.75, 1.0), 0.09, 0.03, (-1.5, 1.5))
"""Where the next body would be, the iliac bones stand behind and beside the sacrum: 0.10 to 0.40, else up to 0.12."""
_HOLLOW = _Finding((0.0, 15.0), (-15.0, 10.0), 70.0, (1.25, 1.4), 0.5, -0.1, (-2.5, 2.5))
"""The sacrum turns backwards: on the axis of the last lumbar body, so far down, there is fat and bowel (0 to 0.2, 0.57
in one scan); below any other body there is the next one (0.6 to 1)."""
_WINGS_ABOVE = _Finding(_WINGS.beside, _WINGS.before, _WINGS.hu, (-0.45, -0.55, -0.65), 0.22, -0.03, (-6.0, 0.0))
"""Wings beside the disc above as well: the body is in the sacrum itself."""


@dataclass(frozen=True)
class _Shape:
    """Normal distributions, mean and SD in mm, of length and descent, with a share of the mixture."""

    share: float
    length: float
    length_sd: float
    descent: float
    descent_sd: float


_SHAPES: dict[Role, tuple[_Shape, ...]] = {
    "ribbed": (_Shape(1.0, 185.0, 25.0, 75.0, 35.0),),
    "last_ribbed": (
        _Shape(0.60, 98.0, 28.0, 55.0, 35.0),
        _Shape(0.28, 35.0, 10.0, 6.0, 7.0),
        _Shape(0.12, 150.0, 25.0, 75.0, 35.0),
    ),
    "lumbar": (_Shape(1.0, 26.0, 7.0, 0.0, 6.0),),
    "last_lumbar": (_Shape(1.0, 28.0, 8.0, 2.0, 8.0),),
}
"""Length and descent by role, of a person of scale 1: ribs of T11 155 to 195 mm, of T12 82 to 134 mm, processes 15 to
39 mm long on the real scans."""
_SEEN_NONE: dict[Role, float] = {"ribbed": 0.004, "last_ribbed": 0.05, "lumbar": 0.25, "last_lumbar": 0.2}
"""Probability that a side in view shows nothing beyond 33 mm."""
UNTOLD_STUB_MM, UNTOLD_STUB = 45.0, 0.15
"""A rudimentary last rib cannot be told from a process, but is rare (one of sixteen real scans, both sides alike): what
ends by itself and is shorter than the first in mm speaks against a last rib by this factor a side at most; what does
not end by itself and is as short says nothing."""
UNTOLD_MERGED_MM = 80.0
"""A process of L5 that runs into the pelvis is followed up to 65 mm: what is shorter than this says nothing."""
OUTLIERS = 0.02
"""Share of observations that say nothing of the role; bounds what one side can reject."""
SIDE_WEIGHT = 0.7
"""Two sides of one body are not two independent bodies."""
MAX_ODDS = 3.0
"""Bound of the log-odds of the sacrum."""

_SCAN_MARGIN_STEPS = 2
_EVERYWHERE = np.ones((3, 3, 3), dtype=bool)


class BodyPlace(Protocol):
    """Where a vertebral body lies: centre and the middles of its end plates, RAS+ mm."""

    @property
    def centre_mm(self) -> Point: ...

    @property
    def superior_mm(self) -> Point: ...

    @property
    def inferior_mm(self) -> Point: ...


@dataclass(frozen=True)
class LateralBone:
    """A rib or a transverse process, seen from its vertebra."""

    side: Side
    reach_mm: float
    """Distance of the outer end from the axis of the column, to the side."""
    descent_mm: float
    """How much lower the outer end lies than the inner one, along the axis of the body."""
    length_mm: float
    """Along its course, from the side of the body (18 mm beside the axis) to the outer end."""
    volume_cm3: float
    """Of the part beyond 27 mm beside the axis."""
    thickness_mm: float
    """Diameter of a rod of the same volume and length."""
    leaves_view: bool
    """It ends at the border of the scan or of the window, so that it may be longer."""
    merges: bool
    """It ends in something too thick for a rib (an enhanced organ, the pelvis), so that it may be longer."""
    belonging: float
    """How clearly it belongs to this body and not to a neighbour, 0 to 1."""

    @property
    def open_end(self) -> bool:
        """Only a lower limit of its length is known."""
        return self.leaves_view or self.merges


@dataclass(frozen=True)
class BodyLandmarks:
    """What one body shows.

    Attributes:
        right, left: the bone that starts at this side; ``None`` where none was found.
        right_in_view, left_in_view: the image shows this side far enough that a rib would have been seen, and what is
            seen there is clear.
        sacrum_below: probability from the image that the next bone below is the sacrum; ``None`` if the scan ends.
        scale: size of the person that lengths were divided by for the likelihoods; 1 is average.
    """

    right: LateralBone | None
    left: LateralBone | None
    right_in_view: bool
    left_in_view: bool
    sacrum_below: float | None
    scale: float = 1.0


@dataclass(frozen=True)
class _Column:
    """The scan about the axis of the column: coordinates u to the right, v forwards, both from the axis, and z.

    Attributes:
        hu: float (U, V, Z).
        seen: bool (U, V, Z), True inside the scan.
        u, v, z: coordinates in mm, STEP_MM apart.
        axis: (2, Z), x and y of the axis in RAS+ mm.
    """

    hu: NDArray[np.float64]
    seen: NDArray[np.bool_]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    z: NDArray[np.float64]
    axis: NDArray[np.float64]

    def patient(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 3) of u, v, z in RAS+ mm."""
        shift = [np.interp(points[:, 2], self.z, a) for a in self.axis]
        return points + np.stack([*shift, np.zeros(len(points))], axis=1)


@dataclass(frozen=True)
class _Traced:
    """A structure, how far (bodies,) it starts from where one of each body would, in pitches, and what follows.

    Attributes:
        rod: it has the form of a rib or process.
        at: number of its body; ``None`` where it has none for sure.
    """

    bone: LateralBone
    off: NDArray[np.float64]
    rod: bool
    at: int | None


@dataclass(frozen=True)
class _Bodies:
    """Frames of the bodies: centre, axis upwards (unit vectors) and pitch (distance to a neighbour) of each."""

    centre: NDArray[np.float64]
    up: NDArray[np.float64]
    pitch: NDArray[np.float64]

    def height(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far above each body's centre a point (3,) lies along the body's axis, in pitches; shape (bodies,)."""
        return np.asarray(((point - self.centre) * self.up).sum(axis=1) / self.pitch)


def trace_landmarks(
    hu: NDArray[np.float32], affine: NDArray[np.float64], bodies: Sequence[BodyPlace], scale: float = 1.0
) -> list[BodyLandmarks]:
    """Look at the sides of each body and below it.

    Args:
        hu: (X, Y, Z) in HU, RAS+ or nearly (oblique grids are resampled).
        affine: (4, 4) voxel index to RAS+ mm.
        bodies: from the lowest up. A gap (a body that was not found) does no harm to the others.
        scale: size of the person: pitch of the column over the average pitch.

    Returns:
        The landmarks of each body, in the order of ``bodies``.

    Raises:
        ValueError: the bodies are not sorted, or none of them lies in the scan.
    """
    if not bodies:
        return []
    places = _frames(bodies, scale)
    if np.any(np.diff(places.centre[:, 2]) <= 0):
        raise ValueError("bodies must be sorted from the lowest up")
    column = _straighten(hu, affine, bodies, scale)
    smooth = ndimage.gaussian_filter(column.hu, SMOOTHING_STEPS)
    threshold = _threshold(column)
    found: list[_Traced] = []
    doubtful: set[tuple[int, Side]] = set()
    for more in STRICTER_HU:
        traced, unclear = _trace(column, smooth > threshold + more, places, scale)
        found += traced
        doubtful |= unclear
    landmarks = []
    for i in range(len(bodies)):
        bones = {side: _best([t for t in found if t.at == i and t.bone.side == side], scale) for side in SIDES}
        clear = {
            side: _in_view(column, places, i, side, scale) and (bones[side] is not None or (i, side) not in doubtful)
            for side in SIDES
        }
        sacrum = _sacrum_below(column, smooth, places, i, scale)
        landmarks.append(BodyLandmarks(bones["right"], bones["left"], clear["right"], clear["left"], sacrum, scale))
    return landmarks


def _frames(bodies: Sequence[BodyPlace], scale: float) -> _Bodies:
    """Frames of the bodies; the pitch is the nearer neighbour's, within limits where one is missing."""
    centre = np.array([b.centre_mm for b in bodies], dtype=np.float64)
    up = np.array([np.subtract(b.superior_mm, b.inferior_mm) for b in bodies], dtype=np.float64)
    gaps = np.linalg.norm(np.diff(centre, axis=0), axis=1) if len(bodies) > 1 else np.array([PITCH_MM * scale])
    pitch = np.minimum(np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]])
    low, high = PITCH_RANGE_MM
    return _Bodies(centre, up / np.linalg.norm(up, axis=1)[:, None], np.clip(pitch, low * scale, high * scale))


def _straighten(
    hu: NDArray[np.float32], affine: NDArray[np.float64], bodies: Sequence[BodyPlace], scale: float
) -> _Column:
    """Resample the scan about the line through the centres; average what is finer than the step."""
    centres = np.array([b.centre_mm for b in bodies])
    corners = _corners(*((0, n - 1) for n in hu.shape)) @ affine[:3, :3].T + affine[:3, 3]
    low = max(bodies[0].inferior_mm[2] - BELOW_MM * scale, corners[:, 2].min())
    high = min(bodies[-1].superior_mm[2] + ABOVE_MM * scale, corners[:, 2].max())
    if high - low < STEP_MM:
        raise ValueError("the bodies lie outside the scan")
    z = np.arange(low, high + 1e-6, STEP_MM)
    axis = np.stack([np.interp(z, centres[:, 2], centres[:, a]) for a in (0, 1)])
    u = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 1e-6, STEP_MM)
    v = np.arange(-BEHIND_MM, FRONT_MM + 1e-6, STEP_MM)
    inverse = np.linalg.inv(affine)
    x_range, y_range = ((a.min() + w[0], a.max() + w[-1]) for a, w in zip(axis, (u, v), strict=True))
    window = _corners(x_range, y_range, (low, high)) @ inverse[:3, :3].T + inverse[:3, 3]
    first = np.clip(np.floor(window.min(axis=0)).astype(int), 0, np.array(hu.shape) - 1)
    last = np.clip(np.ceil(window.max(axis=0)).astype(int) + 1, first + 1, hu.shape)
    part, factor = _averaged(hu[tuple(map(slice, first, last))], affine)
    x, y = axis[0] + u[:, None, None], axis[1] + v[None, :, None]
    index = [inverse[r, 0] * x + inverse[r, 1] * y + inverse[r, 2] * z + inverse[r, 3] for r in range(3)]
    index = [(c - first[r] - (factor[r] - 1) / 2) / factor[r] for r, c in enumerate(index)]
    seen = np.logical_and.reduce([(c >= -0.5) & (c <= n - 0.5) for c, n in zip(index, part.shape, strict=True)])
    values = ndimage.map_coordinates(part, np.stack(index), order=1, mode="nearest")
    # Scanners fill what lies outside a round field of view with one value; a rib that ends there is cut.
    lowest = float(part.min())
    if lowest < AIR_HU:
        seen &= values > lowest + 0.5
    return _Column(values, seen, u, v, z, axis)


def _corners(*ranges: tuple[float, float]) -> NDArray[np.float64]:
    """Corners of a box, (8, 3) for three ranges."""
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(ranges)).astype(np.float64)


def _averaged(part: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Average blocks of voxels along axes finer than the step; returns the number averaged along each axis too."""
    factor = np.floor(STEP_MM / np.linalg.norm(affine[:3, :3], axis=0) + 0.01).astype(int)
    factor = np.clip(factor, 1, part.shape)
    size = np.array(part.shape) // factor
    blocks = part[tuple(map(slice, size * factor))].reshape(np.stack([size, factor], axis=1).ravel())
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), factor


def _threshold(column: _Column) -> float:
    """HU from which on bone is taken: a share of the person's cortical bone."""
    near = np.ix_(np.abs(column.u) < 25, column.v > -50)
    values = column.hu[near][column.seen[near]]
    if not len(values):
        return LENIENT_HU[1]
    return float(np.clip(CORTEX_SHARE * np.percentile(values, CORTEX_PERCENTILE), *LENIENT_HU))


def _trace(
    column: _Column, bone: NDArray[np.bool_], places: _Bodies, scale: float
) -> tuple[list[_Traced], set[tuple[int, Side]]]:
    """Follow what starts at the side of a body; returns what clearly belongs to a body, and the sides in doubt."""
    labels, roots = _lateral_parts(column, bone, scale)
    patches, count = ndimage.label(roots, _EVERYWHERE)
    if not count:
        return [], set()
    rooted = np.isin(labels, np.unique(labels[roots])) & (labels > 0)
    graph, index = _graph(rooted)
    patch = patches[tuple(index.T)]
    distance, _, source = dijkstra(
        graph, directed=False, indices=np.flatnonzero(patch), min_only=True, return_predecessors=True
    )
    owner = patch[source]
    points = np.stack([column.u[index[:, 0]], column.v[index[:, 1]], column.z[index[:, 2]]], axis=1)
    border = ~ndimage.binary_erosion(column.seen, iterations=_SCAN_MARGIN_STEPS)[tuple(index.T)]
    found: list[_Traced] = []
    doubtful: set[tuple[int, Side]] = set()
    for k in range(1, count + 1):
        mine = owner == k
        if mine.sum() < MIN_VOXELS:
            continue
        traced = _follow(column, points[mine], distance[mine], border[mine], places)
        if traced.at is not None:
            found.append(traced)
        if traced.bone.reach_mm > STUB_MM * scale or not traced.rod:
            near = np.flatnonzero(traced.off < NEAR)
            doubtful |= {(int(i), traced.bone.side) for i in near if i != traced.at}
    return found, doubtful


def _lateral_parts(
    column: _Column, bone: NDArray[np.bool_], scale: float
) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Parts of bone beside the column (0 elsewhere), and those of their voxels where parts of a vertebra begin."""
    beside = np.abs(column.u)
    mask = bone & column.seen & (beside > INNER_MM * scale)[:, None, None]
    mask[np.ix_(beside < OSTEOPHYTE_MM * scale, column.v > OSTEOPHYTE_FRONT_MM)] = False
    labels, count = ndimage.label(mask, _EVERYWHERE)
    distance = np.broadcast_to(beside[:, None, None], mask.shape)
    inner = np.r_[np.inf, ndimage.minimum(distance, labels, np.arange(1, count + 1))] if count else np.array([np.inf])
    attached = inner < ROOT_MM * scale
    attached |= _across_gap(mask & attached[labels], labels, beside, scale)
    attached[0] = False
    begin = np.where(attached, np.maximum(inner + STEP_MM, INNER_MM * scale + 2 * STEP_MM), -np.inf)
    roots = mask & (distance <= begin[labels]) & (column.v > -ROOT_BEHIND_MM * scale)[None, :, None]
    return labels, roots


def _across_gap(
    rooted: NDArray[np.bool_], labels: NDArray[np.int_], beside: NDArray[np.float64], scale: float
) -> NDArray[np.bool_]:
    """Which parts (by label) come close to the part of a vertebra without touching it."""
    chosen = np.zeros(int(labels.max()) + 1, dtype=bool)
    near = np.flatnonzero(beside < (ROOT_MM + GAP_MM) * scale + GAP_MM)
    for half in (near[near < len(beside) // 2], near[near >= len(beside) // 2]):
        if rooted[half].any():
            distance = ndimage.distance_transform_edt(~rooted[half], sampling=STEP_MM)
            chosen[np.unique(labels[half][distance <= GAP_MM])] = True
    return chosen


def _graph(mask: NDArray[np.bool_]) -> tuple[csr_array, NDArray[np.int_]]:
    """Graph of the voxels of a mask, each joined to its 26 neighbours by their distance in mm; and their indices."""
    index = np.argwhere(mask)
    number = np.full(np.array(mask.shape) + 2, -1)
    number[1:-1, 1:-1, 1:-1][mask] = np.arange(len(index))
    rows, columns, lengths = [], [], []
    for step in np.argwhere(_EVERYWHERE)[14:] - 1:  # the half of the neighbours that comes after the voxel itself
        other = number[tuple((index + 1 + step).T)]
        row = np.flatnonzero(other >= 0)
        rows.append(row)
        columns.append(other[row])
        lengths.append(np.full(len(row), STEP_MM * np.linalg.norm(step)))
    entries = np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))
    return coo_array(entries, shape=(len(index), len(index))).tocsr(), index


def _follow(
    column: _Column,
    points: NDArray[np.float64],
    distance: NDArray[np.float64],
    border: NDArray[np.bool_],
    places: _Bodies,
) -> _Traced:
    """Follow one structure outwards from its root.

    Args:
        column: the straightened column.
        points: (N, 3) its voxels as u, v, z.
        distance: (N,) mm from the root, through the structure.
        border: (N,) True where the view ends.
        places: the bodies.
    """
    part = (distance / BIN_MM).astype(int)
    line, merges = _centre_line(points, part)
    course = column.patient(line)
    if len(course) > 4:
        course[1:-1] = ndimage.uniform_filter1d(course, 3, axis=0)[1:-1]
    arc = float(np.linalg.norm(np.diff(course, axis=0), axis=1).sum()) + BIN_MM / 2
    if arc < FOLLOWED_MM:
        off = np.abs(places.height(course[0]) - PROCESS_HEIGHT)
    else:
        off = np.abs(places.height(_head(course, line)) - HEAD_HEIGHT)
    at = int(np.argmin(off))
    mine = part < len(line)
    volume = float(mine.sum()) * STEP_MM**3 / 1000
    bone = LateralBone(
        side="right" if line[0, 0] > 0 else "left",
        reach_mm=float(np.abs(points[mine, 0]).max()),
        descent_mm=float((course[0] - course[-1]) @ places.up[at]),
        length_mm=arc + max(0.0, abs(float(line[0, 0])) - HEAD_MM),
        volume_cm3=volume,
        thickness_mm=float(2 * np.sqrt(1000 * volume / arc / np.pi)),
        leaves_view=bool(border[part >= len(line) - 2].any()) and not merges,
        merges=merges,
        belonging=float(np.clip((DOUBTFUL - off[at]) / (DOUBTFUL - CLEAR), 0.0, 1.0)),
    )
    straight = float(np.linalg.norm(course[-1] - course[0])) >= MIN_STRAIGHTNESS * (arc - BIN_MM)
    rod = bone.thickness_mm <= MAX_THICKNESS_MM and straight
    if arc >= FOLLOWED_MM or abs(line[0, 0]) > STUB_MM:
        rod = rod and bool(line[0, 1] < -RIB_BEHIND_MM)
    return _Traced(bone, off, rod, at if rod and bone.belonging > 0 else None)


def _centre_line(points: NDArray[np.float64], part: NDArray[np.int_]) -> tuple[NDArray[np.float64], bool]:
    """Centres (bins, 3) of the bins of a structure, up to where it becomes too thick; and whether it does."""
    sizes = np.bincount(part)
    thick = np.flatnonzero(sizes[2:] * STEP_MM**3 / BIN_MM > MAX_SECTION_MM2)  # the root may be a broad lamina
    bins = int(thick[0]) + 2 if len(thick) else len(sizes)
    line = np.stack([np.bincount(part, points[:, a])[:bins] / sizes[:bins] for a in range(3)], axis=1)
    return line, len(thick) > 0


def _head(course: NDArray[np.float64], line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Follow a structure back along its own direction to its body; (3,) RAS+ mm.

    Args:
        course: (N, 3) its centre line in RAS+ mm, from the inner end.
        line: the same as u, v, z.
    """
    run = min(len(course) - 1, 5)
    outwards = course[run] - course[0]
    # A structure that runs along the column has no head to be followed back to: bound the step.
    lateral = max(abs(line[run, 0] - line[0, 0]), 0.7 * float(np.linalg.norm(outwards)))
    return np.asarray(course[0] - (abs(line[0, 0]) - HEAD_MM) / lateral * outwards)


def _best(traced: list[_Traced], scale: float) -> LateralBone | None:
    """Of what the thresholds show at one side of a body, the structure that is its rib or process.

    What ends by itself goes before what runs into something, a rib before a process, anything before a mere root; then
    the structure that starts where it should before a neighbour's, and of that one the longest trace.
    """
    process = (STUB_MM - HEAD_MM) * scale
    ends = [t for t in traced if not t.bone.merges and t.bone.length_mm >= process]
    long = [t for t in ends if t.bone.length_mm >= UNTOLD_STUB_MM * scale]
    chosen = long or ends or [t for t in traced if t.bone.merges] or traced
    if not chosen:
        return None
    nearest = min(t.off.min() for t in chosen)
    return max((t.bone for t in chosen if t.off.min() <= nearest + SAME), key=lambda b: b.reach_mm)


def _in_view(column: _Column, places: _Bodies, i: int, side: Side, scale: float) -> bool:
    """Whether the scan shows this side of a body as far as 65 mm from the axis, so that a rib would be seen."""
    sign = 1.0 if side == "right" else -1.0
    low, high = places.centre[i, 2] + places.pitch[i] * np.array([-0.25, 0.25])
    if low < column.z[0] or high > column.z[-1]:
        return False
    corners = _corners((sign * 30 * scale, sign * 65 * scale), (-45.0, -15.0), (low, high))
    index = np.rint((corners - [column.u[0], column.v[0], column.z[0]]) / STEP_MM).astype(int)
    return bool(column.seen[tuple(index.T)].all())


def _sacrum_below(column: _Column, smooth: NDArray[np.float64], places: _Bodies, i: int, scale: float) -> float | None:
    """Probability that the next bone below body ``i`` is the sacrum; ``None`` if the scan ends above its wings."""
    wings, *others = (
        finding.log_odds(_share(column, smooth, places, i, finding, scale))
        for finding in (_WINGS, _ILIUM, _HOLLOW, _WINGS_ABOVE)
    )
    return None if np.isnan(wings) else float(expit(wings + np.nansum(others)))


def _share(
    column: _Column, smooth: NDArray[np.float64], places: _Bodies, i: int, finding: _Finding, scale: float
) -> float:
    """Mean share of bone in the boxes of a finding at body ``i``; NaN where the scan does not show them."""
    shares = []
    for pitches in finding.pitches:
        at = places.centre[i] - pitches * places.pitch[i] * places.up[i]
        if not column.z[0] <= at[2] <= column.z[-1]:
            return float("nan")
        offset = at[:2] - [np.interp(at[2], column.z, a) for a in column.axis]
        beside, before = np.abs(column.u - offset[0]) / scale, (column.v - offset[1]) / scale
        box = np.ix_(
            (beside >= finding.beside[0]) & (beside <= finding.beside[1]),
            (before >= finding.before[0]) & (before <= finding.before[1]),
            np.abs(column.z - at[2]) <= SLAB_MM / 2,
        )
        seen = column.seen[box]
        if not seen.size or seen.mean() < MIN_SEEN:
            return float("nan")
        shares.append(float((smooth[box][seen] > finding.hu).mean()))
    return float(np.mean(shares))


def role_log_likelihoods(landmarks: BodyLandmarks) -> dict[Role, float]:
    """How well each role of the body agrees with what was seen there, against the mean of the roles.

    Returns:
        Natural logarithms within +-4; all 0 where nothing was seen. Differences matter, not values.
    """
    total = np.zeros(len(ROLES))
    sides = ((landmarks.right, landmarks.right_in_view), (landmarks.left, landmarks.left_in_view))
    for bone, in_view in sides:
        total += SIDE_WEIGHT * _side_log_likelihoods(bone, in_view, landmarks.scale)
    if landmarks.sacrum_below is not None:
        odds = float(np.clip(logit(np.clip(landmarks.sacrum_below, 1e-3, 1 - 1e-3)), -MAX_ODDS, MAX_ODDS))
        total += odds / 2 * np.array([1.0 if role == "last_lumbar" else -1.0 for role in ROLES])
    total = np.clip(total, -MAX_LOG_LIKELIHOOD, MAX_LOG_LIKELIHOOD)
    return {role: float(value) for role, value in zip(ROLES, total, strict=True)}


def _side_log_likelihoods(bone: LateralBone | None, in_view: bool, scale: float) -> NDArray[np.float64]:
    """Log-likelihood of each role, against their mean, of one side; 0 where it says nothing."""
    short = bone is not None and bone.length_mm < (UNTOLD_MERGED_MM if bone.merges else UNTOLD_STUB_MM) * scale
    if bone is None or bone.reach_mm < STUB_MM * scale:
        if not in_view or (bone is not None and bone.open_end):
            return np.zeros(len(ROLES))
        likelihood = np.array([_SEEN_NONE[role] for role in ROLES])
    elif short and bone.open_end:
        return np.zeros(len(ROLES))
    else:
        likelihood = np.array([_density(bone, _SHAPES[role], scale) for role in ROLES])
    if short:
        last, lumbar = ROLES.index("last_ribbed"), ROLES.index("lumbar")
        likelihood[last] = max(likelihood[last], UNTOLD_STUB * likelihood[lumbar])
    relative = likelihood / likelihood.mean()
    belonging = 1.0 if bone is None else bone.belonging
    return np.asarray(belonging * np.log((1 - OUTLIERS) * relative + OUTLIERS))


def _density(bone: LateralBone, shapes: Sequence[_Shape], scale: float) -> float:
    """Density (per mm2) of length and descent under a mixture; of an open end, probability of at least that length."""
    length, descent = bone.length_mm / scale, bone.descent_mm / scale
    if bone.open_end:
        return 1e-6 + sum(s.share * float(norm.sf(length, s.length, s.length_sd)) for s in shapes)
    return 1e-9 + sum(
        s.share * float(norm.pdf(length, s.length, s.length_sd) * norm.pdf(descent, s.descent, s.descent_sd))
        for s in shapes
    )


def describe_last_rib(landmarks: BodyLandmarks, level: str) -> str:
    """Sentence for the report on the last ribs: "T12 carries the last ribs: right 98 mm, left 105 mm".

    Args:
        landmarks: of the body that carries them.
        level: its name.
    """
    sides = ((landmarks.right, landmarks.right_in_view), (landmarks.left, landmarks.left_in_view))
    words = [_rib_words(side, *seen) for side, seen in zip(SIDES, sides, strict=True)]
    if landmarks.right is None and landmarks.left is None:
        return f"No rib was seen at {level}: {', '.join(words)}"
    return f"{level} carries the last ribs: {', '.join(words)}"


def _rib_words(side: str, bone: LateralBone | None, in_view: bool) -> str:
    if bone is None:
        return f"{side} none" if in_view else f"{side} not in view"
    return f"{side} {'at least ' if bone.open_end else ''}{bone.length_mm:.0f} mm"
