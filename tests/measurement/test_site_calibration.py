"""Site calibration: the line of a scan, its prediction interval, and the scans that it refuses."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import MineralStandard
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import (
    PUBLISHED_CONTRAST,
    Scanner,
    SiteFile,
    SiteScan,
    TissueSample,
    contrast_shift,
    density,
    fit_regression,
    read_site_file,
    regression_rows,
    site_findings,
    site_line,
)

SCANNER = Scanner(manufacturer="Philips", model="Brilliance 64", station="CT1")
SCAN = SiteScan(SCANNER, 120.0, enhanced=False, acquired=date(2026, 3, 1), region="central-trabecular 1.0")
TISSUES = {"air": TissueSample(-1000.0, 500.0), "blood": TissueSample(45.0, 500.0)}


def calibration(rows: Any, target: Any, **changes: Any) -> SiteFile:
    facts: dict[str, Any] = {
        "program": "osteo-monai test",
        "fitted": date(2026, 2, 1),
        "scanner": SCANNER,
        "kvp": 120.0,
        "standard": MineralStandard.K2HPO4,
        "contrast": "native",
        "region": "central-trabecular 1.0",
        "method": "line",
        "regression": fit_regression(rows, target),
        "scans": len(target),
        "subjects": len(target),
        "first_scan": date(2025, 6, 1),
        "last_scan": date(2026, 1, 1),
        "density_range": (40.0, 200.0),
        "cross_validation": {"bias": 0.0},
    }
    return SiteFile(**(facts | changes))


def people(n: int, rng: np.random.Generator, tissue_sd: float = 6.0) -> tuple[Any, Any, Any]:
    """Density, HU of the bone, and HU of air and blood, for scans whose HU scale varies by 1 %."""
    true = rng.uniform(40, 200, n)
    gain = rng.normal(1.0, 0.01, n)
    bone = gain * (true / 0.75 + 1000.0) - 1000.0
    blood = gain * (45.0 + rng.normal(0, tissue_sd, n) + 1000.0) - 1000.0
    measured = true + rng.normal(0, 3.0, n)
    return measured, bone + rng.normal(0, 3.0, n), np.stack([np.full(n, -1000.0), blood], axis=1)


@pytest.mark.parametrize("method", ["line", "precalibrated"])
@pytest.mark.parametrize("scans", [20, 60])
def test_the_interval_of_a_new_scan_holds(method: str, scans: int) -> None:
    rng = np.random.default_rng(scans)
    held, total = 0, 0
    for _ in range(60):
        target, hu, tissues = people(scans, rng)
        of_fit = None if method == "line" else tissues
        names = () if method == "line" else ("air", "blood")
        site = calibration(regression_rows(hu, of_fit), target, method=method, tissues=names)
        for y, x, t in zip(*people(50, rng), strict=True):
            samples = {"air": TissueSample(float(t[0]), 500.0), "blood": TissueSample(float(t[1]), 500.0)}
            value = density(float(x), site_line(site, SCAN, samples))
            held += value.interval_low <= y <= value.interval_high
            total += 1
    assert 0.88 <= held / total <= 0.92, held / total


def test_a_line_is_recovered_and_its_interval_is_that_of_the_t_distribution() -> None:
    hu = np.linspace(40, 260, 25)
    target = 0.8 * hu - 6.0 + np.tile([1.0, -1.0, 2.0, -3.0, 1.0], 5)
    used = site_line(calibration(regression_rows(hu), target), SCAN, {})
    slope, intercept = np.polyfit(hu, target, 1)
    assert (used.slope, used.intercept) == pytest.approx((slope, intercept))
    residual = target - slope * hu - intercept
    s = np.sqrt(residual @ residual / 23)
    for x in (10.0, 150.0, 400.0):
        half = 1.7138715 * s * np.sqrt(1 + 1 / 25 + (x - hu.mean()) ** 2 / np.sum((hu - hu.mean()) ** 2))
        value = density(x, used)
        assert value.interval_high - value.mg_cm3 == pytest.approx(half, rel=1e-4)


def test_tissues_follow_the_hu_scale_of_a_scan() -> None:
    """A line is wrong by the error of the scale, the precalibrated method is not."""
    rng = np.random.default_rng(1)
    true = rng.uniform(40, 200, 40)
    gain = rng.normal(1.0, 0.02, 40)
    bone, blood = (gain * (h + 1000.0) - 1000.0 for h in (true / 0.75, np.full(40, 45.0)))
    tissues = np.stack([np.full(40, -1000.0), blood], axis=1)
    site = calibration(regression_rows(bone, tissues), true, method="precalibrated", tissues=("air", "blood"))
    samples = {"air": TissueSample(-1000.0, 9e2), "blood": TissueSample(1.05 * 1045.0 - 1000.0, 9e2)}
    assert density(1.05 * (100 / 0.75 + 1000) - 1000, site_line(site, SCAN, samples)).mg_cm3 == pytest.approx(100, 1e-6)
    assert site.regression.coefficients[0] == pytest.approx(-750.0, rel=1e-6)  # of air
    assert site.regression.coefficients[1] == pytest.approx(0.75 * 45.0, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"scanner": Scanner(manufacturer="Siemens", model="AS+")},
            "is for Philips Brilliance 64 CT1, the scan is of S",
        ),
        ({"kvp": 100.0}, "is for 120 kVp, the scan has 100 kVp"),
        ({"kvp": None}, "tube voltage of the scan is unknown"),
        ({"enhanced": True}, "is for native scans, the scan is contrast-enhanced"),
        ({"region": "other 2.0"}, "region rule central-trabecular 1.0, got other 2.0"),
    ],
)
def test_another_scan_is_refused(changes: dict[str, Any], reason: str) -> None:
    site = calibration(regression_rows(np.arange(20.0)), np.arange(20.0) * 0.8)
    with pytest.raises(ValueError, match=reason):
        site_line(site, SiteScan(**(SCAN.__dict__ | changes)), {})


def test_a_correction_of_contrast_permits_an_enhanced_scan() -> None:
    site = calibration(regression_rows(np.arange(20.0)), np.arange(20.0) * 0.8)
    enhanced = SiteScan(**(SCAN.__dict__ | {"enhanced": True}))
    assert site_line(site, enhanced, {}, corrects_contrast=True).slope == pytest.approx(0.8)
    for_enhanced = site.model_copy(update={"contrast": "enhanced"})
    assert site_line(for_enhanced, enhanced, {}).slope == pytest.approx(0.8)
    with pytest.raises(ValueError, match="no enhancement was found"):
        site_line(for_enhanced, SCAN, {})


def test_a_missing_tissue_is_named() -> None:
    _, hu, tissues = people(20, np.random.default_rng(0))
    site = calibration(regression_rows(hu, tissues), hu, method="precalibrated", tissues=("air", "blood"))
    with pytest.raises(ValueError, match="needs blood of the patient"):
        site_line(site, SCAN, {"air": TISSUES["air"]})


def test_use_that_is_in_doubt_warns_and_widens() -> None:
    rng = np.random.default_rng(0)
    target, hu, _ = people(30, rng)
    site = calibration(regression_rows(hu), target)
    assert not site_findings(site, SCAN, date(2026, 5, 1))
    unknown = SiteScan(**(SCAN.__dict__ | {"scanner": Scanner()}))
    assert [f.code for f in site_findings(site, unknown, date(2026, 5, 1))] == ["site_scanner_unknown"]
    assert site_line(site, unknown, {}).relative_sd == pytest.approx(0.092)
    assert site_line(site, SCAN, {}).relative_sd == 0.0
    other = SiteScan(
        **(SCAN.__dict__ | {"scanner": Scanner(manufacturer="PHILIPS", model="brilliance  64", station="B")})
    )
    assert [f.code for f in site_findings(site, other, date(2026, 5, 1))] == ["site_other_station"]
    assert site_line(site, other, {}).relative_sd == 0.0
    for day in (date(2027, 1, 2), date(2024, 5, 31)):  # 366 days after the last and before the first scan
        old = SiteScan(**(SCAN.__dict__ | {"acquired": day}))
        assert [f.code for f in site_findings(site, old, date(2026, 5, 1))] == ["site_calibration_old"]
    undated = SiteScan(**(SCAN.__dict__ | {"acquired": None}))
    assert [f.code for f in site_findings(site, undated, date(2027, 5, 1))] == ["site_calibration_old"]


def test_the_note_states_number_and_date() -> None:
    site = calibration(regression_rows(np.arange(20.0)), np.arange(20.0) * 0.8 + 1)
    assert "20 native scans" in site_line(site, SCAN, {}).note
    assert "2026-02-01" in site_line(site, SCAN, {}).note


def test_a_file_is_validated(tmp_path: Path) -> None:
    site = calibration(regression_rows(np.arange(20.0)), np.arange(20.0) * 0.8 + 1)
    path = tmp_path / "site.json"
    path.write_text(site.model_dump_json())
    assert read_site_file(path) == site
    with pytest.raises(UnusableInputError, match=r"'none.json' cannot be read"):
        read_site_file(tmp_path / "none.json")
    for change, word in (
        ({"kvp": 999}, "kvp"),
        ({"tissues": ["air", "steel"]}, "tissues"),
        ({"method": "precalibrated"}, "tissues"),
        ({"regression": site.regression.model_dump() | {"covariance": ((1.0, 2.0), (2.0, 1.0))}}, "positive definite"),
        ({"kind": "contrast correction"}, "kind"),
    ):
        path.write_text(__import__("json").dumps(site.model_dump(mode="json") | change))
        with pytest.raises(ValueError, match=word):
            read_site_file(path)


def test_the_published_contrast_correction() -> None:
    shift, sd = contrast_shift(PUBLISHED_CONTRAST, 165.0, 0.72, SCANNER, 120.0)
    assert shift == pytest.approx(9.90)
    assert sd > 4.28
    assert contrast_shift(PUBLISHED_CONTRAST, 165.0, 0.5, Scanner(), None) == (shift, sd)  # in mg/cm3 by itself
    assert "abstract" in PUBLISHED_CONTRAST.source
    with pytest.raises(ValueError, match="aorta of 60 to 250 HU, got 330 HU"):
        contrast_shift(PUBLISHED_CONTRAST, 330.0, 0.72, SCANNER, 120.0)


def test_a_fitted_contrast_correction_is_in_hu_and_bound_to_its_scanner() -> None:
    of_site = PUBLISHED_CONTRAST.model_copy(update={"unit": "HU", "scanner": SCANNER, "kvp": 120.0})
    assert contrast_shift(of_site, 165.0, 0.5, SCANNER, 120.0)[0] == pytest.approx(4.95)
    with pytest.raises(ValueError, match="is for 120 kVp, the scan has an unknown tube voltage"):
        contrast_shift(of_site, 165.0, 0.5, SCANNER, None)
    with pytest.raises(ValueError, match="the scan is of GE"):
        contrast_shift(of_site, 165.0, 0.5, Scanner(manufacturer="GE", model="X"), 120.0)


def test_dependent_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="independent columns"):
        fit_regression(regression_rows(np.full(20, 100.0)), np.arange(20.0))
    with pytest.raises(ValueError, match="more than 2 subjects"):
        fit_regression(regression_rows(np.arange(20.0)), np.arange(20.0), subjects=2)
