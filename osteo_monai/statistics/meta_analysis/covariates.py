"""Subgroups and meta-regression: covariates of the studies, one at a time or in one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis.bivariate import fit_bivariate
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint
from osteo_monai.statistics.meta_analysis.tables import checked_tables
from osteo_monai.statistics.proportions import Interval

Array = NDArray[np.float64]
RegressionMethod = Literal["binomial", "ml"]

__all__ = [
    "CovariateModel",
    "Effect",
    "LikelihoodRatioTest",
    "Subgroups",
    "Term",
    "WaldTest",
    "compare_subgroups",
    "meta_regression",
    "model_covariates",
]


@dataclass(frozen=True)
class LikelihoodRatioTest:
    """A likelihood-ratio test of the joint model against the one without the covariate.

    ``midas_i2`` is what midas prints as I2 of a covariate: max(0, (chi2 - df) / chi2), which is the test statistic on
    another scale.
    """

    chi2: float
    df: int

    @property
    def p(self) -> float:
        """Probability of a larger chi2."""
        return float(chi2.sf(self.chi2, self.df))

    @property
    def midas_i2(self) -> float:
        """The test statistic as midas prints it."""
        return max(0.0, (self.chi2 - self.df) / self.chi2) if self.chi2 > 0 else 0.0


@dataclass(frozen=True)
class WaldTest:
    """An F test of coefficients: ``f`` with ``df`` and ``df_within`` degrees of freedom."""

    f: float
    df: int
    df_within: int

    @property
    def p(self) -> float:
        """Probability of a larger F."""
        return float(f_distribution.sf(self.f, self.df, self.df_within))


def _wald(fit: BivariateFit, rows: Sequence[int]) -> WaldTest:
    """Test that coefficients, numbered with those of sensitivity first, are zero.

    Independent tables: W / q with q and k - p degrees of freedom. Clusters: Hotelling's form W (G - q) / (q (G - 1)).
    """
    q, k = len(rows), fit.n_studies
    b = fit.coefficients.reshape(-1)[list(rows)]
    w = float(b @ np.linalg.solve(fit.coefficient_covariance[np.ix_(rows, rows)], b))
    if fit.clusters is None:
        within, f = k - fit.design.shape[1], w / q
    else:
        within, f = k - q, w * (k - q) / (q * (k - 1))
    if within < 1:
        raise NotEstimableError(f"{k} studies are too few to test {q} coefficients")
    return WaldTest(f, q, within)


def meta_regression(
    tables: ArrayLike, covariates: ArrayLike, method: RegressionMethod = "binomial", level: float = 0.95
) -> tuple[BivariateFit, LikelihoodRatioTest]:
    """Fit the model with covariates on both logits, and test them jointly. All tables are taken as independent.

    Args:
        tables: (k, 4).
        covariates: (k, q); preferably centred numbers, or indicator columns of categories.
        method: without REML, whose likelihoods with different covariates are not comparable.
        level: confidence level.

    Returns:
        The joint model, and the test with 2q degrees of freedom.

    Raises:
        ValueError: on another method, or tables or covariates that cannot be used.
    """
    if method not in ("binomial", "ml"):
        raise ValueError(f"method must be 'binomial' or 'ml' for a likelihood-ratio test, got '{method}'")
    x = np.asarray(covariates, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    null = fit_bivariate(tables, method, level=level)
    joint = fit_bivariate(tables, method, covariates=x, level=level)
    return joint, _likelihood_ratio(joint, null, 2 * x.shape[1])


def _likelihood_ratio(joint: BivariateFit, null: BivariateFit, df: int) -> LikelihoodRatioTest:
    return LikelihoodRatioTest(max(2 * (joint.log_likelihood - null.log_likelihood), 0.0), df)


@dataclass(frozen=True)
class Subgroups:
    """Summary per level of a category from one joint model (common Psi).

    Attributes:
        name: of the category.
        levels: its values.
        counts: tables of each level.
        summaries: of each level.
        test: of both margins jointly: likelihood ratio, or robust Wald if several tables share a study.
        apart: Wald tests of sensitivity and of specificity separately.
        converged: whether the maximum was reached.
    """

    name: str
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    summaries: tuple[SummaryPoint, ...]
    test: LikelihoodRatioTest | WaldTest
    apart: tuple[WaldTest, WaldTest]
    converged: bool


def compare_subgroups(
    tables: ArrayLike,
    categories: Sequence[str],
    name: str = "subgroup",
    method: RegressionMethod = "binomial",
    level: float = 0.95,
    clusters: Sequence[object] | None = None,
) -> Subgroups:
    """Compare the summary sensitivity and specificity of subgroups jointly and separately.

    Args:
        tables: (k, 4) TP, FP, FN, TN.
        categories: (k,) subgroup of each table.
        name: of the category, for messages.
        method: likelihood, see ``meta_regression``.
        level: confidence level.
        clusters: (k,) study of each table, if several tables share one.

    Raises:
        NotEstimableError: if a subgroup has a sensitivity or specificity of 0 or 1 (exact likelihood), or there are too
            few studies.
        ValueError: on fewer than two levels, or fewer than 2 tables in one.
    """
    cells = checked_tables(tables)
    if len(categories) != len(cells):
        raise ValueError(f"categories must have a label for each of the {len(cells)} tables, got {len(categories)}")
    levels = tuple(sorted(set(categories)))
    counts = tuple(sum(c == value for c in categories) for value in levels)
    if len(levels) < 2 or min(counts) < 2:
        raise ValueError(
            f"'{name}' must have at least two levels with 2 tables each, got "
            + ", ".join(f"{value}: {n}" for value, n in zip(levels, counts, strict=True))
        )
    if method == "binomial":
        _refuse_separated_levels(cells, categories, levels)
    joint, test = meta_regression(cells, _indicators(categories, levels), method, level)
    joint = joint.reported(clusters)
    rows = np.vstack([np.zeros(len(levels) - 1), np.eye(len(levels) - 1)])
    margins = _margin_rows(range(1, len(levels)), len(levels))
    return Subgroups(
        name,
        levels,
        counts,
        tuple(joint.summary(row) for row in rows),
        test if joint.clusters is None else _wald(joint, [*margins[0], *margins[1]]),
        (_wald(joint, margins[0]), _wald(joint, margins[1])),
        joint.converged,
    )


def _refuse_separated_levels(cells: Array, categories: Sequence[str], levels: Sequence[str]) -> None:
    labels = np.array(categories)
    for value in levels:
        tp, fp, fn, tn = cells[labels == value].sum(axis=0)
        for margin, events, failures in (("sensitivity", tp, fn), ("specificity", tn, fp)):
            if 0 in (events, failures):
                raise NotEstimableError(
                    f"all tables of '{value}' have {margin} {int(failures == 0)} ({events:.0f} of "
                    f"{events + failures:.0f}), so that the exact likelihood has no finite maximum"
                )


def _indicators(values: Sequence[str], levels: Sequence[str]) -> Array:
    return np.array([[float(v == level) for level in levels[1:]] for v in values])


def _margin_rows(columns: Sequence[int], p: int) -> tuple[list[int], list[int]]:
    """Return the positions of design columns among the coefficients of sensitivity and of specificity."""
    return list(columns), [p + c for c in columns]


# --- several covariates in one model ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """Odds ratios of sensitivity and of specificity of one level against the first one, or per unit of a number."""

    label: str
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True)
class Term:
    """One covariate of a joint model, adjusted for the others.

    Attributes:
        name: of the covariate.
        reference: level that the others are compared with; empty for a number.
        effects: of each other level, or of one unit.
        both: test of both margins: likelihood ratio, or robust Wald if several tables share a study.
        sensitivity: Wald test of sensitivity.
        specificity: Wald test of specificity.
    """

    name: str
    reference: str
    effects: tuple[Effect, ...]
    both: LikelihoodRatioTest | WaldTest
    sensitivity: WaldTest
    specificity: WaldTest


@dataclass(frozen=True)
class CovariateModel:
    """A model with all covariates at once, on the tables that have all of them."""

    fit: BivariateFit
    terms: tuple[Term, ...]


def model_covariates(
    tables: ArrayLike,
    covariates: Mapping[str, Sequence[str] | Sequence[float]],
    method: RegressionMethod = "binomial",
    level: float = 0.95,
    clusters: Sequence[object] | None = None,
) -> CovariateModel:
    """Fit one model with all covariates on both logits; test each one for both margins and for each margin.

    Args:
        tables: (k, 4) TP, FP, FN, TN.
        covariates: name to (k,) values; texts are categories, with the first level in the alphabet as reference.
        method: likelihood, see ``meta_regression``.
        level: confidence level.
        clusters: (k,) study of each table, if several tables share one.

    Raises:
        NotEstimableError: if no finite estimate exists, or there are too few studies for the coefficients.
        ValueError: on covariates that are constant, linearly dependent or of another length.
    """
    cells = checked_tables(tables)
    blocks = [_Block.of(name, values) for name, values in covariates.items()]
    for block in blocks:
        if len(block.columns) != len(cells):
            raise ValueError(f"'{block.name}' must have {len(cells)} values, got {len(block.columns)}")
    p = 1 + sum(block.columns.shape[1] for block in blocks)
    units = len(set(clusters)) if clusters is not None else len(cells)
    if units <= p:
        raise NotEstimableError(f"{units} studies are too few for {p} coefficients of each logit")
    fit = fit_bivariate(cells, method, covariates=np.hstack([b.columns for b in blocks]), level=level)
    fit = fit.reported(clusters)
    terms, start = [], 1
    for block in blocks:
        width = block.columns.shape[1]
        others = [b.columns for b in blocks if b is not block]
        null = fit_bivariate(cells, method, covariates=np.hstack(others) if others else None, level=level)
        margins = _margin_rows(range(start, start + width), p)
        both = (
            _likelihood_ratio(fit, null, 2 * width) if fit.clusters is None else _wald(fit, [*margins[0], *margins[1]])
        )
        effects = tuple(_effect(fit, block, i, start + i) for i in range(width))
        terms.append(Term(block.name, block.reference, effects, both, _wald(fit, margins[0]), _wald(fit, margins[1])))
        start += width
    return CovariateModel(fit, tuple(terms))


@dataclass(frozen=True)
class _Block:
    """The columns of one covariate; numbers are divided by ``scale`` for the fit."""

    name: str
    reference: str
    labels: tuple[str, ...]
    columns: Array
    scale: float

    @staticmethod
    def of(name: str, values: Sequence[str] | Sequence[float]) -> "_Block":
        texts = [v for v in values if isinstance(v, str)]
        if texts:
            levels = sorted(set(texts))
            if len(levels) < 2:
                raise ValueError(f"'{name}' must have at least two levels, got {', '.join(levels)}")
            return _Block(name, levels[0], tuple(levels[1:]), _indicators(texts, levels), 1.0)
        x = np.asarray(values, dtype=np.float64)
        scale = float(x.std())
        if not scale > 0:
            raise ValueError(f"'{name}' must have different values")
        return _Block(name, "", ("per unit",), ((x - x.mean()) / scale)[:, None], scale)


def _effect(fit: BivariateFit, block: _Block, which: int, column: int) -> Effect:
    p = fit.design.shape[1]
    intervals = []
    quantile = SummaryPoint(np.zeros(2), np.eye(2), fit.level, fit.df).quantile
    for margin in (0, 1):
        row = margin * p + column
        slope = fit.coefficients[margin, column] / block.scale
        half = quantile * float(np.sqrt(fit.coefficient_covariance[row, row])) / block.scale
        value, low, high = np.exp(np.clip([slope, slope - half, slope + half], -700, 700))
        intervals.append(Interval(float(value), float(low), float(high)))
    return Effect(block.labels[which], intervals[0], intervals[1])
