"""Parts in threads: order, modes and settings of torch, errors."""

import threading
from collections.abc import Iterator

import pytest
import torch

from osteo_monai.utils.threads import beside, parallel, run_parallel


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parts_run_at_a_time_and_in_order_with_operations_on_one_thread() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work(part: int) -> tuple[int, int]:
        meeting.wait()  # passes only where two parts run at a time
        return part, torch.get_num_threads()

    assert run_parallel(work, range(4)) == [(part, 1) for part in range(4)]
    assert torch.get_num_threads() == 2


def test_one_thread_computes_all_parts_itself() -> None:
    torch.set_num_threads(1)
    assert run_parallel(lambda part: threading.get_ident(), range(3)) == [threading.get_ident()] * 3
    torch.set_num_threads(2)
    assert run_parallel(lambda part: threading.get_ident(), range(3), 1) == [threading.get_ident()] * 3


def test_parts_of_a_part_are_not_divided() -> None:
    def inner(part: int) -> int:
        return threading.get_ident()

    for own, of_parts in run_parallel(lambda part: (threading.get_ident(), run_parallel(inner, range(3))), range(2)):
        assert of_parts == [own] * 3


@pytest.mark.parametrize(
    ("mode", "expected"), [(torch.enable_grad(), (True, False)), (torch.no_grad(), (False, False)),
                           (torch.inference_mode(), (False, True))]
)  # fmt: skip
def test_parts_have_the_modes_of_the_caller(mode: torch.no_grad, expected: tuple[bool, bool]) -> None:
    def modes(part: int) -> tuple[bool, bool]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    with mode:
        assert run_parallel(modes, range(3)) == [expected] * 3


def test_the_first_error_is_raised_and_settings_come_back() -> None:
    def work(part: int) -> int:
        if part:
            raise ValueError(f"part {part}")
        return part

    with pytest.raises(ValueError, match="part 1"):
        run_parallel(work, range(4))
    assert torch.get_num_threads() == 2
    assert next(parallel(work, range(4))) == 0
    assert torch.get_num_threads() == 2


def test_work_beside_is_done_at_the_same_time_and_awaited() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work() -> int:
        meeting.wait()
        return threading.get_ident()

    with beside(work) as future:
        assert not future.done()
        meeting.wait()  # passes only where the work runs meanwhile
    assert future.done()
    assert future.result() != threading.get_ident()


def test_with_one_thread_work_beside_is_done_before_the_context() -> None:
    torch.set_num_threads(1)
    with beside(threading.get_ident) as future:
        assert future.done()
        assert future.result() == threading.get_ident()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_work_beside_is_raised_where_its_answer_is_asked_for(threads: int) -> None:
    torch.set_num_threads(threads)
    with beside(lambda: 1 // 0) as future:
        pass
    with pytest.raises(ZeroDivisionError):
        future.result()
