"""Mistakes of people in tables: one sentence each, all at once."""

from pathlib import Path

import pytest

from osteo_monai.data.csv_tables import read_table, write_table
from osteo_monai.data.predictions_table import read_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.statistics.meta_analysis import read_studies

HEAD = "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,age"
ROWS = [f"S{n:03d},{60 + 3 * n},{61 + 3 * n}.5,{50 + n}" for n in range(30)]


def problems(tmp_path: Path, *changed: str, head: str = HEAD, rows: list[str] = ROWS) -> str:
    (tmp_path / "model.csv").write_text("\n".join([head, *rows, *changed]) + "\n", encoding="utf-8")
    with pytest.raises(UnusableInputError) as caught:
        read_predictions([tmp_path / "model.csv"])
    return str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = problems(
        tmp_path, "S101,95 mg/cm3,96,71", "S102,95,96,71 y", '"S103","95,5",96,71', '"S104","1.095,5",96,71',
        "#S105,95,96,71", "Total,95,96,71", "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,age", ROWS[4],
    )  # fmt: skip
    for part in (
        "line 32: bmd_mg_cm3 must be a number without a unit, got '95 mg/cm3' (unit 'mg/cm3')",
        "line 33: age must be a number without a unit, got '71 y' (unit 'y')",
        "line 34: bmd_mg_cm3 must have a decimal point and no separator of thousands, got '95,5'",
        "line 35: bmd_mg_cm3 must have a decimal point and no separator of thousands, got '1.095,5'",
        "line 36: a row must not begin with #",
        "line 37: a row must be one subject or study, got a summary ('Total')",
        "line 38: a row must hold data, got the names of columns again",
        "line 39: a row must differ from the others, got all cells of line 6 again",
    ):
        assert part in message
    assert message.startswith("'model.csv' has 8 problems:")


def test_densities_in_g_cm3(tmp_path: Path) -> None:
    """T1: all 40 people had osteoporosis."""
    rows = [f"S{n},{0.06 + 0.003 * n},{61 + n},60" for n in range(30)]
    assert "bmd_mg_cm3 must be in mg/cm3, got values up to 0.147, as in g/cm3" in problems(tmp_path, rows=rows)


@pytest.mark.parametrize(("value", "count"), [("0.095", 1), ("0", 1), ("1.05", 2)])
def test_single_densities_in_g_cm3_or_zero_for_unknown(value: str, count: int, tmp_path: Path) -> None:
    """They are osteoporosis by the thresholds."""
    changed = [f"S10{n},{value},96,71" for n in range(count)]
    message = problems(tmp_path, *changed)
    assert f"or empty if unknown, got {float(value):g} ({count} value" in message


def test_a_year_of_birth_is_no_age(tmp_path: Path) -> None:
    assert "line 32: age must be a number from 0 to 120, got '1955'" in problems(tmp_path, "S101,95,96,1955")


def test_a_density_below_0_is_read(tmp_path: Path) -> None:
    """Fatty marrow is below 0."""
    (tmp_path / "model.csv").write_text("\n".join([HEAD, *ROWS, "S101,-5,3,88"]) + "\n")
    assert read_predictions([tmp_path / "model.csv"])


def test_no_break_and_vertical_spaces_make_no_other_subject(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "subject_id,age\nS 1\xa0,50\nS\u202f2\v,51\nS\f3,52\r\nS\u20284,53\n", encoding="utf-8"
    )
    rows = read_table(tmp_path / "a.csv").rows
    assert [row["subject_id"] for _, row in rows] == ["S 1", "S 2", "S 3", "S 4"]
    assert [row["age"] for _, row in rows] == ["50", "51", "52", "53"]


def test_a_comment_with_commas_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# of 2024, by DXA\nsubject_id,age\n# left out, no DXA\n1,50\n")
    assert not read_table(tmp_path / "a.csv").problems


def test_a_total_row_of_studies(tmp_path: Path) -> None:
    """T4: the sum counted as a study of its own."""
    (tmp_path / "a.csv").write_text("study,TP,FP,FN,TN\nA,10,2,3,20\nB,8,1,2,30\nTotal,18,3,5,50\n")
    with pytest.raises(UnusableInputError, match=r"line 4: a row must be one subject or study, got a summary"):
        read_studies(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "label",
    ["Total", "TOTAL:", "Subtotal", "Mean (SD)", "Mean ± SD", "Median [IQR]", "Total (n = 24)", "All subjects",
     "Overall", "Number of patients", "Gesamt", "Total, n=24"],
)  # fmt: skip
def test_the_names_of_summary_rows(label: str, tmp_path: Path) -> None:
    """T8: a row of totals was a subject of the flow diagram."""
    (tmp_path / "a.csv").write_text(f'subject_id,age\nS1,50\n"{label}",51\n', encoding="utf-8")
    table = read_table(tmp_path / "a.csv")
    assert [problem.split(",")[0] for problem in table.problems] == ["line 3: a row must be one subject or study"]
    assert [row["subject_id"] for _, row in table.rows] == ["S1"]


@pytest.mark.parametrize("name", ["SUM001", "Mean-01", "SD12", "Total1", "All", "Media Lab 3", "N24", "Totalis"])
def test_pseudonyms_that_begin_like_a_summary_are_subjects(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"subject_id,age\n{name},50\n")
    assert not read_table(tmp_path / "a.csv").problems


def test_a_stray_quote_swallows_no_rows(tmp_path: Path) -> None:
    """T5: 5 of 24 subjects were left, and nothing was reported."""
    lines = ["subject_id,age", *(f"S{n},{n + 50}" for n in range(24))]
    lines[7] = '"' + lines[7]
    lines[12] = '"S11",61'
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    assert read_table(tmp_path / "a.csv", quoted_line_breaks=True).problems
    (tmp_path / "b.csv").write_text('subject_id,note\nS1,"two\nlines"\n')
    assert not read_table(tmp_path / "b.csv", quoted_line_breaks=True).problems


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "#S1"])
def test_formulas_are_not_computed_and_come_back(text: str, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ("subject_id", "value"), [(text, -67.6), ("S2", "-1e3")])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert not lines[1].lstrip('"').startswith(("=", "+", "-", "@"))
    assert lines[1].endswith(",-67.6")
    assert lines[2] == "S2,-1e3"
    assert [row["subject_id"] for _, row in read_table(tmp_path / "a.csv").rows] == [text, "S2"]
