"""The command: exit codes, messages, and that it answers at once."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import osteo_monai
from osteo_monai import cli
from osteo_monai.domain import BoneStatus, Finding, MineralStandard, Severity, VertebraLevel
from osteo_monai.screening.result import Density, HUStatistics, LevelMeasurement, LocatedLevel, ScreeningResult


@pytest.fixture
def no_models(monkeypatch):
    """Let the models be anything, so that nothing is loaded."""
    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.load_models", lambda device: device)


def pretend(monkeypatch, verdict, code="x"):
    """Replace screening by a function that gives ``verdict`` and remembers what it was called with."""
    calls = []

    def screen(path, output, **options):
        calls.append((Path(path), Path(output), options))
        refused = verdict in ("refused", "unusable")
        findings = (Finding(code=code, severity=Severity.REFUSAL, message="There is a reason."),) if refused else ()
        result = ScreeningResult(study=Path(path).name, verdict=verdict, findings=findings)
        Path(output).mkdir(parents=True, exist_ok=True)
        result.write(Path(output) / "result.json")
        return result

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.screen", screen)
    return calls


def nifti(path: Path) -> Path:
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    return path


def test_help_answers_within_a_second_and_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from osteo_monai import cli\n"
        "cli.run(['--help'])\n"
        "heavy = {'torch', 'monai', 'numpy', 'nibabel', 'pydicom', 'scipy', 'mlflow', 'matplotlib'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    assert "screen" in done.stdout
    assert seconds < 3  # about 0.3 s; the bar of one second is for a machine that does nothing else


def test_version(capsys):
    assert cli.run(["version"]) == 0
    assert capsys.readouterr().out.strip() == osteo_monai.__version__


@pytest.mark.parametrize("words", [[], ["screen"], ["virtual"], ["manifest"], ["nonsense"], ["screen", "x", "--nope"]])
def test_wrong_command_line_exits_2(words, capsys):
    assert cli.run(words) == 2


@pytest.mark.parametrize(
    ("verdict", "code"), [("accepted", 0), ("accepted_with_warnings", 0), ("refused", 3), ("unusable", 2)]
)
def test_exit_codes_of_one_study(monkeypatch, tmp_path, capsys, verdict, code):
    pretend(monkeypatch, verdict)
    path = nifti(tmp_path / "ct.nii.gz")
    assert cli.run(["screen", str(path), "--output", str(tmp_path / "out")]) == code
    said = capsys.readouterr().out
    assert "Research use only" in said
    assert ("There is a reason." in said) == (code != 0)


def test_options_reach_the_pipeline(monkeypatch, tmp_path):
    calls = pretend(monkeypatch, "accepted")
    path = nifti(tmp_path / "ct.nii.gz")
    words = ["screen", str(path), "-o", str(tmp_path / "out"), "--levels", "l1", "--thresholds", "50,110"]
    assert cli.run([*words, "--calibration", "user:0.8,-2", "--kvp", "100", "--device", "cpu"]) == 0
    (_, output, given), options = calls[0], calls[0][2]["options"]
    assert output == tmp_path / "out"
    assert given["device"] == "cpu"
    assert options.levels == ("L1",)
    assert (options.thresholds.osteoporosis_below, options.thresholds.normal_above) == (50, 110)
    assert options.thresholds.source == "given by the user"
    assert options.calibration == "user:0.8,-2"
    assert options.kvp == 100


def test_defaults_are_pans_thresholds_with_their_source(monkeypatch, tmp_path):
    calls = pretend(monkeypatch, "accepted")
    cli.run(["screen", str(nifti(tmp_path / "ct.nii.gz")), "-o", str(tmp_path / "out")])
    options = calls[0][2]["options"]
    assert "Pan" in options.thresholds.source
    assert options.levels is None  # L1 and L2, or L1 alone where L2 is not whole


def test_levels_that_are_asked_for_are_told_from_the_default(monkeypatch, tmp_path, capsys):
    calls = pretend(monkeypatch, "accepted")
    path = nifti(tmp_path / "ct.nii.gz")
    assert cli.run(["screen", str(path), "-o", str(tmp_path / "out"), "--levels", "L1,L2"]) == 0
    assert calls[0][2]["options"].levels == ("L1", "L2")
    cli.run(["screen", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "L1 and L2 where both are whole, else L1 alone" in said


def measured(study: str, count: int, **fields) -> ScreeningResult:
    """Return a measured result of L1, or of L1 and L2."""
    density = Density(mg_cm3=82.1, interval_low=70.0, interval_high=94.0, standard=MineralStandard.K2HPO4)
    levels = tuple(
        LevelMeasurement(
            level=level,
            certainty=0.97,
            slice_index=40,
            instance_number=None,
            centre_mm=(0.0, 0.0, 0.0),
            body_volume_cm3=30.0,
            height_mm=26.0,
            region_name="trabecular_core 1.0",
            region_voxels=900,
            region_area_mm2=300.0,
            region_volume_cm3=4.0,
            hu=HUStatistics(mean=110.0, median=109.0, sd=30.0, p10=70.0, p90=150.0),
            density=density,
        )
        for level in (VertebraLevel.L1, VertebraLevel.L2)[:count]
    )
    given = {"findings": (), "levels": levels, "density": density, "status": BoneStatus.OSTEOPENIA} | fields
    return ScreeningResult(study=study, verdict="accepted_with_warnings", **given)


def test_one_level_alone_is_in_the_headline(monkeypatch, tmp_path, capsys):
    path = nifti(tmp_path / "ct.nii.gz")
    for count, alone in ((1, True), (2, False)):
        monkeypatch.setattr(
            "osteo_monai.screening.ct.pipeline.screen", lambda path, output, count=count, **_: measured("x", count)
        )
        assert cli.run(["screen", str(path), "-o", str(tmp_path / f"out{count}")]) == 0
        said = capsys.readouterr().out
        assert "Trabecular density: 82.1 mg/cm3 K2HPO4, osteopenia" in said
        assert ("osteopenia (L1 alone)" in said) == alone
        assert "not named" not in said


def test_bodies_above_the_named_ones_and_the_last_ribs_are_told(monkeypatch, tmp_path, capsys):
    witness = "T12 carries the last ribs: right 98 mm, left 105 mm"
    t9 = LocatedLevel(level=VertebraLevel.T9, certainty=0.99, runner_up=None, centre_mm=(0.0, 0.0, 180.0))
    found = (Finding(code="last_rib", severity=Severity.INFO, message=witness),)
    monkeypatch.setattr(
        "osteo_monai.screening.ct.pipeline.screen",
        lambda path, output, **_: measured("x", 2, findings=found, bodies_above=7, levels_found=(t9,)),
    )
    assert cli.run(["screen", str(nifti(tmp_path / "ct.nii.gz")), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.count("7 bodies above T9 were found and are not named.") == 1
    assert said.count(witness) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--levels", "T12"], "--levels must be lumbar levels"),
        (["--levels", ""], "--levels must be lumbar levels"),
        (["--levels", "L1,L1"], "none twice"),
        (["--thresholds", "80"], "--thresholds must be two numbers"),
        (["--thresholds", "120,80"], "osteoporosis_below < normal_above"),
        (["--thresholds", "a,b"], "--thresholds must be two numbers"),
        (["--calibration", "magic"], "calibration must be"),
        (["--device", "tpu"], "--device must be"),
    ],
)
def test_wrong_arguments_are_told_in_one_sentence(monkeypatch, tmp_path, capsys, words, said):
    calls = pretend(monkeypatch, "accepted")
    path = nifti(tmp_path / "ct.nii.gz")
    assert cli.run(["screen", str(path), "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not calls


def test_results_are_not_replaced_unless_asked(monkeypatch, tmp_path, capsys):
    calls = pretend(monkeypatch, "accepted")
    words = ["screen", str(nifti(tmp_path / "ct.nii.gz")), "-o", str(tmp_path / "out")]
    assert cli.run(words) == 0
    assert cli.run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.run([*words, "--overwrite"]) == 0
    assert len(calls) == 2


def test_output_that_is_a_file(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch, "accepted")
    path = nifti(tmp_path / "ct.nii.gz")
    assert cli.run(["screen", str(path), "-o", str(path)]) == 2
    assert "must be a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "letter.txt"])
def test_unusable_input_has_a_result_and_exit_code_2(tmp_path, name, no_models):
    (tmp_path / "letter.txt").write_text("not an image")
    assert cli.run(["screen", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
    assert json.loads((tmp_path / "out" / "result.json").read_text())["verdict"] == "unusable"


def test_many_studies_give_a_row_each(monkeypatch, tmp_path, capsys, no_models):
    calls = pretend(monkeypatch, "refused")
    for name in ("a", "b"):
        nifti(tmp_path / "in" / f"{name}.nii.gz")
    assert cli.run(["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 3
    assert [output.name for _, output, _ in calls] == ["a.nii.gz", "b.nii.gz"]
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["refusals"] for row in rows] == ["x", "x"]
    said = capsys.readouterr().out
    assert "a.nii.gz: refused: There is a reason." in said
    assert "summary.csv" in said


def test_a_study_that_breaks_among_many_is_a_row(monkeypatch, tmp_path, no_models):
    def screen(path, output, **options):
        if Path(path).name == "a.nii.gz":
            raise RuntimeError("DOE^JOHN")
        return ScreeningResult(study="b", verdict="accepted", findings=())

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.screen", screen)
    for name in ("a", "b"):
        nifti(tmp_path / "in" / f"{name}.nii.gz")
    assert cli.run(["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["verdict"] for row in rows] == ["unusable", "accepted"]


def test_unexpected_error_is_one_sentence_without_trace_or_text(monkeypatch, tmp_path, capsys):
    def screen(path, output, **options):
        raise RuntimeError("DOE^JOHN broke it")

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.screen", screen)
    path = nifti(tmp_path / "ct.nii.gz")
    assert cli.run(["screen", str(path), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "unexpected error" in error
    assert "RuntimeError" in error
    assert "Traceback" not in error
    assert "DOE" not in error
    assert cli.run(["--debug", "screen", str(path), "-o", str(tmp_path / "out")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_missing_weights_are_told(monkeypatch, tmp_path, capsys):
    def screen(path, output, **options):
        raise FileNotFoundError("bundle x has no weights")

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.screen", screen)
    assert cli.run(["screen", str(nifti(tmp_path / "ct.nii.gz")), "-o", str(tmp_path / "out")]) == 2
    assert "bundle x has no weights" in capsys.readouterr().err


def test_radiographs_and_ct_go_their_own_ways(monkeypatch, tmp_path, no_models):
    """A picture and a volume in one folder; what was said of the view reaches the picture alone."""
    from PIL import Image

    of_ct, of_pictures = pretend(monkeypatch, "accepted"), []

    def screen_radiographs(files, output, **options):
        of_pictures.append((files, options["options"]))
        return ScreeningResult(study=options["study"], modality="radiograph", verdict="refused", findings=())

    monkeypatch.setattr("osteo_monai.screening.radiographs.pipeline.screen_radiographs", screen_radiographs)
    nifti(tmp_path / "in" / "ct.nii.gz")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "in" / "spine.png")
    words = ["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--levels", "L1", "--view", "lumbar_ap"]
    assert cli.run(words) == 3
    ((path, _, options),) = of_ct
    assert (path.name, options["options"].levels) == ("ct.nii.gz", ("L1",))
    ((files, given),) = of_pictures
    assert ([file.name for file in files], given.view) == (["spine.png"], "lumbar_ap")
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(row["study"], row["modality"]) for row in rows] == [("ct.nii.gz", "ct"), ("spine.png", "radiograph")]


def test_third_party_loggers_that_may_quote_a_name_are_silent():
    cli.run(["version"])
    for name in ("pydicom", "highdicom"):
        assert not logging.getLogger(name).isEnabledFor(logging.ERROR)


MANIFEST = {
    "name": "two people",
    "description": "a test",
    "virtual": True,
    "training": [
        {"image": "a.nii.gz", "subject_id": "a", "age": 60, "sex": "F", "bmd_mg_cm3": 70, "bmd_standard": "K2HPO4",
         "bone_status": "osteoporosis"},
        {"image": "b.nii.gz", "subject_id": "b", "age": 50, "sex": "M", "bmd_mg_cm3": 130, "bmd_standard": "K2HPO4",
         "bone_status": "normal"},
    ],
    "test": [{"image": "c.nii.gz", "subject_id": "c"}],
}  # fmt: skip


def test_manifest_is_described(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert cli.run(["manifest", "describe", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    training = next(line for line in lines if "training" in line)
    # 70 and 130 mg/cm3: mean 100, SD 42.4; ages 60 and 50: mean 55, SD 7.1
    for text in ("1 of 2", "55.0 +- 7.1", "100.0 +- 42.4"):
        assert text in training
    unknown = next(line for line in lines if "test" in line and "people" not in line)
    assert unknown.count("-") >= 6


def test_manifest_is_validated(tmp_path, capsys):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert cli.run(["manifest", "validate", "--no-files", str(path)]) == 0
    assert "3 records" in capsys.readouterr().out
    assert cli.run(["manifest", "validate", str(path)]) == 2
    assert "there is no file a.nii.gz" in capsys.readouterr().err
    path.write_text(json.dumps({**MANIFEST, "test": [{"image": "c.nii.gz", "subject_id": "a"}]}))
    assert cli.run(["manifest", "validate", "--no-files", str(path)]) == 2
    assert "more than one split" in capsys.readouterr().err


def test_virtual_ct_passes_its_options(monkeypatch, tmp_path, capsys):
    calls = []

    def write_virtual_study(output, seed, **options):
        calls.append((output, seed, options))
        return output / "dicom"

    monkeypatch.setattr("osteo_monai.virtual.cohort.write_virtual_study", write_virtual_study)
    words = ["--seed", "4", "--sex", "F", "--age", "70", "--density", "60", "--variant", "cement", "--kvp", "100"]
    assert cli.run(["virtual", "ct", "-o", str(tmp_path), *words]) == 0
    (output, seed, options) = calls[0]
    assert (output, seed) == (tmp_path, 4)
    assert options["variants"] == {"cement"}
    assert (options["sex"], options["age_years"], options["mean_density"], options["kvp"]) == ("F", 70, 60, 100)
    assert "dicom" in capsys.readouterr().out


def test_virtual_ct_of_an_unknown_variant(tmp_path, capsys):
    assert cli.run(["virtual", "ct", "-o", str(tmp_path), "--variant", "horns"]) == 2
    assert "horns" in capsys.readouterr().err


def test_virtual_cohort_passes_its_paths(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("osteo_monai.virtual.cohort.write_cohort", lambda recipe, output, workers: output / recipe.name)
    assert cli.run(["virtual", "cohort", "recipe.json", "-o", str(tmp_path)]) == 0
    assert str(tmp_path / "recipe.json") in capsys.readouterr().out.replace("\n", "")


def test_virtual_cohort_of_a_recipe_that_is_none(tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text("{}")
    assert cli.run(["virtual", "cohort", str(recipe), "-o", str(tmp_path / "out")]) == 2
    assert "recipe" in capsys.readouterr().err
