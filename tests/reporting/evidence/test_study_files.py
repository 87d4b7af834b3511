"""Tables of other countries and programs, and several tables of a study."""

import json
from pathlib import Path

import pytest

from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evidence import EvidenceOptions, write_evidence
from osteo_monai.statistics.meta_analysis import read_studies

ROWS = (
    "study,model,TP,FP,FN,TN", "A,1,47,10,9,138", "A,2,44,8,12,140", "B,1,126,27,51,154", "C,1,19,2,10,92",
    "D,1,36,8,3,76", "E,1,130,21,19,159", "F,1,84,8,2,89", "G,1,68,12,4,123",
)  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_of_another_country_is_read(tmp_path: Path, separator: str) -> None:
    """Semicolons or tabs, decimal commas, and the words of missing values that R and pandas write."""
    rows = ["study,TP,FP,FN,TN,age,kind", "A,12,1,2,30,61.5,CT", "NA,9,1,2,30,NA,n/a"]
    text = "\n".join(row.replace(",", separator).replace("61.5", "61,5") for row in rows)
    found = read_studies(written(tmp_path, text))
    assert found.tables.tolist() == [[12, 1, 2, 30], [9, 1, 2, 30]]
    assert found.studies == ("A", "NA")  # a name is no missing value
    assert found.covariates == {"age": ("61.5", ""), "kind": ("CT", "")}
    with pytest.raises(UnusableInputError, match="line 2: TP is empty"):
        read_studies(written(tmp_path, "study,TP,FP,FN,TN\nA,NA,2,3,4\n"))


def test_several_tables_of_a_study_have_a_three_level_model(tmp_path: Path) -> None:
    write_evidence(EvidenceOptions(studies=written(tmp_path, "\n".join(ROWS)), replicates=0), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "evidence.json").read_text())["targets"]["osteoporosis"]
    html = (tmp_path / "out" / "report.html").read_text()
    level = found["three_level"]
    assert level["converged"]
    assert len(level["between_studies"]) == 2
    low, value, high = (level["sensitivity"][key] for key in ("low", "value", "high"))
    assert low < value < high
    assert f"within studies (three-level model)</th><td>{value:.3f}" in html
