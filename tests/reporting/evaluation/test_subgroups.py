"""Subgroups of an evaluation by scanner and phase, and areas against DXA."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.data import write_predictions
from osteo_monai.reporting.evaluation import EvaluationOptions, Missing, evaluate, write_evaluation
from osteo_monai.statistics import auc

ERROR = {"A": 0.0, "B": 30.0}


def people(n: int = 120) -> list[dict[str, Any]]:
    """Scanner B reads 30 mg/cm3 too high; every second person has a T-score that follows the true density."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(n):
        true = float(rng.normal(100, 30))
        scanner = "AB"[number % 3 == 0]
        row = {"subject_id": f"p{number}", "bmd_mg_cm3": true, "scanner": scanner, "contrast_phase": "native"}
        row["predicted_bmd_mg_cm3"] = true + ERROR[scanner] + float(rng.normal(0, 3))
        row["t_score"] = round(-4.2 + 0.024 * true + float(rng.normal(0, 0.6)), 2) if number % 2 else None
        rows.append(row)
    return rows


def evaluated(folder: Path, rows: list[dict[str, Any]]) -> Any:
    write_predictions(folder / "model.csv", rows)
    return evaluate(EvaluationOptions((folder / "model.csv",), resamples=100))


def by_subgroup(found: Any, table: str) -> dict[str, Any]:
    return {row["subgroup"]: row for row in found.tables[table].rows}


def test_the_scanner_is_a_subgroup_of_density_and_classes(tmp_path: Path) -> None:
    rows = people()
    found = evaluated(tmp_path, rows)
    density = by_subgroup(found, "density")
    assert list(density) == ["all", "scanner A", "scanner B"]  # one phase only is no factor
    assert density["scanner A"]["bias"].value == pytest.approx(0, abs=1.5)
    assert density["scanner B"]["bias"].value == pytest.approx(30, abs=1.5)
    differences = [row["predicted_bmd_mg_cm3"] - row["bmd_mg_cm3"] for row in rows]
    assert density["all"]["sd"] == pytest.approx(np.std(differences, ddof=1), rel=1e-4)
    classes = by_subgroup(found, "subgroups")
    assert classes["scanner A"]["n"] + classes["scanner B"]["n"] == classes["all"]["n"] == 120
    limits = (80.0, 120.0)
    agree = [
        np.digitize(row["bmd_mg_cm3"], limits) == np.digitize(row["predicted_bmd_mg_cm3"], limits)
        for row in rows
        if row["scanner"] == "B"
    ]
    assert classes["scanner B"]["agreement"].value == pytest.approx(np.mean(agree))
    assert classes["scanner B"]["agreement"].value < classes["scanner A"]["agreement"].value - 0.2


def test_areas_against_dxa_are_those_of_rows_with_a_t_score(tmp_path: Path) -> None:
    rows = people()
    row = by_subgroup(evaluated(tmp_path, rows), "subgroups")["all"]
    known = [r for r in rows if r["t_score"] is not None]
    truth = np.array([r["t_score"] <= -2.5 for r in known])
    assert (row["with_t_score"], row["dxa_cases"]) == (60, int(truth.sum()))
    wanted = auc(truth, [-r["predicted_bmd_mg_cm3"] for r in known])
    assert (row["auc_dxa"].value, row["auc_dxa"].low) == pytest.approx((wanted.value, wanted.low))
    assert row["auc_reference_dxa"].value == pytest.approx(auc(truth, [-r["bmd_mg_cm3"] for r in known]).value)


def test_a_t_score_of_the_limit_is_osteoporosis(tmp_path: Path) -> None:
    rows = [row | {"t_score": -2.5 if n < 4 else -2.4} for n, row in enumerate(people(12))]
    assert by_subgroup(evaluated(tmp_path, rows), "subgroups")["all"]["dxa_cases"] == 4


def test_one_class_only_has_no_area_but_a_reason(tmp_path: Path) -> None:
    rows = [row | {"t_score": -1.0} for row in people(30)]
    cell = by_subgroup(evaluated(tmp_path, rows), "subgroups")["all"]["auc_dxa"]
    assert isinstance(cell, Missing)
    assert cell.reason == "all cases are of one class"


def test_without_factors_and_t_scores_there_is_no_table(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("scanner", "t_score")} for row in people(30)]
    assert "subgroups" not in evaluated(tmp_path, rows).tables


def test_the_report_shows_the_table(tmp_path: Path) -> None:
    write_predictions(tmp_path / "model.csv", people())
    write_evaluation(EvaluationOptions((tmp_path / "model.csv",), resamples=100), tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert '<h2 id="subgroups">' in report
    assert "scanner B" in report
    assert (tmp_path / "out" / "tables" / "subgroups.csv").is_file()
