"""HU statistics by hand."""

import numpy as np
import pytest

from osteo_monai.measurement import hu_statistics


def test_numbers_worked_by_hand() -> None:
    hu = np.zeros((11, 1, 2), dtype=np.float32)
    hu[:, 0, 0] = np.arange(0, 110, 10)  # 0, 10, ..., 100
    hu[:, 0, 1] = 5000
    mask = np.zeros(hu.shape, dtype=bool)
    mask[:, :, 0] = True
    s = hu_statistics(hu, mask)
    assert (s.mean, s.median, s.p10, s.p90) == pytest.approx((50.0, 50.0, 10.0, 90.0))
    assert s.sd == pytest.approx(np.sqrt(11000 / 10))  # sum of squares 2 (50^2 + 40^2 + ... + 10^2) = 11000, n - 1 = 10


def test_density_is_driven_by_the_median() -> None:
    hu = np.array([[[100.0, 100.0, 100.0, 100.0, 900.0]]], dtype=np.float32)
    s = hu_statistics(hu, np.ones(hu.shape, dtype=bool))
    assert s.mean == pytest.approx(260.0)
    assert s.representative == s.median == pytest.approx(100.0)


def test_bad_input_is_refused() -> None:
    hu = np.zeros((3, 3, 3), dtype=np.float32)
    mask = np.zeros(hu.shape, dtype=bool)
    with pytest.raises(ValueError, match="at least two voxels, got 0"):
        hu_statistics(hu, mask)
    with pytest.raises(ValueError, match="shape of hu"):
        hu_statistics(hu, mask[:2])
    mask[:2] = True
    hu[0] = np.nan
    with pytest.raises(ValueError, match="finite within mask"):
        hu_statistics(hu, mask)
