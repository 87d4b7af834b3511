"""Loss of the density regressor."""

import math

import torch
from torch import Tensor, nn

__all__ = ["BetaGaussianNLLLoss"]


class BetaGaussianNLLLoss(nn.Module):
    """Negative log-likelihood of a normal distribution, weighted by variance^beta.

    Source: Seitzer et al. 2022, arXiv 2203.09168.

    beta = 0 is the plain likelihood: its gradient on the mean vanishes at large variances, so that difficult cases are
    not learned. beta = 1 gives the mean the gradient of a squared error.

    Args:
        beta: exponent in [0, 1]; the authors recommend 0.5.
        scale: unit of the error in mg/cm3; it only scales the loss.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, beta: float = 0.5, scale: float = 50.0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1], got {beta}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.beta, self.scale = beta, scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the known targets, 0 if there is none.

        Args:
            prediction: (..., 2), mean in mg/cm3 and logarithm of the variance in (mg/cm3)^2.
            target: (...), true densities in mg/cm3, NaN if unknown.

        Raises:
            ValueError: when the shapes do not match.
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
