"""``osteo-monai risk``: calibration of risks, models that combine a risk with facts of the person, radiomics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import ManifestFile, OptionalTracking, OutputFolder, Overwrite, existing_file
from osteo_monai.cli.output import check_folder, check_products, command_run, show
from osteo_monai.utils.files import file_sha256

if TYPE_CHECKING:
    from osteo_monai.risk import RiskCalibration

__all__ = ["calibrate", "radiomics", "train"]


def _source(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path or not Path(path).exists():
        raise typer.BadParameter(f"must be NAME=TABLE.csv or NAME=FOLDER, an existing path, got '{text}'")
    return name, Path(path)


def calibrate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=SOURCE",
            help="Name of a view, fused, clinical or combined, and its predictions table or the output folder of "
            "'osteo-monai radiograph cross-validate'.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Calibrations to write, such as models/risk.json.")
    ],
    tables: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the tables with calibrated probabilities, NAME.csv each."),
    ] = None,
    tracking_uri: OptionalTracking = None,
    overwrite: Overwrite = False,
) -> None:
    """Calibrate predicted risks on the cohort 'validation', which the models were not trained on."""
    checks = OptionChecks()
    named: dict[str, Path] = {}
    for text in sources:
        with checks.collect():
            name, path = _source(text)
            if name in named:
                raise ValueError(f"'{name}' must be calibrated once, got two sources")
            named[name] = path
    products = [output] if tables is None else [output, *(tables / f"{name}.csv" for name in named)]
    with checks.collect():
        check_products(products, overwrite)
    checks.finish()
    from osteo_monai.risk import calibrate_risks

    parameters = {name: _content(path) for name, path in named.items()}
    with command_run("risk", "risk calibrate", tracking_uri, parameters) as run:
        fits = calibrate_risks(named, output, tables)
        run.log({f"{name}/{key}": value for name, fit in fits.items() for key, value in _facts(fit).items()}, [output])
    for name, fit in fits.items():
        spread = "" if fit.network_sd is None else f", SD of the logit between networks {fit.network_sd:.2f}"
        cutoff = ", ".join(f"{rule} {value:.3f}" for rule, value in fit.thresholds.items())
        show(
            f"{name}: {fit.people} subjects, {fit.with_osteoporosis} with osteoporosis; intercept {fit.intercept:.2f}, "
            f"slope {fit.slope:.2f}{spread}; cut-off {cutoff}"
        )


def _content(path: Path) -> str:
    """Return what a source is in a log: a file by its content, a folder without its name."""
    return f"sha256 {file_sha256(path)}" if path.is_file() else "folder"


def _facts(fit: "RiskCalibration") -> dict[str, float]:
    facts: dict[str, float] = {"people": fit.people, "with_osteoporosis": fit.with_osteoporosis}
    facts |= {"intercept": fit.intercept, "slope": fit.slope}
    return facts | {f"cutoff_{rule}": value for rule, value in fit.thresholds.items()}


def radiomics(
    texture: Annotated[
        Path,
        typer.Argument(
            parser=existing_file, metavar="TEXTURE", help="Table texture.csv of 'osteo-monai measure --texture'."
        ),
    ],
    path: ManifestFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TABLE", help="Predictions table to write (CSV).")],
    folds: Annotated[int, typer.Option(min=2, metavar="N", help="Number of cross-validation folds.")] = 5,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the folds.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Predict osteoporosis from CT texture by logistic regression, as a baseline for 'osteo-monai evaluate'.

    Every subject is predicted by a model that was fitted without it (cross-validation by subject over all cohorts).
    """
    check_products([output], overwrite)
    from osteo_monai.cohort import predict_from_texture

    for reason, count in predict_from_texture(texture, path, output, folds=folds, seed=seed).items():
        if count:
            show(f"Left out: {count} subjects {reason}")
    show(f"Predictions: {output}")


def train(
    path: ManifestFile,
    scores: Annotated[
        Path,
        typer.Option(parser=existing_file, metavar="TABLE", help="Out-of-fold predictions table of the network."),
    ],
    output: OutputFolder,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the folds.")] = 0,
    tracking_uri: OptionalTracking = None,
    overwrite: Overwrite = False,
) -> None:
    """Train XGBoost on age, sex, height and weight (clinical), and on these with the risk of a network (combined).

    Writes NAME.ubj, NAME.json and NAME.csv (predictions) for both.
    """
    products = [f"{name}.{end}" for name in ("clinical", "combined") for end in ("ubj", "json", "csv")]
    check_folder(output, products, overwrite)
    from osteo_monai.risk import train_and_predict

    parameters = {"seed": seed, "manifest_sha256": file_sha256(path), "scores_sha256": file_sha256(scores)}
    with command_run("risk", "risk train", tracking_uri, parameters) as run:
        cohort, models = train_and_predict(path, scores, output, seed)
        numbers: dict[str, float] = {}
        for facts in (model.facts for model in models):
            counts = {"people": facts.training_people, "with_osteoporosis": facts.training_with_osteoporosis}
            values = {**counts, "log_loss": facts.log_loss, **facts.parameters}
            numbers |= {f"{facts.model}/{name}": value for name, value in values.items()}
        run.log(numbers, [output / name for name in products], path, "training")
    kind = "virtual patients" if cohort.virtual else "subjects"
    for reason, count in cohort.left_out.items():
        if count:
            show(f"Left out: {count} {kind} {reason}")
    for model in models:
        facts = model.facts
        chosen = ", ".join(f"{name} {value:g}" for name, value in facts.parameters.items())
        show(
            f"{facts.model}: trained on {facts.training_people} {kind}, {facts.training_with_osteoporosis} with "
            f"osteoporosis; {chosen}; log loss in cross-validation {facts.log_loss:.4f}; "
            f"{output / facts.model}.csv"
        )
