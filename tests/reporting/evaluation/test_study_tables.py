"""Tables of a study: subgroups by sex, age and centre, interactions, calibration curve, net benefit, precision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from scipy.special import expit

from osteo_monai.data import write_predictions
from osteo_monai.reporting.evaluation import EvaluationOptions, Missing, evaluate, write_evaluation
from osteo_monai.reporting.evaluation.figures import decision_figure, reliability_figure
from osteo_monai.reporting.evaluation.options import band_samples
from osteo_monai.statistics import (
    areas_differ,
    decision_curve,
    flexible_calibration,
    net_benefit_difference,
    ordinal_concordance,
    precision_recall,
    rates_differ,
)

TABLES = ("performance", "overall", "predictive", "calibration", "differences")


def people(n: int = 200, seed: int = 1, noise: float = 0.6) -> list[dict[str, Any]]:
    """Binary truth; the model does not work in men."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        x, man = rng.normal(), number % 3 == 0
        logit = (rng.normal() if man else x) * 1.5 + rng.normal(0, noise)
        rows.append(
            {
                "subject_id": f"p{number}",
                "osteoporosis": int(rng.random() < expit(2 * x - 0.5)),
                "probability_osteoporosis": round(float(expit(logit - 0.5)), 4),
                "sex": "M" if man else "F",
                "age": 45 + number % 45 if number % 10 else None,
                "centre": "AB"[number % 2],
            }
        )
    return rows


def evaluated(folder: Path, *tables: list[dict[str, Any]], **more: Any) -> Any:
    files = []
    for name, rows in zip(("first", "second"), tables, strict=False):
        files.append(folder / f"{name}.csv")
        write_predictions(files[-1], rows)
    return evaluate(EvaluationOptions(tuple(files), **{"resamples": 100, **more}))


def column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def row_of(found: Any, table: str, **wanted: Any) -> Mapping[str, Any]:
    (row,) = [r for r in found.tables[table].rows if all(r.get(k) == v for k, v in wanted.items())]
    row_: Mapping[str, Any] = row
    return row_


def test_sex_age_and_centre_are_factors_with_tests(tmp_path: Path) -> None:
    rows = people()
    found = evaluated(tmp_path, rows)
    names = [row["subgroup"] for row in found.tables["subgroups"].rows]
    assert {"sex F", "sex M", "centre A", "age below 50", "age 50 to 59", "age 80 or more", "age unknown"} <= set(names)
    women = [row for row in rows if row["sex"] == "F"]
    positive, called = column(women, "osteoporosis") == 1, column(women, "probability_osteoporosis") >= 0.5
    row = row_of(found, "subgroups", subgroup="sex F")
    assert row["sensitivity"].value == pytest.approx(called[positive].mean())
    assert row["specificity"].value == pytest.approx((~called[~positive]).mean())
    y, p, sex = column(rows, "osteoporosis"), column(rows, "probability_osteoporosis"), column(rows, "sex")
    area, rate = areas_differ(y, p, sex), rates_differ((p >= 0.5)[y == 1], sex[y == 1])
    assert area is not None
    assert rate is not None
    test = row_of(found, "interactions", factor="sex", measure="AUC")
    assert (test["chi2"], test["df"], test["p"]) == pytest.approx((area.chi2, 1, area.p))
    assert test["p"] < 0.05
    assert row_of(found, "interactions", factor="sex", measure="sensitivity")["p"] == pytest.approx(rate.p)
    bands = row_of(found, "interactions", factor="age", measure="specificity")["compared"]
    assert bands.startswith("below 50, 50 to 59, 60 to 69")


def test_a_factor_that_cannot_be_tested_has_a_reason(tmp_path: Path) -> None:
    rows = [row | {"centre": "AB"[number == 0], "sex": "F", "age": 60} for number, row in enumerate(people(60))]
    cells = [row["p"] for row in evaluated(tmp_path, rows).tables["interactions"].rows]
    assert len(cells) == 3
    assert all(isinstance(cell, Missing) and "fewer than two subgroups" in cell.reason for cell in cells)


def test_probabilities_have_a_curve_and_scores_a_precision(tmp_path: Path) -> None:
    rows = sorted(people(), key=lambda row: str(row["subject_id"]))  # the order of the draws
    found = evaluated(tmp_path, rows)
    y, p = column(rows, "osteoporosis"), column(rows, "probability_osteoporosis")
    curve = flexible_calibration(y, p, resamples=100, seed=1)
    assert not isinstance(curve, str)
    cell = row_of(found, "flexible")["ici"]
    assert (cell.value, cell.low, cell.high) == pytest.approx((curve.ici.value, curve.ici.low, curve.ici.high))
    wanted = precision_recall(y, p, resamples=100, seed=1).average
    assert row_of(found, "precision")["average_precision"] == wanted
    few = evaluated(tmp_path, rows[:12])
    assert isinstance(row_of(few, "flexible")["ici"], Missing)


def test_the_best_strategy_needs_both_intervals(tmp_path: Path) -> None:
    rows = [row for row in people(1200) if row["sex"] == "F"]
    found = evaluated(tmp_path, rows)
    verdicts = {row["threshold"]: row["verdict"] for row in found.tables["decision"].rows}
    assert verdicts[0.3] == verdicts[0.5] == "the model"
    never = [row | {"probability_osteoporosis": 0.001} for row in rows]  # acts on no one
    verdicts = {row["threshold"]: row["verdict"] for row in evaluated(tmp_path, never).tables["decision"].rows}
    assert verdicts[0.05] == "acting on all, not the model"
    assert "the model" not in verdicts.values()


def test_models_are_compared_by_net_benefit(tmp_path: Path) -> None:
    first, second = people(), people(noise=3.0)
    for a, b in zip(first, second, strict=True):
        b["osteoporosis"] = a["osteoporosis"]
    row = row_of(evaluated(tmp_path, first, second), "benefit")
    y = column(first, "osteoporosis")
    one, other = (column(rows, "probability_osteoporosis") for rows in (first, second))
    gap = decision_curve(y, one, [0.2]).net_benefit - decision_curve(y, other, [0.2]).net_benefit
    assert row["at_0.2"].value == pytest.approx(100 * gap[0])
    (wanted,) = net_benefit_difference(y, one, other, [0.2], resamples=100, seed=1)
    assert row["at_0.2"].low < row["at_0.2"].value < row["at_0.2"].high
    assert row["at_0.2"].high - row["at_0.2"].low == pytest.approx(100 * (wanted.high - wanted.low), rel=0.3)


def test_three_classes_have_an_ordinal_concordance(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    density = rng.normal(100, 30, 90).round(1)
    predicted = (density + rng.normal(0, 20, 90)).round(1)
    rows = [
        {"subject_id": f"p{i}", "bmd_mg_cm3": d, "predicted_bmd_mg_cm3": g}
        for i, (d, g) in enumerate(zip(density, predicted, strict=True))
    ]
    cell = row_of(evaluated(tmp_path, rows), "overall")["ordinal"]
    assert cell == ordinal_concordance(2 - np.digitize(density, [80, 120.0001]), -predicted)
    assert "ordinal" not in row_of(evaluated(tmp_path, people()), "overall")


def test_copies_of_images_change_no_interval_of_the_tables(tmp_path: Path) -> None:
    tables = people(60), people(60, noise=2.0)
    for a, b in zip(*tables, strict=True):
        b["osteoporosis"] = a["osteoporosis"]
    copies = [[row | {"image_id": f"i{k}"} for row in rows for k in range(10)] for rows in tables]
    once, copied = evaluated(tmp_path, *tables), evaluated(tmp_path, *copies)
    checked = 0
    for name in TABLES:
        for before, after in zip(once.tables[name].rows, copied.tables[name].rows, strict=True):
            for key, cell in before.items():
                if not hasattr(cell, "low"):
                    continue
                values = [[x.value, x.low, x.high] for x in (cell, after[key])]
                # areas have n / (n - 1) of subjects, kappa and F1 come from samples
                close = 0.06 if key in ("f1", "macro_f1", "kappa", "quadratic_kappa", "auc") else 1e-6
                assert values[1] == pytest.approx(values[0], abs=close), (name, key)
                checked += 1
    assert checked > 35
    p_values = [[row["p_sensitivity"], row["p_specificity"]] for row in once.tables["comparison"].rows]
    assert p_values == [
        pytest.approx([row["p_sensitivity"], row["p_specificity"]]) for row in copied.tables["comparison"].rows
    ]


def test_the_report_has_every_table_and_true_methods(tmp_path: Path) -> None:
    rows = people(80)
    external = [row | {"cohort": "external_x"} for row in rows]
    for name, table in (("once", external), ("twice", [r | {"image_id": k} for r in external for k in ("a", "b")])):
        write_predictions(tmp_path / f"{name}.csv", table)
        found = write_evaluation(EvaluationOptions((tmp_path / f"{name}.csv",), resamples=100), tmp_path / name)
        report = (tmp_path / name / "report.html").read_text()
        assert "recalibration" in found.tables
        for shown in found.tables.values():
            assert shown.caption.replace("'", "&#39;") in report, shown.name
        assert ("effective sample size of subjects" in report) == (name == "twice")
        assert ("by signs of the sums of subjects" in report) == (name == "twice")
        assert "Hosmer-Lemeshow test in 10 groups" in report
        for absent in ("Agreement of density", "Classes of density", "Ordinal concordance"):
            assert absent not in report


def test_subgroups_are_in_the_order_of_their_values(tmp_path: Path) -> None:
    rows = people()
    for number, row in enumerate(rows):
        row["kvp"] = (80, 100, 120)[number % 3]
        row["scanner"] = ("one", "two", "NA")[number % 3]
    found = evaluated(tmp_path, rows)
    names = [row["subgroup"] for row in found.tables["subgroups"].rows]
    ages = ["below 50", "50 to 59", "60 to 69", "70 to 79", "80 or more", "unknown"]
    assert [name for name in names if name.startswith("age")] == [f"age {band}" for band in ages]
    assert [name for name in names if name.startswith("kvp")] == ["kvp 80", "kvp 100", "kvp 120"]
    assert [name for name in names if name.startswith("scanner")] == ["scanner one", "scanner two", "scanner unknown"]
    compared = row_of(found, "interactions", factor="age", measure="specificity")["compared"]
    assert compared == ", ".join(ages[:-1])


def test_two_classes_have_one_kappa(tmp_path: Path) -> None:
    found = evaluated(tmp_path, people())
    assert "quadratic_kappa" not in found.tables["overall"].rows[0]


def test_a_constant_score_has_no_interval(tmp_path: Path) -> None:
    rows = [row | {"probability_osteoporosis": 0.3} for row in people()]
    area = evaluated(tmp_path, rows).tables["performance"].rows[0]["auc"]
    assert area.value == 0.5
    assert np.isnan(area.low)


def test_the_precision_figure_has_the_average_precision_of_the_table(tmp_path: Path) -> None:
    evaluated(tmp_path, people())
    found = write_evaluation(EvaluationOptions((tmp_path / "first.csv",), resamples=100), tmp_path / "out")
    shown = (tmp_path / "out" / "figures" / "precision_test.svg").read_text()
    value = row_of(found, "precision")["average_precision"].value
    assert f"AP {value:.3f} (" in shown
    assert "Precision (PPV)" in shown
    assert "Precision (PPV) against recall" in (tmp_path / "out" / "report.html").read_text()


def test_a_reliability_diagram_has_the_distribution_of_the_probabilities(tmp_path: Path) -> None:
    found = evaluated(tmp_path, people())
    predictions, name, calibration = found.calibrations[0]
    assert predictions.probabilities is not None
    chance = predictions.probabilities[:, predictions.classes.index(name)]
    figure = reliability_figure({name: [("m", calibration, None, chance)]}, ["m"])
    (steps,) = (patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    heights, edges, base = steps.get_data()
    counts = np.histogram(chance, 50, (0, 1))[0]
    assert edges[[0, -1]].tolist() == [0, 1]
    assert heights - base == pytest.approx(counts / counts.max() * (heights.max() - base))
    assert heights.max() < 0  # below the diagram


def test_bands_of_many_images_have_fewer_samples(tmp_path: Path) -> None:
    many = EvaluationOptions((tmp_path / "a.csv",))
    assert [band_samples(many, n) for n in (100, 50_000, 200_000, 1_000_000)] == [2000, 2000, 500, 200]
    assert band_samples(EvaluationOptions((tmp_path / "a.csv",), resamples=100), 10**6) == 100


@pytest.mark.parametrize(("share", "last"), [(0.2, 0.5), (0.7, 0.8)])
def test_the_decision_curve_ends_where_acting_is_no_choice(share: float, last: float) -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(300) < share
    curve = decision_curve(truth, np.clip(rng.random(300) + 0.2 * truth, 0, 1), resamples=20)
    axis = decision_figure({"model": curve}, ["model"]).axes[0]
    assert axis.get_xlim()[1] == pytest.approx(last)
