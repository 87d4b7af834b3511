"""Base class of handlers that report once an epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["EpochHandler"]


class EpochHandler(ABC):
    """Handler that collects the decollated output of each iteration and reports at the end of the epoch."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.start())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        self.collect(output, batch)

    @abstractmethod
    def start(self) -> None:
        """Forget the last epoch."""

    @abstractmethod
    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        """Add the items of an iteration: the engine's output, and its input before the network."""

    @abstractmethod
    def finish(self, engine: Engine) -> None:
        """Report the epoch, in ``engine.state.metrics`` or in files."""
