"""Location of levels by a label map."""

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.cohort import locate_labelled
from osteo_monai.domain import VertebraLevel

from ..screening.conftest import LEVELS, PITCH_MM, phantom_affine

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def test_levels_are_located_half_way_between_end_plates(truth_labels: NDArray[np.uint8]) -> None:
    # 36 mm from centre to centre: the planes lie 18 mm from each
    upper, lower = locate_labelled(truth_labels, phantom_affine(), (L1, L2))
    assert upper.level is L1
    z1 = 44.0 - PITCH_MM * LEVELS.index(L1)
    np.testing.assert_allclose(upper.centre_mm, (0, 0, z1), atol=1.6)
    np.testing.assert_allclose(upper.superior_mm, (0, 0, z1 + PITCH_MM / 2), atol=1.6)
    np.testing.assert_allclose(upper.inferior_mm, (0, 0, z1 - PITCH_MM / 2), atol=1.6)
    np.testing.assert_allclose(upper.inferior_mm, lower.superior_mm, atol=1e-6)


def test_a_lone_level_gets_planes_beyond_its_own_end_plates() -> None:
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 10:31] = L1.label
    (single,) = locate_labelled(labels, np.eye(4), (L1,))
    # end plates at 10 and 30, planes 4 mm beyond
    assert single.superior_mm == pytest.approx((14.5, 14.5, 34.0))
    assert single.inferior_mm == pytest.approx((14.5, 14.5, 6.0))


def test_the_rim_of_a_neighbour_in_the_slab_sets_the_plane() -> None:
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 10:31] = L1.label
    labels[5:25, 5:25, 36:40] = VertebraLevel.T12.label
    (located,) = locate_labelled(labels, np.eye(4), (L1,))
    assert located.superior_mm == pytest.approx((14.5, 14.5, 33.0))  # half-way from 30 to 36
    labels[..., 36:] = 0
    labels[24:, 24:, 36:] = VertebraLevel.T12.label  # a splinter out of the line
    assert locate_labelled(labels, np.eye(4), (L1,))[0].superior_mm == pytest.approx((14.5, 14.5, 34.0))


def test_planes_are_perpendicular_to_a_tilted_body() -> None:
    labels = np.zeros((41, 41, 60), np.uint8)
    _, y, z = np.indices(labels.shape)
    tilt = np.tan(np.radians(20.0))
    labels[5:36, 5:36] = np.where(abs(z - 30 - tilt * (y - 20)) <= 10, L1.label, 0)[5:36, 5:36]
    (located,) = locate_labelled(labels, np.eye(4), (L1,))
    axis = np.subtract(located.superior_mm, located.inferior_mm)
    axis /= np.linalg.norm(axis)
    np.testing.assert_allclose(axis, (0, -np.sin(np.radians(20)), np.cos(np.radians(20))), atol=0.02)


def test_all_levels_that_cannot_be_located_are_named() -> None:
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 20:] = L1.label
    with pytest.raises(ValueError, match="L1 is cut .*; L2 is not labelled"):
        locate_labelled(labels, np.eye(4), (L1, L2))
