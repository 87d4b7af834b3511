"""Loss of the density regressor."""

import math

import torch
from torch import Tensor, nn

__all__ = ["BetaGaussianNLLLoss"]


class BetaGaussianNLLLoss(nn.Module):
    """Negative log-likelihood of a normal distribution, weighted by variance^beta.

    Source: Seitzer et al. 2022, arXiv 2203.09168.

    With beta = 0 it is the plain likelihood, whose gradient on the mean fades where the variance is large, so that hard
    cases are given up early; with beta = 1 the mean is learned as by a squared error.

    Args:
        beta: in [0, 1]; the authors' recommendation is 0.5.
        scale: unit in which the error is counted, mg/cm3; it only scales the loss.
    """

    def __init__(self, beta: float = 0.5, scale: float = 50.0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie in [0, 1], got {beta}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.beta, self.scale = beta, scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the known targets, 0 where none is known.

        Args:
            prediction: (..., 2), mean in mg/cm3 and logarithm of the variance in (mg/cm3)^2.
            target: (...), true densities in mg/cm3, NaN where unknown.
        """
        if prediction.shape != (*target.shape, 2):
            raise ValueError(
                f"prediction must be the target's shape with a last axis of 2, got {tuple(prediction.shape)} "
                f"and {tuple(target.shape)}"
            )
        known = target.isfinite()
        mean, log_variance = prediction.float()[known].unbind(-1)
        log_variance = log_variance - 2 * math.log(self.scale)
        error = (target[known] - mean) / self.scale
        likelihood = 0.5 * (error.square() * torch.exp(-log_variance) + log_variance)
        return (likelihood * (self.beta * log_variance.detach()).exp()).sum() / max(1, int(known.sum()))
