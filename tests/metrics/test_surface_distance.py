"""Surface distance in mm and slicewise scores."""

import pytest
import torch

from osteo_monai import metrics


def test_surface_distance_is_in_mm_and_skips_missing_contours() -> None:
    label, prediction = torch.zeros(2, 1, 20, 20), torch.zeros(2, 1, 20, 20)
    label[0, 0, 5:10, 5:10] = 1
    prediction[0, 0, 7:12, 5:10] = 1  # two pixels along x; the second image has no prediction
    label[1, 0, 5:10, 5:10] = 1
    metric = metrics.SurfaceDistanceMM((1.5, 1.5), output_transform=lambda x: x, save_details=False)
    metric.update((prediction, label))
    # The label's 16 edge pixels, in pixels: its far row 5 x 2; the row next to it 2 x 1; its near row lies inside the
    # prediction, 0, 1, 2, 1, 0 from its sides; the rest 0. 16 in all, and the same the other way round: 1 pixel.
    assert metric.compute() == pytest.approx(1.5)
    same = metrics.SurfaceDistanceMM((1.5, 1.5), output_transform=lambda x: x, save_details=False)
    same.update((label, label))
    assert same.compute() == 0


def test_volumes_are_scored_a_slice() -> None:
    volume = torch.zeros(1, 4, 4, 3)
    predictions, labels = metrics.slicewise(
        [{"pred": volume, "label": volume}, {"pred": volume[..., 0], "label": volume[..., 0]}]
    )
    assert [tuple(p.shape) for p in predictions] == [(1, 4, 4)] * 4
    assert len(labels) == 4
