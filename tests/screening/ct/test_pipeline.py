"""The pipeline for CT with fakes of the bundles: measurements, refusals, times, thresholds."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, VertebraLevel
from osteo_monai.errors import ModelMissingError
from osteo_monai.imaging.attenuation import hu_per_mg_cm3
from osteo_monai.screening import (
    InternalCalibration,
    PhantomCalibration,
    RegistryCalibration,
    ReportImages,
    ScreeningModels,
    ScreeningOptions,
    ScreeningResult,
    UserCalibration,
    screen,
    screen_volume,
)
from osteo_monai.screening.ct import measuring
from osteo_monai.screening.ct.naming import MissedBody
from osteo_monai.screening.options import Calibration

from ..conftest import (
    BARE,
    LEVELS,
    TRABECULAR_HU,
    FakeSegmenter,
    MakeModels,
    MakeVolume,
    grid,
    inside_body,
    phantom_affine,
    vertebra,
)
from .helpers import BOTH, L1, L2, L3, T12, WITNESS, assert_only_l1, assert_refused, codes, located, message

# --- what is measured ---------------------------------------------------------------------------------------------


def test_phantom_is_measured(make_volume: MakeVolume, make_models: MakeModels) -> None:
    models = make_models()
    result, images = screen_volume(make_volume(), models, study="phantom")
    assert [(f.code, f.severity, f.message) for f in result.findings] == [("last_rib", Severity.INFO, WITNESS)]
    assert result.verdict == "accepted"
    assert [m.level for m in result.levels] == [L1, L2]
    for m in result.levels:
        assert m.hu.median == pytest.approx(TRABECULAR_HU[m.level], abs=1.5)
        assert m.hu.mean == pytest.approx(TRABECULAR_HU[m.level], abs=1.5)
        # pi * 22 * 17 * 26 mm3 = 30.5 cm3
        assert m.body_volume_cm3 == pytest.approx(30.5, rel=0.06)
        assert m.height_mm == pytest.approx(26.0, abs=2.0)
        assert m.region_area_mm2 > 100
        assert m.certainty == 0.99
    # centres at z = 8 and -28 mm, slices of 2 mm from -100 mm on
    assert [m.slice_index for m in result.levels] == [54, 36]
    assert [found.level for found in result.levels_found] == list(LEVELS)
    slope = 1 / hu_per_mg_cm3(DensityThresholds().standard, 120.0)
    assert result.density is not None
    assert result.density.mg_cm3 == pytest.approx(slope * 155.0, abs=1.5)
    assert result.density.interval_low < result.density.mg_cm3 < result.density.interval_high
    assert result.status is DensityThresholds().status(result.density.mg_cm3, result.density.standard)
    assert result.distance_to_thresholds is not None
    assert dict(result.distance_to_thresholds) == pytest.approx(
        {"osteoporosis_below": result.density.mg_cm3 - 80, "normal_above": result.density.mg_cm3 - 120}
    )
    assert [m.bundle for m in result.models] == ["fake_localiser", "fake_column", "fake_segmenter"]
    assert set(result.seconds) == {"checking", "localising", "segmenting", "measuring", "comparing"}
    assert images.bodies is not None
    assert images.regions is not None
    # the neighbours are outlined as well, to compare with
    # L1 and L2, and L3 to compare with
    assert set(np.unique(images.bodies)) == {0, 20, 21, 22}
    assert images.regions.any()
    assert not images.regions[~np.isin(images.bodies, [L1.label, L2.label])].any()


def test_only_the_slices_of_the_level_and_its_neighbours_are_segmented(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    models = make_models()
    _, images = screen_volume(make_volume(), models, ScreeningOptions(levels=(L2,)))
    # L1 to L3 with their discs are 108 mm, and 12 mm on either side: 132 mm = 66 slices of the 90
    assert models.segmentation.slices == [pytest.approx(67, abs=2)]
    assert images.bodies is not None
    assert set(np.unique(images.bodies)) == {0, L1.label, L2.label, L3.label}


def test_a_neighbour_that_is_cut_is_not_outlined(make_volume: MakeVolume, make_models: MakeModels) -> None:
    models = make_models(located(L3={"complete": False}))
    _, images = screen_volume(make_volume(), models)
    assert images.bodies is not None
    assert set(np.unique(images.bodies)) == {0, T12.label, L1.label, L2.label}


@pytest.mark.parametrize(
    ("thresholds", "status"),
    [
        ((20.0, 30.0), BoneStatus.NORMAL),
        ((20.0, 400.0), BoneStatus.OSTEOPENIA),
        ((300.0, 400.0), BoneStatus.OSTEOPOROSIS),
    ],
)
def test_status_follows_the_thresholds(
    make_volume: MakeVolume, make_models: MakeModels, thresholds: tuple[float, float], status: BoneStatus
) -> None:
    options = ScreeningOptions(thresholds=DensityThresholds(thresholds[0], thresholds[1], source="this test"))
    result, _ = screen_volume(make_volume(), make_models(), options)
    assert result.status is status
    assert result.thresholds_source == "this test"


def test_a_single_level_warns(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), make_models(), ScreeningOptions(levels=(L1,)))
    assert [m.level for m in result.levels] == [L1]
    assert codes(result, Severity.WARNING) == {"single_level"}
    assert result.density is not None


def test_user_line_is_used(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), make_models(), ScreeningOptions(calibration=UserCalibration(0.8, -5.0)))
    assert result.calibration is not None
    assert (result.calibration.method, result.calibration.slope, result.calibration.intercept) == ("user", 0.8, -5.0)
    for m in result.levels:
        assert m.density.mg_cm3 == pytest.approx(0.8 * m.hu.representative - 5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RegistryCalibration(""), "must not be empty"),
        (lambda: UserCalibration(float("nan"), 0.0), "must be finite"),
        (lambda: UserCalibration(1.0, float("inf")), "must be finite"),
        (lambda: UserCalibration(0.0, 0.0), "slope must be from 0.2 to 2 mg/cm3 per HU, got 0"),
        (lambda: UserCalibration(0.8, 101.0), "intercept must be from -100 to 100 mg/cm3, got 101"),
    ],
    ids=["no name", "slope", "intercept", "no slope", "large intercept"],
)
def test_invalid_calibrations_are_named(make: Callable[[], Calibration], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_internal_calibration_is_applied_or_refused_and_never_replaced(
    make_volume: MakeVolume, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ScreeningOptions(calibration=InternalCalibration())
    calls: list[tuple[str, set[str]]] = []

    def refuse(method: str, *, tissues: dict[str, Any], **rest: Any) -> None:
        calls.append((method, set(tissues)))
        raise ValueError("the fit is not plausible")

    monkeypatch.setattr(measuring, "calibrate", refuse)
    result, _ = screen_volume(make_volume(), make_models(), options)
    assert_refused(result, "calibration_not_possible")
    ((method, tissues),) = calls
    assert method == "internal"
    assert "air" in tissues


@pytest.mark.parametrize("levels", [(), (L1, L1)])
def test_invalid_levels_are_named(levels: Any) -> None:
    with pytest.raises(ValueError, match="levels must contain"):
        ScreeningOptions(levels=levels)


def test_rods_in_the_scan_give_the_line(
    phantom_hu: NDArray[np.float32], make_volume: MakeVolume, make_models: MakeModels, tmp_path: Path
) -> None:
    x, y, z = grid()
    hu, rods = phantom_hu.copy(), []
    for number, density in enumerate((0.0, 100.0, 200.0)):
        centre = (float(x.min()) + 9.0 + 14.0 * number, float(y.min()) + 9.0)
        hu[np.broadcast_to(np.hypot(x - centre[0], y - centre[1]) <= 6.0, hu.shape)] = 1.25 * density
        rods.append({"density_mg_cm3": density, "centre_mm": [*centre, float(z.mean())], "radius_mm": 4.0})
    path = tmp_path / "phantom.json"
    path.write_text(json.dumps({"name": "rods", "standard": "K2HPO4", "rods": rods}))
    result, _ = screen_volume(make_volume(hu), make_models(), ScreeningOptions(calibration=PhantomCalibration(path)))
    assert result.calibration is not None, result.findings
    assert result.calibration.method == "phantom"
    for m in result.levels:
        assert m.density.mg_cm3 == pytest.approx(m.hu.representative / 1.25, rel=0.01)


@pytest.mark.parametrize(
    "calibration",
    [UserCalibration(2.0, 0.0), RegistryCalibration("no such scanner"), PhantomCalibration(Path("absent.json"))],
)
def test_calibration_that_does_not_hold_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, calibration: Any
) -> None:
    result, _ = screen_volume(make_volume(), make_models(), ScreeningOptions(calibration=calibration))
    assert_refused(result, "calibration_not_possible")


# --- header and person --------------------------------------------------------------------------------------------


def test_unknown_header_is_reported_and_120_kvp_assumed_with_a_wider_interval(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    known, _ = screen_volume(make_volume(), make_models())
    bare = make_volume(kvp=None, kernel=None, slice_thickness_mm=None, age_years=None, sex=None)
    result, _ = screen_volume(bare, make_models())
    assert codes(result, Severity.WARNING) == {"kvp_unknown"}
    assert codes(result, Severity.INFO) == {"kernel_unknown", "age_unknown", "sex_unknown", "last_rib"}
    assert result.verdict == "accepted_with_warnings"
    assert result.acquisition is not None
    assert (result.acquisition.kvp, result.acquisition.age_years, result.acquisition.sex) == (None, None, None)
    assert result.density is not None
    assert known.density is not None
    assert result.density.mg_cm3 == pytest.approx(known.density.mg_cm3)
    assert result.density.interval_high > known.density.interval_high + 5


def test_kvp_may_be_given_where_the_file_is_silent_but_never_overrides(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    given, _ = screen_volume(make_volume(kvp=None), make_models(), ScreeningOptions(kvp=120.0))
    assert given.verdict == "accepted"
    header, _ = screen_volume(make_volume(kvp=100.0), make_models(), ScreeningOptions(kvp=120.0))
    assert codes(header, Severity.WARNING) == {"kvp_not_120", "kvp_contradicted"}
    assert header.acquisition is not None
    assert header.acquisition.kvp == 100.0


def test_kvp_moves_the_density_as_physics_does(make_volume: MakeVolume, make_models: MakeModels) -> None:
    at_120, _ = screen_volume(make_volume(), make_models())
    at_100, _ = screen_volume(make_volume(kvp=100.0), make_models())
    assert at_120.density is not None
    assert at_100.density is not None
    standard = at_120.density.standard
    ratio = hu_per_mg_cm3(standard, 120.0) / hu_per_mg_cm3(standard, 100.0)
    assert at_100.density.mg_cm3 / at_120.density.mg_cm3 == pytest.approx(ratio)


def test_a_warning_of_reading_does_not_hide_a_refusal(make_volume: MakeVolume, make_models: MakeModels) -> None:
    reported = (Finding(severity=Severity.WARNING, code="slice_too_thick", message="The slices are 7 mm thick."),)
    volume = replace(make_volume(slice_thickness_mm=7.0), findings=reported)
    result, _ = screen_volume(volume, make_models())
    assert_refused(result, "slice_too_thick")
    assert [f.severity for f in result.findings if f.code == "slice_too_thick"] == [Severity.REFUSAL]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"kvp": 70.0}, "kvp_out_of_range"),
        ({"slice_thickness_mm": 7.0}, "slice_too_thick"),
        ({"age_years": 12.0}, "age_below_18"),
    ],
)
def test_header_refuses_and_the_levels_are_named_all_the_same(
    make_volume: MakeVolume, make_models: MakeModels, header: Any, code: Any
) -> None:
    models = make_models()
    result, images = screen_volume(make_volume(**header), models)
    assert_refused(result, code)
    assert codes(result, Severity.REFUSAL) == {code}
    assert [found.level for found in result.levels_found] == list(LEVELS)
    assert models.segmentation.slices == []
    assert images.bodies is None


@pytest.mark.parametrize("header", [{"kvp": 70.0}, {"age_years": 12.0}, {"kvp": 70.0, "age_years": 12.0}])
def test_the_field_of_view_is_listed_before_the_header(
    make_volume: MakeVolume, make_models: MakeModels, header: Any
) -> None:
    result, _ = screen_volume(make_volume(**header), make_models([vertebra(T12)]))
    assert_refused(result, "levels_not_covered")
    assert result.findings[0].code == "levels_not_covered"
    assert len(codes(result, Severity.REFUSAL)) == 1 + len(header)


def test_no_network_looks_at_values_that_are_not_hu(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    models = make_models()
    result, _ = screen_volume(make_volume(phantom_hu + 1100), models)
    assert_refused(result, "not_hounsfield_units")
    assert models.localisation.calls == 0


@pytest.mark.parametrize(
    ("header", "code", "severity"),
    [
        ({"kernel": "LUNG"}, "sharp_kernel", Severity.WARNING),
        ({"contrast": "route: IV"}, "contrast_flagged", Severity.WARNING),
        ({"age_years": 95.0}, "age_outside_norms", Severity.WARNING),
        ({"slice_thickness_mm": 4.0}, "overlapping_slices", Severity.INFO),
    ],
)
def test_header_that_warns_is_still_measured(
    make_volume: MakeVolume,
    make_models: MakeModels,
    header: Any,
    code: Any,
    severity: Any,
) -> None:
    result, _ = screen_volume(make_volume(**header), make_models())
    assert codes(result, severity) - {"last_rib"} == {code}
    assert result.density is not None


def test_findings_of_reading_are_kept(make_volume: MakeVolume, make_models: MakeModels) -> None:
    reported = Finding(code="series_chosen", severity=Severity.INFO, message="Series 2 of 3 was chosen.")
    result, _ = screen_volume(replace(make_volume(), findings=(reported,)), make_models())
    assert reported in result.findings
    assert codes(result, Severity.INFO) == {"series_chosen", "last_rib"}


# --- levels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"T12": None, "L1": None, "L2": None, "L3": None}, "levels_not_covered", id="nothing found"),
        pytest.param({"L1": None, "L2": None, "L3": None}, "levels_not_covered", id="only T12"),
        pytest.param({"T12": None, "L1": None}, "levels_not_covered", id="L1 above the scan"),
        pytest.param({"L1": {"certainty": 0.5, "runner_up": L2}}, "level_uncertain", id="L1 may be L2"),
        pytest.param({"L2": {"certainty": 0.5, "runner_up": L1}}, "level_uncertain", id="L2 may be L1"),
        pytest.param({"L1": {"complete": False}}, "level_cut", id="L1 cut"),
        pytest.param(
            {"L2": {"centre_mm": (0.0, 0.0, -60.0)}, "L3": None}, "pitch_off_range", id="L1 and L2 68 mm apart"
        ),
        pytest.param({"T12": {"centre_mm": (0.0, 0.0, 28.0)}}, "pitch_off_range", id="T12 to L1 20 mm"),
        pytest.param({"L2": None}, "levels_not_consecutive", id="L3 below L1"),
    ],
)
def test_levels_that_are_refused(make_volume: MakeVolume, make_models: MakeModels, changes: Any, code: Any) -> None:
    models = make_models(located(**changes))
    result, images = screen_volume(make_volume(), models)
    assert_refused(result, code)
    assert result.findings[0].code == code
    assert models.segmentation.slices == []
    assert images.bodies is None
    assert len(result.levels_found) == len(models.column.vertebrae)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"L2": None, "L3": None}, "levels_not_covered", id="L2 not in view"),
        pytest.param({"L2": {"complete": False}, "L3": None}, "level_cut", id="L2 cut"),
    ],
)
def test_only_l1_is_measured_if_l2_is_not_complete(
    make_volume: MakeVolume,
    make_models: MakeModels,
    phantom_mask: NDArray[np.bool_],
    changes: Any,
    code: Any,
) -> None:
    column, mask = located(**changes), phantom_mask & ~inside_body(L3)
    result, _ = screen_volume(make_volume(), make_models(column, mask))
    assert_only_l1(result, "not in view" if code == "levels_not_covered" else "cut by the end of the scan")
    requested, _ = screen_volume(make_volume(), make_models(column, mask), BOTH)
    assert_refused(requested, code)


def test_only_l2_is_not_measured(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), make_models(located(T12=None, L1={"complete": False})))
    assert_refused(result, "level_cut")


def test_bodies_above_the_named_ones_are_counted(make_volume: MakeVolume, make_models: MakeModels) -> None:
    high = [vertebra(T12, centre_mm=(0.0, 0.0, 44.0 + 25.0 * n)) for n in (1, 2, 3)]
    result, _ = screen_volume(make_volume(), make_models([*located(), *high], above=3))
    assert result.bodies_above == 3
    assert [found.level for found in result.levels_found] == list(LEVELS)
    chest, _ = screen_volume(make_volume(), make_models(high, above=3))
    assert (chest.bodies_above, chest.levels_found) == (3, ())
    assert "3 bodies were found, and none can be named" in message(chest, "levels_not_covered")


def missed(level: VertebraLevel | None, probability: float) -> MissedBody:
    return MissedBody((0.0, 0.0, -10.0), 1, level, probability)


def test_a_body_that_was_missed_beside_a_level_is_refused(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), make_models(missed=[missed(L2, 0.7)]))
    assert_refused(result, "body_missed")
    far = [missed(VertebraLevel.L5, 0.9), missed(L2, 0.3), missed(None, 0.9)]
    assert screen_volume(make_volume(), make_models(missed=far))[0].verdict == "accepted"


def test_another_number_of_ribs_or_lumbar_bodies_warns(make_volume: MakeVolume, make_models: MakeModels) -> None:
    models = make_models(lumbar_count={4: 0.8, 5: 0.2})
    result, _ = screen_volume(make_volume(), models)
    assert codes(result, Severity.WARNING) == {"transitional_spine"}
    assert "12 pairs of ribs and 4 lumbar bodies" in message(result, "transitional_spine")


def test_distances_are_relative_to_the_scale_of_the_patient(make_volume: MakeVolume, make_models: MakeModels) -> None:
    # 36 mm from T12 to L1, where a person of this size has 0.8 * 32.3 = 25.8 mm
    result, _ = screen_volume(make_volume(), make_models(scale=0.8))
    assert_refused(result, "pitch_off_range")


def test_missing_ribs_are_reported(make_volume: MakeVolume, make_models: MakeModels) -> None:
    above = vertebra(T12, level=VertebraLevel.T11, centre_mm=(0.0, 0.0, 74.0))  # with ribs, which are not the last ones
    result, _ = screen_volume(make_volume(), make_models([above, *located(T12={"landmarks": BARE})]))
    assert message(result, "last_rib") == "No rib was seen at T12: right none, left none"
    lumbar, _ = screen_volume(make_volume(), make_models(located(T12=None)))
    assert "last_rib" not in codes(lumbar, Severity.INFO)


def test_supernumerary_level_warns(make_volume: MakeVolume, make_models: MakeModels) -> None:
    column = [*located(), vertebra(L3, level=VertebraLevel.L6, centre_mm=(0.0, 0.0, -150.0))]
    result, _ = screen_volume(make_volume(), make_models(column))
    assert codes(result, Severity.WARNING) == {"transitional_spine"}


def test_body_at_the_last_slice_is_refused(
    phantom_hu: NDArray[np.float32],
    phantom_mask: NDArray[np.bool_],
    make_volume: MakeVolume,
    make_models: MakeModels,
) -> None:
    """The scan ends in the middle of L2 (z = -28 mm), although the localiser took it for complete."""
    affine = phantom_affine()
    affine[2, 3] += 36 * 2.0
    volume = make_volume(np.ascontiguousarray(phantom_hu[:, :, 36:]), affine)
    made = make_models(located(L3=None))
    models = ScreeningModels(made.localisation, made.column, FakeSegmenter(phantom_mask[:, :, 36:], affine))
    result, images = screen_volume(volume, models, BOTH)
    assert_refused(result, "level_cut")
    assert images.bodies is not None
    assert_only_l1(screen_volume(volume, models)[0], "cut by the border of the field of view")


def test_body_over_padding_is_refused(make_volume: MakeVolume, make_models: MakeModels) -> None:
    valid = np.ones((120, 100, 90), bool)
    valid[:55] = False
    result, _ = screen_volume(replace(make_volume(), valid=valid), make_models())
    assert_refused(result, "level_cut")


# --- steps --------------------------------------------------------------------------------------------------------


def test_the_result_has_the_thresholds_in_use(make_volume: MakeVolume, make_models: MakeModels) -> None:
    """B18: a report must not compute thresholds from distances, which exist only if a class was given."""
    own = DensityThresholds(90.0, 130.0, source="this test")
    measured, _ = screen_volume(make_volume(), make_models(), ScreeningOptions(thresholds=own))
    assert measured.thresholds == own
    refused, _ = screen_volume(make_volume(kvp=70.0), make_models())
    assert refused.thresholds == DensityThresholds()
    other = DensityThresholds(standard=MineralStandard.HYDROXYAPATITE)
    by_other, _ = screen_volume(make_volume(), make_models(), ScreeningOptions(thresholds=other))
    assert by_other.thresholds == other
    again = ScreeningResult.model_validate_json(measured.model_dump_json())
    assert again.thresholds == own


def test_screening_reads_and_returns_result_and_images(nifti: Path, make_models: MakeModels) -> None:
    stages: list[str] = []
    result, images = screen(nifti, make_models(), on_stage=stages.append)
    assert result.study == "ct.nii.gz"
    assert isinstance(images, ReportImages)
    assert images.source is not None
    assert stages == ["reading", "checking", "localising", "segmenting", "measuring", "comparing"]
    assert list(result.seconds) == stages
    assert [path.name for path in nifti.parent.iterdir()] == ["ct.nii.gz"]  # nothing was written


def test_unusable_input_has_a_result_with_the_reason(tmp_path: Path, make_models: MakeModels) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("not an image")
    result, images = screen(path, make_models())
    assert (result.verdict, images) == ("unusable", None)
    assert codes(result, Severity.REFUSAL) == {"unusable_input"}
    assert list(result.seconds) == ["reading"]


def test_no_model_is_loaded_for_unusable_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(device: str) -> None:
        raise AssertionError("the models were loaded")

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.load_models", explode)
    assert screen(tmp_path / "nowhere").result.verdict == "unusable"


def test_missing_models_are_reported_before_the_study_is_read(
    nifti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B2: reading a study takes seconds, and the message must not contain folders of the machine."""

    def explode(*arguments: object, **named: object) -> None:
        raise AssertionError("the study was read")

    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.read_ct", explode)
    monkeypatch.setattr("osteo_monai.bundle.find_bundle", lambda name: tmp_path / "nowhere" / name)
    with pytest.raises(ModelMissingError, match="vertebra_localization_ct, vertebral_column_ct") as caught:
        screen(nifti)
    assert str(tmp_path) not in str(caught.value)


def test_results_are_immutable_and_hashable(make_volume: MakeVolume, make_models: MakeModels) -> None:
    """B7: a frozen model with a dictionary can be changed and has no hash."""
    result, _ = screen_volume(make_volume(), make_models())
    mappings: tuple[Any, ...] = (result.seconds, result.distance_to_thresholds, result.opinions[0].level_densities)
    for mapping in mappings:
        with pytest.raises(TypeError, match="cannot be changed"):
            mapping["reporting"] = 1.0
        with pytest.raises(TypeError, match="cannot be changed"):
            mapping.update({"reporting": 1.0})
    assert hash(result) == hash(ScreeningResult.model_validate_json(result.model_dump_json()))
    timed = result.timed({"reporting": 2.0})
    assert timed.seconds["reporting"] == 2.0
    assert "reporting" not in result.seconds
    assert hash(timed) != hash(result)
    assert pickle.loads(pickle.dumps(result)) == result
