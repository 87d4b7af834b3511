"""The verb ``screen``: options, exit codes, what it prints."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.cli import run
from osteo_monai.domain import BoneStatus, Finding, MineralStandard, Severity, VertebraLevel
from osteo_monai.screening import PhantomCalibration, Study, UserCalibration
from osteo_monai.screening.result import Density, HUStatistics, LevelMeasurement, ScreeningResult

Capture = pytest.CaptureFixture[str]
Call = tuple[Path, Path, dict[str, Any]]


@pytest.fixture
def nifti(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes an empty NIfTI volume below the temporary folder."""

    def write(name: str = "ct.nii.gz") -> Path:
        import nibabel as nib

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
        return path

    return write


@pytest.fixture
def ct(nifti: Callable[[str], Path]) -> Path:
    """Return the path of one CT."""
    return nifti("ct.nii.gz")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return the path of one radiograph."""
    from PIL import Image

    path = tmp_path / "spine.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no network."""
    monkeypatch.setattr("osteo_monai.screening.models.load_models", lambda device, trust: None)


def measured(study: str, count: int, **fields: Any) -> ScreeningResult:
    """Return a measured result of L1 (``count`` 1), or of L1 and L2."""
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
    values: dict[str, Any] = {"findings": (), "levels": levels, "density": density, "status": BoneStatus.OSTEOPENIA}
    return ScreeningResult(study=study, verdict="accepted_with_warnings", **(values | fields))


def refused(study: str, verdict: str = "refused") -> ScreeningResult:
    """Return a result without numbers, and with a reason if the verdict needs one."""
    reason = Finding(code="x", severity=Severity.REFUSAL, message="The field of view is too small.")
    findings = (reason,) if verdict in ("refused", "unusable") else ()
    return ScreeningResult.model_validate({"study": study, "verdict": verdict, "findings": findings})


@pytest.fixture
def screening(monkeypatch: pytest.MonkeyPatch) -> "Screening":
    """Return a screening that answers what a test requests, and keeps its calls."""
    return Screening(monkeypatch)


class Screening:
    """Replaces the screening of one study."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[str], ScreeningResult] = lambda study: measured(study, 2)

        def screen(study: Study, output: Path, **options: Any) -> ScreeningResult:
            self.calls.append((study.path, output, options))
            result = self.answer(study.path.name)
            output.mkdir(parents=True, exist_ok=True)
            result.write(output / "result.json")
            return result

        monkeypatch.setattr("osteo_monai.screening_files.screen_to_folder", screen)


# --- options -----


@pytest.mark.parametrize(
    ("verdict", "code"), [("accepted", 0), ("accepted_with_warnings", 0), ("refused", 3), ("unusable", 2)]
)
def test_exit_codes_of_one_study(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, verdict: str, code: int
) -> None:
    screening.answer = lambda study: refused(study, verdict)
    assert run(["screen", str(ct), "--output", str(tmp_path / "out")]) == code
    text = capsys.readouterr().out
    assert "Research use only" in text
    assert text.count("The field of view is too small.") == (1 if code else 0)


def test_options_reach_the_pipeline(screening: Screening, ct: Path, tmp_path: Path) -> None:
    words = ["screen", str(ct), "-o", str(tmp_path / "out"), "--levels", "l1", "--thresholds", "50,110"]
    assert run([*words, "--calibration", "user:0.8,-2", "--kvp", "100", "--device", "cpu"]) == 0
    ((_, output, keywords),) = screening.calls
    options = keywords["options"]
    assert (output, keywords["device"]) == (tmp_path / "out", "cpu")
    assert options.levels == ("L1",)
    assert (options.thresholds.osteoporosis_below, options.thresholds.normal_above) == (50, 110)
    assert options.thresholds.source == "given by the user"
    assert (options.calibration, options.kvp) == (UserCalibration(0.8, -2), 100)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("user:0,0", "slope must be from 0.2 to 2 mg/cm3 per HU, got 0"),
        ("user:-0.8,0", "slope must be from 0.2 to 2 mg/cm3 per HU, got -0.8"),
        ("user:80,0", "slope must be from 0.2 to 2 mg/cm3 per HU, got 80"),
        ("user:nan,0", "slope and intercept must be finite, got nan and 0"),
        ("user:0.8,9000", "intercept must be from -100 to 100 mg/cm3, got 9000"),
        ("user:0.8", "--calibration user:SLOPE,INTERCEPT must have two numbers, got 'user:0.8'"),
        ("registry:nosuch", "siemens-definition-as-plus, got 'nosuch'"),
    ],
)
def test_a_calibration_that_cannot_hold_is_refused_before_the_study(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, method: str, text: str
) -> None:
    """T11: with a slope of 0 all people have the intercept as density."""
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--calibration", method]) == 2
    assert text in capsys.readouterr().err
    assert not screening.calls


@pytest.mark.parametrize("kvp", ["nan", "12", "120000"])
def test_a_tube_voltage_that_no_ct_has(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, kvp: str
) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--kvp", kvp]) == 2
    assert f"--kvp must be from 40 to 200 kV, got {float(kvp):g}" in capsys.readouterr().err
    assert not screening.calls


def test_a_report_that_was_not_written_is_not_named(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / "out")]) == 0
    assert "Report:" not in capsys.readouterr().out  # the stand-in writes none, as a full disk


@pytest.mark.parametrize("option", ["--calibration=phantom:", "--calibration=site:", "--contrast-correction="])
def test_a_named_pipe_in_place_of_a_file_is_not_opened(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, option: str
) -> None:
    """A site file that is a pipe hung for ever."""
    os.mkfifo(tmp_path / "pipe")
    signal.alarm(30)  # ends the tests if the pipe is opened
    try:
        assert run(["screen", str(ct), "-o", str(tmp_path / "out"), f"{option}{tmp_path / 'pipe'}"]) == 2
    finally:
        signal.alarm(0)
    assert "pipe" in capsys.readouterr().err
    assert not screening.calls


def test_a_phantom_file_is_read_before_the_study(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["screen", str(ct), "-o", str(tmp_path / "out"), "--calibration"]
    assert run([*words, f"phantom:{tmp_path / 'absent.json'}"]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert not screening.calls
    rods = [{"density_mg_cm3": d, "centre_mm": [d, 0, 0], "radius_mm": 5} for d in (0, 100, 200)]
    path = tmp_path / "phantom.json"
    path.write_text(json.dumps({"standard": "K2HPO4", "rods": rods}))
    assert run([*words, f"phantom:{path}"]) == 0
    assert screening.calls[0][2]["options"].calibration == PhantomCalibration(path)


def test_texture_is_an_option_of_ct(screening: Screening, ct: Path, picture: Path, tmp_path: Path) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--texture"]) == 0
    assert screening.calls[0][2]["options"].texture
    assert run(["screen", str(picture), "-o", str(tmp_path / "other"), "--texture"]) == 2


def test_a_missing_texture_extra_is_one_sentence_before_the_study_is_read(
    screening: Screening, ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--texture"]) == 2
    assert capsys.readouterr().err == "osteo-monai: Texture analysis needs itk: pip install 'osteo-monai[texture]'\n"
    assert not screening.calls
    assert run(["screen", str(ct), "-o", str(tmp_path / "out")]) == 0


def test_defaults(screening: Screening, ct: Path, tmp_path: Path) -> None:
    run(["screen", str(ct), "-o", str(tmp_path / "out")])
    options = screening.calls[0][2]["options"]
    assert "Pan" in options.thresholds.source
    assert not options.texture
    assert options.levels is None  # L1 and L2, or L1 only if L2 is not whole


def test_levels_may_be_those_of_the_default(screening: Screening, ct: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--levels", "L1,L2"]) == 0
    assert screening.calls[0][2]["options"].levels == ("L1", "L2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--levels", "T12"], "--levels must be levels from L1 to L5, each once"),
        (["--levels", ""], "--levels must be levels from L1 to L5, each once"),
        (["--levels", "L1,L1"], "--levels must be levels from L1 to L5, each once"),
        (["--thresholds", "80"], "--thresholds must be two rising positive numbers"),
        (["--thresholds", "120,80"], "--thresholds must be two rising positive numbers"),
        (["--thresholds", "a,b"], "--thresholds must be two rising positive numbers"),
        (["--calibration", "magic"], "--calibration must be"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        (["--age", "60"], "--age must be left out for CT"),
        (["--sex", "female", "--view", "lumbar_ap"], "--view and --sex must be left out for CT"),
    ],
)
def test_wrong_options_of_a_ct(
    screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not screening.calls


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # values equal to the defaults are refused as well: the option was given
        (["--levels", "L1,L2"], "--levels must be left out for radiographs"),
        (["--levels", "L1"], "--levels must be left out for radiographs"),
        (["--thresholds", "80,120"], "--thresholds must be left out for radiographs"),
        (["--calibration", "physics", "--kvp", "120"], "--calibration and --kvp must be left out for radiographs"),
        (["--age", "200"], "--age must be between 0 and 120 years, got 200"),
        (["--height", "1.7"], "--height must be between"),
        (["--sex", "x"], "--sex must be female, male, F or M, got 'x'"),
        (["--view", "chest_lateral"], "--view must be chest_frontal, lumbar_ap or lumbar_lateral"),
    ],
)
def test_wrong_options_of_a_radiograph(
    picture: Path, tmp_path: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert run(["screen", str(picture), "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_existing_result_does_not_hide_a_wrong_age(picture: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "result.json").touch()
    assert run(["screen", str(picture), "-o", str(tmp_path), "--age", "200"]) == 2
    error = capsys.readouterr().err
    assert "--overwrite must be given" in error
    assert "--age must be between 0 and 120 years, got 200" in error


@pytest.mark.parametrize("word", ["female", "FEMALE", "f", "F"])
def test_sex_has_one_form_for_all_commands(
    screening: Screening, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    screening.answer = refused
    values: list[object] = []

    def make_ct(output: Path, seed: int, **options: Any) -> Path:
        values.append(options["sex"])
        return output

    monkeypatch.setattr("osteo_monai.virtual.cohort.make_ct", make_ct)
    assert run(["screen", str(picture), "-o", str(tmp_path / "out"), "--sex", word]) == 3
    assert run(["virtual", "ct", "-o", str(tmp_path / "ct"), "--sex", word]) == 0
    values.append(screening.calls[0][2]["radiograph_options"].sex)
    assert values == ["F", "F"]


# --- what is printed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_table_and_verdict(screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, count: int) -> None:
    findings = (
        Finding(code="a", severity=Severity.WARNING, message="The kernel is sharp."),
        Finding(code="b", severity=Severity.INFO, message="T12 has the last ribs."),
    )
    screening.answer = lambda study: measured(study, count, findings=findings)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("of the stand-in")
    assert run(["screen", str(ct), "-o", str(tmp_path / "out"), "--overwrite"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Warning: The kernel is sharp."
    rows = [line.split() for line in lines if line.strip().startswith(("L1", "L2"))]
    assert [row[0] for row in rows] == ["L1", "L2"][:count]
    only = " (L1 only)" if count == 1 else ""
    assert (
        "ct.nii.gz: accepted with warnings. Trabecular density 82.1 mg/cm3 K2HPO4 (90 % interval 70 to 94), "
        f"osteopenia{only}."
    ) in lines
    assert lines[-2] == f"Report: {tmp_path / 'out' / 'report.html'}"
    assert not any("last ribs" in line for line in lines)  # notes are in the report


def test_unusable_input_has_a_result_and_exit_code_2(tmp_path: Path, no_models: None, capsys: Capture) -> None:
    (tmp_path / "letter.txt").write_text("not an image")
    output = tmp_path / "out"
    assert run(["screen", str(tmp_path / "letter.txt"), "-o", str(output)]) == 2
    assert json.loads((output / "result.json").read_text())["verdict"] == "unusable"
    assert capsys.readouterr().out.count("letter.txt: unusable. ") == 1


def test_a_missing_study_leaves_no_output(tmp_path: Path, no_models: None, capsys: Capture) -> None:
    assert run(["screen", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 2
    assert "STUDY must be an existing file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["ct.nii.gz", "ct.nii.gz/below"])
def test_output_that_is_a_file(screening: Screening, ct: Path, tmp_path: Path, capsys: Capture, output: str) -> None:
    assert run(["screen", str(ct), "-o", str(tmp_path / output)]) == 2
    assert "--output must be " in capsys.readouterr().err
    assert not screening.calls


def test_results_are_replaced_on_request_only(screening: Screening, ct: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["screen", str(ct), "-o", str(tmp_path / "out")]
    assert run(words) == 0
    assert run(words) == 2
    assert f"--overwrite must be given to replace '{tmp_path / 'out' / 'result.json'}'" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0
    assert len(screening.calls) == 2


# --- many studies -------------------------------------------------------------------------------------------------


def test_many_studies_give_a_row_each(
    screening: Screening, nifti: Callable[[str], Path], tmp_path: Path, capsys: Capture, no_models: None
) -> None:
    screening.answer = refused
    for name in ("a", "b"):
        nifti(f"in/{name}.nii.gz")
    assert run(["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 3
    assert [output.name for _, output, _ in screening.calls] == ["a.nii.gz", "b.nii.gz"]
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["refusals"] for row in rows] == ["x", "x"]
    text = capsys.readouterr().out
    assert "a.nii.gz: refused. The field of view is too small." in text
    assert "summary.csv" in text


def test_an_error_in_one_of_many_studies_is_a_row(
    screening: Screening, nifti: Callable[[str], Path], tmp_path: Path, no_models: None
) -> None:
    def answer(study: str) -> ScreeningResult:
        if study == "a.nii.gz":
            raise RuntimeError("DOE^JOHN")
        return refused("b", "accepted")

    screening.answer = answer
    for name in ("a", "b"):
        nifti(f"in/{name}.nii.gz")
    assert run(["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["verdict"] for row in rows] == ["unusable", "accepted"]


def test_facts_of_a_person_are_refused_for_many_studies(
    picture: Path, tmp_path: Path, capsys: Capture, no_models: None
) -> None:
    (tmp_path / "other.png").write_bytes(picture.read_bytes())
    assert run(["screen", str(tmp_path), "-o", str(tmp_path / "out"), "--age", "60", "--weight", "70"]) == 2
    assert "--age and --weight must be left out for many studies, got 2" in capsys.readouterr().err


def test_radiographs_and_ct_of_one_folder(
    screening: Screening, nifti: Callable[[str], Path], picture: Path, tmp_path: Path, no_models: None
) -> None:
    screening.answer = refused
    nifti("ct.nii.gz")
    words = ["screen", str(tmp_path), "-o", str(tmp_path / "out"), "--levels", "L1", "--view", "lumbar_ap"]
    assert run(words) == 3
    assert [path.name for path, _, _ in screening.calls] == ["ct.nii.gz", "spine.png"]
    for _, _, keywords in screening.calls:
        assert keywords["options"].levels == ("L1",)
        assert keywords["radiograph_options"].view == "lumbar_ap"
