"""Run ``osteo-monai screen``: one study or many, what is kept of an earlier run, and what is printed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from osteo_monai.cli.errors import ExitCode
from osteo_monai.cli.output import console, progress, show
from osteo_monai.domain import Severity
from osteo_monai.errors import ConfigError
from osteo_monai.screening.names import DICOM_FOLDER
from osteo_monai.utils.monai_import import import_monai_for_inference
from osteo_monai.utils.text import percent_words, printable

if TYPE_CHECKING:
    from osteo_monai.batch import Part, State, Workers
    from osteo_monai.dicom_results import Outputs
    from osteo_monai.screening import RadiographModels, RadiographOptions, ScreeningModels, ScreeningOptions, Study
    from osteo_monai.screening.inventory import Inputs
    from osteo_monai.screening.many import ScreenOne
    from osteo_monai.screening.result import ContrastCorrected, ModelUsed, RadiographRisk, RiskOpinion, ScreeningResult
    from osteo_monai.screening_files import Further

__all__ = ["Batch", "Many", "Screener", "result_lines"]

_SHOWN_NAMES = 5
"""Names for each reason that are printed; not_read.csv has all."""


@dataclass
class Screener:
    """Screen studies of either kind; many studies share the models, which are loaded once."""

    device: str
    ct: "ScreeningOptions | None"
    radiographs: "RadiographOptions | None"
    exclude: Sequence[Path] = ()
    trust_bundle: bool = False
    outputs: "Outputs | None" = None
    models: "ScreeningModels | None" = None
    radiograph_models: "RadiographModels | None" = None
    _is_worker: bool = field(default=False, init=False)

    def load(self) -> None:
        """Load the CT models once; those of radiographs are loaded when a view first needs them."""
        if self.ct is not None and self.models is None:
            from osteo_monai.screening import load_models

            self.models = load_models(self.device, trust=self.trust_bundle)
        if self.radiographs is not None and self.radiograph_models is None:
            from osteo_monai.screening import RadiographModels

            self.radiograph_models = RadiographModels(self.device, self.trust_bundle)

    def __getstate__(self) -> dict[str, object]:
        """Return the settings: a worker loads its own models, and has the keys of the command's weights."""
        no_models = {"models": None, "radiograph_models": None}
        return self.__dict__ | no_models | {"_weights": self._weights, "_is_worker": True}

    def parameters(self) -> dict[str, object]:
        """Return the options that a log records: no facts of a person, and no files."""
        facts: dict[str, object] = {"device": self.device}
        if (ct := self.ct) is not None:
            facts |= {
                "levels": "L1 and L2, or L1" if ct.levels is None else ", ".join(ct.levels),
                "thresholds_mg_cm3": f"{ct.thresholds.osteoporosis_below:g}, {ct.thresholds.normal_above:g}",
                "calibration": type(ct.calibration).__name__,
                "contrast_correction": ct.contrast_correction is not None,
                "classify_corrected": ct.classify_corrected,
                "texture": ct.texture,
            }
            facts |= {} if ct.kvp is None else {"kvp": ct.kvp}
        if self.radiographs is not None:
            facts["view"] = self.radiographs.view or "from header or image"
        return facts

    @cached_property
    def _weights(self) -> list[str]:
        from osteo_monai.screening.models import installed_weights

        return installed_weights()

    def key(self, study: "Study") -> str:
        """Return the key of a result of this study by these options, see ``run_key``."""
        from osteo_monai.screening.earlier import run_key

        options = self.ct if study.kind == "ct" else self.radiographs
        return run_key(study, options, self._weights, self.exclude, self.outputs)

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
            run=self.key(study),
            further=self._further(study),
        )

    def load_screening(self) -> "ScreenOne":
        """Load the models of a worker and return what screens one study."""
        if self._is_worker and not self.trust_bundle:  # bundles of others may use all of MONAI
            import_monai_for_inference()
        import osteo_monai.reporting
        import osteo_monai.screening_files  # noqa: F401  # their import is no part of the time of the first study

        self.load()
        return lambda study, folder: self(study, folder, folder.name)

    def check(self) -> None:
        """Check that the bundles are installed and trusted, without loading them.

        Raises:
            ModelMissingError: a bundle for CT is not installed.
            ConfigError: a bundle is not trusted.
        """
        from osteo_monai.bundle import check_trusted, find_bundle
        from osteo_monai.screening.models import CT_BUNDLES, RadiographModels, check_installed

        if self.ct is not None:
            check_installed()
            for name in CT_BUNDLES:
                check_trusted(find_bundle(name), self.trust_bundle)
        if self.radiographs is not None:
            RadiographModels(self.device, self.trust_bundle)

    def _further(self, study: "Study") -> "Further | None":
        if self.outputs is None:
            return None
        from osteo_monai.dicom_results import FurtherFiles
        from osteo_monai.screening.source import study_files

        return FurtherFiles(self.outputs, study_files(study))


@dataclass(frozen=True)
class Many:
    """Settings of a batch.

    Attributes:
        workers: number, limits and place.
        part: share of the studies.
        retry: states of the studies to repeat.
    """

    workers: "Workers"
    part: "Part | None" = None
    retry: "frozenset[State]" = frozenset()

    def folder(self, output: Path) -> Path:
        """Return the output folder of this part."""
        return output if self.part is None else output / self.part.folder

    @property
    def facts(self) -> dict[str, object]:
        """Facts of the run for the ledger."""
        import osteo_monai

        cluster = self.workers.cluster
        return {
            "command": "screen",
            "version": osteo_monai.__version__,
            "workers": self.workers.count,
            "cluster": "" if cluster is None else cluster.address,
        }


@dataclass
class Batch:
    """One run of ``screen`` into an output folder that this process has locked.

    Attributes:
        path: of the input.
        output: folder of the results.
        studies: at least one.
        inputs: the listing with what is not read; ``None`` if the input could not be listed.
        screener: screens one study.
        resume: keep whole results of an earlier run.
        overwrite: remove all files of earlier runs.
        many: settings of a batch; ``None`` for one study.
        tally: of the studies that were screened.
    """

    path: Path
    output: Path
    studies: "Sequence[Study]"
    inputs: "Inputs | None"
    screener: Screener
    resume: bool
    overwrite: bool
    many: "Many | None" = None
    tally: "Tally" = field(default_factory=lambda: Tally())

    def run(self) -> ExitCode:
        """Screen all studies, print and write what was not read, and return the exit code."""
        if self.many is None:
            self.tally.add(self._one())
            self._write_not_read()
        else:
            self._many(self.many)
        self._show_not_read()
        if not self.tally.studies and self.many is not None and self.many.part is not None:
            return ExitCode.MEASURED  # a part may be empty
        return self.tally.exit_code

    def facts(self) -> dict[str, float]:
        """Return counts of studies, verdicts and reasons, and the mean time of a study, for a log."""
        return self.tally.facts | {"not_read": 0 if self.inputs is None else len(self.inputs.not_read)}

    def models(self) -> dict[str, str]:
        """Return version and checksum of the weights of each bundle that was used, for a log."""
        used = self.tally.models
        bundles = sorted({model.bundle for model in used})
        facts = {name: [f"{m.version} {m.weights_sha256}" for m in used if m.bundle == name] for name in bundles}
        return {f"model.{name}": ", ".join(sorted(texts)) for name, texts in facts.items()}

    def _prepare(self) -> None:
        from osteo_monai.screening.earlier import remove_earlier, remove_temporary

        if self.overwrite:
            remove_earlier(self.output)
        else:
            remove_temporary(self.output)

    def _earlier(self, study: "Study", folder: Path) -> "ScreeningResult | None":
        from osteo_monai.screening.earlier import earlier_result

        return earlier_result(folder, self.screener.key(study)) if self.resume else None

    def _one(self) -> "ScreeningResult":
        (study,) = self.studies
        self._prepare()
        result = self._earlier(study, self.output)
        if result is None:
            with progress("Reading") as on_stage:
                if self.screener.trust_bundle:
                    self.screener.load()
                result = self.screener(study, self.output, self.path.resolve().name, on_stage)
        else:
            show("The result of the earlier run is complete and was kept.")
        _show_result(result, self.output)
        return result

    def _many(self, many: "Many") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from osteo_monai.reporting.batch import write_batch_page
        from osteo_monai.screening import screen_folder
        from osteo_monai.screening.many import state_of

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        terminal = console()
        with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            task = bar.add_task("Loading the models", total=len(self.studies))
            load = self._load(many)
            self._prepare()

            def on_progress(name: str, result: "ScreeningResult | None") -> None:
                if result is None:
                    bar.update(task, description=name)
                    return
                self.tally.add(result)
                bar.advance(task)
                terminal.print(printable(result_lines(result, name)[0]), markup=False, soft_wrap=True)

            kept: list[Study] = []
            remade: list[Study] = []

            def earlier(study: "Study", folder: Path) -> "ScreeningResult | None":
                result = self._earlier(study, folder)
                if result is not None and state_of(result)[0] in many.retry:
                    result = None
                if result is not None:
                    kept.append(study)
                elif (folder / "result.json").is_file():
                    remade.append(study)
                return result

            screen_folder(
                self.studies,
                self.path,
                self.output,
                load,
                on_progress,
                archives=() if self.inputs is None else self.inputs.roots[::-1],
                earlier=earlier,
                key=self.screener.key,
                workers=many.workers,
                part=many.part,
                facts=many.facts,
            )
        if self.resume:
            show(_resumed(len(kept), len(remade)))
        if self.tally.failed:
            show(f"Failed: {self.tally.failed}; --retry failed repeats them.")
        show(f"Summary: {self.output / 'summary.csv'}")
        self._write_not_read()  # the page counts it
        show(f"Page: {write_batch_page(self.output)}")

    def _load(self, many: "Many") -> "Callable[[], ScreenOne]":
        """Return what loads the models of a worker; a missing model is reported before earlier results are removed."""
        cluster = many.workers.cluster
        if cluster is not None and cluster.address != "local" and self.inputs is not None:
            unpacked = sum(study.path.is_relative_to(self.inputs.roots[-1]) for study in self.studies)
            if unpacked and self.path != self.inputs.roots[-1]:
                raise ConfigError(f"--cluster must be local for studies in zip archives, got {unpacked} of them")
        if many.workers.inside:
            self.screener.load()
        else:
            from osteo_monai.batch import check_start

            self.screener.check()
            if self.overwrite:  # before earlier results are removed
                check_start(self.screener.load_screening, many.workers)
        return self.screener.load_screening

    @property
    def _not_read(self) -> list[tuple[str, str]]:
        return [] if self.inputs is None else [(entry.name, entry.reason) for entry in self.inputs.not_read]

    def _write_not_read(self) -> None:
        from osteo_monai.screening.summary import write_not_read

        write_not_read(self.output, self._not_read)

    def _show_not_read(self) -> None:
        entries = self._not_read
        if not entries:
            return
        show(f"Not read ({len(entries)}, all in {self.output / 'not_read.csv'}):")
        for reason, count in Counter(reason for _, reason in entries).most_common():
            names = [name for name, why in entries if why == reason]
            more = f" and {count - _SHOWN_NAMES} more" if count > _SHOWN_NAMES else ""
            show(f"  {count} x {reason}: {', '.join(names[:_SHOWN_NAMES])}{more}")


def _resumed(kept: int, remade: int) -> str:
    text = f"Resumed: {kept} complete results were kept."
    if remade:
        text += f" {remade} were made again: they are damaged, requested, or made by another version, options or files."
    return text


class Tally:
    """Counts of the results of a batch, which are not kept in memory.

    Attributes:
        studies: number of results.
        failed: number of those that ``--retry failed`` repeats.
        models: bundles that were used.
    """

    def __init__(self) -> None:
        self.studies = 0
        self.failed = 0
        self.models: set[ModelUsed] = set()
        self._verdicts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._seconds = 0.0

    def add(self, result: "ScreeningResult") -> None:
        """Count one result."""
        from osteo_monai.screening.many import state_of

        self.studies += 1
        self.failed += state_of(result)[0] == "failed"
        self.models |= set(result.models)
        self._verdicts[result.verdict] += 1
        self._codes.update({f.code for f in result.findings if f.severity is Severity.REFUSAL})
        self._seconds += sum(result.seconds.values())

    @property
    def facts(self) -> dict[str, float]:
        """Counts of studies, verdicts and reasons, and the mean time of a study."""
        counts = {f"verdict_{name}": n for name, n in self._verdicts.items()}
        counts |= {f"code_{name}": n for name, n in self._codes.items()}
        times = {"seconds_a_study": self._seconds / self.studies} if self.studies else {}
        return {"studies": self.studies, **counts, **times}

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the screening; a refusal outweighs an unusable entry of a folder.

        Without any result the input was unusable. A model that is not installed outweighs all others.
        """
        if "model_not_installed" in self._codes:
            return ExitCode.MODEL_MISSING
        if "refused" in self._verdicts:
            return ExitCode.REFUSED
        return ExitCode.UNUSABLE if "unusable" in self._verdicts or not self.studies else ExitCode.MEASURED


# --- what is printed ----------------------------------------------------------------------------------------------


def _show_result(result: "ScreeningResult", output: Path) -> None:
    for finding in result.findings:
        if finding.severity is Severity.WARNING:
            show(f"Warning: {finding.message}")
    if result.levels:
        console().print(_table(result))
    for line in result_lines(result, result.study):
        show(line)
    if (output / "report.html").is_file():
        show(f"Report: {output / 'report.html'}")
    if (output / DICOM_FOLDER).is_dir():
        show(f"DICOM: {output / DICOM_FOLDER}")
    show(result.research_use_notice)


def _table(result: "ScreeningResult") -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("level", "certainty", "slice", "median HU", "mg/cm3", "90 % interval", box=SIMPLE_HEAD)
    for level in result.levels:
        table.add_row(
            level.level,
            percent_words(level.certainty),
            str(level.slice_index),
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
