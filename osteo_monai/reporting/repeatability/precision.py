"""Repeatability by method and level: table, figure, and the limits of change that follow from it."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from osteo_monai.data.repeats import CONDITION_NAMES, CONDITIONS, MEAN, MeasuredScan, MeasuredScans
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.publishing import BLUE, INK, ORANGE, RULE, STYLE, json_ready, new_figure, publish_figure
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.repeatability import LSC_FACTOR, SUFFICIENT_DF, Repeatability, repeatability
from osteo_monai.utils.files import write_json, write_text
from osteo_monai.utils.inputs import read_input

__all__ = [
    "PUBLISHED",
    "WITHIN_DAYS",
    "ChangeLimit",
    "GivenLimit",
    "MeasuredLimits",
    "Precision",
    "PublishedLimit",
    "precisions",
    "read_limits",
    "write_repeatability",
]

SCHEMA = "osteo_monai repeatability 1"
WITHIN_DAYS = 31
"""Longest time between scans of one person that count as repeats, project custom: a change of bone density within a
month is small against the precision error."""

Conditions = Literal["same", "any"]
_HEADINGS = {"same": "the same", "any": "same or different"}


@dataclass(frozen=True)
class Precision:
    """Repeatability of one method at one level.

    Attributes:
        method: name of the model.
        level: vertebral level, or ``mean``.
        conditions: ``same``: only scans that agree in all of ``CONDITIONS`` are compared; ``any``: all scans of a
            person, which is reproducibility across these conditions.
        found: the statistics.
        differing: conditions that differ within people, with the number of people; empty for ``same``.
        values: (density, subject) of each value, for the figure.
    """

    method: str
    level: str
    conditions: Conditions
    found: Repeatability
    differing: Mapping[str, int]
    values: tuple[tuple[float, str], ...]


def precisions(scans: Iterable[MeasuredScan], within_days: int = WITHIN_DAYS, level: float = 0.95) -> list[Precision]:
    """Return the repeatability of each method and level that has repeated scans, first under the same conditions.

    Scans of a person count as repeats of the first one up to ``within_days`` after it; a later scan begins a new group.
    Scans without a day count as repeats in any case.

    Args:
        scans: of all methods.
        within_days: longest time between repeats.
        level: confidence level.

    Raises:
        ValueError: ``within_days`` is negative, or the level out of range.
    """
    if within_days < 0:
        raise ValueError(f"within_days must be 0 or more, got {within_days}")
    groups: dict[tuple[str, str], list[MeasuredScan]] = defaultdict(list)
    for scan in scans:
        for name in scan.densities:
            groups[scan.method, name].append(scan)
    found = []
    for (method, name), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != MEAN, item[0])):
        sessions = list(_sessions(members, within_days))
        alike = [part for session in sessions for part in _alike(session, name)]
        differing = _differing(sessions, name)
        kinds: list[tuple[Conditions, list[list[MeasuredScan]]]] = [("same", alike)]
        kinds += [("any", sessions)] if differing else []
        for conditions, parts in kinds:
            values = [(s.densities[name], f"{s.subject} {n}") for n, part in enumerate(parts) for s in part]
            if any(len(part) > 1 for part in parts):
                statistics = repeatability([v for v, _ in values], [s for _, s in values], level=level)
                of_any = differing if conditions == "any" else {}
                found.append(Precision(method, name, conditions, statistics, of_any, tuple(values)))
    return found


def _sessions(scans: Iterable[MeasuredScan], within_days: int) -> Iterator[list[MeasuredScan]]:
    """Yield the scans of one person that are near in time, in their order."""
    people: dict[str, list[MeasuredScan]] = defaultdict(list)
    for scan in scans:
        people[scan.subject].append(scan)
    for members in people.values():
        dated = sorted((s for s in members if s.acquired is not None), key=lambda s: s.acquired or 0)
        session = [s for s in members if s.acquired is None]
        start = None
        for scan in dated:
            if start is not None and scan.acquired is not None and (scan.acquired - start).days > within_days:
                yield session
                session, start = [], None
            session.append(scan)
            start = scan.acquired if start is None else start
        yield session


def _alike(session: Sequence[MeasuredScan], level: str) -> list[list[MeasuredScan]]:
    parts: dict[tuple[str, ...], list[MeasuredScan]] = defaultdict(list)
    names = (*CONDITIONS, "levels") if level == MEAN else CONDITIONS
    for scan in session:
        parts[tuple(scan.conditions.get(name, "") for name in names)].append(scan)
    return list(parts.values())


def _differing(sessions: Iterable[Sequence[MeasuredScan]], level: str) -> dict[str, int]:
    """Return in how many groups of repeats each condition differs; an unknown one counts as a value."""
    names = (*CONDITIONS, "levels") if level == MEAN else CONDITIONS
    counts: Counter[str] = Counter()
    for session in sessions:
        counts.update(name for name in names if len({scan.conditions.get(name, "") for scan in session}) > 1)
    return {name: counts[name] for name in names if name in counts}


# --- limits of change ---------------------------------------------------------------------------------------------


class ChangeLimit(Protocol):
    """Least significant change of a method at a level."""

    @property
    def source(self) -> str:
        """Where the limit is from, one sentence."""

    def mg_cm3(self, method: str, level: str, mean: float) -> float:
        """Return the limit in mg/cm3; ``nan`` if there is none.

        Args:
            method: name of the model.
            level: vertebral level, or ``mean``.
            mean: mean of the two densities, mg/cm3.
        """


@dataclass(frozen=True)
class GivenLimit:
    """A limit in mg/cm3 that the user gives, for all methods and levels."""

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"value must be a positive number in mg/cm3, got {self.value:g}")

    @property
    def source(self) -> str:
        """Where the limit is from."""
        return f"Least significant change {self.value:g} mg/cm3, given by the user."

    def mg_cm3(self, method: str, level: str, mean: float) -> float:
        """Return the limit."""
        return self.value


@dataclass(frozen=True)
class PublishedLimit:
    """A limit from a published coefficient of variation, for all methods and levels."""

    rms_cv: float
    study: str

    @property
    def source(self) -> str:
        """Where the limit is from."""
        return (
            f"Least significant change {100 * LSC_FACTOR * self.rms_cv:.1f} % of the mean of both densities, from a "
            f"published coefficient of variation of {100 * self.rms_cv:.1f} % ({self.study}). It was measured with "
            "other software; measure the repeatability of the own scanner and method if possible."
        )

    def mg_cm3(self, method: str, level: str, mean: float) -> float:
        """Return the limit; ``nan`` if the mean is not above 0."""
        return LSC_FACTOR * self.rms_cv * mean if mean > 0 else math.nan


PUBLISHED = PublishedLimit(
    0.047,
    "RMS CV of trabecular density from repeated scan sessions, 123 observations, Eur Radiol Exp 2024, "
    "doi 10.1186/s41747-024-00483-9, abstract",
)
"""Default limit of a follow-up. Scan sessions of the same scanner; scanners 4.9 %, all differences 5.9 %."""


class _Bounds(BaseModel):
    model_config = ConfigDict(frozen=True)

    value: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)


class _Entry(BaseModel):
    """One row of repeatability.json; further keys are for readers."""

    model_config = ConfigDict(frozen=True)

    method: str
    level: str
    conditions: Conditions
    df: int = Field(ge=1)
    lsc: _Bounds


@dataclass(frozen=True)
class MeasuredLimits:
    """Limits of ``repeatability.json``, measured under the same conditions; see :func:`read_limits`."""

    name: str
    entries: tuple[_Entry, ...]

    @property
    def source(self) -> str:
        """Where the limits are from."""
        fewest = min(entry.df for entry in self.entries)
        text = f"Least significant change by method and level from repeated scans ('{self.name}')."
        if fewest < SUFFICIENT_DF:
            text += (
                f" It is imprecise: at least {SUFFICIENT_DF} degrees of freedom are recommended (Glueer 1995), it has "
                f"{fewest}."
            )
        return text

    def mg_cm3(self, method: str, level: str, mean: float) -> float:
        """Return the limit; ``nan`` for a method or level without repeated scans."""
        return next((e.lsc.value for e in self.entries if (e.method, e.level) == (method, level)), math.nan)


def read_limits(path: Path) -> MeasuredLimits:
    """Read the limits of change from ``repeatability.json``, as :func:`write_repeatability` writes it.

    Raises:
        UnusableInputError: it is another file, or has no repeated scans under the same conditions.
    """
    wanted = f"'{path.name}' must be a repeatability.json of 'osteo-monai repeatability'"
    try:
        content = json.loads(read_input(path))
    except (OSError, ValueError):
        raise UnusableInputError(f"{wanted}, got a file that is not JSON") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UnusableInputError(f"{wanted}, got another JSON file")
    try:
        entries = [_Entry.model_validate(entry) for entry in content.get("precision", ())]
    except (ValidationError, TypeError):
        raise UnusableInputError(f"{wanted}, got a value that is missing or out of range") from None
    same = tuple(entry for entry in entries if entry.conditions == "same")
    if not same:
        raise UnusableInputError(f"{wanted} with repeated scans under the same conditions, got none")
    return MeasuredLimits(path.name, same)


# --- output -------------------------------------------------------------------------------------------------------


def precision_table(found: Sequence[Precision], scans: MeasuredScans) -> ResultTable:
    """Return one row for each method, level and kind of conditions."""
    table = ResultTable(
        "repeatability",
        "Repeatability of density from repeated scans of the same people; estimate (confidence interval)",
        (
            Column("method", "Method"),
            Column("level", "Level"),
            Column("conditions", "Conditions"),
            Column("subjects", "Subjects"),
            Column("values", "Scans"),
            Column("df", "Degrees of freedom"),
            Column("mean", "Mean (mg/cm3)", 1),
            Column("rms_sd", "RMS SD (mg/cm3)", 2),
            Column("rms_cv_percent", "RMS CV (%)", 2),
            Column("lsc", "Least significant change (mg/cm3)", 1),
            Column("lsc_percent", "Least significant change (%)", 1),
            Column("icc", "ICC", 3),
            Column("shift", "Last minus first scan (mg/cm3)", 1),
        ),
    )
    no_cv = Missing("a mean density is 0 or less, which has no coefficient of variation")
    rows: list[Row] = []
    for p in found:
        f = p.found
        row: dict[str, Cell] = {"method": p.method, "level": p.level, "conditions": _HEADINGS[p.conditions]}
        row |= {"subjects": f.subjects, "values": f.values, "df": f.df, "mean": f.mean, "rms_sd": f.rms_sd}
        row |= {"lsc": f.lsc, "shift": f.shift}
        row["icc"] = f.icc if math.isfinite(f.icc.value) else Missing("one subject, or no variance")
        for name, value in (("rms_cv_percent", f.rms_cv), ("lsc_percent", f.lsc_percent)):
            row[name] = _percent(value) if math.isfinite(value.value) else no_cv
        rows.append(row)
    return table.filled(rows, _notes(found, scans))


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _notes(found: Sequence[Precision], scans: MeasuredScans) -> Iterator[str]:
    few = sorted({p.found.df for p in found if p.conditions == "same" and not p.found.sufficient})
    if few:
        yield (
            f"With {few[0]} degrees of freedom the least significant change is imprecise; at least {SUFFICIENT_DF} are "
            "recommended: 27 people scanned twice (Glueer 1995)."
        )
    for p in found:
        where = f"{p.method}, {p.level}, conditions {_HEADINGS[p.conditions]}"
        if p.found.shifted:
            yield (
                f"{where}: the last scan differs from the first by more than chance. The precision error contains this "
                "difference."
            )
        if p.differing:
            differ = ", ".join(f"{CONDITION_NAMES[name]} in {count}" for name, count in p.differing.items())
            yield f"{where}: people whose scans differ: {differ}. This is reproducibility, no limit of change uses it."
    unknown = [CONDITION_NAMES[c] for c in CONDITIONS if not any(scan.conditions.get(c) for scan in scans.scans)]
    if unknown:
        yield f"Unknown, and assumed to be equal within each person: {', '.join(unknown)}."
    for reason, count in scans.unmeasured.items():
        yield f"{count} scans have no density and are not in the table: {reason}."


@mpl.rc_context(STYLE)
def repeats_figure(precision: Precision, notice: str = "") -> Figure:
    """Return the deviation of each scan from the mean of its person, against that mean.

    Args:
        precision: of one method and level.
        notice: printed above, such as "virtual patients".
    """
    by_person: dict[str, list[float]] = defaultdict(list)
    for value, person in precision.values:
        by_person[person].append(value)
    repeated = [np.array(values) for values in by_person.values() if len(values) > 1]
    figure = new_figure(5.6, 3.6)
    axis = figure.add_subplot()
    axis.axhline(0, color=RULE, lw=0.8)
    sd = precision.found.rms_sd.value
    for sign in (-1, 1):
        axis.axhline(sign * sd, color=INK, lw=1.0, ls=(0, (5, 3)))
    axis.text(1.01, sd, f"RMS SD {sd:.2f}", transform=axis.get_yaxis_transform(), va="center", fontsize=7.5)
    means = np.concatenate([np.full(of.size, of.mean()) for of in repeated])
    axis.scatter(means, np.concatenate([of - of.mean() for of in repeated]), s=13, color=BLUE, alpha=0.6, lw=0)
    unit = "mg/cm\N{SUPERSCRIPT THREE}"
    axis.set(xlabel=f"Mean of a person ({unit})", ylabel=f"Scan \N{MINUS SIGN} mean ({unit})")
    figure.subplots_adjust(right=0.84)
    if notice:
        figure.text(0.01, 0.95, notice, fontsize=8, color=ORANGE, fontweight="bold")
    return figure


def write_repeatability(
    scans: MeasuredScans,
    output: Path,
    *,
    within_days: int = WITHIN_DAYS,
    level: float = 0.95,
    virtual: bool = False,
    version: str = "",
) -> list[Precision]:
    """Write ``report.html``, ``repeatability.json``, ``tables/`` and ``figures/`` into a folder.

    Args:
        scans: of :func:`osteo_monai.data.repeats.read_measured_scans`.
        output: folder, made if missing; files of the same names are replaced.
        within_days: longest time between repeats.
        level: confidence level.
        virtual: mark all output; a column ``virtual`` of the tables does too.
        version: program version, printed in the report.

    Raises:
        UnusableInputError: no person has two scans near in time.
    """
    found = precisions(scans.scans, within_days, level)
    if not found:
        raise UnusableInputError(
            f"at least one subject must have two scans by one method within {within_days} days, got none"
        )
    notice = "Virtual patients" if virtual or any(scan.virtual for scan in scans.scans) else ""
    table = precision_table(found, scans).annotated(f"{notice}. " if notice else "")
    table.write(output / "tables")
    write_json(output / "repeatability.json", _as_json(found, notice, level, within_days))
    pictures = []
    for number, p in enumerate((p for p in found if p.level == MEAN and p.conditions == "same"), 1):
        caption = (
            f"Deviation of each scan from the mean of its person, {p.method}, mean of the levels. A spread that grows "
            "with the density would favour the coefficient of variation over the SD."
        )
        alt = f"Deviations of repeated scans, {p.method}"
        figure = repeats_figure(p, notice.lower())
        pictures.append(publish_figure(figure, output / "figures", f"repeats_{number}", alt, caption, 560))
    values = {
        "title": "Repeatability of density",
        "tables": [table],
        "pictures": pictures,
        "notice": notice,
        "version": version,
    }
    write_text(output / "report.html", render("tables.html.j2", values | {"methods": _METHODS}))
    return found


_METHODS = (
    "Precision errors are root mean squares of the standard deviations (and coefficients of variation) within people, "
    "pooled by degrees of freedom, with chi-square intervals (Glueer 1995). The least significant change is 2.77 times "
    "the precision error: unchanged people exceed it in 5 % of pairs of scans (ISCD). The intervals suppose that the "
    "error has the same size in all people. ICC: intraclass correlation of single scans (one-way random effects; "
    "Shrout and Fleiss 1979); it grows with the spread of the people.",
)


def _as_json(found: Sequence[Precision], notice: str, level: float, within_days: int) -> object:
    entries = []
    for p in found:
        f = p.found
        entry: dict[str, object] = {"method": p.method, "level": p.level, "conditions": p.conditions}
        entry["differing"] = dict(p.differing)
        entry |= {"subjects": f.subjects, "values": f.values, "df": f.df, "mean": f.mean}
        entry |= {"rms_sd": f.rms_sd, "rms_cv": f.rms_cv, "lsc": f.lsc, "lsc_relative": f.lsc_percent, "shift": f.shift}
        entry["icc"] = f.icc
        entries.append(entry)
    head = {"schema": SCHEMA, "virtual_patients": bool(notice), "level": level, "within_days": within_days}
    return json_ready(head | {"precision": entries})
