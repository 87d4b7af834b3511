"""The bivariate model against the oracle (AuditC: mada, metafor, GLMMadaptive, quadrature), by hand, at the edges."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import binom, norm

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis import (
    BivariateFit,
    bootstrap,
    deeks,
    fit_bivariate,
    higgins,
    leave_one_out,
    midas_auc_interval,
    midas_pearson,
    pool_studies,
    univariate,
    zhou_dendukuri,
)
from osteo_monai.statistics.meta_analysis.covariates import LikelihoodRatioTest
from osteo_monai.statistics.meta_analysis.estimates import Method, auc_of_curve
from osteo_monai.statistics.meta_analysis.likelihood import BinomialLikelihood, NormalLikelihood
from osteo_monai.statistics.meta_analysis.refitting import Refitter
from osteo_monai.statistics.meta_analysis.tables import Correction, corrected, logits_and_variances

ORACLE = json.loads((Path(__file__).parent / "oracle" / "bivariate_auditc.json").read_text())
AUDIT_C = np.array([ORACLE["input"][name] for name in ("TP", "FP", "FN", "TN")]).T
EXACT = ORACLE["aghq31_exact_binomial"]
NORMAL: dict[str, tuple[Method, Correction]] = {
    "reitsma_reml": ("reml", "all"),
    "reitsma_ml": ("ml", "all"),
    "reitsma_reml_single": ("reml", "single"),
}


T = TypeVar("T")


def existing(result: T | None) -> T:
    """Return a result that must not be ``None``."""
    assert result is not None
    return result


@pytest.fixture(scope="module")
def exact() -> Any:
    return fit_bivariate(AUDIT_C)


@pytest.fixture(scope="module")
def reml() -> Any:
    return fit_bivariate(AUDIT_C, "reml")


# --- against the oracle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", NORMAL)
def test_normal_approximation_equals_mada(block: Any) -> None:
    target, (method, correction) = ORACLE[block], NORMAL[block]
    fit = fit_bivariate(AUDIT_C, method, correction)
    s = fit.summary()
    assert fit.converged
    assert s.mean == pytest.approx([target["logit_sens"], -target["logit_fpr"]], abs=1e-5)
    assert s.standard_errors == pytest.approx([target["se_logit_sens"], target["se_logit_fpr"]], abs=1e-5)
    assert s.cov[0, 1] == pytest.approx(-target["cov_fixed"], abs=1e-5)
    assert fit.tau2 == pytest.approx([target["tau2_sens"], target["tau2_fpr"]], abs=1e-5)
    assert fit.psi[0, 1] == pytest.approx(-target["cov_sens_fpr"], abs=1e-5)
    assert fit.correlation == pytest.approx(-target["rho_sens_fpr"], abs=1e-5)
    assert (s.sensitivity.low, s.sensitivity.high) == pytest.approx(target["sens_ci"], abs=1e-5)
    assert (s.specificity.low, s.specificity.high) == pytest.approx(target["spec_ci"], abs=1e-5)
    assert fit.auc == pytest.approx(target["AUC_exact_ruttergatsonis"], abs=1e-7)
    for ours, theirs in (("threshold", "Theta"), ("accuracy", "Lambda"), ("shape", "beta"),
                         ("var_threshold", "sigma2theta"), ("var_accuracy", "sigma2alpha")):  # fmt: skip
        assert getattr(fit.hsroc, ours) == pytest.approx(target["hsroc"][theirs], abs=1e-5)


@pytest.mark.parametrize("block", NORMAL)
def test_likelihood_of_the_normal_approximation_equals_that_of_mada(block: Any) -> None:
    # mada gives the density of the proportions, ours is that of their logits: d logit(p) / dp = 1 / (p (1 - p))
    method, correction = NORMAL[block]
    tp, fp, fn, tn = corrected(AUDIT_C, correction).T
    change = -np.log(tp * fn / (tp + fn) ** 2).sum() - np.log(tn * fp / (tn + fp) ** 2).sum()
    fit = fit_bivariate(AUDIT_C, method, correction)
    assert fit.log_likelihood + change == pytest.approx(ORACLE[block]["logLik_mada"], abs=1e-5)


def test_reml_equals_metafor(reml: Any) -> None:
    target = ORACLE["metafor_rma_mv_REML"]
    assert reml.summary().mean == pytest.approx([target["logit_sens"], -target["logit_fpr"]], abs=1e-5)
    assert reml.summary().standard_errors == pytest.approx(target["se"], abs=1e-5)
    assert reml.tau2 == pytest.approx(target["tau2"], abs=1e-5)
    assert reml.correlation == pytest.approx(-target["rho"], abs=1e-5)


def test_exact_likelihood_equals_glmmadaptive(exact: Any) -> None:
    target, s = ORACLE["GLMMadaptive_AGHQ21"], exact.summary()
    assert s.mean == pytest.approx([target["logit_sens"], target["logit_spec"]], abs=2e-5)
    assert s.standard_errors == pytest.approx([target["se_logit_sens"], target["se_logit_spec"]], abs=1e-4)
    assert s.cov[0, 1] == pytest.approx(target["cov"], abs=1e-4)
    assert (s.sensitivity.value, s.specificity.value) == pytest.approx((target["sens"], target["spec"]), abs=1e-5)
    assert (s.sensitivity.low, s.sensitivity.high) == pytest.approx(target["sens_ci"], abs=1e-5)
    assert (s.specificity.low, s.specificity.high) == pytest.approx(target["spec_ci"], abs=1e-5)
    assert exact.tau2 == pytest.approx([target["tau2_sens"], target["tau2_spec"]], abs=2e-4)
    assert exact.correlation == pytest.approx(target["rho"], abs=1e-4)
    assert exact.log_likelihood == pytest.approx(target["logLik"], abs=1e-5)


@pytest.fixture
def half_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add 0.5 to every cell, as the stored reference values do; metafor itself does so where a cell is empty only."""

    def added(cells: Any) -> Any:
        return logits_and_variances(cells + 0.5)

    monkeypatch.setattr("osteo_monai.statistics.meta_analysis.heterogeneity.margin_logits", added)


@pytest.mark.parametrize(("estimator", "suffix"), [("dl", "DL"), ("reml", "REML")])
def test_margins_pooled_apart_equal_metafor(
    estimator: Literal["reml", "dl"], suffix: str, half_everywhere: None
) -> None:
    for found, name in zip(univariate(AUDIT_C, estimator), ("sens", "spec"), strict=True):
        target = ORACLE["univariate"][name]
        assert found.tau2 == pytest.approx(target[f"tau2_{suffix}"], abs=1e-5)
        assert found.pooled.value == pytest.approx(target[f"pooled_{suffix}"], abs=1e-5)
        assert (found.pooled.low, found.pooled.high) == pytest.approx(target[f"pooled_{suffix}_ci"], abs=1e-5)
        i2 = target["I2_REML" if estimator == "reml" else "I2_Higgins_Q"] / 100
        assert found.i2 == pytest.approx(i2, abs=1e-6)


def test_margins_without_variance_pool_to_the_fixed_effect() -> None:
    # 8 tables alike: tau2 = 0, and logit(0.8) is common to all
    for estimator in ("dl", "reml"):
        first, second = univariate([[80, 10, 20, 90]] * 8, estimator)
        assert (first.tau2, first.i2, second.tau2) == (0, 0, 0)
        assert first.pooled.value == pytest.approx(0.8, abs=1e-12)  # no cell is empty: no correction
    with pytest.raises(ValueError, match="estimator must be 'reml' or 'dl', got 'hedges'"):
        univariate(AUDIT_C, "hedges")  # type: ignore[arg-type]


def test_margins_are_corrected_only_where_a_cell_is_empty() -> None:
    # figures of metafor 3.8-1 (rma.uni, PLO, REML, to = "only0"); 0.5 in every cell gave 0.346, 9.39, 47.4 % and 0.774
    tables = np.array([[9, 3, 1, 50], [18, 5, 2, 60], [6, 2, 4, 40], [27, 4, 3, 90], [12, 6, 8, 70], [8, 1, 2, 30]])
    found, test = univariate(tables)[0], higgins(tables)[0]
    assert found.tau2 == pytest.approx(0.448, abs=0.0005)
    assert found.pooled.value == pytest.approx(0.792, abs=0.0005)
    assert test.q == pytest.approx(9.97, abs=0.005)
    # an empty cell of one proportion does not change the other
    tables[0] = [10, 3, 0, 50]
    assert higgins(tables)[1].q == pytest.approx(higgins(np.array([[9, 3, 1, 50], *tables[1:]]))[1].q, rel=1e-12)
    assert math.isfinite(higgins(tables)[0].q)


def test_exact_likelihood_equals_31_node_quadrature(exact: Any) -> None:
    s = exact.summary()
    assert exact.converged
    assert (s.sensitivity.value, s.specificity.value) == pytest.approx((EXACT["sens"], EXACT["spec"]), abs=1e-5)
    assert (s.sensitivity.low, s.sensitivity.high) == pytest.approx(EXACT["sens_ci"], abs=1e-5)
    assert (s.specificity.low, s.specificity.high) == pytest.approx(EXACT["spec_ci"], abs=1e-5)
    assert s.standard_errors == pytest.approx([EXACT["se_logit_sens"], EXACT["se_logit_spec"]], abs=1e-4)
    assert s.cov[0, 1] == pytest.approx(EXACT["cov_fixed"], abs=1e-4)
    assert exact.tau2 == pytest.approx([EXACT["tau2_sens"], EXACT["tau2_spec"]], abs=2e-4)
    assert exact.correlation == pytest.approx(EXACT["rho_sens_spec"], abs=1e-4)
    assert exact.log_likelihood == pytest.approx(EXACT["logLik"], abs=1e-5)
    assert exact.auc == pytest.approx(EXACT["AUC_exact_hsroc"], abs=1e-6)


def test_auc_given_the_oracles_parameters() -> None:
    for block, sign in (("reitsma_reml", "fpr"), ("aghq31_exact_binomial", "spec")):
        target = ORACLE[block]
        sp = -target["logit_fpr"] if sign == "fpr" else target["logit_spec"]
        tau = np.sqrt([target["tau2_sens"], target[f"tau2_{sign}"]])
        expected = target["AUC_exact_ruttergatsonis" if sign == "fpr" else "AUC_exact_hsroc"]
        assert auc_of_curve([target["logit_sens"], sp], tau) == pytest.approx(expected, abs=1e-8)


def test_ratios_and_fagan_equal_the_oracle(exact: Any) -> None:
    s = exact.summary()
    for ratio, name, scale in ((s.positive_lr, "LRp", 1), (s.negative_lr, "LRn", 1), (s.odds_ratio, "DOR", 20)):
        assert ratio.value == pytest.approx(EXACT[name], abs=1e-5 * scale)
        assert (ratio.low, ratio.high) == pytest.approx(EXACT[f"{name}_ci"], abs=1e-5 * scale)
    positive, negative = s.post_test(0.20)
    assert positive.value == pytest.approx(EXACT["fagan_pretest_0_20"]["post_pos"], abs=1e-5)
    assert negative.value == pytest.approx(EXACT["fagan_pretest_0_20"]["post_neg"], abs=1e-5)


def test_three_definitions_of_i2_equal_the_oracle(exact: Any, reml: Any, half_everywhere: None) -> None:
    for found, name in zip(higgins(AUDIT_C), ("sens", "spec"), strict=True):
        target = ORACLE["univariate"][name]
        assert found.q == pytest.approx(target["Q"], rel=1e-12)
        assert found.df == target["df"]
        assert found.i2.value == pytest.approx(target["I2_Higgins_Q"] / 100, abs=1e-6)
        assert found.p == pytest.approx(target["p"], rel=1e-6, abs=1e-300)
    for found, name in zip(midas_pearson(AUDIT_C), ("sens", "spec"), strict=True):
        target = ORACLE["univariate"]["midas_like_pearson_fixed"][name]
        assert found.q == pytest.approx(target["Q"], rel=1e-12)
        assert found.i2.value == pytest.approx(target["I2"] / 100, abs=1e-6)
        interval = [bound / 100 for bound in target["I2_ci_midas_homogeni"]]
        assert (found.i2.low, found.i2.high) == pytest.approx(interval, abs=1e-6)
    share, target = zhou_dendukuri(reml), ORACLE["zhou_dendukuri_psi_on_reml"]
    assert share.bivariate == pytest.approx(target["I2_bivariate"], abs=1e-6)
    assert share.sensitivity == pytest.approx(target["I2_sens"], abs=1e-6)
    assert share.specificity == pytest.approx(target["I2_spec"], abs=1e-6)
    share = zhou_dendukuri(exact)
    assert share.bivariate == pytest.approx(EXACT["zhou_I2_bivariate"], abs=1e-6)
    assert share.sensitivity == pytest.approx(EXACT["zhou_I2_sens"], abs=1e-6)
    assert share.specificity == pytest.approx(EXACT["zhou_I2_spec"], abs=1e-6)


def test_i2_of_replicated_studies_does_not_fall() -> None:
    # the between-study variance of the same tables twice over is the same; a definition that falls is the wrong one
    once = zhou_dendukuri(fit_bivariate(AUDIT_C, "ml"))
    twice = zhou_dendukuri(fit_bivariate(np.vstack([AUDIT_C] * 4), "ml"))
    assert twice.bivariate == pytest.approx(once.bivariate, abs=1e-6)


def test_midas_interval_is_wilson_of_500_points() -> None:
    found = midas_auc_interval(EXACT["AUC_midas_500grid"])
    assert (found.low, found.high) == pytest.approx(EXACT["AUC_midas_wilson500_ci"], abs=1e-9)


def test_deeks_equals_the_oracle() -> None:
    found, target = deeks(AUDIT_C), ORACLE["deeks"]
    for name in ("slope", "slope_se", "intercept", "intercept_se", "t", "p"):
        assert getattr(found, name) == pytest.approx(target[name], rel=1e-10)
    assert found.df == target["df"]
    assert found.log_dor == pytest.approx(target["lnDOR"], abs=1e-10)
    assert found.ess == pytest.approx(target["ESS"], rel=1e-10)


def test_leave_one_out_equals_the_oracle(reml: Any) -> None:
    for found, target in zip(leave_one_out(reml), ORACLE["leave_one_out_reml"], strict=True):
        s = found.summary
        assert s is not None
        assert (s.sensitivity.value, s.sensitivity.low, s.sensitivity.high) == pytest.approx(
            (target["sens"], *target["sens_ci"]), abs=1e-5
        )
        assert (s.specificity.value, s.specificity.low, s.specificity.high) == pytest.approx(
            (target["spec"], *target["spec_ci"]), abs=1e-5
        )


# --- the likelihoods by other means -------------------------------------------------------------------------------


def test_exact_likelihood_equals_adaptive_integration() -> None:
    # one study, no correlation: the double integral is a product of two integrals that scipy can do
    chol, mu = (0.8, 0.0, 1.3), (1.5, 2.0)
    likelihood = BinomialLikelihood(np.array([[18.0, 60.0]]), np.array([[20.0, 70.0]]), np.ones((1, 1)), 25)
    value, _ = likelihood.value_and_gradient(np.array([*mu, *chol]))
    expected = 0.0
    for x, n, m, tau in ((18, 20, mu[0], chol[0]), (60, 70, mu[1], chol[2])):
        expected += math.log(
            quad(lambda t, x=x, n=n, m=m, s=tau: binom.pmf(x, n, expit(t)) * norm.pdf(t, m, s), -12, 16, limit=400)[0]
        )
    assert value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("restricted", [True, False])
def test_gradient_of_the_normal_likelihood(restricted: bool) -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(9), rng.normal(size=9)])
    likelihood = NormalLikelihood(rng.normal(1, 1, (9, 2)), rng.uniform(0.1, 0.5, (9, 2)), x, restricted)
    check_gradient(likelihood, np.array([0.7, -0.4, 0.5]))


def test_gradient_of_the_exact_likelihood() -> None:
    x = np.column_stack([np.ones(14), np.arange(14) / 7 - 1])
    tp, fp, fn, tn = AUDIT_C.astype(float).T
    likelihood = BinomialLikelihood(np.stack([tp, tn], 1), np.stack([tp + fn, tn + fp], 1), x, 25)
    check_gradient(likelihood, np.array([2.0, 0.3, 1.2, -0.2, 1.1, -0.4, 0.5]), tolerance=2e-4)


def check_gradient(likelihood: Any, at: Any, tolerance: float = 1e-5) -> None:
    _, gradient = likelihood.value_and_gradient(at)
    for i in range(len(at)):
        step = 1e-5 * np.eye(len(at))[i]
        rise = likelihood.value_and_gradient(at + step)[0] - likelihood.value_and_gradient(at - step)[0]
        assert gradient[i] == pytest.approx(rise / 2e-5, abs=tolerance)


def test_quick_refit_finds_the_same_maximum(exact: Any) -> None:
    mean, psi = existing(Refitter(exact, nodes=15)(exact.tables[::-1]))
    assert mean == pytest.approx(exact.summary().mean, abs=1e-3)
    assert psi == pytest.approx(exact.psi, abs=1e-2)
    other = AUDIT_C[:9].astype(float)
    target = fit_bivariate(other)
    mean, psi = existing(Refitter(exact, nodes=15)(other))
    assert mean == pytest.approx(target.summary().mean, abs=2e-3)
    assert psi == pytest.approx(target.psi, abs=2e-2)


# --- worked by hand -----------------------------------------------------------------------------------------------


def test_auc_of_a_symmetric_curve_has_a_closed_form() -> None:
    # slope 1: constant odds ratio D, area D (D - 1 - ln D) / (D - 1)^2
    d = math.exp(logit(0.88) + logit(0.94))
    expected = d * (d - 1 - math.log(d)) / (d - 1) ** 2
    assert auc_of_curve(logit([0.88, 0.94]), [0.7, 0.7]) == pytest.approx(expected, abs=1e-12)
    assert auc_of_curve([0.0, 0.0], [1, 1]) == pytest.approx(0.5, abs=1e-12)


def test_auc_at_the_limits_of_the_slope() -> None:
    assert auc_of_curve(logit([0.8, 0.9]), [0.0, 1.0]) == pytest.approx(0.8, abs=1e-12)
    assert auc_of_curve(logit([0.8, 0.9]), [1.0, 0.0]) == pytest.approx(0.9, abs=1e-12)
    assert math.isnan(auc_of_curve(logit([0.8, 0.9]), [0.0, 0.0]))


def test_one_and_the_same_table_pools_to_itself() -> None:
    # no variance between studies: the pooled logit is the study's, its variance the study's over 8
    for method in ("binomial", "reml", "ml"):
        fit = fit_bivariate([[80, 10, 20, 90]] * 8, method)
        s = fit.summary()
        assert fit.converged
        assert s.mean == pytest.approx([math.log(4), math.log(9)], abs=1e-6)
        assert s.standard_errors == pytest.approx(
            [math.sqrt((1 / 80 + 1 / 20) / 8), math.sqrt((1 / 90 + 1 / 10) / 8)], abs=1e-5
        )
        assert fit.tau2 == pytest.approx([0, 0], abs=1e-6)
        assert math.isnan(fit.correlation)
        assert math.isnan(fit.auc)
        assert fit.hsroc is None
        assert sum(m.startswith("Boundary: no variance") for m in fit.messages) == 2
        area = bootstrap(fit, 100, seed=1).auc_interval(fit)
        assert all(math.isnan(x) for x in (area.value, area.low, area.high))
        with pytest.raises(NotEstimableError, match="the SROC curve has no slope"):
            fit.sroc([0.1])


def test_correction_of_empty_cells() -> None:
    tables = [[5, 0, 1, 4], [3, 1, 2, 6]]
    assert corrected(tables, "all").tolist() == [[5.5, 0.5, 1.5, 4.5], [3.5, 1.5, 2.5, 6.5]]
    assert corrected(tables, "single").tolist() == [[5.5, 0.5, 1.5, 4.5], [3, 1, 2, 6]]
    assert corrected(tables[1:], "all").tolist() == [[3, 1, 2, 6]]


def test_likelihood_ratio_test_by_hand() -> None:
    test = LikelihoodRatioTest(5.15, 2)
    assert test.p == pytest.approx(math.exp(-5.15 / 2), abs=1e-12)  # chi-square with 2 df is exponential
    assert test.midas_i2 == pytest.approx(3.15 / 5.15)
    assert LikelihoodRatioTest(0.93, 2).midas_i2 == 0.0


def test_summary_point_lies_on_its_curve_and_inside_its_regions(exact: Any) -> None:
    s = exact.summary()
    assert exact.sroc([1 - s.specificity.value])[0] == pytest.approx(s.sensitivity.value, abs=1e-12)
    inner, outer = exact.region("confidence"), exact.region("prediction")
    assert inner[:, 0].min() < 1 - s.specificity.value < inner[:, 0].max()
    assert outer[:, 0].min() < inner[:, 0].min()
    assert outer[:, 1].min() < inner[:, 1].min()


# --- at the edges -------------------------------------------------------------------------------------------------


def test_three_studies_are_fitted_and_the_boundary_is_named() -> None:
    fit = fit_bivariate([[45, 5, 5, 45], [38, 8, 12, 42], [60, 4, 3, 40]])
    assert fit.converged
    assert any("correlation between studies is +1" in m for m in fit.messages)
    assert np.isfinite(fit.summary().standard_errors).all()
    assert np.isfinite(fit.region("prediction")).all()


def test_perfect_negative_correlation_is_named() -> None:
    p = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6])
    tables = np.round(100 * np.stack([p, 0.4 * p, 1 - p, 1 - 0.4 * p], axis=1))
    for method in ("binomial", "reml"):
        fit = fit_bivariate(tables, method)
        assert fit.converged
        assert fit.correlation == pytest.approx(-1, abs=1e-3)


def test_variance_in_one_margin_alone() -> None:
    fit = fit_bivariate([[80, x, 20, 100 - x] for x in (5, 10, 20, 40)])
    assert fit.converged
    assert fit.tau2[0] == pytest.approx(0, abs=1e-6)
    assert fit.tau2[1] > 0.5
    assert fit.summary().sensitivity.value == pytest.approx(0.8, abs=1e-6)


def test_complete_separation_says_why_there_is_no_estimate() -> None:
    with pytest.raises(NotEstimableError, match="every study has sensitivity 1: the exact binomial likelihood has no"):
        fit_bivariate([[50, x, 0, 50 - x] for x in (4, 5, 10, 20)])
    assert fit_bivariate([[50, x, 0, 50 - x] for x in (4, 5, 10, 20)], "reml").converged


def test_empty_cell_without_correction_is_refused() -> None:
    with pytest.raises(NotEstimableError, match="use correction 'all' or 'single'"):
        fit_bivariate(AUDIT_C, "reml", "none")


def test_every_problem_of_the_tables_is_told_at_once() -> None:
    with pytest.raises(
        ValueError, match="tables must be at least 3, got 2; table 1 must hold.*; table 2 has no diseas"
    ):
        fit_bivariate([[-1, 2, 3, 4], [0, 2, 0, 4]])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "bayes"}, "method must be one of binomial, reml, ml, got 'bayes'"),
        ({"nodes": 2}, "nodes must be at least 3, got 2"),
        ({"covariates": np.ones((14, 1))}, "covariates must not be constant"),
        ({"covariates": np.ones((3, 1))}, r"finite numbers of shape \(14, q\)"),
        ({"method": "ml", "correction": "some"}, "correction must be 'all', 'single' or 'none', got 'some'"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit_bivariate(AUDIT_C, **given)


# --- pooled without an estimate -----------------------------------------------------------------------------------


def test_studies_without_an_estimate_are_not_pooled(monkeypatch: pytest.MonkeyPatch, exact: BivariateFit) -> None:
    with pytest.raises(NotEstimableError, match="every study has sensitivity 1"):
        pool_studies([[10, 2, 0, 20], [12, 3, 0, 30], [9, 1, 0, 25]])
    stopped = replace(exact, converged=False, messages=("The optimiser stopped before the maximum.",))
    monkeypatch.setattr("osteo_monai.statistics.meta_analysis.bivariate.fit_bivariate", lambda *a, **k: stopped)
    with pytest.raises(NotEstimableError, match="no estimate: The optimiser stopped"):
        pool_studies(AUDIT_C)
