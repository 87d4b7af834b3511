"""Distance between predicted and true contours."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import SurfaceDistanceMetric
from torch import Tensor

__all__ = ["SurfaceDistanceMM", "slicewise"]


def slicewise(output: Sequence[Mapping[str, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Return prediction and label of each axial slice, (1, X, Y) each, so that volumes are scored as Pan scored slices.

    A slice without a body in the label has no Dice coefficient and is left out by the metrics.
    """
    predictions: list[Tensor] = []
    labels: list[Tensor] = []
    for item in output:
        for key, images in (("pred", predictions), ("label", labels)):
            image = item[key]
            images.extend(image.unbind(-1) if image.ndim == 4 else [image])
    return predictions, labels


class _DistanceInMM(SurfaceDistanceMetric):
    def __init__(self, spacing: Sequence[float]) -> None:
        super().__init__(include_background=True, symmetric=True)
        self.spacing = tuple(float(s) for s in spacing)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]
        both = (y_pred.flatten(2).any(-1) & y.flatten(2).any(-1)).float()
        distance = super()._compute_tensor(y_pred, y, spacing=self.spacing)
        # one contour missing: no distance exists (its Dice of 0 tells); MONAI would make the mean infinite
        return torch.where(both > 0, distance, torch.full_like(distance, torch.nan))


class SurfaceDistanceMM(IgniteMetricHandler):
    """Mean symmetric distance between predicted and true contours, in mm.

    Args:
        spacing: pixel size in mm along each axis of the images compared.
        output_transform: see MONAI's ``SurfaceDistance``.
        save_details: keep the value of each image for ``MetricsSaver``.
    """

    def __init__(self, spacing: Sequence[float], output_transform: Any = slicewise, save_details: bool = True) -> None:
        super().__init__(metric_fn=_DistanceInMM(spacing), output_transform=output_transform, save_details=save_details)
