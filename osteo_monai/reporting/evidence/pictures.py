"""Figures of an evidence report with their captions."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.evidence import figures
from osteo_monai.reporting.evidence.analysis import Evidence, TargetEvidence
from osteo_monai.reporting.evidence.own import OwnComparison
from osteo_monai.reporting.publishing import GREEN, ORANGE, PURPLE, publish_figure
from osteo_monai.statistics.meta_analysis.reference import PooledReference
from osteo_monai.statistics.meta_analysis.studies import QuadasTable
from osteo_monai.statistics.proportions import Interval

__all__ = ["draw_evidence"]

_Add = Callable[[str, Figure, str, str, int], None]
_CLUSTERED = "clustered by study"
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
        reference = evidence.options.pooled_reference(name)
        _draw_sroc(add, name, target, own, reference)
        _draw_ratios(add, name, target, own, reference, prevalence)
        if target is not None:
            _draw_studies(add, target, reference)
    if evidence.quadas is not None:
        add(
            "quadas2",
            figures.quadas_figure(evidence.quadas),
            "QUADAS-2 judgements per domain and per study",
            f"QUADAS-2 of {len(evidence.quadas.studies)} studies, from {_name(evidence.options.quadas)}: number of "
            f"studies by judgement and domain (above), judgements of each study (below).{_omitted(evidence.quadas)}",
            640,
        )
    if evidence.prisma is not None:
        add(
            "prisma",
            figures.prisma_figure(evidence.prisma),
            "PRISMA flow diagram",
            f"PRISMA flow of the search, from {_name(evidence.options.prisma)}: "
            f"{sum(evidence.prisma.identified.values())} records identified, "
            f"{evidence.prisma.in_meta_analysis} studies in the meta-analysis.",
            600,
        )
    return pictures


def _name(path: Path | None) -> str:
    return "" if path is None else path.name


def _omitted(quadas: QuadasTable) -> str:
    has_judgements = any(value != "not stated" for row in quadas.concern for value in row)
    return "" if has_judgements else " Applicability concerns have no judgement in the file and are omitted."


def _draw_sroc(
    add: _Add,
    name: str,
    target: TargetEvidence | None,
    own: OwnComparison | None,
    reference: PooledReference | None,
) -> None:
    fit = target.fit if target else None
    tables = target.studies.tables if target else None
    point = figures.OwnPoint(own.name, own.counts) if own else None
    caption = f"SROC space, {name}."
    if own is not None or reference is not None:
        caption += " Crosses and the shaded box are 95 % intervals of each proportion separately."
    if fit is not None:
        caption += " The curve covers the false positive rates of the studies only."
        if fit.clusters is not None:
            caption += f" Regions {_CLUSTERED}."
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
    add: _Add,
    name: str,
    target: TargetEvidence | None,
    own: OwnComparison | None,
    reference: PooledReference | None,
    prevalence: float,
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
    if reference is not None:
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
    caption = f"Likelihood ratios, {name}, with the limits LR+ 10 and LR{_MINUS} 0.1."
    if reference is not None:
        caption += (
            " The bars of the review treat its two intervals as independent, since their covariance was not published."
        )
    add(
        f"likelihood_ratios_{name}",
        figures.likelihood_figure([] if target is None else target.studies.tables, points),
        f"Positive against negative likelihood ratios for {name}",
        caption,
        480,
    )


def _draw_studies(add: _Add, target: TargetEvidence, reference: PooledReference | None) -> None:
    name, fit = target.target, target.fit
    references = [] if reference is None else [_reference_row(reference)]
    add(
        f"forest_{name}",
        figures.forest_figure(target.studies.labels, target.studies.tables, fit, references),
        f"Forest plots of sensitivity and specificity for {name}",
        f"Forest plots, {name}. Squares: table with Wilson's interval; area in proportion "
        "(above a minimum) to its diseased (left) or "
        "healthy (right) subjects." + (f" Diamond: summary, {_CLUSTERED}." if fit is not None and fit.clusters else ""),
        900,
    )
    if target.deeks is not None:
        add(
            f"deeks_{name}",
            figures.deeks_figure(target.deeks),
            f"Deeks funnel plot for {name}",
            f"Deeks' funnel, {name}." + (" One point per study: the mean of its tables." if target.clusters else ""),
            420,
        )
    if target.omissions and fit is not None:
        add(
            f"leave_one_out_{name}",
            figures.leave_one_out_figure(target.omissions, fit),
            f"Leave-one-out summaries for {name}",
            f"Summary without each study, {name}. Line and band: summary of all studies, 95 % CI."
            + (f" All intervals {_CLUSTERED}." if fit.clusters else ""),
            700,
        )


def _reference_row(reference: PooledReference) -> tuple[str, Interval, Interval]:
    name = f"Wang 2025, {reference.models} models pooled"
    return name, reference.sensitivity, reference.specificity
