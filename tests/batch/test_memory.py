"""Memory of a batch does not grow with the number of its studies."""

from pathlib import Path

import psutil
import pytest

from osteo_monai.batch import Workers
from osteo_monai.screening import ScreeningResult, Study, screen_folder

from .fake_screening import LoadScreening

MIB = 2**20


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_studies(tmp_path: Path) -> None:
    studies = [Study("ct", Path("in") / f"s{number:04}") for number in range(1000)]
    sizes: list[tuple[float, float]] = []

    def on_progress(name: str, result: ScreeningResult | None) -> None:
        if result is not None:
            driver = psutil.Process()
            workers = sum(child.memory_info().rss for child in driver.children())
            sizes.append((driver.memory_info().rss / MIB, workers / MIB))

    rows = screen_folder(studies, Path("in"), tmp_path, LoadScreening(0.0), on_progress, workers=Workers(2))
    assert len(rows) == len(sizes) == 1000
    (driver_early, workers_early), (driver_late, workers_late) = (
        map(max, zip(*part, strict=True)) for part in (sizes[100:200], sizes[900:])
    )
    assert driver_late - driver_early < 8  # rows of the summary: 3 KiB a study
    assert workers_late - workers_early < 5
