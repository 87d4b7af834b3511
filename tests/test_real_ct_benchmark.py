"""The benchmark on real scans evaluates what it is given: verdicts, names, places, outlines."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai.domain import Finding, Severity, VertebraLevel
from osteo_monai.measurement.values import Density, HUStatistics
from osteo_monai.screening.result import LevelMeasurement, LocatedLevel, ScreeningResult

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "real_ct.py"
DENSITY = Density(mg_cm3=100.0, interval_low=80.0, interval_high=120.0, standard="K2HPO4")


@pytest.fixture(scope="module")
def real_ct() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_ct", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_ct"] = module
    spec.loader.exec_module(module)
    return module


def measured(level: str, z: float, hu: float = 100.0) -> LevelMeasurement:
    return LevelMeasurement(
        level=VertebraLevel(level), certainty=0.99, slice_index=1, instance_number=None, centre_mm=(0.0, 0.0, z),
        body_volume_cm3=30.0, height_mm=25.0, region_name="r", region_voxels=500, region_area_mm2=300.0,
        region_volume_cm3=5.0, hu=HUStatistics(mean=hu, median=hu, sd=1, p10=hu, p90=hu), density=DENSITY,
    )  # fmt: skip


def located(level: str, z: float) -> LocatedLevel:
    return LocatedLevel(level=VertebraLevel(level), certainty=0.99, runner_up=None, centre_mm=(0.0, 0.0, z))


def result(*codes: str, found: dict[str, float] | None = None, levels: dict[str, float] | None = None) -> Any:
    """Return a result: refused with the given codes, else measured."""
    findings = tuple(Finding(code=c, severity=Severity.REFUSAL, message=f"{c} at L1.") for c in codes)
    return ScreeningResult(
        study="s",
        verdict="refused" if codes else "accepted",
        findings=findings,
        levels_found=tuple(located(*item) for item in (found or levels or {}).items()),
        levels=tuple(measured(*item) for item in (levels or {}).items()),
    )


TRUE_Z = {"T12": 30.0, "L1": 0.0, "L2": -33.0}


def truth(real_ct: ModuleType, *expect: str, **more: Any) -> Any:
    levels = {name: real_ct.TrueLevel(z, hu_median=90.0) for name, z in TRUE_Z.items()}
    return real_ct.Truth(expect or ("measured",), levels, **more)


def evaluate_result(real_ct: ModuleType, outcome: Any, known: Any, labels: Path = Path("absent.nii.gz")) -> Any:
    return real_ct.evaluate_result("s", outcome, known, labels, 1.0)


@pytest.mark.parametrize(
    ("said", "allowed", "fits"),
    [
        ("measured", "measured", True),
        ("measured:L1 only", "measured", False),
        ("measured:L2 only", "measured", True),
        ("measured:L1 only", "measured:L1 only", True),
        ("refused:contrast_enhanced", "refused:contrast", True),
        ("refused:level_cut", "refused:levels_not_covered", True),
        ("refused:pitch_off_range", "refused:level_uncertain", True),
        ("refused:metal", "refused:contrast", False),
        ("refused:measured", "measured", False),
        ("unusable", "refused:not_ct", False),
    ],
)
def test_expected_words_stand_for_codes(real_ct: ModuleType, said: str, allowed: str, fits: bool) -> None:
    assert real_ct.matches(said, allowed) is fits


def test_a_right_study_is_told_as_right(real_ct: ModuleType) -> None:
    row = evaluate_result(
        real_ct, result(found={"T12": 31.0, "L1": 2.0, "L2": -30.0}, levels={"L1": 2.0, "L2": -30.0}), truth(real_ct)
    )
    assert row.verdict == "measured"
    assert row.met == "yes"
    assert row.centre_errors_mm == {"T12": 1.0, "L1": 2.0, "L2": 3.0}
    assert (row.names_right, row.names_wrong, row.wrong_measured, row.not_found) == (3, (), (), ())
    assert row.hu_difference == {"L1": 10.0, "L2": 10.0}


def test_a_measured_wrong_level_is_never_as_expected(real_ct: ModuleType) -> None:
    row = evaluate_result(real_ct, result(levels={"L1": -31.0, "L2": -66.0}), truth(real_ct))
    assert row.verdict == "measured"
    assert row.met == "no"
    assert row.wrong_measured == ("L1 is L2", "L2 is nothing named")
    assert row.names_wrong == ("L2 called L1",)
    assert set(row.not_found) == {"T12", "L1"}
    assert real_ct.sums([row])["wrong_level_measured"] == 1


def test_the_first_refusal_counts(real_ct: ModuleType) -> None:
    known = truth(real_ct, "refused:contrast")
    assert evaluate_result(real_ct, result("contrast_strong", "metal"), known).met == "yes"
    late = evaluate_result(real_ct, result("metal", "contrast_strong"), known)
    assert (late.met, late.verdict) == ("late", "refused:metal")
    assert evaluate_result(real_ct, result("metal"), known).met == "no"


def test_damage_that_is_not_there_is_counted(real_ct: ModuleType) -> None:
    outcome = result("metal", "level_cut", "levels_not_covered")
    assert evaluate_result(real_ct, outcome, truth(real_ct)).false_codes == ("metal L1", "level_cut L1")
    with_metal = truth(real_ct, true_findings=frozenset({"metal"}))
    assert evaluate_result(real_ct, outcome, with_metal).false_codes == ("level_cut L1",)
    cut = real_ct.Truth(("measured",), {"L1": real_ct.TrueLevel(0.0, whole=False)})
    assert evaluate_result(real_ct, outcome, cut).false_codes == ("metal L1",)


def test_outlines_are_looked_up_in_masks_on_another_grid(real_ct: ModuleType, tmp_path: Path) -> None:
    written = np.zeros((20, 20, 30), np.uint8)
    written[5:15, 5:15, 10:20] = VertebraLevel.L1.label
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(written, affine), tmp_path / "labels.nii.gz")
    mask = np.zeros((40, 40, 30), np.int16)
    mask[..., 12:30] = 31  # L1 from z index 12 up, L2 below it down to 11, then nothing
    mask[..., 11] = 30
    there = np.diag([-1.0, 1.0, 3.0, 1.0])
    there[0, 3] = 39.0
    known = real_ct.Mask(mask, there, real_ct.mask_names("whole vertebrae; 30 L2, 31 L1"))
    outline = real_ct.outlines(tmp_path / "labels.nii.gz", known)["L1"]
    assert outline == real_ct.Outline(volume_cm3=12.0, own=0.8, other=0.1)


def test_names_follow_from_masks_where_there_is_nothing_else(real_ct: ModuleType) -> None:
    mask = np.zeros((10, 10, 90), np.int16)
    mask[..., :30], mask[..., 30:60] = 21, 20
    affine = np.eye(4)
    affine[:3, 3] = -5.0, -5.0, 0.0
    known = real_ct.Truth(("measured",), {}, mask=real_ct.Mask(mask, affine, real_ct.mask_names("expert.nii")))
    row = evaluate_result(real_ct, result(levels={"L2": 15.0, "L1": 45.0}), known)
    assert (row.names_right, row.names_wrong, row.met) == (2, (), "yes")
    row = evaluate_result(real_ct, result(levels={"L1": 15.0, "T12": 45.0}), known)
    assert row.wrong_measured == ("L1 is L2", "T12 is L1")
    assert row.met == "no"


def test_overlap_of_bodies_over_the_middle_third(real_ct: ModuleType) -> None:
    truth_mask, labels = np.zeros((6, 6, 24), int), np.zeros((6, 6, 24), int)
    truth_mask[1:5, 1:5, 12:22], truth_mask[1:5, 1:5, 0:10] = 1, 2
    labels[1:5, 1:5, 12:19], labels[1:5, 1:5, 0:10] = 20, 21
    overlap = real_ct.body_overlap(labels, truth_mask, np.eye(4))
    assert overlap["L2"] == {"whole": 1.0, "middle_third": 1.0}
    assert overlap["L1"] == {"whole": round(14 / 17, 3), "middle_third": 1.0}


def test_table_and_sums(real_ct: ModuleType) -> None:
    measured = result(found={"T12": 31.0, "L1": 9.0}, levels={"L1": 9.0})
    rows = [
        evaluate_result(real_ct, measured, truth(real_ct, "measured:L1 only")),
        evaluate_result(real_ct, result("metal"), truth(real_ct)),
    ]
    total = real_ct.sums(rows)
    assert (total["scans"], total["expectation_met"], total["measured"]) == (2, 1, 1)
    assert (total["centres_within_5_mm"], total["centres_judged"]) == (1, 3)
    assert total["centre_error_worst_mm"] == 9.0
    assert total["false_codes"] == 1
    table = real_ct.markdown(rows).splitlines()
    assert len(table) == 4
    assert {line.count("|") for line in table} == {len(real_ct.COLUMNS) + 1}
    assert "measured:L1 only" in table[2]


def test_truth_and_paths_are_read(real_ct: ModuleType, tmp_path: Path) -> None:
    entry = {"expect": ["measured"], "levels": {"L1": {"z_mm": 3, "whole": False, "hu_median": 80}}}
    known = real_ct.read_truth(entry, tmp_path)
    assert known.levels["L1"] == real_ct.TrueLevel(3.0, False, 80)
    assert known.mask is None
    (tmp_path / "scan").mkdir()
    assert real_ct.scan_path(tmp_path / "scan") == tmp_path / "scan"
    (tmp_path / "scan" / "ct.nii.gz").touch()
    assert real_ct.scan_path(tmp_path / "scan") == tmp_path / "scan" / "ct.nii.gz"


def test_runs_on_a_real_scan(
    real_ct: ModuleType, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.json"
    code = real_ct.main([str(real_data / "ct_real_dev"), "--only", "petct_chest_5mm", "--output", str(output)])
    report = json.loads(output.read_text())
    assert code == 0
    (row,) = report["scans"]
    assert row["verdict"] == "refused:levels_not_covered"
    assert report["sums"]["expectation_met"] == 1
    assert "petct_chest_5mm" in capsys.readouterr().out
