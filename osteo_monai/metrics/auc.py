"""Area under the ROC curve of several classes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import ROCAUCMetric, compute_roc_auc
from torch import Tensor

__all__ = ["OneVersusRestAUC", "class_outputs", "risk_outputs"]


def class_outputs(output: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return predictions (N, 3) and class indices (N,) of a decollated batch, for metrics."""
    return torch.stack([item["pred"].float() for item in output]), torch.as_tensor([int(i["label"]) for i in output])


def risk_outputs(output: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, 2) of no osteoporosis and osteoporosis, and classes (N,), of a decollated batch."""
    risk = torch.stack([item["pred"].float()[0] for item in output])
    return torch.stack([1 - risk, risk], 1), torch.as_tensor([int(item["label"]) for item in output])


class OneVersusRestAUC(IgniteMetricHandler):
    """Mean area under the one-versus-rest ROC curves of the classes that occur; 0 if only one class occurs.

    Args:
        output_transform: function from a decollated batch to scores (N, K) and class indices (N,).
    """

    def __init__(
        self, output_transform: Callable[[Sequence[Mapping[str, Any]]], tuple[Tensor, Tensor]] = class_outputs
    ) -> None:
        super().__init__(metric_fn=_MeanAUC(), output_transform=output_transform, save_details=False)


class _MeanAUC(ROCAUCMetric):
    def aggregate(self, average: Any = None) -> float:
        scores, truth = self.get_buffer()  # type: ignore[no-untyped-call]
        areas = []
        for index in range(scores.shape[1]):
            is_class = (truth == index).int()
            if 0 < int(is_class.sum()) < len(is_class):
                areas.append(float(compute_roc_auc(scores[:, index], is_class)))  # type: ignore[arg-type]
        return float(np.mean(areas)) if areas else 0.0
