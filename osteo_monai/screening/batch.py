"""Many studies, one result row each: a study that fails never stops the rest and never loses its row."""

import csv
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.result import ScreeningResult

SUMMARY_COLUMNS: tuple[str, ...] = (
    "study",
    "verdict",
    "status",
    "density_mg_cm3",
    "interval_low",
    "interval_high",
    "standard",
    "levels",
    "L1_mg_cm3",
    "L2_mg_cm3",
    "L1_hu_mean",
    "L2_hu_mean",
    "L1_hu_median",
    "L2_hu_median",
    "opinions",
    "hu_rule_status",
    "regression_status",
    "regression_mg_cm3",
    "regression_interval_low",
    "regression_interval_high",
    "classifier_status",
    "probability_normal",
    "probability_osteopenia",
    "probability_osteoporosis",
    "calibration",
    "kvp",
    "refusals",
    "warnings",
    "seconds",
    "folder",
)
"""Columns of summary.csv; a column without a value is empty, never zero. ``opinions`` says agree, borderline or differ,
the probabilities are the classifier's."""

_OPINION_COLUMNS = {"hu_rule": "hu_rule", "density_regression": "regression", "classifier": "classifier"}

EXIT_MEASURED, EXIT_UNUSABLE, EXIT_REFUSED = 0, 2, 3

logger = logging.getLogger(__name__)


def exit_code(results: Sequence[ScreeningResult]) -> int:
    """Return 0 if every study was measured, 3 if at least one was refused with a reason, else 2 (unusable input).

    A refusal outweighs an unusable entry: a folder of studies often holds a file that is no study.
    """
    verdicts = {r.verdict for r in results}
    if "refused" in verdicts:
        return EXIT_REFUSED
    return EXIT_UNUSABLE if "unusable" in verdicts or not verdicts else EXIT_MEASURED


def summary_row(result: ScreeningResult, folder: str = "") -> dict[str, Any]:
    """Return one row of the summary table with the keys of ``SUMMARY_COLUMNS``."""
    row: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS)
    row |= {"study": result.study, "verdict": result.verdict, "folder": folder}
    row["refusals"] = "; ".join(f.code for f in result.findings if f.severity is Severity.REFUSAL)
    row["warnings"] = "; ".join(f.code for f in result.findings if f.severity is Severity.WARNING)
    row["seconds"] = round(sum(result.seconds.values()), 2)
    if result.status is not None:
        row["status"] = result.status.value
    if result.density is not None:
        row["density_mg_cm3"] = round(result.density.mg_cm3, 1)
        row["interval_low"] = round(result.density.interval_low, 1)
        row["interval_high"] = round(result.density.interval_high, 1)
        row["standard"] = result.density.standard.value
    if result.calibration is not None:
        row["calibration"] = result.calibration.method
    if result.acquisition is not None:
        row["kvp"] = result.acquisition.kvp
    row["levels"] = " ".join(m.level for m in result.levels)
    for m in result.levels:
        values = {"mg_cm3": m.density.mg_cm3, "hu_mean": m.hu.mean, "hu_median": m.hu.median}
        for key, value in values.items():
            if f"{m.level}_{key}" in row:
                row[f"{m.level}_{key}"] = round(value, 1)
    told = [f.code.removeprefix("opinions_") for f in result.findings if f.code.startswith("opinions_")]
    row["opinions"] = told[0] if told else None
    for opinion in result.opinions:
        column = _OPINION_COLUMNS.get(opinion.name)
        if column is None:  # the line is the headline
            continue
        row[f"{column}_status"] = None if opinion.status is None else opinion.status.value
        if opinion.density is not None:
            row[f"{column}_mg_cm3"] = round(opinion.density.mg_cm3, 1)
            row[f"{column}_interval_low"] = round(opinion.density.interval_low, 1)
            row[f"{column}_interval_high"] = round(opinion.density.interval_high, 1)
        if opinion.name == "classifier" and opinion.probabilities is not None:
            row |= {f"probability_{status}": round(p, 4) for status, p in opinion.probabilities.items()}
    return row


def write_summary(rows: Sequence[dict[str, Any]], output: Path) -> None:
    """Write ``summary.csv`` and ``summary.json`` (the same rows) to the folder ``output``."""
    with (output / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SUMMARY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (output / "summary.json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")


def output_names(studies: Sequence[Path], root: Path) -> list[str]:
    """Return one folder name per study, unique and readable: its path below ``root`` with ``__`` for ``/``."""
    names: list[str] = []
    taken: set[str] = set()
    for study in studies:
        below = study.relative_to(root) if study.is_relative_to(root) else Path(study.name)
        base = "__".join(below.parts) or root.resolve().name
        name, n = base, 2
        while name in taken:
            name, n = f"{base}_{n}", n + 1
        taken.add(name)
        names.append(name)
    return names


def screen_folder(
    studies: Sequence[Path],
    root: Path,
    output: Path,
    screen_one: Callable[[Path, Path], ScreeningResult],
    on_progress: Callable[[str, ScreeningResult | None], None] = lambda name, result: None,
) -> list[ScreeningResult]:
    """Screen many studies, each into a folder of its own below ``output``, and write the summary table.

    The summary is rewritten after every study, so a run that is cut short leaves the rows it had. The output of a
    study that failed stays where it is.

    Args:
        studies: what to screen, in this order.
        root: the folder they were found in; their folders below ``output`` are named after the path below it.
        output: folder for the results; made where it does not exist.
        screen_one: screens one study (path, folder for its output).
        on_progress: called with the name before a study (result ``None``) and after it.
    """
    output.mkdir(parents=True, exist_ok=True)
    results: list[ScreeningResult] = []
    rows: list[dict[str, Any]] = []
    for study, name in zip(studies, output_names(studies, root), strict=True):
        on_progress(name, None)
        started = time.perf_counter()
        try:
            result = screen_one(study, output / name)
        except Exception as error:
            # whatever one study does, the others are screened and this one keeps its row
            logger.debug("screening failed", exc_info=True)
            result = failed_result(name, error, time.perf_counter() - started)
            (output / name).mkdir(parents=True, exist_ok=True)
            result.write(output / name / "result.json")
        results.append(result)
        rows.append(summary_row(result, name))
        write_summary(rows, output)
        on_progress(name, result)
    if not studies:
        write_summary(rows, output)
    return results


def failed_result(study: str, error: Exception, seconds: float = 0.0) -> ScreeningResult:
    """Return the result of a study whose screening broke off by an error nobody foresaw.

    The message names the kind of error only: the text of a foreign error may quote a header.
    """
    message = f"Screening broke off by an unexpected error ({type(error).__name__})."
    finding = Finding(code="internal_error", severity=Severity.REFUSAL, message=message)
    return ScreeningResult(study=study, verdict="unusable", findings=(finding,), seconds={"total": round(seconds, 3)})
