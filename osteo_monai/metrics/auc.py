"""Area under the ROC curve."""

from collections.abc import Mapping, Sequence
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


class _MeanAUC(ROCAUCMetric):
    def aggregate(self, average: Any = None) -> float:
        predicted, truth = self.get_buffer()
        areas = []
        for k in range(predicted.shape[1]):
            one = (truth == k).int()
            if 0 < int(one.sum()) < len(one):
                areas.append(float(compute_roc_auc(predicted[:, k], one)))  # type: ignore[arg-type]
        return float(np.mean(areas)) if areas else 0.0


class OneVersusRestAUC(IgniteMetricHandler):
    """Mean area under the one-versus-rest ROC curves of the classes that occur; 0 where only one does.

    Args:
        output_transform: gives scores (N, K) and class indices (N,).
    """

    def __init__(self, output_transform: Any = class_outputs) -> None:
        super().__init__(metric_fn=_MeanAUC(), output_transform=output_transform, save_details=False)
