"""Identity, UIDs, flags and content of the objects."""

import hashlib
import logging
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from osteo_monai.dicom_results import DicomOptions, FurtherFiles, Outputs, WrittenObject, write_dicom_results
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening import Screening

from .conftest import CREATED, NAME, PATIENT_ID, STUDY_UID, Case, MakeCase, inside, refused

FIXED = DicomOptions(created=CREATED)


def read(written: list[WrittenObject]) -> dict[str, Dataset]:
    return {w.path.stem: pydicom.dcmread(w.path) for w in written}


def texts(ds: Dataset) -> list[str]:
    """Return all texts of a report."""
    found = [str(ds.TextValue)] if "TextValue" in ds else []
    for item in ds.get("ContentSequence", ()):
        found += texts(item)
    return found


def measurement_report(path: Path) -> hd.sr.MeasurementReport:
    content = hd.sr.srread(path).content
    assert isinstance(content, hd.sr.MeasurementReport)
    return content


def groups(ds: Dataset) -> list[Dataset]:
    (container,) = [
        i for i in ds.ContentSequence if i.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue") == "126010"
    ]
    return [i for i in container.ContentSequence if i.ValueType == "CONTAINER"]


def numbers(group: Dataset) -> dict[str, float]:
    """Return the values of a group by code, with the derivation."""
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            modifiers = [
                c for c in item.get("ContentSequence", ()) if c.ConceptNameCodeSequence[0].CodeMeaning == "Derivation"
            ]
            name = item.ConceptNameCodeSequence[0].CodeValue
            key = f"{name} {modifiers[0].ConceptCodeSequence[0].CodeMeaning}" if modifiers else name
            found[key] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


def test_identity_and_flags_of_all_objects(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    written = write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED)
    objects = read(written)
    assert list(objects) == ["seg", "sr", "sc", "report"]
    source = pydicom.dcmread(case.files[0])
    for ds in objects.values():
        assert (ds.StudyInstanceUID, ds.PatientID, ds.AccessionNumber) == (STUDY_UID, PATIENT_ID, "ACC1")
        assert str(ds.PatientName) == str(source.PatientName) == NAME
        assert (ds.PatientBirthDate, ds.PatientSex, ds.PatientAge) == ("19520301", "M", "069Y")
        assert (ds.StudyDate, ds.StudyDescription, str(ds.ReferringPhysicianName)) == (
            "20210301",
            "CT Abdomen",
            "Doe^Jane",
        )
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert ds.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert ds.SeriesDescription.startswith("AI, unverified, research use")
        assert ds.SeriesNumber > 9000
        assert (ds.InstanceCreationDate, ds.InstanceCreationTime) == ("20260102", "030405")
    assert len({ds.SeriesInstanceUID for ds in objects.values()} | {source.SeriesInstanceUID}) == 5
    report = objects["sr"]
    assert (report.PreliminaryFlag, report.VerificationFlag, report.CompletionFlag) == (
        "PRELIMINARY", "UNVERIFIED", "COMPLETE",
    )  # fmt: skip
    assert objects["sc"].BurnedInAnnotation == objects["report"].BurnedInAnnotation == "NO"
    for w in written:
        assert (
            w.sop_instance_uid
            == objects[w.path.stem].SOPInstanceUID
            == objects[w.path.stem].file_meta.MediaStorageSOPInstanceUID
        )


def test_identical_work_gives_identical_files(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    one, two = (write_dicom_results(case.screening, case.files, tmp_path / name, FIXED) for name in ("a", "b"))
    hashes = [[hashlib.sha256(w.path.read_bytes()).hexdigest() for w in written] for written in (one, two)]
    assert hashes[0] == hashes[1]
    result, images = case.screening
    # name, times and key of the run are no content, nor are other objects of the folder
    renamed = result.timed({"total": 9.0}).model_copy(update={"study": "other", "run": "x"})
    later = DicomOptions(created=CREATED.replace(year=2027))
    again = write_dicom_results(Screening(renamed, images), case.files, tmp_path / "c", later)
    assert [w.sop_instance_uid for w in again] == [w.sop_instance_uid for w in one]
    assert [w.series_instance_uid for w in again] == [w.series_instance_uid for w in one]


def test_other_content_gives_other_uids(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    result, images = case.screening
    one = write_dicom_results(case.screening, case.files, tmp_path / "a", FIXED)
    model = result.models[0].model_copy(update={"weights_sha256": "ef" * 32})
    other = Screening(result.model_copy(update={"models": (model,)}), images)
    two = write_dicom_results(other, case.files, tmp_path / "b", FIXED)
    names = {w.path.stem for w, v in zip(one, two, strict=True) if w.sop_instance_uid != v.sop_instance_uid}
    assert names == {"seg", "sr", "report"}  # the overview does not show the models
    uids = [w.sop_instance_uid for w in (*one, *two)]
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_values_of_the_report(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    objects = read(write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED))
    report = objects["sr"]
    first = groups(report)[0]
    assert numbers(first) == {
        "VBMD_K2HPO4": 79.97,  # not 80.0, which would be another class
        "VBMD_K2HPO4_LOW": 64.0,
        "VBMD_K2HPO4_HIGH": 96.0,
        "112031 Mean": 110.4,
        "112031 Median": 111.0,
        "112031 Standard Deviation": 17.0,
        "112031 Tenth percentile (qualifier value)": 89.0,
        "112031 Ninetieth percentile (qualifier value)": 132.0,
        "118565006": 4.4,
    }
    derived = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126011")
    assert numbers(derived) == {"VBMD_K2HPO4 Mean": 77.0, "VBMD_K2HPO4_LOW": 61.0, "VBMD_K2HPO4_HIGH": 93.0}
    coded = [
        i.ConceptCodeSequence[0].CodeValue for i in report.ContentSequence[-1].ContentSequence if i.ValueType == "CODE"
    ]
    assert coded == ["64859006"]  # osteoporosis
    said = " ".join(texts(report))
    for text in ("ab" * 32, "density = 0.72 * HU +0", "Slices are thick", "Research use only", "osteoporosis below 80"):
        assert text in said
    assert NAME.split("=")[0] not in said


def test_references_of_the_report(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    objects = read(write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED))
    report, seg = objects["sr"], objects["seg"]
    evidence = {
        item.ReferencedSOPInstanceUID
        for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    used = {i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert evidence == used | {seg.SOPInstanceUID}
    parsed = measurement_report(tmp_path / "out" / "sr.dcm")
    volumes = parsed.get_volumetric_roi_measurement_groups()
    references = [g.referenced_segment for g in volumes]
    segments = {numbers[0] for r in references if r is not None and (numbers := r.referenced_segment_numbers)}
    assert segments == {1, 2, 3, 4}
    tracked = {g.tracking_uid for g in parsed.get_planar_roi_measurement_groups()}
    assert tracked < {g.tracking_uid for g in volumes}
    assert {g.tracking_uid for g in volumes} == {s.TrackingUID for s in seg.SegmentSequence}


def test_contours_lie_on_the_region_of_their_image(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED)
    images = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, case.files)}
    planar = measurement_report(tmp_path / "out" / "sr.dcm").get_planar_roi_measurement_groups()
    assert len(planar) == 2
    for group, level in zip(planar, case.screening.result.levels, strict=True):
        region = group.roi
        assert isinstance(region, hd.sr.ImageRegion)
        image = images[region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
        points = region.value  # column and row, of which (0.5, 0.5) is the centre of the first pixel
        position, spacing = np.array(image.ImagePositionPatient, float), np.array(image.PixelSpacing, float)
        x = -(position[0] + (points[:, 0] - 0.5) * spacing[1])
        y = -(position[1] + (points[:, 1] - 0.5) * spacing[0])
        z = np.full_like(x, position[2])
        centre = np.array(level.centre_mm)
        outwards = np.stack([x, y], axis=1) - centre[:2]
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        for step, expected in ((-1.5, True), (1.5, False)):  # less than a pixel inside and outside
            moved = np.stack([x, y], axis=1) + step * outwards
            assert (inside(level.level, "region", moved[:, 0], moved[:, 1], z) == expected).mean() > 0.95


def test_a_refused_study_has_the_reason_in_each_object(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    screening = Screening(refused(case.screening.result), case.screening.images)
    objects = read(write_dicom_results(screening, case.files, tmp_path / "out", FIXED))
    said = texts(objects["sr"])
    assert "L1 is not in the field of view." in said
    assert "262008008" in str(objects["sr"])  # not performed
    assert all(not numbers(group) for group in groups(objects["sr"]))
    assert not any("126011" in str(i.ConceptNameCodeSequence[0].CodeValue) for i in objects["sr"].ContentSequence)


def test_a_study_that_was_refused_while_reading(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    screening = Screening(refused(case.screening.result), None)
    written = write_dicom_results(screening, case.files, tmp_path / "out", FIXED)
    assert [w.path.stem for w in written] == ["sr", "sc", "report"]
    evidence = read(written)["sr"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 1


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("StudyInstanceUID", "", "valid StudyInstanceUID"),
        ("StudyInstanceUID", "../../x", "valid StudyInstanceUID"),
        ("StudyInstanceUID", None, "one study of one patient"),
        ("PatientID", None, "one study of one patient"),
        ("SOPInstanceUID", "1..2", "valid UIDs"),
    ],
)
def test_no_object_without_one_identity(
    make_case: MakeCase, tmp_path: Path, keyword: str, value: str | None, said: str
) -> None:
    """A result in the study of another person is the worst result."""
    case = make_case()
    for number, file in enumerate(case.files):
        ds = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            setattr(ds, keyword, f"1.2.{number + 1}" if value is None else value)
            ds.save_as(file)
    screening = Screening(refused(case.screening.result), None)
    with pytest.raises(UnusableInputError, match=said):
        write_dicom_results(screening, case.files, tmp_path / "out", FIXED)
    further = FurtherFiles(Outputs(dicom=FIXED), case.files)
    result = further(screening, tmp_path / "further")
    assert (result.findings[-1].code, further.written, further.error) == ("dicom_not_written", [], None)
    assert not (tmp_path / "further" / "dicom").exists()


def test_radiographs(radiograph_case: Case, tmp_path: Path) -> None:
    objects = read(write_dicom_results(radiograph_case.screening, radiograph_case.files, tmp_path / "out", FIXED))
    assert list(objects) == ["sr", "sc", "report"]
    found = [numbers(group) for group in groups(objects["sr"])]
    assert found == [{"RISK": 0.62, "RISK_LOW": 0.51, "RISK_HIGH": 0.72}, {"SCORE": 0.7}, {"SCORE": 0.7}]
    evidence = objects["sr"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert {i.ReferencedSOPInstanceUID for i in evidence.ReferencedSOPSequence} == {
        f"{STUDY_UID}.3.{n}" for n in (1, 2)
    }
    assert "virtual people" in " ".join(texts(objects["sr"]))
    assert objects["sc"].BodyPartExamined == "LSPINE"


def test_burned_in_text_of_the_source_is_stated(radiograph_case: Case, tmp_path: Path) -> None:
    for file in radiograph_case.files:
        ds = pydicom.dcmread(file)
        ds.BurnedInAnnotation = "YES"
        ds.save_as(file)
    objects = read(write_dicom_results(radiograph_case.screening, radiograph_case.files, tmp_path / "out", FIXED))
    assert objects["sc"].BurnedInAnnotation == objects["report"].BurnedInAnnotation == "YES"


def test_a_value_that_viewers_reject_is_left_out(make_case: MakeCase, tmp_path: Path) -> None:
    wrong = {
        "PatientBirthDate": "unknown",
        "StudyTime": "99:99",
        "PatientAge": "69",
        "PatientSex": "male",
        "StudyID": "x" * 40,
    }

    def change(ds: Dataset, k: int) -> None:
        with pydicom.config.disable_value_validation():
            for keyword, value in wrong.items():
                setattr(ds, keyword, value)

    case = make_case(change=change)
    for ds in read(write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED)).values():
        assert (ds.PatientBirthDate, ds.StudyTime, ds.PatientSex, len(ds.StudyID)) == ("", "", "", 16)
        assert "PatientAge" not in ds


def test_no_name_is_logged(make_case: MakeCase, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.PatientName = "Secretname"  # highdicom warns of a name without family and given name

    caplog.set_level(logging.DEBUG)
    case = make_case(change=change)
    write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED)
    assert "Secretname" not in caplog.text
    assert PATIENT_ID not in caplog.text
    assert logging.getLogger("highdicom").level == logging.NOTSET


def test_no_half_set_of_objects(make_case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Dataset:
        raise OSError(28, "No space left on device")

    case = make_case()
    monkeypatch.setattr("osteo_monai.dicom_results.write.store", fail)
    further = FurtherFiles(Outputs(dicom=FIXED), case.files)
    result = further(case.screening, tmp_path / "out")
    assert result.findings[-1].message == "DICOM results could not be written (no space is left)."
    assert isinstance(further.error, OSError)
    assert not (tmp_path / "out" / "dicom").exists()


def test_the_pdf_is_a_report(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    ds = read(write_dicom_results(case.screening, case.files, tmp_path / "out", FIXED))["report"]
    pdf = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert ds.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert b"CreationDate" not in pdf
    assert PATIENT_ID.encode() not in pdf
