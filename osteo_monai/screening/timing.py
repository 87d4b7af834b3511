"""Wall times of the stages of a screening."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnStage = Callable[[str], None]
"""Called with the stage name when a stage begins."""


def no_progress(stage: str) -> None:
    """Ignore the begin of a stage."""


class Stopwatch:
    """Collects the wall time of each stage in seconds, rounded to milliseconds.

    Args:
        on_stage: called with the stage name when a stage begins.

    Attributes:
        seconds: by stage name, in the order of the stages.
    """

    def __init__(self, on_stage: OnStage = no_progress) -> None:
        self._on_stage = on_stage
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, also one that raises."""
        self._on_stage(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - started, 3)
