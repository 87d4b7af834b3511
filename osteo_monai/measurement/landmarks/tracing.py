"""Ribs, transverse processes and the sacrum, traced by geometry on HU at bodies of known position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.special import expit

from osteo_monai.measurement.landmarks.bones import SIDES, STUB_MM, UNCERTAIN_STUB_MM, BodyLandmarks, LateralBone, Side
from osteo_monai.measurement.landmarks.column import (
    STEP_MM,
    Bodies,
    BodyPlace,
    Column,
    bone_threshold,
    box_corners,
    frames,
    straighten,
)
from osteo_monai.measurement.landmarks.inlet import (
    RIB_LENGTH_MM,
    RIB_REACH_MM,
    RIB_THICKNESS_MM,
    ROOT_HEIGHT,
    InletSigns,
    apex_heights,
    lung_apex,
)
from osteo_monai.utils.threads import run_parallel

STRICTER_HU = (0.0, 40.0, 100.0)
"""Higher thresholds, added to that of bone: they separate ribs from enhanced organs that touch them."""
SMOOTHING_STEPS = 0.5
"""Gaussian over the straightened column, in steps."""


INNER_MM = 27.0
"""Bone farther than this beside the axis is not part of a body."""
ROOT_MM, GAP_MM = 36.0, 9.0
"""A part of a vertebra starts nearer to the axis than the first, or within the second of such a part: thin ribs fade
near their neck."""
RIB_BEHIND_MM = 14.0
"""Smallest distance of the start of a rib behind the axis (21 to 38 mm on real scans); veins, kidneys and processes of
L5 are less."""
HEAD_MM = 18.0
"""Distance beside the axis at which a rib that is followed back meets its body."""
OSTEOPHYTE_MM, OSTEOPHYTE_FRONT_MM = 40.0, -8.0
"""Nearer to the axis than the first and farther forward than the second lie osteophytes, psoas and vessels, no ribs."""
ROOT_BEHIND_MM = 65.0
"""No rib and no process starts farther behind the axis than this."""
BIN_MM = 4.0
"""Course and section of a structure are taken in bins of this length along it."""
MAX_SECTION_MM2 = 330.0
"""A section above this is no rib and no process: the structure has merged with an organ or the pelvis. Oblique sections
of thick ribs have up to 250 mm2."""
MIN_STRAIGHTNESS = 0.6
"""Distance of both ends over the length; ribs within the window have 0.8 to 1, the rim of the pelvis less."""
MIN_VOXELS = 8
"""Fewer voxels of the straightened column than this (0.06 cm3) are noise."""
FOLLOWED_MM = 25.0
"""Length from which on a structure has a direction and is followed back along it to the head."""
PROCESS_HEIGHT, HEAD_HEIGHT = 0.12, 0.20
"""Height at which a process starts and where a rib followed back meets its body, in vertebral pitches above the centre:
-0.2 to 0.3, and -0.2 to 0.6, on real scans."""
CLEAR, DOUBTFUL, NEAR, SAME = 0.38, 0.48, 0.80, 0.15
"""Distance from that height, in pitches: up to the first a structure clearly belongs to a body, from the second on it
may be that of the neighbour; nearer than the third the side of a body is not counted as empty. Starts
of one structure at two thresholds differ by less than the fourth."""
MAX_THICKNESS_MM = 14.5
"""Anything thicker than this is no rib and no process (they have 4 to 13 mm); the pelvis has 15 and more."""

MIN_SEEN = 0.5
"""Share of a box that must lie in the scan, otherwise its content is unknown."""
SLAB_MM = 9.0
"""Height of these boxes."""


@dataclass(frozen=True)
class _SacralSign:
    """A share of bone that is evidence of the sacrum.

    Attributes:
        beside, before: the box, from and to, in mm beside the axis (either side) and in front of it.
        hu: threshold of bone, or of anything denser than fat and muscle.
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


_WINGS = _SacralSign((27.0, 45.0), (-45.0, 0.0), 150.0, (0.45, 0.55, 0.65), 0.13, 0.03, (-2.5, 2.5))
"""Beside the disc below the last lumbar body lie the wings of the sacrum: 0.16 to 0.45 of bone. Beside other lumbar
discs there is nothing (up to 0.09), beside thoracic ones the necks of ribs (up to 0.2)."""
_ILIUM = _SacralSign((45.0, 90.0), (-75.0, -30.0), 180.0, (0.75, 1.0), 0.09, 0.03, (-1.5, 1.5))
"""Where the next body would be, the iliac bones stand behind and beside the sacrum: 0.10 to 0.40, else up to 0.12."""
_HOLLOW = _SacralSign((0.0, 15.0), (-15.0, 10.0), 70.0, (1.25, 1.4), 0.5, -0.1, (-2.5, 2.5))
"""The sacrum turns backwards: on the axis of the last lumbar body, so far down, there is fat and bowel (0 to 0.2, 0.57
in one scan); below any other body there is the next one (0.6 to 1)."""
_WINGS_ABOVE = _SacralSign(_WINGS.beside, _WINGS.before, _WINGS.hu, (-0.45, -0.55, -0.65), 0.22, -0.03, (-6.0, 0.0))
"""Wings beside the disc above as well: the body is in the sacrum itself."""


_SCAN_MARGIN_STEPS = 2
_EVERYWHERE = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class _Traced:
    """A traced structure and, for each body, how far in pitches it starts from the expected place (bodies,).

    Attributes:
        rod: whether it has the form of a rib or process.
        at: number of its body; ``None`` if uncertain.
        root: number of the body that is the nearest to its root.
    """

    bone: LateralBone
    off: NDArray[np.float64]
    rod: bool
    at: int | None
    root: int


def trace_landmarks(
    hu: NDArray[np.float32], affine: NDArray[np.float64], bodies: Sequence[BodyPlace], scale: float = 1.0
) -> list[BodyLandmarks]:
    """Trace the bone at the sides of each body and below it.

    Args:
        hu: (X, Y, Z) in HU, RAS+ or nearly (oblique grids are resampled).
        affine: (4, 4) voxel index to RAS+ mm.
        bodies: from the lowest up; missing bodies do not affect the others.
        scale: size of the person: pitch of the column over the average pitch.

    Returns:
        The landmarks of each body, in the order of ``bodies``.

    Raises:
        ValueError: the bodies are not sorted, or none of them lies in the scan.
    """
    if not bodies:
        return []
    places = frames(bodies, scale)
    if np.any(np.diff(places.centre[:, 2]) <= 0):
        raise ValueError("bodies must be sorted from the lowest up, got another order")
    column = straighten(hu, affine, bodies, scale)
    smooth = ndimage.gaussian_filter(column.hu, SMOOTHING_STEPS)
    threshold = bone_threshold(column)
    structures: list[_Traced] = []
    doubtful: set[tuple[int, Side]] = set()
    for traced, unclear in run_parallel(lambda m: _trace(column, smooth > threshold + m, places, scale), STRICTER_HU):
        structures += traced
        doubtful |= unclear
    heights = apex_heights(lung_apex(hu, affine, bodies, scale), places)
    landmarks: list[BodyLandmarks] = []
    for i, apex_above in enumerate(heights):
        bones = {side: _best([t for t in structures if t.at == i and t.bone.side == side], scale) for side in SIDES}
        clear = {
            side: _in_view(column, places, i, side, scale) and (bones[side] is not None or (i, side) not in doubtful)
            for side in SIDES
        }
        sacrum = _sacrum_below(column, smooth, places, i, scale)
        inlet = None
        if apex_above is not None:
            ribs = [_upper_rib(structures, i, side, clear[side], scale) for side in SIDES]
            inlet = InletSigns(ribs[0], ribs[1], apex_above)
        seen = BodyLandmarks(bones["right"], bones["left"], clear["right"], clear["left"], sacrum, scale, inlet)
        longer = _longer(seen, landmarks[-1], scale) if landmarks else None
        landmarks.append(replace(seen, longer_mm=longer))
    return landmarks


def _trace(
    column: Column, bone: NDArray[np.bool_], places: Bodies, scale: float
) -> tuple[list[_Traced], set[tuple[int, Side]]]:
    """Follow structures from the side of a body; return them, and the uncertain sides."""
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
    structures: list[_Traced] = []
    doubtful: set[tuple[int, Side]] = set()
    for k in range(1, count + 1):
        mine = owner == k
        if mine.sum() < MIN_VOXELS:
            continue
        traced = _follow(column, points[mine], distance[mine], border[mine], places)
        structures.append(traced)
        if traced.bone.reach_mm > STUB_MM * scale or not traced.rod:
            near = np.flatnonzero(traced.off < NEAR)
            doubtful |= {(int(i), traced.bone.side) for i in near if i != traced.at}
    return structures, doubtful


def _lateral_parts(column: Column, bone: NDArray[np.bool_], scale: float) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Return labels of bone beside the column (0 elsewhere), and the voxels where parts of a vertebra start."""
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
    """Return which parts (by label) are close to the part of a vertebra without touching it."""
    chosen = np.zeros(int(labels.max()) + 1, dtype=bool)
    near = np.flatnonzero(beside < (ROOT_MM + GAP_MM) * scale + GAP_MM)
    for half in (near[near < len(beside) // 2], near[near >= len(beside) // 2]):
        if rooted[half].any():
            distance = ndimage.distance_transform_edt(~rooted[half], sampling=STEP_MM)
            chosen[np.unique(labels[half][distance <= GAP_MM])] = True
    return chosen


def _graph(mask: NDArray[np.bool_]) -> tuple[csr_array, NDArray[np.int_]]:
    """Return the graph of the voxels of a mask (26 neighbours, distances in mm) and their indices."""
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
    column: Column,
    points: NDArray[np.float64],
    distance: NDArray[np.float64],
    border: NDArray[np.bool_],
    places: Bodies,
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
    root = int(np.argmin(np.abs(places.height(course[0]) - ROOT_HEIGHT)))
    return _Traced(bone, off, rod, at if rod and bone.belonging > 0 else None, root)


def _centre_line(points: NDArray[np.float64], part: NDArray[np.int_]) -> tuple[NDArray[np.float64], bool]:
    """Return the centres (bins, 3) of the bins of a structure up to where it becomes too thick, and whether it does."""
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


def _longer(seen: BodyLandmarks, below: BodyLandmarks, scale: float) -> float | None:
    """Return how much longer the bones of a body are than those of the body below; see ``BodyLandmarks``."""
    bones = ((seen.right, below.right), (seen.left, below.left))
    if all(bone is None or bone.length_mm >= UNCERTAIN_STUB_MM * scale for bone, _ in bones):
        return None
    differences = [
        (bone.length_mm - other.length_mm) / scale
        for bone, other in bones
        if bone is not None and other is not None and not bone.open_end and not other.open_end
    ]
    return float(np.mean(differences)) if differences else None


def _upper_rib(traced: Sequence[_Traced], i: int, side: Side, clear: bool, scale: float) -> bool | None:
    """Whether a rib starts at this side of body ``i``; ``None`` if the side is not clearly visible."""
    mine = [t.bone for t in traced if t.root == i and t.bone.side == side]
    if any(
        b.reach_mm >= RIB_REACH_MM * scale
        and b.length_mm >= RIB_LENGTH_MM * scale
        and b.thickness_mm <= RIB_THICKNESS_MM
        for b in mine
    ):
        return True
    return False if clear and not any(b.open_end for b in mine) else None


def _best(traced: list[_Traced], scale: float) -> LateralBone | None:
    """Return the rib or process at one side of a body among the traces of all thresholds.

    Preference: structures that end over those that merge, ribs over processes, both over roots; then the structure that
    starts at the expected place, and of that the longest trace.
    """
    process = (STUB_MM - HEAD_MM) * scale
    ends = [t for t in traced if not t.bone.merges and t.bone.length_mm >= process]
    long = [t for t in ends if t.bone.length_mm >= UNCERTAIN_STUB_MM * scale]
    chosen = long or ends or [t for t in traced if t.bone.merges] or traced
    if not chosen:
        return None
    nearest = min(t.off.min() for t in chosen)
    return max((t.bone for t in chosen if t.off.min() <= nearest + SAME), key=lambda b: b.reach_mm)


def _in_view(column: Column, places: Bodies, i: int, side: Side, scale: float) -> bool:
    """Whether the scan covers this side of a body up to 65 mm from the axis, so that a rib would be visible."""
    sign = 1.0 if side == "right" else -1.0
    low, high = places.centre[i, 2] + places.pitch[i] * np.array([-0.25, 0.25])
    if low < column.z[0] or high > column.z[-1]:
        return False
    corners = box_corners((sign * 30 * scale, sign * 65 * scale), (-45.0, -15.0), (low, high))
    index = np.rint((corners - [column.u[0], column.v[0], column.z[0]]) / STEP_MM).astype(int)
    return bool(column.seen[tuple(index.T)].all())


def _sacrum_below(column: Column, smooth: NDArray[np.float64], places: Bodies, i: int, scale: float) -> float | None:
    """Return the probability that the next bone below body ``i`` is the sacrum; ``None`` if the scan ends above its
    wings.
    """
    wings, *others = (
        finding.log_odds(_share(column, smooth, places, i, finding, scale))
        for finding in (_WINGS, _ILIUM, _HOLLOW, _WINGS_ABOVE)
    )
    return None if np.isnan(wings) else float(expit(wings + np.nansum(others)))


def _share(
    column: Column, smooth: NDArray[np.float64], places: Bodies, i: int, finding: _SacralSign, scale: float
) -> float:
    """Return the mean share of bone in the boxes of a sign at body ``i``; NaN if the scan does not cover them."""
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
