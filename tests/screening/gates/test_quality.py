"""Every gate fires on the case it is for, and stays silent on a healthy one."""

from dataclasses import replace

import numpy as np
import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, Sex, VertebraLevel
from osteo_monai.measurement.landmarks import BodyLandmarks
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.screening.ct.levels import Vertebra
from osteo_monai.screening.ct.naming import MissedBody, Naming
from osteo_monai.screening.gates import quality
from osteo_monai.screening.gates.quality import LIMITS, QualityLimits
from osteo_monai.screening.result import Density, Opinion

L1, L2, L3 = VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3
T11, T12 = VertebraLevel.T11, VertebraLevel.T12


def check(finding: Finding | None, code: str, severity: Severity) -> None:
    assert finding is not None
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.message.endswith(".")


def trunk(seed: int = 0) -> np.ndarray:
    """Return 20 x 20 x 25 voxels in the proportions of a trunk: air, fat, some bone, the rest soft tissue."""
    rng = np.random.default_rng(seed)
    parts = [(-1000, 5000), (-100, 1000), (50, 3800), (400, 200)]
    return np.concatenate([rng.normal(mean, 15, n) for mean, n in parts]).astype(np.float32).reshape(20, 20, 25)


def test_every_limit_names_its_source():
    sources = QualityLimits.sources()
    assert set(sources) == set(LIMITS.__dataclass_fields__)
    assert all(len(source) > 10 for source in sources.values())


def test_hounsfield_units_of_a_trunk_pass():
    assert quality.values_are_hu(trunk()) is None


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((10, 10, 10), np.float32), id="constant"),
        pytest.param(trunk() + 1100, id="stored values without the intercept"),
        pytest.param(trunk() / 1000, id="normalised"),
        pytest.param(np.random.default_rng(0).gamma(2, 300, (10, 10, 10)).astype(np.float32), id="MR-like"),
        pytest.param(np.tile(np.float32([-1000, 2000]), (20, 20, 10)), id="no soft tissue"),
    ],
)
def test_values_that_are_not_hu_are_refused(values):
    finding = quality.values_are_hu(values)
    assert finding is not None
    assert finding.severity is Severity.REFUSAL
    assert finding.code in ("not_hounsfield_units", "constant_volume")


def test_windowed_image_without_bone_is_refused():
    check(quality.values_are_hu(np.clip(trunk(), -1024, 150)), "bone_cut_off", Severity.REFUSAL)


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
def test_tube_voltage(kvp, code, severity):
    check(quality.tube_voltage(kvp), code, severity)


def test_tube_voltage_says_what_follows_for_the_calibration():
    assert "was assumed" in quality.tube_voltage(None).message
    assert "was assumed" not in quality.tube_voltage(None, by_physics=False).message
    assert "corrected by physics" in quality.tube_voltage(100.0).message
    assert "corrected by physics" not in quality.tube_voltage(100.0, by_physics=False).message


def test_tube_voltage_of_the_user_is_told():
    check(quality.tube_voltage_stated(None, 120.0), "kvp_stated", Severity.INFO)
    check(quality.tube_voltage_stated(100.0, 120.0), "kvp_contradicted", Severity.WARNING)
    assert quality.tube_voltage_stated(120.0, 120.0) is None
    assert quality.tube_voltage_stated(120.0, None) is None


def test_120_kvp_passes():
    assert quality.tube_voltage(120.0) is None


@pytest.mark.parametrize(("thickness", "spacing"), [(5.1, 2.0), (None, 6.0), (3.0, 7.5)])
def test_thick_slices_are_refused(thickness, spacing):
    check(quality.slice_thickness(thickness, spacing), "slice_too_thick", Severity.REFUSAL)


@pytest.mark.parametrize(("thickness", "spacing"), [(5.0, 5.0), (None, 2.0), (1.0, 0.8)])
def test_five_millimetres_and_less_pass(thickness, spacing):
    assert quality.slice_thickness(thickness, spacing) is None


def test_overlapping_slices_are_told():
    check(quality.slice_overlap(2.0, 1.0), "overlapping_slices", Severity.INFO)
    assert quality.slice_overlap(2.0, 2.0) is None
    assert quality.slice_overlap(2.0, 2.5) is None
    assert quality.slice_overlap(None, 1.0) is None


@pytest.mark.parametrize("name", ["LUNG", "BONEPLUS", "B70f", "Br64d", "B60s", "Bl57f", "FC52", "FC30", "YE", "L"])
def test_sharp_kernels_warn(name):
    check(quality.kernel(name), "sharp_kernel", Severity.WARNING)


@pytest.mark.parametrize("name", ["STANDARD", "B31f", "Br38f", "B30s", "FC08", "FC18", "B", "C", "SOFT", "I40f\\2"])
def test_soft_kernels_pass(name):
    assert quality.kernel(name) is None


@pytest.mark.parametrize("name", [None, ""])
def test_unknown_kernel_is_told(name):
    check(quality.kernel(name), "kernel_unknown", Severity.INFO)


def test_contrast_in_the_header_warns():
    check(quality.contrast_in_header("Oral & IV"), "contrast_flagged", Severity.WARNING)
    assert quality.contrast_in_header(None) is None
    assert quality.contrast_in_header("") is None


def test_enhanced_aorta_warns():
    check(quality.aorta_enhancement(180.0, 0.9), "contrast_enhanced", Severity.WARNING)
    assert quality.aorta_enhancement(180.0, 0.1) is None
    assert quality.aorta_enhancement(45.0, 0.9) is None
    assert quality.aorta_enhancement(100.0, 0.9) is None
    assert quality.aorta_enhancement(None, 0.0) is None


def test_blood_beyond_any_measured_shift_is_refused():
    check(quality.aorta_enhancement(350.0, 0.9), "contrast_enhanced", Severity.WARNING)
    check(quality.aorta_enhancement(351.0, 0.9), "contrast_strong", Severity.REFUSAL)
    assert quality.aorta_enhancement(500.0, 0.1) is None  # nothing that is surely the aorta


@pytest.mark.parametrize("value", [-900.0, -1100.0])
def test_air_off_range_warns(value):
    check(quality.air_value(value), "air_off_range", Severity.WARNING)


@pytest.mark.parametrize("value", [-60.0, -150.0])
def test_fat_off_range_warns(value):
    check(quality.fat_value(value), "fat_off_range", Severity.WARNING)


def test_air_and_fat_in_range_pass_and_unknown_is_silent():
    assert quality.air_value(-998.0) is None
    assert quality.fat_value(-104.0) is None
    assert quality.air_value(None) is None
    assert quality.fat_value(None) is None


def test_age_unknown_is_told_and_never_replaced():
    check(quality.age(None), "age_unknown", Severity.INFO)


def test_minor_is_refused():
    check(quality.age(17.0), "age_below_18", Severity.REFUSAL)
    check(quality.age(0.5), "age_below_18", Severity.REFUSAL)


def test_age_above_the_norms_warns():
    check(quality.age(91.0), "age_outside_norms", Severity.WARNING)


@pytest.mark.parametrize("years", [18.0, 55.0, 90.0])
def test_ages_of_the_norms_pass(years):
    assert quality.age(years) is None


def test_sex_unknown_is_told():
    check(quality.sex(None), "sex_unknown", Severity.INFO)
    assert quality.sex(Sex.FEMALE) is None


def test_absent_levels_are_refused_by_name():
    finding = quality.levels_present({T11: 0.97, T12: 0.97, L1: 0.97}, [L1, L2])
    check(finding, "levels_not_covered", Severity.REFUSAL)
    assert finding.message == "The scan does not show L2 (found: T11, T12, L1)."
    assert quality.levels_present({L1: 0.5, L2: 0.97, L3: 0.97}, [L1, L2]) is None


def test_uncertain_level_is_refused_with_its_runner_up():
    finding = quality.level_certainty(L1, 0.6, L2)
    check(finding, "level_uncertain", Severity.REFUSAL)
    assert "60%" in finding.message
    assert "may be L2" in finding.message
    assert quality.level_certainty(L1, 0.99, L2) is None
    below = quality.level_certainty(L1, 0.6, L2, replace(LIMITS, certainty_minimum=0.5))
    check(below, "level_certainty", Severity.INFO)


def test_bodies_without_a_name_are_not_nothing():
    nothing = quality.levels_present({}, [L1, L2])
    check(nothing, "levels_not_covered", Severity.REFUSAL)
    assert nothing.message == "The scan does not show L1 and L2 (no vertebra was found)."
    assert "(8 bodies were found, and none can be named)" in quality.levels_present({}, [L1, L2], unnamed=8).message
    assert "(1 body was found, and none can be named)" in quality.levels_present({}, [L1, L2], unnamed=1).message


def test_uncertain_names_are_not_told_as_if_they_were_certain():
    finding = quality.levels_present({T12: 0.85, VertebraLevel.L4: 0.17}, [L1])
    assert finding is not None
    assert "(found: T12, L4 (17% certain))" in finding.message


def test_names_at_the_limits_of_certainty():
    check(quality.level_certainty(L1, 0.849, None), "level_uncertain", Severity.REFUSAL)
    check(quality.level_certainty(L1, 0.85, None), "level_certainty", Severity.INFO)
    told = quality.level_certainty(L1, 0.949, L2)
    check(told, "level_certainty", Severity.INFO)
    assert "it may be L2" in told.message
    assert quality.level_certainty(L1, 0.95, L2) is None


def test_what_the_names_rest_on_is_told():
    sentence = "T12 carries the last ribs: right 98 mm, left 105 mm"
    finding = quality.level_witness(sentence)
    assert finding is not None
    assert (finding.code, finding.severity, finding.message) == ("last_rib", Severity.INFO, sentence)
    assert quality.level_witness(None) is None


@pytest.mark.parametrize(
    ("level", "probability", "fires"),
    [
        (L1, 0.5, True),
        (L1, 0.49, False),
        (L3, 0.9, True),  # beside L2
        (VertebraLevel.L4, 0.9, False),
        (VertebraLevel.T13, 0.9, True),
        (T12, 0.9, False),  # T13 lies between: what was missed would be beside T12, not L1
        (None, 0.9, False),
    ],
)
def test_missed_body(level, probability, fires):
    finding = quality.body_missed(MissedBody((0.0, 0.0, -43.6), 2, level, probability), [L1, L2])
    if fires:
        check(finding, "body_missed", Severity.REFUSAL)
        assert "z = -44 mm" in finding.message
    else:
        assert finding is None


def found(level: VertebraLevel, z: float) -> Vertebra:
    places = (0.0, 0.0, z), (0.0, 0.0, z + 16.0), (0.0, 0.0, z - 16.0)
    return Vertebra(level, 0.99, None, *places, 0.9, 0.9, True, BodyLandmarks(None, None, True, True, None))


@pytest.mark.parametrize(
    ("distance", "scale", "fires"),
    [
        (34.5, 1.0, False),
        (43.4, 1.0, False),  # 34.5 mm and 9 mm more
        (43.6, 1.0, True),
        (25.6, 1.0, False),
        (25.4, 1.0, True),
        (43.4, 0.9, True),  # in a person whose bodies are 31 mm apart
        (69.0, 1.0, True),  # a body is missing between
        (2.0, 1.0, True),  # the same body twice
    ],
)
def test_distance_of_neighbours(distance, scale, fires):
    finding = quality.pitch(found(L1, 0.0), found(L2, -distance), scale)
    if fires:
        check(finding, "pitch_off_range", Severity.REFUSAL)
        assert f"{distance:.0f} mm apart" in finding.message
        assert f"{34.5 * scale:.0f} mm are expected" in finding.message
    else:
        assert finding is None


@pytest.mark.parametrize(("upper", "lower"), [(L1, L3), (L2, L1), (L1, L1), (T11, VertebraLevel.L2)])
def test_levels_that_are_not_neighbours_are_refused(upper, lower):
    check(quality.pitch(found(upper, 0.0), found(lower, -35.0), 1.0), "levels_not_consecutive", Severity.REFUSAL)


def naming(ribs: dict[int, float], lumbar: dict[int, float]) -> Naming:
    return Naming((), lumbar, ribs, (), (), 1.0)


def test_spine_of_another_number_of_bodies_warns():
    usual = {11: 0.02, 12: 0.96, 13: 0.02}
    finding = quality.spine_variant(naming(usual, {4: 0.6, 5: 0.4}), [T12, L1])
    check(finding, "transitional_spine", Severity.WARNING)
    assert "12 pairs of ribs and 4 lumbar bodies" in finding.message
    check(
        quality.spine_variant(naming({11: 0.5, 12: 0.5}, {5: 1.0}), [T12, L1]), "transitional_spine", Severity.WARNING
    )
    assert quality.spine_variant(naming(usual, {4: 0.1, 5: 0.9}), [T12, L1]) is None
    # most likely of all, but less likely than not
    assert quality.spine_variant(naming(usual, {4: 0.45, 5: 0.35, 6: 0.2}), [T12, L1]) is None
    # its own name says so already
    six = naming(usual, {5: 0.1, 6: 0.9})
    assert quality.spine_variant(six, [T12, L1, VertebraLevel.L6]) is None
    check(quality.spine_variant(six, [T12, L1]), "transitional_spine", Severity.WARNING)


@pytest.mark.parametrize(
    ("offsets", "fires"),
    [
        ((None, None), False),
        ((7.0, -7.0), False),
        ((7.5, 0.0), True),
        ((0.0, -7.5), True),
        ((None, -9.0), True),
        ((0.5, None), False),
    ],
)
def test_discs_of_two_networks(offsets, fires):
    finding = quality.disc_disagreement(L1, offsets)
    if fires:
        check(finding, "disc_disagreement", Severity.REFUSAL)
    else:
        assert finding is None


def test_level_left_out_says_why_in_one_sentence():
    finding = quality.level_left_out(L2, "Metal lies beside it.")
    check(finding, "level_left_out", Severity.WARNING)
    assert finding.message == "L2 was left out: Metal lies beside it."
    assert quality.level_left_out(L2, "it is not in view").message == "L2 was left out: it is not in view."


@pytest.mark.parametrize(
    ("section", "beside", "fires"),
    [
        (12.0, [], False),
        (12.0, [11.0, 13.0], False),
        (7.3, [12.0], False),
        (7.1, [12.0], True),
        (17.9, [12.0], False),
        (18.1, [12.0], True),
        (17.0, [10.0, 10.4, 17.0], True),  # one of those beside it leaks as well
    ],
)
def test_section_beside_neighbours(section, beside, fires):
    finding = quality.section_beside_neighbours(L1, 100.0 * section, [100.0 * b for b in beside])
    if fires:
        check(finding, "outline_unlike_neighbours", Severity.REFUSAL)
        assert f"{section:.1f} cm2" in finding.message
    else:
        assert finding is None


@pytest.mark.parametrize(("above", "fires"), [(59.9, False), (60.1, True)])
def test_level_far_denser_than_its_neighbour_is_left_out(above, fires):
    finding = quality.sclerosis(L1, above)
    assert (finding is not None) is fires
    if finding is not None:
        check(finding, "level_left_out", Severity.WARNING)
        assert "60 mg/cm3 denser" in finding.message


@pytest.mark.parametrize(("certainty", "severity"), [(0.84, Severity.REFUSAL), (0.86, Severity.INFO), (0.96, None)])
def test_certainty_of_a_name(certainty, severity):
    finding = quality.level_certainty(L1, certainty, VertebraLevel.T12)
    assert (finding and finding.severity) == severity


@pytest.mark.parametrize(("certainty", "refused"), [(0.94, True), (0.96, False)])
def test_a_transitional_spine_needs_more_certain_names(certainty, refused):
    finding = quality.level_certainty(L1, certainty, VertebraLevel.T12, transitional=True)
    assert (finding is not None) is refused
    if finding is not None:
        check(finding, "level_uncertain", Severity.REFUSAL)


@pytest.mark.parametrize("odd", [VertebraLevel.T13, VertebraLevel.L6])
def test_supernumerary_level_warns(odd):
    check(quality.supernumerary_level([T12, L1, L2, odd]), "transitional_spine", Severity.WARNING)
    assert quality.supernumerary_level([T12, L1, L2]) is None


def test_incomplete_level_is_refused():
    check(quality.level_complete(L2, False), "level_cut", Severity.REFUSAL)
    assert quality.level_complete(L2, True) is None


@pytest.mark.parametrize("corner", [(0, 4, 4), (9, 4, 4), (4, 0, 4), (4, 9, 4), (4, 4, 0), (4, 4, 9)])
def test_body_at_any_border_is_refused(corner):
    body = np.zeros((10, 10, 10), bool)
    body[4:6, 4:6, 4:6] = True
    assert quality.body_inside_volume(L1, body) is None
    body[corner] = True
    check(quality.body_inside_volume(L1, body), "level_cut", Severity.REFUSAL)


def test_body_over_padded_voxels_is_refused():
    body = np.zeros((10, 10, 10), bool)
    body[4:6, 4:6, 4:6] = True
    valid = np.ones_like(body)
    assert quality.body_inside_volume(L1, body, valid) is None
    valid[5, 5, 5] = False
    check(quality.body_inside_volume(L1, body, valid), "level_cut", Severity.REFUSAL)


def test_body_that_was_not_outlined_is_refused():
    check(quality.body_found(L1, 0), "body_not_found", Severity.REFUSAL)
    assert quality.body_found(L1, 1) is None


@pytest.mark.parametrize("volume", [3.0, 120.0])
def test_volume_off_range_is_refused(volume):
    check(quality.body_volume(L1, volume), "body_volume_off_range", Severity.REFUSAL)
    assert quality.body_volume(L1, 36.0) is None


@pytest.mark.parametrize(
    ("width", "depth", "height"), [(45, 33, 8), (45, 33, 60), (80, 30, 26), (25, 40, 26), (45, 0, 26)]
)
def test_shape_off_range_is_refused(width, depth, height):
    check(quality.body_shape(L1, width, depth, height), "body_shape_off_range", Severity.REFUSAL)
    assert quality.body_shape(L1, 45.0, 33.0, 26.0) is None


def test_metal_is_refused():
    check(quality.metal(L1, 500.0), "metal", Severity.REFUSAL)
    assert quality.metal(L1, 0.0) is None


def test_cement_is_refused():
    check(quality.cement(L1, 2.0), "cement_or_sclerosis", Severity.REFUSAL)
    assert quality.cement(L1, 0.1) is None


@pytest.mark.parametrize(
    ("loss", "spacing", "code"),
    [
        # a body of 25 mm: slices of 1 mm can make 8 %, of 2.5 mm 10 %, of 5 mm 16 %
        (None, 1.0, None),
        (0.20, 1.0, None),
        (0.27, 1.0, None),
        (0.30, 1.0, "possible_fracture"),
        (0.35, 1.0, "fracture"),
        (0.35, 2.5, "possible_fracture"),
        (0.39, 2.5, "fracture"),
        (0.30, 5.0, None),
        (0.35, 5.0, None),
        (0.40, 5.0, "possible_fracture"),
        (0.45, 5.0, "fracture"),
    ],
)
def test_height_loss_counts_beyond_what_slices_can_make(loss, spacing, code):
    finding = quality.height_loss(L1, loss, 25.0, spacing)
    if code is None:
        assert finding is None
    else:
        check(finding, code, Severity.WARNING)
        assert f"{loss:.0%}" in finding.message


def test_margin_of_a_height_loss():
    # 1.28 * 2 * sqrt(5^2 / 12 + 0.7^2) / 25
    assert quality.height_loss_margin(25.0, 5.0) == pytest.approx(0.1642, abs=1e-4)
    assert quality.height_loss_margin(25.0, 1e-6) == pytest.approx(1.28 * 2 * 0.7 / 25.0)
    assert quality.height_loss_margin(12.5, 5.0) == pytest.approx(2 * quality.height_loss_margin(25.0, 5.0))


@pytest.mark.parametrize(("voxels", "volume"), [(20, 5.0), (500, 0.1), (0, 0.0)])
def test_too_few_trabecular_voxels_are_refused(voxels, volume):
    check(quality.region_size(L1, voxels, volume), "too_few_trabecular_voxels", Severity.REFUSAL)
    assert quality.region_size(L1, 900, 8.0) is None


def test_implausible_spread_warns():
    check(quality.level_spread([80.0, 130.0]), "level_spread", Severity.WARNING)
    assert quality.level_spread([110.0, 120.0]) is None
    assert quality.level_spread([110.0]) is None


def line(**changes) -> CalibrationUsed:
    line = CalibrationUsed(
        method="physics", slope=0.7, intercept=0.0, standard=MineralStandard.K2HPO4, relative_sd=0.1, note=""
    )
    return line.model_copy(update=changes)


def test_unverified_calibration_line_warns():
    unverified = line(method="registry", note="Registry line x (unverified): y.")
    check(quality.calibration_verified(unverified), "calibration_unverified", Severity.WARNING)
    assert quality.calibration_verified(line(method="registry", note="Registry line x (verified): y.")) is None
    assert quality.calibration_verified(line()) is None


def test_calibration_that_does_not_hold_is_refused():
    check(
        quality.calibration_not_possible("slope must be between 1 and 2"), "calibration_not_possible", Severity.REFUSAL
    )


def test_another_standard_than_the_thresholds_warns():
    other = line(standard=MineralStandard.HYDROXYAPATITE)
    check(quality.standard_of_thresholds(other, DensityThresholds()), "standard_differs", Severity.WARNING)
    assert quality.standard_of_thresholds(line(), DensityThresholds()) is None


def test_outline_without_shape_or_region_is_refused():
    check(quality.body_not_measurable(L1, "it is hollow"), "body_not_measurable", Severity.REFUSAL)
    check(quality.region_not_possible(L1, "Too little is left."), "too_few_trabecular_voxels", Severity.REFUSAL)


def test_levels_left():
    check(quality.levels_measured([], [L1, L2]), "no_level_left", Severity.REFUSAL)
    check(quality.levels_measured([L2], [L1, L2]), "single_level", Severity.WARNING)
    assert quality.levels_measured([L1, L2], [L1, L2]) is None


def test_verdict_is_the_worst_finding():
    def of(severity: Severity) -> Finding:
        return Finding(code="x", severity=severity, message="x.")

    assert quality.verdict([]) == "accepted"
    assert quality.verdict([of(Severity.INFO)]) == "accepted"
    assert quality.verdict([of(Severity.INFO), of(Severity.WARNING)]) == "accepted_with_warnings"
    assert quality.verdict([of(Severity.WARNING), of(Severity.REFUSAL)]) == "refused"


def test_reasons_that_a_radiologist_gives_come_first():
    def of(code: str, severity: Severity) -> Finding:
        return Finding(code=code, severity=severity, message=f"{code}.")

    told = [
        of("kernel_unknown", Severity.INFO),
        of("level_cut", Severity.WARNING),  # not a refusal, so it does not go first
        of("age_below_18", Severity.REFUSAL),
        of("kvp_out_of_range", Severity.REFUSAL),
        of("contrast_strong", Severity.REFUSAL),
        of("level_uncertain", Severity.REFUSAL),
        of("levels_not_covered", Severity.REFUSAL),
    ]
    assert [f.code for f in quality.first_reasons_first(told)] == [
        "levels_not_covered",
        "level_uncertain",
        "contrast_strong",
        "age_below_18",
        "kvp_out_of_range",
        "kernel_unknown",
        "level_cut",
    ]


@pytest.mark.parametrize("offset_mm", [0.0, 8.2, -8.2])
def test_a_body_near_where_it_was_found_passes(offset_mm: float):
    assert quality.level_offset(L1, offset_mm, 33.0) is None


@pytest.mark.parametrize("offset_mm", [8.3, -12.0])
def test_a_body_a_quarter_of_its_height_off_is_refused(offset_mm: float):
    finding = quality.level_offset(L1, offset_mm, 33.0)
    check(finding, "level_offset", Severity.REFUSAL)
    assert f"{abs(offset_mm):.0f} mm" in finding.message


# --- the opinions -------------------------------------------------------------------------------------------------

THRESHOLDS = DensityThresholds()


def by_density(name: str, value: float, half_width: float = 12.0, standard=MineralStandard.K2HPO4) -> Opinion:
    density = Density(
        mg_cm3=value, interval_low=value - half_width, interval_high=value + half_width, standard=standard
    )
    status = THRESHOLDS.status(value, standard) if standard is THRESHOLDS.standard else None
    return Opinion(name=name, status=status, density=density)


def by_chances(*chances: float) -> Opinion:
    probabilities = dict(zip(BoneStatus, chances, strict=True))
    status = max(probabilities, key=lambda one: probabilities[one])
    return Opinion(name="classifier", status=status, probabilities=probabilities)


SURELY = {"normal": (0.97, 0.02, 0.01), "osteopenia": (0.02, 0.96, 0.02), "osteoporosis": (0.01, 0.02, 0.97)}


@pytest.mark.parametrize(
    ("line", "regression", "chances", "code"),
    [
        # all of one mind
        (150, 155, SURELY["normal"], "opinions_agree"),
        (100, 104, SURELY["osteopenia"], "opinions_agree"),
        (60, 70, SURELY["osteoporosis"], "opinions_agree"),
        (200, 225, SURELY["normal"], "opinions_agree"),  # 25 is less than 20 % of 212
        # beside a threshold, or the other class not ruled out: told, no alarm
        (115, 123, SURELY["osteopenia"], "opinions_borderline"),
        (121, 121, SURELY["osteopenia"], "opinions_borderline"),
        (100, 104, (0.55, 0.43, 0.02), "opinions_borderline"),
        (82, 75, SURELY["osteoporosis"], "opinions_borderline"),
        # neighbouring classes away from the threshold between them
        (100, 104, SURELY["normal"], "opinions_differ"),
        (150, 150, SURELY["osteopenia"], "opinions_differ"),
        (105, 130.5, SURELY["osteopenia"], "opinions_differ"),  # 25.5 apart
        # opposite classes, by a network or by both
        (125, 121, SURELY["osteoporosis"], "opinions_differ"),
        (121, 79, SURELY["osteopenia"], "opinions_differ"),
        (75, 78, SURELY["normal"], "opinions_differ"),
        # one class, densities too far apart
        (160, 210, SURELY["normal"], "opinions_differ"),
        (82, 107, SURELY["osteopenia"], "opinions_differ"),
    ],
)
def test_opinions_rule(line, regression, chances, code):
    opinions = [
        by_density("hu_line", line, 16),
        Opinion(name="hu_rule", status=BoneStatus.NORMAL, l1_hu=200.0),  # has no vote
        by_density("density_regression", regression, 16),
        by_chances(*chances),
    ]
    severity = Severity.WARNING if code == "opinions_differ" else Severity.INFO
    finding = quality.opinions_differ(opinions, [], THRESHOLDS)
    check(finding, code, severity)
    assert finding is not None
    again = quality.opinions_differ(list(reversed(opinions)), [], THRESHOLDS)
    assert again is not None
    assert (again.code, again.severity) == (code, severity)
    if "osteoporosis" in finding.message and "normal" in finding.message:
        assert "Do not use the class" in finding.message
        assert "QCT or DXA" in finding.message


def test_intervals_that_do_not_meet_are_told_however_near_the_densities_are():
    narrow = [by_density("hu_line", 100, 2), by_density("density_regression", 106, 3)]
    finding = quality.opinions_differ(narrow, [], THRESHOLDS)
    check(finding, "opinions_differ", Severity.WARNING)
    assert finding is not None
    assert "6 mg/cm3 apart and their 90 % intervals do not meet" in finding.message
    touching = [by_density("hu_line", 100, 3), by_density("density_regression", 106, 3)]
    check(quality.opinions_differ(touching, [], THRESHOLDS), "opinions_agree", Severity.INFO)


def test_reasons_are_those_known_of_the_scan():
    opinions = [by_density("hu_line", 130), by_density("density_regression", 95)]
    finding = quality.opinions_differ(opinions, [], THRESHOLDS)
    assert finding is not None
    assert "Nothing known of this scan explains it" in finding.message
    known = [
        Finding(code=code, severity=Severity.WARNING, message="Seen.")
        for code in ("sharp_kernel", "contrast_flagged", "contrast_enhanced", "kvp_not_120", "thick_slices")
    ]
    finding = quality.opinions_differ(opinions, known, THRESHOLDS)
    assert finding is not None
    assert finding.message.count("contrast agent") == 1
    reasons = "contrast agent, which raises the HU, the tube voltage other than 120 kV and the sharp kernel."
    assert reasons in finding.message
    beside = [by_density("hu_line", 125), by_density("density_regression", 121), by_chances(0.01, 0.04, 0.95)]
    finding = quality.opinions_differ([*beside, by_chances(0.01, 0.95, 0.04)], [], THRESHOLDS)
    assert finding is not None
    assert "Possible reasons in this scan: a density of the HU line near the threshold of 120 mg/cm3" in finding.message


def test_fewer_than_two_opinions_that_can_be_compared_say_nothing():
    line, rule = by_density("hu_line", 60), Opinion(name="hu_rule", status=BoneStatus.NORMAL, l1_hu=200.0)
    for opinions in ([], [line], [line, rule]):
        assert quality.opinions_differ(opinions, [], THRESHOLDS) is None
    other = by_density("density_regression", 160, standard=MineralStandard.HYDROXYAPATITE)
    assert quality.opinions_differ([line, other], [], THRESHOLDS) is None
