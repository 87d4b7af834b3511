"""Tables and figures of a cohort, written to a folder."""

from pathlib import Path

import pandas as pd

from osteo_monai.reporting.cohort.figures import density_by_age_figure
from osteo_monai.reporting.cohort.tables import (
    CohortTable,
    baseline_table,
    density_by_age,
    osteoporosis_table,
    prevalence_table,
)
from osteo_monai.reporting.publishing import save_figure
from osteo_monai.statistics.cohort import TTestKind

__all__ = ["write_cohort"]


def write_cohort(people: pd.DataFrame, output: Path, virtual: bool, kind: TTestKind = "welch") -> list[Path]:
    """Write ``baseline``, ``density_by_age``, ``osteoporosis`` (with T-scores) and ``prevalence``; return the files.

    Tables are CSV, Markdown and LaTeX; density by age has a figure as PNG and SVG.

    Args:
        people: as for :func:`baseline_table`; with T-scores also as for :func:`osteoporosis_table`.
        output: folder, made if missing.
        virtual: mark every table and figure as one of simulated people.
        kind: t-test.

    Raises:
        ValueError: on missing columns or repeated subjects.
        OSError: if ``output`` cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    tables = {
        "baseline": baseline_table(people),
        "density_by_age": density_by_age(people, kind),
        "osteoporosis": osteoporosis_table(people, kind),
        "prevalence": prevalence_table(people),
    }
    written = []
    for name, table in tables.items():
        if table is None:
            continue
        caption = f"{table.caption} Virtual patients." if virtual else table.caption
        CohortTable(table.frame, caption, table.notes).write(output / name)
        written.append(name)
    save_figure(density_by_age_figure(people, virtual), output / "density_by_age")
    return [file for name in written for file in sorted(output.glob(f"{name}.*"))]
