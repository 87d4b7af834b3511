"""The trabecular region: what it keeps, what it leaves out, and when it refuses."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.measurement import body_frame, hu_statistics, trabecular_region
from osteo_monai.measurement.region import CENTRAL_TRABECULAR, CENTRAL_TRABECULAR_RELAXED

GRIDS = [(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (0.7, 0.7, 2.0)]


def _flat(mask: NDArray[np.bool_], value: float = 100.0) -> NDArray[np.float32]:
    return np.full(mask.shape, value, dtype=np.float32)


@pytest.mark.parametrize("spacing", GRIDS)
def test_volume_in_a_box_is_the_one_worked_out_by_hand(
    solids: SimpleNamespace, spacing: tuple[float, float, float]
) -> None:
    mask, affine, _ = solids.solid(spacing, solids.box(48, 36, 30))
    region = trabecular_region(mask, _flat(mask), affine)
    # 4 mm off every side leaves 40 x 28 x 22 mm; the vein takes 30 % of 36 mm from the back, of which 4 mm are gone
    # already, over half of 30 mm: 40 x 6.8 x 15. Together 24.64 - 4.08 cm3.
    assert region.usable
    assert region.name == "central-trabecular 1.0"
    assert region.volume_cm3 == pytest.approx(20.56, rel=0.05 if max(spacing) < 2.5 else 0.25)
    assert region.volume_cm3 == pytest.approx(region.voxels * np.prod(spacing) / 1000)
    assert not np.any(region.mask & ~mask)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("angles", [{}, {"about_x": 25}, {"about_x": -12, "about_y": 14, "about_z": 8}])
def test_every_voxel_keeps_its_distance_in_a_tilted_body(
    solids: SimpleNamespace, spacing: tuple[float, float, float], angles: dict[str, Any]
) -> None:
    mask, affine, own = solids.solid(spacing, solids.box(46, 34, 28), solids.rotation(**angles))
    region = trabecular_region(mask, _flat(mask), affine)
    u, v, w = (own[region.mask][:, a] for a in range(3))
    slack = 0.8 + 0.25 * max(spacing)  # a voxelised tilted face is that rough
    assert np.all(np.minimum.reduce([23 - abs(u), 17 - abs(v), 14 - abs(w)]) >= 4.0 - slack)
    vein = (v < -17 + 0.3 * 34 - slack) & (abs(w) < 7 - slack)
    assert not vein.any()
    # 38 x 26 x 20 mm less a vein of 38 x 6.2 x 14 mm; cubes of 3 mm keep or lose a whole layer.
    assert region.volume_cm3 == pytest.approx(16.5, rel=0.12 if max(spacing) < 2.5 else 0.5)


def test_shell_end_plates_and_vein_do_not_reach_the_statistics(solids: SimpleNamespace) -> None:
    mask, affine, own = solids.solid((0.7, 0.7, 2.0), solids.cylinder(46, 34, 28), solids.rotation(about_x=18))
    frame_distance = body_frame(mask, affine)
    hu = _flat(mask, 120.0)
    points = np.argwhere(mask)
    depth = frame_distance.distance_at(points @ affine[:3, :3].T + affine[:3, 3])
    hu[tuple(points[depth < 2.5].T)] = 700.0
    vein = (own[..., 1] < -9) & (abs(own[..., 0]) < 5) & (abs(own[..., 2]) < 4) & mask
    hu[vein] = 30.0
    assert hu_statistics(hu, mask).mean > 200
    inside = hu_statistics(hu, trabecular_region(mask, hu, affine).mask)
    assert (inside.mean, inside.median, inside.sd) == pytest.approx((120.0, 120.0, 0.0))


def test_no_value_is_filtered_by_its_hu(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.box(46, 34, 28))
    hu = np.random.default_rng(0).normal(100, 150, mask.shape).astype(np.float32)
    region = trabecular_region(mask, hu, affine)
    quiet = trabecular_region(mask, _flat(mask), affine)
    assert np.array_equal(region.mask, quiet.mask)
    assert hu[region.mask].min() < -300


def test_invalid_and_missing_voxels_are_left_out(solids: SimpleNamespace) -> None:
    mask, affine, own = solids.solid((1.0, 1.0, 1.0), solids.box(46, 34, 28))
    whole = trabecular_region(mask, _flat(mask), affine)
    hole = (abs(own[..., 0]) < 3) & (abs(own[..., 1]) < 5) & mask
    hu = _flat(mask)
    hu[hole] = np.nan
    for region in (
        trabecular_region(mask, hu, affine),
        trabecular_region(mask, _flat(mask), affine, valid=~hole),
    ):
        assert np.array_equal(region.mask, whole.mask & ~hole)
    most = own[..., 0] < 0
    refused = trabecular_region(mask, _flat(mask), affine, valid=~most)
    assert not refused.usable
    assert "no valid HU" in str(refused.reason)


def test_flat_body_falls_back_to_a_rule_of_another_name(solids: SimpleNamespace) -> None:
    # Height 9: 4 mm from both end plates leave 1 mm of 38 x 26 mm, under 1.5 cm3; 3 mm leave 3 mm of 40 x 28 mm.
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.box(46, 34, 9))
    region = trabecular_region(mask, _flat(mask), affine)
    assert region.rule is CENTRAL_TRABECULAR_RELAXED
    assert region.name == "central-trabecular-relaxed 1.0"
    assert region.voxels >= CENTRAL_TRABECULAR_RELAXED.min_voxels
    assert CENTRAL_TRABECULAR.cortex_mm > CENTRAL_TRABECULAR_RELAXED.cortex_mm


def test_thick_slices_keep_one_slice_from_the_end_plates(solids: SimpleNamespace) -> None:
    mask, affine, own = solids.solid((0.8, 0.8, 5.0), solids.box(46, 34, 30))
    region = trabecular_region(mask, _flat(mask), affine)
    own_height = own[region.mask][:, 2]
    slices = np.unique(own[mask][:, 2])
    assert region.usable
    assert own_height.min() > slices[0]
    assert own_height.max() < slices[-1]


@pytest.mark.parametrize(("height", "said"), [(6.0, "Too little trabecular bone"), (1.0, "cannot be measured")])
def test_too_little_is_refused_with_a_reason(solids: SimpleNamespace, height: float, said: str) -> None:
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.box(46, 34, height))
    region = trabecular_region(mask, _flat(mask), affine)
    assert not region.usable
    assert said in str(region.reason)
    assert region.voxels == 0
    assert region.mask.shape == mask.shape


def test_arrays_that_do_not_fit_raise(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((3.0, 3.0, 3.0), solids.box(46, 34, 28))
    with pytest.raises(ValueError, match="body must have the shape of hu"):
        trabecular_region(mask, _flat(mask)[:-1], affine)
    with pytest.raises(ValueError, match="valid must have the shape of hu"):
        trabecular_region(mask, _flat(mask), affine, valid=mask[:-1])


def test_a_hollow_body_is_a_reason_not_a_crash() -> None:
    """A shell, as a bad outline may leave it, has no depth to measure."""
    x, y, z = np.indices((60, 50, 40)) - np.array([30, 25, 20])[:, None, None, None]
    shell = (np.hypot(x / 22, y / 17) < 1) & (abs(z) < 14) & (np.hypot(x / 18, y / 13) > 1)
    region = trabecular_region(shell, np.full(shell.shape, 100, np.float32), np.eye(4))
    assert not region.usable
    assert region.reason
