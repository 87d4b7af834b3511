"""Tables rebuilt from printed proportions, and the characteristics of the studies of Wang et al. 2025."""

import csv
from pathlib import Path

import pytest

from osteo_monai.cli import run
from osteo_monai.errors import NotEstimableError, UnusableInputError
from osteo_monai.statistics.meta_analysis import read_studies, rebuild_studies, rebuild_table

SHIPPED = Path(__file__).parents[2] / "data_manifests" / "evidence"
PAN = {"sensitivity": "0.941", "specificity": "0.948"}


def test_printed_values_of_pan_have_one_solution() -> None:
    found = rebuild_table(PAN, 418, 51)
    assert found.counts == (48, 19, 3, 348)
    assert found.unique
    percent = rebuild_table({"sensitivity": "94.1%", "specificity": "94.8 %"}, 418, 51)
    assert percent.counts == found.counts


def test_every_table_that_rounds_to_the_printed_values_is_found() -> None:
    # by trying all tables of 60 subjects
    printed = {"sensitivity": "0.9", "specificity": "0.85", "prevalence": "33%"}
    due = [
        (tp, 60 - n - tn, n - tp, tn)
        for n in range(1, 60)
        for tp in range(n + 1)
        for tn in range(60 - n + 1)
        if 0.325 <= n / 60 <= 0.335 and 0.85 <= tp / n <= 0.95 and 0.845 <= tn / (60 - n) <= 0.855
    ]
    found = rebuild_table(printed, 60)
    assert found.tables == len(due) > 1
    assert found.ranges == tuple((min(c), max(c)) for c in zip(*due, strict=True))
    assert found.counts in due
    assert str(found).startswith(f"rebuilt from printed values: nearest of {len(due)} tables (TP ")


def test_predictive_values_narrow_the_solutions() -> None:
    wide = rebuild_table({"sensitivity": "0.94", "specificity": "0.95", "prevalence": "0.12"}, 418)
    narrow = rebuild_table(
        {"sensitivity": "0.94", "specificity": "0.95", "prevalence": "0.12", "ppv": "0.716", "accuracy": "0.947"}, 418
    )
    assert 1 <= narrow.tables < wide.tables
    assert narrow.counts == (48, 19, 3, 348)


@pytest.mark.parametrize(
    ("printed", "subjects", "diseased", "sentence"),
    [
        ({"sensitivity": "0.9"}, 100, 50, "specificity must be given"),
        (PAN, 418, None, "prevalence or diseased must be given"),
        (PAN | {"sensitivity": "94.1"}, 418, 51, "must be at most 1 or have a percent sign, got '94.1'"),
        (PAN | {"sensitivity": "high"}, 418, 51, "sensitivity must be a proportion such as"),
        (PAN, 418, 418, "diseased must be between 1 and subjects - 1, got 418 of 418"),
        ({"sensitivity": "0.5", "specificity": "0.9", "prevalence": "0.5"}, 10**5, None, "tables round to"),
    ],
)
def test_unusable_values_are_refused(
    printed: dict[str, str], subjects: int, diseased: int | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        rebuild_table(printed, subjects, diseased)


def test_values_that_contradict_have_no_table() -> None:
    with pytest.raises(NotEstimableError, match="no table of whole numbers"):
        rebuild_table({"sensitivity": "0.95", "specificity": "0.90"}, 20, 10)


def test_file_of_printed_values_becomes_a_table_of_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, output = tmp_path / "printed.csv", tmp_path / "studies.csv"
    printed.write_text(
        "study,target,sensitivity,specificity,subjects,diseased,prevalence,plane\n"
        "Pan 2024,osteoporosis,0.941,0.948,418,51,,axial\nOther,osteoporosis,90%,85%,200,,0.3,sagittal\n"
    )
    assert run(["rebuild-tables", str(printed), "-o", str(output)]) == 0
    assert "2 tables rebuilt, 1 of them the only solution." in capsys.readouterr().out
    studies = read_studies(output)
    assert studies.tables[0].tolist() == [48, 19, 3, 348]
    assert studies.rebuilt == (True, True)
    assert studies.covariates == {"plane": ("axial", "sagittal")}
    with output.open() as file:
        first, second = csv.DictReader(file)
    assert first["derivation"].endswith(
        "the only table; sensitivity 0.941, specificity 0.948, subjects 418, diseased 51"
    )
    assert "nearest of" in second["derivation"]
    printed.write_text("study,sensitivity,specificity,subjects,diseased\nA,0.9,0.9,x,5\nB,0.95,0.9,20,10\n")
    with pytest.raises(UnusableInputError) as error:
        rebuild_studies(printed, tmp_path / "none.csv")
    assert "line 2: subjects must be a whole number, got 'x'" in str(error.value)
    assert "line 3: no table of whole numbers" in str(error.value)
    assert not (tmp_path / "none.csv").exists()


def test_total_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "studies.csv"
    path.write_text("study,TP,FP,FN,TN\nA,9,1,2,30\nB,8,3,1,40\nC,7,2,2,50\nAll three,24,6,5,120\n")
    with pytest.raises(UnusableInputError, match="line 5: 'All three' is the sum of the other rows"):
        read_studies(path)
    path.write_text("study,TP,FP,FN,TN\nA,9,1,2,30\nB,8,3,1,40\nTotal,24,6,5,121\n")
    with pytest.raises(UnusableInputError, match="line 4: a row must be one subject or study, got a summary"):
        read_studies(path)


# --- Table 1 of Wang et al. 2025 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wang() -> list[dict[str, str]]:
    lines = (SHIPPED / "wang2025_studies.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_studies_of_the_review_have_the_totals_of_its_text(wang: list[dict[str, str]]) -> None:
    assert len(wang) == 24
    assert sorted(int(row["reference_number"]) for row in wang) == [*range(14, 19), 20, 21, *range(23, 40)]
    sums = {name: sum(int(row[name]) for row in wang) for name in wang[0] if name.startswith(("ct_", "plane_"))}
    assert sums["plane_sagittal"] == 7
    assert sums["plane_coronal"] == 3
    totals = {"three_dimensional": 7, "manual_segmentation": 5, "end_to_end": 12, "direct_diagnosis": 11}
    totals |= {"density_based": 13, "several_samples_per_participant": 5, "several_test_results": 15}
    for name, due in totals.items():
        assert sum(int(row[name]) for row in wang) == due, name
    # each study is of one kind of diagnosis
    assert all(int(row["direct_diagnosis"]) + int(row["density_based"]) == 1 for row in wang)


def test_contradictions_of_the_review_follow_from_its_table(wang: list[dict[str, str]]) -> None:
    assert sum(int(row["pooled_footnote"]) for row in wang) == 19  # the text pools 20
    without = {int(row["reference_number"]) for row in wang if row["pooled_footnote"] == "0"}
    assert without == {24, 33, 34, 35, 39}  # the text excludes 24, 33, 34 and 39
    assert sum(int(row["plane_axial"]) for row in wang) == 20  # the text says 19
    assert sum(row["data_source"] == "Multicenter" for row in wang) == 4
    sizes = [
        int(row[name]) for row in wang for name in ("internal_test", "temporal_test", "external_test") if row[name]
    ]
    assert (min(sizes), max(sizes)) == (45, 4401)  # the text says 45 to 2867
    assert sum(int(row["participants"]) for row in wang if row["participants"]) == 18016  # of 29,808; 15 of 24 rows


def test_names_agree_with_the_quality_table(wang: list[dict[str, str]]) -> None:
    lines = (SHIPPED / "wang2025_quadas2.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    numbers = {int(row["study"].split("[")[1].rstrip("]")) for row in rows}
    assert numbers == {int(row["reference_number"]) for row in wang}
