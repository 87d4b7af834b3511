"""Manifests: everything that is wrong is found, all of it at once, and MONAI reads the same file."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, MineralStandard, Sex
from osteo_monai.manifests import (
    Header,
    Manifest,
    ManifestError,
    Record,
    datalist,
    manifest_json_schema,
    manifest_sha256,
    read_manifest,
    write_manifest,
)

SHIPPED_SCHEMA = Path(__file__).parents[2] / "data_manifests" / "manifest.schema.json"


def record(subject: str, image: str, **fields: Any) -> dict[str, Any]:
    return {"subject_id": subject, "image": image, **fields}


def dense(bmd: float, status: str, standard: str = "K2HPO4") -> dict[str, Any]:
    return {"bmd_mg_cm3": bmd, "bmd_standard": standard, "bone_status": status}


@pytest.fixture
def manifest_file(tmp_path: Path) -> Any:
    """Write splits as a manifest file, and an empty file for every image in it."""

    def write(**splits: list[Any]) -> Path:
        for entries in splits.values():
            for entry in entries:
                if isinstance(entry, dict) and isinstance(entry.get("image"), str):
                    (tmp_path / entry["image"]).touch()
        path = tmp_path / "cohort.json"
        path.write_text(json.dumps({"name": "c", "description": "d", "virtual": True, **splits}))
        return path

    return write


def problems_of(path: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return caught.value.problems


def test_a_good_manifest_is_read(manifest_file: Any) -> None:
    path = manifest_file(
        training=[record("p1", "a.nii.gz", sex="F", age=63.5, **dense(79.9, "osteoporosis"))],
        external_riga=[record("p2", "b.nii.gz", kvp=120, extra={"ward": "3"})],
    )
    manifest = read_manifest(path)
    assert manifest.header.virtual
    assert [(split, place, r.subject_id) for split, place, r in manifest.records()] == [
        ("training", 0, "p1"),
        ("external_riga", 0, "p2"),
    ]
    assert manifest.splits["training"][0].sex is Sex.FEMALE
    assert manifest.splits["external_riga"][0].sex is None


def test_monai_reads_the_same_file(manifest_file: Any) -> None:
    from monai.data import load_decathlon_datalist

    path = manifest_file(training=[record("p1", "a.nii.gz", label="a_label.nii.gz", age=50)])
    loaded = load_decathlon_datalist(path, data_list_key="training")
    assert loaded == [
        {
            "subject_id": "p1",
            "image": str(path.parent / "a.nii.gz"),
            "label": str(path.parent / "a_label.nii.gz"),
            "age": 50,
        }
    ]


def test_a_split_for_monais_data_sets(manifest_file: Any, tmp_path: Path) -> None:
    path = manifest_file(
        training=[
            record("p1", "a.nii", label=["b.nii", "b.nii"], sex="F", variants=["scoliosis"]),
            record("p2", "b.nii", label="a.nii"),
        ],
        test=[record("p3", "c.nii", age=50)],
    )
    a, b = str(tmp_path / "a.nii"), str(tmp_path / "b.nii")
    assert datalist(path, "training") == [{"image": a, "label": [b, b]}, {"image": b, "label": a}]
    assert datalist(str(path), "test", ("image", "age")) == [{"image": str(tmp_path / "c.nii"), "age": 50.0}]
    with pytest.raises(ValueError, match=r"test\[0\] must have image, label, it lacks label"):
        datalist(path, "test")
    with pytest.raises(ValueError, match="has no split 'validation', it has training, test"):
        datalist(path, "validation")


@pytest.mark.parametrize(
    ("bmd", "status"),
    [(79.9, "osteoporosis"), (80.0, "osteopenia"), (120.0, "osteopenia"), (120.1, "normal")],
)
def test_the_class_follows_from_the_density(manifest_file: Any, bmd: float, status: str) -> None:
    assert read_manifest(manifest_file(test=[record("p", "a.nii", **dense(bmd, status))]))
    others = [s for s in BoneStatus if s != status]
    for other in others:
        (problem,) = problems_of(manifest_file(test=[record("p", "a.nii", **dense(bmd, other))]))
        assert problem == f"test[0]: bone_status is {other}, but {bmd:g} mg/cm3 K2HPO4 means {status}"


def test_other_thresholds_may_be_given(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", **dense(60, "osteopenia", "hydroxyapatite"))])
    assert "thresholds are in mg/cm3 K2HPO4" in problems_of(path)[0]
    own = DensityThresholds(osteoporosis_below=50, normal_above=100, standard=MineralStandard.HYDROXYAPATITE)
    assert read_manifest(path, thresholds=own)


def test_everything_wrong_is_told_at_once(manifest_file: Any) -> None:
    path = manifest_file(
        training=[
            record("p1", "a.nii"),
            record("p1", "./a.nii"),
            record("p2", "b.nii", **dense(130, "osteoporosis")),
            record("p3", "c.nii", height_m=1.7),
            record("p4", "d.nii", bmd_mg_cm3=100),
            record("p5", "e.nii", age=-3, sex="W"),
            "f.nii",
        ],
        test=[record("p1", "g.nii"), record("p6", "h.nii", label="gone.nii")],
        tests=[],
    )
    assert problems_of(path) == (
        "tests: this key is unknown",
        "training[3].height_m: this key is unknown",
        "training[4]: bmd_standard must be given beside a density in mg/cm3, "
        "expected K2HPO4 or hydroxyapatite, got none",
        "training[5].age: Input should be greater than or equal to 0",
        "training[5].sex: Input should be 'F' or 'M'",
        "training[6]: Input should be a valid dictionary or instance of Record",
        "training[1]: duplicates training[0], the same image stands in both",
        "training[2]: bone_status is osteoporosis, but 130 mg/cm3 K2HPO4 means normal",
        "subject 'p1' stands in more than one split: test, training",
        "test[1]: there is no file gone.nii",
    )


def test_the_message_holds_every_problem(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", x=1), record("q", "b.nii", y=1)])
    with pytest.raises(ManifestError, match=r"(?s)cohort\.json has 2 problems:.*x: this key.*y: this key"):
        read_manifest(path)


def test_two_levels_of_one_image_are_no_duplicates(manifest_file: Any) -> None:
    levels = [record("p", "a.nii", level="L1"), record("p", "a.nii", level="L2")]
    assert read_manifest(manifest_file(test=levels))
    assert "the same image of level L2" in problems_of(manifest_file(test=[*levels, levels[1]]))[0]


def test_records_of_one_subject_must_agree(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", sex="F"), record("p", "b.nii"), record("p", "c.nii", sex="M")])
    assert problems_of(path) == ("test[2]: sex differs from the one of the same subject in test[0]",)


def test_the_subjects_density_is_the_mean_of_l1_and_l2(manifest_file: Any) -> None:
    good = record("p", "a.nii", level_bmd_mg_cm3={"L1": 98.0, "L2": 103.0, "L3": 150.0}, **dense(100.5, "osteopenia"))
    assert read_manifest(manifest_file(test=[good]))
    bad = {**good, "bmd_mg_cm3": 102.0}
    assert problems_of(manifest_file(test=[bad])) == (
        "test[0]: bmd_mg_cm3 is 102, but the mean of L1 and L2 is 100.5 mg/cm3",
    )


def test_missing_files_are_let_pass_where_asked(manifest_file: Any, tmp_path: Path) -> None:
    path = manifest_file(test=[{"subject_id": "p", "image": ["a.nii", "b.nii"], "truth": "t.json"}])
    assert len(problems_of(path)) == 3
    assert read_manifest(path, check_files=False).splits["test"][0].images == ("a.nii", "b.nii")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is not valid JSON"),
        ("[]", "it must be a JSON object, got list"),
        ('{"name": "a", "name": "b"}', "the key 'name' stands twice"),
        ('{"name": "a", "description": "d", "virtual": false}', "it has no records"),
        ('{"name": "a", "description": "d", "virtual": false, "test": {}}', "test must be a list of records, got dict"),
        ('{"name": "a", "description": "d", "test": [{"image": "i", "subject_id": "s"}]}', "virtual: Field required"),
    ],
    ids=["broken", "list", "key twice", "empty", "split is no list", "header"],
)
def test_what_is_no_manifest(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    assert any(problem in p for p in problems_of(path))


def test_no_such_file(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "none.json") == ("there is no such file",)


def test_values_do_not_reach_the_message(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", sex="Erika Mustermann", age="Mustermann")])
    assert "Mustermann" not in " ".join(problems_of(path))


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=False),
        splits={"test": (Record(image=("a.nii", "b.nii"), subject_id="p", sex=Sex.MALE, extra={"é": 1}),)},
    )
    digest = write_manifest(manifest, tmp_path / "deep" / "m.json")
    assert digest == manifest_sha256(tmp_path / "deep" / "m.json") == write_manifest(manifest, tmp_path / "other.json")
    assert read_manifest(tmp_path / "other.json", check_files=False) == manifest
    assert "null" not in (tmp_path / "other.json").read_text()  # MONAI's collation chokes on null


def test_what_contradicts_itself_is_not_written(tmp_path: Path) -> None:
    same = Record(image="a.nii", subject_id="p")
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=False), splits={"test": (same,), "training": (same,)}
    )
    with pytest.raises(ManifestError):
        write_manifest(manifest, tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    assert json.loads(SHIPPED_SCHEMA.read_text()) == manifest_json_schema()


def test_the_schema_accepts_and_refuses(manifest_file: Any) -> None:
    schema = manifest_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(manifest_file(external_riga=[record("p", "a.nii", **dense(90, "osteopenia"))]).read_text())
    jsonschema.validate(content, schema)
    for broken in ({**content, "tests": []}, {**content, "test": [{"image": "a"}]}, {"test": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)
