"""``osteo-monai evaluate``: models against the reference standard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

import osteo_monai
from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import (
    BootstrapSeed,
    OutputFolder,
    Overwrite,
    Thresholds,
    Track,
    TrackingURI,
    Virtual,
    choice,
    existing_file,
)
from osteo_monai.cli.output import check_folder, check_tracking, progress, show, track_run
from osteo_monai.domain import DensityThresholds
from osteo_monai.utils.files import file_sha256

__all__ = ["evaluate"]


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(parser=existing_file, metavar="TABLE", help="Predictions tables (docs/predictions.md)."),
    ],
    output: OutputFolder,
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Model that the others are compared with.")
    ] = None,
    interval: Annotated[
        Literal["wilson", "exact"],
        typer.Option(
            parser=choice("wilson", "exact"), metavar="METHOD", help="Interval of proportions: wilson or exact."
        ),
    ] = "wilson",
    holm: Annotated[bool, typer.Option("--holm", help="Adjust the p values of two models over the classes.")] = False,
    sensitivity: Annotated[
        float,
        typer.Option(
            metavar="VALUE", help="Sensitivity that the cut-off chosen on the validation cohort must reach there."
        ),
    ] = 0.9,
    auc_scale: Annotated[
        Literal["area", "logit"],
        typer.Option(
            parser=choice("area", "logit"),
            metavar="SCALE",
            help="Scale of the intervals of areas: area (normal), or logit for areas near 1.",
        ),
    ] = "area",
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Largest acceptable inferiority of AUC, sensitivity and specificity, stated before the study.",
        ),
    ] = None,
    prevalence: Annotated[
        list[float] | None,
        typer.Option(metavar="VALUE", help="Prevalence for predictive values, such as 0.1; may be repeated."),
    ] = None,
    level: Annotated[float, typer.Option(metavar="VALUE", help="Confidence level of the intervals.")] = 0.95,
    thresholds: Thresholds = DensityThresholds(),  # noqa: B008  # frozen
    checklist: Annotated[
        bool,
        typer.Option("--checklist", help="Write checklists of TRIPOD+AI and STARD-AI with what the files contain."),
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            parser=existing_file,
            metavar="MANIFEST",
            help="Manifest of the images, for the checklists.",
            show_default="none",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, metavar="N", help="Number of bootstrap samples.")] = 2000,
    seed: BootstrapSeed = 1,
    virtual: Virtual = False,
    track: Track = True,
    tracking_uri: TrackingURI = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare models with the reference standard and with one another: tables and figures for a paper.

    Writes report.html, results.json, tables as CSV, Markdown and LaTeX, and figures as SVG and PNG.
    """
    from osteo_monai.reporting.evaluation import EvaluationOptions, evaluation_facts, write_evaluation

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, ("report.html", "results.json"), overwrite)
    with checks.collect(
        sensitivity="--sensitivity",
        margin="--margin",
        prevalence="--prevalence",
        level="--level",
        manifest="--manifest",
    ):
        options = EvaluationOptions(
            predictions=tuple(predictions),
            baseline=baseline,
            interval=interval,
            holm=holm,
            sensitivity=sensitivity,
            auc_scale=auc_scale,
            margin=margin,
            prevalences=tuple(prevalence or ()),
            level=level,
            thresholds=thresholds,
            resamples=resamples,
            seed=seed,
            virtual=virtual,
            checklist=checklist,
            manifest=manifest,
        )
    checks.finish()
    if track:
        check_tracking(output, tracking_uri)
    with progress("Reading") as on_stage:
        evaluation = write_evaluation(options, output, osteo_monai.__version__, on_stage)
        if track:
            on_stage("logging to MLflow")
            parameters = {
                "baseline": baseline or "",
                "interval": interval,
                "holm": holm,
                "sensitivity": sensitivity,
                "auc_scale": auc_scale,
                "margin": "" if margin is None else margin,
                "level": level,
                "resamples": resamples,
                "seed": seed,
                **{f"sha256_{number}": file_sha256(path) for number, path in enumerate(predictions, 1)},
            }
            products = ("report.html", "results.json", "tables", "figures")
            facts = evaluation_facts(evaluation)
            track_run("evaluation", output, tracking_uri, parameters, facts, products, _by_model(facts))
    for line in evaluation.summary():
        show(line)
    show(f"Report: {output / 'report.html'}")


def _by_model(facts: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the facts of each model without its name, so that models are compared by metrics of the same name; none
    for one model.
    """
    models: dict[str, dict[str, float]] = {}
    for name, value in facts.items():
        model, _, quantity = name.partition("/")
        models.setdefault(model, {})[quantity] = value
    return models if len(models) > 1 else {}
