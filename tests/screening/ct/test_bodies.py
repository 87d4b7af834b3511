"""Telling the bodies of one mask apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.screening.ct.bodies import (
    DISC_GAP_MM,
    HALF_PLATE_MM,
    VertebraLocation,
    disc_borders,
    disc_in_mask,
    end_plate_borders,
    separate_bodies,
    shifted,
    slab,
    stand_in,
    thinnest,
    without_stray_slices,
)

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
MM = np.eye(4)


def column() -> tuple[VertebraLocation, VertebraLocation]:
    """L1 between z = 30 and 60, L2 between 0 and 30."""
    return VertebraLocation(L1, (10, 10, 45), (10, 10, 60), (10, 10, 30)), VertebraLocation(
        L2, (10, 10, 15), (10, 10, 30), (10, 10, 0)
    )


def separated(mask: NDArray[np.bool_], vertebrae: Sequence[VertebraLocation], gap_mm: float = 0.0) -> NDArray[np.uint8]:
    """Return the labels of bodies that end at the planes through the discs."""
    hu = np.full(mask.shape, 150.0, np.float32)
    return separate_bodies(mask, MM, hu, vertebrae, [disc_borders(v, gap_mm) for v in vertebrae])


def test_slab_holds_both_levels_and_the_margin() -> None:
    # z 0 to 60 mm with 14 mm on either side is -14 to 74, cut to 0 .. 70 of the volume; in slices of 2 mm 0 .. 38
    assert slab(column(), MM, 70) == slice(0, 70)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    assert slab(column(), affine, 100) == slice(0, 38)
    affine[2, 3] = -50.0
    assert slab(column(), affine, 100) == slice(18, 63)


def test_slab_outside_the_volume_still_holds_one_slice() -> None:
    away = VertebraLocation(L1, (0, 0, 500), (0, 0, 515), (0, 0, 485))
    part = slab([away], MM, 50)
    assert part.stop - part.start == 1


def test_slab_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one vertebra"):
        slab([], MM, 10)


def test_shifted_moves_the_origin_along_z() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    np.testing.assert_allclose(shifted(affine, 5)[:3, 3], [0, 0, 10])
    assert affine[2, 3] == 0


def test_bodies_are_named_by_the_planes_between_them() -> None:
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 35:56] = True
    mask[5:15, 5:15, 4:26] = True
    labels = separated(mask, column())
    assert set(np.unique(labels)) == {0, L1.label, L2.label}
    assert (labels > 0).sum() == mask.sum()
    assert (labels[5:15, 5:15, 35:56] == L1.label).all()


@pytest.mark.parametrize("gap", [DISC_GAP_MM, 0.0, 3.0])
def test_a_block_over_two_bodies_is_cut_at_the_disc_with_the_gap(gap: Any) -> None:
    """An outline that leaks over the disc at z = 30, and over those at both ends."""
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15] = True
    labels = separated(mask, column(), gap)
    of_l1, of_l2 = (np.flatnonzero((labels == level.label).any((0, 1))) for level in (L1, L2))
    first = int(np.ceil(gap))
    assert of_l2[[0, -1]].tolist() == [first, 30 - max(first, 1)]
    # a voxel on the plane itself goes to the first of both
    assert of_l1[[0, -1]].tolist() == [30 + first, 60 - first]
    assert (labels > 0).sum() == 100 * (len(of_l1) + len(of_l2))


def plates_at(*heights_mm: float, tilt: float = 0.0, step: float = 1.0) -> np.ndarray:
    """Return HU of spongy bone (150) with discs (80) of 8 mm between bright end plates; the tilt is a slope along y."""
    y = np.arange(60)[None, :, None] - 30.0
    z = step * np.arange(int(100 / step))[None, None, :]
    hu = np.full((60, 60, z.size), 150.0, np.float32)
    for height in heights_mm:
        off = np.broadcast_to(z - height - tilt * y, hu.shape)
        hu[np.abs(off) <= 5.0] = 450.0
        hu[np.abs(off) < 4.0] = 80.0
    return hu


@pytest.mark.parametrize("error_mm", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("step", [1.0, 2.5])
def test_bodies_end_just_outside_of_their_end_plates(error_mm: Any, step: Any) -> None:
    """Discs at 65 and 35 mm; where they were found is up to 3 mm off."""
    hu, affine = plates_at(65.0, 35.0, step=step), np.diag([1.0, 1.0, step, 1.0])
    at = VertebraLocation(L1, (30, 30, 50), (30, 30, 65 + error_mm), (30, 30, 35 + error_mm))
    borders = end_plate_borders(hu, affine, at)
    assert borders.top.point_mm[2] == pytest.approx(60.5 + HALF_PLATE_MM, abs=0.3 + 0.2 * step)
    assert borders.bottom.point_mm[2] == pytest.approx(39.5 - HALF_PLATE_MM, abs=0.3 + 0.2 * step)
    np.testing.assert_allclose(borders.top.normal, (0, 0, 1), atol=0.05)


def test_the_bright_rim_of_a_dished_end_plate_belongs_to_the_body() -> None:
    """Beyond the plane what is as dense as bone counts as far as the middle of the disc, and nothing else."""
    at = VertebraLocation(L1, (30, 30, 50), (30, 30, 65), (30, 30, 35))
    borders = end_plate_borders(plates_at(65.0, 35.0), MM, at)
    height = np.array([58.0, 63.0, 63.0, 67.0, 42.0, 37.0, 37.0, 33.0])
    hu = np.array([80.0, 450.0, 80.0, 450.0, 80.0, 450.0, 80.0, 450.0], np.float32)
    points = np.stack([np.full(8, 45.0), np.full(8, 30.0), height], axis=1)
    assert borders.inside(points, hu).tolist() == [True, True, False, False, True, True, False, False]


def test_borders_follow_the_tilt_of_the_end_plates() -> None:
    slope = np.tan(np.radians(10.0))
    at = VertebraLocation(L1, (30, 30, 50), (30, 30, 65), (30, 30, 35))
    borders = end_plate_borders(plates_at(65.0, 35.0, tilt=slope), MM, at)
    for normal in (borders.top.normal, borders.bottom.normal):
        assert np.degrees(np.arctan2(-normal[1], normal[2])) == pytest.approx(10.0, abs=2.5)
    # the corner of the body in front lies as far above the plane through its middle as behind below it
    front, behind = np.array([[30.0, 45.0, 62.5]]), np.array([[30.0, 15.0, 57.5]])
    soft = np.array([80.0], np.float32)
    assert borders.inside(front, soft)[0]
    assert borders.inside(behind - [0, 0, 1.0], soft)[0]
    assert not borders.inside(behind + [0, 0, 4.0], soft)[0]


def test_where_no_end_plate_shows_a_body_ends_at_the_disc() -> None:
    upper, _ = column()
    hu = np.full((60, 60, 100), 150.0, np.float32)
    borders, at_disc = end_plate_borders(hu, MM, upper), disc_borders(upper, DISC_GAP_MM)
    for border, wanted, z in (
        (borders.top, at_disc.top, 60 - DISC_GAP_MM),
        (borders.bottom, at_disc.bottom, 30 + DISC_GAP_MM),
    ):
        np.testing.assert_allclose(border.point_mm, wanted.point_mm)
        np.testing.assert_allclose(border.point_mm, (10, 10, z))
        bright = np.full(1, 2000.0, np.float32)
        assert not border.within(np.array([[10.0, 10.0, 59.0 if z > 45 else 31.0]]), bright, -1.0 if z > 45 else 1.0)[0]


def test_holes_are_filled_within_the_slice() -> None:
    mask = np.zeros((20, 20, 70), bool)
    mask[4:16, 4:16, 35:56] = True
    mask[9:11, 9:11, 35:56] = False  # a vein through the body, as a classifier of slices sees it
    mask[10, 4, 35:56] = False  # a notch of the rim is no hole
    labels = separated(mask, column())
    body = np.zeros_like(mask)
    body[4:16, 4:16, 35:56] = True
    body[10, 4] = False
    np.testing.assert_array_equal(labels == L1.label, body)


def test_filling_takes_nothing_from_another_body() -> None:
    # L2 is inside a ring that was segmented around it, at heights that belong to L1 as well
    upper = VertebraLocation(L1, (10, 10, 40), (10, 10, 60), (10, 10, 20))
    lower = VertebraLocation(L2, (10, 10, 25), (10, 10, 30), (10, 10, 0))
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 5:56] = True
    labels = separated(mask, (upper, lower))
    single = separated(mask, (lower,))
    assert (labels[10, 10] == L1.label).sum() > 20
    assert ((labels == L2.label) <= (single == L2.label)).all()
    assert (labels[10, 10, 5:30] == L2.label).any()


def test_what_lies_far_beside_the_axis_is_no_body() -> None:
    mask = np.zeros((80, 20, 70), bool)
    mask[5:70, 5:15, 35:56] = True  # runs on into the ribs; the axis is at x = 10
    labels = separated(mask, column())
    assert np.flatnonzero((labels > 0).any((1, 2)))[[0, -1]].tolist() == [5, 41]


def test_mask_beyond_the_planes_belongs_to_no_body() -> None:
    mask = np.zeros((20, 20, 70), bool)
    mask[5:15, 5:15, 61:69] = True
    assert not separated(mask, column()).any()


def test_tilted_planes_follow_the_axis() -> None:
    # planes tilted by 45 degrees: the voxel straight below the centre by 20 mm is 14.1 mm along the axis; the discs are
    # 15.6 mm away, less the gap of 1.4 mm
    tilted = VertebraLocation(L1, (30, 30, 30), (30, 41, 41), (30, 19, 19))
    mask = np.zeros((60, 60, 60), bool)
    mask[30, 30, 10:51] = True
    labels = separated(mask, [tilted])
    assert labels[30, 30, 10] == L1.label
    assert labels[30, 30, 50] == L1.label
    y, z = np.indices((60, 60)) - 30
    along = (y + z) / np.sqrt(2)
    mask[30] = (abs(abs(along) - 15.6) > 2) & (abs(along) < 28)  # a body between two discs, and what lies beyond
    labels = separated(mask, [tilted])
    assert labels[30, 10, 10] == 0
    assert labels[30, 10, 50] == L1.label


def test_only_the_part_nearest_the_centre_is_kept() -> None:
    mask = np.zeros((60, 20, 70), bool)
    mask[5:15, 5:15, 35:56] = True
    mask[40:60, 5:15, 35:56] = True  # larger, but far away
    labels = separated(mask, column())
    assert (labels[40:] == 0).all()
    assert (labels[5:15, 5:15, 35:56] == L1.label).all()


def test_speck_at_the_centre_is_not_the_body() -> None:
    mask = np.zeros((40, 20, 70), bool)
    mask[10, 10, 45] = True
    mask[14:30, 5:15, 35:56] = True
    labels = separated(mask, column())
    assert labels[10, 10, 45] == 0
    assert (labels[14:30, 5:15, 35:56] == L1.label).all()


def test_empty_mask_gives_no_label() -> None:
    assert not separated(np.zeros((5, 5, 5), bool), column()).any()


def test_points_that_coincide_are_an_error() -> None:
    flat = VertebraLocation(L1, (2, 2, 2), (2, 2, 2), (2, 2, 2))
    with pytest.raises(ValueError, match="must be different points"):
        separated(np.ones((5, 5, 5), bool), [flat])


def test_stand_in_has_the_size_of_a_body() -> None:
    # 42 x 32 mm ellipse, 0.8 of 30 mm high: pi / 4 * 42 * 32 * 24 = 25.3 cm3
    mask = stand_in(VertebraLocation(L1, (50, 50, 45), (50, 50, 60), (50, 50, 30)), (100, 100, 90), MM)
    assert mask.sum() / 1000 == pytest.approx(25.3, rel=0.06)
    assert mask[50, 50, 45]
    assert not mask[50, 70, 45]
    assert mask[69, 50, 45]


def test_stand_in_at_the_border_is_cut() -> None:
    mask = stand_in(VertebraLocation(L1, (0, 0, 0), (0, 0, 15), (0, 0, -15)), (50, 50, 50), MM)
    assert mask[0, 0, 0]
    assert mask.shape == (50, 50, 50)


# --- discs --------------------------------------------------------------------------------------------------------


def bodies_every_30_mm(height: int = 24) -> np.ndarray:
    """Return bodies of that height, the first from z = 5 on, with discs between them."""
    mask = np.zeros((30, 30, 130), bool)
    for start in range(5, 130, 30):
        mask[5:25, 5:25, start : start + height] = True
    return mask


def at_z(z: float) -> VertebraLocation:
    return VertebraLocation(L1, (15, 15, z), (15, 15, z + 15), (15, 15, z - 15))


@pytest.mark.parametrize("error_mm", [-9.0, -4.0, 0.0, 7.0, 9.0])
def test_discs_of_a_mask_are_given_by_their_distance(error_mm: float) -> None:
    """Bodies of 24 mm with discs of 6 mm whose middles lie at 31.5 and 61.5 mm."""
    offsets = disc_in_mask(bodies_every_30_mm(), MM, at_z(46.5 + error_mm))
    assert offsets == pytest.approx((-error_mm, -error_mm), abs=0.5)


def test_a_mask_that_leaks_over_a_disc_gives_no_distance() -> None:
    mask = bodies_every_30_mm()
    mask[5:25, 5:25, 50:75] = True
    above, below = disc_in_mask(mask, MM, at_z(46.5))
    assert above is None
    assert below == pytest.approx(0.0, abs=0.5)


def test_a_disc_far_beside_the_axis_does_not_count() -> None:
    mask = np.zeros((120, 30, 130), bool)
    mask[:30] = bodies_every_30_mm()
    mask[60:] = True  # more than 32 mm from the axis
    assert disc_in_mask(mask, MM, at_z(46.5)) == pytest.approx((0.0, 0.0), abs=0.5)


def test_an_empty_mask_has_no_disc() -> None:
    assert disc_in_mask(np.zeros((5, 5, 5), bool), MM, at_z(2)) == (None, None)
    beside = np.zeros((120, 30, 60), bool)
    beside[100:] = True
    assert disc_in_mask(beside, MM, at_z(30)) == (None, None)


def heights(*parts: tuple[float, float]) -> np.ndarray:
    return np.concatenate([np.repeat(np.arange(a, b), 50) for a, b in parts])


@pytest.mark.parametrize("step", [0.7, 1.0, 2.5, 4.0, 5.0])
@pytest.mark.parametrize("at", [41.0, 42.3, 43.5, 45.1])
def test_without_a_disc_nothing_is_said(step: Any, at: Any) -> None:
    column = np.repeat(np.arange(0.0, 100.0, step), 50)
    assert thinnest(column, at, step, (0.0, column.max())) is None


def test_the_end_of_what_is_outlined_is_no_disc() -> None:
    column = heights((10, 60))  # cut off by the last slice at 60 mm
    assert thinnest(column, 52.0, 1.0, (10.0, 59.0)) is None


def test_a_body_that_was_not_outlined_is_no_disc() -> None:
    # outlined below 30 mm and above 80 mm: about 34 mm there is one edge, and no other
    assert thinnest(heights((0, 30), (80, 120)), 34.0, 1.0, (0.0, 119.0)) is None


@pytest.mark.parametrize("step", [1.0, 5.0])
def test_the_thinnest_place_is_the_disc(step: Any) -> None:
    column = heights((0, 40), (46, 90))
    assert thinnest(column, 36.0, step, (0.0, 89.0)) == pytest.approx(6.5, abs=0.75)


def test_a_wide_gap_is_taken_in_its_middle() -> None:
    """Between collapsed bodies lie 20 mm without bone: from 30 to 50."""
    column = heights((0, 30), (51, 90))
    assert thinnest(column, 40.0, 1.0, (0.0, 89.0)) == pytest.approx(0.0, abs=0.5)


# --- stray slices -------------------------------------------------------------------------------------------------


def test_a_stray_slice_is_removed_and_edges_do_not_move() -> None:
    mask = np.zeros((4, 4, 30), bool)
    mask[..., 5:15] = True
    wanted = mask.copy()
    mask[..., 18] = True  # a disc taken for bone
    np.testing.assert_array_equal(without_stray_slices(mask, 2.0), wanted)
    np.testing.assert_array_equal(without_stray_slices(mask, 5.0), mask)
