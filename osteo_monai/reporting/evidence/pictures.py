"""Figures of an evidence report with their captions."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.evidence import figures
from osteo_monai.reporting.evidence.analysis import Evidence, TargetEvidence
from osteo_monai.reporting.evidence.own import OwnComparison
from osteo_monai.reporting.publishing import GREEN, ORANGE, PURPLE, publish_figure
from osteo_monai.statistics.meta_analysis.reference import WANG_2025, PooledReference
from osteo_monai.statistics.proportions import Interval

__all__ = ["draw_evidence"]

_Add = Callable[[str, Figure, str, str, int], None]
_MINUS = "\N{MINUS SIGN}"


def draw_evidence(evidence: Evidence, folder: Path) -> dict[str, Picture]:
    """Draw and save all figures of an evidence report.

    Args:
        evidence: results.
        folder: for the files.

    Returns:
        Figures by name.
    """
    pictures: dict[str, Picture] = {}

    def add(name: str, figure: Figure, alt: str, caption: str, width: int) -> None:
        pictures[name] = publish_figure(figure, folder, name, alt, caption, width)

    prevalence = evidence.options.prevalence
    for name in dict.fromkeys([*evidence.targets, *evidence.own]):
        target, own = evidence.targets.get(name), evidence.own.get(name)
        _draw_sroc(add, name, target, own)
        _draw_ratios(add, name, target, own, prevalence)
        if target is not None:
            _draw_studies(add, target)
    if evidence.quadas is not None:
        add(
            "quadas2",
            figures.quadas_figure(evidence.quadas),
            "QUADAS-2 judgements per domain and per study",
            f"QUADAS-2 from {_name(evidence.options.quadas)}: studies per domain (above) and judgements of each study. "
            "Domains without judgements are omitted.",
            640,
        )
    if evidence.prisma is not None:
        add(
            "prisma",
            figures.prisma_figure(evidence.prisma),
            "PRISMA flow diagram",
            f"PRISMA flow of the search, from {_name(evidence.options.prisma)}.",
            600,
        )
    return pictures


def _name(path: Path | None) -> str:
    return "" if path is None else path.name


def _draw_sroc(add: _Add, name: str, target: TargetEvidence | None, own: OwnComparison | None) -> None:
    fit = target.fit if target else None
    reference = WANG_2025.get(name)
    tables = target.studies.tables if target else None
    point = figures.OwnPoint(own.name, own.counts) if own else None
    caption = f"SROC space, {name}. Crosses and the shaded box are 95 % intervals of each proportion separately."
    if fit is not None:
        caption += " The curve covers the false positive rates of the studies only."
    if reference is not None:
        caption += " The review published neither its curve nor its regions as numbers; only its pooled point is shown."
    add(
        f"sroc_{name}",
        figures.sroc_figure(tables, fit, target.auc if target else None, reference, point),
        f"Sensitivity against 1 minus specificity for {name}",
        caption,
        480,
    )


def _draw_ratios(
    add: _Add, name: str, target: TargetEvidence | None, own: OwnComparison | None, prevalence: float
) -> None:
    points = []
    if target is not None and target.fit is not None:
        summary = target.fit.summary()
        points.append(("summary, 95 % CI", "s", ORANGE, summary.positive_lr, summary.negative_lr))
        add(
            f"fagan_{name}",
            figures.fagan_figure(prevalence, summary),
            f"Fagan nomogram for {name}",
            f"Fagan nomogram of the summary, {name}, at the prevalence given. Shaded: 95 % CI of the ratio.",
            400,
        )
    if (reference := WANG_2025.get(name)) is not None:
        pooled = reference.point
        points.append(("Wang 2025 pooled", "D", PURPLE, pooled.positive_lr, pooled.negative_lr))
    if own is not None:
        ratios = own.accuracy_ratios
        points.append((own.name, "*", GREEN, ratios.positive_lr, ratios.negative_lr))
        add(
            f"fagan_own_{name}",
            figures.fagan_figure(prevalence, ratios),
            f"Fagan nomogram of {own.name} for {name}",
            f"Fagan nomogram of {own.name}, {name}. Shaded: 95 % CI of the ratio.",
            400,
        )
    add(
        f"likelihood_ratios_{name}",
        figures.likelihood_figure([] if target is None else target.studies.tables, points),
        f"Positive against negative likelihood ratios for {name}",
        f"Likelihood ratios, {name}, with the limits LR+ 10 and LR{_MINUS} 0.1. The bars of the review treat its two "
        "intervals as independent, since their covariance was not published.",
        480,
    )


def _draw_studies(add: _Add, target: TargetEvidence) -> None:
    name, fit = target.target, target.fit
    references = []
    if (reference := WANG_2025.get(name)) is not None:
        references.append(_reference_row(reference))
    add(
        f"forest_{name}",
        figures.forest_figure(target.studies.labels, target.studies.tables, fit, references),
        f"Forest plots of sensitivity and specificity for {name}",
        f"Forest plots, {name}. Squares: study with Wilson interval, area grows with its number of subjects.",
        900,
    )
    if target.deeks is not None:
        add(
            f"deeks_{name}",
            figures.deeks_figure(target.deeks),
            f"Deeks funnel plot for {name}",
            f"Deeks' funnel, {name}.",
            420,
        )
    if target.omissions and fit is not None:
        add(
            f"leave_one_out_{name}",
            figures.leave_one_out_figure(target.omissions, fit),
            f"Leave-one-out summaries for {name}",
            f"Summary without each study, {name}. Line and band: summary of all studies, 95 % CI.",
            700,
        )


def _reference_row(reference: PooledReference) -> tuple[str, Interval, Interval]:
    name = f"Wang 2025, {reference.models} models pooled"
    return name, reference.sensitivity, reference.specificity
