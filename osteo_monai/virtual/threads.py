"""Threads for work that is made of thousands of small operations.

PyTorch shares out each operation among its threads. Where operations are small they wait for each other longer than
they take, and on a busy machine ten times as long. So operations keep to one thread, and larger parts run side by side.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

T = TypeVar("T")
_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextmanager
def own_threads() -> Iterator[None]:
    """Take PyTorch's threads away from its operations, for ``side_by_side`` to use; given back at the end."""
    before = torch.get_num_threads()
    token = _threads.set(max(before, _threads.get()))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _threads.reset(token)


def side_by_side(work: Callable[[int], T], parts: Sequence[int]) -> list[T]:
    """Return ``work`` of each part, in order, done by as many threads as ``own_threads`` has taken."""
    threads = min(_threads.get(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(work, parts))
