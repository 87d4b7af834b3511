"""Measurement of a cohort: HU of L1 with published cut-offs, and density from HU by physics."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.batch import LEDGER, read_ledger
from osteo_monai.cli.app import run
from osteo_monai.cohort import measure_cohort, segment_cohort
from osteo_monai.cohort.scans import measure_scans, read_scans, write_scans
from osteo_monai.data import FACTS, read_manifest, read_predictions
from osteo_monai.domain import BoneStatus, ContrastPhase, VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.measurement import calibrate
from osteo_monai.measurement.calibration import Scanner, SiteFile, fit_regression, regression_rows
from osteo_monai.measurement.region import REGION_RULE
from osteo_monai.screening import SiteCalibration
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


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def test_a_killed_command_is_resumed_with_the_tables_of_one_run(
    tmp_path: Path, make_cohort: Callable[..., Path], truth_labels: NDArray[np.uint8]
) -> None:
    path = make_cohort({"acquired": "2024-05-01"}, {}, {"kvp": None}, {}, {}, {})
    save(np.where(truth_labels == L1.label, 0, truth_labels).astype(np.uint8), path.parent / "p3" / "labels.nii.gz")
    words = ["measure", str(path), "--source", "label", "--workers", "2", "-o"]
    assert run([*words, str(tmp_path / "whole")]) == 0
    output = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "osteo_monai", *words, str(output)], stdout=subprocess.PIPE
    ) as process:
        until = time.monotonic() + 120
        while not (kept := measured(output)) and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    assert 0 < len(kept) < 6
    assert not tables(output)
    assert run([*words, str(output), "--resume"]) == 0
    assert tables(output) == tables(tmp_path / "whole")
    now = {entry.study: entry for entry in read_ledger(output / LEDGER).entries}
    assert [now[key].attempts for key in kept] == [1] * len(kept)
    assert [now[key].ended for key in kept] == list(kept.values())


def measured(folder: Path) -> dict[str, float | None]:
    """Return the time of each record that the ledger of a run has as finished."""
    try:
        entries = read_ledger(folder / LEDGER).entries
    except UnusableInputError:  # not begun
        return {}
    return {entry.study: entry.ended for entry in entries if entry.state not in ("pending", "running")}


def test_parts_have_tables_of_their_own_and_the_whole_run_joins_them(
    tmp_path: Path, make_cohort: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_cohort(*[{}] * 5)
    words = ["measure", str(path), "--source", "label", "-o"]
    assert run([*words, str(tmp_path / "whole")]) == 0
    for number in (1, 2):
        assert run([*words, str(tmp_path / "out"), "--part", f"{number}/2"]) == 0
    rows = [len(read_csv(tmp_path / "out" / f"part_{n}_of_2" / "hu_line_bmd.csv")) for n in (1, 2)]
    assert sum(rows) == 5
    assert run(["batch", "join", str(tmp_path / "out")]) == 2
    assert "got parts of 'measure': start it without --part and with --resume" in " ".join(
        capsys.readouterr().err.split()
    )
    before = [measured(tmp_path / "out" / f"part_{n}_of_2") for n in (1, 2)]
    assert run([*words, str(tmp_path / "out"), "--resume"]) == 0
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    assert measured(tmp_path / "out") == before[0] | before[1]
    assert run(["batch", "status", str(tmp_path / "out")]) == 0
    assert "5 of 5 studies" in capsys.readouterr().out


def test_options_of_runs_that_continue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("{}")
    assert run(["measure", str(path), "-o", str(tmp_path / "out"), "--resume", "--overwrite"]) == 2
    assert "--overwrite must not be given with --resume or --retry" in capsys.readouterr().err
    assert run(["measure", str(path), "-o", str(tmp_path / "out"), "--part", "3/2"]) == 2
    assert "--part must be a number and a count such as 3/20, got 3/2" in capsys.readouterr().err


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


def site_file(folder: Path, **changes: Any) -> Path:
    hu = np.linspace(50, 250, 30)
    facts: dict[str, Any] = {
        "program": "osteo-monai test",
        "fitted": date(2026, 2, 1),
        "scanner": Scanner(manufacturer="Philips", model="Brilliance 64"),
        "kvp": 120.0,
        "standard": "K2HPO4",
        "contrast": "native",
        "region": REGION_RULE,
        "method": "line",
        "regression": fit_regression(regression_rows(hu), 0.9 * hu - 5.0 + np.tile([2.0, -1.0, -1.0], 10)),
        "scans": 30,
        "subjects": 30,
        "density_range": (35.0, 195.0),
        "cross_validation": {"bias": 0.0},
    }
    path = folder / "site.json"
    path.write_text(SiteFile(**(facts | changes)).model_dump_json())
    return path


def test_a_site_calibration_gives_the_density(
    tmp_path: Path, make_cohort: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scanner = {"manufacturer": "Philips", "scanner": "Brilliance 64"}
    others: list[dict[str, Any]] = [{"contrast_phase": "portal_venous"}, {"scanner": "iCT"}, {"kvp": 100.0}]
    manifest = make_cohort({**scanner, "acquired": "2021-01-01"}, *({**scanner, **other} for other in others))
    words = ["measure", str(manifest), "-o", str(tmp_path / "out"), "--source", "label"]
    assert run([*words, "--calibration", f"site:{site_file(tmp_path)}"]) == 0
    assert "Warning: 1 records: The scan is 1857 days away" in capsys.readouterr().out
    (row,) = read_csv(tmp_path / "out" / "hu_line_bmd.csv")
    assert row["model"] == "HU line of the site"
    hu = (TRABECULAR_HU[L1] + TRABECULAR_HU[L2]) / 2
    assert float(row["predicted_bmd_mg_cm3"]) == pytest.approx(0.9 * hu - 5.0, abs=2.0)
    assert float(row["predicted_bmd_upper"]) - float(row["predicted_bmd_lower"]) < 10.0
    reasons = {row["subject_id"]: row["reason"] for row in read_csv(tmp_path / "out" / "excluded.csv")}
    assert "the scan is contrast-enhanced" in reasons["p1"]
    assert "the scan is of Philips iCT" in reasons["p2"]
    assert "the scan has 100 kVp" in reasons["p3"]


def test_an_internal_site_calibration_uses_the_tissues(tmp_path: Path, make_cohort: Callable[..., Path]) -> None:
    tissues = np.stack([np.full(30, -1000.0), np.linspace(40.0, 50.0, 30)], axis=1)
    rows = regression_rows(np.linspace(50, 250, 30), tissues)
    target = rows @ [-900.0, 40.0] + np.tile([2.0, -1.0, -1.0], 10)
    file = site_file(
        tmp_path, method="precalibrated", tissues=("air", "blood"), regression=fit_regression(rows, target)
    )
    manifest = make_cohort({"manufacturer": "Philips", "scanner": "Brilliance 64"})
    done = measure_cohort(manifest, tmp_path / "out", source="label", calibration=SiteCalibration(file))
    assert done.excluded == ()
    (row,) = read_csv(tmp_path / "out" / "hu_line_bmd.csv")
    hu = (TRABECULAR_HU[L1] + TRABECULAR_HU[L2]) / 2
    assert float(row["predicted_bmd_mg_cm3"]) == pytest.approx(-900 + 940 * (hu + 1000) / 1045, abs=4.0)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ("registry:philips-ict", "--calibration must be physics or site:FILE, got 'registry:philips-ict'"),
        ("site:none.json", "site calibration file 'none.json' cannot be read"),
    ],
)
def test_a_calibration_that_does_not_serve_a_cohort_is_refused(
    tmp_path: Path, make_cohort: Callable[..., Path], calibration: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["measure", str(make_cohort({})), "-o", str(tmp_path / "out"), "--source", "label"]
    assert run([*words, "--calibration", calibration]) == 2
    assert message in capsys.readouterr().err


def test_a_site_calibration_of_another_standard_is_refused(tmp_path: Path, make_cohort: Callable[..., Path]) -> None:
    file = site_file(tmp_path, standard="hydroxyapatite")
    with pytest.raises(ConfigError, match="must be in mg/cm3 K2HPO4, got mg/cm3 hydroxyapatite"):
        measure_cohort(make_cohort({}), tmp_path / "out", source="label", calibration=SiteCalibration(file))


def test_contrast_in_the_header_counts_where_the_aorta_was_not_found(
    tmp_path: Path, make_cohort: Callable[..., Path], phantom_hu: NDArray[np.float32]
) -> None:
    level = np.where(phantom_hu > 100, phantom_hu, np.minimum(phantom_hu, -100.0)).astype(np.float32)  # no vessel
    path = make_cohort({"contrast_phase": None}, {"contrast_phase": "unknown"}, {"contrast_phase": None}, hu=level)
    (path.parent / "p0" / "ct.json").write_text(json.dumps({"Modality": "CT", "ContrastBolusAgent": "IOMERON"}))
    scans, _ = measure_scans(read_manifest(path), path.parent, source="label")
    assert [s.aorta_hu for s in scans] == [None] * 3
    assert [s.enhanced for s in scans] == [True, False, False]
    assert [s.phase for s in scans] == [ContrastPhase.UNKNOWN, None, None]


def test_the_scans_of_a_manifest_are_measured_for_a_calibration(
    tmp_path: Path, make_cohort: Callable[..., Path]
) -> None:
    path = make_cohort(
        {"manufacturer": "Philips", "scanner": "iCT", "acquired": "2026-03-01"}, {"contrast_phase": None}, {}
    )
    (path.parent / "p2" / "labels.nii.gz").unlink()
    manifest = read_manifest(path, check_files=False)
    (first, second), reasons = measure_scans(manifest, path.parent, source="label")
    assert first.hu == pytest.approx((TRABECULAR_HU[L1] + TRABECULAR_HU[L2]) / 2, abs=1.0)
    assert (first.scanner.name, first.kvp, first.bmd_mg_cm3, first.acquired) == (
        "Philips iCT",
        120.0,
        100.0,
        date(2026, 3, 1),
    )
    assert first.tissues["air"] == pytest.approx(-1000, abs=2)
    assert first.tissues["adipose"] == pytest.approx(-100, abs=2)
    assert first.aorta_hu == pytest.approx(45, abs=2)
    assert second.phase is ContrastPhase.NATIVE  # by the aorta
    assert [image for image, _ in reasons] == ["p2/ct.nii.gz"]
    write_scans(tmp_path / "scans.csv", [first, second])
    assert [s.scanner for s in read_scans(tmp_path / "scans.csv")] == [first.scanner, second.scanner]
    assert read_scans(tmp_path / "scans.csv")[0].tissues == pytest.approx(first.tissues, abs=1e-3)
