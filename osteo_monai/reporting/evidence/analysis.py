"""Meta-analysis of each target, and what is compared with it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TypeVar

from osteo_monai.domain import BoneStatus
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evidence.options import EvidenceOptions
from osteo_monai.reporting.evidence.own import NO_INTERVAL, OwnComparison, compare_own
from osteo_monai.statistics.meta_analysis.bivariate import METHODS, fit_bivariate
from osteo_monai.statistics.meta_analysis.covariates import (
    CovariateModel,
    RegressionMethod,
    Subgroups,
    compare_subgroups,
    model_covariates,
)
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
from osteo_monai.statistics.meta_analysis.inference import Deeks, Omission, bootstrap, deeks, leave_one_out
from osteo_monai.statistics.meta_analysis.influence import Influence, study_influence
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
from osteo_monai.statistics.meta_analysis.three_level import ThreeLevelFit, fit_three_levels
from osteo_monai.statistics.proportions import Interval

__all__ = ["FEW_STUDIES", "Evidence", "TargetEvidence", "build_evidence"]

_LEAVE_OUT_LIMIT = 150
"""Leave-one-out and the three-level model are skipped above this number of tables, since they take minutes."""

_ORDER = (BoneStatus.OSTEOPOROSIS.value, BoneStatus.OSTEOPENIA.value, BoneStatus.NORMAL.value)

_MOST_LEVELS = 6
"""A covariate with more different values is a number, or is not tested."""

FEW_STUDIES = 10
"""Below this number the report warns: variances between studies and Deeks' test are then unreliable."""


@dataclass
class TargetEvidence:
    """Results for one target; ``notes`` gives the reason when ``fit`` is ``None``.

    All intervals are those to report: clustered by study if several tables share one. ``independent`` is the same fit
    with all tables taken as independent, and ``three_level`` the model with both levels; both are ``None`` if the
    tables are independent.
    """

    target: str
    studies: StudyTable
    fit: BivariateFit | None = None
    independent: BivariateFit | None = None
    three_level: ThreeLevelFit | None = None
    others: dict[str, BivariateFit] = field(default_factory=dict)
    auc: Interval = NO_INTERVAL
    bootstrapped: tuple[Interval, Interval] | None = None
    bootstrap_used: int = 0
    midas_auc: Interval | None = None
    homogeneity: tuple[Homogeneity, Homogeneity] | None = None
    pearson: tuple[Homogeneity, Homogeneity] | None = None
    univariate: tuple[Univariate, Univariate] | None = None
    zhou: ZhouDendukuri | None = None
    deeks: Deeks | None = None
    omissions: list[Omission] = field(default_factory=list)
    influence: list[Influence] = field(default_factory=list)
    without_outliers: SummaryPoint | None = None
    subgroups: list[Subgroups] = field(default_factory=list)
    regressions: list[tuple[int, CovariateModel]] = field(default_factory=list)
    joint: tuple[int, CovariateModel] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def study_count(self) -> int:
        """Number of distinct studies."""
        return len(set(self.studies.studies))

    @property
    def clusters(self) -> tuple[str, ...] | None:
        """(k,) study of each table if several tables share one, else ``None``."""
        return self.studies.studies if self.study_count < len(self.studies) else None

    @property
    def labels(self) -> tuple[str, ...]:
        """(k,) name of the unit of each table: its study, or study and model if each study has one table."""
        return self.clusters or self.studies.labels


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
        >>> evidence = build_evidence(EvidenceOptions(own_counts="45,20,5,180", reference="wang2025"))
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
        name: compare_own(
            name,
            own.name,
            counts,
            targets[name].fit if name in targets else None,
            own.remarks,
            options.pooled_reference(name),
        )
        for name, counts in sorted(own.counts.items(), key=lambda item: [*_ORDER, item[0]].index(item[0]))
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
    for name in options.covariates:
        if name not in studies.covariates:
            problems.append(f"covariate must be one of the table ({available}), got '{name}'")
    return problems


def _analyse(name: str, studies: StudyTable, options: EvidenceOptions) -> TargetEvidence:
    target = TargetEvidence(name, studies)
    _pool(target, options)
    if any(studies.rebuilt):
        target.notes.append(
            f"{sum(studies.rebuilt)} of {len(studies)} tables are rebuilt from printed proportions: their studies "
            "print no counts."
        )
    return target


def _pool(target: TargetEvidence, options: EvidenceOptions) -> None:
    studies = target.studies
    if target.study_count < 3:
        n, k = len(studies), target.study_count
        target.notes.append(
            f"Nothing is pooled: the bivariate model needs tables of at least 3 studies, got {n} "
            f"table{'s' if n > 1 else ''} of {k} stud{'ies' if k > 1 else 'y'}."
        )
        return
    try:
        fit = fit_bivariate(studies.tables, options.method)
        target.fit = fit.reported(target.clusters)
        target.independent = fit.reported() if target.clusters is not None else None
    except ValueError as error:
        target.notes.append(f"No pooled estimate: {error}.")
    if target.fit is not None:
        target.notes += target.fit.messages
        target.notes += _cautions(target.study_count)
        _add_three_levels(target, options)
        _add_fit_results(target, target.fit, options)
    for method in METHODS:
        if method != options.method:
            try:
                target.others[method] = fit_bivariate(studies.tables, method).reported(target.clusters)
            except ValueError as error:
                target.notes.append(f"No estimate by '{method}': {error}.")
    _add_table_statistics(target)
    _add_covariates(target, options)


def _add_three_levels(target: TargetEvidence, options: EvidenceOptions) -> None:
    if target.clusters is None or len(target.studies) > _LEAVE_OUT_LIMIT:
        return
    try:
        target.three_level = fit_three_levels(target.studies.tables, target.clusters, options.method)
    except ValueError as error:
        target.notes.append(f"No three-level model: {error}.")


def _cautions(studies: int) -> list[str]:
    if studies >= FEW_STUDIES:
        return []
    return [
        f"{studies} studies estimate variances and correlation between studies poorly: read the intervals of t "
        "quantiles, not the curve and the area."
    ]


def _add_fit_results(target: TargetEvidence, fit: BivariateFit, options: EvidenceOptions) -> None:
    target.auc = Interval(fit.auc, math.nan, math.nan)
    target.zhou = zhou_dendukuri(fit)
    if math.isfinite(fit.auc):
        target.midas_auc = midas_auc_interval(fit.auc, fit.level)
    if options.replicates:
        resampled = bootstrap(fit, options.replicates, options.seed)
        target.auc = resampled.auc_interval(fit)
        target.bootstrapped = resampled.sensitivity_interval(fit), resampled.specificity_interval(fit)
        target.bootstrap_used = len(resampled.means)
    if len(target.studies) > _LEAVE_OUT_LIMIT:
        target.notes.append(f"Leave-one-out and three levels are skipped above {_LEAVE_OUT_LIMIT} tables.")
    elif target.study_count > 3:
        target.omissions = leave_one_out(fit, target.labels)
        target.influence = study_influence(fit, target.omissions, target.labels)
        _refit_without_outliers(target, fit)


def _refit_without_outliers(target: TargetEvidence, fit: BivariateFit) -> None:
    outliers = {one.study for one in target.influence if one.outlier}
    kept = [label not in outliers for label in target.labels]
    if not outliers or len({label for label in target.labels if label not in outliers}) < 3:
        return
    clusters = None if target.clusters is None else list(compress(target.clusters, kept))
    try:
        refit = fit_bivariate(fit.tables[kept], fit.method)
        refit = refit.reported() if clusters is None else refit.clustered(clusters)
        target.without_outliers = refit.summary()
    except ValueError as error:
        target.notes.append(f"No estimate without outliers: {error}.")


def _add_table_statistics(target: TargetEvidence) -> None:
    tables, clusters = target.studies.tables, target.clusters
    target.homogeneity = higgins(tables, clusters=clusters)
    target.univariate = univariate(tables, clusters=clusters)
    try:
        target.pearson = midas_pearson(tables, clusters=clusters)
    except ValueError as error:
        target.notes.append(f"{error}.")
    try:
        target.deeks = deeks(tables, clusters)
    except ValueError as error:
        target.notes.append(f"{error}.")
    if target.deeks is not None and target.study_count < FEW_STUDIES:
        target.notes.append("With fewer than 10 studies Deeks' test has little power.")


def _add_covariates(target: TargetEvidence, options: EvidenceOptions) -> None:
    method: RegressionMethod = "binomial" if options.method == "binomial" else "ml"
    for name in options.covariates:
        try:
            _add_covariate(target, name, method)
        except ValueError as error:
            target.notes.append(f"Covariate '{name}' was not tested: {error}.")
    if len(options.covariates) > 1:
        try:
            target.joint = _model(target, options.covariates, method)
        except ValueError as error:
            target.notes.append(f"No model with all covariates: {error}.")
    if others := [name for name in target.studies.covariates if name not in options.covariates]:
        target.notes.append(f"Columns not tested as covariates: {', '.join(others)}.")


def _add_covariate(target: TargetEvidence, name: str, method: RegressionMethod) -> None:
    values = target.studies.covariates[name]
    rows = [i for i, value in enumerate(values) if value]
    present = [values[i] for i in rows]
    if _is_number(present):
        target.regressions.append(_model(target, (name,), method))
    elif len(set(present)) > _MOST_LEVELS:
        raise ValueError(f"'{name}' has {len(set(present))} different values, more than {_MOST_LEVELS}")
    else:
        clusters = None if target.clusters is None else [target.clusters[i] for i in rows]
        tables = target.studies.tables[rows]
        target.subgroups.append(compare_subgroups(tables, present, name, method, clusters=clusters))


def _model(target: TargetEvidence, names: Sequence[str], method: RegressionMethod) -> tuple[int, CovariateModel]:
    """Return the number of tables with all covariates, and the model of these tables."""
    columns = [target.studies.covariates[name] for name in names]
    rows = [i for i in range(len(target.studies)) if all(column[i] for column in columns)]
    values: dict[str, list[str] | list[float]] = {}
    for name, column in zip(names, columns, strict=True):
        present = [column[i] for i in rows]
        if not _is_number(present) and len(set(present)) > _MOST_LEVELS:
            raise ValueError(f"'{name}' has {len(set(present))} different values, more than {_MOST_LEVELS}")
        values[name] = [float(value) for value in present] if _is_number(present) else present
    clusters = None if target.clusters is None else [target.clusters[i] for i in rows]
    return len(rows), model_covariates(target.studies.tables[rows], values, method, clusters=clusters)


def _is_number(values: Sequence[str]) -> bool:
    """Return whether a column is a number: more different finite values than a category may have levels."""
    try:
        numbers = {float(value) for value in values}
    except ValueError:
        return False
    return len(numbers) > _MOST_LEVELS and all(math.isfinite(number) for number in numbers)
