"""Every reader of a user's table reads commas, semicolons and tabs with decimal commas, and missing words, alike."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import osteo_monai
from osteo_monai.cohort.scans import read_scans
from osteo_monai.data import read_predictions
from osteo_monai.data.repeats import read_measured_scans
from osteo_monai.site_calibration import read_summaries
from osteo_monai.statistics.meta_analysis import rebuild_studies
from osteo_monai.statistics.meta_analysis.studies import read_quadas, read_studies

PACKAGE = Path(osteo_monai.__file__).parent


def predictions(path: Path) -> list[Any]:
    return [
        [p.subjects.tolist(), p.probabilities.tolist() if p.probabilities is not None else None]
        for p in read_predictions([path])
    ]


def rebuilt(path: Path) -> object:
    return rebuild_studies(path, path.with_suffix(".out"))


READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "predictions": (
        predictions,
        "subject_id,osteoporosis,probability_osteoporosis,age\na,1,0.75,NA\nb,0,0.25,61.5\n",
    ),
    "repeated scans of a model": (
        lambda path: read_measured_scans([path]),
        "subject_id,acquired,kvp,predicted_bmd_mg_cm3\na,2024-01-01,120.0,101.25\na,2024-01-08,120.0,NA\n",
    ),
    "repeated scans of a screening": (
        lambda path: read_measured_scans([path]),
        "study,subject_id,acquired,kvp,density_mg_cm3,l1_mg_cm3\ns,a,2024-01-01,120.0,101.25,99.5\n",
    ),
    "drift": (
        lambda path: read_summaries([path]),
        "study,modality,manufacturer,model,acquired,kvp,air_hu,fat_hu\ns,ct,A,B,2024-01-01,120.0,-1000.5,NA\n",
    ),
    "scans of a calibration": (read_scans, "subject_id,hu,kvp,bmd_mg_cm3\na,151.25,120.0,NA\n"),
    "studies": (
        lambda path: read_studies(path).covariates,
        "study,TP,FP,FN,TN,age\nA,10,2,3,40,61.5\nB,12,4,2,50,NA\n",
    ),
    "quality": (
        read_quadas,
        "study,patient_selection,index_test,reference_standard,flow_and_timing,applicability_patient_selection,"
        "applicability_index_test,applicability_reference_standard\nA,low,high,unclear,low,low,NA,high\n",
    ),
    "printed values": (rebuilt, "study,sensitivity,specificity,subjects,diseased\nA,0.941,0.948,418,51\n"),
}


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("name", READERS)
def test_decimal_commas_are_read_as_points(name: str, separator: str, tmp_path: Path) -> None:
    read, text = READERS[name]
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    expected = repr(read(path))
    written = io.StringIO()
    rows = [[re.sub(r"^(-?\d+)\.(\d+)$", r"\1,\2", cell) for cell in row] for row in csv.reader(text.splitlines())]
    csv.writer(written, delimiter=separator).writerows(rows)
    path.write_text(written.getvalue(), encoding="utf-8")
    assert written.getvalue() != text
    assert repr(read(path)) == expected


def test_no_module_has_a_csv_reader_of_its_own() -> None:
    """Except that of the summary which the same command wrote before."""
    own = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"csv\.(Dict)?[Rr]eader|read_csv\(|genfromtxt|loadtxt", path.read_text(encoding="utf-8"))
    }
    assert own <= {"data/csv_tables.py", "screening/summary.py"}
