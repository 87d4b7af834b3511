"""``osteo-monai repeatability`` and ``osteo-monai follow-up``: repeated scans of the same people."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

import osteo_monai
from osteo_monai.cli.errors import ArgumentError, OptionChecks
from osteo_monai.cli.options import OutputFolder, Overwrite, Virtual, existing_file
from osteo_monai.cli.output import check_folder, show

__all__ = ["follow_up", "repeatability"]

_Tables = Annotated[
    list[Path],
    typer.Argument(
        parser=existing_file,
        metavar="TABLE",
        help="Predictions tables, or summary.csv of a screening (docs/repeatability.md).",
    ),
]
_Manifest = Annotated[
    Path | None,
    typer.Option(
        parser=existing_file,
        metavar="MANIFEST",
        help="Manifest of the images, for the subject, day and scanner of each row.",
    ),
]


def repeatability(
    tables: _Tables,
    output: OutputFolder,
    manifest: _Manifest = None,
    within: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Longest time between two scans that count as repeats.")
    ] = 31,
    level: Annotated[float, typer.Option(metavar="VALUE", help="Confidence level of the intervals.")] = 0.95,
    virtual: Virtual = False,
    overwrite: Overwrite = False,
) -> None:
    """Compute the precision error and the least significant change from repeated scans of the same people.

    Two rows of one subject by one method are repeats. Writes report.html, repeatability.json, tables and figures.
    """
    from osteo_monai.data.repeats import read_measured_scans
    from osteo_monai.reporting.repeatability import write_repeatability

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, ("report.html", "repeatability.json"), overwrite)
    with checks.collect():
        if not 0 < level < 1:
            raise ArgumentError([f"--level must be between 0 and 1, got {level:g}"])
    checks.finish()
    scans = read_measured_scans(tables, manifest)
    found = write_repeatability(
        scans, output, within_days=within, level=level, virtual=virtual, version=osteo_monai.__version__
    )
    for p in found:
        lsc, sd = p.found.lsc, p.found.rms_sd
        kind = "" if p.conditions == "same" else ", different conditions"
        show(
            f"{p.level} by {p.method}{kind}: RMS SD {sd.value:.2f} mg/cm3 ({sd.low:.2f} to {sd.high:.2f}), least "
            f"significant change {lsc.value:.1f} mg/cm3 ({lsc.low:.1f} to {lsc.high:.1f}), "
            f"{p.found.subjects} subjects, {p.found.df} degrees of freedom"
        )
    show(f"Report: {output / 'report.html'}")


def follow_up(
    tables: _Tables,
    output: OutputFolder,
    manifest: _Manifest = None,
    precision: Annotated[
        Path | None,
        typer.Option(
            parser=existing_file,
            metavar="FILE",
            help="repeatability.json with the least significant change of the own scanner.",
        ),
    ] = None,
    lsc: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE", help="Least significant change in mg/cm3.", show_default="published value, 13.0 %"
        ),
    ] = None,
    virtual: Virtual = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare the densities of a person over time with the least significant change.

    Scans that differ in calibration, mineral standard, tube voltage, contrast phase or scanner are not compared. Writes
    report.html and follow_up.csv.
    """
    from osteo_monai.data.repeats import read_measured_scans
    from osteo_monai.reporting.repeatability import PUBLISHED, ChangeLimit, GivenLimit, read_limits, write_follow_up

    checks = OptionChecks()
    limit: ChangeLimit = PUBLISHED
    with checks.collect():
        check_folder(output, ("report.html", "follow_up.csv"), overwrite)
    with checks.collect(value="--lsc"):
        if precision is not None and lsc is not None:
            raise ValueError("--lsc must not be given together with --precision")
        if lsc is not None:
            limit = GivenLimit(lsc)
    checks.finish()
    if precision is not None:
        limit = read_limits(precision)
    found = write_follow_up(
        read_measured_scans(tables, manifest), output, limit, virtual=virtual, version=osteo_monai.__version__
    )
    show(limit.source)
    if len({change.subject for change in found}) == 1:
        for change in found:
            show(change.sentence)
    else:
        for verdict, count in Counter(str(change.verdict) for change in found).items():
            show(f"{count} pairs of scans: {verdict}")
    show(f"Report: {output / 'report.html'}")
