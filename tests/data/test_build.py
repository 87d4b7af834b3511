"""Building a manifest: each subject is included or has a reason, all problems are listed together."""

import json
import sys
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from osteo_monai import cli
from osteo_monai.data import BuildOptions, build_manifest, build_products, read_manifest, write_manifest
from osteo_monai.domain import BoneStatus, MineralStandard, Sex
from osteo_monai.errors import ManifestError, UnusableInputError
from osteo_monai.norms import density_norm


class Study:
    """A table and a tree of images in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.images.mkdir()

    def nifti(self, name: str, array: Any = None, **sidecar: Any) -> Path:
        path = self.images / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8) if array is None else array, np.eye(4)), path)
        if sidecar:
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
        return path

    def table(self, text: str, name: str = "table.csv") -> Path:
        path = self.folder / name
        path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n", encoding="utf-8")
        return path

    def build(self, text: str, **options: Any) -> Any:
        options = {"standard": MineralStandard.K2HPO4, **options}
        return build_manifest(BuildOptions(self.table(text), self.images, self.folder / "out", **options))

    def problems(self, text: str, **options: Any) -> tuple[str, ...]:
        with pytest.raises(ManifestError) as caught:
            self.build(text, **options)
        return caught.value.problems


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def dicom_series(folder: Path, slices: int = 3, **header: Any) -> None:
    """Write a small axial CT series, with the headers that the reader needs."""
    from pydicom.dataset import Dataset

    folder.mkdir(parents=True)
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    for k in range(slices):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        facts = {
            "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "Rows": 2, "Columns": 2, "KVP": 120,
            "SliceThickness": 2, "ConvolutionKernel": "B", "Manufacturer": "Maker", "ManufacturerModelName": "M1",
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 2 * k],
            "PixelSpacing": [0.8, 0.8], "RescaleSlope": 1, "RescaleIntercept": -1024, "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
            "PixelRepresentation": 0, "PixelData": b"\0" * 8, "StudyDate": "20210131", "PatientSex": "F",
            "PatientAge": "061Y",
        }  # fmt: skip
        for keyword, value in {**facts, **uids, **header}.items():
            if value is not None:
                setattr(ds, keyword, value)
        ds.save_as(folder / f"{k}.dcm", enforce_file_format=True)


# --- joining -------------------------------------------------------------------------------------------------------


def test_a_table_and_a_folder_become_a_manifest(study: Study) -> None:
    study.nifti("a", KVP=120, AcquisitionDate="2021-02-03", PatientSex="M", ConvolutionKernel="B")
    study.nifti("a_label")
    study.nifti("deep/sub-b/ct")
    study.nifti("stranger")
    built = study.build(
        """subject_id,age,sex,bmd_l1_mg_cm3,bmd_l2_mg_cm3,acquired,ward
        a,50,,121,119,,3
        b,60.5,F,60,70,20210131,4"""
    )
    a, b = built.manifest.splits["test"]
    assert (a.image, a.label, a.segmentation) == ("../images/a.nii.gz", "../images/a_label.nii.gz", None)
    assert (a.kvp, a.kernel, a.sex, a.acquired) == (120, "B", Sex.MALE, date(2021, 2, 3))
    assert (a.bmd_mg_cm3, a.bone_status) == (120, BoneStatus.OSTEOPENIA)
    assert a.level_bmd_mg_cm3 == {"L1": 121, "L2": 119}
    assert (b.image, b.sex, b.bone_status) == ("../images/deep/sub-b/ct.nii.gz", Sex.FEMALE, "osteoporosis")
    assert (b.kvp, b.label, b.acquired) == (None, None, date(2021, 1, 31))
    assert built.exclusions == ()
    assert [s.count for s in built.stages] == [2, 2]
    assert any("ward" in note for note in built.notes)
    assert any("1 NIfTI images in the folder belong to no row" in note for note in built.notes)
    write_manifest(built.manifest, study.folder / "out" / "m.json")
    assert read_manifest(study.folder / "out" / "m.json") == built.manifest  # the paths lead to files


def test_names_that_differ_by_zeros_or_capitals_are_reported(study: Study) -> None:
    """Spreadsheets change 001 to 1; the message was "no CT image found"."""
    for name in ("001", "Pat_03", "sub-007", "9"):
        study.nifti(name)
    near = "the names must be equal"
    (problem, *more) = study.problems("subject_id,age\n1,50\npat-3,51")
    assert problem == "no subject remains of 2 (no CT image found: 2)"
    assert any(near in text and "such as '1' from '001'" in text and text.startswith("2 subjects") for text in more)
    built = study.build("subject_id,age\n7.0,50\n9,51\n09,52\nother,53")
    assert [e.subject_id for e in built.exclusions] == ["7.0", "09", "other"]
    (note,) = (note for note in built.notes if near in note)
    assert note.startswith("1 subject without")  # 9 is another subject of the table
    assert "'7.0' from 'sub-007'" in note


def test_headers_complete_the_table(study: Study) -> None:
    dicom_series(study.images / "p1" / "series")
    dicom_series(study.images / "p2" / "series", KVP=100)
    dicom_series(study.images / "p3" / "series", RescaleSlope=None)
    (study.images / "p4").mkdir()
    built = study.build("subject_id,bmd_mg_cm3,sex,kvp\np1,100,,\np2,100,M,120\np3,100,,\np4,100,,")
    one, two = built.manifest.splits["test"]
    assert (one.image, one.kvp, one.sex, one.age, one.acquired) == ("../images/p1", 120, "F", 61, date(2021, 1, 31))
    assert (one.manufacturer, one.scanner, one.slice_thickness_mm) == ("Maker", "M1", 2)
    # the table states the person, the header the acquisition; both differences are reported
    assert (two.sex, two.kvp) == ("M", 100)
    assert sum("p2" in note and "header" in note for note in built.notes) == 2
    assert {e.subject_id: e.reason for e in built.exclusions} == {
        "p3": "CT cannot be measured (missing rescale)",
        "p4": "no CT image found",
    }


def test_german_tables_are_read(study: Study) -> None:
    study.nifti("p1")
    text = "Kennung;Alter;Dichte\np1;63,5;79,9"
    columns = {"subject_id": "Kennung", "age": "alter", "bmd_mg_cm3": "Dichte"}
    (record,) = study.build(text, columns=columns).manifest.splits["test"]
    assert (record.age, record.bmd_mg_cm3, record.bone_status) == (63.5, 79.9, "osteoporosis")


def test_a_total_row_is_no_subject_whatever_the_name_of_its_column(study: Study) -> None:
    """T8: it was counted and then left out as a subject without an image."""
    study.nifti("p1")
    (problem,) = study.problems("age,Patient\n60,p1\n60,Total (n = 1)", columns={"subject_id": "patient"})
    assert problem == "row 3: a row must be one subject or study, got a summary ('Total (n = 1)')"


@pytest.mark.parametrize(
    ("factors", "noted"),
    [
        pytest.param([1.0] * 24, False, id="mg/cm3"),
        pytest.param([1.25] * 24, True, id="all too high"),
        pytest.param([1.5, 1.5, 1.0] * 8, True, id="two thirds in HU"),
    ],
)
def test_densities_above_the_norm_are_noted(factors: list[float], noted: bool, study: Study) -> None:
    """T6: a cohort of which a part was in HU passed silently."""
    lines = ["subject_id,age,sex,bmd_mg_cm3"]
    for number, factor in enumerate(factors):
        study.nifti(f"p{number}")
        norm = density_norm(50 + number, Sex.FEMALE)
        assert norm is not None
        lines.append(f"p{number},{50 + number},F,{norm.mean * factor:.1f}")
    notes = [note for note in study.build("\n".join(lines)).notes if "above the norm" in note]
    assert len(notes) == noted
    assert all("none in HU" in note for note in notes)


def test_splits_come_from_the_table_or_the_option(study: Study) -> None:
    for name in "abc":
        study.nifti(name)
    built = study.build("subject_id,split\na,training\nb,\nc,external_riga", split="validation")
    assert {s: r[0].subject_id for s, r in built.manifest.splits.items()} == {
        "training": "a",
        "validation": "b",
        "external_riga": "c",
    }
    with pytest.raises(ValueError, match="got 'tests'"):
        study.build("subject_id\na", split="tests")


def test_several_images_of_a_subject_must_be_named(study: Study) -> None:
    study.nifti("a/first")
    study.nifti("a/second")
    assert "2 images have the name of the subject" in study.problems("subject_id\na")[0]
    built = study.build("subject_id,image\na,a/first.nii.gz\na,a/second.nii.gz")
    assert len(built.manifest.splits["test"]) == 2
    assert built.stages[0].count == 1


# --- rules ---------------------------------------------------------------------------------------------------------

PAN = """subject_id,age,kvp,bmd_mg_cm3,l2_in_view,implant,severe_degeneration,fracture
    fits,50,120,130,yes,no,no,no
    child,17.9,100,130,no,yes,no,no
    soft,50,100,,yes,no,no,no
    no_qct,50,120,,yes,no,no,no
    short,50,120,130,no,yes,no,no
    metal,50,120,130,yes,yes,yes,no
    broken,50,120,130,yes,no,,yes
    worn,50,120,130,yes,no,yes,
    vague,,120,130,,no,no,
    ghost,50,120,130,yes,no,no,no"""


def pan(study: Study, **options: Any) -> Any:
    for line in PAN.splitlines()[1:-1]:
        study.nifti(line.strip().split(",")[0])
    return study.build(PAN, rules="pan2024", **options)


def test_pans_rules_apply_in_order_and_all_subjects_are_counted(study: Study) -> None:
    built = pan(study)
    assert [r.subject_id for r in built.manifest.splits["test"]] == ["fits", "vague"]
    assert {e.subject_id: (e.stage, e.reason) for e in built.exclusions} == {
        "child": ("inclusion", "younger than 18 years"),
        "soft": ("inclusion", "tube voltage other than 120 kVp"),
        "no_qct": ("inclusion", "no QCT density"),
        "short": ("exclusion", "field of view without the whole L2"),
        "metal": ("exclusion", "implant or foreign material in L1 or L2"),
        "broken": ("exclusion", "severe degeneration or fracture deformity"),
        "worn": ("exclusion", "severe degeneration or fracture deformity"),
        "ghost": ("image", "no CT image found"),
    }
    assert [(s.count, sum(n for _, n in s.excluded)) for s in built.stages] == [(10, 1), (9, 3), (6, 4), (2, 0)]
    # unchecked facts of the subjects kept
    assert built.stages[1].unchecked == (("age", 1),)
    assert built.stages[2].unchecked == (("field of view", 1), ("degeneration and fracture", 1))


def test_unknown_facts_may_exclude(study: Study) -> None:
    built = pan(study, exclude_unknown=True)
    assert [r.subject_id for r in built.manifest.splits["test"]] == ["fits"]
    assert {e.subject_id: e.reason for e in built.exclusions}["vague"] == "age not known"


def test_a_label_map_that_ends_in_l2(study: Study) -> None:
    labels = np.zeros((2, 2, 6), np.uint8)
    labels[..., 2:4] = 21
    for name, cut in {"whole": labels, "cut": labels[..., 3:], "none": labels * 0}.items():
        study.nifti(name)
        study.nifti(f"{name}_label", cut)
    rows = "\n".join(f"{name},50,120,130,no,no,no" for name in ("whole", "cut", "none"))
    head = "subject_id,age,kvp,bmd_mg_cm3,implant,severe_degeneration,fracture\n"
    built = study.build(head + rows, rules="pan2024")
    assert [r.subject_id for r in built.manifest.splits["test"]] == ["whole"]
    assert Counter(e.reason for e in built.exclusions) == {"field of view without the whole L2": 2}


def test_screening_results_complete_the_table(study: Study) -> None:
    results = {
        "fine": ("accepted", []),
        "metal": ("refused", [{"code": "metal", "message": "Metal lies in or beside L2: ..."}]),
        "short": ("refused", [{"code": "levels_not_covered", "message": "L2 is not covered."}]),
        "odd": ("refused", [{"code": "level_uncertain", "message": "L2 is uncertain."}]),
    }
    for name, (verdict, findings) in results.items():
        study.nifti(name)
        folder = study.folder / "screened" / f"{name}.nii.gz"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"verdict": verdict, "findings": findings}))
    text = "subject_id,age,kvp,bmd_mg_cm3,severe_degeneration\n" + "\n".join(f"{n},50,120,130,no" for n in results)
    built = study.build(text, rules="pan2024", screening=study.folder / "screened")
    assert [r.subject_id for r in built.manifest.splits["test"]] == ["fine", "odd"]
    assert built.stages[2].unchecked == (("field of view", 1), ("implants", 1), ("degeneration and fracture", 1))
    with pytest.raises(UnusableInputError, match="has no results"):
        study.build(text, screening=study.images)


# --- problems ------------------------------------------------------------------------------------------------------


def test_all_problems_of_a_table_are_listed_together(study: Study) -> None:
    for name in "abcdefgh":
        study.nifti(name)
    text = """subject_id,age,sex,bmd_mg_cm3,bone_status,fracture,height_cm,image,acquired
        a,old,F,100,,,,,
        b,612,F,100,,,,,
        c,50,W,0.102,,,,,
        d,50,F,100,normal,,,,
        e,50,F,100,,maybe,1.62,,
        ,50,F,100,,,,,
        f,50,F,100,,,,gone.nii,
        g,50,F,100,,,,,31.1.2021
        h,50,F,100,,,,a.nii.gz,
        d,50,F,100,,,,a.nii.gz,"""
    assert set(study.problems(text)) == {
        "row 2 (subject 'a'): age must be a number without a unit, or empty if unknown",
        "row 3 (subject 'b').age: Input should be less than or equal to 120; "
        "expected years; is it in months, in days, or a year of birth?",
        "row 4 (subject 'c'): sex must be F or M, or empty if unknown",
        "row 4 (subject 'c'): bmd_mg_cm3 is 0.102, which looks like g/cm3, or in g/cm2 from DXA; "
        "expected mg/cm3 of trabecular bone",
        "row 5 (subject 'd'): bone_status is normal, but 100 mg/cm3 K2HPO4 means osteopenia",
        "row 6 (subject 'e'): fracture must be yes or no, or empty if unknown",
        "row 6 (subject 'e').height_cm: Input should be greater than or equal to 30; "
        "expected centimetres; is it in metres or millimetres?",
        "row 7: subject_id is empty",
        "row 8 (subject 'f'): there is no file gone.nii",
        "row 9 (subject 'g'): acquired must be a day such as 2021-07-31",
        "row 10 (subject 'h'): duplicates row 2 (subject 'a'), both have the same image",
        "row 11 (subject 'd'): duplicates row 2 (subject 'a'), both have the same image",
        "row 11 (subject 'd'): bone_status differs from the one of the same subject in row 5 (subject 'd')",
    }


def test_a_density_without_its_standard_is_one_problem(study: Study) -> None:
    for name in "ab":
        study.nifti(name)
    (problem,) = study.problems("subject_id,bmd_mg_cm3\na,100\nb,110", standard=None)
    assert "need their standard" in problem


def test_missing_columns_are_reported(study: Study) -> None:
    problems = study.problems("Name,Alter\na,50", columns={"age": "Jahre", "alter": "Alter"})
    assert [p.split(",")[0] for p in problems] == [
        "--columns: the table has no column 'Jahre' for age",
        "--columns: column must be one of subject_id",
        "the table needs a column subject_id; name another one with --columns subject_id=NAME",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("subject_id\na,50", "line 2: 2 fields for 1 columns"),
        ("subject_id\n", "the table has no rows"),
        ("subject_id\nb", "no subject remains of 1 (no CT image found: 1)"),
        ("subject_id\na\na", "subject 'a' is in 2 rows without an image; name the image in a column 'image'"),
    ],
)
def test_empty_tables_are_refused(study: Study, text: str, sentence: str) -> None:
    study.nifti("a")
    assert sentence in study.problems(text)


def test_other_files_are_refused(study: Study) -> None:
    def refused(name: str, content: bytes) -> str:
        (study.folder / name).write_bytes(content)
        with pytest.raises(UnusableInputError) as caught:
            build_manifest(BuildOptions(study.folder / name, study.images, study.folder))
        return str(caught.value)

    assert "UTF-8" in refused("latin.csv", "subject_id\nMüller".encode("latin-1"))
    assert "is empty" in refused("empty.csv", b"")
    assert "column age is repeated" in refused("repeated.csv", b"subject_id,age,Age\na,1,2")
    assert "save the table as CSV" in refused("old.xls", b"\xd0\xcf")
    with pytest.raises(UnusableInputError, match="There is no file 'gone.csv'"):
        build_manifest(BuildOptions(study.folder / "gone.csv", study.images, study.folder))
    with pytest.raises(ValueError, match="one of none, pan2024, li2026, boonrod2025, got 'pan'"):
        BuildOptions(study.folder / "t.csv", study.images, study.folder, rules="pan")


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_reports_the_flow(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    pan(study)
    out = study.folder / "out" / "manifest.json"
    words = ["manifest", "build", str(study.folder / "table.csv"), "--images", str(study.images), "-o", str(out)]
    assert cli.run([*words, "--rules", "pan2024"]) == 2
    assert "need their standard" in capsys.readouterr().err
    assert not out.exists()
    assert cli.run([*words, "--rules", "pan2024", "--standard", "K2HPO4"]) == 0
    output = capsys.readouterr().out
    assert "Subjects included: 2" in output
    assert "excluded, no QCT density: 1" in output
    assert "not known and kept, age: 1" in output
    assert cli.run([*words, "--standard", "K2HPO4"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.run([*words, "--overwrite", "--columns", "age"]) == 2
    assert "NAME=COLUMN" in capsys.readouterr().err


def test_products_are_named_after_the_manifest(study: Study) -> None:
    products = build_products(study.folder / "one.json")
    assert [file.name for file in products.files] == ["one.json", "one.exclusions.csv", "one.flow.png", "one.flow.svg"]
    assert {file.parent for file in products.files} == {study.folder}
    assert build_products(Path("a.b")).exclusions == Path("a.b.exclusions.csv")


def test_exclusions_are_written_in_the_order_of_the_table(study: Study) -> None:
    path = build_products(study.folder / "one.json").exclusions
    built = pan(study)
    built.write_exclusions(path)
    lines = path.read_bytes().decode().split("\n")
    assert lines[:2] == ["subject_id,stage,reason", "child,inclusion,younger than 18 years"]
    assert len(lines) == 1 + 8 + 1


# --- facts from damaged files --------------------------------------------------------------------------------------


def test_damaged_screening_results_are_counted(study: Study) -> None:
    for name, text in {"a": '{"verdict": "accepted", "findings": []}', "b": '{"verdict": "acc', "c": "[]"}.items():
        study.nifti(name)
        folder = study.folder / "screened" / f"{name}.nii.gz"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(text)
    built = study.build("subject_id\na\nb\nc", screening=study.folder / "screened")
    assert "2 of 3 screening results cannot be read and were not used: b.nii.gz, c.nii.gz." in built.notes
    (study.folder / "screened" / "a.nii.gz" / "result.json").write_text("")
    with pytest.raises(UnusableInputError, match="3 cannot be read"):
        study.build("subject_id\na", screening=study.folder / "screened")


def test_damaged_label_maps_are_counted(study: Study) -> None:
    study.nifti("a")
    study.nifti("a_label").write_bytes(b"damaged")
    built = study.build("subject_id\na")
    assert any(note.startswith("1 label maps cannot be read") and "(a)" in note for note in built.notes)


# --- table files ---------------------------------------------------------------------------------------------------


def test_separators_and_line_breaks_of_a_spreadsheet_export(study: Study) -> None:
    study.nifti("p1")
    text = '\ufeffsubject_id\tage\tnote\np1\t63,5\t"two\nlines"\n'
    (study.folder / "t.csv").write_text(text, encoding="utf-8")
    built = build_manifest(BuildOptions(study.folder / "t.csv", study.images, study.folder))
    assert built.manifest.splits["test"][0].age == 63.5


def test_comment_lines_are_reported(study: Study) -> None:
    study.nifti("a")
    built = study.build("subject_id\n#b\na")
    assert built.stages[0].count == 1
    assert "1 lines that begin with # are comments and were not read." in built.notes


def test_a_spreadsheet_needs_its_extra(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (study.folder / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(UnusableInputError, match=r"pip install 'osteo-monai\[excel\]'"):
        build_manifest(BuildOptions(study.folder / "t.xlsx", study.images, study.folder))


def test_a_spreadsheet_is_read(study: Study) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    study.nifti("p1")
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.append(["Subject_ID", "age", "acquired", "bmd_mg_cm3", None])
    sheet.append(["p1", 63.0, datetime(2021, 7, 31), "79,9", None])
    workbook.save(study.folder / "t.xlsx")
    options = BuildOptions(study.folder / "t.xlsx", study.images, study.folder, standard=MineralStandard.K2HPO4)
    (record,) = build_manifest(options).manifest.splits["test"]
    assert (record.age, record.acquired, record.bmd_mg_cm3) == (63, date(2021, 7, 31), 79.9)
    (study.folder / "t.xlsx").write_bytes(b"damaged")
    with pytest.raises(UnusableInputError, match="cannot be read as a spreadsheet"):
        build_manifest(options)


class _FakeWorkbook:
    """First sheet of a workbook, as ``openpyxl`` gives it."""

    def __init__(self, *rows: tuple[object, ...]) -> None:
        self.rows = rows
        self.worksheets = [self]

    def iter_rows(self, values_only: bool) -> tuple[tuple[object, ...], ...]:
        assert values_only
        return self.rows


def test_cells_of_a_spreadsheet_become_values(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    book = _FakeWorkbook(
        ("Subject_ID", "age", "acquired", "bmd_mg_cm3", None),
        (7.0, 63, datetime(2021, 7, 31), "79,9", None),
        (None,) * 5,
    )
    fake = SimpleNamespace(load_workbook=lambda path, **options: book)
    monkeypatch.setitem(sys.modules, "openpyxl", fake)
    study.nifti("7")
    (study.folder / "t.xlsx").write_bytes(b"PK")
    options = BuildOptions(study.folder / "t.xlsx", study.images, study.folder, standard=MineralStandard.K2HPO4)
    (record,) = build_manifest(options).manifest.splits["test"]
    assert (record.subject_id, record.age, record.acquired) == ("7", 63, date(2021, 7, 31))
    assert record.bmd_mg_cm3 == 79.9
