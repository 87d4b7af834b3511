"""Three-level model: tables within studies; against metafor, lme4 and limits that have another form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from osteo_monai.statistics.meta_analysis import ThreeLevelFit, fit_bivariate, fit_three_levels
from osteo_monai.statistics.meta_analysis.likelihood import BinomialLikelihood
from osteo_monai.statistics.meta_analysis.three_level import NestedLikelihood

Array = NDArray[np.float64]
ORACLE = json.loads((Path(__file__).parent / "oracle" / "three_level.json").read_text())
TABLES, STUDY = np.array(ORACLE["tables"]), ORACLE["study"]


def _values(fit: ThreeLevelFit) -> list[float]:
    """Return the estimates in the order of the oracle."""
    found = [*fit.mean, *np.sqrt(np.diag(fit.cov))]
    for psi in (fit.between, fit.within):
        found += [*np.diag(psi), psi[0, 1] / np.sqrt(psi[0, 0] * psi[1, 1])]
    return [*map(float, found), fit.log_likelihood]


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_normal_approximation_equals_metafor(method: Any) -> None:
    fit = fit_three_levels(TABLES, STUDY, method)
    assert fit.converged
    assert _values(fit) == pytest.approx(ORACLE[method], abs=1e-5)


def test_exact_likelihood_is_near_the_laplace_approximation_of_lme4() -> None:
    fit = fit_three_levels(TABLES, STUDY)
    assert fit.converged
    found, laplace = _values(fit), ORACLE["laplace"]
    assert found[:4] == pytest.approx(laplace[:4], abs=2e-3)
    assert found[4:10] == pytest.approx(laplace[4:10], abs=5e-3)
    # Laplace's approximation of 48 tables is lower
    assert 0 < found[10] - laplace[10] < 1


def test_more_nodes_change_nothing() -> None:
    few, many = (fit_three_levels(TABLES, STUDY, nodes=nodes) for nodes in (7, 11))
    assert _values(few) == pytest.approx(_values(many), abs=1e-3)


def _parts(tables: Array) -> tuple[Array, Array]:
    tp, fp, fn, tn = tables.astype(np.float64).T
    return np.stack([tp, tn], axis=1), np.stack([tp + fn, tn + fp], axis=1)


PARAMETERS = np.array([1.9, 2.4, 0.6, -0.2, 0.7, 0.4, 0.1, 0.5])


def test_one_table_per_study_has_the_sum_of_both_covariances() -> None:
    events, totals = _parts(TABLES)
    nested = NestedLikelihood(events, totals, np.arange(len(TABLES)), 15)
    first, second = (np.array([[f[0], 0], [f[1], f[2]]]) for f in (PARAMETERS[2:5], PARAMETERS[5:]))
    factor = np.linalg.cholesky(first @ first.T + second @ second.T)
    flat = BinomialLikelihood(events, totals, np.ones((len(TABLES), 1)), 31)
    other = np.concatenate([PARAMETERS[:2], [factor[0, 0], factor[1, 0], factor[1, 1]]])
    assert nested.value_and_gradient(PARAMETERS)[0] == pytest.approx(flat.value_and_gradient(other)[0], abs=1e-6)


def test_without_variance_within_tables_of_a_study_add_up() -> None:
    events, totals = _parts(TABLES)
    codes = np.array(STUDY) - 1
    without = PARAMETERS * np.array([1, 1, 1, 1, 1, 0, 0, 0])
    nested = NestedLikelihood(events, totals, codes, 15).value_and_gradient(without)[0]
    sums, sizes = (
        np.stack([np.bincount(codes, column) for column in part.T], axis=1).astype(np.float64)
        for part in (events, totals)
    )
    flat = BinomialLikelihood(sums, sizes, np.ones((len(sums), 1)), 31)

    def constant(one: Array, total: Array) -> float:
        return float(binom.logpmf(one, total, 0.5).sum() + total.sum() * np.log(2))

    expected = flat.value_and_gradient(without[:5])[0] - constant(sums, sizes) + constant(events, totals)
    assert nested == pytest.approx(expected, abs=1e-6)


def test_nested_quadrature_equals_random_integration() -> None:
    events, totals = _parts(TABLES[3:6])
    rng = np.random.default_rng(4)
    draws = 200_000
    between, within = (np.array([[f[0], 0], [f[1], f[2]]]) for f in (PARAMETERS[2:5], PARAMETERS[5:]))
    effect = PARAMETERS[:2] + rng.standard_normal((draws, 2)) @ between.T
    chance = np.ones(draws)
    for one, total in zip(events, totals, strict=True):
        inner = effect + rng.standard_normal((draws, 2)) @ within.T
        chance *= np.prod(binom.pmf(one, total, expit(inner)), axis=1)
    error = chance.std() / np.sqrt(draws) / chance.mean()
    nested = NestedLikelihood(events, totals, np.zeros(3, dtype=np.intp), 9).value_and_gradient(PARAMETERS)[0]
    assert error < 0.03
    assert nested == pytest.approx(np.log(chance.mean()), abs=4 * error)


def test_gradient_of_the_nested_likelihood() -> None:
    likelihood = NestedLikelihood(*_parts(TABLES), np.array(STUDY) - 1, 9)
    gradient = likelihood.value_and_gradient(PARAMETERS)[1]
    for i, step in enumerate(1e-5 * np.eye(len(PARAMETERS))):
        up, down = (likelihood.value_and_gradient(PARAMETERS + sign * step)[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, abs=2e-3)


def test_intervals_are_wider_than_those_of_independent_tables() -> None:
    fit, flat = fit_three_levels(TABLES, STUDY), fit_bivariate(TABLES)
    assert np.sqrt(np.diag(fit.cov)) == pytest.approx(
        flat.reported(STUDY).summary().standard_errors, rel=0.25
    )  # of the clustered intervals
    assert (np.sqrt(np.diag(fit.cov)) > 1.1 * flat.summary().standard_errors).all()
    between, within = np.array(ORACLE["laplace"][4:6]), np.array(ORACLE["laplace"][7:9])
    assert fit.shares == pytest.approx(between / (between + within), abs=5e-3)


def test_a_study_without_variance_within_is_a_boundary() -> None:
    tables = np.array([[45, 12, 5, 188], [80, 30, 10, 280], [33, 9, 17, 151], [60, 25, 4, 211], [70, 4, 30, 90]])
    fit = fit_three_levels(np.repeat(tables, 2, axis=0), np.repeat(np.arange(5), 2).tolist())
    assert fit.converged
    assert any(message.startswith("Boundary: no variance between tables of a study") for message in fit.messages)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"studies": list(range(len(STUDY)))}, "at least 3 studies, one of them with several, got 48 studies"),
        ({"studies": ["a", "b"] * 24}, "at least 3 studies, one of them with several, got 2 studies"),
        ({"studies": STUDY[1:]}, "a label for each of the 48 tables, got 47"),
        ({"method": "bayes"}, "method must be one of binomial, reml, ml, got 'bayes'"),
        ({"nodes": 2}, "nodes must be at least 3, got 2"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], sentence: str) -> None:
    given: dict[str, Any] = {"tables": TABLES, "studies": STUDY, **change}
    with pytest.raises(ValueError, match=sentence):
        fit_three_levels(**given)
