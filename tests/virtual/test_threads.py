"""Parts in parallel, operations on one thread: order, results and the setting of PyTorch are kept."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.radiograph import project, usual_protocol
from osteo_monai.virtual.threads import one_thread, reserve_threads, run_parallel


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parts_run_in_parallel_and_in_order_with_operations_on_one_thread() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work(part: int) -> tuple[int, int]:
        meeting.wait()  # passes only where two parts run at a time
        return part, torch.get_num_threads()

    with reserve_threads():
        assert torch.get_num_threads() == 1
        with reserve_threads():  # what is called inside keeps the threads
            assert run_parallel(work, range(4)) == [(part, 1) for part in range(4)]
    assert torch.get_num_threads() == 2


def test_settings_come_back_after_an_error_and_one_thread_stays_one() -> None:
    with pytest.raises(ValueError, match="no"), reserve_threads():
        raise ValueError("no")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with reserve_threads():
        assert run_parallel(lambda part: threading.get_ident(), range(2)) == [threading.get_ident()] * 2


def test_a_radiograph_is_the_same_with_one_thread_and_with_two() -> None:
    anatomy, protocol = Anatomy(draw_person(5)), usual_protocol("chest_frontal", 400)
    two = project(anatomy, protocol, 1)
    torch.set_num_threads(1)
    assert (project(anatomy, protocol, 1).pixels == two.pixels).all()


def test_one_thread_is_restored_after_an_error_and_imports_change_nothing() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="no"), one_thread():
        raise ValueError("no")
    assert torch.get_num_threads() == 2
    script = (
        "import torch; torch.set_num_threads(2); import osteo_monai.virtual.cohort, osteo_monai.virtual.radiograph; "
        "print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"
