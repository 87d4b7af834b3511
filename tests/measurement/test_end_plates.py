"""End plates at a drawn disc: two bright plates of known place and tilt."""

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.measurement.end_plates import find_end_plates

BONE, PLATE, DISC = 150.0, 420.0, 80.0
UP = np.array([0.0, 0.0, 1.0])


def scan(
    spacing: tuple[float, float, float],
    half_height: float = 4.0,
    tilt_degrees: float = 0.0,
    noise: float = 0.0,
    height_mm: float = 60.0,
    plate: float = PLATE,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw a disc about the origin between two bodies; slices average over their thickness."""
    shape = [int(60 / spacing[0]), int(60 / spacing[1]), int(height_mm / spacing[2])]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-0.5 * (n - 1) * s for n, s in zip(shape, spacing, strict=True)]
    x = (affine[0, 3] + spacing[0] * np.arange(shape[0]))[:, None, None, None]
    z = (affine[2, 3] + spacing[2] * np.arange(shape[2]))[None, None, :, None]
    within = spacing[2] * (np.arange(8) / 8 - 0.4375)
    w = np.cos(np.radians(tilt_degrees)) * (z + within) - np.sin(np.radians(tilt_degrees)) * x
    hu = np.where(np.abs(w) < half_height, DISC, BONE)
    hu = np.where((np.abs(w) >= half_height) & (np.abs(w) < half_height + 1.2), plate, hu).mean(axis=-1)
    hu = np.broadcast_to(hu, shape) + np.random.default_rng(0).normal(0, 1, shape) * noise
    return hu.astype(np.float32), affine


@pytest.mark.parametrize(
    ("spacing", "half_height", "tilt", "noise", "error_mm"),
    [
        ((1.0, 1.0, 1.0), 4.0, 0.0, 0.0, 0.4),
        ((0.7, 0.7, 1.0), 5.0, 8.0, 30.0, 0.5),
        ((0.7, 0.7, 2.5), 4.0, 12.0, 40.0, 0.8),
        ((1.0, 1.0, 5.0), 5.0, 10.0, 10.0, 2.5),  # a plate between two thick slices is known to half of one
        ((3.0, 3.0, 3.0), 5.0, 5.0, 10.0, 1.0),
    ],
)
def test_plates_are_found_between_slices(
    spacing: tuple[float, float, float], half_height: float, tilt: float, noise: float, error_mm: float
) -> None:
    hu, affine = scan(spacing, half_height, tilt, noise)
    plates = find_end_plates(hu, affine, np.array([0.0, 0.0, 1.5]), UP)
    assert plates is not None
    middle = (half_height + 0.6) / np.cos(np.radians(tilt))  # of a plate, along z
    assert plates.upper_mm[2] == pytest.approx(middle, abs=error_mm)
    assert plates.lower_mm[2] == pytest.approx(-middle, abs=error_mm)
    assert plates.disc_mm[2] == pytest.approx(0.0, abs=error_mm)
    normal = np.array([-np.sin(np.radians(tilt)), 0.0, np.cos(np.radians(tilt))])
    assert np.degrees(np.arccos(np.clip(plates.normal @ normal, -1, 1))) < 4.0


def test_contrast_and_disc_are_told() -> None:
    hu, affine = scan((1.0, 1.0, 1.0), 5.0)
    plates = find_end_plates(hu, affine, np.zeros(3), UP)
    assert plates is not None
    assert plates.disc_hu == pytest.approx(DISC, abs=5.0)
    assert plates.disc_sd == pytest.approx(0.0, abs=1.0)
    assert 150.0 < plates.contrast_hu < PLATE - DISC


def test_nothing_is_found_without_plates() -> None:
    hu, affine = scan((1.0, 1.0, 1.0), 5.0, plate=DISC)
    hu[:] = DISC
    assert find_end_plates(hu, affine, np.zeros(3), UP) is None


def test_nothing_is_found_at_the_end_of_the_scan() -> None:
    hu, affine = scan((1.0, 1.0, 1.0), 4.0)
    assert find_end_plates(hu, affine, np.array([0.0, 0.0, 26.0]), UP) is None


def test_noise_alone_tilts_nothing_far() -> None:
    hu, affine = scan((0.7, 0.7, 1.0), 4.0, noise=60.0)
    plates = find_end_plates(hu, affine, np.zeros(3), UP)
    assert plates is not None
    assert np.degrees(np.arccos(np.clip(plates.normal @ UP, -1, 1))) < 4.0
