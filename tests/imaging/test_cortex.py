"""The inner edge of the cortex of a label map is that of the virtual people whose label map it is."""

from pathlib import Path

import numpy as np
import pytest

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.cortex import CORTEX_MM, inside_cortex
from osteo_monai.virtual.centre_slices import VirtualCentreSlices


def test_it_agrees_with_the_endosteal_masks_of_virtual_people(tmp_path: Path) -> None:
    outer, inner = (
        VirtualCentreSlices(8, (0, 548), tmp_path, 80, 0.7, boundary) for boundary in ("periosteal", "endosteal")
    )
    dice, ratio = [], []
    for i in range(8):
        label = outer[i]["label"][0].numpy().astype(np.uint8)[:, :, None]
        made, true = inside_cortex(label, (0.7, 0.7))[:, :, 0] > 0, inner[i]["label"][0].numpy() > 0
        dice.append(2 * (made & true).sum() / (made.sum() + true.sum()))
        ratio.append(made.sum() / true.sum())
    assert min(dice) > 0.97
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("pixel", [(0.4, 0.4), (0.7, 0.7), (0.6, 0.8)])
def test_a_disc_loses_the_thickness_of_the_cortex(pixel: tuple[float, float]) -> None:
    x, y = np.meshgrid(*(np.arange(-60, 61) * step for step in pixel), indexing="ij")
    labels = (20 * (x**2 + y**2 < 18**2)).astype(np.uint8)[:, :, None]
    kept = inside_cortex(labels, pixel)
    assert set(np.unique(kept)) == {0, 20}
    assert (kept > 0).sum() * pixel[0] * pixel[1] == pytest.approx(np.pi * (18 - CORTEX_MM) ** 2, rel=0.02)


def test_bodies_that_touch_lose_the_cortex_of_both_and_the_edge_of_the_image_counts() -> None:
    labels = np.full((20, 20, 1), 20, np.uint8)
    labels[10:] = 21
    kept = inside_cortex(labels, (1.0, 1.0))[:, :, 0]
    expected = np.zeros((20, 20), np.uint8)
    expected[1:9, 1:19], expected[11:19, 1:19] = 20, 21
    assert np.array_equal(kept, expected)


def test_too_large_pixels_are_refused() -> None:
    with pytest.raises(UnusableInputError, match=r"Pixels must be smaller than 1\.8 mm .*, got 3 mm"):
        inside_cortex(np.ones((4, 4, 1), np.uint8), (0.7, 3.0))
