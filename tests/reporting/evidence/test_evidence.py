"""What comes in, what is shipped, what is compared and what is written."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evidence import (
    EvidenceOptions,
    build_evidence,
    compare_own,
    evidence_facts,
    write_evidence,
)
from osteo_monai.reporting.evidence.tables import summary_quantities
from osteo_monai.statistics.meta_analysis.reference import (
    WANG_2025,
    auc_interval_checks,
    fagan_check,
    subgroup_checks,
)
from osteo_monai.statistics.meta_analysis.studies import (
    count_predictions,
    parse_counts,
    read_prisma,
    read_quadas,
    read_studies,
)

SHIPPED = Path(__file__).parents[3] / "data_manifests" / "evidence"
HEAD = "study,model,TP,FP,FN,TN\n"


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def many_studies(folder: Path, extra: str = "") -> Path:
    rows = [
        "A,1,47,10,9,138,QCT,60", "A,2,44,8,12,140,QCT,61", "B,1,126,27,51,154,DXA,55", "C,1,19,2,10,92,DXA,70",
        "D,1,36,8,3,76,QCT,66", "E,1,130,21,19,159,DXA,58", "F,1,84,8,2,89,QCT,52", "G,1,68,12,4,123,DXA,63",
    ]  # fmt: skip
    return written(folder, "study,model,TP,FP,FN,TN,reference_standard,mean_age\n" + "\n".join(rows) + "\n" + extra)


# --- reading ------------------------------------------------------------------------------------------------------


def test_every_problem_of_a_table_is_in_one_message(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "# a comment\n"
        + HEAD
        + "A,m,-1,2,3,4\nA,m,1,x,3,4\n\nB,,0,2,0,5\n,q,1,1,1,\nC,,1,2,3,4,5\nD,,1.5,0,2,0\nE,,1,0,2,0\n"
        + '"F\nG",,1,1,1,1\n',
    )
    with pytest.raises(UnusableInputError) as error:
        read_studies(path)
    lines = str(error.value).splitlines()
    assert lines[0] == "'table.csv' has 10 problems:"
    assert [line.removeprefix("  - ") for line in lines[1:]] == [
        "line 11: a quoted field continues to line 12",
        "line 8: 7 fields for 6 columns",
        "line 3: TP is negative: -1",
        "line 4: FP is not a whole number: 'x'",
        "line 4: the same study, model and target as line 3",
        "line 6: no diseased subject (TP + FN = 0)",
        "line 7: TN is empty",
        "line 7: study has no name",
        "line 9: TP is not a whole number: '1.5'",
        "line 10: no healthy subject (FP + TN = 0)",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'table.csv' is empty; it needs the columns study, TP, FP, FN, TN"),
        (
            "study|TP|FP|FN|TN\nA|1|2|3|4\n",
            "columns must be separated by commas, semicolons or tabs, got one column only",
        ),
        ("study,TP,FP\nA,1,2\n", "no column FN\n  - no column TN"),
        ("study,TP,TP,FP,FN,TN\n", "column TP "),
        (HEAD, "no study after the header"),
    ],
)
def test_what_is_no_table_says_so(tmp_path: Path, text: Any, sentence: str) -> None:
    with pytest.raises(UnusableInputError, match=re.escape(sentence)):
        read_studies(written(tmp_path, text))


def test_binary_files_and_missing_ones(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UnusableInputError, match="cannot be read as text"):
        read_studies(tmp_path / "x.csv")
    with pytest.raises(UnusableInputError, match="there is no file"):
        read_studies(tmp_path / "none.csv")


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    # byte order mark, other case of the columns, 12.0 for 12, trailing commas
    found = read_studies(written(tmp_path, "\ufeffStudy,tp,fp,fn,tn,Centre\nA,12.0,1,2,30,Bonn\nB,9,1,2,30,\n,,,,,\n"))
    assert found.tables.tolist() == [[12, 1, 2, 30], [9, 1, 2, 30]]
    assert found.covariates == {"centre": ("Bonn", "")}
    assert found.targets == ("osteoporosis", "osteoporosis")


CLASSES = ("normal", "osteopenia", "osteoporosis")


def predictions(folder: Path, head: str, rows: list[str]) -> Path:
    lines = [f"{number},{row}" for number, row in enumerate(rows)]
    return written(folder, f"subject_id,{head}\n" + "\n".join(lines) + "\n", "ours.csv")


def as_lists(found: Any) -> dict[str, list[float]]:
    return {name: cells.tolist() for name, cells in found.counts.items()}


def test_predictions_become_three_tables(tmp_path: Path) -> None:
    rows = ["normal,normal"] * 3 + ["normal,osteopenia", "osteopenia,osteopenia", "osteopenia,osteoporosis"]
    rows += ["osteoporosis,osteoporosis"] * 2 + ["osteoporosis,normal"]
    path = predictions(tmp_path, "bone_status,predicted", rows)
    found = count_predictions(path)
    assert as_lists(found) == {"normal": [3, 1, 1, 4], "osteopenia": [1, 1, 1, 6], "osteoporosis": [2, 1, 1, 5]}
    assert found.name == "ours"
    assert found.remarks == ("Cohort 'test', 9 subjects. Classes: as given.",)
    assert as_lists(count_predictions(path, target="osteopenia")) == {"osteopenia": [1, 1, 1, 6]}


def test_the_matrix_of_pan_as_predictions_gives_the_shipped_rows(tmp_path: Path) -> None:
    matrix = [[242, 9, 0], [14, 83, 19], [0, 3, 48]]
    rows = [f"{t},{p}" for t, row in zip(CLASSES, matrix, strict=True) for p, n in zip(CLASSES, row, strict=True)
            for _ in range(n)]  # fmt: skip
    found = as_lists(count_predictions(predictions(tmp_path, "bone_status,predicted", rows)))
    shipped = read_studies(SHIPPED / "pan2024.csv")
    due = {t: row.tolist() for t, m, row in zip(shipped.targets, shipped.models, shipped.tables, strict=True)
           if m.startswith("model 1")}  # fmt: skip
    assert found == due


def test_binary_predictions_become_one(tmp_path: Path) -> None:
    path = predictions(tmp_path, "osteoporosis,probability_osteoporosis", ["1,0.9", "1,0.4", "0,0.45", "0,0.1"])
    assert as_lists(count_predictions(path)) == {"osteoporosis": [1, 0, 1, 2]}
    assert as_lists(count_predictions(path, threshold=0.4)) == {"osteoporosis": [2, 1, 0, 1]}
    with pytest.raises(UnusableInputError, match="target must be one of osteoporosis in"):
        count_predictions(path, target="normal")


def test_scores_need_a_threshold(tmp_path: Path) -> None:
    rows = ["osteoporosis,3.5", "osteoporosis,1", "osteopenia,2", "normal,-4"]
    path = predictions(tmp_path, "bone_status,score_osteoporosis", rows)
    with pytest.raises(UnusableInputError, match="has scores and no classes: an own threshold must be given"):
        count_predictions(path)
    found = count_predictions(path, threshold=2)
    assert as_lists(found) == {"osteoporosis": [1, 1, 1, 1]}
    assert "score of osteoporosis at least 2" in found.remarks[0]
    with pytest.raises(UnusableInputError, match="has no score of 'normal'"):
        count_predictions(path, target="normal", threshold=2)


def test_density_decides_by_the_class_limits(tmp_path: Path) -> None:
    rows = ["70,79.9", "100,80", "130,121", "90,121", "60,70"]
    path = predictions(tmp_path, "bmd_mg_cm3,predicted_bmd_mg_cm3", rows)
    found = count_predictions(path)
    assert as_lists(found) == {"normal": [1, 1, 0, 3], "osteopenia": [1, 0, 1, 3], "osteoporosis": [2, 0, 0, 3]}
    assert "cut-offs 80 and 120 mg/cm3" in found.remarks[0]


def test_one_model_of_one_cohort_is_chosen(tmp_path: Path) -> None:
    rows = ["a,training,normal,normal", "a,training,osteoporosis,osteoporosis", "b,test,normal,normal"]
    rows += ["b,test,osteoporosis,normal", "a,external_bonn,normal,osteopenia", "a,external_bonn,osteopenia,normal"]
    path = predictions(tmp_path, "model,cohort,bone_status,predicted", rows)
    with pytest.raises(UnusableInputError) as error:
        count_predictions(path, "ours")
    assert "own name must be one of a, b" in str(error.value)
    assert "own cohort must be one of training, external_bonn in 'ours.csv', got 'test'" in str(error.value)
    assert as_lists(count_predictions(path, "b"))["osteoporosis"] == [0, 0, 1, 1]
    found = count_predictions(path, "a", "external_bonn")
    assert as_lists(found) == {"normal": [0, 1, 1, 0], "osteopenia": [0, 1, 1, 0]}
    assert "No table for 'osteoporosis': it applies to all subjects or to none." in found.remarks


def test_virtual_patients_are_called_so(tmp_path: Path) -> None:
    rows = ["1,normal,normal", "1,osteoporosis,osteoporosis"]
    found = count_predictions(predictions(tmp_path, "virtual,bone_status,predicted", rows), "ours")
    assert found.name == "ours (virtual patients)"
    assert "does not show accuracy in real patients" in " ".join(found.remarks)


def test_wrong_predictions_are_reported_without_identifiers(tmp_path: Path) -> None:
    text = "subject_id,bone_status,predicted\nMueller,normal,1\nMeier,maybe,normal\n"
    with pytest.raises(UnusableInputError) as error:
        count_predictions(written(tmp_path, text))
    assert "line 2: predicted must be one of normal, osteopenia, osteoporosis, got '1'" in str(error.value)
    assert "line 3: bone_status must be one of" in str(error.value)
    text = "subject_id,bone_status,predicted\nMueller,normal,normal\nMueller,normal,normal\nMeier,osteopenia,normal\n"
    with pytest.raises(UnusableInputError) as twice:
        count_predictions(written(tmp_path, text))
    assert "must have one row per subject" in str(twice.value)
    assert "Mueller" not in str(error.value) + str(twice.value)


def test_one_class_only_allows_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="subjects of one class only"):
        count_predictions(predictions(tmp_path, "bone_status,predicted", ["normal,normal", "normal,osteopenia"]))


def test_counts_of_one_line() -> None:
    assert parse_counts("48, 19,3,348").tolist() == [48, 19, 3, 348]
    with pytest.raises(ValueError, match="FP is negative: -1; TN is not a whole number: 'x'"):
        parse_counts("1,-1,2,x")


def test_prisma_that_does_not_add_up(tmp_path: Path) -> None:
    flow = json.loads((SHIPPED / "wang2025_prisma.json").read_text())
    flow |= {"screened": 920, "in_meta_analysis": 25}
    with pytest.raises(UnusableInputError) as error:
        read_prisma(written(tmp_path, json.dumps(flow)))
    assert "screened must be identified minus removed = 919, got 920" in str(error.value)
    assert "assessed must be screened minus excluded = 88, got 87" in str(error.value)
    assert "in_meta_analysis must be at most the 24 included, got 25" in str(error.value)


def test_quadas_words_are_checked(tmp_path: Path) -> None:
    text = (SHIPPED / "wang2025_quadas2.csv").read_text().replace("Pan [26],low", "Pan [26],fine")
    with pytest.raises(UnusableInputError, match="patient_selection must be low, unclear, high or empty, got 'fine'"):
        read_quadas(written(tmp_path, text))


# --- what is shipped ----------------------------------------------------------------------------------------------


def test_pan_rows_are_the_one_versus_rest_tables_of_the_matrices() -> None:
    matrices = {"model 1 (L1 + L2)": [[242, 9, 0], [14, 83, 19], [0, 3, 48]],
                "model 2 (L1)": [[245, 6, 0], [27, 74, 15], [0, 8, 43]]}  # fmt: skip
    shipped = read_studies(SHIPPED / "pan2024.csv")
    assert len(shipped) == 6
    for model, target, cells in zip(shipped.models, shipped.targets, shipped.tables, strict=True):
        m, i = np.array(matrices[model]), ["normal", "osteopenia", "osteoporosis"].index(target)
        tp, fp, fn = m[i, i], m[:, i].sum() - m[i, i], m[i].sum() - m[i, i]
        assert cells.tolist() == [tp, fp, fn, 418 - tp - fp - fn]
    # Table 3 of the paper, osteoporosis, model 1: sensitivity 0.941, specificity 0.948
    assert round(48 / 51, 3) == 0.941
    assert round(348 / 367, 3) == 0.948


def test_shipped_reference_equals_the_one_in_the_program() -> None:
    lines = [line for line in (SHIPPED / "wang2025_reference.csv").read_text().splitlines() if line[0] != "#"]
    rows = list(csv.DictReader(lines))
    assert [row["target"] for row in rows] == list(WANG_2025)
    for row in rows:
        r = WANG_2025[row["target"]]
        assert int(row["models"]) == r.models
        for name in ("sensitivity", "specificity", "auc"):
            i = getattr(r, name)
            assert [float(row[name + end]) for end in ("", "_low", "_high")] == [i.value, i.low, i.high]
        assert float(row["i2_sensitivity"]) == r.i2_sensitivity
        assert float(row["i2_specificity"]) == r.i2_specificity


def test_template_has_the_header_only() -> None:
    with pytest.raises(UnusableInputError, match="no study after the header"):
        read_studies(SHIPPED / "template.csv")


def test_quadas_of_the_review_has_the_totals_of_its_text() -> None:
    table = read_quadas(SHIPPED / "wang2025_quadas2.csv")
    worst = ["high" if "high" in row else "unclear" if "unclear" in row else "low" for row in table.risk]
    assert (worst.count("low"), worst.count("unclear"), worst.count("high")) == (15, 6, 3)


def test_prisma_of_the_review_adds_up() -> None:
    flow = read_prisma(SHIPPED / "wang2025_prisma.json")
    assert sum(flow.identified.values()) == 1983
    assert (flow.screened, flow.assessed, flow.included, flow.in_meta_analysis) == (919, 87, 24, 20)


# --- the review, recomputed ---------------------------------------------------------------------------------------


def test_fagan_figures_of_the_review() -> None:
    found = fagan_check()
    # odds 0.25 x LR+ 0.88 / 0.06 = 3.6667, LR- 0.12 / 0.94
    assert found.positive.value == pytest.approx(3.6666667 / 4.6666667, abs=1e-7)
    assert found.negative.value == pytest.approx(0.03 / 0.97, abs=1e-4)
    assert round(found.negative.value, 2) == found.printed_negative
    assert round(found.positive.value, 2) != found.printed_positive  # 79 %: the contradiction
    assert round(found.positive.high, 2) == found.printed_positive  # reached at the edge of the rounding only


def test_subgroup_table_of_the_review_follows_from_its_chi_squares() -> None:
    assert len(subgroup_checks()) == 7
    assert all(row.agrees for row in subgroup_checks())


def test_auc_intervals_of_the_review_are_those_of_500_curve_points() -> None:
    for _, printed, wilson in auc_interval_checks():
        assert (round(wilson.low, 2), round(wilson.high, 2)) == (printed.low, printed.high)


# --- comparison with a review ---------------------------------------------------------------------------------------


def test_own_model_against_the_pooled_values() -> None:
    pooled = WANG_2025["osteoporosis"]
    found = compare_own("osteoporosis", "Pan", np.array([48.0, 19.0, 3.0, 348.0]), reference=pooled)
    assert found.sensitivity.value == pytest.approx(48 / 51)
    assert found.differences is not None
    assert found.differences[0].value == pytest.approx(48 / 51 - 0.88)
    # Newcombe from Wilson 0.840754-0.979793 and 0.85-0.91
    assert found.differences[0].low == pytest.approx(
        48 / 51 - 0.88 - math.hypot(48 / 51 - 0.840753739511996, 0.91 - 0.88), abs=1e-9
    )
    assert found.accuracy_ratios.positive_lr.value == pytest.approx((48 / 51) / (19 / 367), rel=1e-9)
    assert found.farther_out is None


def test_own_model_without_an_error_still_has_finite_ratios() -> None:
    found = compare_own("normal", "perfect", np.array([20.0, 0.0, 0.0, 30.0]))
    assert found.sensitivity.value == 1.0
    assert math.isfinite(found.accuracy_ratios.positive_lr.value)


def test_review_is_compared_with_only_where_requested() -> None:
    assert compare_own("osteoporosis", "x", np.array([5.0, 1.0, 2.0, 9.0])).differences is None
    assert EvidenceOptions(own_counts="5,1,2,9").pooled_reference("osteoporosis") is None
    requested = EvidenceOptions(own_counts="5,1,2,9", reference="wang2025")
    assert requested.pooled_reference("osteoporosis") is WANG_2025["osteoporosis"]
    assert requested.pooled_reference("fracture") is None
    with pytest.raises(ValueError, match="reference must be one of wang2025, got 'smith'"):
        EvidenceOptions(own_counts="5,1,2,9", reference="smith")


# --- the whole ----------------------------------------------------------------------------------------------------


def test_two_tables_are_never_pooled() -> None:
    found = build_evidence(EvidenceOptions(studies=SHIPPED / "pan2024.csv")).targets["osteoporosis"]
    assert found.fit is None
    assert "needs tables of at least 3 studies, got 2 tables of 1 study" in found.notes[0]


def test_three_tables_of_one_study_are_not_pooled_either(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "A,1,5,1,2,9\nA,2,6,1,1,9\nA,3,4,1,3,9\n")
    found = build_evidence(EvidenceOptions(studies=path)).targets["osteoporosis"]
    assert found.fit is None
    assert "got 3 tables of 1 study" in found.notes[0]


def test_options_name_every_problem() -> None:
    with pytest.raises(
        ValueError, match="must be given; own threshold must.*; method must be.*; prevalence must be.*; replicates"
    ):
        EvidenceOptions(method="x", prevalence=20, replicates=5, own_threshold=1)  # type: ignore[arg-type]


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "A,1,-5,1,2,9\n")
    options = EvidenceOptions(studies=path, own_counts="1,2", quadas=tmp_path / "none.csv")
    with pytest.raises(UnusableInputError) as error:
        build_evidence(options)
    for part in ("TP is negative", "four whole numbers", "there is no file"):
        assert part in str(error.value)


def test_report_holds_everything_and_refers_to_nothing_outside(tmp_path: Path) -> None:
    options = EvidenceOptions(
        studies=many_studies(tmp_path),
        own_counts="48,19,3,348",
        own_name="<b>ours</b>",
        method="reml",
        replicates=100,
        reference="wang2025",
        covariates=("reference_standard", "mean_age"),
        quadas=SHIPPED / "wang2025_quadas2.csv",
        prisma=SHIPPED / "wang2025_prisma.json",
    )
    found = write_evidence(options, tmp_path / "out", "1.2.3")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>ours</b>" not in html
    assert "&lt;b&gt;ours&lt;/b&gt;" in html
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", html)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    for text in (
        "Comparison with the review",
        "clustered in 7 studies",
        "Zhou and Dendukuri",
        "midas",
        "Deeks",
        "QUADAS-2",
        "78.6",
        "reference_standard",
        "mean_age",
        "Research use only",
    ):
        assert text in html, text
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    for stem in ("sroc", "forest", "fagan", "fagan_own", "likelihood_ratios", "deeks", "leave_one_out"):
        assert {f"{stem}_osteoporosis.svg", f"{stem}_osteoporosis.png"} <= figures
    assert {"quadas2.svg", "prisma.svg"} <= figures
    held = json.loads((tmp_path / "out" / "evidence.json").read_text())
    fit = found.targets["osteoporosis"].fit
    assert fit is not None
    assert held["targets"]["osteoporosis"]["summary"]["sensitivity"]["value"] == pytest.approx(
        fit.summary().sensitivity.value
    )
    assert held["targets"]["osteoporosis"]["intervals"] == "clustered by study, t with 6 df"
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    assert float(rows["sensitivity"]["estimate"]) == pytest.approx(fit.summary().sensitivity.value, abs=1e-7)
    latex = (tmp_path / "out" / "own_model.tex").read_text()
    assert r"\begin{tabular}" in latex
    assert latex.count(r"\\") == 3
    assert (tmp_path / "out" / "own_model.md").read_text().startswith("<b>ours</b> and the pooled values")
    assert evidence_facts(found)["osteoporosis_converged"] == 1.0


# --- content of a report ------------------------------------------------------------------------------------------


def test_report_of_another_field_has_no_content_of_one_review(tmp_path: Path) -> None:
    rows = ["A,,smoking,47,10,9,138", "B,,smoking,126,27,51,154", "C,,smoking,19,2,10,92", "D,,smoking,36,8,3,76"]
    path = written(tmp_path, "study,model,target,TP,FP,FN,TN\n" + "\n".join(rows) + "\n", "smoking.csv")
    write_evidence(EvidenceOptions(studies=path, replicates=0, own_counts="9,1,2,20", target="smoking"), tmp_path / "o")
    for name in ("report.html", "own_model.md", "evidence.json", "summary.md"):
        text = (tmp_path / "o" / name).read_text(encoding="utf-8")
        for foreign in ("Wang", "osteoporosis", "bone status", "The review", "10.2196"):
            assert foreign not in re.sub(r"data:image[^\"]*", "", text), (name, foreign)
    assert "<h1>Evidence: diagnostic accuracy, smoking</h1>" in (tmp_path / "o" / "report.html").read_text()


def test_methods_tell_only_what_was_done(tmp_path: Path) -> None:
    write_evidence(EvidenceOptions(studies=SHIPPED / "pan2024.csv"), tmp_path / "o")
    html = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    for absent in ("replicates", "Bivariate random-effects", "Deeks"):
        assert absent not in html
    assert "Wilson" in html
    studies = tmp_path / "five.csv"
    rows = [f"S{n},{40 + n},{5 + 3 * n},{4 + n % 3},{150 - 4 * n}" for n in range(5)]
    studies.write_text("\n".join(["study,TP,FP,FN,TN", *rows]) + "\n", encoding="utf-8")
    write_evidence(EvidenceOptions(studies=studies, replicates=0), tmp_path / "five")
    html = (tmp_path / "five" / "report.html").read_text(encoding="utf-8")
    assert "t with 4 df" in html
    assert "5 studies estimate variances and correlation between studies poorly" in html
    assert "fewer than 3 are not pooled; below 10 the intervals" in html


def test_doubled_tables_change_no_reported_interval(tmp_path: Path) -> None:
    """Every row of the summary, the tests, the tracked numbers and the comparison with the own model."""
    once = many_studies(tmp_path)
    head, *rows = once.read_text().splitlines()
    copies = [row.replace(",1,", ",1 again,", 1).replace(",2,44", ",2 again,44") for row in rows]
    twice = written(tmp_path, "\n".join([head, *rows, *copies]) + "\n", "twice.csv")
    settings: dict[str, Any] = {"method": "ml", "replicates": 200, "covariates": ("reference_standard",)}
    found, due = (
        build_evidence(EvidenceOptions(studies=path, own_counts="40,9,8,100", **settings)) for path in (twice, once)
    )
    facts, due_facts = evidence_facts(found), evidence_facts(due)
    for name in ("osteoporosis_tables", "osteoporosis_log_likelihood"):  # both count tables
        del facts[name], due_facts[name]
    assert facts == pytest.approx(due_facts, abs=2e-4)
    assert {"osteoporosis_auc_low", "osteoporosis_sensitivity_high", "osteoporosis_studies"} <= set(facts)
    new, old = found.targets["osteoporosis"], due.targets["osteoporosis"]
    assert new.fit is not None
    assert old.fit is not None
    new_rows, old_rows = summary_quantities(new, new.fit, 0.2), summary_quantities(old, old.fit, 0.2)
    for (name, i, kind), (_, due_i, due_kind) in zip(new_rows, old_rows, strict=True):
        assert kind == due_kind
        assert (i.value, i.low, i.high) == pytest.approx(
            (due_i.value, due_i.low, due_i.high), rel=2e-3, abs=2e-4, nan_ok=True
        ), name
    assert new.homogeneity == old.homogeneity
    assert new.deeks is not None
    assert old.deeks is not None
    assert new.deeks.p == old.deeks.p
    assert new.subgroups[0].test.p == pytest.approx(old.subgroups[0].test.p, rel=1e-3)
    assert [one.p for one in new.influence] == pytest.approx([one.p for one in old.influence], rel=1e-3)
    assert [one.cook for one in new.influence] == pytest.approx([one.cook for one in old.influence], rel=1e-3)
    assert found.own["osteoporosis"].farther_out == pytest.approx(due.own["osteoporosis"].farther_out, rel=1e-4)


def test_covariates_are_tested_only_where_named(tmp_path: Path) -> None:
    found = build_evidence(EvidenceOptions(studies=many_studies(tmp_path), replicates=0)).targets["osteoporosis"]
    assert not found.subgroups
    assert not found.regressions
    assert "Columns not tested as covariates: reference_standard, mean_age." in found.notes


def test_subgroup_without_errors_is_a_note(tmp_path: Path) -> None:
    rows = ["A,47,10,0,138,x", "B,26,27,0,154,x", "C,19,2,5,92,y", "D,36,8,3,76,y", "E,30,5,4,80,y"]
    path = written(tmp_path, "study,TP,FP,FN,TN,group\n" + "\n".join(rows) + "\n")
    options = EvidenceOptions(studies=path, replicates=0, covariates=("group",))
    found = build_evidence(options).targets["osteoporosis"]
    assert not found.subgroups
    assert any("all tables of 'x' have sensitivity 1 (73 of 73)" in note for note in found.notes)
