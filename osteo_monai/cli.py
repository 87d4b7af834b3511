"""The command ``osteo-monai``: thin, each verb calls one function of the package.

Exit codes: 0 measured, 3 refused with a reason, 2 unusable input or a wrong argument, 1 an error nobody foresaw.
Heavy packages are imported inside the verbs, so that ``--help`` answers at once.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import osteo_monai
from osteo_monai.domain import (
    DensityThresholds,
    ScanRefusedError,
    Severity,
    Sex,
    UnusableInputError,
    VertebraLevel,
)

if TYPE_CHECKING:
    from rich.console import Console

    from osteo_monai.screening.pipeline import ScreeningOptions
    from osteo_monai.screening.result import ScreeningResult
    from osteo_monai.statistics.meta_analysis import EvidenceOptions

EXIT_UNEXPECTED, EXIT_UNUSABLE, EXIT_REFUSED = 1, 2, 3

app = typer.Typer(
    help="Opportunistic osteoporosis screening in CT: a study in, an honest bone report out. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
virtual = typer.Typer(help="Make virtual patients: one CT, or a cohort from a recipe.", no_args_is_help=True)
manifest = typer.Typer(help="Check and describe data manifests.", no_args_is_help=True)
app.add_typer(virtual, name="virtual")
app.add_typer(manifest, name="manifest")


@app.callback()
def _everywhere(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the trace of an unexpected error, and all logs.")
    ] = False,
) -> None:
    _set_up_logging(debug)


# --- screen -------------------------------------------------------------------------------------------------------


@app.command()
def screen(
    path: Annotated[Path, typer.Argument(help="A DICOM folder or file, a NIfTI file, or a folder of many studies.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    levels: Annotated[str, typer.Option(help="Levels to measure; each must be wholly in view.")] = "L1,L2",
    thresholds: Annotated[str, typer.Option(help="Osteoporosis below A, normal above B, mg/cm3 K2HPO4.")] = "80,120",
    calibration: Annotated[
        str, typer.Option(help="physics, internal, registry:NAME or user:SLOPE,INTERCEPT (mg/cm3 K2HPO4).")
    ] = "physics",
    kvp: Annotated[
        float | None,
        typer.Option(help="Tube voltage where the file does not state it (NIfTI); never overrides a header."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
) -> None:
    """Find L1 and L2 in a CT, measure their trabecular bone, and write result.json, labels.nii.gz and report.html.

    A folder of many studies gives one folder per study below the output, and summary.csv with one row each.

    Exit codes: 0 all measured; 3 refused with a reason (of many: at least one); 2 unusable input.
    """
    with _wrong_argument():
        options = _options(levels, thresholds, calibration, kvp)
        _check_device(device)
        _check_output(output, overwrite)
    from osteo_monai.imaging import find_studies

    try:
        studies = find_studies(path)
    except UnusableInputError:
        studies = [path]  # screening says why, in a result of its own
    many = len(studies) > 1
    raise typer.Exit(
        _screen_many(studies, path, output, options, device) if many else _screen_one(path, output, options, device)
    )


def _screen_one(path: Path, output: Path, options: "ScreeningOptions", device: str) -> int:
    from osteo_monai.screening.batch import exit_code
    from osteo_monai.screening.pipeline import screen as screen_study

    console = _console()
    with console.status("Reading") as status:
        result = screen_study(
            path, output, options=options, device=device, on_stage=lambda stage: status.update(stage.capitalize())
        )
    _print_result(console, result, output)
    return exit_code([result])


def _screen_many(studies: Sequence[Path], root: Path, output: Path, options: "ScreeningOptions", device: str) -> int:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from osteo_monai.screening.batch import exit_code, screen_folder
    from osteo_monai.screening.pipeline import load_models
    from osteo_monai.screening.pipeline import screen as screen_study

    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("Loading the models", total=len(studies))
        models = load_models(device)

        def tell(name: str, result: "ScreeningResult | None") -> None:
            if result is None:
                progress.update(task, description=name)
                return
            progress.console.print(f"{name}: {_one_line(result)}", highlight=False, markup=False)
            progress.advance(task)

        results = screen_folder(
            studies,
            root,
            output,
            lambda study, folder: screen_study(study, folder, models=models, options=options, study=folder.name),
            tell,
        )
    console.print(f"Summary: {output / 'summary.csv'}", highlight=False, markup=False, soft_wrap=True)
    return exit_code(results)


def _options(levels: str, thresholds: str, calibration: str, kvp: float | None) -> "ScreeningOptions":
    from osteo_monai.screening.pipeline import ScreeningOptions

    return ScreeningOptions(
        levels=_parse_levels(levels), thresholds=_parse_thresholds(thresholds), calibration=calibration, kvp=kvp
    )


def _parse_levels(text: str) -> tuple[VertebraLevel, ...]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    lumbar = [level.value for level in VertebraLevel if level.value.startswith("L")]
    wrong = [name for name in names if name not in lumbar]
    if wrong or not names:
        raise ValueError(f"--levels must be lumbar levels such as L1,L2, got '{text}'")
    return tuple(VertebraLevel(name) for name in names)


def _parse_thresholds(text: str) -> DensityThresholds:
    default = DensityThresholds()
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--thresholds must be two numbers in mg/cm3 such as 80,120, got '{text}'") from None
    if (low, high) == (default.osteoporosis_below, default.normal_above):
        return default
    return DensityThresholds(low, high, source="given by the user")


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda") and not (device.startswith("cuda:") and device[5:].isdigit()):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got '{device}'")


def _check_output(output: Path, overwrite: bool, products: Sequence[str] = ("result.json", "summary.csv")) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must be a folder, got the file '{output}'")
    held = [name for name in products if (output / name).exists()]
    if held and not overwrite:
        raise ValueError(f"--output '{output}' holds a {held[0]} already; --overwrite replaces it")


def _one_line(result: "ScreeningResult") -> str:
    if result.density is not None:
        status = f", {result.status}" if result.status is not None else ""
        return f"{result.density.mg_cm3:.1f} mg/cm3 {result.density.standard}{status}"
    refusal = next((f for f in result.findings if f.severity is Severity.REFUSAL), None)
    return f"{result.verdict}: {refusal.message if refusal else ''}"


def _print_result(console: "Console", result: "ScreeningResult", output: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    colours = {"accepted": "green", "accepted_with_warnings": "yellow", "refused": "red", "unusable": "red"}
    console.print(Text(f"{result.study}: {result.verdict.replace('_', ' ')}", style=f"bold {colours[result.verdict]}"))
    for finding in result.findings:
        console.print(Text(f"  {finding.severity}: {finding.message}"))
    if result.levels:
        table = Table("level", "certainty", "slice", "mean HU", "median HU", "mg/cm3", "90 % interval")
        for m in result.levels:
            d = m.density
            table.add_row(
                m.level,
                f"{m.certainty:.2f}",
                str(m.slice_index),
                f"{m.hu.mean:.0f}",
                f"{m.hu.median:.0f}",
                f"{d.mg_cm3:.1f}",
                f"{d.interval_low:.0f} to {d.interval_high:.0f}",
            )
        console.print(table)
    if result.density is not None:
        console.print(Text(f"Trabecular density: {_one_line(result)}", style="bold"))
    if result.density is not None and result.calibration is not None:
        console.print(Text(f"Calibration: {result.calibration.method}. {result.calibration.note}"))
    console.print(Text(result.research_use_notice, style="italic"))
    console.print(Text(f"Report: {output / 'report.html'}"), soft_wrap=True)


# --- manifest -----------------------------------------------------------------------------------------------------

_ManifestPath = Annotated[Path, typer.Argument(help="A manifest, JSON.")]


@manifest.command("validate")
def manifest_validate(
    path: _ManifestPath,
    files: Annotated[bool, typer.Option(help="Also check that every file named is there.")] = True,
) -> None:
    """Check a manifest: schema, one split per subject, class against density, files. Exit code 2 if it is wrong."""
    from osteo_monai.manifests import manifest_sha256, read_manifest

    with _wrong_argument():
        checked = read_manifest(path, check_files=files)
    count = sum(len(records) for records in checked.splits.values())
    typer.echo(f"{path.name} is a valid manifest of {count} records, sha256 {manifest_sha256(path)}.")


@manifest.command("describe")
def manifest_describe(path: _ManifestPath) -> None:
    """Show what a manifest holds: subjects, age, sex, density and class by split."""
    from rich.table import Table

    from osteo_monai.manifests import read_manifest
    from osteo_monai.manifests.describe import DESCRIPTION_COLUMNS, describe

    with _wrong_argument():
        checked = read_manifest(path, check_files=False)
    table = Table(*DESCRIPTION_COLUMNS)
    for row in describe(checked):
        table.add_row(*row)
    console = _console()
    console.print(f"{checked.header.name}: {checked.header.description}", highlight=False, markup=False)
    console.print(table)


# --- virtual ------------------------------------------------------------------------------------------------------


@virtual.command("ct")
def virtual_ct(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same person.")] = 1,
    sex: Annotated[Sex | None, typer.Option(help="Drawn where not given.")] = None,
    age: Annotated[float | None, typer.Option(help="Years; drawn where not given.")] = None,
    density: Annotated[float | None, typer.Option(help="Mean of L1 and L2, mg/cm3; drawn where not given.")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="What is uncommon in the spine, such as wedge_fracture; repeatable.")
    ] = None,
    kvp: Annotated[float, typer.Option(help="Tube voltage.")] = 120.0,
    matrix: Annotated[int, typer.Option(help="Pixels along a side of the slice.")] = 512,
) -> None:
    """Make one virtual chest CT as DICOM, with its exact truth and label map."""
    from osteo_monai.virtual.cohort import write_virtual_study
    from osteo_monai.virtual.person import Variant

    with _wrong_argument():
        variants = frozenset(Variant(name) for name in variant or ())
        with _console().status("Making one virtual patient"):
            folder = write_virtual_study(
                output,
                seed,
                sex=sex,
                age_years=age,
                mean_density=density,
                variants=variants,
                kvp=kvp,
                matrix=matrix,
            )
    typer.echo(f"Virtual study: {folder}")


@virtual.command("cohort")
def virtual_cohort(
    recipe: Annotated[Path, typer.Argument(help="A cohort recipe, JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the cohort.")],
) -> None:
    """Make a virtual cohort from a recipe, with its manifest: seeded, the same on every machine."""
    from osteo_monai.virtual.cohort import write_cohort

    with _wrong_argument():
        path = write_cohort(recipe, output)
    typer.echo(f"Manifest: {path}")


# --- evidence -----------------------------------------------------------------------------------------------------


@app.command()
def evidence(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report, tables and figures.")],
    studies: Annotated[
        Path | None, typer.Argument(help="CSV of 2 x 2 tables: study, model, TP, FP, FN, TN, ...")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="osteoporosis, osteopenia or normal; all of the table where not given.")
    ] = None,
    own_counts: Annotated[str | None, typer.Option(help="Your model's test set: TP,FP,FN,TN.")] = None,
    own_predictions: Annotated[
        Path | None, typer.Option(help="CSV of your model's predictions: truth, prediction.")
    ] = None,
    own_name: Annotated[str, typer.Option(help="What your model is called.")] = "own model",
    method: Annotated[str, typer.Option(help="binomial (exact), reml or ml (normal approximation).")] = "binomial",
    prevalence: Annotated[float, typer.Option(help="Pre-test probability in your population.")] = 0.20,
    covariate: Annotated[
        list[str] | None, typer.Option(help="Column to test; repeatable; all where not given.")
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates; 0 for none.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 1,
    quadas: Annotated[Path | None, typer.Option(help="CSV of QUADAS-2 judgements.")] = None,
    prisma: Annotated[Path | None, typer.Option(help="JSON of PRISMA counts.")] = None,
    track: Annotated[bool, typer.Option(help="Log to MLflow.")] = True,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; OUTPUT/mlflow.db where not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there already.")] = False,
) -> None:
    """Pool published 2 x 2 tables (bivariate model), and show where your model stands among them.

    Writes report.html, evidence.json, tables as CSV and LaTeX, and figures as SVG and PNG. Exit code 2: unusable input.
    """
    from osteo_monai.statistics.meta_analysis import EvidenceOptions, evidence_facts, write_evidence

    with _wrong_argument():
        options = EvidenceOptions(
            studies=studies,
            target=target,
            own_counts=own_counts,
            own_predictions=own_predictions,
            own_name=own_name,
            method=method,  # type: ignore[arg-type]  # checked by the options themselves
            prevalence=prevalence,
            covariates=tuple(covariate) if covariate else None,
            replicates=replicates,
            seed=seed,
            quadas=quadas,
            prisma=prisma,
        )
        _check_output(output, overwrite, ("report.html", "evidence.json"))
    console = _console()
    with console.status("Reading") as status:
        found = write_evidence(
            options, output, osteo_monai.__version__, lambda stage: status.update(stage.capitalize())
        )
        facts = evidence_facts(found)
        if track:
            status.update("Logging to MLflow")
            _track_evidence(options, facts, output, tracking_uri)
    for name, one in found.targets.items():
        if one.fit is None:
            words = " ".join(one.notes)
        else:
            se, sp = one.fit.summary().sensitivity, one.fit.summary().specificity
            words = (
                f"{len(one.studies)} tables, sensitivity {se.value:.3f} ({se.low:.3f} to {se.high:.3f}), "
                f"specificity {sp.value:.3f} ({sp.low:.3f} to {sp.high:.3f})"
            )
        console.print(f"{name}: {words}", highlight=False, markup=False)
    for name, own in found.own.items():
        words = f"sensitivity {own.sensitivity.value:.3f}, specificity {own.specificity.value:.3f}"
        console.print(f"{own.name}, {name}: {words}", highlight=False, markup=False)
    console.print(f"Report: {output / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _track_evidence(
    options: "EvidenceOptions", facts: "dict[str, float]", output: Path, tracking_uri: str | None
) -> None:
    from osteo_monai import tracking

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table it makes
    inputs = {"studies": options.studies, "own_predictions": options.own_predictions}
    parameters = {
        "method": options.method,
        "prevalence": options.prevalence,
        "replicates": options.replicates,
        "seed": options.seed,
        "own_counts": options.own_counts or "",
        **{f"{name}_sha256": tracking.file_sha256(path) for name, path in inputs.items() if path is not None},
    }
    tracking.log_finished_run(
        tracking_uri or tracking.sqlite_uri(output / "mlflow.db"),
        "evidence",
        tracking.unique_run_name("evidence"),
        parameters,
        facts,
        [output / "report.html", output / "evidence.json", output / "figures"],
    )


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(osteo_monai.__version__)


# --- start, logs and errors ---------------------------------------------------------------------------------------

_QUIET_LOGGERS = {
    "pydicom": "quotes values of damaged headers, which may be a patient's name; our readers tell what matters",
    "highdicom": "same as pydicom",
    "monai.data.nvimgcodec_pydicom_plugin": "tells in every worker that an optional CUDA decoder is absent",
    "matplotlib.font_manager": "tells of fonts it scores, of no use to a reader",
    "ignite.engine.engine.SupervisedEvaluator": "tells start and end of every inference",
}
"""Third-party loggers that are silenced below ERROR, each with the reason."""

_QUIET_WARNINGS = (
    ("pydicom", "quotes values of damaged headers, which may be a patient's name"),
    ("highdicom", "same as pydicom"),
)
"""Modules whose Python warnings are not shown, each with the reason."""


def _set_up_logging(debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not debug:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
    for module, _ in _QUIET_WARNINGS:
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


class _WrongArgumentError(Exception):
    """What was given on the command line cannot be used; the message says why."""


@contextmanager
def _wrong_argument() -> Iterator[None]:
    """Turn the ``ValueError`` of a checked argument into a wrong argument; one from anywhere else is unforeseen."""
    try:
        yield
    except ValueError as error:
        raise _WrongArgumentError(str(error)) from error


def _console() -> "Console":
    from rich.console import Console

    return Console()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors become one clear sentence on stderr.

    Args:
        arguments: words after the command's name; those of the process where ``None``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app(words, prog_name="osteo-monai")
    except SystemExit as stop:  # how typer ends: 0, 2 for a wrong argument, or the code that a verb asked for
        return stop.code if isinstance(stop.code, int) else EXIT_UNEXPECTED
    except ScanRefusedError as error:
        return _say(str(error), EXIT_REFUSED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, (UnusableInputError, _WrongArgumentError)):
            return _say(str(error), EXIT_UNUSABLE)
        if isinstance(error, OSError):  # a folder that cannot be written, weights that are not there
            said = str(error) if error.strerror is None else f"{error.strerror}: '{error.filename}'"
            return _say(said, EXIT_UNUSABLE)
        advice = "" if debug else " Run 'osteo-monai --debug ...' for its trace."
        return _say(f"An unexpected error stopped the command ({type(error).__name__}).{advice}", EXIT_UNEXPECTED)
    return 0


def _say(message: str, code: int) -> int:
    typer.echo(f"osteo-monai: {message}", err=True)
    return code


def main() -> None:
    """Entry point of the command ``osteo-monai``."""
    sys.exit(run())


if __name__ == "__main__":
    main()
