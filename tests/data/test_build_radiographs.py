"""Manifests of radiographs: a hospital's tree of films, the rules of Li 2026 and Boonrod 2025, and the export."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from osteo_monai import View, cli, make_radiograph, read_radiograph
from osteo_monai.data import BuildOptions, build_manifest, read_manifest, write_manifest
from osteo_monai.data.radiograph_export import export_radiographs
from osteo_monai.errors import ConfigError, ManifestError

PLANTED = "Zwiebelturm"
"""A name that no output may hold."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[View, Path]:
    """One small virtual radiograph of each view, as DICOM and PNG."""
    folder = tmp_path_factory.mktemp("films")
    views = (View.CHEST_FRONTAL, View.LUMBAR_AP, View.LUMBAR_LATERAL)
    return {view: make_radiograph(folder, seed=3, view=view, rows=560) for view in views}


class Hospital:
    """A tree of films and the table of its subjects."""

    def __init__(self, folder: Path, films: dict[View, Path]) -> None:
        self.folder, self.films = folder, films
        self.images = folder / "films"
        self.rows: list[dict[str, Any]] = []

    def dicom(self, name: str, view: View = View.CHEST_FRONTAL, **header: Any) -> Path:
        """Write a DICOM film with planted names; ``pixels`` replaces its pixel data."""
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = pydicom.dcmread(self.films[view])
        pixels = header.pop("pixels", None)
        planted = {"PatientName": PLANTED, "PatientID": f"id-{PLANTED}", "StudyDescription": f"Thorax {PLANTED}"}
        facts = {
            "BurnedInAnnotation": "NO",
            "PatientAge": "061Y",
            "StudyDate": "20200110",
            "AcquisitionDate": "20200110",
        }
        for keyword, value in {**planted, **facts, **header}.items():
            setattr(dataset, keyword, value)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dataset.StudyInstanceUID = pydicom.uid.generate_uid()
        if pixels is not None:
            dataset.PixelData = pixels(dataset.pixel_array).astype(dataset.pixel_array.dtype).tobytes()
        dataset.save_as(path)
        return path

    def png(self, name: str, view: View = View.CHEST_FRONTAL) -> None:
        (self.images / name).parent.mkdir(parents=True, exist_ok=True)
        (self.images / name).write_bytes(self.films[view].with_suffix(".png").read_bytes())

    def row(self, subject: str, **facts: Any) -> None:
        self.rows.append({"subject_id": subject, "t_score": -1.5, "dxa_date": "2020-02-01", **facts})

    def table(self) -> Path:
        path = self.folder / "dxa.csv"
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        return path

    def build(self, **options: Any) -> Any:
        return build_manifest(BuildOptions(self.table(), self.images, self.folder / "out", **options))


@pytest.fixture
def hospital(tmp_path: Path, films: dict[View, Path]) -> Hospital:
    return Hospital(tmp_path, films)


def losses(built: Any) -> dict[str, str]:
    return {exclusion.subject_id: exclusion.reason for exclusion in built.exclusions}


@pytest.fixture(scope="module")
def li(tmp_path_factory: pytest.TempPathFactory, films: dict[View, Path]) -> tuple[Hospital, Any]:
    """Sixty films of forty subjects, with every loss of Li 2026."""
    hospital = Hospital(tmp_path_factory.mktemp("li"), films)
    good = {"secondary_osteoporosis": "no", "foreign_body": "no", "spinal_deformity": "no", "bone_surgery": "no",
            "poor_quality": "no"}  # fmt: skip
    for number in range(10):  # two films each, the second within six months too: the first one is kept
        hospital.dicom(f"good{number}/late.dcm", AcquisitionDate="20200401")
        hospital.dicom(f"good{number}/a/early.dcm", AcquisitionDate="20191220")
        hospital.row(f"good{number}", **good)
    for number in range(5):  # PNG: day, age and view are in the table
        hospital.png(f"png{number}.png")
        hospital.row(f"png{number}", acquired="2020-01-15", age=55, view="chest_frontal", **good)
    hospital.dicom("two_dxa/film.dcm")
    hospital.row("two_dxa", **good | {"t_score": -3.1, "dxa_date": "2020-01-20"})
    hospital.row("two_dxa", **good | {"t_score": -1.1, "dxa_date": "2020-06-01"})
    hospital.dicom("old_first/old.dcm", AcquisitionDate="20180101")  # too early, the later one qualifies
    hospital.dicom("old_first/new.dcm", AcquisitionDate="20200301")
    hospital.row("old_first", **good)
    for number in range(3):
        hospital.dicom(f"young{number}.dcm", PatientAge="040Y")
        hospital.row(f"young{number}", **good)
    for number in range(4):
        hospital.dicom(f"apart{number}.dcm", AcquisitionDate="20190730")  # 186 days
        hospital.row(f"apart{number}", **good)
    hospital.dicom("limit.dcm", AcquisitionDate="20190802")  # 183 days
    hospital.row("limit", **good)
    hospital.dicom("unscored.dcm")
    hospital.row("unscored", **good | {"t_score": "", "dxa_date": ""})
    for number in range(2):
        hospital.dicom(f"lumbar{number}.dcm", View.LUMBAR_AP)
        hospital.row(f"lumbar{number}", **good)
    for name in ("secondary_osteoporosis", "foreign_body", "spinal_deformity", "bone_surgery", "poor_quality"):
        hospital.dicom(f"{name}.dcm")
        hospital.row(name, **good | {name: "yes"})
    hospital.dicom("under.dcm", DeviationIndex="-4.2")
    hospital.row("under", **good)
    hospital.dicom("black.dcm", pixels=lambda values: np.where(values > np.median(values), 4095, 0))
    hospital.row("black", **good)
    (hospital.images / "cut.dcm").write_bytes(hospital.dicom("cut.dcm").read_bytes()[:3000])
    hospital.row("cut", **good)
    hospital.row("absent", **good)
    hospital.dicom("unknown_surgery.dcm")
    hospital.row("unknown_surgery", **good | {"bone_surgery": ""})
    for number in range(12):
        hospital.dicom(f"stranger{number}/film.dcm")
    return hospital, hospital.build(rules="li2026")


def test_the_tree_of_a_hospital_has_sixty_films(li: tuple[Hospital, Any]) -> None:
    assert sum(path.is_file() for path in li[0].images.rglob("*")) == 60


def test_the_rules_of_li_exclude_and_count(li: tuple[Hospital, Any]) -> None:
    _, built = li
    assert losses(built) == {
        **{f"young{n}": "40 years or younger" for n in range(3)},
        **{f"apart{n}": "radiograph and DXA more than 6 months apart" for n in range(4)},
        "unscored": "no T-score by DXA",
        **{f"lumbar{n}": "no frontal chest radiograph" for n in range(2)},
        "secondary_osteoporosis": "secondary osteoporosis",
        "foreign_body": "high-density foreign body",
        "spinal_deformity": "spinal deformity (fracture or scoliosis)",
        "bone_surgery": "earlier bone surgery",
        "poor_quality": "poor image quality or artefacts",
        "under": "underexposed or overexposed",
        "black": "radiograph cannot be used (few grey levels)",
        "cut": "radiograph cannot be read",
        "absent": "no radiograph found",
    }
    table, inclusion, exclusion, end = built.stages
    assert (table.label, table.count, sum(n for _, n in table.excluded)) == ("Subjects in the table", 38, 3)
    assert (inclusion.label, inclusion.count) == ("Subjects with a radiograph", 35)
    assert (exclusion.count, end.count) == (25, 19)
    assert dict(exclusion.unchecked) == {"bone surgery": 1}
    assert any("12 radiographs or DICOM files in the folder belong to no row" in note for note in built.notes)
    assert any("11 further radiographs of included subjects were left out" in note for note in built.notes)


def test_the_first_qualifying_pair_of_a_subject_is_kept(li: tuple[Hospital, Any]) -> None:
    _, built = li
    records = {record.subject_id: record for record in built.manifest.splits["test"]}
    assert len(records) == len(built.manifest.splits["test"]) == 19
    assert records["good3"].image == "../films/good3/a/early.dcm"
    assert records["good3"].extra == {"days_to_dxa": 43}
    assert records["old_first"].image == "../films/old_first/new.dcm"
    assert records["two_dxa"].t_score == -3.1  # the DXA ten days later, not that of June
    assert (records["png0"].age, records["png0"].view, str(records["png0"].acquired)) == (
        55, View.CHEST_FRONTAL, "2020-01-15",
    )  # fmt: skip
    assert (records["good3"].age, records["good3"].view) == (61, View.CHEST_FRONTAL)
    assert records["limit"].extra == {"days_to_dxa": 183}


def test_unknown_facts_exclude_when_asked(hospital: Hospital) -> None:
    hospital.dicom("a.dcm")
    hospital.row("a", bone_surgery="no")
    with pytest.raises(ManifestError, match="secondary osteoporosis not known: 1"):
        hospital.build(rules="li2026", exclude_unknown=True)


def test_both_lumbar_views_are_kept_by_the_rules_of_boonrod(hospital: Hospital) -> None:
    hospital.dicom("a/ap.dcm", View.LUMBAR_AP)
    hospital.dicom("a/lateral.dcm", View.LUMBAR_LATERAL, ViewPosition="LL")
    hospital.dicom("a/chest.dcm")
    hospital.row("a", t_score_spine="-2.6", t_score_total_hip="-1.9", t_score="")
    hospital.dicom("b/chest.dcm")
    hospital.row("b")
    built = hospital.build(rules="boonrod2025")
    ap, lateral = built.manifest.splits["test"]
    assert (ap.view, lateral.view) == (View.LUMBAR_AP, View.LUMBAR_LATERAL)
    assert (ap.t_score, lateral.extra) == (-2.6, {"days_to_dxa": 22, "laterality": "L"})
    assert losses(built) == {"b": "no AP or lateral lumbar radiograph"}


def test_a_table_that_names_a_view_is_of_radiographs(hospital: Hospital) -> None:
    hospital.png("a.png")
    hospital.row("a", view="chest frontal")
    (record,) = hospital.build().manifest.splits["test"]
    assert record.view is View.CHEST_FRONTAL
    hospital.rows[0]["view"] = ""
    with pytest.raises(ManifestError, match="no CT image found"):
        hospital.build()


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"view": "sideways"}, "view must be one of chest_frontal"),
        ({"laterality": "up"}, "laterality must be L or R"),
        ({"dxa_date": "31.1.2020"}, "dxa_date must be a day such as 2021-07-31"),
        ({"t_score": -1.0, "t_score_spine": -2.6}, "t_score_spine is -2.6; t_score must be the lowest one"),
        ({"bone_surgery": "maybe"}, "bone_surgery must be yes or no"),
    ],
)
def test_wrong_cells_are_named(hospital: Hospital, facts: dict[str, Any], sentence: str) -> None:
    hospital.png("a.png")
    hospital.row("a", **{"view": "chest_frontal", **facts})
    with pytest.raises(ManifestError, match=sentence):
        hospital.build(rules="li2026")


def test_rules_and_kind_must_agree(hospital: Hospital, capfd: pytest.CaptureFixture[str]) -> None:
    hospital.png("a.png")
    hospital.row("a")
    words = ["manifest", "build", hospital.table(), "--images", hospital.images, "-o", hospital.folder / "m.json"]
    assert cli.run([*map(str, words), "--rules", "li2026", "--kind", "ct"]) == 2
    assert "--kind must be radiograph for the rules li2026, got ct" in capfd.readouterr().err
    for day in ("2020-02-01", "2020-02-01"):
        hospital.row("b", dxa_date=day)
    with pytest.raises(ManifestError, match="'b' is in 2 rows without an image and with the same dxa_date 2020-02-01"):
        hospital.build(kind="radiograph")


# --- export --------------------------------------------------------------------------------------------------------


def planted_in(folder: Path) -> list[Path]:
    """Return files whose name or content holds the planted name, in any case and encoding."""
    codes = {PLANTED.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [p for p in files if PLANTED.lower() in p.name.lower() or any(c in p.read_bytes().lower() for c in codes)]


def test_the_command_makes_a_cohort_that_can_be_given_away(
    hospital: Hospital, capfd: pytest.CaptureFixture[str]
) -> None:
    hospital.dicom("p1/a.dcm", PatientAge="093Y")
    hospital.dicom("p2/a.dcm", BurnedInAnnotation="YES")
    hospital.png("p3.png")
    for subject, facts in (("p1", {}), ("p2", {}), ("p3", {"view": "chest_frontal", "age": 60})):
        hospital.row(subject, **facts)
    manifest, given, key = (hospital.folder / name for name in ("all.json", "given", "key.csv"))
    words = ["manifest", "build", hospital.table(), "--images", hospital.images, "-o", manifest, "--kind", "radiograph"]
    assert cli.run(list(map(str, words))) == 0
    assert "1 radiographs have text burned into their pixels" in capfd.readouterr().out
    words = ["radiograph", "export", manifest, "-o", given, "--key", key]
    assert cli.run(list(map(str, words))) == 0
    assert "2 radiographs exported, 1 not" in capfd.readouterr().out
    records = read_manifest(given / "manifest.json", check_content=True).splits["test"]
    ids = dict(list(csv.reader(key.open()))[1:])
    assert {record.subject_id for record in records} == {ids["p1"], ids["p3"]}
    by_id = {record.subject_id: record for record in records}
    assert (by_id[ids["p1"]].age, by_id[ids["p1"]].acquired, by_id[ids["p1"]].t_score) == (90, None, -1.5)
    assert not planted_in(given)
    assert planted_in(hospital.images)  # the search finds what is there
    assert "p1" not in json.dumps(json.loads((given / "manifest.json").read_text()))
    with (given / "not_exported.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["record"] == "test[1]"
    assert "burned" in row["reason"]


def test_exported_pixels_are_those_that_were_read(hospital: Hospital, tmp_path: Path) -> None:
    source = hospital.dicom("p1.dcm", PhotometricInterpretation="MONOCHROME1", pixels=lambda v: v.max() - v)
    hospital.row("p1")
    built = hospital.build(kind="radiograph")
    write_manifest(built.manifest, hospital.folder / "out" / "m.json")
    exported = export_radiographs(hospital.folder / "out" / "m.json", tmp_path / "given")
    (record,) = exported.manifest.splits["test"]
    with Image.open(tmp_path / "given" / record.images[0]) as image:
        assert image.mode == "I;16"
        assert not image.info
        values = np.asarray(image)
    np.testing.assert_array_equal(values, np.round(read_radiograph(source).pixels * 65535))
    again = read_radiograph(tmp_path / "given" / record.images[0], View.CHEST_FRONTAL)
    assert np.abs(again.pixels - values / 65535).max() < 0.02


def test_a_patient_id_is_no_pseudonym(hospital: Hospital) -> None:
    hospital.dicom("p1.dcm", PatientID="p1")
    hospital.row("p1")
    write_manifest(hospital.build(kind="radiograph").manifest, hospital.folder / "out" / "m.json")
    with pytest.raises(ConfigError, match="subject_id must be a pseudonym"):
        export_radiographs(hospital.folder / "out" / "m.json", hospital.folder / "given")
    export_radiographs(hospital.folder / "out" / "m.json", hospital.folder / "given", hospital.folder / "key.csv")
