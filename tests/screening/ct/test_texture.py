"""Texture in the screening of a CT: on request only, with units or reasons."""

import sys
from pathlib import Path

import pytest

from osteo_monai.errors import ModelMissingError
from osteo_monai.measurement import UNITS
from osteo_monai.measurement import texture as engine
from osteo_monai.screening import ScreeningOptions, ScreeningResult, UserCalibration, screen, screen_volume
from osteo_monai.utils.optional import MissingExtraError

from ..conftest import TRABECULAR_HU, MakeModels, MakeVolume
from .helpers import L1, L2

TEXTURE = ScreeningOptions(texture=True)


def test_coarse_voxels_give_a_reason_for_each_level(make_volume: MakeVolume, make_models: MakeModels) -> None:
    result, _ = screen_volume(make_volume(), make_models(), TEXTURE)
    assert result.version == "1.7"
    assert [t.level for t in result.texture] == [L1, L2]
    for texture in result.texture:
        assert texture.features == ()
        assert texture.not_computed == {
            "first_order": "Voxels must be at most 1 mm in plane and 3 mm between slices, got 2 and 2 mm.",
            "glcm": "Voxels must be at most 1 mm in plane and 3 mm between slices, got 2 and 2 mm.",
            "microarchitecture": "Voxels must be at most 0.25 mm in plane and 0.5 mm between slices, got 2 and 2 mm.",
        }
    assert "computing texture" in result.seconds


def test_features_have_units(make_volume: MakeVolume, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TEXTURE_VOXEL_MM", (2.0, 2.0))
    result, _ = screen_volume(make_volume(), make_models(), TEXTURE)
    for texture in result.texture:
        by_name = {feature.name: feature for feature in texture.features}
        assert by_name["first_order_mean"].value == pytest.approx(TRABECULAR_HU[texture.level], abs=1.5)
        assert {name: feature.unit for name, feature in by_name.items()} == {name: UNITS[name] for name in by_name}
        assert "glcm_energy" in by_name
        assert list(texture.not_computed) == ["microarchitecture"]
    again = ScreeningResult.model_validate_json(result.model_dump_json())
    assert again == result
    assert hash(again) == hash(result)


def test_texture_changes_no_other_value(make_volume: MakeVolume, make_models: MakeModels) -> None:
    plain, _ = screen_volume(make_volume(), make_models())
    with_texture, _ = screen_volume(make_volume(), make_models(), TEXTURE)
    assert plain.texture == ()
    assert "computing texture" not in plain.seconds
    different = {"texture", "seconds"}
    assert with_texture.model_dump(exclude=different) == plain.model_dump(exclude=different)


def test_a_default_screening_does_not_need_the_extra(
    make_volume: MakeVolume, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    result, _ = screen_volume(make_volume(), make_models())
    assert [m.level for m in result.levels] == [L1, L2]


def test_a_refused_study_has_no_texture(make_volume: MakeVolume, make_models: MakeModels) -> None:
    options = ScreeningOptions(texture=True, calibration=UserCalibration(2.0, 0.0))  # refused after the measurement
    result, _ = screen_volume(make_volume(), make_models(), options)
    assert (result.verdict, result.texture) == ("refused", ())


def test_a_missing_extra_is_reported_before_the_study_is_read(
    tmp_path: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(MissingExtraError, match="osteo-monai.texture"):
        screen(tmp_path / "nowhere", make_models(), TEXTURE)
    assert not issubclass(MissingExtraError, ModelMissingError)
