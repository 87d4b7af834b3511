"""Outlines against labels of bodies and of whole vertebrae; bodies are found in whole vertebrae."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai import cli
from osteo_monai.cohort import measure_cohort, segment, segment_cohort
from osteo_monai.cohort.overlap import (
    DICE_BY_RECORD_FILE,
    SHARES_BY_RECORD_FILE,
    SHARES_FILE,
    bodies_of_vertebrae,
    outline_overlap,
)
from osteo_monai.cohort.records import ExcludedRecordError
from osteo_monai.data import read_manifest
from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging import read_label_map

from ..screening.conftest import LEVELS, SPACING, MakeModels, grid, inside_body, vertebra
from .conftest import read_csv

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def whole_vertebra(level: VertebraLevel) -> NDArray[np.bool_]:
    """Return a body with pedicles of 10 x 14 mm, a spinous process of 8 mm and transverse processes of 10 mm."""
    x, y, z = grid()
    above = z - vertebra(level).centre_mm[2]
    pedicles = (np.abs(np.abs(x) - 15.0) <= 5.0) & (y < 0) & (y > -35.0) & (np.abs(above - 5.0) <= 7.0)
    lamina = (np.abs(x) <= 20.0) & (np.abs(y + 36.0) <= 4.0) & (np.abs(above) <= 12.0)
    spinous = (np.abs(x) <= 4.0) & (y < -36.0) & (y > -60.0) & (np.abs(above + 4.0) <= 10.0)
    transverse = (np.abs(x) < 45.0) & (np.abs(x) > 15.0) & (np.abs(y + 30.0) <= 5.0) & (np.abs(above - 4.0) <= 5.0)
    return np.asarray(inside_body(level) | pedicles | lamina | spinous | transverse)


@pytest.fixture(scope="module")
def whole() -> NDArray[np.uint8]:
    labels = np.zeros(inside_body(L1).shape, np.uint8)
    for level in LEVELS:
        labels[whole_vertebra(level)] = level.label
    return labels


@pytest.fixture(scope="module")
def bodies() -> NDArray[np.uint8]:
    return np.asarray(np.sum([inside_body(n) * n.label for n in LEVELS], axis=0).astype(np.uint8))


def test_a_perfect_body_has_dice_against_a_body_and_a_share_against_a_vertebra(
    bodies: NDArray[np.uint8], whole: NDArray[np.uint8]
) -> None:
    for kind in ("body", None):
        same = outline_overlap(bodies, bodies, L1, kind)
        assert (same.dice, same.inside, same.in_other) == (1.0, None, None)
    perfect = outline_overlap(bodies, whole, L1, "vertebra")
    assert (perfect.dice, perfect.inside, perfect.in_other) == (None, 1.0, 0.0)
    dice = outline_overlap(bodies, whole, L1, "body").dice
    assert dice is not None
    assert dice < 0.85  # of a perfect body


def test_shares_add_up_to_what_is_in_a_vertebra(bodies: NDArray[np.uint8], whole: NDArray[np.uint8]) -> None:
    lower = np.roll(bodies, -8, axis=2)  # 16 of 36 mm: partly in its vertebra, in the disc, and in the one below
    found = outline_overlap(lower, whole, L1, "vertebra")
    outline = lower == L1.label
    assert found.inside == pytest.approx(np.mean(whole[outline] == L1.label))
    assert found.in_other == pytest.approx(np.mean(whole[outline] == L2.label))
    assert found.inside is not None
    assert found.in_other is not None
    assert 0.1 < found.in_other < found.inside < 0.7
    one_level_off = outline_overlap(np.roll(bodies, -18, axis=2), whole, L1, "vertebra")
    assert one_level_off.inside == 0.0
    assert one_level_off.in_other == pytest.approx(1.0)


def test_ribs_are_no_vertebra(bodies: NDArray[np.uint8]) -> None:
    found = outline_overlap(bodies, np.full_like(bodies, 50), L1, "vertebra")
    assert (found.inside, found.in_other) == (0.0, 0.0)


def test_an_empty_outline_is_excluded(bodies: NDArray[np.uint8]) -> None:
    with pytest.raises(ExcludedRecordError, match="L5 is not in the segmentation"):
        outline_overlap(bodies, bodies, VertebraLevel.L5, "body")


@pytest.mark.parametrize("stretch", [0.85, 1.0, 1.25])
def test_the_arch_is_removed(whole: NDArray[np.uint8], bodies: NDArray[np.uint8], stretch: float) -> None:
    found = bodies_of_vertebrae(whole, (stretch * SPACING,) * 3)
    for level in LEVELS:
        assert outline_overlap(found, bodies, level, "body").dice == pytest.approx(1.0, abs=0.08)
        moved = np.argwhere(found == level.label).mean(axis=0) - np.argwhere(bodies == level.label).mean(axis=0)
        assert np.linalg.norm(moved * SPACING * stretch) < 2.0


def test_bodies_of_a_real_scan(real_data: Path) -> None:
    """Whole vertebrae of one model against bodies of another; Dice of two runs of one model is 0.957."""
    folder = real_data / "ct_totalsegmentator_example" / "full"
    named, affine = read_label_map(folder / "totalseg.nii.gz")
    truth, _ = read_label_map(folder / "derived_body_mask_L1is1_L2is2.nii.gz")
    whole = np.zeros_like(named)
    for level, number in ((L1, 31), (L2, 30)):
        whole[named == number] = level.label
    found = bodies_of_vertebrae(whole, np.linalg.norm(affine[:3, :3], axis=0).tolist())
    for level, number in ((L1, 1), (L2, 2)):
        expected = np.where(truth == number, level.label, 0).astype(np.uint8)
        dice = outline_overlap(found, expected, level, "body").dice
        assert dice is not None
        assert dice > 0.93


# --- a cohort -----------------------------------------------------------------------------------------------------


def test_a_cohort_of_whole_vertebrae_is_segmented_at_the_same_places(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
    whole: NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(segment, "load_models", lambda device, opinions, trust: make_models())
    path = make_cohort({"label_kind": "vertebra", "kvp": None}, {"label_kind": "vertebra"}, labels=whole)
    new = tmp_path / "new" / "prepared.json"
    assert cli.run(["manifest", "segment", str(path), "--output", str(new)]) == 0
    assert "Share of L1 in its vertebra: 1.000 +- 0.000 (n = 2), in others: 0.000" in capsys.readouterr().out
    folder = new.parent / "segmentations"
    labels, _ = read_label_map(folder / "p0__ct.nii.gz")
    for level in (L1, L2):
        np.testing.assert_array_equal(labels == level.label, inside_body(level))
    assert [row["inside"] for row in read_csv(folder / SHARES_BY_RECORD_FILE)] == ["1.0000"] * 4
    assert read_csv(folder / DICE_BY_RECORD_FILE) == []
    row = next(r for r in read_csv(folder / SHARES_FILE) if (r["cohort"], r["level"]) == ("all", "all"))
    assert (row["bodies"], row["inside_minimum"], row["in_other_maximum"]) == ("4", "1.0000", "0.0000")
    assert read_manifest(new).splits["test"][0].label_kind == "vertebra"


def test_bodies_and_whole_vertebrae_in_one_cohort(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    done = segment_cohort(make_cohort({"label_kind": "body"}, {}), tmp_path / "new.json", models=make_models())
    assert done.dice[L1][2] == 2
    assert done.inside == done.in_other == {}
    assert not (done.folder / SHARES_FILE).exists()


@pytest.mark.parametrize("kind", ["vertebra", "body", None])
def test_a_whole_vertebra_is_not_measured(
    kind: str | None, tmp_path: Path, make_cohort: Callable[..., Path], whole: NDArray[np.uint8]
) -> None:
    changes: dict[str, Any] = {"label_kind": kind, "segmentation": "p0/labels.nii.gz"}
    labels = whole if kind == "vertebra" else None
    path = make_cohort(changes, labels=labels)
    done = measure_cohort(path, tmp_path / "out", source="label")
    assert len(done.excluded) == (2 if kind == "vertebra" else 0)
    if kind == "vertebra":
        assert "must be of bodies, got whole vertebrae" in done.excluded[0][4]
