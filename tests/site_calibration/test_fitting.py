"""Fit of site calibrations and contrast corrections to simulated scans."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.cli.app import run
from osteo_monai.cohort.scans import Scan, write_scans
from osteo_monai.domain import ContrastPhase, MineralStandard
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import (
    PUBLISHED_CONTRAST,
    Scanner,
    SiteScan,
    TissueSample,
    contrast_shift,
    density,
    physics,
    read_contrast_correction,
    read_site_file,
    site_line,
)
from osteo_monai.measurement.region import REGION_RULE
from osteo_monai.site_calibration import calibrate_site, calibration_products, fit_contrast, fit_site
from osteo_monai.virtual.ct import CTPalette

SCANNER = Scanner(manufacturer="Philips", model="Brilliance 64")
SLOPE, INTERCEPT = 0.78, -4.0


def scans(n: int, seed: int = 0, gain_sd: float = 0.0, blood_sd: float = 5.0, error_sd: float = 4.0) -> list[Scan]:
    """Return scans whose known density is a line of the HU, with an error, and whose HU scale may vary."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        true = float(rng.uniform(40, 190))
        gain = float(rng.normal(1.0, gain_sd))
        scale: Callable[[float], float] = lambda hu, gain=gain: gain * (hu + 1000.0) - 1000.0  # type: ignore[misc]  # noqa: E731
        made.append(
            Scan(
                subject=f"p{i}",
                image=f"p{i}.nii.gz",
                hu=scale((true - INTERCEPT) / SLOPE),
                scanner=SCANNER,
                kvp=120.0,
                phase=ContrastPhase.NATIVE,
                tissues={
                    "air": -1000.0 + float(rng.normal(0, 1)),
                    "adipose": scale(-105.0 + float(rng.normal(0, 8))),
                    "blood": scale(42.0 + float(rng.normal(0, blood_sd))),
                },
                acquired=date(2026, 1, 1 + i % 28),
                bmd_mg_cm3=true + float(rng.normal(0, error_sd)),
                standard=MineralStandard.K2HPO4,
            )
        )
    return made


def line_and_scan(fit_file: Any, scan: Scan) -> Any:
    facts = SiteScan(scan.scanner, scan.kvp, False, scan.acquired, scan.region)
    samples = {name: TissueSample(hu, 500.0) for name, hu in scan.tissues.items()}
    return density(scan.hu, site_line(fit_file, facts, samples))


def test_the_line_is_recovered_and_its_error_is_that_of_other_subjects() -> None:
    fit = fit_site(scans(60), "line", today=date(2026, 2, 1))
    intercept, slope = fit.file.regression.coefficients
    assert slope == pytest.approx(SLOPE, abs=0.03)
    assert intercept == pytest.approx(INTERCEPT, abs=5.0)
    assert fit.file.regression.residual_sd == pytest.approx(4.0, abs=1.0)
    assert (fit.file.scans, fit.file.subjects, fit.file.fitted) == (60, 60, date(2026, 2, 1))
    assert (fit.file.first_scan, fit.file.last_scan) == (date(2026, 1, 1), date(2026, 1, 28))
    # left out: predicted by the others, so that the error is larger than the residuals
    x, y = np.array([s.hu for s in fit.scans]), fit.reference
    others = np.delete(np.arange(60), 7)
    assert fit.predicted[7] == pytest.approx(np.polyval(np.polyfit(x[others], y[others], 1), x[7]))
    assert fit.agreement.sd > float(np.std(y - slope * x - intercept, ddof=1))
    assert fit.file.cross_validation["sd"] == pytest.approx(fit.agreement.sd, abs=1e-3)


def test_all_scans_of_a_subject_are_left_out_together() -> None:
    twice = [replace(s, subject=f"p{i // 2}") for i, s in enumerate(scans(60))]
    fit = fit_site(twice, "line")
    assert (fit.file.scans, fit.file.subjects) == (60, 30)
    assert fit.file.regression.degrees_of_freedom == 28
    x, y = np.array([s.hu for s in fit.scans]), fit.reference
    assert fit.predicted[1] == pytest.approx(np.polyval(np.polyfit(x[2:], y[2:], 1), x[1]))


@pytest.mark.parametrize("method", ["line", "precalibrated"])
def test_new_scans_are_covered(method: Any) -> None:
    inside = []
    for seed in range(30):
        fit = fit_site(scans(40, seed, gain_sd=0.01), method)
        for scan in scans(60, 1000 + seed, gain_sd=0.01):
            value = line_and_scan(fit.file, scan)
            inside.append(value.interval_low <= (scan.bmd_mg_cm3 or 0.0) <= value.interval_high)
    assert 0.88 <= np.mean(inside) <= 0.92, np.mean(inside)


def test_cross_validation_covers_as_stated() -> None:
    covered = [fit_site(scans(60, seed), "line").file.cross_validation["coverage_90"] for seed in range(20)]
    assert 0.88 <= np.mean(covered) <= 0.92


def test_the_internal_method_holds_where_the_hu_scale_of_the_scanner_varies() -> None:
    unstable = scans(60, gain_sd=0.03, blood_sd=2.0)
    line, internal = fit_site(unstable, "line"), fit_site(unstable, "precalibrated")
    assert internal.agreement.sd < 0.6 * line.agreement.sd
    assert line.alternatives["precalibrated air, blood"] == pytest.approx(internal.agreement.sd)
    stable = scans(60, gain_sd=0.0, blood_sd=12.0)
    assert fit_site(stable, "precalibrated").agreement.sd > 1.3 * fit_site(stable, "line").agreement.sd


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:19], "at least 20 subjects, got 19"),
        (lambda s: [replace(x, subject="one") for x in s], "at least 20 subjects, got 1"),
        (lambda s: [replace(x, bmd_mg_cm3=None) for x in s], "got 0; 40 scans were left out, first: no known density"),
        (
            lambda s: [*s[1:], replace(s[0], scanner=Scanner(manufacturer="Siemens", model="AS+"))],
            r"scanner must be the same for all scans, got Philips Brilliance 64 (39), Siemens AS+ (1)",
        ),
        (
            lambda s: [*s[1:], replace(s[0], scanner=Scanner())],
            "scanner must be known for all scans, from header or manifest, got 1 without",
        ),
        (lambda s: [*s[1:], replace(s[0], kvp=100.0)], "tube voltage must be the same for all scans, got 120 kVp (39)"),
        (
            lambda s: [*s[1:], replace(s[0], kvp=None)],
            "tube voltage must be known for all scans, from",
        ),
        (
            lambda s: [*s[1:], replace(s[0], standard=MineralStandard.HYDROXYAPATITE)],
            "mineral standard must be the same for all scans, got K2HPO4 (39), hydroxyapatite (1)",
        ),
        (
            lambda s: [*s[1:], replace(s[0], phase=ContrastPhase.PORTAL_VENOUS)],
            "contrast state must be the same for all scans, got native (39), enhanced (1)",
        ),
        (
            lambda s: [replace(x, bmd_mg_cm3=100.0 + i % 3) for i, x in enumerate(s)],
            "known densities must have an SD of at least 15 mg/cm3, got 0.8",
        ),
        (
            lambda s: [replace(x, bmd_mg_cm3=s[i - 7].bmd_mg_cm3) for i, x in enumerate(s)],
            "check that each density belongs to its scan",
        ),
    ],
)
def test_unsuitable_scans_give_one_sentence(change: Any, message: str) -> None:
    with pytest.raises(UnusableInputError, match=re.escape(message)) as caught:
        fit_site(change(scans(40)), "line")
    assert "\n" not in str(caught.value)


def test_missing_tissues_are_named() -> None:
    without = [replace(s, tissues={"air": -1000.0}) for s in scans(40)]
    with pytest.raises(UnusableInputError, match="first: blood not found"):
        fit_site(without, "precalibrated")
    enhanced = [replace(s, phase=ContrastPhase.PORTAL_VENOUS) for s in scans(40)]
    with pytest.raises(UnusableInputError, match="must not contain blood"):
        fit_site(enhanced, "precalibrated")
    assert fit_site(enhanced, "line").file.contrast == "enhanced"


def test_an_outlier_is_flagged_and_not_removed() -> None:
    assert fit_site(scans(40), "line").file.flags == ()
    wrong = scans(40)
    wrong[3] = replace(wrong[3], bmd_mg_cm3=(wrong[3].bmd_mg_cm3 or 0.0) + 40.0)
    fit = fit_site(wrong, "line")
    assert fit.file.flags == (
        "Scan p3.nii.gz is an outlier: its density does not follow from its HU as in the others.",
    )
    assert fit.file.scans == 40


def test_an_implausible_slope_is_flagged() -> None:
    steep = [replace(s, bmd_mg_cm3=(s.bmd_mg_cm3 or 0.0) * 1.6) for s in scans(40)]
    assert any("slope of 1.2" in flag for flag in fit_site(steep, "line").file.flags)


# --- contrast -----------------------------------------------------------------------------------------------------


def pairs(n: int, seed: int = 0, ratio: float = 0.1, sd: float = 3.0) -> list[Scan]:
    """Return native and portal-venous scans of n subjects; the bone rises by a share of the enhancement."""
    rng = np.random.default_rng(seed)
    made = []
    for i, native in enumerate(scans(n, seed)):
        enhancement = float(rng.uniform(70, 170))
        made.append(replace(native, aorta_hu=44.0, image=f"n{i}.nii.gz"))
        made.append(
            replace(
                native,
                image=f"e{i}.nii.gz",
                phase=ContrastPhase.PORTAL_VENOUS,
                aorta_hu=45.0 + enhancement,
                hu=native.hu + ratio * enhancement + float(rng.normal(0, sd)),
            )
        )
    return made


def test_the_share_of_the_enhancement_is_recovered() -> None:
    fit = fit_contrast(pairs(60), today=date(2026, 2, 1))
    assert fit.file.fit.slope == pytest.approx(0.1, abs=0.03)
    assert fit.file.pairs == 60
    assert fit.file.phase is ContrastPhase.PORTAL_VENOUS
    assert abs(fit.agreement.bias.value) < 0.2
    assert fit.agreement.sd == pytest.approx(3.0, abs=0.6)
    assert fit.uncorrected[0] == pytest.approx(12.0, abs=1.5)
    assert contrast_shift(fit.file, 165.0, 0.8, SCANNER, 120.0)[0] == pytest.approx(0.8 * 12.0, abs=1.0)


def test_new_enhanced_scans_are_covered_after_correction() -> None:
    inside = []
    for seed in range(40):
        file = fit_contrast(pairs(20, seed)).file
        new = pairs(40, 500 + seed)
        for native, enhanced in zip(new[::2], new[1::2], strict=True):
            low, high = file.aorta_range
            if low <= (enhanced.aorta_hu or 0.0) <= high:
                shift, sd = contrast_shift(file, enhanced.aorta_hu or 0.0, 1.0, SCANNER, 120.0)
                inside.append(abs(enhanced.hu - native.hu - shift) <= 1.6449 * sd)
    assert 0.88 <= np.mean(inside) <= 0.92, np.mean(inside)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:28], "at least 15 subjects, got 14"),
        (lambda s: s[::2], "got 0; 20 scans were left out, first: the subject has no enhanced scan"),
        (lambda s: [replace(x, kvp=100.0) if i == 1 else x for i, x in enumerate(s)], "tube voltage must be the same"),
        (
            lambda s: [replace(x, phase=ContrastPhase.ARTERIAL) if i == 1 else x for i, x in enumerate(s)],
            "contrast phase must be the same for all scans, got portal_venous (19), arterial (1)",
        ),
        (lambda s: [replace(x, aorta_hu=None) for x in s], "first: the aorta was not found with certainty"),
    ],
)
def test_unsuitable_pairs_give_one_sentence(change: Any, message: str) -> None:
    with pytest.raises(UnusableInputError, match=re.escape(message)):
        fit_contrast(change(pairs(20)))


def test_one_phase_can_be_chosen() -> None:
    mixed = [replace(x, phase=ContrastPhase.ARTERIAL) if i == 1 else x for i, x in enumerate(pairs(20))]
    assert fit_contrast(mixed, ContrastPhase.PORTAL_VENOUS).file.pairs == 19


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["line", "precalibrated"])
def test_the_command_writes_a_file_that_screening_reads(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, output = tmp_path / "scans.csv", tmp_path / "out" / "site.json"
    write_scans(table, scans(40))
    words = ["calibrate", "fit", str(table), "-o", str(output), "--method", method]
    assert run(words) == 0
    printed = capsys.readouterr().out
    assert "each subject predicted by a fit without it" in printed
    assert "SD by another method on the same scans" in printed
    assert all(path.stat().st_size > 100 for path in calibration_products(output))
    assert read_site_file(output).region == REGION_RULE
    assert run(words) == 2  # exists
    assert "--overwrite must be given" in capsys.readouterr().err
    # the written table gives the same fit
    again, _ = calibrate_site(tmp_path / "out" / "site_scans.csv", tmp_path / "again.json", method)  # type: ignore[arg-type]
    assert again.file.regression.coefficients == pytest.approx(read_site_file(output).regression.coefficients, rel=1e-4)


def test_the_command_fits_a_contrast_correction(tmp_path: Path) -> None:
    table, output = tmp_path / "scans.csv", tmp_path / "contrast.json"
    write_scans(table, pairs(20))
    assert run(["calibrate", "contrast", str(table), "-o", str(output)]) == 0
    assert read_contrast_correction(output).pairs == 20


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"hu": "x"}, "line 2: hu must be a number, got 'x'"),
        ({"hu": ""}, "line 2: subject_id and hu must be given"),
        ({"bmd_standard": "water"}, "line 2: bmd_standard must be K2HPO4 or hydroxyapatite, got 'water'"),
        ({"contrast_phase": "late"}, "line 2: contrast_phase must be one of"),
        ({"acquired": "May"}, "line 2: acquired must be a day such as 2026-03-01, got 'May'"),
    ],
)
def test_a_wrong_table_is_refused(
    tmp_path: Path, cells: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"subject_id": "a", "hu": "100", "bmd_standard": "K2HPO4", "contrast_phase": "native", "acquired": ""}
    row = facts | cells
    table = tmp_path / "scans.csv"
    table.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    assert run(["calibrate", "fit", str(table), "-o", str(tmp_path / "site.json")]) == 2
    assert message in capsys.readouterr().err


def test_a_manifest_without_densities_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    header = {"name": "a", "description": "b", "virtual": True, "test": [{"image": "a.nii.gz", "subject_id": "a"}]}
    (tmp_path / "m.json").write_text(json.dumps(header))
    assert run(["calibrate", "fit", str(tmp_path / "m.json"), "-o", str(tmp_path / "site.json")]) == 2
    assert "must have records with bmd_mg_cm3, got none" in capsys.readouterr().err


def test_wrong_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "scans.csv"
    write_scans(table, scans(3))
    assert run(["calibrate", "fit", str(table), "-o", str(tmp_path / "s.json"), "--tissues", "air,steel"]) == 2
    assert "--tissues must be two or more of air, adipose" in capsys.readouterr().err
    assert run(["calibrate", "fit", str(table), "-o", str(table), "--overwrite"]) == 2
    assert "--output must be another file" in capsys.readouterr().err


# --- virtual people -----------------------------------------------------------------------------------------------


def virtual_pairs(seeds: range) -> list[Scan]:
    """Return native and portal-venous scans of virtual people by the HU of their tissues."""
    made = []
    for native in scans(len(seeds), seeds.start):
        seed = seeds[int(native.subject[1:])]
        rng = np.random.default_rng([seed, 9])
        for phase in (ContrastPhase.NATIVE, ContrastPhase.PORTAL_VENOUS):
            palette = CTPalette(120.0, phase, seed=seed)
            bone = float(palette.bone(native.bmd_mg_cm3 or 0.0)) + float(rng.normal(0, 0.5))
            aorta = palette.tissue("aorta") + float(rng.normal(0, 0.5))
            made.append(replace(native, subject=f"v{seed}", hu=bone, aorta_hu=aorta, phase=phase))
    return made


def test_contrast_of_virtual_people_is_corrected() -> None:
    """Contrast raises the density by 9 mg/cm3; both corrections remove it in people that they were not fitted to."""
    fitted = fit_contrast(virtual_pairs(range(40))).file
    new = virtual_pairs(range(100, 140))
    slope = physics(120.0).slope
    uncorrected = [slope * (e.hu - n.hu) for n, e in zip(new[::2], new[1::2], strict=True)]
    assert np.mean(uncorrected) > 7.0
    for correction, sd in ((fitted, 1.0), (PUBLISHED_CONTRAST, 3.0)):
        left = []
        for (_, enhanced), shift in zip(zip(new[::2], new[1::2], strict=True), uncorrected, strict=True):
            low, high = correction.aorta_range
            if low <= (enhanced.aorta_hu or 0.0) <= high:
                left.append(shift - contrast_shift(correction, enhanced.aorta_hu or 0.0, slope, SCANNER, 120.0)[0])
        assert len(left) > 30
        assert abs(float(np.mean(left))) < sd
        assert float(np.std(left)) < sd
