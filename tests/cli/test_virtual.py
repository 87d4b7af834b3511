"""The verbs ``virtual ct``, ``virtual radiograph`` and ``virtual cohort``."""

import json
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.cli import run

Capture = pytest.CaptureFixture[str]


def test_ct_passes_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    calls: list[tuple[Path, int, dict[str, Any]]] = []

    def make_ct(output: Path, seed: int, **options: Any) -> Path:
        calls.append((output, seed, options))
        return output / "dicom"

    monkeypatch.setattr("osteo_monai.virtual.cohort.make_ct", make_ct)
    words = ["--seed", "4", "--sex", "F", "--age", "70", "--density", "60", "--variant", "cement", "--kvp", "100"]
    assert run(["virtual", "ct", "-o", str(tmp_path), *words]) == 0
    ((output, seed, options),) = calls
    assert (output, seed) == (tmp_path, 4)
    assert options["variants"] == {"cement"}
    assert (options["sex"], options["age_years"], options["mean_density"], options["kvp"]) == ("F", 70, 60, 100)
    assert f"Virtual study: {tmp_path / 'dicom'}" in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "product"), [("ct", "dicom/old.dcm"), ("radiograph", "chest_frontal.png")])
def test_existing_studies_are_replaced_only_on_request(
    tmp_path: Path, capsys: Capture, verb: str, product: str
) -> None:
    former = tmp_path / product
    former.parent.mkdir(exist_ok=True)
    former.write_text("former")
    words = ["virtual", verb, "-o", str(tmp_path), *(["--matrix", "64"] if verb == "ct" else ["--rows", "64"])]
    assert run(words) == 2
    assert "--overwrite must be given to replace" in capsys.readouterr().err
    assert former.read_text() == "former"
    assert run([*words, "--overwrite"]) == 0
    assert not former.exists() or former.read_bytes() != b"former"


@pytest.mark.parametrize("verb", ["ct", "radiograph"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "horns"], "--variant must be lumbarised, sacralised, eleven_ribs, thirteen_ribs, osteophytes, "),
        (["--variant", "lumbarised", "--variant", "sacralised"], "--variant must contain at most one of"),
        (["--age", "12"], "--age must be from 18 to 90"),
        (["--density", "900"], "--density must be from 5 to 300 mg/cm3"),
        (["--seed", "-1"], "--seed must be greater than or equal to 0, got '-1'"),
    ],
)
def test_wrong_person(tmp_path: Path, capsys: Capture, verb: str, words: list[str], message: str) -> None:
    assert run(["virtual", verb, "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_facts_of_a_person_are_reported_together(tmp_path: Path, capsys: Capture) -> None:
    assert run(["virtual", "ct", "-o", str(tmp_path / "out"), "--age", "12", "--variant", "horns"]) == 2
    error = capsys.readouterr().err
    assert "--age must be from" in error
    assert "got 'horns'" in error


def test_value_error_of_the_computation_is_unexpected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("operands could not be broadcast together")

    recipe = Path(__file__).parents[2] / "data_manifests" / "recipes" / "virtual_demo.json"
    for name, words in (
        ("make_ct", ["ct"]),
        ("make_radiograph", ["radiograph"]),
        ("make_cohort", ["cohort", str(recipe)]),
    ):
        monkeypatch.setattr(f"osteo_monai.virtual.cohort.{name}", fail)
        assert run(["virtual", *words, "-o", str(tmp_path)]) == 1
        assert "An unexpected error stopped the command (ValueError)" in capsys.readouterr().err


def test_cohort_of_a_file_that_is_no_recipe(tmp_path: Path, capsys: Capture) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text("{}")
    assert run(["virtual", "cohort", str(recipe), "-o", str(tmp_path / "out")]) == 2
    assert "cohort recipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cohort_keeps_an_existing_manifest(tmp_path: Path, capsys: Capture) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text("{}")
    (tmp_path / "manifest.json").touch()
    assert run(["virtual", "cohort", str(recipe), "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--output must be a folder without a manifest.json" in error
    assert "cohort recipe" in error


CHEST = {"modality": "radiograph", "name": "chest", "rows": 64}
YOUNG_WOMEN = {"age_distribution": "uniform", "age_min": 20, "age_max": 25, "female_fraction": 1}


def _recipe(folder: Path, **fields: Any) -> str:
    basic = {"name": "n", "description": "d", "seed": 1, "subjects": 1, "splits": {"test": 1.0}, "formats": ["png"]}
    path = folder / "recipe.json"
    path.write_text(json.dumps({**basic, "acquisitions": [CHEST], **fields}))
    return str(path)


def test_impossible_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("osteo_monai.virtual.cohort._MOST_ATTEMPTS", 3)
    share = {"share": 1.0, "population": YOUNG_WOMEN}
    for fields, message in (
        ({"population": YOUNG_WOMEN, "class_counts": {"osteoporosis": 1}}, "class_counts must be possible"),
        ({"osteoporosis": share}, "osteoporosis must be possible: of 3 people"),
    ):
        recipe = _recipe(tmp_path, **fields)
        assert run(["virtual", "cohort", recipe, "-o", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_unfinished_cohort_of_another_recipe(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".unfinished.json").write_text("{}")
    assert run(["virtual", "cohort", _recipe(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "'out' must not hold an unfinished cohort of another recipe or version" in capsys.readouterr().err


def test_projections_of_the_first_people(tmp_path: Path, capsys: Capture) -> None:
    recipe = _recipe(tmp_path, subjects=3)
    command = ["virtual", "projections", recipe, "-o", str(tmp_path / "out"), "--rows", "64", "--subjects", "2"]
    assert run(command) == 0
    assert len(list((tmp_path / "out").glob("*.npz"))) == 2
    assert "manifest.json" in capsys.readouterr().out
    assert run(command) == 2
    assert "--output must be a folder without a manifest.json" in capsys.readouterr().err
    assert run([*command[:-1], "0"]) == 2
    assert "--subjects" in capsys.readouterr().err
