"""From logits to named vertebrae, with columns built by hand: what is clear, what is confused, what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.vertebra_decoding import (
    BODY_CHANNEL,
    FIRST_NAME_CHANNEL,
    HEAT_CHANNEL,
    NAMED_LEVELS,
    SACRUM_CHANNEL,
    SPINES,
    DecodeVertebraed,
    LocatedVertebra,
    find_bodies,
    longest_column,
    name_column,
)

L = VertebraLevel
SPACING = 4.0
SHAPE = (30, 28, 100)
UPWARDS = (L.L5, L.L4, L.L3, L.L2, L.L1, L.T12, L.T11, L.T10, L.T9)
STEP_MM = {L.L4: 37, L.L3: 37, L.L2: 36, L.L1: 34, L.T12: 31, L.T11: 29, L.T10: 27, L.T9: 26, L.L5: 37, L.T13: 32}
"""From the body below to this one; adult men."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def column(
    levels: Sequence[VertebraLevel],
    *,
    lowest_mm: float = 60.0,
    believed: Mapping[VertebraLevel, VertebraLevel | None] | None = None,
    sureness: float = 6.0,
    missing: Sequence[VertebraLevel] = (),
    sacrum: bool = True,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shape: tuple[int, int, int] = SHAPE,
) -> tuple[MetaTensor, dict[VertebraLevel, np.ndarray]]:
    """Logits (16, X, Y, Z) of a column and the centres (mm) of its bodies, from the lowest up.

    Args:
        lowest_mm: height of the lowest centre above the first slice.
        believed: what the network takes a body for (None: it cannot tell); others are named right.
        sureness: logit of the believed name over the others.
        missing: bodies that the network does not see.
    """
    logits = torch.zeros(16, *shape)
    logits[:FIRST_NAME_CHANNEL] = -7.0
    grid = np.stack(np.meshgrid(*(SPACING * np.arange(n) for n in shape), indexing="ij"))
    centres, height = {}, lowest_mm
    for i, level in enumerate(levels):
        height += STEP_MM[level] if i else 0
        centre = np.array([58.0, 60.0 + 0.05 * height, height])
        if level in missing:
            continue
        centres[level] = centre + origin
        offset = grid - centre[:, None, None, None]
        heat = torch.as_tensor(np.exp(-(offset**2).sum(0) / (2 * 6.0**2)))
        logits[HEAT_CHANNEL] = torch.maximum(logits[HEAT_CHANNEL], torch.logit(heat.clamp(1e-3, 0.98)).float())
        body = torch.as_tensor((np.hypot(offset[0] / 21, offset[1] / 16) < 1) & (abs(offset[2]) < 12.5))
        logits[BODY_CHANNEL][body] = 7.0
        name = (believed or {}).get(level, level)
        if name is not None:
            logits[FIRST_NAME_CHANNEL + NAMED_LEVELS.index(name)][body] = sureness
    if sacrum:
        below = torch.as_tensor((abs(grid[0] - 58) < 30) & (grid[2] < lowest_mm - 20) & (grid[2] > lowest_mm - 60))
        logits[SACRUM_CHANNEL][below & torch.as_tensor((grid[1] > 30) & (grid[1] < 70))] = 7.0
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = origin
    return MetaTensor(logits, affine=torch.as_tensor(affine)), centres


def decode(logits: MetaTensor) -> tuple[list[LocatedVertebra], MetaTensor]:
    return DecodeVertebraed().decode(logits)


def names(found: Sequence[LocatedVertebra]) -> list[str]:
    return [str(v.level) for v in found]


# --- whole columns --------------------------------------------------------------------------------------------------


def test_a_clear_column_is_found_named_and_placed() -> None:
    logits, centres = column(UPWARDS)
    found, labels = decode(logits)
    assert names(found) == [str(level) for level in UPWARDS]
    assert min(v.certainty for v in found) > 0.99
    assert all(v.complete for v in found)
    for v in found:
        assert v.centre_mm == pytest.approx(centres[v.level], abs=1.5)
    for lower, upper in pairwise(found):
        between = 0.5 * (np.array(lower.centre_mm) + upper.centre_mm)
        assert lower.superior_mm == pytest.approx(between)
        assert upper.inferior_mm == pytest.approx(between)
    # at the ends the missing half is as long as the other one
    assert np.array(found[-1].superior_mm) + found[-1].inferior_mm == pytest.approx(2 * np.array(found[-1].centre_mm))
    assert labels.shape == (1, *SHAPE)
    for level, centre in centres.items():
        assert labels[(0, *np.rint(centre / SPACING).astype(int))] == level.label
    assert set(labels.unique().tolist()) == {0, L.SACRUM.label, *(level.label for level in UPWARDS)}


@pytest.mark.parametrize("origin", [(100.0, -250.0, 1340.0), (-7.5, 3.0, -900.0)])
def test_positions_are_in_the_millimetres_of_the_scanner(origin: tuple[float, float, float]) -> None:
    found, labels = decode(column(UPWARDS, origin=origin)[0])
    plain, _ = decode(column(UPWARDS)[0])
    for there, here in zip(found, plain, strict=True):
        assert there.centre_mm == pytest.approx(np.array(here.centre_mm) + origin, abs=1e-3)
        assert there.superior_mm == pytest.approx(np.array(here.superior_mm) + origin, abs=1e-3)
        assert there.complete == here.complete
    assert np.asarray(labels.affine)[:3, 3] == pytest.approx(origin)


def test_one_confused_body_is_corrected_by_the_others() -> None:
    found, _ = decode(column(UPWARDS, believed={L.L2: L.L4})[0])
    assert names(found) == [str(level) for level in UPWARDS]
    assert min(v.certainty for v in found) > 0.95


def test_a_body_that_nobody_can_name_follows_from_its_neighbours() -> None:
    found, _ = decode(column(UPWARDS, believed={L.L1: None, L.T12: None})[0])
    assert names(found) == [str(level) for level in UPWARDS]
    assert min(v.certainty for v in found) > 0.95


def test_six_lumbar_bodies() -> None:
    levels = (L.L6, *UPWARDS[:8])
    found, _ = decode(column(levels)[0])
    assert names(found) == [str(level) for level in levels]
    assert min(v.certainty for v in found) > 0.99


def test_thirteen_ribbed_bodies() -> None:
    levels = (*UPWARDS[:5], L.T13, *UPWARDS[5:8])
    found, _ = decode(column(levels)[0])
    assert names(found) == [str(level) for level in levels]


def test_a_column_above_the_lumbar_spine_may_hold_what_has_no_name() -> None:
    levels = (L.T11, L.T10, L.T9, L.T9, L.T9)  # the last two are T8 and above
    logits, _ = column(levels[:3])
    found, _ = decode(logits)
    assert names(found) == ["T11", "T10", "T9"]
    evidence = np.full((5, 12), -6.0)
    for i, level in enumerate((L.T10, L.T9, L.T8, L.T8, L.T8)):
        evidence[i, NAMED_LEVELS.index(level)] = -0.1
    best, _ = name_column(evidence, [27.0, 26, 25, 25], 0.02)
    assert [str(level) for level in best] == ["T10", "T9", "T8", "T8", "T8"]


# --- doubt ----------------------------------------------------------------------------------------------------------


def test_without_evidence_there_is_no_certainty() -> None:
    levels = UPWARDS[2:7]
    found, _ = decode(column(levels, believed=dict.fromkeys(levels), sacrum=False)[0])
    assert len(found) == 5
    # five of the ten places that such a column can have lie so high that its top is T8 or above
    assert names(found)[-1] == "T8"
    assert max(v.certainty for v in found) < 0.6
    assert max(v.certainty for v in found if v.level is not L.T8) < 0.35
    assert all(v.runner_up not in (None, v.level) for v in found)


def test_a_sacrum_names_what_lies_above_it() -> None:
    levels = UPWARDS[:5]
    unsure = dict.fromkeys(levels)
    found, _ = decode(column(levels, believed=unsure)[0])
    assert names(found) == [str(level) for level in levels]
    # how certain: what is known of transitional anatomy, no more
    assert 0.75 < min(v.certainty for v in found) < 0.97
    assert found[0].runner_up in (L.L4, L.L6)


def test_two_equal_readings_share_the_certainty() -> None:
    """L5 to L1 as seen, or L4 to T12: half of the evidence for each."""
    levels = UPWARDS[:5]
    evidence = np.full((5, 12), -8.0)
    for i, level in enumerate(levels):
        evidence[i, NAMED_LEVELS.index(level)] = evidence[i, NAMED_LEVELS.index(UPWARDS[i + 1])] = -0.7
    _, posterior = name_column(evidence, [37.0, 37, 36, 34], 0.5)
    first = posterior[0]
    # the first reading is a lowest body in 86 % of spines, the second the lowest of a spine with four lumbar bodies
    # or the second lowest of a normal one
    assert first[L.L5] + first[L.L4] > 0.99
    assert 0.3 < first[L.L5] < 0.7


def test_posteriors_are_probabilities_and_temperature_softens_them() -> None:
    rng = np.random.default_rng(0)
    evidence = np.log(rng.dirichlet(np.ones(12) * 0.5, 6) + 1e-4)
    gaps = [36.0, 52, 35, 50, 30]
    sharp, soft = (name_column(evidence, gaps, 0.4, t)[1] for t in (1.0, 4.0))
    for body in (*sharp, *soft):
        assert sum(body.values()) == pytest.approx(1)
        assert min(body.values()) >= 0
    assert max(soft[0].values()) < max(sharp[0].values())


def test_priors_of_spines_add_up_to_one() -> None:
    assert sum(prior for prior, _ in SPINES.values()) == pytest.approx(1)
    for _, order in SPINES.values():
        assert set(order) <= set(NAMED_LEVELS)
        assert list(order) == sorted(order, key=NAMED_LEVELS.index)


# --- what is missing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [L.L3, L.L1, L.T11])
def test_a_body_that_was_not_seen_leaves_a_gap_in_the_names(gone: VertebraLevel) -> None:
    logits, centres = column(UPWARDS, missing=[gone])
    found, _ = decode(logits)
    assert names(found) == [str(level) for level in UPWARDS if level is not gone]
    assert min(v.certainty for v in found) > 0.98
    place = UPWARDS.index(gone)
    below, above = found[place - 1], found[place]
    # neither reaches into the body between them, whose middle is half-way
    gap = np.linalg.norm(centres[UPWARDS[place + 1]] - centres[UPWARDS[place - 1]])
    for v, end in ((below, below.superior_mm), (above, above.inferior_mm)):
        assert np.linalg.norm(np.array(end) - v.centre_mm) == pytest.approx(0.25 * gap, abs=1)


def test_two_bodies_that_were_not_seen() -> None:
    found, _ = decode(column(UPWARDS, missing=[L.T11, L.T10])[0])
    assert names(found) == ["L5", "L4", "L3", "L2", "L1", "T12"]  # T9 alone is not worth the jump
    evidence = np.full((6, 12), -8.0)
    for i, level in enumerate((L.L2, L.L1, L.T12, L.T9, L.T8, L.T8)):
        evidence[i, NAMED_LEVELS.index(level)] = -0.05
    best, _ = name_column(evidence, [36.0, 34.0, 79.0, 26.0, 25.0], 0.02)
    assert [str(level) for level in best] == ["L2", "L1", "T12", "T9", "T8", "T8"]


def test_doubtful_gaps_are_left_to_the_names() -> None:
    """A gap 1.6 times as wide as the others: with or without a body in it, as the evidence has it."""
    assert len(name_column(np.zeros((20, 12)), [30.0, 48.0] * 9 + [30.0], 0.5)[0]) == 20  # and in no time
    for levels in ((L.L4, L.L3, L.L2, L.L1), (L.L5, L.L4, L.L2, L.L1)):
        evidence = np.full((4, 12), -8.0)
        for i, level in enumerate(levels):
            evidence[i, NAMED_LEVELS.index(level)] = -0.05
        best, _ = name_column(evidence, [33.0, 53.0, 33.0], 0.02 if levels[0] is L.L4 else 0.98)
        assert tuple(best) == levels


def test_one_body_alone() -> None:
    found, _ = decode(column((L.L3,), lowest_mm=150, sacrum=False)[0])
    assert names(found) == ["L3"]
    assert found[0].complete
    assert np.linalg.norm(np.array(found[0].superior_mm) - found[0].inferior_mm) == pytest.approx(32)


def test_nothing_found() -> None:
    logits, _ = column((), sacrum=False)
    found, labels = decode(logits)
    assert found == []
    assert labels.shape == (1, *SHAPE)
    assert labels.max() == 0


@pytest.mark.parametrize(("lowest_mm", "complete"), [(4.0, False), (8.0, False), (24.0, True)])
def test_a_body_at_the_edge_is_not_complete(lowest_mm: float, complete: bool) -> None:
    found, _ = decode(column(UPWARDS[3:7], lowest_mm=lowest_mm, sacrum=False)[0])
    assert names(found) == ["L2", "L1", "T12", "T11"]
    assert found[0].complete is complete
    assert all(v.complete for v in found[1:])


def test_a_body_at_the_upper_edge_is_not_complete() -> None:
    # the top body's centre is 60 + 37 + 37 + 36 = 170 mm up; the highest slice at 176 mm
    found, _ = decode(column(UPWARDS[:4], shape=(30, 28, 45))[0])
    assert [v.complete for v in found] == [True, True, True, False]


# --- parts ----------------------------------------------------------------------------------------------------------


def test_bodies_are_peaks_and_weak_ones_near_strong_ones_are_none() -> None:
    grid = np.indices((20, 20, 40))
    heat = np.zeros((20, 20, 40))
    for z, strength in ((8, 0.9), (10, 0.7), (20, 0.5), (32, 0.2)):  # voxels of 4 mm: the second is too near
        at = np.array([10, 10, z])[:, None, None, None]
        heat = np.maximum(heat, strength * np.exp(-((grid - at) ** 2).sum(0) / (2 * 1.2**2)))
    assert find_bodies(heat, 4.0, 0.25, 12.0)[:, 2] == pytest.approx([8.5, 20], abs=0.7)
    assert find_bodies(heat, 4.0, 0.1, 12.0)[:, 2] == pytest.approx([8.5, 20, 32], abs=0.7)
    assert find_bodies(heat, 4.0, 0.6, 12.0)[:, 2] == pytest.approx([8.5], abs=0.7)
    assert find_bodies(np.zeros((9, 9, 9)), 4.0, 0.25, 12.0).shape == (0, 3)


def test_a_centre_is_found_between_voxels() -> None:
    grid = np.indices((20, 20, 20))
    centre = np.array([9.4, 10.7, 8.2])
    heat = np.exp(-((grid - centre[:, None, None, None]) ** 2).sum(0) / (2 * 1.5**2))
    assert find_bodies(heat, 4.0, 0.25, 12.0)[0] == pytest.approx(centre, abs=0.1)


def test_peaks_everywhere_do_not_cost_minutes() -> None:
    assert len(find_bodies(np.random.default_rng(0).random((40, 40, 60)), 4.0, 0.1, 12.0)) <= 100


def test_what_lies_beside_the_spine_is_left_out() -> None:
    spine = np.array([[10.0, 10, 5 + 8 * i] for i in range(5)])
    stray = np.array([[25.0, 10, 6], [10, 25, 14], [10, 10, 7]])
    centres = np.concatenate([spine, stray])
    order = np.argsort(centres[:, 2])
    weight = np.where(order < 5, 0.8, 0.5)
    chosen = longest_column(centres[order], 4.0, weight)
    assert centres[order][chosen] == pytest.approx(spine)
    assert longest_column(np.zeros((0, 3)), 4.0, np.zeros(0)) == []


def test_a_lone_body_far_off_is_not_worth_the_jump() -> None:
    centres = np.array([[0.0, 0, 0], [0, 0, 17], [0, 0, 25], [0, 0, 33]])  # 68 mm below the others
    assert longest_column(centres, 4.0, np.full(4, 0.9)) == [1, 2, 3]
    two = np.array([[0.0, 0, -8], *centres])
    assert longest_column(two, 4.0, np.full(5, 0.9)) == [0, 1, 2, 3, 4]


# --- as a transform -------------------------------------------------------------------------------------------------


def test_as_a_dictionary_transform() -> None:
    logits, _ = column(UPWARDS)
    data = {"pred": logits, "other": 1}
    result = DecodeVertebraed(vertebrae_key="found")(data)
    assert names(result["found"]) == [str(level) for level in UPWARDS]
    assert result["pred"].shape == (1, *SHAPE)
    assert result["other"] == 1
    assert data["pred"] is logits


@pytest.mark.parametrize("shape", [(15, 8, 8, 8), (1, 16, 8, 8, 8), (16, 8, 8)])
def test_wrong_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected logits of shape \(16, X, Y, Z\), got \("):
        decode(MetaTensor(torch.zeros(shape)))
