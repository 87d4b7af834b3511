"""From logits to named vertebrae, with columns built by hand: what is clear, what is confused, what is missing."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.level_naming import NAMED_LEVELS, SPINES, cut_column
from osteo_monai.transforms.vertebra_decoding import (
    BODY_CHANNEL,
    FIRST_NAME_CHANNEL,
    HEAT_CHANNEL,
    SACRUM_CHANNEL,
    DecodeVertebraed,
    LocatedVertebra,
    find_column,
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
    predicted: Mapping[VertebraLevel, VertebraLevel | None] | None = None,
    sureness: float = 6.0,
    missing: Sequence[VertebraLevel] = (),
    sacrum: bool = True,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shape: tuple[int, int, int] = SHAPE,
) -> tuple[MetaTensor, dict[VertebraLevel, np.ndarray]]:
    """Logits (16, X, Y, Z) of a column and the centres (mm) of its bodies, from the lowest up.

    Args:
        lowest_mm: height of the lowest centre above the first slice.
        predicted: name of a body according to the network (None: undecided); others are correct.
        sureness: logit of the predicted name over the others.
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
        name = (predicted or {}).get(level, level)
        if name is not None:
            logits[FIRST_NAME_CHANNEL + NAMED_LEVELS.index(name)][body] = sureness
    if sacrum:
        below = torch.as_tensor((abs(grid[0] - 58) < 30) & (grid[2] < lowest_mm - 20) & (grid[2] > lowest_mm - 60))
        logits[SACRUM_CHANNEL][below & torch.as_tensor((grid[1] > 30) & (grid[1] < 70))] = 7.0
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = origin
    return MetaTensor(logits, affine=torch.as_tensor(affine)), centres


def decode(logits: MetaTensor) -> tuple[list[LocatedVertebra], MetaTensor]:
    found, _, labels = DecodeVertebraed().decode(logits)
    return found, labels


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
        assert v.centre_mm == pytest.approx(centres[v.level], abs=4)
    for lower, upper in pairwise(found):
        assert lower.superior_mm == pytest.approx(upper.inferior_mm)
        between = 0.5 * (centres[lower.level] + centres[upper.level])
        assert lower.superior_mm == pytest.approx(between, abs=4)
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


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (-7.5, 3.0, -900.0)])
def test_the_centre_line_runs_through_the_bodies(origin: tuple[float, float, float]) -> None:
    """The discs of this column are empty: there the line is interpolated."""
    logits, _ = column(UPWARDS, origin=origin, sacrum=False)
    data = DecodeVertebraed(line_key="axis")({"pred": logits})
    line = data["axis"] - origin
    assert line.shape[1] == 3
    np.testing.assert_allclose(np.diff(line[:, 2]), SPACING)
    assert (line[0, 2], line[-1, 2]) == pytest.approx((50.0, 330.0), abs=SPACING)  # half a body beyond the last centres
    np.testing.assert_allclose(line[:, 0], 58.0, atol=1.0)
    np.testing.assert_allclose(line[:, 1], 60.0 + 0.05 * line[:, 2], atol=1.5)


def test_one_confused_body_is_corrected_by_the_others() -> None:
    found, _ = decode(column(UPWARDS, predicted={L.L2: L.L4})[0])
    assert names(found) == [str(level) for level in UPWARDS]
    assert min(v.certainty for v in found) > 0.95


def test_a_body_that_nobody_can_name_follows_from_its_neighbours() -> None:
    found, _ = decode(column(UPWARDS, predicted={L.L1: None, L.T12: None})[0])
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
    # T10, T9 and then 76 mm of what is T8 or above: three bodies that share a name
    evidence = np.full((32, 12), -6.0)
    for i, level in ((slice(0, 6), L.T10), (slice(6, 12), L.T9), (slice(12, 32), L.T8)):
        evidence[i, NAMED_LEVELS.index(level)] = -0.1
    segments = cut_column(
        evidence, np.full(32, 0.3), SPACING, heat_sd_mm=6.0, open_below=False, open_above=False, lowest_is_last=0.02
    )
    assert [str(s.level) for s in segments] in (["T10", "T9", "T8", "T8", "T8"], ["T10", "T9", "T8", "T8", "T8", "T8"])


# --- doubt ----------------------------------------------------------------------------------------------------------


def test_without_evidence_there_is_no_certainty() -> None:
    levels = UPWARDS[2:7]
    # the scan ends where the column does, so neither end gives a name
    logits, _ = column(levels, lowest_mm=12, predicted=dict.fromkeys(levels), sacrum=False, shape=(30, 28, 39))
    found, _ = decode(logits)
    assert len(found) in (5, 6)
    assert max(v.certainty for v in found if v.level is not L.T8) < 0.6
    assert all(v.runner_up not in (None, v.level) for v in found)


def test_a_sacrum_names_what_lies_above_it() -> None:
    levels = UPWARDS[:5]
    unsure = dict.fromkeys(levels)
    found, _ = decode(column(levels, predicted=unsure)[0])
    assert names(found) == [str(level) for level in levels]
    # how certain: what is known of transitional anatomy, no more
    assert 0.6 < min(v.certainty for v in found) < 0.97
    assert found[0].runner_up in (L.L4, L.L6)


def cut(evidence: np.ndarray, **keywords: float | bool) -> list[dict[VertebraLevel, float]]:
    settings: dict[str, Any] = {"open_below": True, "open_above": True, "lowest_is_last": 0.2, "trust": 0.35} | keywords
    segments = cut_column(evidence, np.full(len(evidence), 0.3), SPACING, heat_sd_mm=6.0, **settings)
    return [dict(s.posterior) for s in segments]


def test_two_equal_readings_share_the_certainty() -> None:
    """L3 to L1, or L2 to T12, as the slices have it: both are as likely."""
    evidence = np.full((26, 12), -6.0)
    for i, levels in enumerate(((L.L3, L.L2), (L.L2, L.L1), (L.L1, L.T12))):
        for level in levels:
            evidence[9 * i : 9 * i + 9, NAMED_LEVELS.index(level)] = -0.7
    middle = cut(evidence)[1]
    assert middle[L.L2] + middle[L.L1] > 0.95
    assert 0.25 < middle[L.L2] < 0.75


def test_posteriors_are_probabilities_and_trust_sharpens_them() -> None:
    rng = np.random.default_rng(0)
    evidence = np.log(rng.dirichlet(np.ones(12) * 0.5, 60) + 1e-3)
    softly, sharply = cut(evidence, trust=0.02), cut(evidence, trust=1.0)
    for body in (*softly, *sharply):
        assert sum(body.values()) == pytest.approx(1, abs=1e-4)
        assert min(body.values()) >= 0
    mean = [float(np.mean([max(body.values()) for body in bodies])) for bodies in (softly, sharply)]
    assert mean[0] < mean[1]


def test_lengths_decide_where_names_do_not() -> None:
    """Sixty slices of 4 mm without any evidence are seven or eight lumbar and thoracic bodies, not four or twenty."""
    assert 6 <= len(cut(np.zeros((60, 12)))) <= 9


def test_heat_says_where_the_bodies_are() -> None:
    n = 45
    centres = np.array([4, 12, 21, 30, 39])
    heat = np.exp(-0.5 * ((np.arange(n)[:, None] - centres) * SPACING / 6.0) ** 2).max(1)
    segments = cut_column(
        np.zeros((n, 12)), heat, SPACING, heat_sd_mm=6.0, open_below=False, open_above=False, lowest_is_last=0.9
    )
    assert [0.5 * (s.first + s.stop - 1) for s in segments] == pytest.approx(centres, abs=1)


def test_too_short_for_any_vertebra() -> None:
    assert cut(np.zeros((2, 12))) == []


def test_priors_of_spines_add_up_to_one() -> None:
    assert sum(prior for prior, _ in SPINES.values()) == pytest.approx(1)
    for _, order in SPINES.values():
        assert set(order) <= set(NAMED_LEVELS)
        assert list(order) == sorted(order, key=NAMED_LEVELS.index)


# --- what is missing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [L.L3, L.L1, L.T11])
def test_a_body_that_was_not_seen_does_not_shift_the_names(gone: VertebraLevel) -> None:
    """The bodies above and below keep their names; what was not seen may be missing or filled in by the count."""
    logits, centres = column(UPWARDS, missing=[gone])
    found, _ = decode(logits)
    for v in found:
        if v.level in centres:
            assert v.centre_mm[2] == pytest.approx(centres[v.level][2], abs=8)
    assert [v.level for v in found] == sorted((v.level for v in found), key=UPWARDS.index)


def test_one_body_alone() -> None:
    found, _ = decode(column((L.L3,), lowest_mm=150, sacrum=False)[0])
    assert names(found) == ["L3"]
    assert found[0].complete


def test_nothing_found() -> None:
    logits, _ = column((), sacrum=False)
    found, line, labels = DecodeVertebraed().decode(logits)
    assert found == []
    assert line.shape == (0, 3)
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


def test_the_column_is_the_tallest_thing_not_the_largest() -> None:
    body = np.zeros((40, 40, 40), np.float32)
    body[5:11, 5:11] = 0.9  # 6 cm2 over 16 cm
    body[15:39, 15:39, 3:12] = 0.9  # a block of 92 cm2 over 3.6 cm
    column_mask = find_column(body, 4.0)
    assert column_mask[7, 7].all()
    assert not column_mask[15:].any()


def test_discs_do_not_break_the_column() -> None:
    body = np.zeros((20, 20, 40), np.float32)
    for start in range(0, 40, 9):
        body[7:14, 7:14, start : start + 7] = 0.9
    assert find_column(body, 4.0).sum() == (body > 0).sum()


# --- as a transform -------------------------------------------------------------------------------------------------


def test_as_a_dictionary_transform() -> None:
    logits, _ = column(UPWARDS)
    data: dict[Hashable, Any] = {"pred": logits, "other": 1}
    result = DecodeVertebraed(vertebrae_key="found")(data)
    assert names(result["found"]) == [str(level) for level in UPWARDS]
    assert result["pred"].shape == (1, *SHAPE)
    assert result["other"] == 1
    assert data["pred"] is logits


@pytest.mark.parametrize("shape", [(15, 8, 8, 8), (1, 16, 8, 8, 8), (16, 8, 8)])
def test_wrong_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"prediction must be logits \(16, X, Y, Z\), got \("):
        decode(MetaTensor(torch.zeros(shape)))
