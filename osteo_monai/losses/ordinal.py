"""Loss of ordered classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["OrdinalCrossEntropyLoss"]


class OrdinalCrossEntropyLoss(nn.Module):
    """Cross-entropy of ordered classes of unequal frequency.

    The logarithm of the class frequencies in training is added to the logits (Menon et al. 2021, arXiv 2007.07314). The
    network then learns the evidence for a class without its frequency, and the frequencies of another population can be
    applied afterwards. Label smoothing goes to the neighbouring classes only, since a case near a threshold is confused
    with those (cf. Diaz and Marathe 2019).

    Args:
        prior: share of each class among the training items, in order; scaled to a sum of 1.
        smoothing: part of the target in [0, 1) that the neighbours share.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, prior: Sequence[float], smoothing: float = 0.05) -> None:
        super().__init__()
        share = torch.as_tensor(prior, dtype=torch.float32)
        if share.ndim != 1 or len(share) < 2 or not bool((share > 0).all()):
            raise ValueError(f"prior must hold a positive share for each of at least two classes, got {list(prior)}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}")
        neighbours = torch.zeros(len(share), len(share))
        for i in range(len(share)):
            for j in (i - 1, i + 1):
                if 0 <= j < len(share):
                    neighbours[i, j] = 1.0
        target = (1 - smoothing) * torch.eye(len(share)) + smoothing * neighbours / neighbours.sum(1, keepdim=True)
        self.register_buffer("log_prior", (share / share.sum()).log(), persistent=False)
        self.register_buffer("target", target, persistent=False)
        self.log_prior: Tensor
        self.target: Tensor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (N, K) against class indices (N,)."""
        logits = prediction.float() + self.log_prior.to(prediction.device)
        return functional.cross_entropy(logits, self.target.to(prediction.device)[target.long()])
