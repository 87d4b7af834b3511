"""Mean one-versus-rest AUC, and the outputs that metrics read."""

import pytest
import torch
from torch import tensor

from osteo_monai import metrics
from osteo_monai.metrics import class_outputs, risk_outputs


def test_mean_auc_by_hand() -> None:
    """Normal 1; osteopenia: one of its two rivals is ranked above it, 0.5; osteoporosis 1."""
    metric = metrics.OneVersusRestAUC().metric_fn
    predicted = torch.tensor([[0.5, 0.45, 0.05], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]])
    metric(predicted, torch.tensor([0, 1, 2]))
    assert metric.aggregate() == pytest.approx((1 + 0.5 + 1) / 3)
    metric.reset()
    metric(predicted[:2], torch.tensor([0, 0]))
    assert metric.aggregate() == 0.0


def test_outputs_that_metrics_read() -> None:
    risks = [{"pred": tensor([0.25, 0.9]), "label": tensor(0)}, {"pred": tensor([0.75, 0.1]), "label": tensor(1)}]
    risk, truth = risk_outputs(risks)
    torch.testing.assert_close(risk, tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert truth.tolist() == [0, 1]
    scores, truth = class_outputs([{"pred": tensor([0.1, 0.2, 0.7]), "label": tensor(2)}])
    assert (tuple(scores.shape), truth.tolist()) == ((1, 3), [2])
