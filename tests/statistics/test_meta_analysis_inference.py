"""Intervals to report, clusters, resampling, subgroups, covariates and influence in a meta-analysis."""

import json
import math
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
from scipy.special import expit, logit

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis import (
    BivariateFit,
    SummaryPoint,
    bootstrap,
    compare_subgroups,
    deeks,
    fit_bivariate,
    higgins,
    leave_one_out,
    meta_regression,
    midas_pearson,
    model_covariates,
    pool_studies,
    study_influence,
    univariate,
)
from osteo_monai.statistics.meta_analysis.covariates import LikelihoodRatioTest
from osteo_monai.statistics.meta_analysis.estimates import Method

ORACLE = json.loads((Path(__file__).parent / "oracle" / "bivariate_auditc.json").read_text())
AUDIT_C = np.array([ORACLE["input"][name] for name in ("TP", "FP", "FN", "TN")]).T

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


def test_bootstrap_is_seeded_and_surrounds_the_estimate(reml: Any) -> None:
    first, again = bootstrap(reml, 100, seed=7), bootstrap(reml, 100, seed=7)
    assert (first.auc == again.auc).all()
    assert len(first.means) == 100
    area = first.auc_interval(reml)
    assert area.low < reml.auc < area.high
    assert area.high - area.low < 0.15


def test_bootstrap_of_the_exact_model(exact: Any) -> None:
    found = bootstrap(exact, 100, seed=2)
    s, wald = found.sensitivity_interval(exact), exact.summary().sensitivity
    # the two intervals rest on different arguments and must still be near one another on 14 studies
    assert logit(s.low) == pytest.approx(logit(wald.low), abs=0.4)
    assert found.auc_interval(exact).low < exact.auc < found.auc_interval(exact).high


STUDIES = [*"aabbbcdefghijk"]


def doubled(fit: BivariateFit) -> BivariateFit:
    """Return the fit of the same tables twice, each study with its tables and their copies."""
    again = fit_bivariate(np.vstack([fit.tables, fit.tables]), fit.method)
    return again.clustered([*(fit.clusters or range(fit.n_tables))] * 2)


def points(s: SummaryPoint) -> list[float]:
    rows = (s.sensitivity, s.specificity, s.positive_lr, s.negative_lr, s.odds_ratio, *s.post_test(0.2))
    return [bound for i in rows for bound in (i.value, i.low, i.high)]


@pytest.mark.parametrize("method", ["binomial", "ml"])
def test_doubled_tables_change_no_interval(method: Method) -> None:
    once = fit_bivariate(AUDIT_C, method).clustered(STUDIES)
    twice = doubled(once)
    assert (once.n_studies, twice.n_studies) == (11, 11)
    assert points(twice.summary()) == pytest.approx(points(once.summary()), rel=1e-5)
    kinds: tuple[Literal["confidence", "prediction"], ...] = ("confidence", "prediction")
    for kind in kinds:
        assert twice.region(kind) == pytest.approx(once.region(kind), abs=1e-5)
    for found, due in zip(twice.prediction_intervals, once.prediction_intervals, strict=True):
        assert (found.low, found.high) == pytest.approx((due.low, due.high), abs=1e-5)
    for left, left_due in zip(leave_one_out(twice), leave_one_out(once), strict=True):
        assert points(existing(left.summary)) == pytest.approx(points(existing(left_due.summary)), rel=1e-4)


def test_doubled_tables_do_not_change_the_area() -> None:
    once = fit_bivariate(AUDIT_C, "ml").clustered(STUDIES)
    twice = doubled(once)
    found, due = (bootstrap(fit, 200, seed=3).auc_interval(fit) for fit in (twice, once))
    assert (found.low, found.high) == pytest.approx((due.low, due.high), abs=1e-3)


def test_doubled_tables_change_no_test() -> None:
    both, study = np.vstack([AUDIT_C, AUDIT_C]), [*STUDIES, *STUDIES]
    for function in (higgins, midas_pearson):
        for found, due in zip(function(both, clusters=study), function(AUDIT_C, clusters=STUDIES), strict=True):
            assert (found.q, found.df, found.i2) == (due.q, due.df, due.i2)
    assert univariate(both, clusters=study) == univariate(AUDIT_C, clusters=STUDIES)
    assert deeks(both, study).p == deeks(AUDIT_C, STUDIES).p
    assert deeks(AUDIT_C, range(14)).p == deeks(AUDIT_C).p


def test_tables_entered_twice_do_not_narrow_the_reported_interval(exact: Any) -> None:
    # the baseline has one table per study and the covariance of the model; the copies have the robust one
    found, due = doubled(exact).summary(), exact.summary()
    for name in ("sensitivity", "specificity", "positive_lr", "negative_lr", "odds_ratio"):
        width, due_width = (i.high - i.low for i in (getattr(found, name), getattr(due, name)))
        assert width > due_width, name
    assert found.df == 13


def test_reported_intervals_have_t_quantiles(exact: Any) -> None:
    wald, small = exact.summary(), exact.reported().summary()
    assert small.df == 13
    factor = logit(small.sensitivity.high) - small.mean[0]
    assert factor / (logit(wald.sensitivity.high) - wald.mean[0]) == pytest.approx(2.160369 / 1.959964, abs=1e-6)
    assert fit_bivariate(np.vstack([AUDIT_C, AUDIT_C]), "ml").reported().summary().df == 27
    assert {existing(one.summary).df for one in leave_one_out(exact.reported())} == {12}


def test_clusters_are_checked(reml: Any) -> None:
    with pytest.raises(ValueError, match="clusters must be at least 3, got 2"):
        reml.clustered([0, 1] * 7)
    with pytest.raises(ValueError, match="a label for each of the 14 tables, got 2"):
        reml.clustered([0, 1])
    assert reml.reported(range(14)).clusters is None
    assert reml.reported(STUDIES).clusters == tuple(STUDIES)
    assert reml.clustered(STUDIES).clustered(None).summary().df == reml.summary().df


def test_bootstrap_does_not_depend_on_the_order_of_studies(reml: Any) -> None:
    order = np.random.default_rng(4).permutation(14)
    shuffled = fit_bivariate(AUDIT_C[order], "reml")
    for clusters in (None, STUDIES):
        first = bootstrap(reml.clustered(clusters), 100).means
        labels = None if clusters is None else [clusters[i] for i in order]
        assert bootstrap(shuffled.clustered(labels), 100).means == pytest.approx(first, abs=1e-5)


def test_clustered_bootstrap_draws_whole_studies(reml: Any) -> None:
    found = bootstrap(reml.clustered([i // 2 for i in range(14)]), 100, seed=1)
    assert found.kind == "studies"
    assert found.specificity_interval(reml).low < reml.summary().specificity.value


def test_leave_one_study_out_takes_all_its_tables(reml: Any) -> None:
    found = leave_one_out(reml, ["a", "a", *"bcdefghijklm"])
    assert [one.omitted for one in found] == list("abcdefghijklm")
    direct = fit_bivariate(AUDIT_C[2:], "reml").summary()
    assert existing(found[0].summary).sensitivity.value == pytest.approx(direct.sensitivity.value, abs=1e-8)


def test_subgroups_that_differ_are_told_apart() -> None:
    low, high = (
        [[70, 10, 30, 90], [66, 12, 34, 88], [72, 9, 28, 91]],
        [[95, 10, 5, 90], [93, 12, 7, 88], [96, 9, 4, 91]],
    )
    found = compare_subgroups(low + high, ["DXA"] * 3 + ["QCT"] * 3)
    assert found.levels == ("DXA", "QCT")
    assert found.test.df == 2
    assert found.test.p < 1e-4
    assert found.summaries[0].sensitivity.value == pytest.approx(208 / 300, abs=0.005)
    assert found.summaries[1].sensitivity.value == pytest.approx(284 / 300, abs=0.005)
    assert found.summaries[0].specificity.value == pytest.approx(found.summaries[1].specificity.value, abs=1e-4)


def test_subgroups_that_are_alike_are_not() -> None:
    found = compare_subgroups([[80, 10, 20, 90]] * 6, ["a", "b"] * 3)
    assert isinstance(found.test, LikelihoodRatioTest)
    assert found.test.chi2 == pytest.approx(0, abs=1e-6)
    assert found.test.p == pytest.approx(1, abs=1e-6)


def test_subgroup_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="must have at least two levels with 2 tables each, got a: 13, b: 1"):
        compare_subgroups(AUDIT_C, ["a"] * 13 + ["b"])


SEPARATED = [[30, 4, 0, 60], [25, 5, 0, 70], [40, 3, 0, 50], [35, 6, 5, 66], [28, 4, 4, 58], [44, 9, 8, 90]]


def test_subgroup_without_false_negatives_is_refused() -> None:
    with pytest.raises(NotEstimableError, match=r"all tables of 'a' have sensitivity 1 \(95 of 95\)"):
        compare_subgroups(SEPARATED, [*"aaabbb"])
    with pytest.raises(NotEstimableError, match="sensitivity has no finite estimate"):
        fit_bivariate(SEPARATED, covariates=[[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
    assert compare_subgroups(SEPARATED, [*"ababab"]).converged
    assert fit_bivariate(SEPARATED, covariates=[[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]).converged


def test_doubled_tables_change_no_subgroup_test() -> None:
    groups, both = [*"xxyyyxyxyxyxyx"], np.vstack([AUDIT_C, AUDIT_C])
    once = compare_subgroups(AUDIT_C, groups, method="ml", clusters=STUDIES)
    twice = compare_subgroups(both, [*groups, *groups], method="ml", clusters=[*STUDIES, *STUDIES])
    assert twice.test.p == pytest.approx(once.test.p, rel=1e-4)
    assert [t.p for t in twice.apart] == pytest.approx([t.p for t in once.apart], rel=1e-4)
    for found, due in zip(twice.summaries, once.summaries, strict=True):
        assert points(found) == pytest.approx(points(due), rel=1e-4)


def test_each_of_two_covariates_is_adjusted_for_the_other() -> None:
    # sensitivity depends on the first covariate only, specificity on the second only
    rng, rows = np.random.default_rng(4), []
    first, second = [*"aabb"] * 8, [*"uvuv"] * 8
    for a, b in zip(first, second, strict=True):
        hits = rng.binomial(200, expit(1 + 1.2 * (a == "b") + 0.2 * rng.standard_normal()))
        right = rng.binomial(300, expit(2 - 1.5 * (b == "v") + 0.2 * rng.standard_normal()))
        rows.append([hits, 300 - right, 200 - hits, right])
    found = model_covariates(rows, {"first": first, "second": second})
    one, two = found.terms
    assert (one.reference, one.effects[0].label, two.effects[0].label) == ("a", "b", "v")
    assert one.sensitivity.p < 1e-6 < 0.02 < one.specificity.p
    assert two.specificity.p < 1e-6 < 0.02 < two.sensitivity.p
    assert math.exp(1.2) in one.effects[0].sensitivity
    assert math.exp(-1.5) in two.effects[0].specificity
    # both tests of a term are likelihood-ratio tests against the model without it
    null = fit_bivariate(rows, covariates=[[float(b == "v")] for b in second])
    assert isinstance(one.both, LikelihoodRatioTest)
    assert one.both.chi2 == pytest.approx(2 * (found.fit.log_likelihood - null.log_likelihood), abs=1e-6)


def test_number_of_a_model_is_per_unit() -> None:
    years = np.linspace(50, 70, 14)
    months = model_covariates(AUDIT_C, {"age": [float(y) * 12 for y in years]}, "ml").terms[0]
    found = model_covariates(AUDIT_C, {"age": [float(y) for y in years]}, "ml").terms[0]
    assert months.effects[0].sensitivity.value ** 12 == pytest.approx(found.effects[0].sensitivity.value, rel=1e-6)
    assert months.both.p == pytest.approx(found.both.p, rel=1e-6)


def test_too_many_covariates_are_refused() -> None:
    with pytest.raises(NotEstimableError, match="4 studies are too few for 4 coefficients"):
        model_covariates(AUDIT_C[:4], {"g": [*"abcd"]})


def test_outlier_and_influential_study_are_found() -> None:
    rng = np.random.default_rng(1)
    hits, right = rng.binomial(100, expit(2 + 0.2 * rng.standard_normal(15))), rng.binomial(200, 0.9, 15)
    rows = np.stack([hits, 200 - right, 100 - hits, right], axis=1)
    fit = fit_bivariate(rows).reported()
    labels = [str(i) for i in range(15)]
    assert not any(one.outlier for one in study_influence(fit, leave_one_out(fit, labels), labels))
    rows[3] = [30, 20, 70, 180]
    fit = fit_bivariate(rows).reported()
    found = study_influence(fit, leave_one_out(fit, labels), labels)
    assert [one.study for one in found if one.outlier] == ["3"]
    assert max(found, key=lambda one: one.cook).study == "3"
    assert found[3].shift[0] > 0.01


def test_reml_has_no_likelihood_ratio_test() -> None:
    with pytest.raises(ValueError, match="method must be 'binomial' or 'ml'"):
        meta_regression(AUDIT_C, np.arange(14.0), "reml")  # type: ignore[arg-type]


def test_meta_regression_does_not_depend_on_the_unit() -> None:
    x = np.arange(14.0)
    _, first = meta_regression(AUDIT_C, x - x.mean(), "ml")
    _, other = meta_regression(AUDIT_C, (x - x.mean()) / 4, "ml")
    assert first.chi2 == pytest.approx(other.chi2, abs=1e-5)
    assert first.df == 2


def test_pooled_studies_are_the_summary_of_the_fit(exact: BivariateFit) -> None:
    pooled, reported = pool_studies(AUDIT_C), exact.reported().summary()
    assert pooled.sensitivity == reported.sensitivity
    assert pooled.specificity == reported.specificity
    assert pooled.odds_ratio == reported.odds_ratio
    assert points(pool_studies(AUDIT_C, studies=STUDIES)) == points(exact.clustered(STUDIES).summary())
    wide = pool_studies(AUDIT_C, "reml", level=0.99).sensitivity
    narrow = pool_studies(AUDIT_C, "reml", level=0.8).sensitivity
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
