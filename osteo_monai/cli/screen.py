"""``osteo-monai screen``: one study or a folder of many, CT and radiographs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.errors import ExitCode, OptionChecks
from osteo_monai.cli.options import (
    Device,
    OutputFolder,
    Overwrite,
    choice,
    given,
    parse_calibration,
    parse_contrast,
    parse_levels,
    parse_sex,
    parse_thresholds,
)
from osteo_monai.cli.output import check_folder, console, progress, show
from osteo_monai.domain import DensityThresholds, Severity, Sex, VertebraLevel, View
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.text import listed, printable

if TYPE_CHECKING:
    from osteo_monai.screening import RadiographModels, RadiographOptions, ScreeningModels, ScreeningOptions, Study
    from osteo_monai.screening.result import ContrastCorrected, RadiographRisk, RiskOpinion, ScreeningResult

__all__ = ["exit_code", "result_lines", "screen"]

CT, RADIOGRAPH, PERSON = "CT options", "Radiograph options", "Person, for the radiographs of one study"
"""Help panels; each is a group of options that must be left out for other studies."""

VIEWS = (View.CHEST_FRONTAL, View.LUMBAR_AP, View.LUMBAR_LATERAL)

_Levels = Annotated[
    Sequence[VertebraLevel] | None,
    typer.Option(
        parser=parse_levels,
        metavar="LEVELS",
        help="Levels to measure, such as L1,L2; each must be wholly in view.",
        show_default="L1 and L2 if both are whole, else L1 only",
        rich_help_panel=CT,
    ),
]
_Thresholds = Annotated[
    DensityThresholds,
    typer.Option(
        parser=parse_thresholds,
        metavar="A,B",
        help="Osteoporosis below A, normal above B, in mg/cm3 K2HPO4.",
        show_default="80,120",
        rich_help_panel=CT,
    ),
]
_Calibration = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="physics, internal, registry:NAME, user:SLOPE,INTERCEPT (mg/cm3 K2HPO4), phantom:FILE or site:FILE.",
        rich_help_panel=CT,
    ),
]
_Contrast = Annotated[
    str | None,
    typer.Option(
        "--contrast-correction",
        metavar="FILE",
        help="Also give the density of an enhanced scan corrected for contrast agent: published, or a file of "
        "'osteo-monai calibrate contrast'.",
        show_default="not corrected",
        rich_help_panel=CT,
    ),
]
_Classify = Annotated[
    bool,
    typer.Option("--classify-corrected", help="Derive the class from the corrected density.", rich_help_panel=CT),
]
_Kvp = Annotated[
    float | None,
    typer.Option(metavar="KV", help="Tube voltage if missing from the header; never overrides it.", rich_help_panel=CT),
]
_Texture = Annotated[
    bool,
    typer.Option(
        "--texture", help="Also compute texture of the trabecular regions (extra 'texture').", rich_help_panel=CT
    ),
]
_HeaderText = Annotated[
    bool,
    typer.Option(
        "--header-text",
        help="Copy series description and contrast entries of the header, which may hold names, to the result.",
        rich_help_panel=CT,
    ),
]
_View = Annotated[
    View | None,
    typer.Option(
        parser=choice(*VIEWS),
        metavar="VIEW",
        help="chest_frontal, lumbar_ap or lumbar_lateral, if neither header nor image identifies the view.",
        rich_help_panel=RADIOGRAPH,
    ),
]
_Age = Annotated[float | None, typer.Option(metavar="YEARS", help="Age; overrides the header.", rich_help_panel=PERSON)]
_Sex = Annotated[
    Sex | None,
    typer.Option(parser=parse_sex, metavar="SEX", help="female or male; overrides the header.", rich_help_panel=PERSON),
]
_Height = Annotated[
    float | None, typer.Option(metavar="CM", help="Height; overrides the header.", rich_help_panel=PERSON)
]
_Weight = Annotated[
    float | None, typer.Option(metavar="KG", help="Weight; overrides the header.", rich_help_panel=PERSON)
]


def screen(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY",
            help="A CT (DICOM, NIfTI), a radiograph (DICOM, PNG, JPEG), or a folder of one or many studies.",
        ),
    ],
    output: OutputFolder,
    device: Device = "auto",
    levels: _Levels = None,
    thresholds: _Thresholds = DensityThresholds(),  # noqa: B008  # frozen
    calibration: _Calibration = "physics",
    contrast: _Contrast = None,
    classify_corrected: _Classify = False,
    kvp: _Kvp = None,
    texture: _Texture = False,
    header_text: _HeaderText = False,
    view: _View = None,
    age: _Age = None,
    sex: _Sex = None,
    height: _Height = None,
    weight: _Weight = None,
    overwrite: Overwrite = False,
) -> None:
    """Screen CT for low bone density, and frontal chest or lumbar radiographs for the risk of osteoporosis.

    The content of a file decides how it is screened. CT: trabecular density of L1 and L2; writes result.json,
    labels.nii.gz and report.html. Radiographs: a risk with its interval; writes result.json, heat_map.png and
    report.html. AP and lateral radiographs of one study are fused; a chest radiograph is combined with age, sex, height
    and weight if all four are known.

    Many studies: one folder each below the output, and summary.csv with one row each.

    Exit codes: 0 all measured, 1 unexpected error, 2 unusable input or wrong argument, 3 refused with a reason (of many
    studies: at least one), 4 model not installed.
    """
    from osteo_monai.screening import Study, find_screenable
    from osteo_monai.screening_files import OUTPUT_FILES

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, (*OUTPUT_FILES, "summary.csv", "summary.json"), overwrite)
    try:
        studies = find_screenable(path)
        kinds = {study.kind for study in studies}
    except UnusableInputError:
        studies = [Study("ct", path)]  # its result gives the reason
        kinds = {"ct", "radiograph"}
    for_person = given(context, PERSON)
    with checks.collect():
        _check_kinds(context, kinds)
    with checks.collect():
        if for_person and len(studies) > 1:
            raise ValueError(f"{listed(for_person)} must be left out for many studies, got {len(studies)} in '{path}'")
    ct = radiographs = None
    names = {name: f"--{name.replace('_', '-')}" for name in ("levels", "calibration", "kvp", "contrast_correction")}
    with checks.collect(**names):
        if "ct" in kinds:
            of_scan = (calibration, contrast, classify_corrected)
            ct = _ct_options(levels, thresholds, of_scan, kvp, texture, header_text)
    with checks.collect(view="--view", age="--age", height="--height", weight="--weight"):
        if "radiograph" in kinds:
            radiographs = _radiograph_options(view, age, sex, height, weight)
    checks.finish()
    if ct is not None and ct.texture:
        from osteo_monai.measurement import check_texture_installed

        check_texture_installed()
    screening = _Screening(device, ct, radiographs)
    if len(studies) > 1:
        raise typer.Exit(_screen_many(studies, path, output, screening))
    raise typer.Exit(_screen_one(studies[0], path, output, screening))


def _check_kinds(context: typer.Context, kinds: Collection[str]) -> None:
    of_ct, of_radiographs = given(context, CT), [*given(context, RADIOGRAPH), *given(context, PERSON)]
    if of_ct and "ct" not in kinds:
        raise ValueError(f"{listed(of_ct)} must be left out for radiographs: only CT uses it")
    if of_radiographs and "radiograph" not in kinds:
        raise ValueError(f"{listed(of_radiographs)} must be left out for CT: only radiographs use it")


def _ct_options(
    levels: Sequence[VertebraLevel] | None,
    thresholds: DensityThresholds,
    densities: tuple[str, str | None, bool],
    kvp: float | None,
    texture: bool,
    header_text: bool,
) -> "ScreeningOptions":
    from osteo_monai.screening import ScreeningOptions

    calibration, contrast, classify_corrected = densities
    return ScreeningOptions(
        levels=None if levels is None else tuple(levels),
        thresholds=thresholds,
        calibration=parse_calibration(calibration),
        contrast_correction=parse_contrast(contrast),
        classify_corrected=classify_corrected,
        kvp=kvp,
        texture=texture,
        header_text=header_text,
    )


def _radiograph_options(
    view: View | None, age: float | None, sex: Sex | None, height: float | None, weight: float | None
) -> "RadiographOptions":
    from osteo_monai.screening import RadiographOptions

    return RadiographOptions(view=view, age=age, sex=sex, height=height, weight=weight)


# --- screening ----------------------------------------------------------------------------------------------------


@dataclass
class _Screening:
    """Screen studies of either kind; many studies share the models, which are loaded once."""

    device: str
    ct: "ScreeningOptions | None"
    radiographs: "RadiographOptions | None"
    models: "ScreeningModels | None" = None
    radiograph_models: "RadiographModels | None" = None

    def load(self) -> None:
        """Load the CT models; those of radiographs are loaded when a view first needs them."""
        if self.ct is not None:
            from osteo_monai.screening import load_models

            self.models = load_models(self.device)
        if self.radiographs is not None:
            from osteo_monai.screening import RadiographModels

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


def _screen_one(study: "Study", path: Path, output: Path, screening: _Screening) -> ExitCode:
    with progress("Reading") as on_stage:
        result = screening(study, output, path.resolve().name, on_stage)
    _show_result(result, output)
    return exit_code([result])


def _screen_many(studies: "Sequence[Study]", root: Path, output: Path, screening: _Screening) -> ExitCode:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from osteo_monai.screening import screen_folder

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = console()
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("Loading the models", total=len(studies))
        screening.load()

        def on_progress(name: str, result: "ScreeningResult | None") -> None:
            if result is None:
                bar.update(task, description=name)
                return
            terminal.print(printable(result_lines(result, name)[0]), markup=False, soft_wrap=True)
            bar.advance(task)

        by_path = {study.path: study for study in studies}
        results = screen_folder(
            list(by_path),
            root,
            output,
            lambda path, folder: screening(by_path[path], folder, folder.name),
            on_progress,
            lambda path: by_path[path].kind,
        )
    show(f"Summary: {output / 'summary.csv'}")
    return exit_code(results)


def exit_code(results: "Sequence[ScreeningResult]") -> ExitCode:
    """Return the exit code of a screening; a refusal outweighs an unusable entry of a folder.

    Without any result the input was unusable.
    """
    verdicts = {result.verdict for result in results}
    if "refused" in verdicts:
        return ExitCode.REFUSED
    return ExitCode.UNUSABLE if "unusable" in verdicts or not verdicts else ExitCode.MEASURED


# --- what is printed ----------------------------------------------------------------------------------------------


def _show_result(result: "ScreeningResult", output: Path) -> None:
    for finding in result.findings:
        if finding.severity is Severity.WARNING:
            show(f"Warning: {finding.message}")
    if result.levels:
        console().print(_table(result))
    for line in result_lines(result, result.study):
        show(line)
    show(f"Report: {output / 'report.html'}")
    show(result.research_use_notice)


def _table(result: "ScreeningResult") -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from osteo_monai.reporting.wording import percent_words

    table = Table("level", "certainty", "slice", "mean HU", "median HU", "mg/cm3", "90 % interval", box=SIMPLE_HEAD)
    for level in result.levels:
        table.add_row(
            level.level,
            percent_words(level.certainty),
            str(level.slice_index),
            f"{level.hu.mean:.0f}",
            f"{level.hu.median:.0f}",
            f"{level.density.mg_cm3:.1f}",
            f"{level.density.interval_low:.0f} to {level.density.interval_high:.0f}",
        )
    return table


def result_lines(result: "ScreeningResult", name: str) -> list[str]:
    """Return the verdict on a study as it is printed: one line each for a density or refusal, two for one that is also
    corrected for contrast agent, up to three for a risk.

    Args:
        result: of the screening.
        name: of the study.
    """
    verdict = result.verdict.replace("_", " ")
    if result.density is not None:
        value = result.density
        method = f" by {result.calibration.method}" if result.calibration is not None else ""
        status = f", {result.status}" if result.status is not None else ""
        only = f" ({result.levels[0].level} only)" if len(result.levels) == 1 else ""
        raw = "" if result.contrast is None else ", not corrected for contrast agent"
        lines = [
            f"{name}: {verdict}. Trabecular density {value.mg_cm3:.1f} mg/cm3 {value.standard}{method}{raw} "
            f"(90 % interval {value.interval_low:.0f} to {value.interval_high:.0f}){status}{only}."
        ]
        return lines if result.contrast is None else [*lines, _contrast_line(result.contrast)]
    if result.radiograph is not None:
        return _risk_lines(result.radiograph, f"{name}: {verdict}. ")
    reasons = [finding.message for finding in result.findings if finding.severity is Severity.REFUSAL]
    return [f"{name}: {verdict}. {' '.join(reasons)}"]


def _contrast_line(corrected: "ContrastCorrected") -> str:
    value, used = corrected.density, "corrected" if corrected.classified else "raw"
    status = "" if corrected.status is None else f", {corrected.status}"
    return (
        f"Corrected for contrast agent (aorta {corrected.aorta_hu:.0f} HU): {value.mg_cm3:.1f} mg/cm3 {value.standard} "
        f"(90 % interval {value.interval_low:.0f} to {value.interval_high:.0f}){status}. The class is that of "
        f"the {used} density."
    )


def _risk_lines(risk: "RadiographRisk", start: str) -> list[str]:
    lines = [f"{start}Risk of osteoporosis {_risk_words(risk.risk)}."]
    for model, opinion, absent in (
        ("With age, sex, height and weight", risk.combined, risk.combined_absent),
        ("From age, sex, height and weight only", risk.clinical, risk.clinical_absent),
    ):
        lines.append(f"{model}: {f'not computed. {absent}' if opinion is None else _risk_words(opinion) + '.'}")
    return lines


def _risk_words(opinion: "RiskOpinion") -> str:
    from osteo_monai.reporting.wording import chance_words

    if opinion.probability is None:
        return f"not calibrated, score {opinion.score:.2f}"
    words = chance_words(opinion.probability, opinion.cutoff)
    if opinion.low is not None and opinion.high is not None:
        words += f" (90 % interval {chance_words(opinion.low)} to {chance_words(opinion.high)})"
    if opinion.cutoff is not None:
        words += f", {'' if opinion.raised else 'not '}raised at the cut-off of {chance_words(opinion.cutoff)}"
    return words
