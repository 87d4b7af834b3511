"""The box and the voxels of a mask, in any order of memory."""

from typing import Literal

import numpy as np
import pytest

from osteo_monai.utils.occupied import occupied_box, occupied_voxels


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8])
def test_box_and_voxels_are_those_of_the_values_other_than_zero(order: Literal["C", "F"], kind: type[np.uint8]) -> None:
    mask = np.zeros((9, 7, 5), kind, order=order)
    mask[2:4, 3, 1] = 1
    mask[6, 1, 1] = 1
    for view, box in (
        (mask, (slice(2, 7), slice(1, 4), slice(1, 2))),
        (mask[::-1], (slice(2, 7), slice(1, 4), slice(1, 2))),
        (mask.transpose(2, 0, 1)[:, :, ::-1], (slice(1, 2), slice(2, 7), slice(3, 6))),
    ):
        assert occupied_box(view) == box
        assert np.array_equal(occupied_voxels(view), np.argwhere(view))


def test_an_empty_mask_has_no_box() -> None:
    empty = np.zeros((3, 4, 5), bool)
    assert occupied_box(empty) is None
    assert occupied_voxels(empty).shape == (0, 3)
