"""The evidence report: one self-contained HTML file, with its figures and tables beside it for a paper."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from osteo_monai.reporting.evidence import figures
from osteo_monai.reporting.evidence.evidence import (
    Evidence,
    EvidenceOptions,
    OwnComparison,
    TargetEvidence,
    build_evidence,
    summary_quantities,
    write_tables,
)
from osteo_monai.reporting.publishing import Picture, publish_figure, report_template
from osteo_monai.statistics.meta_analysis.bivariate import METHODS
from osteo_monai.statistics.meta_analysis.reference import (
    WANG_2025,
    WANG_2025_CONTRADICTIONS,
    auc_interval_checks,
    fagan_check,
    subgroup_checks,
)
from osteo_monai.statistics.proportions import Interval

__all__ = ["write_evidence"]

_EN_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def write_evidence(
    options: EvidenceOptions, output: Path, version: str = "", on_stage: Callable[[str], None] = lambda _: None
) -> Evidence:
    """Analyse the evidence and write ``report.html``, ``evidence.json``, CSV and LaTeX tables, and ``figures/``.

    Args:
        options: what is asked.
        output: folder, made if missing; files of the same names are replaced.
        version: of the program, printed in the report.
        on_stage: called with the name of each stage.

    Raises:
        UnusableInputError: where an input file cannot be used; nothing is written then.
        OSError: where ``output`` cannot be written.
    """
    on_stage("reading and fitting")
    evidence = build_evidence(options)
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    on_stage("tables")
    write_tables(evidence, output)
    on_stage("figures")
    pictures = _pictures(evidence, folder)
    on_stage("report")
    template = report_template("evidence.html.j2", points=_points, percent=_percent, share=_share)
    html = template.render(_context(evidence, pictures, version))
    (output / "report.html").write_text(html, encoding="utf-8")
    return evidence


# --- how numbers are printed --------------------------------------------------------------------------------------


def _percent(i: Interval) -> str:
    if not math.isfinite(i.low):
        return f"{100 * i.value:.1f} %"
    return f"{100 * i.value:.1f} % ({100 * i.low:.1f}{_EN_DASH}{100 * i.high:.1f})"


def _points(i: Interval) -> str:
    low, value, high = (f"{100 * v:+.1f}".replace("-", _MINUS) for v in (i.low, i.value, i.high))
    return f"{value} ({low} to {high})"


def _name(path: Path | None) -> str:
    return path.name if path is not None else "nowhere"


def _share(p: float) -> str:
    return "fewer than 1 %" if p < 0.01 else f"{100 * p:.0f} %"


# --- pictures -----------------------------------------------------------------------------------------------------


def _pictures(evidence: Evidence, folder: Path) -> dict[str, Picture]:
    drawn: dict[str, Picture] = {}

    def add(name: str, figure: Figure, alt: str, caption: str, width: int) -> None:
        drawn[name] = publish_figure(figure, folder, name, alt, caption, width)

    prevalence = evidence.options.prevalence
    for target in dict.fromkeys([*evidence.targets, *evidence.own]):
        found, own = evidence.targets.get(target), evidence.own.get(target)
        _draw_target(add, target, found, own, prevalence)
    if evidence.quadas is not None:
        add("quadas2", figures.quadas_figure(evidence.quadas), "QUADAS-2 judgements per domain and per study",
            f"QUADAS-2 from {_name(evidence.options.quadas)}: studies per domain (above) and each study's judgements. "
            "Domains that nobody judged are left out.", 640)  # fmt: skip
    if evidence.prisma is not None:
        add("prisma", figures.prisma_figure(evidence.prisma), "PRISMA flow diagram",
            f"PRISMA flow of the search, from {_name(evidence.options.prisma)}.", 600)  # fmt: skip
    return drawn


def _draw_target(
    add: Callable[[str, Figure, str, str, int], None],
    target: str,
    found: TargetEvidence | None,
    own: OwnComparison | None,
    prevalence: float,
) -> None:
    fit = found.fit if found else None
    reference = WANG_2025.get(target)
    tables = found.studies.tables if found else None
    point = figures.OwnPoint(own.name, own.counts) if own else None
    add(f"sroc_{target}", figures.sroc_figure(tables, fit, found.auc if found else None, reference, point),
        f"Sensitivity against 1 minus specificity for {target}",
        f"SROC space, {target}. Crosses and the shaded box are 95 % intervals of each proportion alone. "
        + ("The curve covers the false positive rates of the studies only. " if fit is not None else "")
        + ("The review published neither its curve nor its regions as numbers, so its pooled point stands alone."
           if reference is not None else ""), 480)  # fmt: skip
    points = []
    if fit is not None:
        s = fit.summary()
        points.append(("summary, 95 % CI", "s", figures.ORANGE, s.positive_lr, s.negative_lr))
        add(
            f"fagan_{target}",
            figures.fagan_figure(prevalence, s),
            f"Fagan nomogram for {target}",
            f"Fagan nomogram of the summary, {target}, at the prevalence given. Shaded: 95 % CI of the ratio.",
            400,
        )
    if reference is not None:
        r = reference.point
        points.append(("Wang 2025 pooled", "D", figures.PURPLE, r.positive_lr, r.negative_lr))
    if own is not None:
        a = own.accuracy_ratios
        points.append((own.name, "*", figures.GREEN, a.positive_lr, a.negative_lr))
        add(
            f"fagan_own_{target}",
            figures.fagan_figure(prevalence, a),
            f"Fagan nomogram of {own.name} for {target}",
            f"Fagan nomogram of {own.name}, {target}. Shaded: 95 % CI of the ratio.",
            400,
        )
    add(f"likelihood_ratios_{target}", figures.likelihood_figure([] if tables is None else tables, points),
        f"Positive against negative likelihood ratios for {target}",
        f"Likelihood ratios, {target}, with the limits LR+ 10 and LR{_MINUS} 0.1. The review's bars take its two "
        "intervals as independent, since their covariance was not published.", 480)  # fmt: skip
    if found is None:
        return
    references = []
    if reference is not None:
        name = f"Wang 2025, {reference.models} models pooled"
        references.append((name, reference.sensitivity, reference.specificity))
    add(
        f"forest_{target}",
        figures.forest_figure(found.studies.labels, found.studies.tables, fit, references),
        f"Forest plots of sensitivity and specificity for {target}",
        f"Forest plots, {target}. Squares: study with Wilson interval, area grows with its subjects.",
        900,
    )
    if found.deeks is not None:
        add(f"deeks_{target}", figures.deeks_figure(found.deeks), f"Deeks funnel plot for {target}",
            f"Deeks' funnel, {target}.", 420)  # fmt: skip
    if found.omissions and fit is not None:
        add(f"leave_one_out_{target}", figures.leave_one_out_figure(found.omissions, fit),
            f"Leave-one-out summaries for {target}",
            f"Summary without each study, {target}. Line and band: summary of all, 95 % CI.", 700)  # fmt: skip


# --- context ------------------------------------------------------------------------------------------------------


def _verdict(difference: Interval, word: str) -> str:
    if difference.low > 0:
        return f"{word} lies above the review's mean"
    if difference.high < 0:
        return f"{word} lies below the review's mean"
    return f"{word} cannot be told from the review's mean"


def _context(evidence: Evidence, pictures: dict[str, Picture], version: str) -> dict[str, Any]:
    o = evidence.options
    own = []
    for one in evidence.own.values():
        verdict = ""
        if one.differences is not None:
            words = ("sensitivity", "specificity")
            verdict = "; ".join(_verdict(d, w) for d, w in zip(one.differences, words, strict=True))
            verdict = verdict[0].upper() + verdict[1:] + "."
        positive, negative = one.accuracy_ratios.post_test(o.prevalence)
        theirs = one.reference.point.post_test(o.prevalence) if one.reference else None
        own.append({"it": one, "verdict": verdict, "positive": positive, "negative": negative, "theirs": theirs})
    targets = []
    for found in evidence.targets.values():
        rows = summary_quantities(found, found.fit, o.prevalence) if found.fit is not None else []
        targets.append({"it": found, "rows": rows})
    return {
        "own": own,
        "targets": targets,
        "pictures": pictures,
        "options": o,
        "method_words": METHODS[o.method],
        "short_methods": {"binomial": "exact binomial", "reml": "normal, REML", "ml": "normal, ML"},
        "wang": WANG_2025,
        "fagan": fagan_check(),
        "subgroup_checks": subgroup_checks(),
        "auc_checks": auc_interval_checks(),
        "contradictions": WANG_2025_CONTRADICTIONS,
        "version": version,
        "source": o.studies.name if o.studies else "",
    }
