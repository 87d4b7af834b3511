"""Log messages and warnings while a command runs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

__all__ = ["LogScope", "logger_level"]

_QUIET = {
    "pydicom": logging.CRITICAL,  # quotes values of damaged headers, such as the patient's name
    "highdicom": logging.CRITICAL,  # the same
    "monai.data.nvimgcodec_pydicom_plugin": logging.CRITICAL,  # an optional CUDA decoder is absent, in every worker
    "matplotlib.font_manager": logging.CRITICAL,  # scores of fonts
    "ignite.engine.engine.SupervisedEvaluator": logging.CRITICAL,  # start and end of every inference
    "alembic": logging.WARNING,  # each migration of MLflow's tables
}
"""Third-party loggers and the level below which they are silent."""

_QUIET_MODULES = ("pydicom", "highdicom")
"""Modules whose Python warnings are not shown: they quote values of damaged headers."""


@contextmanager
def logger_level(name: str, level: int) -> Iterator[None]:
    """Set the level of a logger inside the block and restore it afterwards."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class LogScope:
    """Show warnings of this package only while a command runs, and restore all settings at its end.

    Args:
        own_process: the process ends with the command.

    Attributes:
        debug: whether ``show_all`` was called.
    """

    def __init__(self, own_process: bool = False) -> None:
        self.own_process = own_process
        self.debug = False
        self._stack = ExitStack()
        self._levels: dict[str, int] = {}

    def __enter__(self) -> Self:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        self._stack.callback(_restore_root, handlers, level)
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.WARNING)
        self._levels = {name: logging.getLogger(name).level for name in _QUIET}
        self._stack.callback(self._restore_levels)
        for name, quiet in _QUIET.items():
            logging.getLogger(name).setLevel(quiet)
        self._stack.enter_context(warnings.catch_warnings())
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category)
        for module in _QUIET_MODULES:
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show_all(self) -> None:
        """Show every log message and warning, also those that may quote DICOM header values."""
        self.debug = True
        self._restore_levels()
        logging.getLogger().setLevel(logging.DEBUG)
        warnings.resetwarnings()
        warnings.simplefilter("default")

    def _restore_levels(self) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


def _restore_root(handlers: list[logging.Handler], level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level)
