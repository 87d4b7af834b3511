"""Screening with a site calibration and with a contrast correction."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.cli.screening_run import result_lines
from osteo_monai.domain import BoneStatus, DensityThresholds, MineralStandard, Severity
from osteo_monai.measurement.calibration import (
    PUBLISHED_CONTRAST,
    Scanner,
    calibrate,
    fit_regression,
    lines,
    regression_rows,
)
from osteo_monai.measurement.calibration.site import SiteFile
from osteo_monai.reporting import write_report
from osteo_monai.screening import (
    RegistryCalibration,
    ScreeningOptions,
    ScreeningResult,
    SiteCalibration,
    screen_volume,
)
from osteo_monai.screening.ct.site_scan import is_enhanced
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS
from osteo_monai.screening.result import TissueValues
from osteo_monai.screening.summary import summary_row

from ..conftest import MakeModels, MakeVolume, grid
from .helpers import assert_refused

HEADER: dict[str, Any] = {"manufacturer": "Philips", "model": "Brilliance 64", "acquired": date(2026, 3, 1)}


def site_file(folder: Path, **changes: Any) -> Path:
    hu = np.linspace(50, 250, 30)
    facts: dict[str, Any] = {
        "program": "osteo-monai test",
        "fitted": date(2026, 2, 1),
        "scanner": Scanner(manufacturer="Philips", model="Brilliance 64"),
        "kvp": 120.0,
        "standard": MineralStandard.K2HPO4,
        "contrast": "native",
        "region": "central-trabecular 1.0",
        "method": "line",
        "regression": fit_regression(regression_rows(hu), 0.8 * hu - 5.0 + np.tile([2.0, -1.0, -1.0], 10)),
        "scans": 30,
        "subjects": 30,
        "density_range": (35.0, 195.0),
        "cross_validation": {"bias": 0.0},
    }
    path = folder / "site.json"
    path.write_text(SiteFile(**(facts | changes)).model_dump_json())
    return path


@pytest.fixture
def enhanced_hu(phantom_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """The phantom with 165 HU in the aorta, by 120 HU denser, and 12 HU more in all bone."""
    x, y, z = grid()
    hu = phantom_hu.copy()
    hu[hu > 100.0] += 12.0
    hu[np.broadcast_to(((x + 8.0) ** 2 + (y - 36.0) ** 2 + 0 * z) <= 11.0**2, hu.shape)] += 120.0
    return hu


def codes(result: ScreeningResult) -> set[str]:
    return {f.code for f in result.findings if f.severity is not Severity.INFO}


def test_a_site_line_is_used_with_number_and_date(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path)))
    result, _ = screen_volume(make_volume(**HEADER), make_models(), options)
    assert result.verdict == "accepted", result.findings
    assert result.calibration is not None
    assert (result.calibration.method, round(result.calibration.slope, 2)) == ("site", 0.8)
    assert "30 native scans" in result.calibration.note
    assert "2026-02-01" in result.calibration.note
    for m in result.levels:
        assert m.density.mg_cm3 == pytest.approx(0.8 * m.hu.representative - 5, abs=1.0)
        assert m.density.interval_high - m.density.interval_low < 8.0  # physics: 30


def test_a_line_for_another_tube_voltage_needs_no_warning(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path, kvp=100.0)))
    result, _ = screen_volume(make_volume(**HEADER, kvp=100.0), make_models(), options)
    assert result.verdict == "accepted", result.findings


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"manufacturer": "Siemens"}, "the scan is of Siemens Brilliance 64"),
        ({"kvp": 100.0}, "the scan has 100 kVp"),
        ({"kvp": None}, "the tube voltage of the scan is unknown"),
    ],
)
def test_another_scanner_or_voltage_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path, header: dict[str, Any], reason: str
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path)))
    result, _ = screen_volume(make_volume(**(HEADER | header)), make_models(), options)
    assert_refused(result, "calibration_not_possible")
    assert any(reason in f.message for f in result.findings)
    assert result.tissues is not None  # a refused study is still followed over time


def test_an_enhanced_scan_is_refused_by_the_aorta(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path, enhanced_hu: NDArray[np.float32]
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path)))
    result, _ = screen_volume(make_volume(enhanced_hu, **HEADER), make_models(), options)
    assert_refused(result, "calibration_not_possible")
    assert any("the scan is contrast-enhanced" in f.message for f in result.findings)


def test_a_native_aorta_overrides_an_agent_in_the_header(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path)))
    result, _ = screen_volume(make_volume(**HEADER, contrast="agent: oral"), make_models(), options)
    assert result.density is not None, result.findings


def test_an_old_calibration_and_an_unknown_scanner_warn(
    make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path
) -> None:
    options = ScreeningOptions(calibration=SiteCalibration(site_file(tmp_path, valid_days=10)))
    result, _ = screen_volume(make_volume(acquired=date(2026, 3, 1)), make_models(), options)
    assert codes(result) == {"site_scanner_unknown", "site_calibration_old"}


def test_raw_and_corrected_density_are_both_given(
    make_volume: MakeVolume, make_models: MakeModels, enhanced_hu: NDArray[np.float32]
) -> None:
    volume, models = make_volume(enhanced_hu, **HEADER), make_models()
    plain, _ = screen_volume(volume, models)
    result, _ = screen_volume(volume, models, ScreeningOptions(contrast_correction=PUBLISHED_CONTRAST))
    assert plain.contrast is None
    assert result.density == plain.density
    assert result.contrast is not None
    assert result.density is not None
    assert result.contrast.aorta_hu == pytest.approx(165, abs=3)
    assert result.contrast.shift_mg_cm3 == pytest.approx(9.9, abs=0.3)
    assert result.contrast.density.mg_cm3 == pytest.approx(result.density.mg_cm3 - result.contrast.shift_mg_cm3)
    raw = result.density.interval_high - result.density.interval_low
    assert result.contrast.density.interval_high - result.contrast.density.interval_low > raw
    assert (result.status, result.contrast.classified) == (plain.status, False)
    row = summary_row(result)
    assert row["density_mg_cm3"] == round(result.density.mg_cm3, 1)
    assert row["corrected_mg_cm3"] == round(result.contrast.density.mg_cm3, 1)
    assert row["aorta_hu"] == pytest.approx(165, abs=3)
    assert (row["manufacturer"], row["acquired"]) == ("Philips", "2026-03-01")
    assert row["air_hu"] == pytest.approx(-1000, abs=2)
    assert ScreeningResult.model_validate_json(result.model_dump_json()) == result


def test_the_class_follows_the_corrected_density_on_request_only(
    make_volume: MakeVolume, make_models: MakeModels, enhanced_hu: NDArray[np.float32]
) -> None:
    volume, models = make_volume(enhanced_hu - 2.0, **HEADER), make_models()
    raw = screen_volume(volume, models)[0].density
    assert raw is not None
    thresholds = DensityThresholds(40.0, raw.mg_cm3 - 5.0)  # between the two densities
    results = [
        screen_volume(
            volume,
            models,
            ScreeningOptions(
                thresholds=thresholds, contrast_correction=PUBLISHED_CONTRAST, classify_corrected=classify
            ),
        )[0]
        for classify in (False, True)
    ]
    assert [r.status for r in results] == [BoneStatus.NORMAL, BoneStatus.OSTEOPENIA]
    assert all("contrast_changes_class" in codes(r) for r in results)
    assert results[0].density == results[1].density
    assert results[1].contrast is not None
    assert results[1].distance_to_thresholds is not None
    distance = results[1].distance_to_thresholds["normal_above"]
    assert distance == pytest.approx(results[1].contrast.density.mg_cm3 - thresholds.normal_above)


def test_a_native_scan_is_not_corrected(make_volume: MakeVolume, make_models: MakeModels) -> None:
    options = ScreeningOptions(contrast_correction=PUBLISHED_CONTRAST)
    result, _ = screen_volume(make_volume(**HEADER), make_models(), options)
    assert result.contrast is None
    assert [f.message for f in result.findings if f.code == "contrast_not_corrected"] == [
        "The density was not corrected for contrast agent: the aorta is not enhanced."
    ]


def test_a_correction_that_does_not_hold_is_a_warning(
    make_volume: MakeVolume, make_models: MakeModels, enhanced_hu: NDArray[np.float32]
) -> None:
    narrow = PUBLISHED_CONTRAST.model_copy(update={"aorta_range": (60.0, 120.0)})
    result, _ = screen_volume(
        make_volume(enhanced_hu, **HEADER), make_models(), ScreeningOptions(contrast_correction=narrow)
    )
    assert result.contrast is None
    assert result.density is not None
    assert "contrast_not_corrected" in codes(result)


def test_a_site_line_of_native_scans_serves_an_enhanced_scan_that_is_corrected(
    make_volume: MakeVolume, make_models: MakeModels, enhanced_hu: NDArray[np.float32], tmp_path: Path
) -> None:
    for contrast in ("native", "enhanced"):
        file = site_file(tmp_path, contrast=contrast)
        options = ScreeningOptions(calibration=SiteCalibration(file), contrast_correction=PUBLISHED_CONTRAST)
        result, _ = screen_volume(make_volume(enhanced_hu, **HEADER), make_models(), options)
        assert (result.contrast is not None) == (contrast == "native"), result.findings


def test_a_class_of_the_corrected_density_needs_a_correction() -> None:
    with pytest.raises(ValueError, match="contrast_correction must be given"):
        ScreeningOptions(classify_corrected=True)


@pytest.mark.parametrize(
    ("aorta", "header", "enhanced"),
    [
        ((160.0, 0.9), None, True),
        ((160.0, 0.3), None, True),  # enough for a warning
        ((45.0, 0.9), "agent: oral", False),
        ((45.0, 0.3), "agent: IV", True),  # perhaps no aorta
        ((45.0, 0.3), None, None),
        ((None, 0.0), "agent: IV", True),
        ((None, 0.0), None, None),
    ],
)
def test_enhancement_follows_a_certain_aorta_and_else_the_header(
    aorta: tuple[float | None, float], header: str | None, enhanced: bool | None
) -> None:
    values = TissueValues(aorta_hu=aorta[0], aorta_certainty=aorta[1])
    assert is_enhanced(values, header, DEFAULT_LIMITS) is enhanced


# --- registry lines -----------------------------------------------------------------------------------------------


def test_no_line_without_a_source_is_used_silently(
    make_volume: MakeVolume, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The default is physics; a shipped line is refused by default, and one that is chosen is marked everywhere."""
    assert type(ScreeningOptions().calibration).__name__ == "PhysicsCalibration"
    shipped = lines.registry_lines()
    assert {line.status for line in shipped.values()} == {"unverified"}
    for name in shipped:
        with pytest.raises(ValueError, match="must be verified"):
            calibrate("registry", kvp=120.0, registry_name=name)
        result, _ = screen_volume(
            make_volume(**HEADER), make_models(), ScreeningOptions(calibration=RegistryCalibration(name))
        )
        assert_refused(result, "calibration_not_possible")  # no mineral standard is stated
    stated = shipped["philips-ict"].model_copy(update={"standard": MineralStandard.K2HPO4})
    monkeypatch.setattr(lines, "registry_lines", lambda: {"philips-ict": stated})
    result, _ = screen_volume(
        make_volume(**HEADER), make_models(), ScreeningOptions(calibration=RegistryCalibration("philips-ict"))
    )
    assert result.calibration is not None
    assert result.calibration.verified is False
    assert "calibration_unverified" in codes(result)
    assert "calibration_unverified" in str(summary_row(result)["warnings"])
    write_report(result, None, tmp_path / "report.html")
    assert "NOT VERIFIED" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_shows_raw_and_corrected_density(
    make_volume: MakeVolume, make_models: MakeModels, enhanced_hu: NDArray[np.float32], tmp_path: Path
) -> None:
    for classify, used in ((False, "raw"), (True, "corrected")):
        options = ScreeningOptions(contrast_correction=PUBLISHED_CONTRAST, classify_corrected=classify)
        result, _ = screen_volume(make_volume(enhanced_hu, **HEADER), make_models(), options)
        assert result.contrast is not None
        assert result.density is not None
        write_report(result, None, tmp_path / "report.html")
        text = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
        assert f"{result.density.mg_cm3:.1f}" in text
        assert f"Corrected: {result.contrast.density.mg_cm3:.1f} mg/cm³" in text
        assert f"The class is that of the {used} density." in text
        assert "abstract read only" in text
        printed = result_lines(result, "study")
        assert len(printed) == 2
        assert "not corrected for contrast agent" in printed[0]
        assert printed[1].startswith("Corrected for contrast agent (aorta 165 HU)")
        assert printed[1].endswith(f"The class is that of the {used} density.")
