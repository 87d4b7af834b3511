"""Shape of solids whose size is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from osteo_monai.measurement.shape import body_shape

GRIDS = [(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (0.7, 0.7, 2.0)]


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("tilt", [0.0, 22.0])
def test_size_of_a_cylinder(solids: SimpleNamespace, spacing: tuple[float, float, float], tilt: float) -> None:
    mask, affine, _ = solids.solid(spacing, solids.cylinder(46, 34, 27), solids.rotation(about_x=tilt))
    shape = body_shape(mask, affine)
    slack = 0.6 + 0.4 * max(spacing)
    assert shape.volume_cm3 == pytest.approx(33.2, rel=0.05)  # pi 23 17 27
    assert shape.section_mm2 == pytest.approx(1228, rel=0.06)  # pi 23 17
    assert (shape.width_mm, shape.depth_mm) == pytest.approx((46, 34), abs=slack)
    assert (shape.anterior_mm, shape.middle_mm, shape.posterior_mm) == pytest.approx((27, 27, 27), abs=slack)
    assert shape.height_mm == pytest.approx(27, abs=slack)
    assert shape.aspect == pytest.approx(46 / 34, rel=0.08)
    assert shape.tilt_degrees == pytest.approx(tilt, abs=1.0 if max(spacing) < 2.5 else 3.0)
    assert shape.height_loss < 0.02 + 0.02 * max(spacing)
    assert shape.main_part == 1.0


def test_wedge_is_measured_within_the_bands(solids: SimpleNamespace) -> None:
    # Height 24 - 12 v / 34, v forwards: at 17.5 % of the depth 27.9, half-way 24, at 82.5 % 20.1 mm.
    mask, affine, _ = solids.solid(
        (1.0, 1.0, 1.0),
        lambda u, v, w: (abs(u) <= 22) & (abs(v) <= 17) & (abs(w) <= 12 - 6 * v / 34),
        solids.rotation(about_x=15),
    )
    shape = body_shape(mask, affine)
    assert (shape.posterior_mm, shape.middle_mm, shape.anterior_mm) == pytest.approx((27.9, 24.0, 20.1), abs=0.8)
    assert shape.wedge == pytest.approx(1 - 20.1 / 27.9, abs=0.04)
    assert shape.height_loss == pytest.approx(shape.wedge)


def test_sunken_end_plates_are_height_loss_but_no_wedge(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid(
        (1.0, 1.0, 1.0), lambda u, v, w: (abs(u) <= 22) & (abs(v) <= 17) & (abs(w) <= 8 + 5 * (v / 17) ** 2)
    )
    shape = body_shape(mask, affine)
    assert abs(shape.wedge) < 0.04
    # At 0.65 of the way to the walls 2 (8 + 5 x 0.42) = 20.2 mm, in the middle 16.1 mm.
    assert shape.height_loss == pytest.approx(1 - 16.1 / 20.3, abs=0.05)


def test_centre_slice_is_the_one_nearest_the_centroid() -> None:
    mask = np.zeros((50, 50, 40), dtype=bool)
    mask[5:45, 8:40, 10:21] = True
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    affine[:3, 3] = (4.0, -300.0, 812.0)
    shape = body_shape(mask, affine)
    assert shape.centre_slice == 15
    assert shape.centre_mm == pytest.approx((4 + 24.5, -300 + 23.5, 812 + 2.5 * 15), abs=0.1)


def test_hollow_mask_is_refused(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid(
        (1.0, 1.0, 1.0), lambda u, v, w: (abs(u) <= 22) & (abs(v) <= 17) & (abs(w) <= 13) & (u**2 + v**2 > 15.0**2)
    )
    with pytest.raises(ValueError, match="must be a solid"):
        body_shape(mask, affine)
