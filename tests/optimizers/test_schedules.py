"""Learning rate schedules."""

import math

import pytest

from osteo_monai.optimizers import warmup_cosine


def test_schedule_rises_then_falls_along_half_a_cosine() -> None:
    factor = warmup_cosine(total_steps=104, warmup_steps=4, floor=0.0)
    assert [factor(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factor(4) == pytest.approx(1.0)
    assert factor(54) == pytest.approx(0.5)
    assert factor(29) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factor(104) == pytest.approx(0.0)
    assert factor(500) == pytest.approx(0.0)  # a resumed run that is longer than planned
    with pytest.raises(ValueError, match="warmup_steps must be in"):
        warmup_cosine(10, 10)
