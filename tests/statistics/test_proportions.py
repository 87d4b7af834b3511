"""Intervals of a proportion and McNemar's test, against base R and by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.statistics.proportions import clopper_pearson, mcnemar, proportion, wilson

REFERENCE = json.loads((Path(__file__).parent / "oracle" / "proportions.json").read_text())
ORACLE, MCNEMAR = REFERENCE["proportion_ci"], REFERENCE["mcnemar"]
METHODS = {"wilson": wilson, "clopper_pearson": clopper_pearson}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("row", ORACLE, ids=lambda r: f"{r['x']} of {r['n']}")
def test_intervals_equal_those_of_base_r(row: Any, name: Any) -> None:
    found = METHODS[name](row["x"], row["n"], 0.95)
    assert found.value == pytest.approx(row["p"], abs=1e-15)
    assert (found.low, found.high) == pytest.approx(row[name], abs=1e-10)


def test_wilson_by_hand() -> None:
    # z = 1.959964, w = z^2 / 10 = 0.384146: centre (0.5 + w / 2) / (1 + w) = 0.5
    found = wilson(5, 10)
    half = 1.959963984540054 * math.sqrt(0.25 / 10 + 0.3841458820694124 / 40) / 1.3841458820694124
    assert found.low == pytest.approx(0.5 - half, abs=1e-12)
    assert found.high == pytest.approx(0.5 + half, abs=1e-12)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
def test_bounds_at_none_and_all_are_exact(function: Any) -> None:
    assert function(0, 10).low == 0.0
    assert function(10, 10).high == 1.0
    assert 0.6 < function(10, 10).low < 0.8


@pytest.mark.parametrize(("x", "n"), [(-1, 3), (4, 3), (0, 0), (math.nan, 3), (1, math.inf)])
def test_what_is_no_proportion_is_refused(x: float, n: float) -> None:
    with pytest.raises(ValueError, match="x must be 0 to n and n above 0"):
        wilson(x, n)


def test_no_case_gives_no_number() -> None:
    found = proportion(0, 0)
    assert math.isnan(found.value)
    assert math.isnan(found.low)


def test_level_is_checked() -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        wilson(1, 2, 95)


def test_interval_contains_its_numbers() -> None:
    assert 0.5 in wilson(5, 10)
    assert 0.99 not in wilson(5, 10)


def test_a_proportion_has_its_counts_and_method() -> None:
    found = proportion(242, 251, method="clopper-pearson")
    assert (found.events, found.total) == (242, 251)
    assert (found.low, found.high) == (clopper_pearson(242, 251).low, clopper_pearson(242, 251).high)
    with pytest.raises(ValueError, match="must be one of wilson, clopper-pearson, got 'exact'"):
        proportion(1, 2, method="exact")  # type: ignore[arg-type]


# --- McNemar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", MCNEMAR, ids=lambda r: f"{r['b']} against {r['c']}")
def test_mcnemar_equals_that_of_base_r(row: Any) -> None:
    found = mcnemar(row["b"], row["c"])
    assert (found.chi2, found.p) == pytest.approx((row["chi2_nocc"], row["p_nocc"]), abs=1e-10)
    assert (found.chi2_corrected, found.p_corrected) == pytest.approx((row["chi2_cc"], row["p_cc"]), abs=1e-10)
    assert found.p_exact == pytest.approx(row["p_exact"], abs=1e-10)


def test_mcnemar_at_its_edges() -> None:
    assert mcnemar(0, 0).p_exact == mcnemar(0, 0).p == 1
    equal = mcnemar(4, 4)
    assert (equal.chi2, equal.chi2_corrected, equal.p_exact) == (0, 0, 1)
    assert mcnemar(3, 0).p_exact == pytest.approx(2 / 8)
    with pytest.raises(ValueError, match="whole numbers of 0 or more, got -1 and 2"):
        mcnemar(-1, 2)
