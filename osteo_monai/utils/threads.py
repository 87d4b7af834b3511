"""Parallel work in threads, for parts that release the interpreter's lock: operations of torch, numpy and SciPy."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["MOST_THREADS", "beside", "parallel", "run_parallel"]

Part = TypeVar("Part")
T = TypeVar("T")

MOST_THREADS = 8
"""Each thread needs the memory of one part."""


def run_parallel(work: Callable[[Part], T], parts: Sequence[Part], threads: int | None = None) -> list[T]:
    """Return the list of what :func:`parallel` yields."""
    return list(parallel(work, parts, threads))


def parallel(work: Callable[[Part], T], parts: Sequence[Part], threads: int | None = None) -> Iterator[T]:
    """Yield ``work`` of each part, in order.

    An operation of torch inside of a part uses one thread, and parts inside of a part are not divided again. Parts of
    many small operations scale better than operations that are divided one by one, and answers do not depend on the
    number of threads.

    Args:
        work: must not depend on the order of the parts; has the grad and inference mode of the caller.
        parts: inputs of ``work``.
        threads: most threads; those of torch, but no more than ``MOST_THREADS``, if ``None``. One if torch is not
            imported.

    Raises:
        Exception: the error of the first part that failed.

    Example:
        >>> run_parallel(abs, [-1, 2, -3])
        [1, 2, 3]
    """
    if "torch" not in sys.modules:  # its import takes longer than most parts
        yield from map(work, parts)
        return
    import torch

    before = torch.get_num_threads()
    count = min(min(before, MOST_THREADS) if threads is None else threads, len(parts))
    if count < 2:
        yield from map(work, parts)
        return
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def of_part(part: Part) -> T:  # these modes are settings of a thread
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return work(part)

    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(of_part, parts)
    finally:
        torch.set_num_threads(before)  # threads that start later have the number that was set last


@contextmanager
def beside(work: Callable[[], T]) -> Iterator["Future[T]"]:
    """Compute ``work`` in a thread while the context does something else, and wait for it at the end.

    Args:
        work: must not use torch, whose operations in the context may have all threads.

    Returns:
        The answer or error of ``work``; it is done at once if torch has one thread or is not imported.
    """
    torch = sys.modules.get("torch")
    if torch is None or torch.get_num_threads() < 2:
        future: Future[T] = Future()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  # the caller gets it from the future, as from a thread
            future.set_exception(error)
        yield future
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)
