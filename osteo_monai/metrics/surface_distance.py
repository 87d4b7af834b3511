"""Distance between predicted and true contours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import SurfaceDistanceMetric
from torch import Tensor

__all__ = ["SurfaceDistanceMM", "slicewise"]


def slicewise(output: Sequence[Mapping[str, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Return prediction and label of each axial slice, (1, X, Y) each, to score volumes slice by slice as Pan 2024.

    Args:
        output: items with ``pred`` and ``label``, (1, X, Y) or (1, X, Y, Z). Metrics skip slices without a body in the
            label, whose Dice coefficient is undefined.
    """
    predictions: list[Tensor] = []
    labels: list[Tensor] = []
    for item in output:
        for key, images in (("pred", predictions), ("label", labels)):
            image = item[key]
            images.extend(image.unbind(-1) if image.ndim == 4 else [image])
    return predictions, labels


class SurfaceDistanceMM(IgniteMetricHandler):
    """Mean symmetric distance between predicted and true contours, in mm.

    Args:
        spacing: pixel size in mm along each axis of the images.
        output_transform: function from a decollated batch to predictions and labels.
        save_details: whether the value of each image is kept for ``MetricsSaver``.
    """

    def __init__(
        self, spacing: Sequence[float], output_transform: Callable[..., Any] = slicewise, save_details: bool = True
    ) -> None:
        super().__init__(metric_fn=_DistanceInMM(spacing), output_transform=output_transform, save_details=save_details)


class _DistanceInMM(SurfaceDistanceMetric):
    def __init__(self, spacing: Sequence[float]) -> None:
        super().__init__(include_background=True, symmetric=True)
        self.spacing = tuple(float(s) for s in spacing)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]
        both = (y_pred.flatten(2).any(-1) & y.flatten(2).any(-1)).float()
        distance = super()._compute_tensor(y_pred, y, spacing=self.spacing)
        # undefined without one of the contours; MONAI's infinite value would make the mean infinite
        return torch.where(both > 0, distance, torch.full_like(distance, torch.nan))
