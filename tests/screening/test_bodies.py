"""Telling the bodies of one mask apart."""

from dataclasses import dataclass

import numpy as np
import pytest

from osteo_monai.domain import VertebraLevel
from osteo_monai.screening.bodies import separate_bodies, shifted, slab, stand_in, thinnest, without_stray_slices

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
MM = np.eye(4)


@dataclass(frozen=True)
class At:
    level: VertebraLevel
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]


def column() -> tuple[At, At]:
    """L1 between z = 30 and 60, L2 between 0 and 30."""
    return At(L1, (10, 10, 45), (10, 10, 60), (10, 10, 30)), At(L2, (10, 10, 15), (10, 10, 30), (10, 10, 0))


def test_slab_holds_both_levels_and_the_margin():
    # z 0 to 60 mm with 24 mm on either side is -24 to 84, cut to 0 .. 70 of the volume; in slices of 2 mm 0 .. 43
    assert slab(column(), MM, 70) == slice(0, 70)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    assert slab(column(), affine, 100) == slice(0, 43)
    affine[2, 3] = -50.0
    assert slab(column(), affine, 100) == slice(13, 68)


def test_slab_outside_the_volume_still_holds_one_slice():
    away = At(L1, (0, 0, 500), (0, 0, 515), (0, 0, 485))
    part = slab([away], MM, 50)
    assert part.stop - part.start == 1


def test_slab_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one vertebra"):
        slab([], MM, 10)


def test_shifted_moves_the_origin_along_z():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    np.testing.assert_allclose(shifted(affine, 5)[:3, 3], [0, 0, 10])
    assert affine[2, 3] == 0


def test_bodies_are_named_by_the_planes_between_them():
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 35:56] = True
    mask[5:15, 5:15, 4:26] = True
    labels = separate_bodies(mask, MM, column())
    assert set(np.unique(labels)) == {0, L1.label, L2.label}
    assert (labels > 0).sum() == mask.sum()
    assert (labels[5:15, 5:15, 35:56] == L1.label).all()


def test_bodies_that_touch_are_cut_at_the_plane():
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 1:60] = True
    labels = separate_bodies(mask, MM, column())
    assert (labels[10, 10, 31:60] == L1.label).all()
    assert (labels[10, 10, 1:30] == L2.label).all()


def test_mask_beyond_the_planes_is_nobody():
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 61:69] = True
    assert not separate_bodies(mask, MM, column()).any()


def test_tilted_planes_follow_the_axis():
    # planes tilted by 45 degrees: the voxel straight below the centre by 20 mm is 14 mm along the axis, still inside
    tilted = At(L1, (30, 30, 30), (30, 41, 41), (30, 19, 19))
    mask = np.zeros((60, 60, 60), bool)
    mask[30, 30, 10:51] = True
    labels = separate_bodies(mask, MM, [tilted])
    assert labels[30, 30, 10] == L1.label
    assert labels[30, 30, 50] == L1.label
    y, z = np.indices((60, 60)) - 30
    along = (y + z) / np.sqrt(2)
    mask[30] = (abs(abs(along) - 15.6) > 2) & (abs(along) < 28)  # a body between two discs, and what lies beyond
    labels = separate_bodies(mask, MM, [tilted])
    assert labels[30, 10, 10] == 0
    assert labels[30, 10, 50] == L1.label


def test_only_the_part_nearest_the_centre_is_kept():
    mask = np.zeros((60, 20, 70), bool)
    mask[5:15, 5:15, 35:56] = True
    mask[40:60, 5:15, 35:56] = True  # larger, but far away
    labels = separate_bodies(mask, MM, column())
    assert (labels[40:] == 0).all()
    assert (labels[5:15, 5:15, 35:56] == L1.label).all()


def test_speck_at_the_centre_is_not_the_body():
    mask = np.zeros((40, 20, 70), bool)
    mask[10, 10, 45] = True
    mask[14:30, 5:15, 35:56] = True
    labels = separate_bodies(mask, MM, column())
    assert labels[10, 10, 45] == 0
    assert (labels[14:30, 5:15, 35:56] == L1.label).all()


def test_empty_mask_gives_no_label():
    assert not separate_bodies(np.zeros((5, 5, 5), bool), MM, column()).any()


def test_points_that_coincide_are_an_error():
    flat = At(L1, (2, 2, 2), (2, 2, 2), (2, 2, 2))
    with pytest.raises(ValueError, match="same point"):
        separate_bodies(np.ones((5, 5, 5), bool), MM, [flat])


def test_stand_in_has_the_size_of_a_body():
    # 42 x 32 mm ellipse, 0.8 of 30 mm high: pi / 4 * 42 * 32 * 24 = 25.3 cm3
    mask = stand_in(At(L1, (50, 50, 45), (50, 50, 60), (50, 50, 30)), (100, 100, 90), MM)
    assert mask.sum() / 1000 == pytest.approx(25.3, rel=0.06)
    assert mask[50, 50, 45]
    assert not mask[50, 70, 45]
    assert mask[69, 50, 45]


def test_stand_in_at_the_border_is_cut():
    mask = stand_in(At(L1, (0, 0, 0), (0, 0, 15), (0, 0, -15)), (50, 50, 50), MM)
    assert mask[0, 0, 0]
    assert mask.shape == (50, 50, 50)


@pytest.mark.parametrize("error_mm", [-11.0, -4.0, 0.0, 7.0, 11.0])
def test_planes_move_to_the_discs(error_mm: float):
    """Bodies of 24 mm with discs of 6 mm: a localiser that is off by a third of a body still gives whole bodies."""
    mask = np.zeros((30, 30, 130), bool)
    for start in range(5, 130, 30):
        mask[5:25, 5:25, start : start + 24] = True
    at = [At(level, (15, 15, z + error_mm), (15, 15, z + 15 + error_mm), (15, 15, z - 15 + error_mm))
          for level, z in ((L1, 77.0), (L2, 47.0))]  # fmt: skip
    labels = separate_bodies(mask, MM, at)
    for level, first in ((L1, 65), (L2, 35)):
        assert np.flatnonzero((labels == level.label).any((0, 1)))[[0, -1]].tolist() == [first, first + 23]


def test_without_a_disc_the_plane_stays():
    assert thinnest(np.repeat(np.arange(100.0), 50), 41.0, 1.0) == 41.0
    assert thinnest(np.zeros(0), 41.0, 1.0) == 41.0


def test_the_end_of_the_scan_is_no_disc():
    heights = np.repeat(np.arange(10.0, 60.0), 50)  # a column that the last slice cuts off at 60 mm
    assert thinnest(heights, 52.0, 1.0) > 60.0
    assert thinnest(heights, 52.0, 1.0, seen=(10.0, 59.0)) == 52.0


def test_the_thinnest_place_is_the_disc():
    heights = np.concatenate([np.repeat(np.arange(0.0, 40), 50), np.repeat(np.arange(46.0, 90), 50)])
    assert thinnest(heights, 36.0, 1.0) == pytest.approx(42.5, abs=1)


def test_a_stray_slice_goes_and_edges_stay():
    mask = np.zeros((4, 4, 30), bool)
    mask[..., 5:15] = True
    wanted = mask.copy()
    mask[..., 18] = True  # a disc taken for bone
    np.testing.assert_array_equal(without_stray_slices(mask, 2.0), wanted)
    np.testing.assert_array_equal(without_stray_slices(mask, 5.0), mask)
