"""Variants of the spine for the naming of vertebrae: levels in order, distances, ribs, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement.landmarks import ROLES, Role

L = VertebraLevel
NAMED_LEVELS: tuple[VertebraLevel, ...] = (
    L.T9, L.T10, L.T11, L.T12, L.T13, L.L1, L.L2, L.L3, L.L4, L.L5, L.L6, L.SACRUM,
)  # fmt: skip
"""Levels that can be named; higher bodies are 'above'."""

PITCH_MM: Mapping[tuple[str, str], tuple[float, float]] = {
    ("L6", "sacrum"): (32.0, 3.0), ("L5", "sacrum"): (32.0, 3.0), ("L4", "sacrum"): (33.0, 3.0),
    ("L5", "L6"): (36.6, 2.0), ("L4", "L5"): (36.3, 2.0), ("L3", "L4"): (36.5, 1.5), ("L2", "L3"): (35.8, 1.6),
    ("L1", "L2"): (34.5, 1.5), ("T12", "L1"): (32.3, 1.5), ("T12", "T13"): (32.0, 2.0), ("T13", "L1"): (34.0, 2.0),
    ("T11", "L1"): (29.7, 1.6), ("T11", "T12"): (29.7, 1.4), ("T10", "T11"): (27.4, 1.3), ("T9", "T10"): (25.4, 1.3),
    ("T8", "T9"): (24.0, 1.3), ("T7", "T8"): (23.3, 1.0), ("T6", "T7"): (22.6, 1.1), ("T5", "T6"): (22.1, 0.9),
    ("T4", "T5"): (21.6, 1.0), ("T3", "T4"): (21.0, 0.8), ("T2", "T3"): (21.0, 1.0), ("T1", "T2"): (21.0, 1.7),
    ("C7", "T1"): (20.1, 1.6), ("C6", "C7"): (17.9, 2.1), ("C5", "C6"): (16.9, 1.4), ("C4", "C5"): (17.2, 0.9),
    ("C3", "C4"): (17.8, 1.1), ("C2", "C3"): (24.7, 1.9),
}  # fmt: skip
"""Distance of neighbouring centres (upper, lower): mean and SD after removal of the patient's scale, mm.

Source: 1,245 patients of the VID vertebra identification data (Buergin et al.; numbers only), mean and column "one
scale per person removed". Pairs with T13 split the one gap of 63-70 mm between T12 and L1 in seven patients. Pairs with
the sacrum: detections 27-37 mm below the last lumbar body there; SD project custom."""

SPINES: Mapping[tuple[int, int], float] = {
    (12, 5): 0.895, (12, 6): 0.025, (12, 4): 0.02, (13, 5): 0.02, (11, 5): 0.01, (13, 4): 0.02, (11, 6): 0.01,
}  # fmt: skip
"""(pairs of ribs, lumbar bodies) and their expected frequencies.

Project custom: transitional lumbosacral anatomy is reported in 4-30 % of people, depending on the definition, 11 or 13
pairs of ribs in 1-8 %; the frequencies are of variants that change a name. Of 1,446 people with CT of the spine, L1 was
the 21st vertebra in 4.5 %, most of them with short ribs or ribs at one side at the 20th (Yun 2018, Korean J Radiol
19:1140): 4 % for thirteen pairs. Rarer combinations are left out."""

USUAL_RIBS = 12
_CERVICAL = tuple(f"C{n}" for n in range(7, 1, -1))
STATE_ROLES = (*ROLES, "sacrum", "above_supernumerary", "above_long_process")
"""Landmarks of a state: those of a body, of the sacrum, and of the body above a thirteenth rib or above a process that
resembles one."""
INSTEAD: Mapping[Role, Role] = {
    "first_ribbed": "ribbed", "cervical": "lumbar", "supernumerary": "last_ribbed", "long_process": "last_ribbed",
}  # fmt: skip
"""Role whose votes count where a body has none for this one."""
MIXED_ROLES = np.array(
    [
        [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0],  # sacrum
        [0.4, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # above_supernumerary
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # above_long_process
    ]
)
"""States of ``STATE_ROLES`` as sums of ``ROLES``. The twelfth of thirteen ribs may look like a usual last one. Where a
process is taken for a rib, the last rib either counts as such or as one of those above; each has the probability
``ribs_one_low``. Shares are project custom."""
MAX_STEP = 4
"""States from one detected body to the next: up to three bodies in a row may be missed."""


@dataclass(frozen=True)
class SpineTables:
    """All readings of a spine as arrays; V readings, M states, the lowest first.

    Attributes:
        prior: (V,) probability of each reading.
        counts: (ribs, lumbar bodies) of each reading.
        levels: names of the states of each reading.
        label: (V, M) index in ``NAMED_LEVELS``; one more for above, two more for no state.
        role: (V, M) index in ``STATE_ROLES``.
        pair: (MAX_STEP, V, M) row of ``mean`` and ``variance`` for the step from a state k + 1 states up; the last row
            is for a step that leaves the spine.
        mean, variance: (U,) mm and mm2 of each different step.
        first_ribbed: (V,) state of T1.
        pitch: (V, M) mm from each state down to the one below it; 0 for the lowest.
    """

    prior: NDArray[np.float64]
    counts: tuple[tuple[int, int], ...]
    levels: tuple[tuple[str, ...], ...]
    label: NDArray[np.intp]
    role: NDArray[np.intp]
    pair: NDArray[np.intp]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    first_ribbed: NDArray[np.intp]
    pitch: NDArray[np.float64]


@lru_cache(maxsize=8)
def spine_tables(ribs_one_high: float, ribs_one_low: float, first_one_high: float, first_one_low: float) -> SpineTables:
    """Return the readings: each variant of ``SPINES``, and the usual one with the last or the first rib traced one
    level off.
    """
    readings = [(prior, counts, (0, 0)) for counts, prior in SPINES.items()]
    offsets = {(1, 0): ribs_one_high, (-1, 0): ribs_one_low, (0, 1): first_one_high, (0, -1): first_one_low}
    readings += [(SPINES[(12, 5)] * share, (12, 5), offset) for offset, share in offsets.items()]
    chains = [_chain(*counts) for _, counts, _ in readings]
    m = max(len(chain) for chain in chains)
    steps: dict[tuple[float, float], int] = {}
    label = np.full((len(chains), m), len(NAMED_LEVELS) + 1)
    role = np.zeros_like(label)
    pair = np.full((MAX_STEP, len(chains), m), -1)
    pitch = np.zeros((len(chains), m))
    names = [str(level) for level in NAMED_LEVELS]
    for v, (chain, (_, count, offset)) in enumerate(zip(chains, readings, strict=True)):
        usual_steps = [PITCH_MM[(upper, lower)] for lower, upper in pairwise(chain)]
        pitch[v, 1 : len(chain)] = [mean for mean, _ in usual_steps]
        for s, name in enumerate(chain):
            label[v, s] = names.index(name) if name in names else len(names)
            role[v, s] = _role(s, count, offset)
            for k in range(1, min(MAX_STEP, len(chain) - 1 - s) + 1):
                part = usual_steps[s : s + k]
                key = (sum(mean for mean, _ in part), sum(sd**2 for _, sd in part))
                pair[k - 1, v, s] = steps.setdefault(key, len(steps))
    prior = np.array([weight for weight, _, _ in readings])
    mean, variance = np.array(list(steps)).T
    counts = tuple(c for _, c, _ in readings)
    first = np.array([ribs + lumbar for ribs, lumbar in counts])
    return SpineTables(prior / prior.sum(), counts, tuple(chains), label, role, pair, mean, variance, first, pitch)


def _chain(ribs: int, lumbar: int) -> tuple[str, ...]:
    """Return the levels of a spine from the sacrum up to C2."""
    thoracic = (f"T{n}" for n in range(ribs, 0, -1))
    return ("sacrum", *(f"L{n}" for n in range(lumbar, 0, -1)), *thoracic, *_CERVICAL)


def _role(state: int, counts: tuple[int, int], offset: tuple[int, int]) -> int:
    """Return the landmark at a state: an index in ``STATE_ROLES``.

    Args:
        state: 0 is the sacrum.
        counts: pairs of ribs and lumbar bodies.
        offset: number of levels that the tracer has the last and the first rib too high.
    """
    ribs, lumbar = counts
    last_rib, first_rib = lumbar + 1 + offset[0], lumbar + ribs + offset[1]
    names: dict[int, str] = {0: "sacrum", last_rib: "last_ribbed", first_rib: "first_ribbed"}
    below = "supernumerary" if ribs > USUAL_RIBS else "long_process" if offset[0] < 0 else None
    if below is not None:
        names |= {last_rib: below, last_rib + 1: f"above_{below}"}
    if state in names:
        return STATE_ROLES.index(names[state])
    if state < last_rib:
        return STATE_ROLES.index("last_lumbar" if state == 1 else "lumbar")
    return STATE_ROLES.index("ribbed" if state < first_rib else "cervical")


def counted(tables: SpineTables, weight: NDArray[np.float64], which: Literal[0, 1]) -> dict[int, float]:
    """Sum the weight (V,) of the readings by their count of ribs (0) or lumbar bodies (1)."""
    sums: dict[int, float] = {}
    for counts, w in zip(tables.counts, weight, strict=True):
        sums[counts[which]] = sums.get(counts[which], 0.0) + float(w)
    return dict(sorted(sums.items()))
