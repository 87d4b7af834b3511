"""From a table of studies to a report: what the literature says, and where one's own model stands in it."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from osteo_monai.domain import BoneStatus
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.publishing import json_ready
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics.meta_analysis.bivariate import (
    METHODS,
    BivariateFit,
    Method,
    SummaryPoint,
    fit_bivariate,
)
from osteo_monai.statistics.meta_analysis.heterogeneity import (
    Homogeneity,
    Univariate,
    ZhouDendukuri,
    higgins,
    midas_auc_interval,
    midas_pearson,
    univariate,
    zhou_dendukuri,
)
from osteo_monai.statistics.meta_analysis.inference import (
    Deeks,
    LikelihoodRatioTest,
    Omission,
    Subgroups,
    bootstrap,
    compare_subgroups,
    deeks,
    leave_one_out,
    meta_regression,
)
from osteo_monai.statistics.meta_analysis.reference import WANG_2025, PooledReference
from osteo_monai.statistics.meta_analysis.studies import (
    OwnTest,
    PrismaFlow,
    QuadasTable,
    StudyTable,
    count_predictions,
    parse_counts,
    read_prisma,
    read_quadas,
    read_studies,
)
from osteo_monai.statistics.proportions import Interval, wilson

Array = NDArray[np.float64]

_LEAVE_OUT_LIMIT = 150
"""Above so many tables one of them cannot move the summary, and refitting costs minutes."""
_MOST_LEVELS = 6
_NOTHING = Interval(math.nan, math.nan, math.nan)

__all__ = [
    "Evidence",
    "EvidenceOptions",
    "OwnComparison",
    "Regression",
    "TargetEvidence",
    "build_evidence",
    "compare_own",
    "evidence_facts",
    "write_tables",
]


@dataclass(frozen=True)
class EvidenceOptions:
    """What is asked of the evidence.

    Attributes:
        studies: CSV of 2 x 2 tables, or ``None`` for a comparison with the review alone.
        target: restricts the analysis to one target; all targets of the table where ``None``.
        own_counts: one's own test set as ``"TP,FP,FN,TN"`` for ``target`` (osteoporosis where that is ``None``).
        own_predictions: CSV of one's own predictions instead (``docs/predictions.md``).
        own_name: how one's own model is called; which one, where the predictions hold several. Empty: as in the file.
        own_cohort: which cohort of the predictions; ``test``, or the only one, where ``None``.
        own_threshold: of the score for ``target``; the predicted classes count where ``None``.
        method: of the bivariate model.
        prevalence: pre-test probability of the user's population.
        covariates: columns to test; every usable one where ``None``.
        replicates: of the bootstrap; 0 leaves it out.
        seed: of the bootstrap.
        quadas, prisma: files with QUADAS-2 judgements and PRISMA counts.

    Raises:
        ValueError: with every option that cannot be used.
    """

    studies: Path | None = None
    target: str | None = None
    own_counts: str | None = None
    own_predictions: Path | None = None
    own_name: str = ""
    own_cohort: str | None = None
    own_threshold: float | None = None
    method: Method = "binomial"
    prevalence: float = 0.20
    covariates: tuple[str, ...] | None = None
    replicates: int = 2000
    seed: int = 1
    quadas: Path | None = None
    prisma: Path | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.studies is None and self.own_counts is None and self.own_predictions is None:
            problems.append("a table of studies, own counts or own predictions must be given")
        if self.own_counts is not None and self.own_predictions is not None:
            problems.append("own counts and own predictions exclude one another")
        for name in ("own_cohort", "own_threshold"):
            if getattr(self, name) is not None and self.own_predictions is None:
                problems.append(f"{name.replace('_', ' ')} needs own predictions")
        if self.own_threshold is not None and not math.isfinite(self.own_threshold):
            problems.append(f"own threshold must be a finite number, got {self.own_threshold:g}")
        if self.method not in METHODS:
            problems.append(f"method must be one of {', '.join(METHODS)}, got '{self.method}'")
        if not 0 < self.prevalence < 1:
            problems.append(f"prevalence must lie between 0 and 1, got {self.prevalence:g}")
        if self.replicates and self.replicates < 100:
            problems.append(f"replicates must be 0 or at least 100, got {self.replicates}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, got {self.seed}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True)
class OwnComparison:
    """One's own test set for one target, and how it compares.

    Attributes:
        counts: (4,) TP, FP, FN, TN.
        sensitivity, specificity: with Wilson intervals.
        accuracy_ratios: the point from which likelihood ratios and post-test probabilities follow.
        reference: the review's pooled values, where it has this target.
        differences: own minus pooled sensitivity and specificity, Newcombe's interval from the two intervals.
        remarks: what must be known of the test set, in sentences.
        farther_out: probability that a new study's result lies farther from the summary than this one does, given the
            fitted between-study variance and both sampling errors; ``None`` without a fit.
    """

    target: str
    name: str
    counts: Array
    sensitivity: Interval
    specificity: Interval
    accuracy_ratios: SummaryPoint
    reference: PooledReference | None
    differences: tuple[Interval, Interval] | None
    farther_out: float | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Regression:
    """Meta-regression on one number; ``change`` is the odds ratio per unit of sensitivity and of specificity."""

    name: str
    tables: int
    change: tuple[Interval, Interval]
    test: LikelihoodRatioTest
    converged: bool


@dataclass
class TargetEvidence:
    """Everything that was found for one target. ``fit`` is ``None`` where ``notes`` says why there is none."""

    target: str
    studies: StudyTable
    fit: BivariateFit | None = None
    others: dict[str, BivariateFit] = field(default_factory=dict)
    auc: Interval = _NOTHING
    bootstrapped: tuple[Interval, Interval] | None = None
    bootstrap_used: int = 0
    midas_auc: Interval | None = None
    clustered: SummaryPoint | None = None
    clustered_bootstrap: tuple[Interval, Interval] | None = None
    homogeneity: tuple[Homogeneity, Homogeneity] | None = None
    pearson: tuple[Homogeneity, Homogeneity] | None = None
    apart: tuple[Univariate, Univariate] | None = None
    zhou: ZhouDendukuri | None = None
    deeks: Deeks | None = None
    omissions: list[Omission] = field(default_factory=list)
    subgroups: list[Subgroups] = field(default_factory=list)
    regressions: list[Regression] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def study_count(self) -> int:
        """Number of distinct studies."""
        return len(set(self.studies.studies))


@dataclass
class Evidence:
    """The whole: one entry per target, one's own results, quality and flow."""

    options: EvidenceOptions
    targets: dict[str, TargetEvidence]
    own: dict[str, OwnComparison]
    quadas: QuadasTable | None
    prisma: PrismaFlow | None


def build_evidence(options: EvidenceOptions) -> Evidence:
    """Read everything, fit everything.

    Raises:
        UnusableInputError: where a file cannot be used; all problems of all files in one message.
    """
    studies, own, quadas, prisma = _read_all(options)
    targets = {}
    if studies is not None:
        for name in [options.target] if options.target else studies.distinct_targets:
            targets[name] = _analyse(name, studies.of_target(name), options)
    comparisons = {
        name: compare_own(name, own.name, counts, targets[name].fit if name in targets else None, own.remarks)
        for name, counts in sorted(own.counts.items(), key=lambda item: [*WANG_2025, item[0]].index(item[0]))
    }
    return Evidence(options, targets, comparisons, quadas, prisma)


def _read_all(
    options: EvidenceOptions,
) -> tuple[StudyTable | None, OwnTest, QuadasTable | None, PrismaFlow | None]:
    problems: list[str] = []

    def read(reader: Any, path: Path | None, *arguments: Any) -> Any:
        try:
            return None if path is None else reader(path, *arguments)
        except UnusableInputError as error:
            problems.append(str(error))
            return None

    target = options.target or BoneStatus.OSTEOPOROSIS.value
    studies = read(read_studies, options.studies)
    own = read(
        count_predictions, options.own_predictions, options.own_name, options.own_cohort or "", options.target,
        options.own_threshold,
    ) or OwnTest(options.own_name or "own model", {})  # fmt: skip
    quadas, prisma = read(read_quadas, options.quadas), read(read_prisma, options.prisma)
    if options.own_counts is not None:
        try:
            own.counts[target] = parse_counts(options.own_counts)
        except ValueError as error:
            problems.append(str(error))
    if studies is not None:
        if options.target and options.target not in studies.distinct_targets:
            held = ", ".join(studies.distinct_targets)
            problems.append(f"no study has the target '{options.target}'; the table holds {held}")
        for name in options.covariates or ():
            if name not in studies.covariates:
                held = ", ".join(studies.covariates) or "no covariate"
                problems.append(f"there is no covariate '{name}'; the table holds {held}")
    if problems:
        raise UnusableInputError("\n".join(problems))
    return studies, own, quadas, prisma


# --- one target ---------------------------------------------------------------------------------------------------


def _analyse(target: str, studies: StudyTable, options: EvidenceOptions) -> TargetEvidence:
    found = TargetEvidence(target, studies)
    if len(studies) < 3:
        n = len(studies)
        found.notes.append(
            f"Nothing is pooled: {n} table{'s' if n > 1 else ''}, and the bivariate model has five parameters; "
            "it needs 3 tables at the very least."
        )
        return found
    if found.study_count == 1:
        found.notes.append("Nothing is pooled: all tables come from one study, which says nothing about others.")
        return found
    try:
        found.fit = fit_bivariate(studies.tables, options.method)
    except ValueError as error:
        found.notes.append(f"No pooled estimate: {error}.")
    if found.fit is not None:
        found.notes += found.fit.messages
        _ask_the_fit(found, found.fit, options)
    for method in METHODS:
        if method != options.method:
            try:
                found.others[method] = fit_bivariate(studies.tables, method)  # type: ignore[arg-type]
            except ValueError as error:
                found.notes.append(f"No estimate by '{method}': {error}.")
    _look_at_tables(found)
    _look_at_covariates(found, options)
    return found


def _ask_the_fit(found: TargetEvidence, fit: BivariateFit, options: EvidenceOptions) -> None:
    labels, clusters = found.studies.labels, found.studies.studies
    several = found.study_count < len(found.studies)
    found.auc = Interval(fit.auc, math.nan, math.nan)
    found.zhou = zhou_dendukuri(fit)
    if math.isfinite(fit.auc):
        found.midas_auc = midas_auc_interval(fit.auc, fit.level)
    if options.replicates:
        drawn = bootstrap(fit, options.replicates, options.seed)
        found.auc = drawn.auc_interval(fit)
        found.bootstrapped = drawn.sensitivity_interval(fit), drawn.specificity_interval(fit)
        found.bootstrap_used = len(drawn.means)
    if several and found.study_count >= 3:
        found.clustered = fit.summary(clusters=clusters)
        if options.replicates:
            drawn = bootstrap(fit, options.replicates, options.seed, clusters=clusters)
            found.clustered_bootstrap = drawn.sensitivity_interval(fit), drawn.specificity_interval(fit)
    elif several:
        found.notes.append(
            "Tables of one study are not independent; with fewer than 3 studies that cannot be allowed for."
        )
    if len(found.studies) > _LEAVE_OUT_LIMIT:
        found.notes.append(f"Leave-one-out is left out above {_LEAVE_OUT_LIMIT} tables.")
    elif len(found.studies) > 3:
        found.omissions = leave_one_out(fit, clusters if several else labels)


def _look_at_tables(found: TargetEvidence) -> None:
    tables = found.studies.tables
    found.homogeneity = higgins(tables)
    found.apart = univariate(tables)
    for name, function in (("pearson", midas_pearson), ("deeks", deeks)):
        try:
            setattr(found, name, function(tables))
        except ValueError as error:
            found.notes.append(f"{error}.")
    if found.deeks is not None and len(tables) < 10:
        found.notes.append("With fewer than 10 tables Deeks' test has next to no power.")


def _look_at_covariates(found: TargetEvidence, options: EvidenceOptions) -> None:
    method = "ml" if options.method == "reml" else options.method
    asked = options.covariates if options.covariates is not None else tuple(found.studies.covariates)
    for name in asked:
        values = found.studies.covariates[name]
        rows = [i for i, value in enumerate(values) if value]
        kept, tables = [values[i] for i in rows], found.studies.tables[rows]
        numbers = _as_numbers(kept)
        try:
            if numbers is not None and len(set(numbers)) > _MOST_LEVELS:
                found.regressions.append(_regression(name, tables, numbers, method))
            elif len(set(kept)) > _MOST_LEVELS:
                raise ValueError(f"'{name}' has {len(set(kept))} different words, more than {_MOST_LEVELS}")
            else:
                found.subgroups.append(compare_subgroups(tables, kept, name, method))  # type: ignore[arg-type]
        except ValueError as error:
            found.notes.append(f"Covariate '{name}' was not tested: {error}.")


def _as_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _regression(name: str, tables: Array, numbers: Sequence[float], method: str) -> Regression:
    x = np.asarray(numbers)
    scale = float(x.std())
    fit, test = meta_regression(tables, (x - x.mean()) / scale, method)  # type: ignore[arg-type]
    z = fit.summary([0.0]).quantile
    change = []
    for which in (0, 1):
        index = 2 * which + 1
        slope, se = fit.coefficients[which, 1] / scale, math.sqrt(fit.coefficient_cov[index, index]) / scale
        change.append(Interval(*(math.exp(slope + s * z * se) for s in (0, -1, 1))))
    return Regression(name, len(tables), (change[0], change[1]), test, fit.converged)


# --- one's own model ----------------------------------------------------------------------------------------------


def compare_own(
    target: str, name: str, counts: Array, fit: BivariateFit | None = None, remarks: tuple[str, ...] = ()
) -> OwnComparison:
    """Compare one test set with the review's pooled values, and with a fitted meta-analysis where there is one.

    Args:
        target: what the test is positive for.
        name: of the model.
        counts: (4,) TP, FP, FN, TN with at least one diseased and one healthy subject.
        fit: of the studies it is compared with; the test set must not be among them.
        remarks: what must be known of the test set.
    """
    tp, fp, fn, tn = counts
    se, sp = wilson(tp, tp + fn), wilson(tn, tn + fp)
    filled = counts + 0.5 * (counts == 0).any()
    own_logits = np.array([math.log(filled[0] / filled[2]), math.log(filled[3] / filled[1])])
    own_cov = np.diag([1 / filled[0] + 1 / filled[2], 1 / filled[3] + 1 / filled[1]])
    reference = WANG_2025.get(target)
    differences = None
    if reference is not None:
        differences = (_newcombe(se, reference.sensitivity), _newcombe(sp, reference.specificity))
    farther = None
    if fit is not None:
        summary = fit.summary()
        gap = own_logits - summary.mean
        farther = float(chi2.sf(gap @ np.linalg.solve(fit.psi + summary.cov + own_cov, gap), 2))
    return OwnComparison(
        target, name, counts, se, sp, SummaryPoint(own_logits, own_cov), reference, differences, farther, remarks
    )


def _newcombe(a: Interval, b: Interval) -> Interval:
    """Difference a - b with the interval squared together from the two intervals (Newcombe 1998, MOVER)."""
    d = a.value - b.value
    return Interval(
        d, d - math.hypot(a.value - a.low, b.high - b.value), d + math.hypot(a.high - a.value, b.value - b.low)
    )


# --- what is written ----------------------------------------------------------------------------------------------


def evidence_facts(evidence: Evidence) -> dict[str, float]:
    """Return the numbers worth tracking, finite ones only, by ``<target>_<what>``."""
    facts: dict[str, float] = {}
    for name, found in evidence.targets.items():
        facts[f"{name}_tables"] = float(len(found.studies))
        if found.fit is not None:
            s = found.fit.summary()
            facts |= {
                f"{name}_sensitivity": s.sensitivity.value,
                f"{name}_specificity": s.specificity.value,
                f"{name}_auc": found.auc.value,
                f"{name}_tau2_sensitivity": float(found.fit.tau2[0]),
                f"{name}_tau2_specificity": float(found.fit.tau2[1]),
                f"{name}_log_likelihood": found.fit.log_likelihood,
                f"{name}_converged": float(found.fit.converged),
            }
    for name, own in evidence.own.items():
        facts |= {f"own_{name}_sensitivity": own.sensitivity.value, f"own_{name}_specificity": own.specificity.value}
    return {key: value for key, value in facts.items() if math.isfinite(value)}


def write_tables(evidence: Evidence, folder: Path) -> list[Path]:
    """Write studies, summaries and own results as CSV, Markdown and LaTeX, and everything in ``evidence.json``."""
    written: list[Path] = []
    remarks = list(dict.fromkeys(remark for own in evidence.own.values() for remark in own.remarks))
    for name, header, rows, caption, notes in (
        ("studies", _STUDY_HEADER, list(_study_rows(evidence)), "Studies with Wilson's 95 % intervals.", []),
        ("summary", _SUMMARY_HEADER, list(_summary_rows(evidence)), "Summary of the studies.", []),
        ("own_model", _OWN_HEADER, list(_own_rows(evidence)),
         f"{next((own.name for own in evidence.own.values()), '')} beside the pooled values of Wang et al. 2025.",
         remarks),
    ):  # fmt: skip
        if rows:
            written += write_table(pd.DataFrame(rows, columns=list(header)), folder / name, caption, notes)
    path = folder / "evidence.json"
    path.write_text(json.dumps(_as_json(evidence), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return [*written, path]


_STUDY_HEADER = ("target", "study", "model", "TP", "FP", "FN", "TN", "sensitivity", "se_low", "se_high",
                 "specificity", "sp_low", "sp_high")  # fmt: skip
_SUMMARY_HEADER = ("target", "quantity", "estimate", "low", "high", "interval")
_OWN_HEADER = ("target", "quantity", "own", "own_low", "own_high", "review", "review_low", "review_high",
               "difference", "difference_low", "difference_high")  # fmt: skip

_Cell = str | float


def _study_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for found in evidence.targets.values():
        s = found.studies
        for study, model, (tp, fp, fn, tn) in zip(s.studies, s.models, s.tables, strict=True):
            se, sp = wilson(tp, tp + fn), wilson(tn, fp + tn)
            counts = (int(tp), int(fp), int(fn), int(tn))
            yield (found.target, study, model, *counts, se.value, se.low, se.high, sp.value, sp.low, sp.high)


def _summary_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for found in evidence.targets.values():
        if found.fit is None:
            continue
        for quantity, i, kind in summary_quantities(found, found.fit, evidence.options.prevalence):
            yield (found.target, quantity, i.value, i.low, i.high, kind)


def summary_quantities(found: TargetEvidence, fit: BivariateFit, prevalence: float) -> list[tuple[str, Interval, str]]:
    """Return the rows of the summary table: quantity, estimate with interval, what the interval is."""
    s, nan = fit.summary(), math.nan
    positive, negative = s.post_test(prevalence)
    predicted = fit.prediction_intervals
    rows = [
        ("sensitivity", s.sensitivity, "Wald, logit scale"),
        ("specificity", s.specificity, "Wald, logit scale"),
        ("sensitivity of a new study", predicted[0], "prediction, t with k - 2 df"),
        ("specificity of a new study", predicted[1], "prediction, t with k - 2 df"),
        ("area under the SROC curve", found.auc, "parametric bootstrap, percentiles"),
        ("LR+", s.positive_lr, "delta method, log scale"),
        ("LR-", s.negative_lr, "delta method, log scale"),
        ("diagnostic odds ratio", s.odds_ratio, "delta method, log scale"),
        (f"probability after a positive test, prevalence {prevalence:g}", positive, "from LR+"),
        (f"probability after a negative test, prevalence {prevalence:g}", negative, "from LR-"),
        ("between-study variance, logit sensitivity", Interval(float(fit.tau2[0]), nan, nan), ""),
        ("between-study variance, logit specificity", Interval(float(fit.tau2[1]), nan, nan), ""),
        ("between-study correlation", Interval(fit.correlation, nan, nan), ""),
    ]
    if found.clustered is not None:
        rows[2:2] = [
            ("sensitivity, clustered by study", found.clustered.sensitivity, "cluster-robust, t with G - 1 df"),
            ("specificity, clustered by study", found.clustered.specificity, "cluster-robust, t with G - 1 df"),
        ]
    return rows


def _own_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for own in evidence.own.values():
        r = own.reference
        pairs = (
            (own.sensitivity, r.sensitivity if r else _NOTHING),
            (own.specificity, r.specificity if r else _NOTHING),
        )
        for i, (word, (mine, theirs)) in enumerate(zip(("sensitivity", "specificity"), pairs, strict=True)):
            cells: list[_Cell] = [own.target, word]
            for one in (mine, theirs, own.differences[i] if own.differences else _NOTHING):
                cells += [one.value, one.low, one.high]
            yield tuple(cells)


def _as_json(evidence: Evidence) -> dict[str, Any]:
    o = evidence.options
    targets = {}
    for name, found in evidence.targets.items():
        entry: dict[str, Any] = {"tables": len(found.studies), "studies": found.study_count, "notes": found.notes}
        if found.fit is not None:
            fit = found.fit
            rows = summary_quantities(found, fit, o.prevalence)
            entry |= {
                "method": fit.method,
                "converged": fit.converged,
                "log_likelihood": fit.log_likelihood,
                "logits": fit.summary().mean,
                "covariance": fit.summary().cov,
                "psi": fit.psi,
                "summary": {quantity: i for quantity, i, _ in rows},
                "hsroc": None if fit.hsroc is None else vars(fit.hsroc),
                "i2_zhou_dendukuri": vars(found.zhou) if found.zhou else None,
                "by_other_methods": {
                    m: {"sensitivity": f.summary().sensitivity, "specificity": f.summary().specificity, "auc": f.auc}
                    for m, f in found.others.items()
                },
            }
        if found.homogeneity is not None:
            entry["i2_higgins_logit"] = [h.i2 for h in found.homogeneity]
            entry["univariate_reml"] = [vars(u) for u in found.apart or ()]
            entry["q"] = [{"q": h.q, "df": h.df, "p": h.p} for h in found.homogeneity]
        if found.pearson is not None:
            entry["i2_midas_pearson"] = [h.i2 for h in found.pearson]
        if found.deeks is not None:
            entry["deeks"] = {"slope": found.deeks.slope, "t": found.deeks.t, "df": found.deeks.df, "p": found.deeks.p}
        entry["subgroups"] = [
            {"name": s.name, "levels": s.levels, "tables": s.counts, "chi2": s.test.chi2, "df": s.test.df,
             "p": s.test.p,
             "sensitivity": [p.sensitivity for p in s.summaries], "specificity": [p.specificity for p in s.summaries]}
            for s in found.subgroups
        ]  # fmt: skip
        targets[name] = entry
    own = {
        name: {
            "name": one.name,
            "remarks": one.remarks,
            "counts": one.counts,
            "sensitivity": one.sensitivity,
            "specificity": one.specificity,
            "differences_to_review": one.differences,
            "post_test": one.accuracy_ratios.post_test(o.prevalence),
            "probability_farther_out": one.farther_out,
        }
        for name, one in evidence.own.items()
    }
    asked = {"method": o.method, "prevalence": o.prevalence, "replicates": o.replicates, "seed": o.seed}
    return json_ready({"schema": "osteo_monai evidence 1", "options": asked, "targets": targets, "own": own})
