"""Measurement of a cohort: HU of L1 with published cut-offs, and density from HU by physics."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.cohort import measure_cohort, segment_cohort
from osteo_monai.data import FACTS, read_predictions
from osteo_monai.domain import BoneStatus, VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement import calibrate
from osteo_monai.screening.ct.opinions import PICKHARDT_2013

from ..screening.conftest import TRABECULAR_HU, MakeModels
from .conftest import read_csv, save

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def test_the_published_pair_makes_three_classes() -> None:
    status = {hu: PICKHARDT_2013.status(hu) for hu in (109.9, 110.0, 110.1, 160.0, 160.1)}
    assert [s.value for s in status.values()] == ["osteoporosis", "osteoporosis", "osteopenia", "osteopenia", "normal"]
    assert PICKHARDT_2013.scores(145.0) == {
        "score_normal": 145.0,
        "score_osteopenia": -10.0,
        "score_osteoporosis": -145.0,
    }
    assert "Pickhardt" in PICKHARDT_2013.source


def test_baseline_by_hu_and_by_line(tmp_path: Path, make_cohort: Callable[..., Path]) -> None:
    done = measure_cohort(make_cohort({}, {}), tmp_path / "out", source="label")
    assert list(done.rows.values()) == [2, 2]
    assert done.excluded == ()
    row = read_csv(tmp_path / "out" / "hu_l1_pickhardt.csv")[1]
    wanted = {
        "subject_id": "p1",
        "model": "L1 HU, Pickhardt 2013",
        "cohort": "test",
        "bone_status": "",
        "bmd_mg_cm3": "100.0",
        "age": "61.0",
        "sex": "F",
        "kvp": "120.0",
        "contrast_phase": "native",
        "acquisition": "slab",
    }
    assert {key: row[key] for key in wanted} == wanted
    assert float(row["hu_l1"]) == pytest.approx(TRABECULAR_HU[L1], abs=1.0)
    assert float(row["hu_l2"]) == pytest.approx(TRABECULAR_HU[L2], abs=1.0)
    assert float(row["score_osteoporosis"]) == -float(row["hu_l1"])
    assert row["predicted"] == PICKHARDT_2013.status(float(row["hu_l1"]))
    line = read_csv(tmp_path / "out" / "hu_line_bmd.csv")[1]
    slope = calibrate("physics", kvp=120.0).slope
    assert float(line["predicted_bmd_mg_cm3"]) == pytest.approx(
        slope * (TRABECULAR_HU[L1] + TRABECULAR_HU[L2]) / 2, abs=1.0
    )
    of_levels = [float(line[f"predicted_bmd_{level}_mg_cm3"]) for level in (L1, L2)]
    assert of_levels == pytest.approx([slope * TRABECULAR_HU[L1], slope * TRABECULAR_HU[L2]], abs=1.0)
    assert (line["calibration"], line["standard"]) == ("physics", "K2HPO4")
    assert float(line["predicted_bmd_lower"]) < float(line["predicted_bmd_mg_cm3"]) < float(line["predicted_bmd_upper"])


def test_a_record_may_be_missing_in_one_table_with_its_reason(
    tmp_path: Path, make_cohort: Callable[..., Path], truth_labels: NDArray[np.uint8]
) -> None:
    path = make_cohort({}, {"kvp": None}, {}, {"kvp": 70.0})
    base = path.parent
    save(np.where(truth_labels == L2.label, 0, truth_labels).astype(np.uint8), base / "p2" / "labels.nii.gz")
    (base / "p3" / "ct.json").write_text(json.dumps({"Modality": "CT", "KVP": 120}))
    done = measure_cohort(path, tmp_path / "out", source="label")
    assert list(done.rows.values()) == [4, 1]
    reasons = {(row["subject_id"], row["model"]): row["reason"] for row in read_csv(tmp_path / "out" / "excluded.csv")}
    assert reasons == {
        ("p1", "HU line"): "Tube voltage is missing from both manifest and file.",
        ("p2", "HU line"): "L2 is not in the label map.",
        ("p3", "HU line"): "Tube voltage of manifest and header must agree, got 70 kV and 120 kV.",
    }


def test_all_obstacles_to_measuring_are_listed_together(tmp_path: Path, make_cohort: Callable[..., Path]) -> None:
    path = make_cohort({}, {"bmd_standard": "hydroxyapatite"})
    with pytest.raises(UnusableInputError, match="2 records have no segmentation.*; 1 records have densities"):
        measure_cohort(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_measuring_the_segmentation_reads_that_map(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    done = segment_cohort(make_cohort(), tmp_path / "prepared.json", models=make_models())
    measured = measure_cohort(done.manifest, tmp_path / "out")
    assert list(measured.rows.values()) == [1, 1]
    row = read_csv(tmp_path / "out" / "hu_l1_pickhardt.csv")[0]
    assert float(row["hu_l1"]) == pytest.approx(TRABECULAR_HU[L1], abs=2.0)
    assert BoneStatus(row["predicted"])


def test_tables_have_the_facts_of_the_schema(tmp_path: Path, make_cohort: Callable[..., Path]) -> None:
    """B10: the tables of measurements had a list of columns of their own, without height, weight and centre."""
    facts: dict[str, object] = {"height_cm": 160.0, "weight_kg": 60.0, "t_score": -1.0, "centre": "A"}
    facts |= {"scanner": "CT 1", "acquired": "2024-05-01"}
    done = measure_cohort(make_cohort(facts, facts), tmp_path / "out", source="label")
    for predictions in read_predictions(list(done.rows)):
        known = {name: values[0] for name, values in predictions.facts.items()}
        assert set(facts) < set(known) <= set(FACTS)
        assert {name: known[name] for name in facts} == {name: str(value) for name, value in facts.items()}
