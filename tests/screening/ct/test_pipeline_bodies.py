"""The pipeline for CT with fakes of the bundles: refusals by the segmented bodies and the tissues around them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from osteo_monai.domain import Severity, VertebraLevel
from osteo_monai.screening import (
    Limits,
    ScreeningOptions,
    screen_volume,
)
from osteo_monai.screening.gates.levels import CERTAINTY_MINIMUM

from ..conftest import (
    FakeLocaliser,
    MakeModels,
    MakeVolume,
    grid,
    inside_body,
    vertebra,
)
from .helpers import BOTH, L1, L2, T12, assert_only_l1, assert_refused, codes, located, message

# --- bodies -------------------------------------------------------------------------------------------------------


def test_level_without_an_outline_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    models = make_models(mask=phantom_mask & ~inside_body(L2))
    assert_refused(screen_volume(make_volume(), models, BOTH)[0], "body_not_found")
    assert_only_l1(screen_volume(make_volume(), models)[0], "could not be segmented")
    absent = make_models(mask=phantom_mask & ~inside_body(L1))
    assert_refused(screen_volume(make_volume(), absent)[0], "body_not_found")


def test_tiny_outline_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    mask = phantom_mask & ~inside_body(L1)
    mask |= inside_body(L1, 9.0)  # 26 x 16 x 8 mm
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert result.verdict == "refused"
    refusals = codes(result, Severity.REFUSAL)
    assert refusals & {"body_volume_off_range", "body_shape_off_range", "body_not_measurable"}


def test_outline_much_wider_than_a_body_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    x, y, z = grid()
    # 62 x 26 mm, and cut off 32 mm from the axis
    wide = ((x / 31.0) ** 2 + (y / 13.0) ** 2 <= 1.0) & (np.abs(z - 8.0) <= 13.0)
    result, _ = screen_volume(make_volume(), make_models(mask=(phantom_mask & ~inside_body(L1)) | wide))
    assert_refused(result, "body_shape_off_range")


def section(level: VertebraLevel, width: float, depth: float) -> np.ndarray:
    """Return a body of that width and depth in mm, as high as the others."""
    x, y, z = grid()
    high = np.abs(z - vertebra(level).centre_mm[2]) <= 13.0
    return ((2 * x / width) ** 2 + (2 * y / depth) ** 2 <= 1.0) & high


@pytest.mark.parametrize(("width", "depth"), [(33.0, 24.0), (56.0, 44.0)])
def test_outline_unlike_its_neighbours_is_refused(
    make_volume: MakeVolume,
    make_models: MakeModels,
    phantom_mask: NDArray[np.bool_],
    width: Any,
    depth: Any,
) -> None:
    """Half or one and two thirds of a body, both within what some person has."""
    of_l1 = (phantom_mask & ~inside_body(L1)) | section(L1, width, depth)
    result, _ = screen_volume(make_volume(), make_models(mask=of_l1))
    assert_refused(result, "outline_unlike_neighbours")
    assert codes(result, Severity.REFUSAL) == {"outline_unlike_neighbours"}
    of_l2 = (phantom_mask & ~inside_body(L2)) | section(L2, width, depth)
    assert_only_l1(screen_volume(make_volume(), make_models(mask=of_l2))[0], "its neighbours have")
    assert_refused(screen_volume(make_volume(), make_models(mask=of_l2), BOTH)[0], "outline_unlike_neighbours")


@pytest.mark.parametrize("level", [L1, L2])
def test_a_disc_elsewhere_in_the_outlines_is_refused(
    make_volume: MakeVolume,
    make_models: MakeModels,
    phantom_mask: NDArray[np.bool_],
    level: Any,
) -> None:
    """The segmentation has the disc below the body 8 mm higher than the column network."""
    x, y, z = grid()
    disc = vertebra(level).inferior_mm[2]
    inside = (x / 22.0) ** 2 + (y / 17.0) ** 2 <= 1.0
    mask = phantom_mask | (inside & (np.abs(z - disc) <= 6.0))
    mask &= ~(inside & (np.abs(z - disc - 8.0) <= 3.0))
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert_refused(result, "disc_disagreement")
    assert "8 mm" in message(result, "disc_disagreement")


def test_an_outline_away_from_its_place_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    """The column network has L1 in the right discs, but its centre 9.5 mm too high."""
    column = located(L1={"centre_mm": (0.0, 0.0, 17.5)}, L2={"centre_mm": (0.0, 0.0, -25.0)})
    result, _ = screen_volume(make_volume(), make_models(column, phantom_mask))
    assert_refused(result, "level_offset")


def test_metal_is_refused(make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]) -> None:
    x, y, z = grid()
    hu = phantom_hu.copy()
    hu[(np.abs(x - 12) <= 3) & (np.abs(y + 10) <= 30) & (np.abs(z - 8) <= 3)] = 3000.0
    result, _ = screen_volume(make_volume(hu), make_models())
    assert_refused(result, "metal")
    assert "L1" in message(result, "metal")


def test_metal_beside_l2_leaves_only_l1(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    x, y, z = grid()
    hu = phantom_hu.copy()
    hu[(np.abs(x - 12) <= 3) & (np.abs(y + 10) <= 30) & (np.abs(z + 34) <= 3)] = 3000.0
    assert_only_l1(screen_volume(make_volume(hu), make_models())[0], "Metal in or beside L2")
    assert_refused(screen_volume(make_volume(hu), make_models(), BOTH)[0], "metal")


def test_metal_far_from_the_levels_is_no_reason(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    hu = phantom_hu.copy()
    hu[20:24, 50:54, 2:6] = 3000.0
    result, _ = screen_volume(make_volume(hu), make_models())
    assert result.verdict == "accepted"


def test_cement_is_refused(make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]) -> None:
    x, y, z = grid()
    hu = phantom_hu.copy()
    hu[x**2 + y**2 + (z + 28.0) ** 2 <= 8.0**2] = 900.0
    assert_refused(screen_volume(make_volume(hu), make_models(), BOTH)[0], "cement_or_sclerosis")
    assert_only_l1(screen_volume(make_volume(hu), make_models())[0], "cement or sclerosis")


def wedge(level: VertebraLevel, loss: float) -> np.ndarray:
    """Return the body with its front lower by ``loss``: the top falls linearly from the back to the front."""
    x, y, z = grid()
    zc = vertebra(level).centre_mm[2]
    top = 13.0 - 26.0 * loss * (y + 17.0) / 34.0
    return (x**2 / 22.0**2 + y**2 / 17.0**2 <= 1.0) & (z - zc <= top) & (z - zc >= -13.0)


def test_fractured_level_is_left_out(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    mask = (phantom_mask & ~inside_body(L1)) | wedge(L1, 0.7)
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert codes(result, Severity.WARNING) == {"fracture", "single_level"}
    assert [m.level for m in result.levels] == [L2]
    assert result.density is not None
    assert result.density.mg_cm3 == result.levels[0].density.mg_cm3


def test_possible_fracture_is_measured_with_a_warning(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    """A loss of 37 % between the bands, of which slices of 2 mm can make 12 %: between grades 1 and 2."""
    mask = (phantom_mask & ~inside_body(L1)) | wedge(L1, 0.5)
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert codes(result, Severity.WARNING) == {"possible_fracture"}
    assert [m.level for m in result.levels] == [L1, L2]


def test_two_fractured_levels_are_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    mask = (phantom_mask & ~inside_body(L1) & ~inside_body(L2)) | wedge(L1, 0.7) | wedge(L2, 0.7)
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert_refused(result, "no_level_left")


def test_evenly_crushed_body_is_seen_beside_its_neighbours(
    make_volume: MakeVolume, make_models: MakeModels, phantom_mask: NDArray[np.bool_]
) -> None:
    _, _, z = grid()
    mask = phantom_mask & ~(inside_body(L1) & (np.abs(z - 9.0) > 8.0))  # 16 mm instead of 26 mm, flat: 38 % lost
    result, _ = screen_volume(make_volume(), make_models(mask=mask))
    assert codes(result, Severity.WARNING) == {"possible_fracture"}
    assert message(result, "possible_fracture").startswith("L1 has lost 3")


def test_levels_that_differ_too_much_warn(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    hu = phantom_hu.copy()
    hu[inside_body(L2, 2.5)] += 70.0
    result, _ = screen_volume(make_volume(hu), make_models())
    assert codes(result, Severity.WARNING) == {"level_spread"}


def test_a_level_far_denser_than_its_neighbour_is_left_out(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    """L1 120 HU above L2: sclerosis. If both are requested, both are measured, with a warning."""
    hu = phantom_hu.copy()
    hu[inside_body(L1)] += 120.0
    result, _ = screen_volume(make_volume(hu), make_models())
    assert [m.level for m in result.levels] == [L2]
    assert {"level_left_out", "single_level"} <= codes(result, Severity.WARNING)
    both, _ = screen_volume(make_volume(hu), make_models(), BOTH)
    assert [m.level for m in both.levels] == [L1, L2]
    assert "level_spread" in codes(both, Severity.WARNING)


# --- around the bodies --------------------------------------------------------------------------------------------


def enhanced(hu: np.ndarray, blood: float = 250.0) -> np.ndarray:
    x, y, z = grid()
    bright = hu.copy()
    bright[((x + 8.0) ** 2 + (y - 36.0) ** 2 + 0 * z) <= 11.0**2] = blood
    return bright


def test_enhanced_aorta_warns(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    result, _ = screen_volume(make_volume(enhanced(phantom_hu)), make_models())
    assert codes(result, Severity.WARNING) == {"contrast_enhanced"}
    assert result.density is not None


def test_enhanced_aorta_is_reported_without_the_levels(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    result, _ = screen_volume(make_volume(enhanced(phantom_hu)), make_models([vertebra(T12)]))
    assert_refused(result, "levels_not_covered")
    assert codes(result, Severity.WARNING) == {"contrast_enhanced"}


def test_blood_too_bright_for_any_known_shift_is_refused(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    result, _ = screen_volume(make_volume(enhanced(phantom_hu, 400.0)), make_models())
    assert_refused(result, "contrast_strong")
    assert result.findings[0].code == "contrast_strong"


def test_native_aorta_is_silent_although_the_levels_are_absent(
    make_volume: MakeVolume, make_models: MakeModels
) -> None:
    result, _ = screen_volume(make_volume(), make_models([vertebra(T12)]))
    assert codes(result, Severity.WARNING) == set()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_bodies_in_wrong_values_are_not_reported_when_both_are_examined_at_a_time(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32], threads: int, fails: bool
) -> None:
    models = make_models()
    calls: list[int] = []

    class Localiser(FakeLocaliser):
        def __call__(self, image: Any, /) -> dict[str, Any]:
            calls.append(torch.get_num_threads())
            if fails:
                raise ValueError("no column in these values")
            return super().__call__(image)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        result, images = screen_volume(make_volume(phantom_hu + 45), replace(models, localisation=Localiser()))
    finally:
        torch.set_num_threads(before)
    assert_refused(result, "hu_scale_wrong")
    assert result.levels_found == ()
    assert images.levels == ()
    assert calls == [] or threads == 2


def test_an_error_of_localisation_in_sound_values_is_raised(make_volume: MakeVolume, make_models: MakeModels) -> None:
    class Broken(FakeLocaliser):
        def __call__(self, image: Any, /) -> dict[str, Any]:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        screen_volume(make_volume(), replace(make_models(), localisation=Broken()))


def test_shifted_scale_is_refused_by_the_tissues_and_a_smaller_shift_is_seen_in_air(
    make_volume: MakeVolume, make_models: MakeModels, phantom_hu: NDArray[np.float32]
) -> None:
    assert_refused(screen_volume(make_volume(phantom_hu + 45), make_models())[0], "hu_scale_wrong")
    result, _ = screen_volume(make_volume(phantom_hu + 25), make_models())
    assert codes(result, Severity.WARNING) == {"air_off_range", "hu_scale_off"}


def test_certainty_limit_is_configurable(make_volume: MakeVolume, make_models: MakeModels) -> None:
    models = make_models(located(L1={"certainty": 0.6, "runner_up": L2}))
    assert_refused(screen_volume(make_volume(), models)[0], "level_uncertain")
    options = ScreeningOptions(limits=Limits().override({CERTAINTY_MINIMUM: 0.55}))
    assert screen_volume(make_volume(), models, options)[0].verdict == "accepted"
