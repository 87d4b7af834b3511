"""One virtual person from the command line to the report, with the shipped bundles and the exact truth."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from osteo_monai import cli
from osteo_monai.domain import VertebraLevel
from osteo_monai.screening.result import ScreeningResult

pytestmark = pytest.mark.slow

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a virtual chest CT of 150 slices as DICOM, with a small matrix to be quick."""
    folder = tmp_path_factory.mktemp("virtual")
    words = ["--seed", "3", "--sex", "F", "--age", "62", "--density", "95", "--matrix", "256"]
    assert cli.run(["virtual", "ct", "--output", str(folder), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def truth(study: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((study / "truth" / "truth.json").read_text())
    return facts


@pytest.fixture(scope="module")
def output(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Screen the study as a user would, and return the folder of the results."""
    folder = tmp_path_factory.mktemp("screened") / "out"
    assert cli.run(["screen", str(study / "dicom"), "--output", str(folder), "--device", "cpu"]) == 0
    return folder


@pytest.fixture(scope="module")
def result(output: Path) -> ScreeningResult:
    return ScreeningResult.model_validate_json((output / "result.json").read_text())


def test_both_levels_are_found_where_they_are(result: ScreeningResult, truth: dict[str, Any]) -> None:
    assert [m.level for m in result.levels] == [L1, L2]
    for m in result.levels:
        np.testing.assert_allclose(m.centre_mm, truth["levels"][m.level]["centre_mm"], atol=6.0)


def test_density_is_that_of_the_person(result: ScreeningResult, truth: dict[str, Any]) -> None:
    assert result.density is not None
    assert result.density.mg_cm3 == pytest.approx(truth["mean_density_mg_cm3"], abs=10)
    assert result.density.interval_low < truth["mean_density_mg_cm3"] < result.density.interval_high
    assert result.status == truth["bone_status"]
    for m in result.levels:
        assert m.hu.median == pytest.approx(truth["levels"][m.level]["hu"], abs=10)


def test_header_facts_are_in_the_result(result: ScreeningResult) -> None:
    assert result.acquisition is not None
    assert result.acquisition.kvp == 120
    assert result.acquisition.age_years == 62
    assert result.acquisition.sex == "F"
    assert [m.bundle for m in result.models] == [
        "vertebra_localization_ct",
        "vertebral_column_ct",
        "vertebral_body_segmentation_ct",
        "bone_density_regression_ct",
        "osteoporosis_classification_ct",
    ]
    assert all(len(m.weights_sha256) == 64 for m in result.models)


def test_instance_number_names_the_slice_through_the_centre(result: ScreeningResult, study: Path) -> None:
    slices = {}
    for file in (study / "dicom").iterdir():
        header = pydicom.dcmread(file, stop_before_pixels=True)
        slices[int(header.InstanceNumber)] = float(header.ImagePositionPatient[2])
    for m in result.levels:
        assert m.instance_number is not None
        assert slices[m.instance_number] == pytest.approx(m.centre_mm[2], abs=1.01)  # half a slice of 2 mm


def test_labels_overlay_the_truth(output: Path, study: Path) -> None:
    ours = nib.load(output / "labels.nii.gz")
    theirs = nib.as_closest_canonical(nib.load(study / "truth" / "labels.nii.gz"))
    labels, exact = np.asarray(nib.as_closest_canonical(ours).dataobj), np.asarray(theirs.dataobj)
    assert labels.shape == exact.shape
    for level in (L1, L2):
        a, b = labels == level.label, exact == level.label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.85


def test_report_is_whole_and_names_no_file_outside_itself(output: Path) -> None:
    text = (output / "report.html").read_text()
    assert "Research use only" in text
    for outside in ('src="http', 'href="http', 'src="/', "@import"):
        assert outside not in text
