"""The command ``osteo-monai``: thin, each verb calls one function of the package.

Exit codes: 0 measured, 3 refused with a reason, 2 unusable input or a wrong argument, 1 an error nobody foresaw.
Heavy packages are imported inside the verbs, so that ``--help`` answers at once.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import osteo_monai
from osteo_monai.domain import DensityThresholds, MineralStandard, Severity, Sex, VertebraLevel
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.utils.files import file_sha256

if TYPE_CHECKING:
    from rich.console import Console

    from osteo_monai.reporting.evaluation import EvaluationOptions
    from osteo_monai.reporting.evidence import EvidenceOptions
    from osteo_monai.screening.models import RadiographModels, ScreeningModels
    from osteo_monai.screening.options import Calibration, RadiographOptions, ScreeningOptions
    from osteo_monai.screening.result import RiskOpinion, ScreeningResult
    from osteo_monai.screening.studies import Study

EXIT_UNEXPECTED, EXIT_UNUSABLE, EXIT_REFUSED = 1, 2, 3

app = typer.Typer(
    help="Opportunistic osteoporosis screening in CT and radiographs: a study in, an honest report out. "
    "Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
virtual = typer.Typer(
    help="Make virtual patients: one CT or radiograph, or a cohort from a recipe.", no_args_is_help=True
)
manifest = typer.Typer(help="Build, check, divide and describe data manifests.", no_args_is_help=True)
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

_THRESHOLDS, _CALIBRATION = "80,120", "physics"


@app.command()
def screen(
    path: Annotated[
        Path,
        typer.Argument(
            help="A CT (DICOM, NIfTI), a radiograph (DICOM, PNG, JPEG), or a folder of one or many studies."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    levels: Annotated[
        str | None,
        typer.Option(
            help="CT: levels to measure, such as L1,L2; each must be wholly in view.",
            show_default="L1 and L2 where both are whole, else L1 alone",
        ),
    ] = None,
    thresholds: Annotated[
        str, typer.Option(help="CT: osteoporosis below A, normal above B, mg/cm3 K2HPO4.")
    ] = _THRESHOLDS,
    calibration: Annotated[
        str, typer.Option(help="CT: physics, internal, registry:NAME or user:SLOPE,INTERCEPT (mg/cm3 K2HPO4).")
    ] = _CALIBRATION,
    kvp: Annotated[
        float | None,
        typer.Option(help="CT: tube voltage where the file does not state it (NIfTI); never overrides a header."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help="Radiograph: chest_frontal, lumbar_ap or lumbar_lateral, where neither header nor picture tells."
        ),
    ] = None,
    age: Annotated[float | None, typer.Option(help="Radiograph of one person: years; goes before the header.")] = None,
    sex: Annotated[str | None, typer.Option(help="Radiograph of one person: female or male.")] = None,
    height: Annotated[float | None, typer.Option(help="Radiograph of one person: cm.")] = None,
    weight: Annotated[float | None, typer.Option(help="Radiograph of one person: kg.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
) -> None:
    """Screen CT for bone density, and frontal chest or lumbar radiographs for the risk of osteoporosis.

    What a file is follows from its content. CT: L1 and L2 are found and their trabecular bone is measured (L1 alone
    where L2 is not whole); written are result.json, labels.nii.gz and report.html. Radiographs: a risk with its
    interval is given; written are result.json, heat_map.png and report.html. AP and lateral of one DICOM study are
    fused, and a chest is joined with age, sex, height and weight where all four are known.

    A folder of many studies gives one folder per study below the output, and summary.csv with one row each.

    Exit codes: 0 all measured; 3 refused with a reason (of many: at least one); 2 unusable input.
    """
    with _wrong_argument():
        _check_device(device)
        _check_output(output, overwrite)
        if device.startswith("cuda"):
            from osteo_monai.utils.devices import torch_device

            torch_device(device)  # told before anything is read
    from osteo_monai.screening.studies import Study, find_screenable

    try:
        studies = find_screenable(path)
    except UnusableInputError:
        studies = [Study("ct", path)]  # screening says why, in a result of its own
    kinds = {study.kind for study in studies}
    of_ct = _set_options(
        levels=levels is not None,
        thresholds=thresholds != _THRESHOLDS,
        calibration=calibration != _CALIBRATION,
        kvp=kvp is not None,
    )
    of_person = _set_options(
        age=age is not None, sex=sex is not None, height=height is not None, weight=weight is not None
    )
    with _wrong_argument():
        if of_ct and "ct" not in kinds:
            raise ValueError(f"{of_ct} must be left out for radiographs: only a CT is measured")
        if (of_person or view is not None) and "radiograph" not in kinds:
            raise ValueError(f"{of_person or '--view'} must be left out for CT: only radiographs are judged by it")
        if of_person and len(studies) > 1:
            raise ValueError(f"{of_person} must be left out for many studies: '{path}' holds {len(studies)}")
        run = _Screening(
            device=device,
            ct=_options(levels, thresholds, calibration, kvp) if "ct" in kinds else None,
            radiographs=_radiograph_options(view, age, sex, height, weight) if "radiograph" in kinds else None,
        )
    many = len(studies) > 1
    raise typer.Exit(_screen_many(studies, path, output, run) if many else _screen_one(studies[0], path, output, run))


@dataclass
class _Screening:
    """Screens studies of either kind; the models that many of them share are loaded once."""

    device: str
    ct: "ScreeningOptions | None"
    radiographs: "RadiographOptions | None"
    models: "ScreeningModels | None" = None
    radiograph_models: "RadiographModels | None" = None

    def load(self) -> None:
        """Load the models of CT beforehand; those of radiographs come when a view first needs them."""
        if self.ct is not None:
            from osteo_monai.screening.models import load_models

            self.models = load_models(self.device)
        if self.radiographs is not None:
            from osteo_monai.screening.models import RadiographModels

            self.radiograph_models = RadiographModels(self.device)

    def __call__(
        self, study: "Study", output: Path, name: str, on_stage: Callable[[str], None] = lambda stage: None
    ) -> "ScreeningResult":
        from osteo_monai.screening_files import screen_to_folder

        return screen_to_folder(
            study,
            output,
            name=name,
            device=self.device,
            options=self.ct,
            models=self.models,
            radiograph_options=self.radiographs,
            radiograph_models=self.radiograph_models,
            on_stage=on_stage,
        )


def _screen_one(study: "Study", path: Path, output: Path, run: _Screening) -> int:
    console = _console()
    with console.status("Reading") as status:
        result = run(study, output, path.resolve().name, lambda stage: status.update(stage.capitalize()))
    _print_result(console, result, output)
    return exit_code([result])


def _screen_many(studies: "Sequence[Study]", root: Path, output: Path, run: _Screening) -> int:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from osteo_monai.screening.many import screen_folder

    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("Loading the models", total=len(studies))
        run.load()

        def tell(name: str, result: "ScreeningResult | None") -> None:
            if result is None:
                progress.update(task, description=name)
                return
            progress.console.print(f"{name}: {_one_line(result)}", highlight=False, markup=False)
            progress.advance(task)

        by_path = {study.path: study for study in studies}
        results = screen_folder(
            list(by_path),
            root,
            output,
            lambda path, folder: run(by_path[path], folder, folder.name),
            tell,
            lambda path: by_path[path].kind,
        )
    console.print(f"Summary: {output / 'summary.csv'}", highlight=False, markup=False, soft_wrap=True)
    return exit_code(results)


def exit_code(results: "Sequence[ScreeningResult]") -> int:
    """Return 0 if every study was measured, 3 if at least one was refused with a reason, else 2 (unusable input)."""
    verdicts = {r.verdict for r in results}
    if "refused" in verdicts:
        return EXIT_REFUSED
    return EXIT_UNUSABLE if "unusable" in verdicts or not verdicts else 0


def _set_options(**given: bool) -> str:
    """Name the options that were set, ``--age and --sex``; empty for none."""
    *first, last = [f"--{name}" for name, is_set in given.items() if is_set] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _radiograph_options(
    view: str | None, age: float | None, sex: str | None, height: float | None, weight: float | None
) -> "RadiographOptions":
    from osteo_monai.domain import View
    from osteo_monai.screening.options import SCREENED_VIEWS, RadiographOptions

    if view is not None and view not in SCREENED_VIEWS:
        raise ValueError(f"--view must be {', '.join(SCREENED_VIEWS)}, got '{view}'")
    sexes = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}
    if sex is not None and sex.lower() not in sexes:
        raise ValueError(f"--sex must be female or male, got '{sex}'")
    return RadiographOptions(
        view=None if view is None else View(view),
        age=age,
        sex=None if sex is None else sexes[sex.lower()],
        height=height,
        weight=weight,
    )


def _options(levels: str | None, thresholds: str, calibration: str, kvp: float | None) -> "ScreeningOptions":
    from osteo_monai.screening.options import ScreeningOptions

    return ScreeningOptions(
        levels=None if levels is None else _parse_levels(levels),
        thresholds=_parse_thresholds(thresholds),
        calibration=_parse_calibration(calibration),
        kvp=kvp,
    )


def _parse_calibration(text: str) -> "Calibration":
    from osteo_monai.screening.options import (
        InternalCalibration,
        PhysicsCalibration,
        RegistryCalibration,
        UserCalibration,
    )

    method, _, value = text.partition(":")
    if not value and method in ("physics", "internal"):
        return PhysicsCalibration() if method == "physics" else InternalCalibration()
    if method == "registry" and value:
        return RegistryCalibration(value)
    try:
        if method == "user":
            slope, intercept = (float(part) for part in value.split(","))
            return UserCalibration(slope, intercept)
    except ValueError:
        pass  # the message below names all forms
    raise ValueError(f"calibration must be physics, internal, registry:NAME or user:SLOPE,INTERCEPT, got '{text}'")


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
        alone = f" ({result.levels[0].level} alone)" if len(result.levels) == 1 else ""
        return f"{result.density.mg_cm3:.1f} mg/cm3 {result.density.standard}{status}{alone}"
    if result.radiograph is not None:
        return f"risk of osteoporosis {_risk_words(result.radiograph.risk)}"
    refusal = next((f for f in result.findings if f.severity is Severity.REFUSAL), None)
    return f"{result.verdict}: {refusal.message if refusal else ''}"


def _risk_words(one: "RiskOpinion") -> str:
    from osteo_monai.reporting.wording import chance_words

    if one.probability is None:
        return f"not calibrated, score {one.score:.2f}"
    words = chance_words(one.probability, one.cutoff)
    if one.low is not None and one.high is not None:
        words += f" (90 % interval {chance_words(one.low)} to {chance_words(one.high)})"
    if one.cutoff is not None:
        words += f", {'' if one.raised else 'not '}raised at the cut-off of {chance_words(one.cutoff)}"
    return words


def _print_result(console: "Console", result: "ScreeningResult", output: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from osteo_monai.reporting.wording import bodies_above_words, percent_words

    colours = {"accepted": "green", "accepted_with_warnings": "yellow", "refused": "red", "unusable": "red"}
    console.print(Text(f"{result.study}: {result.verdict.replace('_', ' ')}", style=f"bold {colours[result.verdict]}"))
    for finding in result.findings:
        console.print(Text(f"  {finding.severity}: {finding.message}"))
    if above := bodies_above_words(result.bodies_above, bool(result.levels_found)):
        console.print(Text(f"  {above}"))
    if result.levels:
        table = Table("level", "certainty", "slice", "mean HU", "median HU", "mg/cm3", "90 % interval")
        for m in result.levels:
            d = m.density
            table.add_row(
                m.level,
                percent_words(m.certainty),
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
    if (found := result.radiograph) is not None:
        console.print(Text(f"Risk of osteoporosis: {_risk_words(found.risk)}", style="bold"))
        named = (("With age, sex, height and weight", found.combined, found.combined_absent),)
        for name, opinion, absent in (
            *named,
            ("Age, sex, height and weight alone", found.clinical, found.clinical_absent),
        ):
            console.print(Text(f"{name}: {f'no risk. {absent}' if opinion is None else _risk_words(opinion)}"))
    console.print(Text(result.research_use_notice, style="italic"))
    console.print(Text(f"Report: {output / 'report.html'}"), soft_wrap=True)


# --- manifest -----------------------------------------------------------------------------------------------------

_ManifestPath = Annotated[Path, typer.Argument(help="A manifest, JSON.")]


@manifest.command("build")
def manifest_build(
    table: Annotated[
        Path, typer.Argument(help="CSV or XLSX with a row per subject; docs/manifests.md has the columns.")
    ],
    images: Annotated[Path, typer.Option(help="Folder with the DICOM or NIfTI images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest, JSON; the flow is written beside it.")],
    columns: Annotated[
        list[str] | None, typer.Option(help="Names in the table, as age=Alter,sex=Geschlecht; repeatable.")
    ] = None,
    rules: Annotated[str, typer.Option(help="pan2024: the paper's inclusion and exclusion rules; or none.")] = "none",
    exclude_unknown: Annotated[
        bool, typer.Option("--exclude-unknown", help="Also exclude where a rule's fact is not known.")
    ] = False,
    standard: Annotated[
        MineralStandard | None, typer.Option(help="Of the densities, where the table has no column for it.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of all records, where the table has no column for it.")] = "test",
    name: Annotated[str | None, typer.Option(help="Of the cohort; else that of the table.")] = None,
    virtual_people: Annotated[bool, typer.Option("--virtual", help="The people are simulated.")] = False,
    screening: Annotated[
        Path | None, typer.Option(help="Output of 'screen' on the images: tells field of view, implants, fractures.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there already.")] = False,
) -> None:
    """Join a table of subjects with their images, apply a study's rules, and count who is left out and why.

    Beside the manifest: exclusions.csv with a reason for each subject, and the flow diagram flow.png and flow.svg.
    """
    from osteo_monai.data import BuildOptions, build_manifest, write_manifest
    from osteo_monai.reporting.cohort_tables import write_flow

    with _wrong_argument():
        _check_output(output.parent, overwrite, (output.name,))
        options = BuildOptions(
            table=table,
            images=images,
            folder=output.parent,
            columns=_pairs(columns or (), "--columns"),
            rules=rules,
            exclude_unknown=exclude_unknown,
            standard=standard,
            split=split,
            name=name,
            virtual=virtual_people,
            screening=screening,
        )
        built = build_manifest(options)
        checksum = write_manifest(built.manifest, output)
    built.write_exclusions(output.parent / "exclusions.csv")
    write_flow(built.stages, output.parent, built.manifest.header.virtual)
    for stage in built.stages:
        typer.echo(f"{stage.label}: {stage.count}")
        for reason, count in stage.excluded:
            typer.echo(f"  excluded, {reason}: {count}")
        for what, count in stage.unchecked:
            typer.echo(f"  not known and kept, {what}: {count}")
    for note in built.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Manifest: {output}, sha256 {checksum}")


@manifest.command("split")
def manifest_split(
    path: _ManifestPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new manifest, JSON.")],
    ratio: Annotated[str, typer.Option(help="Parts of training, validation and test; Pan's by default.")] = "5:1:4",
    seed: Annotated[int, typer.Option(help="Another seed gives another division.")] = 0,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Earliest subjects train and validate, the later ones are the test.")
    ] = False,
    first: Annotated[
        int | None, typer.Option(help="With --temporal: how many are the earliest (Pan: 630); else by the ratio.")
    ] = None,
    keep_external: Annotated[bool, typer.Option(help="Leave external cohorts as they are.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there already.")] = False,
) -> None:
    """Divide a manifest by subject, alike in each class: no subject ever stands in two splits."""
    from osteo_monai.data import SplitPlan, read_manifest, split_manifest, write_manifest
    from osteo_monai.data.split import parse_ratio

    with _wrong_argument():
        _check_output(output.parent, overwrite, (output.name,))
        plan = SplitPlan(parse_ratio(ratio), seed, temporal, first, keep_external)
        divided = split_manifest(read_manifest(path, check_files=False), plan).moved(path.parent, output.parent)
        checksum = write_manifest(divided, output)
    for split, records in divided.splits.items():
        typer.echo(f"{split}: {len({r.subject_id for r in records})} subjects, {len(records)} records")
    typer.echo(f"Manifest: {output}, sha256 {checksum}")


@manifest.command("join")
def manifest_join(
    paths: Annotated[list[Path], typer.Argument(help="Manifests, JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new manifest, JSON.")],
    name: Annotated[str | None, typer.Option(help="Of the new one; else that of its file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there already.")] = False,
) -> None:
    """Join manifests into one with all their splits, such as a cohort and the external centres it is tested on."""
    from osteo_monai.data import join_manifests, write_manifest

    with _wrong_argument():
        _check_output(output.parent, overwrite, (output.name,))
        joined = join_manifests(paths, output.parent, name or output.stem)
        checksum = write_manifest(joined, output)
    for split, records in joined.splits.items():
        typer.echo(f"{split}: {len({r.subject_id for r in records})} subjects, {len(records)} records")
    typer.echo(f"Manifest: {output}, sha256 {checksum}")


@manifest.command("validate")
def manifest_validate(
    path: _ManifestPath,
    files: Annotated[bool, typer.Option(help="Also check files: every one is there, no image is there twice.")] = True,
) -> None:
    """Check a manifest: schema, one split per subject, class against density, units, files. Exit code 2 if it is wrong.

    All problems are listed at once.
    """
    from osteo_monai.data import manifest_sha256, read_manifest

    with _wrong_argument():
        checked = read_manifest(path, check_files=files, check_content=files)
    count = sum(len(records) for records in checked.splits.values())
    typer.echo(f"{path.name} is a valid manifest of {count} records, sha256 {manifest_sha256(path)}.")


@manifest.command("describe")
def manifest_describe(
    path: _ManifestPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the tables and the figure of a paper.")
    ] = None,
    t_test: Annotated[str, typer.Option(help="Between the sexes: welch or student.")] = "welch",
) -> None:
    """Show what a manifest holds: subjects, age, sex, density and class by split.

    With --output: baseline characteristics by split with chi-square test and analysis of variance, density by age and
    sex with t-tests (CSV, Markdown, LaTeX), and its figure (PNG, SVG).
    """
    from rich.table import Table

    from osteo_monai.data import read_manifest
    from osteo_monai.data.describe import DESCRIPTION_COLUMNS, describe, people_frame

    with _wrong_argument():
        if t_test not in ("welch", "student"):
            raise ValueError(f"--t-test must be welch or student, got {t_test!r}")
        checked = read_manifest(path, check_files=False)
    table = Table(*DESCRIPTION_COLUMNS)
    for row in describe(checked):
        table.add_row(*row)
    console = _console()
    console.print(f"{checked.header.name}: {checked.header.description}", highlight=False, markup=False)
    console.print(table)
    if output is not None:
        from osteo_monai.reporting.cohort_tables import write_cohort

        write_cohort(
            people_frame(checked), output, checked.header.virtual, "student" if t_test == "student" else "welch"
        )
        console.print(f"Tables and figure: {output}", highlight=False, markup=False, soft_wrap=True)


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Turn ``a=b,c=d`` into a dictionary."""
    pairs = [part.partition("=") for word in words for part in word.split(",")]
    if wrong := [name for name, sign, value in pairs if not (sign and name.strip() and value.strip())]:
        raise ValueError(f"{option} needs NAME=COLUMN, got {wrong[0]!r} without it")
    return {name.strip(): value.strip() for name, _, value in pairs}


@manifest.command("segment")
def manifest_segment(
    path: _ManifestPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new manifest, JSON.")],
    folder: Annotated[Path | None, typer.Option(help="For the label maps; else segmentations/ beside it.")] = None,
    levels: Annotated[str, typer.Option(help="Levels to outline; a record that lacks one is excluded.")] = "L1,L2",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that outline side by side.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest and outlines.")] = False,
) -> None:
    """Outline L1 and L2 of every record with the segmentation bundle, as the classifiers get to see them.

    A record with a ground truth label lends it the place of its levels; one without goes through the whole screening,
    with its refusals. Records that cannot be used go to excluded.csv with the reason. A run that was cut short goes on.
    """
    with _wrong_argument():
        _check_device(device)
        wanted = _parse_levels(levels)
        from osteo_monai.cohort.segment import segment_cohort

        done = segment_cohort(
            path, output, folder=folder, device=device, levels=wanted, workers=workers, overwrite=overwrite
        )
    for level, (mean, sd, count) in done.dice.items():
        typer.echo(f"Dice of {level} against the label: {mean:.3f} +- {sd:.3f} (n = {count})")
    reused = f", {done.reused} of them earlier" if done.reused else ""
    typer.echo(f"{done.segmented} records segmented{reused}, {len(done.excluded)} excluded")
    if done.excluded:
        typer.echo(f"Why excluded: {done.folder / 'excluded.csv'}")
    typer.echo(f"Manifest: {done.manifest}")


# --- virtual ------------------------------------------------------------------------------------------------------


_PersonSeed = Annotated[int, typer.Option(help="The same seed gives the same person.")]
_PersonSex = Annotated[Sex | None, typer.Option(help="Drawn where not given.")]
_PersonAge = Annotated[float | None, typer.Option(help="Years; drawn where not given.")]
_PersonDensity = Annotated[float | None, typer.Option(help="Mean of L1 and L2, mg/cm3; drawn where not given.")]
_PersonVariants = Annotated[
    list[str] | None, typer.Option(help="What is uncommon in the spine, such as wedge_fracture; repeatable.")
]


@virtual.command("ct")
def virtual_ct(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study.")],
    seed: _PersonSeed = 1,
    sex: _PersonSex = None,
    age: _PersonAge = None,
    density: _PersonDensity = None,
    variant: _PersonVariants = None,
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


@virtual.command("radiograph")
def virtual_radiograph(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the radiograph.")],
    view: Annotated[str, typer.Option(help="chest_frontal, lumbar_ap or lumbar_lateral.")] = "chest_frontal",
    seed: _PersonSeed = 1,
    sex: _PersonSex = None,
    age: _PersonAge = None,
    density: _PersonDensity = None,
    variant: _PersonVariants = None,
    rows: Annotated[int, typer.Option(help="Rows of the image.")] = 1024,
) -> None:
    """Make one virtual radiograph as DICOM and PNG, with its exact truth and bone mask."""
    from osteo_monai.virtual.cohort import write_virtual_radiograph
    from osteo_monai.virtual.person import Variant

    with _wrong_argument():
        variants = frozenset(Variant(name) for name in variant or ())
        with _console().status("Making one virtual patient"):
            path = write_virtual_radiograph(
                output,
                seed,
                view=view,
                sex=sex,
                age_years=age,
                mean_density=density,
                variants=variants,
                rows=rows,
            )
    typer.echo(f"Virtual radiograph: {path}")


@virtual.command("cohort")
def virtual_cohort(
    recipe: Annotated[Path, typer.Argument(help="A cohort recipe, JSON.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the cohort.")],
    workers: Annotated[int, typer.Option(help="Processes that make people side by side.")] = 1,
) -> None:
    """Make a virtual cohort from a recipe, with its manifest: seeded, the same on every machine.

    An interrupted cohort goes on where it was when the same command is given again.
    """
    from osteo_monai.virtual.cohort import write_cohort

    with _wrong_argument():
        path = write_cohort(recipe, output, workers=workers)
    typer.echo(f"Manifest: {path}")


# --- measure ------------------------------------------------------------------------------------------------------


@app.command()
def measure(
    path: _ManifestPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the predictions tables.")],
    source: Annotated[str, typer.Option(help="Label map to measure in: segmentation or label.")] = "segmentation",
    workers: Annotated[int, typer.Option(help="Processes that measure side by side.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace tables that are there already.")] = False,
) -> None:
    """Measure a cohort as a radiologist would: HU of L1 with published cut-offs, and density from HU by physics.

    Writes hu_l1_pickhardt.csv and hu_line_bmd.csv, predictions that 'osteo-monai evaluate' reads, and excluded.csv.
    """
    from osteo_monai.cohort.measure import MEASURE_FILES, measure_cohort

    with _wrong_argument():
        if source not in ("segmentation", "label"):
            raise ValueError(f"--source must be segmentation or label, got '{source}'")
        _check_output(output, overwrite, MEASURE_FILES)
        done = measure_cohort(path, output, source=source, workers=workers)  # type: ignore[arg-type]  # checked above
    for table, count in done.rows.items():
        typer.echo(f"{table}: {count} records")
    if done.excluded:
        typer.echo(f"{len(done.excluded)} excluded, with the reason: {output / 'excluded.csv'}")


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
        Path | None, typer.Option(help="CSV of your model's predictions, as for `evaluate`.")
    ] = None,
    own_name: Annotated[
        str, typer.Option(help="What your model is called; which one, where the predictions hold several.")
    ] = "",
    own_cohort: Annotated[str | None, typer.Option(help="Cohort of the predictions; test where not given.")] = None,
    own_threshold: Annotated[
        float | None, typer.Option(help="A score of at least this is positive; the predicted classes where not given.")
    ] = None,
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
    from osteo_monai.reporting.evidence import EvidenceOptions, evidence_facts, write_evidence

    with _wrong_argument():
        options = EvidenceOptions(
            studies=studies,
            target=target,
            own_counts=own_counts,
            own_predictions=own_predictions,
            own_name=own_name,
            own_cohort=own_cohort,
            own_threshold=own_threshold,
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
        se, sp = own.sensitivity, own.specificity
        words = (
            f"sensitivity {se.value:.3f} ({se.low:.3f} to {se.high:.3f}), "
            f"specificity {sp.value:.3f} ({sp.low:.3f} to {sp.high:.3f})"
        )
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
        **{f"{name}_sha256": file_sha256(path) for name, path in inputs.items() if path is not None},
    }
    tracking.log_finished_run(
        tracking_uri or tracking.sqlite_uri(output / "mlflow.db"),
        "evidence",
        tracking.unique_run_name("evidence"),
        parameters,
        facts,
        [output / "report.html", output / "evidence.json", output / "figures"],
    )


# --- evaluate -----------------------------------------------------------------------------------------------------


@app.command()
def evaluate(
    predictions: Annotated[list[Path], typer.Argument(help="CSV files of predictions; docs/predictions.md.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report, tables and figures.")],
    baseline: Annotated[str | None, typer.Option(help="Name of the model that the others must beat.")] = None,
    interval: Annotated[str, typer.Option(help="Of proportions: wilson or exact.")] = "wilson",
    holm: Annotated[bool, typer.Option("--holm", help="Adjust the p values of a pair of models over classes.")] = False,
    sensitivity: Annotated[
        float, typer.Option(help="That the cut-off chosen on the validation cohort must reach there.")
    ] = 0.9,
    thresholds: Annotated[str, typer.Option(help="Osteoporosis below A, normal above B, mg/cm3.")] = "80,120",
    resamples: Annotated[int, typer.Option(help="Bootstrap samples.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 1,
    virtual_people: Annotated[bool, typer.Option("--virtual", help="Mark everything: virtual patients.")] = False,
    track: Annotated[bool, typer.Option(help="Log to MLflow.")] = True,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; OUTPUT/mlflow.db where not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there already.")] = False,
) -> None:
    """Measure models against the reference standard, and one against another: the tables and figures of a paper.

    Writes report.html, results.json, tables as CSV, Markdown and LaTeX, figures as SVG and PNG.
    Exit code 2: unusable input.
    """
    from osteo_monai.reporting.evaluation import EvaluationOptions, evaluation_facts, write_evaluation

    with _wrong_argument():
        options = EvaluationOptions(
            predictions=tuple(predictions),
            baseline=baseline,
            interval=interval,  # type: ignore[arg-type]  # checked by the options themselves
            holm=holm,
            sensitivity=sensitivity,
            thresholds=_parse_thresholds(thresholds),
            resamples=resamples,
            seed=seed,
            virtual=virtual_people,
        )
        _check_output(output, overwrite, ("report.html", "results.json"))
    console = _console()
    with console.status("Reading") as status:
        found = write_evaluation(
            options, output, osteo_monai.__version__, lambda stage: status.update(stage.capitalize())
        )
        if track:
            status.update("Logging to MLflow")
            _track_evaluation(options, evaluation_facts(found), output, tracking_uri)
    for line in found.summary():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {output / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _track_evaluation(
    options: "EvaluationOptions", facts: "dict[str, float]", output: Path, tracking_uri: str | None
) -> None:
    from osteo_monai import tracking

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table it makes
    parameters = {
        "baseline": options.baseline or "",
        "interval": options.interval,
        "holm": options.holm,
        "sensitivity": options.sensitivity,
        "resamples": options.resamples,
        "seed": options.seed,
        **{f"sha256_{i}": file_sha256(path) for i, path in enumerate(options.predictions, 1)},
    }
    tracking.log_finished_run(
        tracking_uri or tracking.sqlite_uri(output / "mlflow.db"),
        "evaluation",
        tracking.unique_run_name("evaluation"),
        parameters,
        facts,
        [output / "report.html", output / "results.json", output / "tables", output / "figures"],
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
