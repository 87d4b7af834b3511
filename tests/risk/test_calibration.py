"""Calibration of network scores: fit, interval, cut-off, files."""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from osteo_monai.errors import UnusableInputError
from osteo_monai.risk import RiskCalibration, calibrate_risks, fit_risk, read_risk, write_risk

Rows = list[dict[str, Any]]


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        table.writeheader()
        table.writerows(rows)
    return file


def _people(n: int = 4000, seed: int = 0, intercept: float = -0.8, slope: float = 0.5) -> Rows:
    """Make predictions with shifted and doubled logits; the truth is drawn from the calibrated risk."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 2.0, n)
    truth = rng.random(n) < expit(intercept + slope * x)
    return [
        {
            "subject_id": f"p{i}",
            "model": "net",
            "cohort": "validation",
            "fold": i % 2,
            "osteoporosis": int(t),
            "probability_osteoporosis": f"{expit(a):.6f}",
            "virtual": 1,
        }
        for i, (a, t) in enumerate(zip(x, truth, strict=True))
    ]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> RiskCalibration:
    return fit_risk(_write(tmp_path_factory.mktemp("risk") / "predictions.csv", _people()))


def test_fit_recovers_the_calibration(fitted: RiskCalibration) -> None:
    assert fitted.intercept == pytest.approx(-0.8, abs=0.12)
    assert fitted.slope == pytest.approx(0.5, abs=0.06)
    assert (fitted.model, fitted.virtual, fitted.people, fitted.network_sd) == ("net", True, 4000, None)
    estimate = fitted.estimate(float(expit(2.0)))
    assert estimate.probability == pytest.approx(expit(-0.8 + 0.5 * 2.0), abs=0.03)


def test_interval_has_its_coverage(tmp_path: Path) -> None:
    covered = []
    for seed in range(120):
        fit = fit_risk(_write(tmp_path / "t.csv", _people(400, seed)))
        estimate = fit.estimate(float(expit(3.0)))
        assert estimate.low < estimate.probability < estimate.high
        covered.append(estimate.low <= expit(-0.8 + 1.5) <= estimate.high)
    assert 0.82 <= np.mean(covered) <= 0.97  # 90 % of 120, three standard errors


def test_the_order_of_the_table_changes_no_risk(tmp_path: Path) -> None:
    rows = [{**row, "image_id": f"i{n}"} for row in _people(150, 1) for n in range(2)]
    (tmp_path / "shuffled").mkdir()
    found = [fit_risk(_write(tmp_path / "a.csv", rows))]
    for seed in (1, 2):
        mixed = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
        found.append(fit_risk(_write(tmp_path / "shuffled" / "a.csv", mixed)))
    facts = [fit.model_dump(exclude={"source_sha256"}) for fit in found]
    assert facts[0] == facts[1] == facts[2]


def test_copies_of_images_change_no_risk(tmp_path: Path) -> None:
    people = _people(150, 1)
    once = fit_risk(_write(tmp_path / "once.csv", people))
    copies = [{**row, "image_id": f"i{n}"} for row in people for n in range(10)]
    copied = fit_risk(_write(tmp_path / "copied.csv", copies))
    assert (copied.people, copied.with_osteoporosis) == (150, once.with_osteoporosis)
    assert copied.prevalence == once.prevalence
    assert np.array(copied.covariance) == pytest.approx(np.array(once.covariance), rel=1e-6)
    assert copied.thresholds["sensitivity_90"] == pytest.approx(once.thresholds["sensitivity_90"], abs=1e-6)


def test_two_images_of_a_person_widen_the_interval_of_rows(tmp_path: Path) -> None:
    people = _people(300, 2)
    pairs = [{**row, "subject_id": f"p{i // 2}", "image_id": f"i{i}"} for i, row in enumerate(people)]
    found = fit_risk(_write(tmp_path / "pairs.csv", pairs))
    persons = {row["subject_id"] for row in pairs if row["osteoporosis"]}
    assert (found.people, found.with_osteoporosis) == (150, len(persons))


def test_interval_includes_the_spread_of_networks(fitted: RiskCalibration) -> None:
    p = 0.6
    single, spread = fitted.estimate(p, 0.0), fitted.estimate(p, 0.8)
    assert single.probability == spread.probability == fitted.estimate(p).probability
    half = math.sqrt(((logit(single.high) - logit(single.probability)) / 1.644854) ** 2 + (fitted.slope * 0.8) ** 2)
    assert logit(spread.high) == pytest.approx(logit(spread.probability) + 1.644854 * half, rel=1e-5)


def test_cut_off_has_90_percent_sensitivity(fitted: RiskCalibration) -> None:
    people = _people()
    risks = np.array([fitted.estimate(float(row["probability_osteoporosis"])).probability for row in people])
    positive = np.array([row["osteoporosis"] for row in people]) == 1
    raised = risks >= fitted.thresholds["sensitivity_90"] - 1e-6
    assert 0.9 <= raised[positive].mean() < 0.91
    assert raised[~positive].mean() < 0.75


def test_networks_are_compared_on_people_outside_of_all_folds(tmp_path: Path) -> None:
    people = _people(60)
    _write(tmp_path / "predictions.csv", people)
    tests = [{**row, "subject_id": f"t{i}", "cohort": "test", "fold": ""} for i, row in enumerate(people[:3])]
    for fold, step in enumerate((-0.3, 0.0, 0.3)):
        moved = [{**r, "probability_osteoporosis": float(expit(logit(0.4) + step))} for r in tests]
        _write(tmp_path / f"fold_{fold}" / "predictions.csv", [*people[fold::3], *moved])
    assert fit_risk(tmp_path).network_sd == pytest.approx(0.3, abs=1e-4)


def test_files_keep_all_values(fitted: RiskCalibration, tmp_path: Path) -> None:
    write_risk({"chest_frontal": fitted}, tmp_path / "risk.json")
    assert read_risk(tmp_path) == {"chest_frontal": fitted}
    table = _write(tmp_path / "p.csv", _people(300))
    written = calibrate_risks({"combined": table}, tmp_path / "models" / "risk.json", tmp_path / "calibrated")
    assert read_risk(tmp_path / "models") == written
    model = written["combined"]
    assert model.summary().startswith("300 people, ")
    with (tmp_path / "calibrated" / "combined.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row, before in zip(rows, _people(300), strict=True):
        risk = model.estimate(float(before["probability_osteoporosis"])).probability
        assert float(row.pop("probability_osteoporosis")) == pytest.approx(risk, abs=1e-6)
        assert row == {k: str(v) for k, v in before.items() if k != "probability_osteoporosis"}
    again = fit_risk(tmp_path / "calibrated" / "combined.csv")
    assert [again.intercept, again.slope] == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cohort": "test"}, "must have people of the cohort validation"),
        ({"osteoporosis": "maybe"}, "osteoporosis must be 0 or 1, got 'maybe'"),
        ({"osteoporosis": ""}, "missing in 40 of 40"),
        ({"probability_osteoporosis": "1.4"}, "between 0 and 1"),
        ({"subject_id": ""}, "subject_id is empty"),
        ({"probability_osteoporosis": "0.5"}, "all cases have the same prediction"),
        ({"osteoporosis": "1"}, "are positive"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    with pytest.raises(UnusableInputError, match=sentence):
        fit_risk(_write(tmp_path / "p.csv", [{**row, **change} for row in _people(40)]))


def test_reversed_scores_are_refused(tmp_path: Path) -> None:
    rows = [{**row, "osteoporosis": 1 - int(row["osteoporosis"])} for row in _people(400)]
    with pytest.raises(UnusableInputError, match="the slope of the calibration is -"):
        fit_risk(_write(tmp_path / "p.csv", rows))


def test_rows_without_a_prediction_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = _people(300)
    rows[7]["probability_osteoporosis"] = ""
    table = _write(tmp_path / "p.csv", rows)
    with caplog.at_level(logging.WARNING):
        fitted = calibrate_risks({"p": table}, tmp_path / "risk.json", tmp_path)["p"]
    assert fitted.people == 299
    assert "p.csv: 1 of 300 rows have no prediction" in caplog.text
    with table.open(encoding="utf-8") as lines:
        assert [row["probability_osteoporosis"] == "" for row in csv.DictReader(lines)].index(True) == 7


def test_a_calibration_cannot_be_changed(fitted: RiskCalibration) -> None:
    assert hash(fitted) == hash(fitted.model_copy(deep=True))
    with pytest.raises(TypeError, match="must not be changed"):
        fitted.thresholds["sensitivity_90"] = 0.1  # type: ignore[index]


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="missing beside the weights"):
        read_risk(tmp_path)
    (tmp_path / "risk.json").write_text('{"combined": {"model": "x"}}')
    with pytest.raises(UnusableInputError, match="damaged"):
        read_risk(tmp_path)
    table = _write(tmp_path / "p.csv", _people(100))
    with pytest.raises(UnusableInputError, match="there is no file"):
        calibrate_risks({"a": table, "b": tmp_path / "none.csv"}, tmp_path / "out.json", tmp_path / "tables")
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize(("p", "spread"), [(-0.1, None), (1.2, None), (float("nan"), None), (0.5, -1.0)])
def test_estimate_needs_a_probability(fitted: RiskCalibration, p: float, spread: float | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        fitted.estimate(p, spread)
