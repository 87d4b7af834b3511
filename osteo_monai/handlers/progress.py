"""Handler that logs the progress of a training."""

import logging
import math
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

__all__ = ["Progress"]


class Progress:
    """Log one line an epoch: mean loss, learning rate, items per second, and the remaining time.

    The mean loss is also ``engine.state.metrics["train_loss_epoch"]``.

    Args:
        optimizer: its learning rate is logged.
        name: name of the logger.

    Raises:
        ValueError: during the training, when the loss is not finite: no later step would recover.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, name: str = __name__) -> None:
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
        if self._first_epoch < 0:  # the epoch of a resumed run is restored after Events.STARTED
            self._first_epoch = engine.state.epoch - 1
        self._loss, self._items, self._steps, self._epoch_started = 0.0, 0, 0, time.monotonic()

    def _step(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = float(output["loss"].detach())
        if not math.isfinite(loss):
            raise ValueError(f"loss must be finite, got {loss} at iteration {engine.state.iteration}")
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
