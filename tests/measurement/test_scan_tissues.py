"""Tissues of a whole scan that are easily taken for others."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement.scan_tissues import _changes, scan_tissues


def thin_person(mixed_hu: float, noise: float = 10.0) -> NDArray[np.float32]:
    """Return a trunk (X, Y, Z) without a layer of fat: muscle and fat mixed below the skin, fat in the middle."""
    x, y = np.meshgrid(np.arange(128) - 64, np.arange(96) - 48, indexing="ij")
    radius = np.hypot(x / 50.0, y / 34.0)
    plane = np.where(radius < 1.1, 60.0, -1000.0)
    plane = np.where(radius < 1.05, mixed_hu, plane)
    plane = np.where(radius < 0.75, 46.0, plane)
    plane = np.where(np.hypot((x - 5) / 22.0, (y - 8) / 12.0) < 1, -80.0, plane)
    volume = np.repeat(plane[:, :, None], 30, axis=2)
    return np.asarray(volume + np.random.default_rng(0).normal(0.0, noise, volume.shape), np.float32)


@pytest.mark.parametrize("mixed_hu", [-25.0, -30.0, -35.0])
def test_a_mixture_below_the_skin_is_not_fat(mixed_hu: float) -> None:
    """Its 25 to 35 HU below 0 gave the warning that tissues do not fit one scale."""
    found = scan_tissues(thin_person(mixed_hu), (3.0, 3.0, 4.0))
    assert found.fat is None or found.fat.hu < -50.0
    assert found.lean is not None
    assert abs(found.lean.hu - 46.0) < 6.0


def test_fat_below_the_skin_is_found() -> None:
    found = scan_tissues(thin_person(-95.0), (3.0, 3.0, 4.0))
    assert found.fat is not None
    assert abs(found.fat.hu + 95.0) < 6.0


def test_one_broad_mode_of_fat_and_muscle_is_no_tissue() -> None:
    """Taken for lean tissue of -80 HU, it refused a low-dose scan for a wrong HU scale."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(128) - 64, np.arange(96) - 48, indexing="ij")
    mixed = ndimage.gaussian_filter(rng.normal(size=(128, 96, 30)), 4.0)
    mixed *= 75.0 / mixed.std()
    inside = np.hypot(x / 50.0, y / 34.0)[:, :, None] < 1.0
    volume = np.where(inside, mixed - 60.0, -1000.0) + rng.normal(0.0, 12.0, mixed.shape)
    found = scan_tissues(np.asarray(volume, np.float32), (3.0, 3.0, 4.0))
    assert found.air is not None
    assert found.lean is None
    assert found.fat is None


@pytest.mark.parametrize("jump", [0.0, 30.0])
def test_noise_is_no_change_between_slices(jump: float) -> None:
    """Blocks that noise moved into a tissue are nearer to the mean in the next slice: a sharp kernel was refused."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(200, 200, 2)), (3.0, 3.0, 0.0))
    blocks = np.asarray(-30.0 + 60.0 * noise / noise.std(), np.float32)
    blocks[:, :, 1] += jump
    changes = _changes(blocks, np.ones(blocks.shape, bool), [np.nan, -100.0, 40.0], 1000.0)
    _, fat, lean = changes[0]
    assert (min(fat, lean) > 14.0) if jump else (min(abs(fat), abs(lean)) < 5.0)
