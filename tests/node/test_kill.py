"""A node that is killed anywhere loses nothing and does nothing twice."""

from pathlib import Path

import pytest

from .bench import POINTS, survive


@pytest.mark.slow
def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """One life for each of the points, with a study that arrives in it."""
    end = survive(tmp_path, [(point, 2 if point.startswith("Spool._write") else 1) for point in POINTS])
    assert end.killed == len(POINTS) >= 10
    assert end.sound, end
