"""Handler that clips gradients."""

from collections.abc import Iterable

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn

__all__ = ["GradientClipping"]


class GradientClipping:
    """Scale the gradients to a joint norm of at most ``max_norm`` before each optimizer step.

    A trainer that scales the loss (``amp``) divides its gradients by that factor first.

    Args:
        parameters: parameters of the network.
        max_norm: largest Euclidean norm of all gradients together.

    Raises:
        ValueError: when ``max_norm`` is not positive.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], max_norm: float) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.parameters = list(parameters)
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and isinstance(engine, SupervisedTrainer):
            scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
