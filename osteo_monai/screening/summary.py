"""The summary table of many studies: one row per result."""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from osteo_monai.domain import Severity
from osteo_monai.screening.names import NOT_READ
from osteo_monai.screening.result import RiskOpinion, ScreeningResult
from osteo_monai.utils.files import write_json, write_text
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.text import escape_formula, unescape_formula

logger = logging.getLogger(__name__)

Cell: TypeAlias = str | float | int | bool | None
Row: TypeAlias = dict[str, Cell]

SUMMARY_COLUMNS: tuple[str, ...] = (
    "study",
    "modality",
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
    "corrected_mg_cm3",
    "corrected_interval_low",
    "corrected_interval_high",
    "corrected_status",
    "kvp",
    "manufacturer",
    "model",
    "station",
    "acquired",
    "air_hu",
    "fat_hu",
    "aorta_hu",
    "view",
    "risk",
    "risk_low",
    "risk_high",
    "risk_raised",
    "risk_score",
    "combined_risk",
    "combined_risk_low",
    "combined_risk_high",
    "combined_risk_raised",
    "clinical_risk",
    "age",
    "sex",
    "height_cm",
    "weight_kg",
    "refusals",
    "warnings",
    "seconds",
    "folder",
)
"""Columns of summary.csv; a column without a value is empty, never zero. ``opinions`` is agree, borderline or differ,
the probabilities are those of the classifier. ``corrected`` columns are of the density without the shift by contrast
agent, beside the raw one. ``view`` to ``weight_kg`` are of radiographs: calibrated risks of
osteoporosis, 0 to 1, and the network output ``risk_score``; fused views are joined by a plus sign."""

_OPINION_COLUMNS = {"hu_rule": "hu_rule", "density_regression": "regression", "classifier": "classifier"}


def summary_row(result: ScreeningResult, folder: str = "") -> Row:
    """Return one row of the summary table with the keys of ``SUMMARY_COLUMNS``."""
    row: Row = dict.fromkeys(SUMMARY_COLUMNS)
    row |= {"study": result.study, "modality": result.modality, "verdict": result.verdict, "folder": folder}
    row["refusals"] = "; ".join(f.code for f in result.findings if f.severity is Severity.REFUSAL)
    row["warnings"] = "; ".join(f.code for f in result.findings if f.severity is Severity.WARNING)
    row["seconds"] = round(sum(result.seconds.values()), 2)
    return row | _density_cells(result) | _level_cells(result) | _opinion_cells(result) | _risk_cells(result)


def _density_cells(result: ScreeningResult) -> Row:
    row: Row = {}
    if result.status is not None:
        row["status"] = result.status.value
    if result.density is not None:
        row["density_mg_cm3"] = round(result.density.mg_cm3, 1)
        row["interval_low"] = round(result.density.interval_low, 1)
        row["interval_high"] = round(result.density.interval_high, 1)
        row["standard"] = result.density.standard.value
    if result.calibration is not None:
        row["calibration"] = result.calibration.method
    return row | _contrast_cells(result) | _scan_cells(result)


def _contrast_cells(result: ScreeningResult) -> Row:
    contrast = result.contrast
    if contrast is None:
        return {}
    return {
        "corrected_mg_cm3": round(contrast.density.mg_cm3, 1),
        "corrected_interval_low": round(contrast.density.interval_low, 1),
        "corrected_interval_high": round(contrast.density.interval_high, 1),
        "corrected_status": None if contrast.status is None else contrast.status.value,
    }


def _scan_cells(result: ScreeningResult) -> Row:
    row: Row = {}
    if (scan := result.acquisition) is not None:
        row |= {"kvp": scan.kvp, "manufacturer": scan.manufacturer, "model": scan.model, "station": scan.station}
        row["acquired"] = None if scan.acquired is None else scan.acquired.isoformat()
    if (tissues := result.tissues) is not None:
        values = {"air_hu": tissues.air_hu, "fat_hu": tissues.fat_hu, "aorta_hu": tissues.aorta_hu}
        row |= {name: None if hu is None else round(hu, 1) for name, hu in values.items()}
    return row


def _level_cells(result: ScreeningResult) -> Row:
    row: Row = {"levels": " ".join(m.level for m in result.levels)}
    for m in result.levels:
        values = {"mg_cm3": m.density.mg_cm3, "hu_mean": m.hu.mean, "hu_median": m.hu.median}
        cells = {f"{m.level}_{key}": round(value, 1) for key, value in values.items()}
        row |= {column: value for column, value in cells.items() if column in SUMMARY_COLUMNS}
    return row


def _opinion_cells(result: ScreeningResult) -> Row:
    codes = [f.code.removeprefix("opinions_") for f in result.findings if f.code.startswith("opinions_")]
    row: Row = {"opinions": codes[0] if codes else None}
    for opinion in result.opinions:
        column = _OPINION_COLUMNS.get(opinion.name)
        if column is None:  # the HU line is the density of the result
            continue
        row[f"{column}_status"] = None if opinion.status is None else opinion.status.value
        if opinion.density is not None:
            row[f"{column}_mg_cm3"] = round(opinion.density.mg_cm3, 1)
            row[f"{column}_interval_low"] = round(opinion.density.interval_low, 1)
            row[f"{column}_interval_high"] = round(opinion.density.interval_high, 1)
        if opinion.name == "classifier" and opinion.probabilities is not None:
            row |= {f"probability_{status}": round(p, 4) for status, p in opinion.probabilities.items()}
    return row


def _risk_cells(result: ScreeningResult) -> Row:
    radiograph = result.radiograph
    if radiograph is None:
        return {}
    patient = radiograph.person
    kvp = {r.kvp for r in radiograph.radiographs}
    clinical = radiograph.clinical
    row: Row = {
        "view": "+".join(r.view for r in radiograph.radiographs),
        "risk_score": round(radiograph.risk.score, 4),
        "clinical_risk": None if clinical is None else _rounded(clinical.probability),
        "age": patient.age_years,
        "sex": patient.sex,
        "height_cm": patient.height_cm,
        "weight_kg": patient.weight_kg,
        "kvp": kvp.pop() if len(kvp) == 1 else None,
    }
    return row | _interval_cells("risk", radiograph.risk) | _interval_cells("combined_risk", radiograph.combined)


def _interval_cells(name: str, opinion: RiskOpinion | None) -> Row:
    if opinion is None or opinion.probability is None:
        return {}
    return {
        name: _rounded(opinion.probability),
        f"{name}_low": _rounded(opinion.low),
        f"{name}_high": _rounded(opinion.high),
        f"{name}_raised": opinion.raised,
    }


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 4)


class SummaryWriter:
    """Appends rows to ``summary.csv``; ``finish`` writes the table and ``summary.json`` atomically.

    A run that is stopped keeps the rows of the studies before.

    Args:
        folder: must exist.
        rows: of studies that an earlier run has screened.
    """

    def __init__(self, folder: Path, rows: Sequence[Row] = ()) -> None:
        self._folder = folder
        write_text(self._csv, _csv_text(rows, header=True))

    @property
    def _csv(self) -> Path:
        return self._folder / "summary.csv"

    def add(self, row: Row) -> None:
        """Append one row with the keys of ``SUMMARY_COLUMNS``, whole or not at all.

        A row that cannot be written now, for example on a full disk, is written by ``finish``.
        """
        content = _csv_text([row], header=False).encode()
        try:
            descriptor = os.open(self._csv, os.O_WRONLY | os.O_APPEND)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, content) < len(content):  # one call: a killed process leaves no half row
                    os.ftruncate(descriptor, before)
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.warning("a row of summary.csv could not be written yet: %s", error.strerror)

    def finish(self, rows: Sequence[Row]) -> None:
        """Write all rows to ``summary.csv`` and ``summary.json``."""
        write_text(self._csv, _csv_text(rows, header=True))
        write_json(self._folder / "summary.json", list(rows))


def folders_of_summary(folder: Path) -> list[str]:
    """Return the folders of a ``summary.csv``, also of version 0.2.0 or before; none if it cannot be read."""
    with suppress(OSError, ValueError, csv.Error):
        rows = csv.DictReader(read_input(folder / "summary.csv").splitlines())
        return [row["folder"] for row in rows if row.get("folder")]
    return []


def write_not_read(folder: Path, entries: Sequence[tuple[str, str]]) -> None:
    """Write ``not_read.csv``, one row with name and reason for each entry of the input that no study contains.

    A table of an earlier run is removed if there is none.
    """
    path = folder / NOT_READ
    if not entries:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("name", "reason"), *((escape_formula(name), reason) for name, reason in entries)])
    write_text(path, text.getvalue())


def read_not_read(folder: Path) -> list[tuple[str, str]]:
    """Return the rows that ``write_not_read`` wrote; none if there is no table."""
    path = folder / NOT_READ
    if not path.is_file():
        return []
    return [(unescape_formula(row["name"]), row["reason"]) for row in csv.DictReader(io.StringIO(read_input(path)))]


def _csv_text(rows: Sequence[Mapping[str, Cell]], header: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SUMMARY_COLUMNS)
    if header:
        writer.writeheader()
    writer.writerows({k: escape_formula(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return text.getvalue()
