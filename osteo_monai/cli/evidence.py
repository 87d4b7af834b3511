"""``osteo-monai evidence``: meta-analysis of published diagnostic studies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import osteo_monai
from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import (
    BootstrapSeed,
    OutputFolder,
    Overwrite,
    Track,
    TrackingURI,
    choice,
    existing_file,
)
from osteo_monai.cli.output import check_folder, check_tracking, progress, show, track_run
from osteo_monai.utils.files import file_sha256

if TYPE_CHECKING:
    from osteo_monai.reporting.evidence import Evidence, EvidenceOptions
    from osteo_monai.statistics.proportions import Interval

__all__ = ["evidence"]

_OWN = "Your model"

_OwnCounts = Annotated[
    str | None, typer.Option(metavar="TP,FP,FN,TN", help="Counts of its test set.", rich_help_panel=_OWN)
]
_OwnPredictions = Annotated[
    Path | None,
    typer.Option(
        parser=existing_file, metavar="TABLE", help="Its predictions table, as for 'evaluate'.", rich_help_panel=_OWN
    ),
]
_OwnName = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Its name; required if the predictions hold several models.", rich_help_panel=_OWN
    ),
]
_OwnCohort = Annotated[
    str | None,
    typer.Option(metavar="COHORT", help="Cohort of the predictions.", show_default="test", rich_help_panel=_OWN),
]
_OwnThreshold = Annotated[
    float | None,
    typer.Option(
        metavar="VALUE",
        help="Scores of at least this are positive.",
        show_default="use predicted classes",
        rich_help_panel=_OWN,
    ),
]
_Studies = Annotated[
    Path | None,
    typer.Argument(
        parser=existing_file, metavar="STUDIES", help="CSV of 2 x 2 tables: study, model, TP, FP, FN, TN, ..."
    ),
]
_Target = Annotated[
    str | None,
    typer.Option(metavar="CLASS", help="osteoporosis, osteopenia or normal.", show_default="all in the table"),
]
_Method = Annotated[
    Literal["binomial", "reml", "ml"],
    typer.Option(
        parser=choice("binomial", "reml", "ml"),
        metavar="METHOD",
        help="Likelihood: binomial (exact), reml or ml (normal approximation).",
    ),
]


def evidence(
    output: OutputFolder,
    studies: _Studies = None,
    target: _Target = None,
    own_counts: _OwnCounts = None,
    own_predictions: _OwnPredictions = None,
    own_name: _OwnName = "",
    own_cohort: _OwnCohort = None,
    own_threshold: _OwnThreshold = None,
    method: _Method = "binomial",
    prevalence: Annotated[float, typer.Option(metavar="VALUE", help="Pre-test probability in your population.")] = 0.20,
    covariate: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Covariate to test; repeatable.", show_default="none"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            parser=choice("wang2025"), metavar="REVIEW", help="Add the published values of a review: wang2025."
        ),
    ] = None,
    replicates: Annotated[int, typer.Option(metavar="N", help="Number of bootstrap replicates; 0 for none.")] = 2000,
    seed: BootstrapSeed = 1,
    quadas: Annotated[
        Path | None, typer.Option(parser=existing_file, metavar="FILE", help="QUADAS-2 assessments, CSV.")
    ] = None,
    prisma: Annotated[
        Path | None, typer.Option(parser=existing_file, metavar="FILE", help="PRISMA counts, JSON.")
    ] = None,
    track: Track = True,
    tracking_uri: TrackingURI = None,
    overwrite: Overwrite = False,
) -> None:
    """Pool published 2 x 2 tables with the bivariate model, and compare your model with them.

    Writes report.html, evidence.json, tables as CSV and LaTeX, and figures as SVG and PNG.
    """
    from osteo_monai.reporting.evidence import EvidenceOptions, write_evidence

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, ("report.html", "evidence.json"), overwrite)
    with checks.collect(prevalence="--prevalence", replicates="--replicates"):
        options = EvidenceOptions(
            studies=studies,
            target=target,
            own_counts=own_counts,
            own_predictions=own_predictions,
            own_name=own_name,
            own_cohort=own_cohort,
            own_threshold=own_threshold,
            method=method,
            prevalence=prevalence,
            covariates=tuple(dict.fromkeys(covariate or ())),
            reference=reference,
            replicates=replicates,
            seed=seed,
            quadas=quadas,
            prisma=prisma,
        )
    checks.finish()
    if track:
        check_tracking(output, tracking_uri)
    with progress("Reading") as on_stage:
        result = write_evidence(options, output, osteo_monai.__version__, on_stage)
        if track:
            on_stage("logging to MLflow")
            _track(options, result, output, tracking_uri)
    for line in _summary(result):
        show(line)
    show(f"Report: {output / 'report.html'}")


def _track(options: "EvidenceOptions", evidence: "Evidence", output: Path, tracking_uri: str | None) -> None:
    from osteo_monai.reporting.evidence import evidence_facts

    inputs = {"studies": options.studies, "own_predictions": options.own_predictions}
    parameters = {
        "method": options.method,
        "prevalence": options.prevalence,
        "replicates": options.replicates,
        "seed": options.seed,
        "own_counts": options.own_counts or "",
        "covariates": ", ".join(options.covariates),
        "reference": options.reference or "",
        **{f"{name}_sha256": file_sha256(path) for name, path in inputs.items() if path is not None},
    }
    products = ("report.html", "evidence.json", "figures")
    track_run("evidence", output, tracking_uri, parameters, evidence_facts(evidence), products)


def _summary(evidence: "Evidence") -> list[str]:
    lines = []
    for name, target in evidence.targets.items():
        if target.fit is None:
            lines.append(f"{name}: {' '.join(target.notes)}")
            continue
        point = target.fit.summary()
        tables = f"{len(target.studies)} tables"
        if target.clusters is not None:
            tables += f" clustered in {target.study_count} studies"
        lines.append(f"{name}: {tables}, {_accuracy(point.sensitivity, point.specificity)}")
    for name, own in evidence.own.items():
        lines.append(f"{own.name}, {name}: {_accuracy(own.sensitivity, own.specificity)}")
    return lines


def _accuracy(sensitivity: "Interval", specificity: "Interval") -> str:
    values = (("sensitivity", sensitivity), ("specificity", specificity))
    return ", ".join(f"{name} {i.value:.3f} ({i.low:.3f} to {i.high:.3f})" for name, i in values)
