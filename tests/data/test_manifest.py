"""Manifests: all problems are listed together, and MONAI reads the same file."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from osteo_monai.data import (
    Header,
    Manifest,
    Record,
    datalist,
    join_manifests,
    manifest_json_schema,
    read_manifest,
    write_manifest,
)
from osteo_monai.domain import BoneStatus, DensityThresholds, MineralStandard, Sex
from osteo_monai.errors import ConfigError, ManifestError
from osteo_monai.utils.files import file_sha256

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
    with pytest.raises(ConfigError, match=r"test\[0\] must have image, label, missing: label"):
        datalist(path, "test")
    with pytest.raises(ConfigError, match="split must be one of training, test in cohort.json, got 'validation'"):
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
    thresholds = DensityThresholds(osteoporosis_below=50, normal_above=100, standard=MineralStandard.HYDROXYAPATITE)
    assert read_manifest(path, thresholds=thresholds)


def test_all_problems_are_listed_together(manifest_file: Any) -> None:
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
        "training[4]: bmd_standard must be given with a density in mg/cm3, expected K2HPO4 or hydroxyapatite, got none",
        "training[5].age: Input should be greater than or equal to 0; "
        "expected years; is it in months, in days, or a year of birth?",
        "training[5].sex: Input should be 'F' or 'M'",
        "training[6]: Input should be a valid dictionary or instance of Record",
        "training[1]: duplicates training[0], both have the same image",
        "training[2]: bone_status is osteoporosis, but 130 mg/cm3 K2HPO4 means normal",
        "subject 'p1' is in more than one split: test, training",
        "test[1]: there is no file gone.nii",
    )


def test_the_message_holds_every_problem(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", x=1), record("q", "b.nii", y=1)])
    with pytest.raises(ManifestError, match=r"(?s)cohort\.json has 2 problems:.*x: this key.*y: this key"):
        read_manifest(path)


def test_two_levels_of_one_image_are_no_duplicates(manifest_file: Any) -> None:
    levels = [record("p", "a.nii", level="L1"), record("p", "a.nii", level="L2")]
    assert read_manifest(manifest_file(test=levels))
    assert "both have the same image of level L2" in problems_of(manifest_file(test=[*levels, levels[1]]))[0]


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


def test_missing_files_are_accepted_without_the_check(manifest_file: Any, tmp_path: Path) -> None:
    path = manifest_file(test=[{"subject_id": "p", "image": ["a.nii", "b.nii"], "truth": "t.json"}])
    assert len(problems_of(path)) == 3
    assert read_manifest(path, check_files=False).splits["test"][0].images == ("a.nii", "b.nii")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is not valid JSON"),
        ("[]", "it must be a JSON object, got list"),
        ('{"name": "a", "name": "b"}', "the key 'name' is repeated"),
        ('{"name": "a", "description": "d", "virtual": false}', "it has no records"),
        ('{"name": "a", "description": "d", "virtual": false, "test": {}}', "test must be a list of records, got dict"),
        ('{"name": "a", "description": "d", "test": [{"image": "i", "subject_id": "s"}]}', "virtual: Field required"),
    ],
    ids=["broken", "list", "key twice", "empty", "split is no list", "header"],
)
def test_other_content_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    assert any(problem in p for p in problems_of(path))


def test_no_such_file(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "none.json") == ("the file does not exist",)


def test_values_do_not_reach_the_message(manifest_file: Any) -> None:
    path = manifest_file(test=[record("p", "a.nii", sex="Erika Mustermann", age="Mustermann")])
    assert "Mustermann" not in " ".join(problems_of(path))


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=False),
        splits={"test": (Record(image=("a.nii", "b.nii"), subject_id="p", sex=Sex.MALE, extra={"é": 1}),)},
    )
    digest = write_manifest(manifest, tmp_path / "deep" / "m.json")
    assert digest == file_sha256(tmp_path / "deep" / "m.json") == write_manifest(manifest, tmp_path / "other.json")
    assert read_manifest(tmp_path / "other.json", check_files=False) == manifest
    assert "null" not in (tmp_path / "other.json").read_text()  # MONAI's collation fails with null


def test_contradictions_are_not_written(tmp_path: Path) -> None:
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
    invalid: tuple[dict[str, Any], ...] = (
        {**content, "tests": []},
        {**content, "test": [{"image": "a"}]},
        {"test": []},
    )
    for broken in invalid:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


# --- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"bmd_mg_cm3": 0.135, "bmd_standard": "K2HPO4"}, "bmd_mg_cm3 is 0.135, which looks like g/cm3"),
        ({"bmd_mg_cm3": 0.0, "bmd_standard": "K2HPO4"}, "a zero for an unknown value"),
        ({"bmd_mg_cm3": 420, "bmd_standard": "K2HPO4"}, "bmd_mg_cm3 is 420, which looks like HU"),
        ({"level_bmd_mg_cm3": {"L1": 0.98}, "bmd_standard": "K2HPO4"}, "level_bmd_mg_cm3.L1 is 0.98"),
        ({"bmd_mg_cm3": 1350, "bmd_standard": "K2HPO4"}, "expected mg/cm3 of trabecular bone"),
        ({"areal_bmd_g_cm2": 985}, "expected g/cm2; is it in mg/cm2"),
        ({"height_cm": 1.72}, "expected centimetres; is it in metres"),
        (
            {"height_cm": 68, "age": 50},
            "height_cm is 68, too small for an adult; expected centimetres",
        ),
        ({"age": 732}, "expected years; is it in months"),
        ({"kvp": 120000}, "expected kilovolts; is it in volts?"),
    ],
)
def test_another_unit_is_reported(manifest_file: Any, fields: dict[str, Any], sentence: str) -> None:
    (problem,) = problems_of(manifest_file(test=[record("p", "a.nii", **fields)]))
    assert sentence in problem


def test_plausible_values_are_accepted(manifest_file: Any) -> None:
    people = [(-12.0, 75, 150), (5.7, 90, 120), (295.1, 20, 210), (100, 8, 80)]
    records = [
        record(f"p{i}", f"{i}.nii", bmd_mg_cm3=bmd, bmd_standard="K2HPO4", age=age, height_cm=height)
        for i, (bmd, age, height) in enumerate(people)
    ]
    assert read_manifest(manifest_file(test=records))


def cohort_of_norms(shift_sd: float, count: int) -> list[dict[str, Any]]:
    """Women of 62 years, whose norm is 92.36 +- 27.41 mg/cm3, ``shift_sd`` standard deviations above it on average."""
    around = [-0.5, 0.5] * (count // 2)
    values = [round(92.36 + 27.41 * (shift_sd + step), 1) for step in around]
    fields = {"bmd_standard": "K2HPO4", "sex": "F", "age": 62}
    return [record(f"p{i}", f"{i}.nii", bmd_mg_cm3=v, **fields) for i, v in enumerate(values)]


def test_a_whole_cohort_in_hu_is_found(manifest_file: Any) -> None:
    real = {"virtual": False}
    for shift, count, reported in ((1.5, 20, True), (1.0, 20, False), (1.5, 18, False)):
        path = manifest_file(test=cohort_of_norms(shift, count))
        path.write_text(json.dumps({**json.loads(path.read_text()), **real}))
        if reported:
            (problem,) = problems_of(path)
            assert "1.5 standard deviations above the norm of age and sex in 20 subjects" in problem
            assert "looks like HU" in problem
        else:
            assert read_manifest(path)
    assert read_manifest(manifest_file(test=cohort_of_norms(3, 40)))  # densities of virtual people may be drawn freely


# --- files ---------------------------------------------------------------------------------------------------------


def test_the_same_image_of_two_people(manifest_file: Any, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    path = manifest_file(test=[record("p", "a.nii", level="L1"), record("q", "x/../a.nii", level="L2")])
    assert problems_of(path, check_files=False) == ("test[1]: its image is that of another subject in test[0]",)


def test_copies_are_found_by_their_bytes(manifest_file: Any, tmp_path: Path) -> None:
    names = ["a.nii", "copy.nii", "same_size.nii", "other.nii", "middle.nii"]
    path = manifest_file(test=[record(f"p{i}", name) for i, name in enumerate(names)])
    # three samples of middle.nii and a.nii are equal, the rest is not
    content = bytearray(b"x" * 2**20)
    for name, offset in (("a.nii", None), ("copy.nii", None), ("same_size.nii", 0), ("middle.nii", 2**18)):
        changed = bytearray(content)
        if offset is not None:
            changed[offset] = 0
        (tmp_path / name).write_bytes(changed)
    (tmp_path / "other.nii").write_bytes(b"y")
    assert read_manifest(path)
    assert problems_of(path, check_content=True) == (
        "test[1]: its image copy.nii has the same content as a.nii in test[0]",
    )


def test_copied_folders_are_found(tmp_path: Path) -> None:
    for folder, contents in {"a": (b"1", b"2"), "b": (b"2", b"1"), "c": (b"1", b"3"), "empty": (), "void": ()}.items():
        (tmp_path / folder).mkdir()
        for i, content in enumerate(contents):
            (tmp_path / folder / f"{folder}{i}.dcm").write_bytes(content)
    path = tmp_path / "m.json"
    records = [record(f"p{f}", f) for f in ("a", "b", "c", "empty", "void")]
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, "training": records}))
    assert problems_of(path, check_content=True) == (
        "training[1]: its image b has the same content as a in training[0]",
    )


def test_the_predicted_label_map_is_a_file_too(manifest_file: Any, tmp_path: Path) -> None:
    path = manifest_file(test=[record("p", "a.nii", segmentation="seg/a.nii", acquired="2021-07-31")])
    assert problems_of(path) == ("test[0]: there is no file seg/a.nii",)
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "a.nii").touch()
    (item,) = datalist(path, "test", ("segmentation", "acquired"))
    assert item == {"segmentation": str(tmp_path / "seg" / "a.nii"), "acquired": "2021-07-31"}


def test_paths_follow_when_a_manifest_moves(tmp_path: Path) -> None:
    one = Record(image=("i/a.nii", "i/b.nii"), subject_id="p", label="l.nii", segmentation="../s.nii", truth="t.json")
    moved = one.moved(tmp_path / "x", tmp_path / "y" / "z")
    assert moved.images == ("../../x/i/a.nii", "../../x/i/b.nii")
    assert (moved.label, moved.segmentation, moved.truth) == ("../../x/l.nii", "../../s.nii", "../../x/t.json")
    assert moved.moved(tmp_path / "y" / "z", tmp_path / "x") == one


def test_many_problems_of_one_kind_are_counted(manifest_file: Any) -> None:
    path = manifest_file(test=[*(record(f"p{i}", f"{i}.nii", age=500 + i) for i in range(30)), record("q", "q", x=1)])
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert len(caught.value.problems) == 31
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 10 + 1 + 1
    assert "31 problems" in lines[0]
    assert any("and 20 more like the last 10" in line for line in lines)
    assert any("x: this key is unknown" in line for line in lines)


def _cohort(folder: Path, name: str, *, virtual: bool = True, **splits: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for entry in (e for entries in splits.values() for e in entries):
        (folder / entry["image"]).touch()
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": name, "description": f"{name}.", "virtual": virtual, **splits}))
    return path


def test_manifests_are_joined_and_their_paths_follow(tmp_path: Path) -> None:
    home = _cohort(tmp_path / "a", "home", training=[record("p1", "a.png")], test=[record("p2", "b.png")])
    away = _cohort(tmp_path / "b", "away", test=[record("p3", "a.png")], external_1=[record("p4", "c.png")])
    joined = join_manifests([home, away], tmp_path / "c", "both")
    places = {split: [(r.subject_id, *r.images) for r in records] for split, records in joined.splits.items()}
    assert places == {
        "training": [("p1", "../a/a.png")],
        "test": [("p2", "../a/b.png"), ("p3", "../b/a.png")],
        "external_1": [("p4", "../b/c.png")],
    }
    write_manifest(joined, tmp_path / "c" / "both.json")
    assert read_manifest(tmp_path / "c" / "both.json") == joined


def test_incompatible_manifests_are_not_joined(tmp_path: Path) -> None:
    home = _cohort(tmp_path / "a", "home", training=[record("p1", "a.png")])
    real = _cohort(tmp_path / "b", "real", virtual=False, test=[record("p2", "a.png")])
    with pytest.raises(ManifestError, match="both virtual and real people"):
        join_manifests([home, real], tmp_path, "both")
    again = _cohort(tmp_path / "c", "again", test=[record("p1", "a.png")])
    with pytest.raises(ManifestError, match="more than one split|duplicates"):
        write_manifest(join_manifests([home, again], tmp_path, "both"), tmp_path / "both.json")
    assert not (tmp_path / "both.json").exists()


def test_control_characters_of_a_manifest_are_not_in_its_problems(tmp_path: Path) -> None:
    """Found by ``benchmarks/fuzz_readers.py``: a NUL in a file name came back in the message."""
    record = {"image": "scan\x00\x1b[31m.nii", "subject_id": "S1"}
    content = {"name": "n", "description": "d", "virtual": False, "training": [record], "validation": [], "test": []}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "manifest.json")
    assert "\x00" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
