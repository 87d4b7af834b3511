"""Windows about a centre line: where its voxels lie, what a margin adds, what lies outside of the scan."""

import numpy as np
import pytest
import torch
from torch import Tensor

from osteo_monai.imaging.straightening import (
    IN_FRONT_MM,
    NARROW_MM,
    STEP_MM,
    WINDOW,
    set_in_water,
    straighten,
    window_offsets,
)

SHAPE = (90, 80, 30)


def tilted_line() -> np.ndarray:
    """Return (30, 2): a line that leans to the right and forwards, on whole voxels in every second slice."""
    z = np.arange(SHAPE[2])
    return np.stack([40 + 0.5 * z, 50 - 0.5 * z], 1)


def bright_about(line: np.ndarray) -> Tensor:
    """Return a volume that is brightest on a line: a linear cone, which linear interpolation reproduces."""
    x, y = np.arange(SHAPE[0])[:, None, None], np.arange(SHAPE[1])[None, :, None]
    far = np.maximum(abs(x - line[:, 0]), abs(y - line[:, 1]))
    return torch.from_numpy(1000.0 - 10.0 * far).float()


@pytest.mark.parametrize("margin", [0, 2])
def test_offsets_of_a_window(margin: int) -> None:
    x, y = window_offsets(margin)
    assert (len(x), len(y)) == (WINDOW[0] + 2 * margin, WINDOW[1] + 2 * margin)
    np.testing.assert_allclose(np.diff(x), STEP_MM)
    np.testing.assert_allclose(np.diff(y), STEP_MM)
    np.testing.assert_allclose(x, -x[::-1])  # a mirrored window is one of the mirrored person
    edge = STEP_MM * margin
    assert y[-1] + 0.5 * STEP_MM == pytest.approx(IN_FRONT_MM + edge)
    assert y[0] - 0.5 * STEP_MM == pytest.approx(IN_FRONT_MM - WINDOW[1] * STEP_MM - edge)


@pytest.mark.parametrize("margin", [0, 2])
def test_a_tilted_line_becomes_straight_at_offset_zero(margin: int) -> None:
    line = tilted_line()
    windows = straighten(bright_about(line), line, margin)
    assert windows.shape == (WINDOW[0] + 2 * margin, WINDOW[1] + 2 * margin, SHAPE[2])
    x, y = window_offsets(margin)
    expected = 1000.0 - 10.0 * np.maximum(abs(x[:, None]), abs(y[None, :])) / STEP_MM
    inside = (line[:, 0].max() + x / STEP_MM < SHAPE[0] - 1) & (line[:, 0].min() + x / STEP_MM > 0)
    # half a voxel of a slice whose line lies between voxels is not linear
    np.testing.assert_allclose(windows[inside][..., ::2], expected[inside][..., None].repeat(15, 2), atol=5.1)
    of_slice = windows[windows.shape[0] // 2 - 1 : windows.shape[0] // 2 + 1].mean(0)
    assert set(abs(y[of_slice.argmax(0)]).tolist()) == {min(abs(y))}


def test_the_axes_are_those_of_the_person() -> None:
    """A voxel 10 mm to the right (x) and 20 mm in front (y) of the line lies there in the window too."""
    volume = torch.zeros(SHAPE)
    line = np.full((SHAPE[2], 2), [45.5, 40.5])
    volume[45 + 5, 40 + 9, 7] = 100.0  # x: 4.5 voxels, 11.25 mm; y: 8.5 voxels, 21.25 mm
    windows = straighten(volume, line)
    (at,) = (windows > 99).nonzero().tolist()
    x, y = window_offsets()
    assert (x[at[0]], y[at[1]], at[2]) == (11.25, 21.25, 7)


def test_a_margin_only_adds() -> None:
    volume = torch.from_numpy(np.random.default_rng(0).normal(0, 200, SHAPE)).float()
    line = np.full((SHAPE[2], 2), [44.3, 47.8])
    torch.testing.assert_close(straighten(volume, line, 3)[3:-3, 3:-3], straighten(volume, line))


@pytest.mark.parametrize("padding", [-1000.0, 0.0, 30.0])
def test_outside_of_the_scan_is_padding(padding: float) -> None:
    line = np.full((SHAPE[2], 2), [0.5, 0.5])
    windows = straighten(torch.full(SHAPE, 77.0), line, padding=padding)
    x, y = (offsets / STEP_MM + 0.5 for offsets in window_offsets())
    out, within = (x < -1)[:, None] | (y < -1)[None], (x >= 0)[:, None] & (y >= 0)[None]
    assert out.any()
    assert within.any()
    np.testing.assert_allclose(windows[out], padding, atol=1e-3)
    np.testing.assert_allclose(windows[within], 77.0, atol=1e-3)


@pytest.mark.parametrize("line", [np.zeros((4, 2)), np.zeros((30, 3)), np.zeros(30)])
def test_a_line_of_other_length_is_refused(line: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"line must be \(30, 2\), one point a slice"):
        straighten(torch.zeros(SHAPE), line)


def test_a_crop_is_set_into_water_and_keeps_its_lung() -> None:
    volume = torch.tensor([-1024.0, -990.0, -900.0, -50.0, 400.0]).reshape(5, 1, 1)
    filled, outside = set_in_water(volume, NARROW_MM - 1)
    assert filled.flatten().tolist() == [0.0, 0.0, -900.0, -50.0, 400.0]
    assert outside == 0.0
    whole, outside = set_in_water(volume, NARROW_MM)
    assert torch.equal(whole, volume)
    assert outside == -1000.0
