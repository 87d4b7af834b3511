"""From predictions to tables and report: Pan's six matrices, what is missing and why, comparisons, the verb."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai import cli
from osteo_monai.data.predictions_schema import STATUS_CLASSES
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evaluation import (
    EvaluationOptions,
    Missing,
    ResultTable,
    evaluate,
    evaluation_facts,
    write_evaluation,
)
from osteo_monai.reporting.evaluation.results import Column
from osteo_monai.statistics.proportions import Interval

ORACLE = Path(__file__).parents[2] / "statistics" / "oracle"
PAN = json.loads((ORACLE / "pan2024.json").read_text())["models"]
ASAH = json.loads((ORACLE / "delong_asah.json").read_text())

MISPRINTS = {
    # (model, cohort, class, rate): what the paper prints and what its own counts give
    ("model1", "training", "normal", "specificity"): (0.972, 0.973),  # 214/220
    ("model1", "validation", "osteopenia", "npv"): (0.242, 0.925),  # 62/67
    ("model2", "training", "normal", "accuracy"): (0.969, 0.970),  # 514/530
    ("model2", "training", "osteopenia", "accuracy"): (0.967, 0.966),  # 512/530
}
RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


def options(*paths: Path, **more: Any) -> EvaluationOptions:
    return EvaluationOptions(tuple(paths), **{"resamples": 100, **more})


def rows_of(evaluation: Any, table: str, **wanted: Any) -> list[Mapping[str, Any]]:
    rows = evaluation.tables[table].rows
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pan's matrices as one row per subject, with the class that each model gave and no score."""
    path = tmp_path_factory.mktemp("pan") / "pan2024.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_id", "model", "cohort", "bone_status", "predicted"])
        for model, cohorts in PAN.items():
            for cohort, held in cohorts.items():
                number = 0
                for true, counts in zip(STATUS_CLASSES, held["confusion"], strict=True):
                    for called, count in zip(STATUS_CLASSES, counts, strict=True):
                        for _ in range(count):
                            number += 1
                            writer.writerow([f"{cohort}{number}", model, cohort, true, called])
    return path


def test_every_printed_rate_of_pan_follows(pan: Any) -> None:
    found = evaluate(options(pan))
    checked, wrong = 0, {}
    for model, cohorts in PAN.items():
        for cohort, held in cohorts.items():
            for name, printed in held["printed"].items():
                (row,) = rows_of(found, "performance", model=model, cohort=cohort, **{"class": name})
                for rate in RATES:
                    checked += 1
                    if abs(row[rate].value - printed[rate]) > 0.0005 + 1e-9:
                        wrong[model, cohort, name, rate] = (printed[rate], round(row[rate].value, 3))
    assert checked == 90
    assert wrong == MISPRINTS


def test_pan_has_no_scores_so_there_are_no_areas(pan: Any) -> None:
    found = evaluate(options(pan, baseline="model2"))
    cells = [row["auc"] for row in rows_of(found, "performance")]
    assert all(isinstance(cell, Missing) and "no score" in cell.reason for cell in cells)
    assert all(isinstance(row["auc_first"], Missing) for row in rows_of(found, "comparison"))
    assert any("not comparable (model1 and model2 have no score for it)" in said for said in found.verdicts)
    assert "calibration" not in found.tables
    assert "density" not in found.tables
    (accuracy,) = (row["accuracy"] for row in rows_of(found, "overall", model="model1", cohort="test"))
    assert accuracy.value == pytest.approx(373 / 418)  # (242 + 83 + 48) / 418, never printed in the paper
    exact = evaluate(options(pan, interval="exact"))
    (row,) = rows_of(exact, "performance", model="model1", cohort="test", **{"class": "normal"})
    assert (row["sensitivity"].low, row["sensitivity"].high) == pytest.approx((0.9330266, 0.9834754), abs=1e-7)


def asah_file(folder: Path, marker: str) -> Path:
    """The aSAH data as a binary problem: poor outcome in the place of osteoporosis."""
    path = folder / f"{marker}.csv"
    lines = [f"{i},{y},{s}" for i, (y, s) in enumerate(zip(ASAH["y"], ASAH["scores"][marker], strict=True))]
    path.write_text("\n".join(["subject_id,osteoporosis,score_osteoporosis", *lines]) + "\n")
    return path


def test_areas_and_paired_tests_are_those_of_proc(tmp_path: Path) -> None:
    paths = [asah_file(tmp_path, name) for name in ("wfns", "s100b", "ndka")]
    found = evaluate(options(*paths, baseline="s100b"))
    (row,) = rows_of(found, "performance", model="wfns")
    auc = row["auc"]
    assert (auc.value, auc.low, auc.high) == pytest.approx((0.823678862, 0.748534888, 0.898822836), abs=1e-9)
    assert isinstance(row["sensitivity"], Missing)  # a score without a cut-off decides nothing
    assert row["class"] == "osteoporosis"
    (pair,) = rows_of(found, "comparison", first="wfns", second="s100b")
    assert (pair["z"], pair["p"]) == pytest.approx((2.208983591, 0.02717578), abs=1e-8)
    assert pair["verdict"] == "better"
    (pair,) = rows_of(found, "comparison", first="ndka", second="s100b")
    assert (pair["z"], pair["p"]) == pytest.approx((-1.390770026, 0.16429518), abs=1e-8)
    assert pair["verdict"] == "no difference shown"
    said = next(s for s in found.verdicts if s.startswith("'wfns' against the baseline 's100b', "))
    assert "osteoporosis: better than it (AUC difference +0.092, 0.010 to 0.174, p = 0.027)" in said
    # every table says it
    assert all(said in table.printed_notes() for table in found.tables.values())


def test_a_difference_is_better_worse_or_undecided(tmp_path: Path) -> None:
    wfns, s100b, ndka = (asah_file(tmp_path, name) for name in ("wfns", "s100b", "ndka"))
    for paths, baseline, tone in (
        ((wfns, s100b), "s100b", "better"),
        ((wfns, s100b), "wfns", "worse"),
        ((ndka, s100b), "s100b", "undecided"),
    ):
        found = evaluate(options(*paths, baseline=baseline))
        assert [said.tone for said in found.verdicts] == [tone]


def test_differences_are_compared_with_the_stated_margin(pan: Path) -> None:
    found = evaluate(options(pan, margin=0.1, prevalences=(0.05,)))
    rows = rows_of(found, "differences", cohort="test", **{"class": "osteoporosis"})
    assert rows
    for row in rows:
        for name in ("sensitivity", "specificity"):
            gap = row[name]
            wanted = "not inferior" if gap.low > -0.1 else "inferior" if gap.high < -0.1 else "not shown"
            assert row[f"{name}_margin"] == wanted
    assert rows[0]["sensitivity_margin"] == "not inferior"
    narrow = rows_of(evaluate(options(pan, margin=0.001)), "differences")
    assert {row["specificity_margin"] for row in narrow} >= {"not shown"}
    (first,) = rows_of(found, "performance", model=rows[0]["first"], cohort="test", **{"class": "osteoporosis"})
    (second,) = rows_of(found, "performance", model=rows[0]["second"], cohort="test", **{"class": "osteoporosis"})
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        assert rows[0][name].value == pytest.approx(first[name].value - second[name].value)
    (ratios,) = rows_of(found, "predictive", model=rows[0]["first"], cohort="test", **{"class": "osteoporosis"})
    se, sp = first["sensitivity"].value, first["specificity"].value
    assert ratios["lr_positive"].value == pytest.approx(se / (1 - sp))
    assert ratios["ppv_at_0.05"].value == pytest.approx(0.05 * se / (0.05 * se + 0.95 * (1 - sp)))


def test_holm_decides_the_verdict(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1, 2], 40)
    paths = []
    for name, noise in (("good", 0.8), ("bad", 1.3)):
        z = truth + rng.normal(0, noise, truth.size)
        lines = [
            f"{i},{STATUS_CLASSES[t]},{-v:.6f},{-abs(v - 1):.6f},{v:.6f}"
            for i, (t, v) in enumerate(zip(truth, z, strict=True))
        ]
        head = "subject_id,bone_status,score_normal,score_osteopenia,score_osteoporosis"
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text("\n".join([head, *lines]))
    unadjusted, holm = evaluate(options(*paths)), evaluate(options(*paths, holm=True))
    p = np.sort([row["p"] for row in rows_of(unadjusted, "comparison")])
    due = np.maximum.accumulate(p * [3, 2, 1]).clip(max=1)
    assert np.sort([row["p_holm"] for row in rows_of(holm, "comparison")]) == pytest.approx(due)
    assert "P (Holm)" not in unadjusted.tables["comparison"].headings


def test_models_of_different_subjects_are_compared_on_the_common_ones(tmp_path: Path) -> None:
    head = "subject_id,osteoporosis,probability_osteoporosis\n"
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text(head + "a,1,0.9\nb,1,0.4\nc,0,0.5\nd,0,0.1\n")
    two.write_text(head + "b,1,0.8\nc,0,0.3\nd,0,0.2\ne,1,0.1\na,1,0.6\nf,0,\n")
    found = evaluate(options(one, two))
    (row,) = rows_of(found, "comparison")
    assert (row["images"], row["subjects"]) == (4, 4)
    assert row["auc_first"] == pytest.approx(0.75)
    assert row["auc_second"] == pytest.approx(1.0)  # e is not common
    assert any("one and two (test, n = 4)" in note for note in found.tables["comparison"].notes)
    (who,) = rows_of(found, "subjects", model="two")
    assert (who["images"], who["unanswered"]) == (5, 1)
    assert any("a model without predictions for difficult cases" in note for note in found.tables["subjects"].notes)


def test_images_of_one_subject_count_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    lines, doubled = [], []
    for i in range(40):
        truth, p = i % 2, float(np.clip(rng.normal(0.4 + 0.2 * (i % 2), 0.2), 0.01, 0.99))
        lines.append(f"s{i},{truth},{p:.4f}")
        doubled += [f"s{i},{truth},{p:.4f},L1", f"s{i},{truth},{p:.4f},L2"]
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    once.write_text("\n".join(["subject_id,osteoporosis,probability_osteoporosis", *lines]))
    twice.write_text("\n".join(["subject_id,osteoporosis,probability_osteoporosis,level", *doubled]))
    (a,) = rows_of(evaluate(options(once)), "performance")
    found = evaluate(options(twice, resamples=400))
    (b,) = rows_of(found, "performance")
    # every image twice is no more evidence: the interval of the area stays, where 80 cases would narrow it by sqrt 2
    assert b["auc"].value == pytest.approx(a["auc"].value)
    assert b["auc"].high - b["auc"].low == pytest.approx(a["auc"].high - a["auc"].low, rel=0.03)
    wide, narrow = (row["accuracy"].high - row["accuracy"].low for row in (b, a))
    assert wide == pytest.approx(narrow, rel=0.25)
    assert any("Subjects have several images in twice (test)" in note for note in found.tables["subjects"].notes)


def test_density_by_subgroup(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    path.write_text(
        "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,predicted_bmd_lower,predicted_bmd_upper,kvp\n"
        "a,100,110,90,120,120\nb,150,160,140,170,120.0\nc,60,50,40,59,100\nd,70,60,50,80,100\ne,130,140,131,150,120\n"
    )
    found = evaluate(options(path))
    whole, low, high = rows_of(found, "density")
    assert (whole["subgroup"], low["subgroup"], high["subgroup"]) == ("all", "kvp 100", "kvp 120")
    assert whole["bias"].value == pytest.approx(2)  # (10 + 10 - 10 - 10 + 10) / 5
    assert whole["mae"].value == pytest.approx(10)
    assert whole["rmse"].value == pytest.approx(10)
    assert whole["coverage"].value == pytest.approx(3 / 5)  # c and e lie outside
    assert (low["bias"].value, high["bias"].value) == pytest.approx((-10, 10))
    assert evaluation_facts(found)["line/test/coverage"] == pytest.approx(0.6)


def test_densities_are_in_the_order_of_the_subgroups(tmp_path: Path) -> None:
    rows = [f"p{n},{60 + n},{62 + n},{age}" for n, age in enumerate((85, 45, 72, 48, 83, 55, 77, 58))]
    path = tmp_path / "line.csv"
    path.write_text("\n".join(["subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,age", *rows]) + "\n", encoding="utf-8")
    names = [row["subgroup"] for row in rows_of(evaluate(options(path)), "density")]
    assert names == ["all", "age below 50", "age 50 to 59", "age 70 to 79", "age 80 or more"]


def test_cut_off_is_chosen_on_validation_and_frozen(tmp_path: Path) -> None:
    path = tmp_path / "model.csv"
    head = "subject_id,cohort,osteoporosis,probability_osteoporosis\n"
    validation = "".join(
        f"v{i},validation,{int(i < 4)},{p}\n" for i, p in enumerate((0.9, 0.7, 0.6, 0.2, 0.5, 0.3, 0.1))
    )
    test = "".join(f"t{i},test,{int(i < 3)},{p}\n" for i, p in enumerate((0.65, 0.59, 0.8, 0.61, 0.1)))
    path.write_text(head + validation + test)
    found = evaluate(options(path, sensitivity=0.75))
    chosen, applied = rows_of(found, "thresholds")
    assert chosen["cut_off"] == applied["cut_off"] == "probability at least 0.6"
    assert chosen["cohort"] == "validation (chosen here)"
    assert applied["sensitivity"].value == pytest.approx(2 / 3)  # 0.65 and 0.8, not 0.59
    assert applied["specificity"].value == pytest.approx(1 / 2)
    assert applied["reached"] == "no"
    path.write_text(head + test)
    (row,) = rows_of(evaluate(options(path)), "thresholds")
    assert "no validation cohort" in row["cut_off"].reason


def test_probabilities_are_recalibrated_at_a_centre_by_other_people(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1.5, 600)
    ill = rng.random(600) < 1 / (1 + np.exp(-(1.5 + 0.6 * x)))  # the answers are too low, and too extreme
    path = tmp_path / "net.csv"
    head = "subject_id,cohort,osteoporosis,probability_osteoporosis\n"
    rows = [(f"p{i}", int(t), 1 / (1 + math.exp(-v))) for i, (t, v) in enumerate(zip(ill, x, strict=True))]
    path.write_text(head + "".join(f"{s},external_1,{t},{p:.6f}\n" for s, t, p in rows))
    found = evaluate(options(path))
    before, after = rows_of(found, "recalibration")
    assert (before["probability"], after["probability"]) == ("as predicted", "recalibrated")
    assert before["mean_predicted"] == pytest.approx(0.5, abs=0.05)
    assert before["slope"].value == pytest.approx(0.6, abs=0.2)
    assert before["observed_expected"].value > 1.3
    assert after["observed_expected"].value == pytest.approx(1.0, abs=0.03)
    assert after["slope"].value == pytest.approx(1.0, abs=0.15)
    assert after["brier"] < before["brier"] - 0.02
    assert after["mean_predicted"] == pytest.approx(ill.mean(), abs=0.02)
    path.write_text(head + "".join(f"{s},test,{t},{p:.6f}\n" for s, t, p in rows))
    assert "recalibration" not in evaluate(options(path)).tables  # the home centre is not recalibrated
    path.write_text(head + "a,external_1,1,0.5\nb,external_1,0,0.4\n")
    assert "recalibration" not in evaluate(options(path)).tables


def test_what_cannot_be_computed_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("subject_id,bone_status,predicted\na,normal,normal\nb,normal,osteopenia\nc,osteopenia,normal\n")
    evaluation = evaluate(options(path))
    table = evaluation.tables["performance"]
    (row,) = rows_of(evaluation, "performance", **{"class": "osteoporosis"})
    assert row["sensitivity"] == Missing("there is no case of the class")
    assert row["ppv"] == Missing("no case was predicted as the class")
    assert row["accuracy"].value == 1
    assert any(note.endswith("There is no case of the class.") for note in table.printed_notes())
    table.write(tmp_path)
    with (tmp_path / "performance.csv").open() as file:
        written = [r for r in csv.DictReader(file) if r["class"] == "osteoporosis"]
    assert written[0]["sensitivity"] == ""
    assert "sensitivity: there is no case of the class" in written[0]["remarks"]
    assert written[0]["accuracy_high"] == "1"
    assert r"\toprule" in (tmp_path / "performance.tex").read_text()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"interval": "wald", "resamples": 5},
            "interval must be wilson or exact, got 'wald'; resamples must be at least",
        ),
        ({"margin": 5.0}, "margin must be above 0 and below 1, got 5"),
        ({"prevalences": (0.1, 10.0)}, "prevalence must be above 0 and below 1, got 10"),
        ({"sensitivity": 90}, "sensitivity must be above 0 and at most 1, got 90"),
        ({"seed": -1, "level": 95}, "seed must be 0 or more, got -1; level must be at least 0.5 and below 1, got 95"),
    ],
)
def test_wrong_options(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EvaluationOptions((Path("a.csv"),), **more)


def test_results_are_not_changed_by_their_report(pan: Path, tmp_path: Path) -> None:
    """Marks and verdicts are added to copies: tables of the caller, and a second evaluation, stay as they are."""
    table = ResultTable("t", "A caption", (Column("n", "n"),)).filled([{"n": 1}], ["A note."])
    marked = table.annotated("Virtual patients. ", ["First."], ["Last."])
    assert (table.caption, table.notes) == ("A caption", ("A note.",))
    assert (marked.caption, marked.notes) == ("Virtual patients. A caption", ("First.", "A note.", "Last."))
    with pytest.raises(FrozenInstanceError):
        table.caption = "Another"  # type: ignore[misc]
    evaluation = evaluate(options(pan, virtual=True))
    before = {name: (t.caption, t.notes) for name, t in evaluation.tables.items()}
    write_evaluation(options(pan, virtual=True), tmp_path)
    assert {name: (t.caption, t.notes) for name, t in evaluation.tables.items()} == before
    assert all(caption.count("Virtual patients.") == 1 for caption, _ in before.values())


def test_unknown_baseline(pan: Any) -> None:
    with pytest.raises(UnusableInputError, match="baseline must be one of model1, model2, got 'HU'"):
        evaluate(options(pan, baseline="HU"))


# --- the verb -----------------------------------------------------------------------------------------------------


def make_predictions(folder: Path) -> list[str]:
    rng = np.random.default_rng(1)
    density = rng.uniform(40, 180, 40).round(1)
    head = "subject_id,cohort,bmd_mg_cm3,virtual"
    lines = [f"p{i},test,{d},1" for i, d in enumerate(density)]
    line, net = folder / "line.csv", folder / "net.csv"
    low, normal = 1 / (1 + np.exp((density - 80) / 6)), 1 / (1 + np.exp((120 - density) / 6))
    columns = np.column_stack([normal, 1 - normal - low, low]).clip(0).round(4)
    names = ",".join(f"probability_{name}" for name in STATUS_CLASSES)
    net.write_text(
        "\n".join([f"{head},{names}", *(f"{a},{b[0]},{b[1]},{b[2]}" for a, b in zip(lines, columns, strict=True))])
    )
    noisy = (density + rng.normal(0, 20, 40)).round(1)
    bounds = "predicted_bmd_mg_cm3,predicted_bmd_lower,predicted_bmd_upper"
    line.write_text(
        "\n".join([f"{head},{bounds}", *(f"{a},{d},{d - 30},{d + 30}" for a, d in zip(lines, noisy, strict=True))])
    )
    return [str(line), str(net)]


def test_verb_writes_everything_and_tracks_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    words = ["evaluate", *make_predictions(tmp_path), "-o", str(out), "--baseline", "line", "--resamples", "100"]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "net, test: AUC normal" in said
    assert "'net' against the baseline 'line', test, n = 40:" in said
    names = {"subjects", "performance", "overall", "predictive", "comparison", "differences", "confusion", "density",
             "calibration", "flexible", "precision", "decision", "thresholds"}  # fmt: skip
    assert {path.name for path in (out / "tables").iterdir()} == {
        f"{n}.{e}" for n in names for e in ("csv", "md", "tex")
    }
    pictures = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"roc_test", "confusion_test", "reliability_test", "decision_test", "agreement_test_1"} <= pictures
    assert pictures == {path.stem for path in (out / "figures").glob("*.svg")}
    html = (out / "report.html").read_text()
    assert "http" not in html.replace("http://www.w3.org", "")  # self-contained
    assert "Virtual patients." in html  # the column says so
    assert all("Virtual patients. " in path.read_text() for path in (out / "tables").glob("*.md"))
    results = json.loads((out / "results.json").read_text())
    assert results["virtual_patients"] is True
    assert set(results["tables"]) == names
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("evaluation")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (run,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    # one run for each model below it, with metrics of the same names
    parts = {part.info.run_name: part for part in runs if part is not run}
    assert set(parts) == {"line", "net"}
    assert {part.data.tags["mlflow.parentRunId"] for part in parts.values()} == {run.info.run_id}
    assert parts["net"].data.metrics["test/normal/auc"] == run.data.metrics["net/test/normal/auc"]
    area = next(r for r in results["tables"]["performance"]["rows"] if r["model"] == "net" and r["cohort"] == "test")
    assert run.data.metrics["net/test/normal/auc"] == pytest.approx(area["auc"]["value"])
    assert len(run.data.params["sha256_1"]) == 64
    assert cli.run(words) == 2
    assert "--overwrite must be given to replace" in capsys.readouterr().err


def test_verb_refuses_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("subject_id,bone_status,predicted\na,normal,high\nb,low,normal\n")
    assert cli.run(["evaluate", str(bad), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "line 2: predicted must be one of" in said
    assert "line 3: bone_status must be one of" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    assert cli.run(["evaluate", str(bad), "-o", str(tmp_path / "out"), "--interval", "wald"]) == 2
    assert "interval must be wilson or exact" in capsys.readouterr().err


def test_no_number_is_infinite_or_missing_in_json(pan: Any) -> None:
    found = evaluate(options(pan))
    for table in found.tables.values():
        json.dumps(table.as_json(), allow_nan=False)
        for row in table.rows:
            assert not any(isinstance(c, Interval) and math.isnan(c.value) for c in row.values())


@pytest.mark.filterwarnings("error")
def test_absent_classes_are_named_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,probability_normal,probability_osteopenia,"]
    lines[0] += "probability_osteoporosis"
    lines += [f"S{n},{130 + n},{128 + n + n % 3},0.{9 - n % 4},0.{n % 4},0.1" for n in range(20)]
    (tmp_path / "healthy.csv").write_text("\n".join(lines) + "\n")
    arguments = ["evaluate", str(tmp_path / "healthy.csv"), "--output", str(tmp_path / "out"), "--no-track"]
    assert cli.run([*arguments, "--resamples", "100"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Cohort test has no case of osteopenia or osteoporosis.") == 1
    assert "nan" not in printed.lower()
