"""HU to mg/cm3: oracle values, round trips and refusals."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation
from osteo_monai.measurement import calibrate, density, mean_density
from osteo_monai.measurement.calibration import (
    MINDWAYS_MODEL_3,
    Phantom,
    RegistryLine,
    line_from_registry,
    phantom_fit,
    registry_lines,
    rod_medians,
    widened,
)
from osteo_monai.measurement.values import CalibrationUsed, Density

K2HPO4, HA = MineralStandard.K2HPO4, MineralStandard.HYDROXYAPATITE


class TestPhysics:
    @pytest.mark.parametrize(("kvp", "slope"), [(80, 0.534), (100, 0.638), (120, 0.720), (140, 0.789)])
    def test_slope_at_each_voltage(self, kvp: float, slope: float) -> None:
        line = calibrate("physics", kvp=kvp)
        assert line.slope == pytest.approx(slope, abs=0.001)
        assert line.intercept == 0.0
        assert line.standard is K2HPO4
        assert line.method == "physics"
        assert "Estimate" in line.note
        assert "0.2174" in line.note

    def test_hydroxyapatite_has_its_own_slope(self) -> None:
        line = calibrate("physics", kvp=120, standard=HA)
        assert line.slope == pytest.approx(1 / 1.354, abs=0.001)
        assert "3.16" in line.note

    def test_interval_follows_from_the_published_scatter(self) -> None:
        line = calibrate("physics", kvp=120)
        assert line.relative_sd == pytest.approx(math.hypot(0.080, 0.092))  # 12.2 %
        value = density(139.0, line)
        assert value.mg_cm3 == pytest.approx(100.0, abs=0.1)
        half = 1.6449 * math.hypot(12.19, 3.0)  # 20.7 mg/cm3
        assert value.interval_high - value.mg_cm3 == pytest.approx(half, abs=0.1)
        assert value.mg_cm3 - value.interval_low == pytest.approx(half, abs=0.1)

    def test_other_voltages_are_less_certain(self) -> None:
        assert calibrate(kvp=100).relative_sd > calibrate(kvp=120).relative_sd

    def test_unknown_or_impossible_voltage_is_refused(self) -> None:
        with pytest.raises(ValueError, match="kvp must be given for calibration by physics"):
            calibrate("physics", kvp=None)
        with pytest.raises(ValueError, match="kvp must be between 70 and 150"):
            calibrate("physics", kvp=60)

    def test_interval_of_no_density_is_the_offset_alone(self) -> None:
        value = density(0.0, calibrate(kvp=120))
        assert value.interval_high == pytest.approx(1.6449 * 3.0)

    def test_hu_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="hu must be a finite number"):
            density(float("nan"), calibrate(kvp=120))


class TestUserLine:
    @pytest.mark.parametrize("slope", [0.45, 0.72, 0.95])
    def test_within_the_range_it_is_taken_as_given(self, slope: float) -> None:
        line = calibrate("user", kvp=120, slope=slope, intercept=-7.58)
        assert density(100, line).mg_cm3 == pytest.approx(100 * slope - 7.58)

    @pytest.mark.parametrize("slope", [0.449, 0.951, -0.7, float("nan")])
    def test_outside_it_is_refused(self, slope: float) -> None:
        with pytest.raises(ValueError, match="slope must be between 0.45 and 0.95"):
            calibrate("user", kvp=120, slope=slope, intercept=0)

    def test_range_moves_with_the_voltage(self) -> None:
        calibrate("user", kvp=80, slope=0.40, intercept=0)  # 0.45 x 1.390 / 1.873 = 0.334 to 0.705
        with pytest.raises(ValueError, match=r"between 0\.33 and 0\.70"):
            calibrate("user", kvp=80, slope=0.75, intercept=0)

    def test_intercept_of_another_unit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="intercept must be within 50"):
            calibrate("user", kvp=120, slope=0.7, intercept=-1000)
        with pytest.raises(ValueError, match="slope must be given for calibration by user"):
            calibrate("user", kvp=120, intercept=0)


class TestRegistry:
    def test_every_shipped_line_says_where_it_comes_from_and_is_off(self) -> None:
        lines = registry_lines()
        assert len(lines) == 4
        for name, line in lines.items():
            assert line.source
            assert line.status == "unverified"
            with pytest.raises(ValueError, match="must be verified, got an unverified one"):
                calibrate("registry", kvp=120, registry_name=name)

    def test_line_without_a_standard_is_refused_even_when_allowed(self) -> None:
        with pytest.raises(ValueError, match="must state its mineral standard"):
            calibrate("registry", kvp=120, registry_name="philips-ict", allow_unverified=True)

    def test_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="registry_name must be one of"):
            calibrate("registry", kvp=120, registry_name="my-scanner")

    def _line(self, **changes: object) -> RegistryLine:
        fields = {
            "name": "ours",
            "manufacturer": "Philips",
            "model": "X",
            "kvp": 120,
            "slope": 0.78,
            "intercept": -7.6,
            "standard": "K2HPO4",
            "status": "verified",
            "source": "own phantom scan",
        }
        return RegistryLine.model_validate(fields | changes)

    def test_verified_line_is_used_at_its_own_voltage_only(self) -> None:
        line = line_from_registry(self._line(), 120)
        assert (line.method, line.slope, line.intercept, line.standard) == ("registry", 0.78, -7.6, K2HPO4)
        assert "own phantom scan" in line.note
        with pytest.raises(ValueError, match="must be used at 120 kVp, got 100 kVp"):
            line_from_registry(self._line(), 100)
        with pytest.raises(ValueError, match="slope must be between"):
            line_from_registry(self._line(slope=0.985), 120)


class TestPhantom:
    K = np.array(MINDWAYS_MODEL_3.density)
    WATER = np.array(MINDWAYS_MODEL_3.water)

    def _rods(self, sigma_ref: float, beta_ref: float) -> NDArray[np.float64]:
        return self.WATER + sigma_ref * self.K + beta_ref

    def test_round_trip_by_hand(self) -> None:
        # sigma_ref 1.6, beta_ref -1010: sigma_ct 1.3826, beta_ct -10.4.
        line = phantom_fit(list(self._rods(1.6, -1010.0)))
        assert line.slope == pytest.approx(1 / 1.3826)
        assert line.intercept == pytest.approx(10.4 / 1.3826)
        assert density(1.3826 * 100 - 10.4, line).mg_cm3 == pytest.approx(100.0)
        assert line.standard is K2HPO4
        assert "R2 1.0000" in line.note

    def test_agrees_with_physics_at_120_kvp(self) -> None:
        # Rods made by the same physics: mg/cm3 of K2HPO4 in (water - 1000) mg/cm3 more or less water.
        sigma_ref = attenuation.hu_per_mg_cm3(K2HPO4, 120) + attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G
        line = phantom_fit(list(self._rods(sigma_ref, -999.6)))
        assert line.slope == pytest.approx(calibrate(kvp=120).slope)
        assert line.intercept == pytest.approx(0.0, abs=1e-9)

    def test_poor_fit_warns_and_bad_fit_is_refused(self) -> None:
        narrow = Phantom("narrow", (0.0, 40.0, 80.0, 120.0))
        straight = 1.4 * np.array(narrow.density)
        wiggle = np.array([1.0, -1.0, 1.0, -1.0])
        warned = phantom_fit(list(straight + 12 * wiggle), narrow)
        assert "R2 below 0.98" in warned.note
        sound = phantom_fit(list(straight), narrow)
        assert "R2 below" not in sound.note
        assert warned.relative_sd > sound.relative_sd
        assert warned.absolute_sd > sound.absolute_sd == pytest.approx(3.0)
        rods = self._rods(1.6, -1000.0)
        with pytest.raises(ValueError, match=r"R2 at least 0\.9"):
            phantom_fit(list(rods + 150 * np.array([1.0, -1.0, 1.0, -1.0, 0.5])))

    def test_one_rod_beside_the_line_is_refused_by_number(self) -> None:
        rods = self._rods(1.6, -1000.0)
        rods[1] += 60.0
        with pytest.raises(ValueError, match=r"within 20 mg/cm3 of the line, got 2\d\.\d mg/cm3 for rod 2"):
            phantom_fit(list(rods))

    def test_hydroxyapatite_in_water_by_hand(self) -> None:
        # 0, 100 and 200 mg/cm3 at 5, 140 and 275 HU: 1.35 HU per mg/cm3, zero at 5 HU
        line = phantom_fit([5.0, 140.0, 275.0], Phantom("esp", (0.0, 100.0, 200.0), standard=HA))
        assert (line.slope, line.intercept) == pytest.approx((1 / 1.35, -5 / 1.35))
        assert line.standard is HA

    def test_rods_in_the_wrong_order_or_number_are_refused(self) -> None:
        rods = list(self._rods(1.6, -1000.0))
        with pytest.raises(ValueError, match="R2|HU per mg"):
            phantom_fit(rods[::-1])
        with pytest.raises(ValueError, match="must hold 5 values"):
            phantom_fit(rods[:4])
        with pytest.raises(ValueError, match="finite"):
            phantom_fit([*rods[:4], float("nan")])
        with pytest.raises(ValueError, match="HU per mg/cm3, got 0.2"):
            phantom_fit(list(self._rods(0.45, -1000.0)))

    def test_rod_medians_come_from_a_label_map(self) -> None:
        hu = np.full((6, 6, 2), -50.0, dtype=np.float32)
        rods = np.zeros(hu.shape, dtype=np.uint8)
        for label in range(1, 6):
            rods[label, 1:4] = label
            hu[label, 1:4] = 10 * label
        hu[1, 1, 0] = 3000
        assert rod_medians(hu, rods) == pytest.approx((10, 20, 30, 40, 50))
        rods[rods == 3] = 0
        with pytest.raises(ValueError, match=r"missing \[3\]"):
            rod_medians(hu, rods)
        with pytest.raises(ValueError, match="shape of hu"):
            rod_medians(hu, rods[:2])


def test_mean_over_levels_shares_the_calibrations_error() -> None:
    line = CalibrationUsed(
        method="user", slope=1.0, intercept=0.0, standard=K2HPO4, relative_sd=0.1, absolute_sd=0.0, note=""
    )
    mean = mean_density([density(90, line), density(110, line)])
    assert mean.mg_cm3 == pytest.approx(100.0)
    assert mean.interval_high == pytest.approx(100 + 1.6449 * 10)
    with pytest.raises(ValueError, match="at least one"):
        mean_density([])
    other = Density(mg_cm3=1, interval_low=0, interval_high=2, standard=HA)
    with pytest.raises(ValueError, match="share one mineral standard"):
        mean_density([other, density(90, line)])


def test_an_independent_error_widens_an_interval() -> None:
    """3 and 4 make 5: the interval of 3 SD units to each side grows to 5."""
    narrow = Density(mg_cm3=100.0, interval_low=97.0, interval_high=103.0, standard=MineralStandard.K2HPO4)
    wide = widened(narrow, 4.0 / 1.645)
    assert wide.mg_cm3 == 100.0
    assert wide.interval_low == pytest.approx(95.0, abs=0.01)
    assert wide.interval_high == pytest.approx(105.0, abs=0.01)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method must be"):
        calibrate("magic", kvp=120)  # type: ignore[arg-type]
