"""Folders of radiographs, options of radiographs, and their part of the result."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.uid import generate_uid

from osteo_monai.domain import View
from osteo_monai.risk.calibration import read_risk
from osteo_monai.screening import (
    RadiographModels,
    RadiographOptions,
    ScreeningResult,
    find_screenable,
    screen_folder,
)
from osteo_monai.screening.models import LUMBAR_BUNDLE
from osteo_monai.screening.result import RadiographRisk, RiskOpinion
from osteo_monai.screening_files import screen_to_folder

from .conftest import dicom, lumbar_pair, png

# --- many studies -------------------------------------------------------------------------------------------------


def test_a_folder_of_mixed_studies_gives_a_row_each(bundles: Path, tmp_path: Path) -> Any:
    root = tmp_path / "in"
    dicom(root / "chest" / "a.dcm", PatientAge="071Y")
    lumbar_pair(root / "lumbar")
    png(root / "x.png")
    dicom(root / "ct" / "1.dcm", modality="CT")
    models = RadiographModels("cpu", trust=True)

    def screen_one(study: Any, folder: Any) -> Any:
        if study.kind == "ct":
            return ScreeningResult(study=folder.name, verdict="accepted", findings=())
        return screen_to_folder(study, folder, name=folder.name, radiograph_models=models)

    results = screen_folder(find_screenable(root), root, tmp_path / "out", lambda: screen_one)
    assert {row["verdict"] for row in results} == {"accepted", "accepted_with_warnings", "refused"}
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert {name: (row["modality"], row["view"]) for name, row in rows.items()} == {
        "chest": ("radiograph", "chest_frontal"),
        "ct": ("ct", ""),
        "lumbar": ("radiograph", "lumbar_ap+lumbar_lateral"),
        "x.png": ("radiograph", ""),
    }
    chest = rows["chest"]
    assert float(chest["risk_low"]) < float(chest["risk"]) < float(chest["risk_high"])
    assert (chest["risk_raised"], chest["combined_risk"], chest["density_mg_cm3"]) == ("True", "", "")
    assert float(chest["age"]) == 71
    assert (rows["x.png"]["verdict"], rows["x.png"]["refusals"], rows["x.png"]["risk"]) == (
        "refused",
        "view_unknown",
        "",
    )
    assert rows["ct"]["risk"] == ""
    assert (tmp_path / "out" / "lumbar" / "heat_map.png").exists()


def test_studies_are_distinguished_by_content(tmp_path: Path) -> None:
    """Flat folders of radiographs by study, series in sub-folders together, previews beside slices skipped."""
    one, two = generate_uid(), generate_uid()
    lumbar_pair(tmp_path / "flat", one)
    dicom(tmp_path / "flat" / "chest.dcm", study=two)
    series = generate_uid()
    dicom(tmp_path / "series" / "1" / "a", "LSPINE", "AP", series)
    dicom(tmp_path / "series" / "2" / "b", "LSPINE", "LATERAL", series)
    dicom(tmp_path / "ct" / "1.dcm", modality="CT")
    png(tmp_path / "ct" / "preview.png")
    found = [(s.kind, s.path.relative_to(tmp_path).as_posix(), len(s.files)) for s in find_screenable(tmp_path)]
    assert found == [
        ("ct", "ct", 0),
        ("radiograph", "flat/ap.dcm", 2),
        ("radiograph", "flat/chest.dcm", 1),
        ("radiograph", "series", 2),
    ]


@pytest.mark.parametrize("ct", ["scan.nii.gz", "scan/1.dcm"])
def test_a_single_ct_among_radiographs_is_given_by_itself(tmp_path: Path, ct: Any) -> None:
    """And not by the folder that it shares with them, of which a reader of CT could make nothing."""
    lumbar_pair(tmp_path / "lumbar")
    png(tmp_path / "x.png")
    if ct.endswith(".dcm"):
        dicom(tmp_path / ct, modality="CT")
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / ct)
    found = [(s.kind, s.path.relative_to(tmp_path).as_posix()) for s in find_screenable(tmp_path)]
    assert found == [("radiograph", "lumbar"), ("ct", ct.partition("/")[0]), ("radiograph", "x.png")]


# --- options and the result ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"age": 150.0}, "age must be between 0 and 120 years, got 150"),
        ({"height": 1.6}, "height must be between 30 and 250 cm, got 1.6"),
        ({"weight": float("nan")}, "weight must be between 1 and 400 kg, got nan"),
        ({"view": View.CHEST_LATERAL}, "view must be chest_frontal, lumbar_ap or lumbar_lateral, got 'chest_lateral'"),
    ],
)
def test_invalid_options_are_named(options: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        RadiographOptions(**options)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_older_result_still_reads_as_one_of_a_ct(version: Any) -> None:
    stored = {"version": version, "study": "a", "verdict": "refused", "findings": [], "seconds": {"reading": 1.0}}
    if version == "1.1":
        stored |= {"opinions": [], "opinions_absent": {"classifier": "It is not installed."}}
    result = ScreeningResult.model_validate_json(json.dumps(stored))
    assert (result.version, result.modality, result.radiograph) == (version, "ct", None)


def test_a_ct_holds_no_risk_and_a_radiograph_no_class() -> None:
    risk = RadiographRisk(radiographs=(), risk=RiskOpinion(name="fused", score=0.5), trained_on="no data")
    with pytest.raises(ValueError, match="radiograph must be absent from the result of a CT"):
        ScreeningResult(study="a", verdict="accepted", findings=(), radiograph=risk)
    with pytest.raises(ValueError, match="density and status must be absent"):
        ScreeningResult(study="a", modality="radiograph", verdict="accepted", findings=(), status="normal")


def test_calibrations_are_those_of_the_bundle(bundles: Path) -> None:
    models = RadiographModels("cpu", trust=True)
    assert models.calibrations(LUMBAR_BUNDLE) == read_risk(bundles / LUMBAR_BUNDLE / "models")
    assert models.bundle(View.LUMBAR_AP) is models.bundle(View.LUMBAR_AP)
