"""Meta-analysis of each target, and what is compared with it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evidence.options import EvidenceOptions
from osteo_monai.reporting.evidence.own import NO_INTERVAL, OwnComparison, compare_own
from osteo_monai.statistics.meta_analysis.bivariate import METHODS, fit_bivariate
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint
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
    RegressionMethod,
    Subgroups,
    bootstrap,
    compare_subgroups,
    deeks,
    leave_one_out,
    meta_regression,
)
from osteo_monai.statistics.meta_analysis.reference import WANG_2025
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
from osteo_monai.statistics.proportions import Interval

__all__ = ["Evidence", "Regression", "TargetEvidence", "build_evidence"]

Array = NDArray[np.float64]

_LEAVE_OUT_LIMIT = 150
"""Leave-one-out is skipped above this number of tables: it takes minutes, and one table hardly changes the summary."""

_MOST_LEVELS = 6
"""A covariate with more different values is a number, or is not tested."""


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
    """Results for one target; ``notes`` gives the reason when ``fit`` is ``None``."""

    target: str
    studies: StudyTable
    fit: BivariateFit | None = None
    others: dict[str, BivariateFit] = field(default_factory=dict)
    auc: Interval = NO_INTERVAL
    bootstrapped: tuple[Interval, Interval] | None = None
    bootstrap_used: int = 0
    midas_auc: Interval | None = None
    clustered: SummaryPoint | None = None
    clustered_bootstrap: tuple[Interval, Interval] | None = None
    homogeneity: tuple[Homogeneity, Homogeneity] | None = None
    pearson: tuple[Homogeneity, Homogeneity] | None = None
    univariate: tuple[Univariate, Univariate] | None = None
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


@dataclass(frozen=True)
class Evidence:
    """Results by target, comparisons of the user's model, study quality and flow of the search."""

    options: EvidenceOptions
    targets: dict[str, TargetEvidence]
    own: dict[str, OwnComparison]
    quadas: QuadasTable | None
    prisma: PrismaFlow | None


def build_evidence(options: EvidenceOptions) -> Evidence:
    """Read the files and fit the model of each target.

    Args:
        options: files and settings.

    Raises:
        UnusableInputError: lists all problems of all files.

    Example:
        >>> evidence = build_evidence(EvidenceOptions(own_counts="45,20,5,180", own_name="model", replicates=0))
        >>> own = evidence.own["osteoporosis"]
        >>> round(own.sensitivity.value, 2), own.reference.models
        (0.9, 39)
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


_T = TypeVar("_T")


def _read_all(
    options: EvidenceOptions,
) -> tuple[StudyTable | None, OwnTest, QuadasTable | None, PrismaFlow | None]:
    problems: list[str] = []

    def read(reader: Callable[[Path], _T], path: Path | None) -> _T | None:
        try:
            return None if path is None else reader(path)
        except UnusableInputError as error:
            problems.append(str(error))
            return None

    def read_own(path: Path) -> OwnTest:
        return count_predictions(
            path, options.own_name, options.own_cohort or "", options.target, options.own_threshold
        )

    studies = read(read_studies, options.studies)
    own = read(read_own, options.own_predictions) or OwnTest(options.own_name or "own model", {})
    quadas, prisma = read(read_quadas, options.quadas), read(read_prisma, options.prisma)
    if options.own_counts is not None:
        try:
            counts = parse_counts(options.own_counts)
            own = replace(own, counts={options.target or BoneStatus.OSTEOPOROSIS.value: counts})
        except ValueError as error:
            problems.append(str(error))
    if studies is not None:
        problems += _unknown_names(studies, options)
    if problems:
        raise UnusableInputError("\n".join(problems))
    return studies, own, quadas, prisma


def _unknown_names(studies: StudyTable, options: EvidenceOptions) -> list[str]:
    problems = []
    if options.target and options.target not in studies.distinct_targets:
        problems.append(f"target must be one of {', '.join(studies.distinct_targets)}, got '{options.target}'")
    available = ", ".join(studies.covariates) or "none"
    for name in options.covariates or ():
        if name not in studies.covariates:
            problems.append(f"covariate must be one of the table ({available}), got '{name}'")
    return problems


def _analyse(name: str, studies: StudyTable, options: EvidenceOptions) -> TargetEvidence:
    target = TargetEvidence(name, studies)
    if len(studies) < 3:
        n = len(studies)
        target.notes.append(
            f"Nothing is pooled: the bivariate model needs at least 3 tables, got {n} table{'s' if n > 1 else ''}."
        )
        return target
    if target.study_count == 1:
        target.notes.append("Nothing is pooled: all tables come from one study.")
        return target
    try:
        target.fit = fit_bivariate(studies.tables, options.method)
    except ValueError as error:
        target.notes.append(f"No pooled estimate: {error}.")
    if target.fit is not None:
        target.notes += target.fit.messages
        _add_fit_results(target, target.fit, options)
    for method in METHODS:
        if method != options.method:
            try:
                target.others[method] = fit_bivariate(studies.tables, method)
            except ValueError as error:
                target.notes.append(f"No estimate by '{method}': {error}.")
    _add_table_statistics(target)
    _add_covariates(target, options)
    return target


def _add_fit_results(target: TargetEvidence, fit: BivariateFit, options: EvidenceOptions) -> None:
    labels, clusters = target.studies.labels, target.studies.studies
    several = target.study_count < len(target.studies)
    target.auc = Interval(fit.auc, math.nan, math.nan)
    target.zhou = zhou_dendukuri(fit)
    if math.isfinite(fit.auc):
        target.midas_auc = midas_auc_interval(fit.auc, fit.level)
    if options.replicates:
        resampled = bootstrap(fit, options.replicates, options.seed)
        target.auc = resampled.auc_interval(fit)
        target.bootstrapped = resampled.sensitivity_interval(fit), resampled.specificity_interval(fit)
        target.bootstrap_used = len(resampled.means)
    if several and target.study_count >= 3:
        target.clustered = fit.summary(clusters=clusters)
        if options.replicates:
            resampled = bootstrap(fit, options.replicates, options.seed, clusters=clusters)
            target.clustered_bootstrap = resampled.sensitivity_interval(fit), resampled.specificity_interval(fit)
    elif several:
        target.notes.append(
            "Tables of one study are not independent; with fewer than 3 studies no correction is possible."
        )
    if len(target.studies) > _LEAVE_OUT_LIMIT:
        target.notes.append(f"Leave-one-out is skipped above {_LEAVE_OUT_LIMIT} tables.")
    elif len(target.studies) > 3:
        target.omissions = leave_one_out(fit, clusters if several else labels)


def _add_table_statistics(target: TargetEvidence) -> None:
    tables = target.studies.tables
    target.homogeneity = higgins(tables)
    target.univariate = univariate(tables)
    try:
        target.pearson = midas_pearson(tables)
    except ValueError as error:
        target.notes.append(f"{error}.")
    try:
        target.deeks = deeks(tables)
    except ValueError as error:
        target.notes.append(f"{error}.")
    if target.deeks is not None and len(tables) < 10:
        target.notes.append("With fewer than 10 tables Deeks' test has little power.")


def _add_covariates(target: TargetEvidence, options: EvidenceOptions) -> None:
    method: RegressionMethod = "binomial" if options.method == "binomial" else "ml"
    names = options.covariates if options.covariates is not None else tuple(target.studies.covariates)
    for name in names:
        values = target.studies.covariates[name]
        rows = [i for i, value in enumerate(values) if value]
        present, tables = [values[i] for i in rows], target.studies.tables[rows]
        numbers = _as_numbers(present)
        try:
            if numbers is not None and len(set(numbers)) > _MOST_LEVELS:
                target.regressions.append(_regression(name, tables, numbers, method))
            elif len(set(present)) > _MOST_LEVELS:
                raise ValueError(f"'{name}' has {len(set(present))} different values, more than {_MOST_LEVELS}")
            else:
                target.subgroups.append(compare_subgroups(tables, present, name, method))
        except ValueError as error:
            target.notes.append(f"Covariate '{name}' was not tested: {error}.")


def _as_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _regression(name: str, tables: Array, numbers: Sequence[float], method: RegressionMethod) -> Regression:
    x = np.asarray(numbers)
    scale = float(x.std())
    fit, test = meta_regression(tables, (x - x.mean()) / scale, method)
    z = fit.summary([0.0]).quantile
    change = []
    for which in (0, 1):
        index = 2 * which + 1
        slope, se = fit.coefficients[which, 1] / scale, math.sqrt(fit.coefficient_cov[index, index]) / scale
        change.append(Interval(*(math.exp(slope + s * z * se) for s in (0, -1, 1))))
    return Regression(name, len(tables), (change[0], change[1]), test, fit.converged)
