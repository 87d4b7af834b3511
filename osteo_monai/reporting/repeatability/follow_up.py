"""Changes of density of one person over time, compared with the least significant change."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.repeats import CONDITION_NAMES, MeasuredScan, MeasuredScans
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.evaluation.results import Cell, Column, ResultTable, Row
from osteo_monai.reporting.repeatability.precision import PUBLISHED, ChangeLimit
from osteo_monai.utils.files import write_text
from osteo_monai.utils.text import listed

__all__ = ["Change", "Verdict", "changes", "write_follow_up"]

FILE = "follow_up.csv"
_YEAR = 365.25


class Verdict(StrEnum):
    """Result of the comparison of two scans of a person."""

    INCREASE = "increase exceeds the least significant change"
    DECREASE = "decrease exceeds the least significant change"
    NO_CHANGE = "no change that exceeds the least significant change"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Change:
    """Change of the density of one person between two scans.

    Attributes:
        subject: pseudonym.
        method: name of the model.
        level: vertebral level, or ``mean``.
        first, second: days of the scans.
        density_first, density_second: mg/cm3.
        lsc: least significant change, mg/cm3; ``nan`` if not compared.
        verdict: of the comparison.
        reason: why the scans are not compared; empty if they are.
        assumed: conditions that are unknown for one of the scans and assumed to be equal.
    """

    subject: str
    method: str
    level: str
    first: date
    second: date
    density_first: float
    density_second: float
    lsc: float
    verdict: Verdict
    reason: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Second minus first density, mg/cm3."""
        return self.density_second - self.density_first

    @property
    def years(self) -> float:
        """Time between the scans."""
        return (self.second - self.first).days / _YEAR

    @property
    def sentence(self) -> str:
        """The result in plain text, without the pseudonym."""
        where = f"{self.level} by {self.method}, {self.first} to {self.second}"
        if self.verdict is Verdict.NOT_COMPARED:
            return f"{where}: not compared. {self.reason}"
        percent = f" ({100 * self.difference / self.density_first:+.0f} %)" if self.density_first > 0 else ""
        text = f"{where}: {self.difference:+.1f} mg/cm3{percent}, {self.verdict} of {self.lsc:.1f} mg/cm3"
        return f"{text}, if {listed(self.assumed)} did not change." if self.assumed else f"{text}."


def changes(scans: Iterable[MeasuredScan], limit: ChangeLimit = PUBLISHED) -> list[Change]:
    """Compare each scan of a person with the first and with the previous one by the same method.

    Scans that differ in calibration method, mineral standard, tube voltage, contrast phase or scanner (for the mean
    also in its levels) are not compared: such differences change the density by as much as a disease does. An unknown
    condition is named in the result.

    Args:
        scans: with the day of each.
        limit: least significant change.

    Raises:
        UnusableInputError: a scan has no day, or no person has two scans by one method.
    """
    groups: dict[tuple[str, str, str], list[tuple[date, MeasuredScan]]] = defaultdict(list)
    undated = 0
    for scan in scans:
        undated += scan.acquired is None
        for level in scan.densities:
            if scan.acquired is not None:
                groups[scan.subject, scan.method, level].append((scan.acquired, scan))
    if undated:
        raise UnusableInputError(
            f"acquired must be a day such as 2021-07-31 in each row, got {undated} rows without it"
        )
    found = []
    for (_, _, level), members in groups.items():
        ordered = [scan for _, scan in sorted(members, key=lambda member: member[0])]
        for n, scan in enumerate(ordered[1:], 1):
            found += [_change(ordered[earlier], scan, level, limit) for earlier in sorted({0, n - 1})]
    if not found:
        raise UnusableInputError("at least one subject must have two scans by one method, got none")
    return found


def _change(first: MeasuredScan, second: MeasuredScan, level: str, limit: ChangeLimit) -> Change:
    before, after = first.densities[level], second.densities[level]
    lsc = limit.mg_cm3(second.method, level, (before + after) / 2)
    reasons = []
    for name in first.differences(second, level):
        values = f"'{first.conditions[name]}' and '{second.conditions[name]}'"
        reasons.append(f"{CONDITION_NAMES[name]} must be the same, got {values}")
    if first.acquired == second.acquired:
        reasons.append("the scans must be of different days")
    if not math.isfinite(lsc):
        reasons.append(f"there is no least significant change of {second.method} at {level}")
    verdict = Verdict.NOT_COMPARED
    if not reasons:
        verdict = Verdict.NO_CHANGE
        if abs(after - before) >= lsc:  # ISCD: a significant change equals or exceeds it
            verdict = Verdict.INCREASE if after > before else Verdict.DECREASE
    reason = "; ".join(reasons)
    return Change(
        subject=second.subject,
        method=second.method,
        level=level,
        first=first.acquired or date.min,
        second=second.acquired or date.min,
        density_first=before,
        density_second=after,
        lsc=math.nan if reasons else lsc,
        verdict=verdict,
        reason=f"{reason[:1].upper()}{reason[1:]}." if reason else "",
        assumed=() if reasons else tuple(CONDITION_NAMES[name] for name in first.unknown(second)),
    )


_COLUMNS = (
    Column("subject_id", "Subject"),
    Column("method", "Method"),
    Column("level", "Level"),
    Column("first", "First scan"),
    Column("second", "Second scan"),
    Column("years", "Years", 1),
    Column("first_mg_cm3", "First (mg/cm3)", 1),
    Column("second_mg_cm3", "Second (mg/cm3)", 1),
    Column("change_mg_cm3", "Change (mg/cm3)", 1),
    Column("change_per_year", "Change per year (mg/cm3)", 1),
    Column("lsc_mg_cm3", "Least significant change (mg/cm3)", 1),
    Column("verdict", "Result"),
    Column("reason", "Reason, or what is assumed"),
)


def _cells(change: Change) -> dict[str, Cell]:
    compared = change.verdict is not Verdict.NOT_COMPARED
    row: dict[str, Cell] = {"subject_id": change.subject, "method": change.method, "level": change.level}
    row |= {"first": str(change.first), "second": str(change.second), "years": round(change.years, 2)}
    row |= {"first_mg_cm3": round(change.density_first, 2), "second_mg_cm3": round(change.density_second, 2)}
    if compared:
        row["change_mg_cm3"] = round(change.difference, 2)
        row["change_per_year"] = round(change.difference / change.years, 2)
        row["lsc_mg_cm3"] = round(change.lsc, 2)
    assumed = f"unknown, assumed equal: {', '.join(change.assumed)}" if change.assumed else ""
    return row | {"verdict": str(change.verdict), "reason": change.reason or assumed}


def write_follow_up(
    scans: MeasuredScans, output: Path, limit: ChangeLimit = PUBLISHED, *, virtual: bool = False, version: str = ""
) -> list[Change]:
    """Write ``follow_up.csv`` and ``report.html`` into a folder, and return the changes.

    Args:
        scans: of :func:`osteo_monai.data.repeats.read_measured_scans`.
        output: folder, made if missing; files of the same names are replaced.
        limit: least significant change.
        virtual: mark all output; a column ``virtual`` of the tables does too.
        version: program version, printed in the report.

    Raises:
        UnusableInputError: as :func:`changes`.
    """
    found = changes(scans.scans, limit)
    rows: list[Row] = [_cells(change) for change in found]
    names = [column.name for column in _COLUMNS]
    write_table(output / FILE, names, ([row.get(name) for name in names] for row in rows))
    notice = "Virtual patients" if virtual or any(scan.virtual for scan in scans.scans) else ""
    caption = f"{notice}. " if notice else ""
    table = ResultTable(
        "follow_up", f"{caption}Change of density between scans of one person", _COLUMNS, tuple(rows), (limit.source,)
    ).filled((), _notes(found, scans))
    values = {"title": "Follow-up of density", "tables": [table], "pictures": [], "notice": notice, "version": version}
    write_text(output / "report.html", render("tables.html.j2", values | {"methods": _METHODS}))
    return found


def _notes(found: Sequence[Change], scans: MeasuredScans) -> Iterator[str]:
    reasons = Counter(change.reason for change in found if change.reason)
    yield f"{len(found) - sum(reasons.values())} of {len(found)} pairs of scans are compared."
    for reason, count in scans.unmeasured.items():
        yield f"{count} scans have no density: {reason}."


_METHODS = (
    "Each scan is compared with the first and with the previous scan of the person. A change that is as large as the "
    "least significant change, or larger, is found in 5 % of people without any change (two-sided). Several levels "
    "and scans of one person raise this share.",
    "Scans that differ in calibration, mineral standard, tube voltage, contrast phase or scanner are not compared.",
)
