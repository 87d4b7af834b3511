"""The benchmark of batches measures as many studies as it says."""

from pathlib import Path

import pytest

import benchmarks.batch as benchmark
from benchmarks.kill_batch import write_study
from osteo_monai.screening import find_screenable


@pytest.mark.parametrize("small", [True, False])
def test_each_study_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Copies with the same identifiers were joined: ten studies were five."""
    monkeypatch.setattr(benchmark, "write_measured_study", write_study)
    assert len(find_screenable(benchmark.make_studies(tmp_path, 7, small))) == 7


def test_a_tenth_without_a_sample_has_no_memory() -> None:
    samples = [(0, 5.0), (0, 7.4), (10, 6.0), (20, 9.0)]
    assert benchmark._tenths(samples, 20) == (7, *[None] * 4, 6, *[None] * 3, 9)
    assert benchmark._tenths(samples, 9) == ()
