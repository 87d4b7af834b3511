"""Gates of image, acquisition and tissues: each fires on its case and is silent on a healthy one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.gates.image import (
    ImageFacts,
    TissueFacts,
    air_value,
    aorta_enhancement,
    caller_voltage,
    contrast_in_header,
    fat_value,
    hounsfield_units,
    kernel,
    slice_overlap,
    slice_thickness,
    tube_voltage,
)

from .helpers import check


def trunk(seed: int = 0) -> NDArray[np.float32]:
    """Return 20 x 20 x 25 voxels in the proportions of a trunk: air, fat, some bone, the rest soft tissue."""
    rng = np.random.default_rng(seed)
    parts = [(-1000, 5000), (-100, 1000), (50, 3800), (400, 200)]
    return np.concatenate([rng.normal(mean, 15, n) for mean, n in parts]).astype(np.float32).reshape(20, 20, 25)


def scan(hu: NDArray[np.float32] | None = None, spacing: float = 2.0, **facts: Any) -> ImageFacts:
    return ImageFacts(np.zeros((2, 2, 2), np.float32) if hu is None else hu, spacing, **facts)


def test_hounsfield_units_of_a_trunk_pass() -> None:
    assert hounsfield_units(scan(trunk())) is None


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((10, 10, 10), np.float32), id="constant"),
        pytest.param(trunk() + 1100, id="stored values without the intercept"),
        pytest.param(trunk() / 1000, id="normalised"),
        pytest.param(np.random.default_rng(0).gamma(2, 300, (10, 10, 10)).astype(np.float32), id="MR-like"),
        pytest.param(np.tile(np.array([-1000, 2000], np.float32), (20, 20, 10)), id="no soft tissue"),
    ],
)
def test_values_that_are_not_hu_are_refused(values: NDArray[np.float32]) -> None:
    finding = hounsfield_units(scan(values))
    assert finding is not None
    assert finding.severity is Severity.REFUSAL
    assert finding.code in ("not_hounsfield_units", "constant_volume")


def test_windowed_image_without_bone_is_refused() -> None:
    check(hounsfield_units(scan(np.clip(trunk(), -1024, 150))), "bone_cut_off", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("kvp", "code", "severity"),
    [
        (None, "kvp_unknown", Severity.WARNING),
        (100.0, "kvp_not_120", Severity.WARNING),
        (80.0, "kvp_not_120", Severity.WARNING),
        (140.0, "kvp_not_120", Severity.WARNING),
        (70.0, "kvp_out_of_range", Severity.REFUSAL),
        (150.0, "kvp_out_of_range", Severity.REFUSAL),
        (0.0, "kvp_out_of_range", Severity.REFUSAL),
    ],
)
def test_tube_voltage(kvp: float | None, code: str, severity: Severity) -> None:
    check(tube_voltage(scan(kvp_in_header=kvp)), code, severity)


@pytest.mark.parametrize(("kvp", "text"), [(None, "was assumed"), (100.0, "corrected by physics")])
def test_tube_voltage_reports_the_consequence_for_the_calibration(kvp: float | None, text: str) -> None:
    by_physics, by_line = (tube_voltage(scan(kvp_in_header=kvp, by_physics=b)) for b in (True, False))
    assert by_physics is not None
    assert by_line is not None
    assert text in by_physics.message
    assert text not in by_line.message


@pytest.mark.parametrize(
    ("header", "given", "code", "severity"),
    [
        (None, 120.0, "kvp_stated", Severity.INFO),
        (100.0, 120.0, "kvp_contradicted", Severity.WARNING),
        (120.0, 120.4, None, None),
        (120.0, None, None, None),
    ],
)
def test_tube_voltage_of_the_caller_is_reported(
    header: float | None, given: float | None, code: str | None, severity: Severity | None
) -> None:
    finding = caller_voltage(scan(kvp_in_header=header, kvp_of_caller=given))
    assert (finding and finding.code, finding and finding.severity) == (code, severity)


def test_the_header_has_priority_over_the_caller() -> None:
    assert scan(kvp_in_header=100.0, kvp_of_caller=120.0).kvp == 100.0
    assert scan(kvp_of_caller=80.0).kvp == 80.0


def test_120_kvp_passes() -> None:
    assert tube_voltage(scan(kvp_in_header=120.0)) is None


@pytest.mark.parametrize(("thickness", "spacing"), [(5.1, 2.0), (None, 6.0), (3.0, 7.5)])
def test_thick_slices_are_refused(thickness: float | None, spacing: float) -> None:
    facts = scan(spacing=spacing, slice_thickness_mm=thickness)
    assert "must be at most 5 mm, got" in check(slice_thickness(facts), "slice_too_thick", Severity.REFUSAL)


@pytest.mark.parametrize(("thickness", "spacing"), [(5.0, 5.0), (None, 2.0), (1.0, 0.8)])
def test_five_millimetres_and_less_pass(thickness: float | None, spacing: float) -> None:
    assert slice_thickness(scan(spacing=spacing, slice_thickness_mm=thickness)) is None


@pytest.mark.parametrize(
    ("thickness", "spacing", "fires"), [(2.0, 1.0, True), (2.0, 2.0, False), (2.0, 2.5, False), (None, 1.0, False)]
)
def test_overlapping_slices_are_reported(thickness: float | None, spacing: float, fires: bool) -> None:
    finding = slice_overlap(scan(spacing=spacing, slice_thickness_mm=thickness))
    assert (finding is not None) is fires
    if finding is not None:
        check(finding, "overlapping_slices", Severity.INFO)


@pytest.mark.parametrize("name", ["LUNG", "BONEPLUS", "B70f", "Br64d", "B60s", "Bl57f", "FC52", "FC30", "YE", "L"])
def test_sharp_kernels_warn(name: str) -> None:
    check(kernel(scan(kernel=name)), "sharp_kernel", Severity.WARNING)


@pytest.mark.parametrize("name", ["STANDARD", "B31f", "Br38f", "B30s", "FC08", "FC18", "B", "C", "SOFT", "I40f\\2"])
def test_soft_kernels_pass(name: str) -> None:
    assert kernel(scan(kernel=name)) is None


@pytest.mark.parametrize("name", [None, "", "Qx9"])
def test_unknown_kernel_is_reported(name: str | None) -> None:
    check(kernel(scan(kernel=name)), "kernel_unknown", Severity.INFO)


def test_contrast_in_the_header_warns() -> None:
    check(contrast_in_header(scan(contrast="Oral & IV")), "contrast_flagged", Severity.WARNING)
    assert contrast_in_header(scan()) is None
    assert contrast_in_header(scan(contrast="")) is None


def aorta(hu: float | None, certainty: float) -> Finding | None:
    return aorta_enhancement(TissueFacts(aorta_hu=hu, aorta_certainty=certainty))


def test_enhanced_aorta_warns() -> None:
    check(aorta(180.0, 0.9), "contrast_enhanced", Severity.WARNING)
    assert aorta(180.0, 0.1) is None
    assert aorta(45.0, 0.9) is None
    assert aorta(100.0, 0.9) is None
    assert aorta(None, 0.0) is None


def test_blood_beyond_published_shifts_is_refused() -> None:
    check(aorta(350.0, 0.9), "contrast_enhanced", Severity.WARNING)
    check(aorta(351.0, 0.9), "contrast_strong", Severity.REFUSAL)
    assert aorta(500.0, 0.1) is None  # probably not the aorta


@pytest.mark.parametrize("value", [-900.0, -1100.0])
def test_air_off_range_warns(value: float) -> None:
    check(air_value(TissueFacts(air_hu=value)), "air_off_range", Severity.WARNING)


@pytest.mark.parametrize("value", [-60.0, -150.0])
def test_fat_off_range_warns(value: float) -> None:
    check(fat_value(TissueFacts(fat_hu=value)), "fat_off_range", Severity.WARNING)


def test_air_and_fat_in_range_pass_and_unknown_is_silent() -> None:
    assert air_value(TissueFacts(air_hu=-998.0)) is None
    assert fat_value(TissueFacts(fat_hu=-104.0)) is None
    assert air_value(TissueFacts()) is None
    assert fat_value(TissueFacts()) is None
