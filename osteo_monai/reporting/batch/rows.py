"""What the page of a batch says about each study, in counts and by age and sex."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, Sex
from osteo_monai.reporting.wording import MINUS, chance_words, density_words
from osteo_monai.screening.result import RiskOpinion, ScreeningResult

__all__ = ["OUTCOMES", "AgeGroup", "Outcome", "Reason", "StudyRow", "age_groups", "outcome_counts", "reasons", "row"]

Outcome = Literal["accepted", "accepted_with_warnings", "refused", "unusable", "no_result"]
OUTCOMES: Mapping[Outcome, str] = {
    "accepted": "Measured",
    "accepted_with_warnings": "Measured, with warnings",
    "refused": "Refused",
    "unusable": "Unusable",
    "no_result": "No result",
}
"""Verdicts, as the page names them; a study without a result was not screened, or its result cannot be read."""


@dataclass(frozen=True)
class StudyRow:
    """One study: the cells of its row, and the values that are sorted and counted.

    Attributes:
        folder: name of its folder below that of the batch.
        report: whether the folder has a report.
        answer: density with its class, or risk, as text.
        density: in mg/cm3 of ``standard``; ``status`` is its class by ``thresholds``.
        risk: calibrated, 0 to 1; or the output of an uncalibrated network.
    """

    folder: str
    report: bool
    outcome: Outcome
    modality: str = ""
    answer: str = ""
    density: float | None = None
    interval: str = ""
    standard: MineralStandard | None = None
    thresholds: DensityThresholds | None = None
    status: BoneStatus | None = None
    levels: str = ""
    risk: float | None = None
    age: float | None = None
    sex: Sex | None = None
    seconds: float | None = None
    refusals: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def codes(self) -> str:
        """Codes of the refusals, or else of the warnings."""
        return ", ".join(finding.code for finding in self.refusals or self.warnings)


def row(folder: str, result: ScreeningResult | None, report: bool) -> StudyRow:
    """Return the row of one study; ``result`` is ``None`` if it has none that can be read."""
    if result is None:
        return StudyRow(folder, report, "no_result")
    findings = {s: tuple(f for f in result.findings if f.severity is s) for s in (Severity.REFUSAL, Severity.WARNING)}
    person = result.radiograph.person if result.radiograph is not None else result.acquisition
    times = result.seconds
    common = StudyRow(
        folder,
        report,
        result.verdict,
        modality="CT" if result.modality == "ct" else "radiograph",
        levels=", ".join(measured.level for measured in result.levels),
        age=None if person is None else person.age_years,
        sex=None if person is None else person.sex,
        seconds=times.get("total", sum(times.values())) if times else None,
        refusals=findings[Severity.REFUSAL],
        warnings=findings[Severity.WARNING],
    )
    if result.verdict in ("refused", "unusable"):
        return common
    return _with_answer(common, result)


def _with_answer(common: StudyRow, result: ScreeningResult) -> StudyRow:
    changes: dict[str, object] = {}
    if (value := result.density) is not None:
        words = density_words(value.mg_cm3, result.thresholds)
        changes = {
            "density": value.mg_cm3,
            "standard": value.standard,
            "thresholds": result.thresholds,
            "status": result.status,
            "answer": f"{words} mg/cm³ {value.standard}{'' if result.status is None else f', {result.status}'}",
            "interval": f"{value.interval_low:.0f} to {value.interval_high:.0f}".replace("-", MINUS),
        }
    elif result.radiograph is not None:
        risk = result.radiograph.combined or result.radiograph.risk
        known = risk.probability is not None
        changes = {"risk": risk.probability if known else risk.score, "answer": _risk_words(risk)}
        if risk.low is not None and risk.high is not None:
            changes["interval"] = f"{chance_words(risk.low)} to {chance_words(risk.high)}"
    return StudyRow(**{**vars(common), **changes})


def _risk_words(opinion: RiskOpinion) -> str:
    if opinion.probability is None:
        return f"network output {opinion.score:.2f}, not calibrated"
    raised = "" if opinion.raised is None else ", raised" if opinion.raised else ", not raised"
    return f"risk {chance_words(opinion.probability, opinion.cutoff)}{raised}"


def outcome_counts(rows: Sequence[StudyRow]) -> list[tuple[str, list[int]]]:
    """Return for each outcome its name and the number of CT studies, radiograph studies and all."""
    table = []
    for outcome, name in OUTCOMES.items():
        part = [row for row in rows if row.outcome == outcome]
        kinds = Counter(row.modality for row in part)
        if part:
            table.append((name, [kinds["CT"], kinds["radiograph"], len(part)]))
    return table


@dataclass(frozen=True)
class Reason:
    """A finding of several studies."""

    code: str
    count: int
    example: str
    """The sentence of the first of them."""


def reasons(findings: Iterable[tuple[Finding, ...]]) -> list[Reason]:
    """Return the findings by code, the most frequent first; a code counts once a study."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for of_study in findings:
        counts.update({finding.code for finding in of_study})
        for finding in of_study:
            examples.setdefault(finding.code, finding.message)
    order = sorted(counts, key=lambda code: (-counts[code], code))
    return [Reason(code, counts[code], examples[code]) for code in order]


@dataclass(frozen=True)
class AgeGroup:
    """Densities of the studies of one decade and sex."""

    age: str
    sex: str
    count: int
    mean: float
    sd: float | None
    """``None`` for fewer than two studies."""
    statuses: tuple[int, int, int, int]
    """Number with osteoporosis, osteopenia, normal density, and no class."""


def age_groups(rows: Sequence[StudyRow]) -> list[AgeGroup]:
    """Return the densities by decade of age and sex; unknown ages are at the end, and the last row is of all.

    Args:
        rows: with densities in one standard.
    """
    found: dict[tuple[float, str], list[StudyRow]] = {}
    for study in rows:
        decade = float("inf") if study.age is None else 10.0 * (study.age // 10)
        found.setdefault((decade, "unknown" if study.sex is None else _SEXES[study.sex]), []).append(study)
    names = {key: "unknown" if key[0] == float("inf") else f"{key[0]:.0f} to {key[0] + 9:.0f}" for key in found}
    groups = [_group(names[key], key[1], found[key]) for key in sorted(found)]
    return [*groups, _group("all", "all", rows)] if len(groups) > 1 else groups


_SEXES = {Sex.FEMALE: "female", Sex.MALE: "male"}
_CLASSES = (BoneStatus.OSTEOPOROSIS, BoneStatus.OSTEOPENIA, BoneStatus.NORMAL, None)


def _group(age: str, sex: str, rows: Sequence[StudyRow]) -> AgeGroup:
    values = [study.density for study in rows if study.density is not None]
    counts = Counter(study.status for study in rows)
    a, b, c, d = (counts[status] for status in _CLASSES)
    return AgeGroup(age, sex, len(rows), fmean(values), stdev(values) if len(values) > 1 else None, (a, b, c, d))


def median_seconds(rows: Sequence[StudyRow]) -> float | None:
    """Return the median time of a study; ``None`` if no time is known."""
    times = [study.seconds for study in rows if study.seconds is not None]
    return median(times) if times else None
