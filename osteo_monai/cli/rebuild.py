"""``osteo-monai rebuild-tables``: 2 x 2 tables from printed sensitivities and specificities."""

from pathlib import Path
from typing import Annotated

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import OutputTable, Overwrite, existing_file
from osteo_monai.cli.output import check_products, show

__all__ = ["rebuild_tables"]


def rebuild_tables(
    printed: Annotated[
        Path,
        typer.Argument(
            parser=existing_file,
            metavar="PRINTED",
            help="CSV: study, sensitivity, specificity, subjects, diseased or prevalence; optional ppv, npv, accuracy.",
        ),
    ],
    output: OutputTable,
    overwrite: Overwrite = False,
) -> None:
    """Rebuild 2 x 2 tables from printed proportions, for 'osteo-monai evidence'.

    Searches all whole-number tables that round to the printed values, writes the nearest one of each row, and marks it
    as rebuilt, with the number and range of all solutions.
    """
    from osteo_monai.statistics.meta_analysis.rebuilding import rebuild_studies

    checks = OptionChecks()
    with checks.collect():
        check_products([output], overwrite)
    checks.finish()
    rebuilt = rebuild_studies(printed, output)
    unique = sum(table.unique for table in rebuilt)
    show(f"{len(rebuilt)} tables rebuilt, {unique} of them the only solution.")
    show(f"Table: {output}")
