"""The program: start, help, version, exit codes, and the sentence for each mistake on the command line."""

import errno
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import osteo_monai
from osteo_monai.cli import ExitCode, run
from osteo_monai.domain import Finding, Severity
from osteo_monai.errors import ConfigError, ModelMissingError, ScanRefusedError, UnusableInputError
from osteo_monai.utils.optional import MissingExtraError

HEAVY = (
    "torch",
    "monai",
    "numpy",
    "nibabel",
    "pydicom",
    "scipy",
    "pandas",
    "mlflow",
    "matplotlib",
    "ignite",
    "xgboost",
    "PIL",
)
VERBS = [
    ["screen"],
    ["batch", "status"],
    ["measure"],
    ["evaluate"],
    ["evidence"],
    ["rebuild-tables"],
    *(["virtual", verb] for verb in ("ct", "radiograph", "cohort", "projections")),
    *(["manifest", verb] for verb in ("build", "split", "join", "validate", "describe", "segment")),
    *(["radiograph", verb] for verb in ("cross-validate", "fuse", "heat")),
    *(["risk", verb] for verb in ("calibrate", "train")),
    *(["sample-size", verb] for verb in ("rate", "area", "areas", "rates", "calibration")),
    *(["calibrate", verb] for verb in ("fit", "contrast", "check")),
    *(["bundle", verb] for verb in ("merge", "export", "onnx", "train-sizes", "compare-networks")),
]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom osteo_monai.cli import run\nrun(['--help'])\nrun(['screen', '--help'])\n"
        f"loaded = set({HEAVY}) & set(sys.modules)\nsys.exit(str(loaded) if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "screen" in done.stdout


def test_module_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "osteo_monai", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, osteo_monai.__version__)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == osteo_monai.__version__


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_help_of_each_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-h"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: osteo-monai {' '.join(words)}" in text
    assert "--debug" in text
    assert "<str>" not in text  # each value has a name of its own


@pytest.mark.parametrize("words", [[], ["virtual"], ["manifest"], ["radiograph"], ["risk"], ["calibrate"], ["bundle"]])
def test_group_without_verb_shows_its_help_and_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert "Commands" in captured.out + captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "No such command 'nonsense'. See 'osteo-monai --help'."),
        (["screen", "x", "--nope"], "No such option: --nope. See 'osteo-monai screen --help'."),
        (["screen", "x"], "--output is missing. See 'osteo-monai screen --help'."),
        (["screen", "x", "y", "-o", "out"], "unexpected extra argument"),
        (
            ["virtual", "cohort", "gone.json", "-o", "out"],
            "RECIPE must be an existing file, or virtual_alternatives, virtual_boonrod",
        ),
        (["manifest", "validate", "gone.json"], "MANIFEST must be an existing file, got 'gone.json'"),
        (["manifest", "build", "gone.csv", "--images", ".", "-o", "o.json"], "TABLE must be an existing file"),
        (["evaluate", "gone.csv", "-o", "out"], "TABLE must be an existing file, got 'gone.csv'"),
        (["evidence", "gone.csv", "-o", "out"], "STUDIES must be an existing file, got 'gone.csv'"),
        (["radiograph", "heat", "gone.csv"], "TABLE must be an existing file, got 'gone.csv'"),
        (["bundle", "merge", "gone"], "BUNDLE must be the folder of a bundle with configs/common.json, got 'gone'"),
        (["bundle", "compare-networks", "gone", "-o", "out"], "BUNDLE must be the name or folder of a bundle"),
        (["bundle", "train-sizes", "gone", "-o", "out"], "BUNDLE must be the name or folder of a bundle, got 'gone'"),
        (["virtual", "ct", "-o", "out", "--sex", "x"], "--sex must be female, male, F or M, got 'x'"),
        (["virtual", "ct", "-o", "out", "--kvp", "abc"], "--kvp must be a valid number, got 'abc'"),
        (["virtual", "ct", "-o", "out", "--kvp", "20"], "--kvp must be greater than or equal to 70, got '20'"),
        (["virtual", "ct", "-o", f"{__file__}/below"], "--output must be in a writable folder"),
        (["virtual", "cohort", "-o", "out"], "RECIPE is missing. See 'osteo-monai virtual cohort --help'."),
        (["virtual", "radiograph", "-o", "out", "--view", "foo"], "--view must be chest_frontal, lumbar_ap or lumbar_"),
    ],
)
def test_wrong_words_give_one_sentence_and_exit_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("osteo-monai: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_all_wrong_words_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sex", "x", "--levels", "T3", "--thresholds", "120,80", "--kvp", "abc"]
    assert run(["screen", "x", "-o", "out", *words]) == 2
    error = capsys.readouterr().err
    assert "4 arguments are wrong. See 'osteo-monai screen --help':" in error
    for option in ("--sex", "--levels", "--thresholds", "--kvp"):
        assert f"\n  - {option} must be " in error


# --- errors -------------------------------------------------------------------------------------------------------


class OwnError(RuntimeError):
    """An error of this program that no one expects."""


_REFUSAL = ScanRefusedError(Finding(code="x", severity=Severity.REFUSAL, message="L1 is not in view."))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UnusableInputError("The file is damaged."), ExitCode.UNUSABLE, "The file is damaged."),
        (ConfigError("unknown setting 'epochz'"), ExitCode.UNUSABLE, "unknown setting 'epochz'"),
        (MissingExtraError("XLSX needs openpyxl"), ExitCode.UNUSABLE, "XLSX needs openpyxl"),
        (_REFUSAL, ExitCode.REFUSED, "L1 is not in view."),
        (ModelMissingError("bundle x has no weights"), ExitCode.MODEL_MISSING, "bundle x has no weights"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a"),
            ExitCode.UNEXPECTED,
            "'out/a' cannot be written: the disk is full.",
        ),
        (OwnError("DOE^JOHN"), ExitCode.UNEXPECTED, "An unexpected error stopped the command (OwnError)."),
        (ValueError("of an hour of work"), ExitCode.UNEXPECTED, "An unexpected error stopped the command (ValueError)"),
        (MemoryError(), ExitCode.UNEXPECTED, "(MemoryError)"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_one_exit_code_and_one_sentence(
    error: BaseException,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("osteo_monai.virtual.cohort.make_ct", fail)
    assert run(["virtual", "ct", "-o", str(tmp_path)]) == code
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == (1 if message else 0)
    assert "DOE" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "words", [["--debug", "virtual", "ct"], ["virtual", "--debug", "ct"], ["virtual", "ct", "--debug"]]
)
def test_debug_is_an_option_of_every_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OwnError

    monkeypatch.setattr("osteo_monai.virtual.cohort.make_ct", fail)
    assert run([*words, "-o", str(tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_of_a_wrong_command_line_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["screen"], ["screen", "--nope"], ["virtual", "ct", "-o", "out", "--age", "7"]):
        assert run([*words, "--debug"]) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_debug_as_a_value_is_not_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OwnError

    monkeypatch.setattr("osteo_monai.reporting.evidence.write_evidence", fail)
    words = ["evidence", "--own-counts", "1,2,3,4", "--own-name", "--debug", "-o", str(tmp_path)]
    assert run(words) == 1
    assert "Traceback" not in capsys.readouterr().err


# --- logs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool, int]]:
    """Log settings inside a command: pydicom errors, own debug messages, number of warning filters."""
    seen: list[tuple[bool, bool, int]] = []

    def write(*arguments: object, **options: object) -> Path:
        pydicom, own = logging.getLogger("pydicom"), logging.getLogger("osteo_monai")
        seen.append((pydicom.isEnabledFor(logging.ERROR), own.isEnabledFor(logging.DEBUG), len(warnings.filters)))
        return Path("dicom")

    monkeypatch.setattr("osteo_monai.virtual.cohort.make_ct", write)
    return seen


def _settings() -> tuple[object, ...]:
    loggers = [logging.getLogger(name) for name in ("", "pydicom", "highdicom", "alembic", "mlflow", "osteo_monai")]
    return (*((logger.level, tuple(logger.handlers)) for logger in loggers), list(warnings.filters))


@pytest.mark.parametrize("debug", [False, True])
def test_logs_change_only_while_a_command_runs(
    debug: bool, states: list[tuple[bool, bool, int]], tmp_path: Path
) -> None:
    before = _settings()
    words = ["virtual", "ct", "-o", str(tmp_path)]
    assert run([*words, "--debug"] if debug else words) == 0
    assert _settings() == before
    # the messages of pydicom may quote a patient's name: they are shown with --debug only
    assert states[0][:2] == (debug, debug)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser may write everywhere")
def test_output_must_be_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert run(["virtual", "ct", "-o", str(tmp_path / "out")]) == 2
    assert "--output must be in a writable folder" in capsys.readouterr().err
