"""From the column network's logits, made by hand, to bodies: centres, discs, what is cut, the axis, the roles."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from osteo_monai.networks import COLUMN_CHANNELS
from osteo_monai.transforms.column_decoding import (
    CHANNELS,
    CLOSEST_MM,
    DISC_MINIMUM,
    OFFSET,
    PEAK_MINIMUM,
    ROLE,
    DecodeColumnd,
    FoundBody,
    decode_column,
)

STEP = 2.5
SLICES = 72
CENTRES = (20.0, 52.5, 85.0, 117.5, 150.0)
"""mm above the first slice; the column is 177.5 mm long."""
DISCS = (36.25, 68.75, 101.25, 133.75)
HALF = 12.5
"""Half the height of a body in mm."""


def axis(slices: int = SLICES, step: float = STEP) -> NDArray[np.float64]:
    """Return (Z, 3) RAS+ mm of a window's centre: it leans to the right and forwards, from z = -700 mm on."""
    z = step * np.arange(slices)
    return np.column_stack([10.0 + 0.1 * z, -40.0 + 0.2 * z, -700.0 + z])


def column(
    centres: Sequence[float] = CENTRES,
    discs: Sequence[float] = DISCS,
    bodies: Sequence[float] | None = None,
    roles: Mapping[int, int] | None = None,
    slices: int = SLICES,
    probability: float = 0.95,
) -> NDArray[np.float64]:
    """Return logits (9, Z).

    Args:
        centres, discs: heights in mm where the network sees one.
        bodies: heights in mm of the bodies that it sees around; the centres by default.
        roles: number of a body to the role that it has (2, lumbar, by default).
        probability: at a centre and at a disc.
    """
    z = STEP * np.arange(slices)
    heat = np.zeros((3, slices))
    for row, places, sd in ((0, centres, 4.0), (1, discs, 3.0)):
        for at in places:
            heat[row] = np.maximum(heat[row], np.exp(-0.5 * ((z - at) / sd) ** 2))
    bodies = centres if bodies is None else bodies
    logits = np.zeros((CHANNELS, slices))
    for i, at in enumerate(bodies):
        inside = abs(z - at) <= HALF
        heat[2][inside] = 1.0
        logits[3 + (roles or {}).get(i, 2)][inside] = 4.0
    share = np.clip(heat * probability, 0.002, 0.998)
    logits[:3] = np.log(share / (1 - share))
    return logits


def heights(found: Sequence[FoundBody]) -> list[float]:
    return [b.centre_mm[2] + 700.0 for b in found]


def test_channels_are_those_of_the_network() -> None:
    assert [*COLUMN_CHANNELS] == ["centre", "disc", "body", "role", "offset"]
    assert sum(COLUMN_CHANNELS.values()) == CHANNELS
    assert (ROLE.stop - ROLE.start, OFFSET.stop - OFFSET.start) == (COLUMN_CHANNELS["role"], COLUMN_CHANNELS["offset"])
    assert sum([*COLUMN_CHANNELS.values()][:3]) == ROLE.start


def test_bodies_stand_where_the_centres_are_from_the_lowest_up() -> None:
    found = decode_column(column(), axis())
    np.testing.assert_allclose(heights(found), CENTRES, atol=0.2)
    for b in found:
        x, y, z = b.centre_mm
        assert (x, y) == pytest.approx((10.0 + 0.1 * (z + 700), -40.0 + 0.2 * (z + 700)))
        assert b.probability > 0.85
        assert b.complete


@pytest.mark.parametrize("shift", [0.0, 0.6, 1.25, 2.0])
def test_centres_lie_between_slices_where_they_do(shift: float) -> None:
    found = decode_column(column([c + shift for c in CENTRES], [d + shift for d in DISCS]), axis())
    # five slices hold only the middle of a peak: at half a slice their mean is 0.53 mm too near to the highest one
    np.testing.assert_allclose(heights(found), np.array(CENTRES) + shift, atol=0.6)


def test_neighbours_share_the_disc_that_is_seen() -> None:
    found = decode_column(column(), axis())
    for (lower, upper), disc in zip(pairwise(found), DISCS, strict=True):
        assert lower.superior_mm == upper.inferior_mm
        assert lower.superior_mm[2] + 700 == pytest.approx(disc, abs=0.3)
        assert lower.superior_seen == upper.inferior_seen > 0.8


def test_an_unseen_disc_is_put_half_way_and_said_to_be_inferred() -> None:
    found = decode_column(column(discs=DISCS[:1] + DISCS[2:]), axis())
    lower, upper = found[1], found[2]
    assert (lower.superior_seen, upper.inferior_seen) == (0.0, 0.0)
    assert lower.superior_mm[2] + 700 == pytest.approx(0.5 * (CENTRES[1] + CENTRES[2]), abs=0.3)
    assert found[0].superior_seen > 0.8


def test_a_disc_below_the_minimum_counts_as_unseen() -> None:
    logits = column(discs=())
    at = round(DISCS[1] / STEP)
    logits[1, at] = np.log(DISC_MINIMUM / (1 - DISC_MINIMUM)) - 0.05
    assert decode_column(logits, axis())[1].superior_seen == 0.0
    logits[1, at] += 0.1
    assert decode_column(logits, axis())[1].superior_seen == pytest.approx(DISC_MINIMUM, abs=0.01)


def test_a_disc_counts_where_it_lies_not_half_way() -> None:
    """A wedged body: the disc is 5 mm nearer to the lower of the two."""
    found = decode_column(column(discs=(DISCS[0], DISCS[1] - 5.0, *DISCS[2:])), axis())
    assert found[1].superior_mm[2] + 700 == pytest.approx(DISCS[1] - 5.0, abs=0.3)


def test_discs_beyond_the_outermost_bodies_are_found() -> None:
    found = decode_column(column(CENTRES[1:-1], DISCS), axis())
    assert (found[0].inferior_mm[2] + 700, found[-1].superior_mm[2] + 700) == pytest.approx(
        (DISCS[0], DISCS[3]), abs=0.3
    )
    assert min(found[0].inferior_seen, found[-1].superior_seen) > 0.8


@pytest.mark.parametrize("seen", [True, False])
def test_a_body_that_the_scan_cuts_is_incomplete(seen: bool) -> None:
    """The lowest centre lies 5 mm above the first slice, so that 7.5 mm of the body are not there."""
    down = CENTRES[0] - 5.0
    discs = [d - down for d in DISCS] if seen else []
    found = decode_column(column([c - down for c in CENTRES], discs), axis())
    assert [b.complete for b in found] == [False, True, True, True, True]
    assert found[0].inferior_seen == 0.0
    assert found[0].inferior_mm[2] + 700 >= -0.5 * STEP


def test_a_body_cut_at_the_top_is_incomplete() -> None:
    slices = round((CENTRES[-1] + 5.0) / STEP) + 1
    found = decode_column(column(slices=slices), axis(slices))
    assert [b.complete for b in found] == [True, True, True, True, False]
    assert found[-1].superior_seen == 0.0
    assert found[-1].superior_mm[2] <= axis(slices)[-1, 2] + 0.5 * STEP


def test_a_body_whose_end_plate_is_in_the_scan_is_complete() -> None:
    """20 mm below the lowest centre the scan ends; the body ends 7.5 mm before; the disc is cut."""
    found = decode_column(column(discs=DISCS), axis())
    assert found[0].complete
    assert found[0].inferior_seen == 0.0
    assert found[0].inferior_mm[2] + 700 >= -0.5 * STEP


def test_a_peak_in_the_outermost_slice_is_one() -> None:
    found = decode_column(column([0.0, *CENTRES[1:]]), axis())
    assert len(found) == 5
    assert heights(found)[0] == pytest.approx(0.0, abs=STEP)
    assert not found[0].complete


def test_nothing_is_found_below_the_minimum() -> None:
    assert decode_column(column((), ()), axis()) == []
    assert decode_column(column(probability=0.8 * PEAK_MINIMUM), axis()) == []
    assert len(decode_column(column(probability=1.1 * PEAK_MINIMUM), axis())) == 5


def test_of_two_peaks_too_close_the_higher_one_stays() -> None:
    near, far = 85.0 + CLOSEST_MM - 4.0, 85.0 + CLOSEST_MM + 3.0
    logits = column()
    logits[0, round(near / STEP)] = 0.0  # one half beside 0.95
    assert len(decode_column(logits, axis())) == 5
    logits = column()
    logits[0, round(far / STEP)] = 0.0
    assert len(decode_column(logits, axis())) == 6


def test_offsets_shift_the_axis() -> None:
    logits = column()
    logits[7], logits[8] = 0.4, -1.2  # in 10 mm
    plain, shifted = decode_column(column(), axis()), decode_column(logits, axis())
    for a, b in zip(plain, shifted, strict=True):
        for before, after in (
            (a.centre_mm, b.centre_mm),
            (a.superior_mm, b.superior_mm),
            (a.inferior_mm, b.inferior_mm),
        ):
            assert np.subtract(after, before) == pytest.approx([4.0, -12.0, 0.0])


def test_one_wild_offset_is_smoothed() -> None:
    logits = column()
    logits[7, round(CENTRES[2] / STEP)] = 3.0
    plain, shifted = decode_column(column(), axis()), decode_column(logits, axis())
    assert 0 < shifted[2].centre_mm[0] - plain[2].centre_mm[0] < 8.0  # of 30 mm


def test_roles_are_log_probabilities_of_the_body_s_own_slices() -> None:
    found = decode_column(column(roles={0: 3, 3: 1, 4: 0}), axis())
    assert [int(np.argmax(b.role)) for b in found] == [3, 2, 2, 1, 0]
    expected = log_softmax([4.0, 0.0, 0.0, 0.0])
    assert found[4].role == pytest.approx(tuple(expected))


@pytest.mark.parametrize("step", [2.0, 3.0])
def test_another_distance_of_slices(step: float) -> None:
    z = axis(SLICES, step)
    found = decode_column(column(), z)
    np.testing.assert_allclose([b.centre_mm[2] + 700 for b in found], np.array(CENTRES) * step / STEP, atol=0.3)


@pytest.mark.parametrize("shape", [(8, SLICES), (9, SLICES - 1), (9,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"logits must be \(9, {SLICES}\), got"):
        decode_column(np.zeros(shape), axis())


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_column_of_few_slices(slices: int) -> None:
    (only,) = decode_column(column([0.0], (), slices=slices), axis(slices))
    assert not only.complete
    assert -700.0 <= only.centre_mm[2] <= -700.0 + STEP * slices


def test_as_a_dictionary_transform() -> None:
    logits = torch.from_numpy(column()).float()
    data: dict[Hashable, Any] = {"pred": logits, "axis_mm": torch.from_numpy(axis()), "other": 1}
    result = DecodeColumnd(bodies_key="found")(data)
    assert len(result["found"]) == len(CENTRES)
    assert result["pred"].shape == (3, SLICES)
    np.testing.assert_allclose(result["pred"], expit(column()[:3]), atol=1e-6)
    assert result["other"] == 1
    assert data["pred"] is logits


def test_a_body_that_the_scan_cuts_follows_the_last_complete_one() -> None:
    """Its disc is seen and 10 mm of it, but it has no centre."""
    logits = column(CENTRES[1:4], DISCS, bodies=CENTRES[1:4])
    logits[2] = -6.0
    z = STEP * np.arange(SLICES)
    for at in (26.0, *CENTRES[1:4], 144.0):
        logits[2][abs(z - at) <= HALF - 3.0] = 4.0
    first, last = int(24.0 / STEP), int(146.0 / STEP)
    found = decode_column(logits[:, first : last + 1], axis()[first : last + 1])
    assert [b.complete for b in found] == [False, True, True, True, False]
    low, high = found[0], found[-1]
    assert low.superior_mm == found[1].inferior_mm
    assert low.inferior_seen == 0.0
    assert high.inferior_mm == found[3].superior_mm
    assert high.superior_seen == 0.0
    assert heights([low])[0] < DISCS[0]
    assert heights([high])[0] > DISCS[3]


def test_no_cut_body_where_the_scan_ends_in_a_disc() -> None:
    logits = column(CENTRES[1:4], DISCS, bodies=CENTRES[1:4])
    first, last = int(36.0 / STEP), int(134.0 / STEP)
    found = decode_column(logits[:, first : last + 1], axis()[first : last + 1])
    assert [b.complete for b in found] == [True, True, True]
