"""Clustered, subgroup and small meta-analyses, and sample sizes, against R (oracle/study_design.R)."""

import json
from pathlib import Path

import numpy as np
import pytest

from osteo_monai.statistics.meta_analysis import fit_bivariate, meta_regression
from osteo_monai.statistics.sample_size import size_for_paired_rates, size_for_rate

FOLDER = Path(__file__).parent / "oracle"
R = json.loads((FOLDER / "study_design.json").read_text())
DATA = json.loads((FOLDER / "three_level.json").read_text())
TABLES = np.array(DATA["tables"])


def test_clustered_standard_errors_are_those_of_metafor() -> None:
    point = fit_bivariate(TABLES, "reml").clustered(DATA["study"]).summary()
    assert [*point.mean, *point.standard_errors] == pytest.approx(R["clustered"], abs=1e-5)


def test_subgroups_are_compared_as_by_metafor() -> None:
    second = np.arange(len(TABLES)) % 2 == 0
    assert meta_regression(TABLES, second, "ml")[1].chi2 == pytest.approx(R["subgroup_chi2"], abs=1e-4)


def test_five_studies_are_pooled_as_by_metafor() -> None:
    fit = fit_bivariate(TABLES[R["small_tables"]], "reml")
    point = fit.summary()
    assert [*point.mean, *point.standard_errors, *fit.tau2] == pytest.approx(R["small"], abs=1e-4)


def test_sizes_for_a_rate_are_those_of_r() -> None:
    sizes = [size_for_rate(0.9, 0.1), size_for_rate(0.95, 0.06), size_for_rate(0.8, 0.2, 0.9)]
    assert sizes == R["rates"]


def test_size_for_paired_rates_has_its_power_in_r() -> None:
    too_few, enough, _ = R["mcnemar_power"]
    assert size_for_paired_rates(0.1, 0.03) == 224
    assert too_few < 0.8 <= enough
