"""A scale below 1 above 0 HU merges neighbouring whole numbers: found by their frequency, named, no false alarm."""

from typing import Any

import numpy as np
import pytest

from osteo_monai.measurement.value_pattern import value_pattern


def scan() -> Any:
    """Fat, lean tissue and bone in whole HU, smooth on both sides of 0."""
    rng = np.random.default_rng(1)
    parts = [rng.normal(-95, 30, 400_000), rng.normal(45, 30, 600_000), rng.normal(150, 90, 300_000)]
    values = np.round(np.concatenate([*parts, rng.normal(-1000, 15, 300_000)]))
    return rng.permutation(values).reshape(200, 200, 40).astype(np.float32)


def changed(hu: Any, change: Any) -> Any:
    return np.round(np.where(hu > 0, change(np.maximum(hu, 0)), hu)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.75, 0.85, 0.9, 0.95])
def test_a_reduced_scale_above_zero_is_found_with_its_size(factor: float) -> None:
    pattern = value_pattern(changed(scan(), lambda hu: hu * factor))
    assert pattern.above_zero == pytest.approx(factor, abs=0.06)
    assert abs(np.log(pattern.above_zero)) > 0.04  # limit of the gate
    assert pattern.above_zero_sd == 0


def test_a_power_is_found() -> None:
    assert value_pattern(changed(scan(), lambda hu: hu**0.9)).above_zero < 0.9


def test_whole_scans_and_those_scaled_on_both_sides_have_no_such_change() -> None:
    hu = scan()
    for sound in (hu, np.round(hu * 0.9).astype(np.float32), np.round(hu * 0.5).astype(np.float32)):
        pattern = value_pattern(sound)
        assert pattern.above_zero_sd > 0 or pattern.above_zero == 1  # by the frequency beside 0, not by counts
