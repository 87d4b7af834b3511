"""Differences, non-inferiority, ordinal concordance and sample sizes against R (oracle/differences.R)."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from osteo_monai.statistics import (
    areas_differ,
    auc,
    compare_rates,
    difference_of_groups,
    ordinal_concordance,
    rates_differ,
)
from osteo_monai.statistics.sample_size import (
    size_for_area,
    size_for_area_difference,
    size_for_calibration,
    size_for_paired_rates,
)

R = json.loads((Path(__file__).parent / "oracle" / "differences.json").read_text())
TRUTH, FIRST, SECOND, HALF = (np.array(R[name]) for name in ("truth", "first", "second", "half"))


@pytest.mark.parametrize("name", ["sensitivity", "specificity"])
def test_paired_differences_and_their_exact_p_are_those_of_r(name: str) -> None:
    found = getattr(compare_rates(TRUTH, FIRST, SECOND), name)
    assert [*astuple(found.difference), found.p] == pytest.approx(R[name], abs=1e-9)


@pytest.mark.parametrize(("name", "of"), [("sensitivity", 1), ("specificity", 0)])
def test_differences_of_two_groups_are_those_of_r(name: str, of: int) -> None:
    chosen = TRUTH == of  # noqa: SIM300
    correct, first = FIRST[chosen] == of, HALF[chosen] == 1
    expected = pytest.approx(R[f"unpaired_{name}"], abs=1e-9)
    assert astuple(difference_of_groups(correct, first)) == expected
    found = rates_differ(correct, np.where(first, "a", "b"))
    assert found is not None
    assert found.difference is not None
    assert astuple(found.difference) == expected
    # ten copies of each image narrow nothing
    rows = np.repeat(np.arange(correct.size), 10)
    assert astuple(difference_of_groups(correct[rows], first[rows], groups=rows)) == expected


def test_groups_must_be_two_and_not_empty() -> None:
    with pytest.raises(ValueError, match="first must be 0 or 1"):
        difference_of_groups([1, 0], [0.5, 1])
    assert np.isnan(astuple(difference_of_groups([1, 0], [1, 1]))).all()


def large_sample() -> Any:
    """Return truth and two calls of the 40,000 cases counted in the table truth x first x second."""
    counts = np.array(R["large_counts"]).reshape(2, 2, 2)  # second, first, truth: the first index of R varies fastest
    cells = [(t, a, b) for b in range(2) for a in range(2) for t in range(2)]
    return np.repeat(np.array(cells), counts.ravel(), axis=0).T


@pytest.mark.parametrize("name", ["ppv", "npv"])
def test_differences_of_predictive_values_tend_to_the_delta_method_of_r(name: str) -> None:
    found = astuple(getattr(compare_rates(*large_sample()), name))
    value, low, high = R[f"large_{name}"]
    assert found[0] == pytest.approx(value, abs=1e-10)
    assert found[1:] == pytest.approx((low, high), abs=0.01 * (high - low))


def test_non_inferiority_follows_the_lower_bound_of_r() -> None:
    low = R["specificity"][1]
    assert low > 0  # superior, so not inferior by any margin
    reverse = compare_rates(TRUTH, SECOND, FIRST).specificity.difference
    assert reverse.low == pytest.approx(-R["specificity"][2], abs=1e-9)
    assert not reverse.low > -0.15 < reverse.high  # -0.1501: not shown at 0.15, shown at 0.16
    assert reverse.low > -0.16


def test_ordinal_concordance_has_the_variance_of_r() -> None:
    value, variance = R["ordinal"]
    half = norm.ppf(0.975) * variance**0.5 / (value * (1 - value))
    found = ordinal_concordance(R["class"], R["score"])
    assert astuple(found) == pytest.approx((value, *expit(logit(value) + np.array([-half, half]))), abs=1e-9)


def test_sample_sizes_are_those_of_r() -> None:
    sizes = [
        size_for_area(0.85, 0.1, ratio=2)[0],
        size_for_area_difference(0.88, 0.8, 0.4)[0],
        size_for_paired_rates(0.05, 0.07, margin=0.05),
        size_for_calibration(0.2, 0.3, 5.0, area=0.8),
    ]
    assert sizes == R["sizes"]


def test_difference_of_two_areas_is_that_of_independent_samples() -> None:
    rng = np.random.default_rng(5)
    y = rng.random(300) < 0.4
    score = y + rng.normal(0, 1.2, 300)
    names = np.where(np.arange(300) < 120, "men", "women")
    found = areas_differ(y, score, names)
    assert found is not None
    assert found.difference is not None
    men, women = (auc(y[names == name], score[names == name]) for name in ("men", "women"))
    assert men.variance is not None
    assert women.variance is not None
    half = norm.ppf(0.975) * (men.variance + women.variance) ** 0.5
    gap = men.value - women.value
    assert astuple(found.difference) == pytest.approx((gap, gap - half, gap + half), abs=1e-9)
    assert areas_differ(y, score, np.arange(300) % 3).difference is None  # type: ignore[union-attr]
