"""Threads for work that consists of thousands of small operations.

PyTorch divides each operation among its threads. Small operations then spend more time waiting than computing, up to
ten times as much on a busy machine. Here each operation uses one thread, and larger parts run in parallel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from osteo_monai.utils.threads import run_parallel as in_threads

T = TypeVar("T")
_reserved: ContextVar[int] = ContextVar("reserved", default=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread and restore the former number at the end, after an error too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def reserve_threads() -> Iterator[None]:
    """Limit PyTorch's operations to one thread each and reserve the others for ``run_parallel``.

    The number of threads is a setting of the process; the former number is restored at the end, after an error too.
    """
    token = _reserved.set(max(torch.get_num_threads(), _reserved.get()))
    try:
        with one_thread():
            yield
    finally:
        _reserved.reset(token)


def run_parallel(work: Callable[[int], T], parts: Sequence[int]) -> list[T]:
    """Return ``work`` of each part, in order, computed by the threads that ``reserve_threads`` has reserved."""
    return in_threads(work, parts, _reserved.get())
