"""What the bundles' training configs need and MONAI does not have: clipping, averaging, a schedule, progress."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["GradientClipping", "Progress", "WeightAveraging", "averaged_copy", "warmup_cosine"]


def warmup_cosine(total_steps: int, warmup_steps: int, floor: float = 0.01) -> Callable[[int], float]:
    """Return the factor of the learning rate at a step: linear from 0 to 1, then half a cosine down to ``floor``.

    A plain function, so that ``LambdaLR`` does not store ``total_steps``: a resumed run may be longer.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps must lie in [0, total_steps), got {warmup_steps} of {total_steps}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of ``network``'s weights, the network itself included at the start.

    Args:
        network: on its final device.
        decay: share of the old average kept at each step, in [0, 1); 0 follows the network exactly. The first steps use
            (1 + n) / (10 + n) where that is less, so that the random initial weights are soon forgotten.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        n = int(count)
        if not old.is_floating_point():
            return new
        return old.lerp(new, 1 - min(decay, (1 + n) / (10 + n)))

    # running statistics belong to the weights they were gathered with: averaged weights need averaged statistics
    return AveragedModel(network, avg_fn=average, use_buffers=True)


class WeightAveraging:
    """Update an average (see ``averaged_copy``) after each optimiser step of the engine it is attached to."""

    def __init__(self, average: AveragedModel, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.average.update_parameters(self.network)


class GradientClipping:
    """Scale the gradients down to a joint norm of ``max_norm`` before each optimiser step."""

    def __init__(self, parameters: Iterable[nn.Parameter], max_norm: float) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.parameters = list(parameters)
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)


class Progress:
    """Log one line per epoch: mean loss, learning rate, items per second, and the time that is left.

    A loss that is not finite ends the run with an error: it would go on for hours without learning.

    The mean loss is also put into ``engine.state.metrics["train_loss_epoch"]``.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, name: str = "osteo_monai.training") -> None:
        self.optimizer = optimizer
        self.logger = logging.getLogger(name)
        self._loss = 0.0
        self._items = 0
        self._steps = 0
        self._epoch_started = self._started = time.monotonic()
        self._first_epoch = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)

    def _start(self, engine: Engine) -> None:
        self._started, self._first_epoch = time.monotonic(), -1

    def _start_epoch(self, engine: Engine) -> None:
        if self._first_epoch < 0:  # a resumed run knows its epoch only now
            self._first_epoch = engine.state.epoch - 1
        self._loss, self._items, self._steps, self._epoch_started = 0.0, 0, 0, time.monotonic()

    def _step(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = float(output["loss"].detach())
        if not math.isfinite(loss):
            raise ValueError(f"the loss became {loss} at iteration {engine.state.iteration}: the training is lost")
        self._loss += loss
        self._items += len(output["image"])
        self._steps += 1

    def _finish_epoch(self, engine: Engine) -> None:
        state, now = engine.state, time.monotonic()
        loss = self._loss / max(1, self._steps)
        state.metrics["train_loss_epoch"] = loss
        done = state.epoch - self._first_epoch
        left = (now - self._started) / max(1, done) * ((state.max_epochs or state.epoch) - state.epoch)
        self.logger.info(
            "epoch %d/%s: mean loss %.4f, learning rate %.2e, %.1f items/s, about %.0f min left",
            state.epoch,
            state.max_epochs,
            loss,
            self.optimizer.param_groups[0]["lr"],
            self._items / max(1e-9, now - self._epoch_started),
            left / 60,
        )
