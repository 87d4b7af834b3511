"""``osteo-monai calibrate``: calibrations fitted at a site, and the drift of its scanners."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from osteo_monai.cli.batch import WorkersOfMany, chosen_workers
from osteo_monai.cli.errors import ArgumentError, ExitCode
from osteo_monai.cli.options import OutputFolder, Overwrite, choice, existing_file
from osteo_monai.cli.output import check_folder, check_products, show
from osteo_monai.domain import ContrastPhase

__all__ = ["check", "contrast", "fit"]

DRIFT_FILES = ("drift.csv", "drift.png", "drift.svg")

_PHASES = (ContrastPhase.ARTERIAL, ContrastPhase.PORTAL_VENOUS, ContrastPhase.DELAYED)
_TISSUES = ("air", "adipose", "muscle", "blood", "cortical_bone")


def _tissues(text: str | Sequence[str]) -> Sequence[str]:
    names = [name.strip() for name in text.split(",")] if isinstance(text, str) else list(text)
    if len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(_TISSUES):
        raise typer.BadParameter(f"must be two or more of {', '.join(_TISSUES)}, got '{text}'")
    return tuple(names)


_Source = Annotated[
    Literal["label", "segmentation"],
    typer.Option(
        parser=choice("label", "segmentation"),
        metavar="SOURCE",
        help="Label map to measure in: label (ground truth) or segmentation (predicted).",
    ),
]
_Scans = Annotated[
    Path,
    typer.Argument(
        parser=existing_file,
        metavar="MANIFEST",
        help="Data manifest, JSON, with a label map in each record; or the table of scans (CSV) of an earlier fit.",
    ),
]
_Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="File to write, JSON; table, figures and summary have its stem."
    ),
]


def fit(
    path: _Scans,
    output: _Output,
    method: Annotated[
        Literal["line", "precalibrated"],
        typer.Option(
            parser=choice("line", "precalibrated"),
            metavar="METHOD",
            help="line (density from HU), or precalibrated (tissues of each patient with fitted equivalent densities).",
        ),
    ] = "line",
    tissues: Annotated[
        Sequence[str],
        typer.Option(
            parser=_tissues, metavar="TISSUES", help="Tissues of the precalibrated method.", show_default="air,blood"
        ),
    ] = ("air", "blood"),
    valid_days: Annotated[
        int, typer.Option(min=1, metavar="DAYS", help="Age from which screening warns that the calibration is old.")
    ] = 365,
    source: _Source = "label",
    workers: WorkersOfMany = 1,
    overwrite: Overwrite = False,
) -> None:
    """Fit a calibration to 20 to 60 scans of one scanner with known density (docs/site_calibration.md).

    The manifest has the density as bmd_mg_cm3 with bmd_standard. All scans must have one scanner, tube voltage, mineral
    standard and contrast state. Use the file as --calibration site:FILE in 'osteo-monai screen' and 'measure'.
    """
    check_products(_products(path, output), overwrite)
    from osteo_monai.site_calibration import calibrate_site

    _, summary = calibrate_site(
        path, output, method, tissues=tissues, source=source, valid_days=valid_days, workers=chosen_workers(workers)
    )
    show(summary.rstrip())
    show(f"Calibration: {output}")


def contrast(
    path: _Scans,
    output: _Output,
    phase: Annotated[
        ContrastPhase | None,
        typer.Option(parser=choice(*_PHASES), metavar="PHASE", help="Use only enhanced scans of this phase."),
    ] = None,
    source: _Source = "label",
    workers: WorkersOfMany = 1,
    overwrite: Overwrite = False,
) -> None:
    """Fit a contrast correction to native and enhanced scans of the same subjects, by the HU of the aorta.

    The scans of a subject are paired by contrast_phase. Use the file as --contrast-correction FILE in 'osteo-monai
    screen'.
    """
    check_products(_products(path, output), overwrite)
    from osteo_monai.site_calibration import calibrate_contrast

    _, summary = calibrate_contrast(path, output, phase, source=source, workers=chosen_workers(workers))
    show(summary.rstrip())
    show(f"Correction: {output}")


def _products(path: Path, output: Path) -> list[Path]:
    from osteo_monai.site_calibration import calibration_products

    products = calibration_products(output)
    if path.resolve() in [product.resolve() for product in products]:
        raise ArgumentError([f"--output must be another file than MANIFEST, got '{output}'"])
    return products


def check(
    tables: Annotated[
        list[Path],
        typer.Argument(parser=existing_file, metavar="SUMMARY", help="Tables summary.csv of 'osteo-monai screen'."),
    ],
    output: OutputFolder,
    overwrite: Overwrite = False,
) -> None:
    """Follow the HU of air, fat and native aorta of each scanner and tube voltage over time.

    Writes a control chart (drift.png, drift.svg) and drift.csv. Drift: the 99 % interval of the change per year
    excludes 0 and the change is at least 0.5 HU per year, or more scans than by chance are outside the control limits
    of the first 20 scans.

    Exit codes: 0 no drift, 3 drift of at least one scanner, 2 unusable tables or too few scans.
    """
    check_folder(output, DRIFT_FILES, overwrite)
    from osteo_monai.site_calibration import check_drift, read_summaries, write_drift

    readings, left_out = read_summaries(tables)
    drifts = check_drift(readings)
    write_drift(drifts, output)
    for reason, count in left_out.items():
        show(f"Left out: {count} rows, {reason}")
    for drift in drifts:
        show(f"{drift.scanner}: {drift.tissue} {drift.verdict}. {drift.reason}")
    drifting = list(dict.fromkeys(d.scanner for d in drifts if d.verdict == "drift"))
    verdict = f"Drift of {'; '.join(drifting)}: check the scanner, and fit its calibration again." if drifting else ""
    show(verdict or "No drift found.")
    show(f"Chart: {output / 'drift.png'}")
    raise typer.Exit(ExitCode.REFUSED if drifting else ExitCode.MEASURED)
