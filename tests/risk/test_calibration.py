"""What an answer means as a risk: calibrated on people out of fold, its interval, its cut-off, and the file of it."""

import csv
import math

import numpy as np
import pytest
from scipy.special import expit, logit

from osteo_monai.errors import UnusableInputError
from osteo_monai.risk.calibration import RiskCalibration, fit_risk, main, read_risk, write_risk


def _write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        table.writeheader()
        table.writerows(rows)
    return file


def _people(n=4000, seed=0, intercept=-0.8, slope=0.5):
    """Answers whose logits are twice too large and too high: the truth is drawn from the right risk."""
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
def fitted(tmp_path_factory):
    return fit_risk(_write(tmp_path_factory.mktemp("risk") / "predictions.csv", _people()))


def test_finds_the_calibration_that_the_people_were_drawn_with(fitted):
    assert fitted.intercept == pytest.approx(-0.8, abs=0.12)
    assert fitted.slope == pytest.approx(0.5, abs=0.06)
    assert (fitted.model, fitted.virtual, fitted.people, fitted.network_sd) == ("net", True, 4000, None)
    estimate = fitted.estimate(float(expit(2.0)))
    assert estimate.probability == pytest.approx(expit(-0.8 + 0.5 * 2.0), abs=0.03)


def test_interval_covers_the_true_risk_as_often_as_it_says(tmp_path):
    covered = []
    for seed in range(120):
        fit = fit_risk(_write(tmp_path / "t.csv", _people(400, seed)))
        estimate = fit.estimate(float(expit(3.0)))
        assert estimate.low < estimate.probability < estimate.high
        covered.append(estimate.low <= expit(-0.8 + 1.5) <= estimate.high)
    assert 0.82 <= np.mean(covered) <= 0.97  # 90 % of 120, three standard errors


def test_interval_widens_by_what_networks_differ(fitted):
    p = 0.6
    alone, spread = fitted.estimate(p, 0.0), fitted.estimate(p, 0.8)
    assert alone.probability == spread.probability == fitted.estimate(p).probability
    half = math.sqrt(((logit(alone.high) - logit(alone.probability)) / 1.644854) ** 2 + (fitted.slope * 0.8) ** 2)
    assert logit(spread.high) == pytest.approx(logit(spread.probability) + 1.644854 * half, rel=1e-5)


def test_cut_off_finds_nine_of_ten(fitted):
    people = _people()
    risks = np.array([fitted.estimate(float(row["probability_osteoporosis"])).probability for row in people])
    ill = np.array([row["osteoporosis"] for row in people]) == 1
    called = risks >= fitted.thresholds["sensitivity_90"] - 1e-6
    assert 0.9 <= called[ill].mean() < 0.91
    assert called[~ill].mean() < 0.75


def test_networks_of_a_folder_are_compared_on_people_that_none_saw(tmp_path):
    people = _people(60)
    _write(tmp_path / "predictions.csv", people)
    tests = [{**row, "subject_id": f"t{i}", "cohort": "test", "fold": ""} for i, row in enumerate(people[:3])]
    for fold, step in enumerate((-0.3, 0.0, 0.3)):
        moved = [{**r, "probability_osteoporosis": float(expit(logit(0.4) + step))} for r in tests]
        _write(tmp_path / f"fold_{fold}" / "predictions.csv", [*people[fold::3], *moved])
    assert fit_risk(tmp_path).network_sd == pytest.approx(0.3, abs=1e-4)


def test_file_keeps_every_figure(fitted, tmp_path, capsys):
    write_risk({"chest_frontal": fitted}, tmp_path / "risk.json")
    assert read_risk(tmp_path) == {"chest_frontal": fitted}
    table = _write(tmp_path / "p.csv", _people(300))
    main([str(tmp_path / "models" / "risk.json"), f"combined={table}", "--tables", str(tmp_path / "calibrated")])
    assert set(read_risk(tmp_path / "models")) == {"combined"}
    assert "300 people" in capsys.readouterr().out
    own = read_risk(tmp_path / "models")["combined"]
    with (tmp_path / "calibrated" / "combined.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row, before in zip(rows, _people(300), strict=True):
        risk = own.estimate(float(before["probability_osteoporosis"])).probability
        assert float(row.pop("probability_osteoporosis")) == pytest.approx(risk, abs=1e-6)
        assert row == {k: str(v) for k, v in before.items() if k != "probability_osteoporosis"}
    again = fit_risk(tmp_path / "calibrated" / "combined.csv")
    assert (again.intercept, again.slope) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cohort": "test"}, "it needs people of the cohort validation"),
        ({"osteoporosis": "yes"}, "osteoporosis \\(0 or 1\\)"),
        ({"probability_osteoporosis": "1.4"}, "between 0 and 1"),
        ({"subject_id": ""}, "must have a subject_id"),
        ({"probability_osteoporosis": "0.5"}, "every case has the same prediction"),
        ({"osteoporosis": "1"}, "are positive"),
    ],
)
def test_wrong_tables_are_refused_in_a_sentence(tmp_path, change, sentence):
    with pytest.raises(UnusableInputError, match=sentence):
        fit_risk(_write(tmp_path / "p.csv", [{**row, **change} for row in _people(40)]))


def test_answers_that_order_people_the_wrong_way_round_are_refused(tmp_path):
    rows = [{**row, "osteoporosis": 1 - int(row["osteoporosis"])} for row in _people(400)]
    with pytest.raises(UnusableInputError, match="the slope of the calibration is -"):
        fit_risk(_write(tmp_path / "p.csv", rows))


def test_missing_and_damaged_files_are_told(tmp_path, capsys):
    with pytest.raises(UnusableInputError, match="missing beside the weights"):
        read_risk(tmp_path)
    (tmp_path / "risk.json").write_text('{"combined": {"model": "x"}}')
    with pytest.raises(UnusableInputError, match="damaged"):
        read_risk(tmp_path)
    for sources in (["combined"], [f"combined={tmp_path / 'none.csv'}"]):
        with pytest.raises(SystemExit) as stop:
            main([str(tmp_path / "out.json"), *sources])
        assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("p", "spread"), [(-0.1, None), (1.2, None), (float("nan"), None), (0.5, -1.0)])
def test_no_risk_of_what_is_no_probability(fitted, p, spread):
    assert isinstance(fitted, RiskCalibration)
    with pytest.raises(ValueError, match="must be"):
        fitted.estimate(p, spread)
