"""Named vertebrae from the output of the localiser.

For each voxel the network gives the probability of a body, the proximity to the centre of a body, and the likelihood of
each level. The column is the connected run of bodies. ``level_naming.cut_column`` divides its slices into named
vertebrae; the certainty of a name is its posterior probability over all segmentations.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, log_softmax

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.level_naming import NAMED_LEVELS, PITCH_MM, Segment, cut_column

HEAT_CHANNEL, BODY_CHANNEL, SACRUM_CHANNEL, RIB_CHANNEL, FIRST_NAME_CHANNEL = 0, 1, 2, 3, 4
CHANNELS = FIRST_NAME_CHANNEL + len(NAMED_LEVELS)
HEAT_SD_MM = 6.0
"""SD of the heat about the centre of a body."""
_LEAST_AREA_MM2 = 130.0
"""Least area of the column in a slice; bodies have 500 to 1800 mm2."""
_EDGE_MM = 8.0
"""Distance from the end of the scan up to which the column is assumed to continue beyond it."""


@dataclass(frozen=True)
class LocatedVertebra:
    """A located and named vertebral body. Positions are RAS+ mm.

    Attributes:
        certainty: posterior probability of ``level``; ``runner_up`` is the second most likely name.
        superior_mm, inferior_mm: points on the borders to the neighbours, in the discs.
        complete: whether the field of view does not cut the body.
    """

    level: VertebraLevel
    certainty: float
    runner_up: VertebraLevel | None
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]
    complete: bool


@dataclass(frozen=True)
class _Column:
    """The slices ``first`` to ``first + n - 1`` of the column: evidence (n, 12), heat (n,) and centre line (n, 2)."""

    first: int
    evidence: NDArray[np.float64]
    heat: NDArray[np.float64]
    line: NDArray[np.float64]

    def point(self, z: float) -> NDArray[np.float64]:
        """Return the centre line at height ``z``, in voxels."""
        at = np.arange(len(self.line)) + self.first
        return np.array([np.interp(z, at, self.line[:, 0]), np.interp(z, at, self.line[:, 1]), z])


class DecodeVertebraed(MapTransform):
    """Convert the output of the localiser to ``data["vertebrae"]``, a list of ``LocatedVertebra``, lowest first.

    ``data[key]`` (16, X, Y, Z), a MetaTensor of logits in RAS+ with isotropic voxels, becomes a label map (1, X, Y, Z)
    of the bodies by ``VertebraLevel.label``, sacrum included. ``data["line"]`` becomes (n, 3), the middle of the column
    in RAS+ mm in each of its slices.

    Args:
        trust: weight of the evidence of one slice, see ``cut_column``.
        vertebrae_key: item for the list.
        line_key: item for the centre line.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable] = "pred",
        trust: float = 0.35,
        vertebrae_key: str = "vertebrae",
        line_key: str = "line",
    ) -> None:
        super().__init__(keys)
        self.trust, self.vertebrae_key, self.line_key = trust, vertebrae_key, line_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            vertebrae, line, labels = self.decode(result[key])
            result[self.vertebrae_key], result[self.line_key] = vertebrae, line
            result[key] = labels
        return result

    def decode(self, prediction: MetaTensor) -> tuple[list[LocatedVertebra], NDArray[np.float64], MetaTensor]:
        """Return the vertebrae, the centre line (n, 3) in RAS+ mm and the label map of logits (16, X, Y, Z)."""
        if prediction.ndim != 4 or prediction.shape[0] != CHANNELS:
            raise ValueError(f"prediction must be logits ({CHANNELS}, X, Y, Z), got {tuple(prediction.shape)}")
        logits = prediction.detach().cpu().float().numpy()
        affine = np.asarray(prediction.affine, float)
        spacing = float(np.linalg.norm(affine[:3, 2]))
        marks = expit(logits[:FIRST_NAME_CHANNEL])
        body, sacrum = marks[BODY_CHANNEL], marks[SACRUM_CHANNEL]
        labels = np.zeros(body.shape, np.uint8)
        labels[sacrum > 0.5] = VertebraLevel.SACRUM.label
        vertebrae: list[LocatedVertebra] = []
        line = np.empty((0, 3))
        mask = find_column(body, spacing)
        column = _read_column(mask, body, marks[HEAT_CHANNEL], logits[FIRST_NAME_CHANNEL:], spacing)
        if column is not None:
            points = np.column_stack([column.line, column.first + np.arange(len(column.line))])
            line = points @ affine[:3, :3].T + affine[:3, 3]
            slices, n = body.shape[2], len(column.heat)
            open_below = column.first * spacing < _EDGE_MM
            open_above = (slices - column.first - n) * spacing < _EDGE_MM
            segments = cut_column(
                column.evidence,
                column.heat,
                spacing,
                heat_sd_mm=HEAT_SD_MM,
                open_below=open_below,
                open_above=open_above,
                lowest_is_last=_lowest_is_last(sacrum, column, spacing, open_below),
                trust=self.trust,
            )
            for s in segments:
                part = (slice(None), slice(None), slice(column.first + s.first, column.first + s.stop))
                labels[part][mask[part] & (body[part] > 0.5)] = s.level.label
            cut = (open_below, open_above)
            vertebrae = [_locate(i, segments, column, affine, spacing, cut) for i in range(len(segments))]
        output = MetaTensor(labels[None], meta=prediction.meta)
        output.applied_operations = prediction.applied_operations
        return vertebrae, line, output


def find_column(body: NDArray[np.floating], spacing: float) -> NDArray[np.bool_]:
    """Return the voxels of the vertebral column: the longest connected run of likely body voxels.

    Bodies above one another are joined over gaps of up to 24 mm, more than any disc.

    Args:
        body: (X, Y, Z) probability of a body.
        spacing: voxel size in mm.
    """
    likely = body > 0.3
    reach = max(1, round(12.0 / spacing))
    joined, count = ndimage.label(ndimage.binary_dilation(likely, np.ones((1, 1, 2 * reach + 1))))
    if count == 0:
        return likely
    joined *= likely
    # number of slices of a part, where 6 cm2 are a full slice: a large blob elsewhere has few slices
    full = 600.0 / spacing**2
    areas = np.stack([np.bincount(joined[..., z].ravel(), minlength=count + 1) for z in range(body.shape[2])])
    return np.asarray(joined == 1 + int(np.minimum(areas[:, 1:], full).sum(0).argmax()))


def _read_column(
    mask: NDArray[np.bool_],
    body: NDArray[np.floating],
    heat: NDArray[np.floating],
    name_logits: NDArray[np.floating],
    spacing: float,
) -> _Column | None:
    """Return the evidence of each slice of the column; ``None`` if there is no column."""
    within = np.flatnonzero(mask.sum((0, 1)) * spacing**2 >= _LEAST_AREA_MM2)
    if len(within) == 0:
        return None
    first, n = int(within[0]), int(within[-1] - within[0] + 1)
    evidence = np.full((n, len(NAMED_LEVELS)), -np.log(len(NAMED_LEVELS)))
    warm, line = np.full(n, 0.2), np.full((n, 2), np.nan)
    x, y = np.indices(mask.shape[:2])
    for i in range(n):
        weight = np.where(mask[..., first + i], body[..., first + i], 0.0)
        total = float(weight.sum())
        if total < 1.0:
            continue
        inside = mask[..., first + i]
        names = np.zeros_like(name_logits[..., first + i], order="C")
        names[:, inside] = log_softmax(name_logits[..., first + i][:, inside], axis=0)
        mean = (names * weight).reshape(len(NAMED_LEVELS), -1).sum(1) / total
        evidence[i] = np.maximum(mean, -6.0)
        warm[i] = heat[..., first + i][mask[..., first + i]].max()
        line[i] = (x * weight).sum() / total, (y * weight).sum() / total
    valid = np.flatnonzero(np.isfinite(line[:, 0]))
    line = np.stack([np.interp(np.arange(n), valid, line[valid, axis]) for axis in (0, 1)], 1)
    return _Column(first, evidence, warm, line)


def _lowest_is_last(sacrum: NDArray[np.floating], column: _Column, spacing: float, open_below: bool) -> float:
    """Return the probability that the sacrum is next below the column, from its visible volume."""
    volume_cm3 = float((sacrum > 0.5).sum()) * (spacing / 10) ** 3
    if volume_cm3 > 6.0:
        return 0.95
    return 0.15 if open_below else 0.6


def _locate(
    index: int,
    segments: Sequence[Segment],
    column: _Column,
    affine: NDArray[np.float64],
    spacing: float,
    cut: tuple[bool, bool],
) -> LocatedVertebra:
    """Convert a segment of the column to a vertebra in mm."""
    segment = segments[index]
    inner = segments[1:-1]
    usual = float(np.mean([(s.stop - s.first) * spacing / PITCH_MM[s.level] for s in inner])) if inner else 1.0
    # a vertebra at the end of the scan is complete if it has nearly the usual length
    whole = (segment.stop - segment.first) * spacing >= 0.88 * usual * PITCH_MM[segment.level]
    at_end = (cut[0] and index == 0) or (cut[1] and index == len(segments) - 1)
    low, high = column.first + segment.first - 0.5, column.first + segment.stop - 0.5

    def world(z: float) -> tuple[float, float, float]:
        p = affine[:3, :3] @ column.point(z) + affine[:3, 3]
        return float(p[0]), float(p[1]), float(p[2])

    names = sorted(segment.posterior.items(), key=lambda item: -item[1])
    others = [name for name, p in names if name is not segment.level and p > 1e-4]
    return LocatedVertebra(
        segment.level,
        segment.posterior.get(segment.level, 0.0),
        others[0] if others else None,
        world(0.5 * (low + high)),
        world(high),
        world(low),
        whole or not at_end,
    )
