"""Averaging over views: mirror and shift of the output are inverted before the mean."""

from collections.abc import Callable

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from osteo_monai.inferers import ColumnInferer

MARGIN, X, Y, Z = 2, 12, 10, 6
STEP_MM = 2.5
SHIFTS = ((0, 0), (2, 0), (-2, 1), (1, -2))


class _FindsBrightness(nn.Module):
    """Gives in channels 7 and 8 the centroid of brightness from the middle of the window in 10 mm, known analytically.

    Channel 0 is the sum of the window, 1 the sum of its right half less that of its left: a mirror negates it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        n, _, wide, deep, slices = x.shape
        total = x.sum((1, 2, 3)).clamp(min=1e-6)
        at_x = (torch.arange(wide) - 0.5 * (wide - 1)) * STEP_MM / 10
        at_y = (torch.arange(deep) - 0.5 * (deep - 1)) * STEP_MM / 10
        answer = torch.zeros(n, 9, slices)
        answer[:, 0] = x.sum((1, 2, 3))
        answer[:, 1] = x[:, 0, wide // 2 :].sum((1, 2)) - x[:, 0, : wide // 2].sum((1, 2))
        answer[:, 7] = (x[:, 0] * at_x[:, None, None]).sum((1, 2)) / total
        answer[:, 8] = (x[:, 0] * at_y[:, None]).sum((1, 2)) / total
        return answer


def spots() -> tuple[Tensor, Tensor, Tensor]:
    """Return a column with one bright voxel a slice, inside all shifted windows, and its x and y in 10 mm."""
    column = torch.zeros(1, 1, X + 2 * MARGIN, Y + 2 * MARGIN, Z)
    x = torch.tensor([5, 6, 7, 8, 9, 10])
    y = torch.tensor([9, 8, 7, 6, 5, 5])
    column[0, 0, x, y, torch.arange(Z)] = 1.0
    middle_x, middle_y = 0.5 * (column.shape[2] - 1), 0.5 * (column.shape[3] - 1)
    return column, (x - middle_x) * STEP_MM / 10, (y - middle_y) * STEP_MM / 10


@pytest.mark.parametrize("shifts", [((0, 0),), ((2, 0),), ((0, -1),), SHIFTS])
def test_mirror_and_shift_are_undone(shifts: tuple[tuple[int, int], ...]) -> None:
    """All views give the same position of the spot, so that the mean is exact."""
    column, x, y = spots()
    answer = ColumnInferer(MARGIN, shifts, STEP_MM)(column, _FindsBrightness())
    assert answer.shape == (1, 9, Z)
    torch.testing.assert_close(answer[0, 7], x)
    torch.testing.assert_close(answer[0, 8], y)
    torch.testing.assert_close(answer[0, 0], torch.ones(Z))
    torch.testing.assert_close(answer[0, 1], torch.zeros(Z))  # mirrored pairs cancel what has a side


def test_another_step() -> None:
    """The step of the inferer, not that of the network, scales the shift."""
    column, x, _ = spots()
    answer = ColumnInferer(MARGIN, ((2, 0),), 5.0)(column, _FindsBrightness())
    torch.testing.assert_close(answer[0, 7], x - 0.5 + 1.0)


def test_views_are_the_windows_and_their_mirror_images() -> None:
    column = torch.rand(2, 1, X + 2 * MARGIN, Y + 2 * MARGIN, Z)
    network = _FindsBrightness()
    ColumnInferer(MARGIN, ((0, 0), (2, -1)), STEP_MM)(column, network)
    plain, shifted = column[:, :, 2:-2, 2:-2], column[:, :, 4:, 1:-3]
    for seen, expected in zip(network.seen, [plain, plain.flip(2), shifted, shifted.flip(2)], strict=True):
        assert torch.equal(seen, expected)


def test_a_mean_of_logits() -> None:
    column = torch.rand(1, 1, X + 2 * MARGIN, Y + 2 * MARGIN, Z)
    answer = ColumnInferer(MARGIN, SHIFTS, STEP_MM)(column, _FindsBrightness())
    sums = [column[:, 0, 2 + dx : 2 + dx + X, 2 + dy : 2 + dy + Y].sum((1, 2)) for dx, dy in SHIFTS]
    torch.testing.assert_close(answer[:, 0], torch.stack(sums).mean(0))


def test_without_margin() -> None:
    column, x, _ = spots()
    torch.testing.assert_close(ColumnInferer(0, ((0, 0),))(column, _FindsBrightness())[0, 7], x)


@pytest.mark.parametrize("wrap", [torch.as_tensor, MetaTensor])
def test_a_plain_tensor_comes_back_and_the_input_stays(wrap: Callable[[Tensor], Tensor]) -> None:
    column, x, _ = spots()
    before = column.clone()
    answer = ColumnInferer(MARGIN)(wrap(column), _FindsBrightness())
    assert type(answer) is Tensor
    torch.testing.assert_close(answer[0, 7], x)
    assert torch.equal(column, before)


@pytest.mark.parametrize("shifts", [((3, 0),), ((0, 0), (0, -3))])
def test_a_shift_beyond_the_margin_is_refused(shifts: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="shifts must be at most the margin of 2 voxels"):
        ColumnInferer(2, shifts)


def test_bfloat16_gives_float32() -> None:
    conv = nn.Conv3d(1, 9, 1)

    class _Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(conv(x).mean((2, 3)))

    column = torch.rand(1, 1, 8, 8, 3)
    answer = ColumnInferer(0, ((0, 0),), enabled=True)(column, _Network())
    assert answer.dtype is torch.float32
    exact = ColumnInferer(0, ((0, 0),))(column, _Network())
    assert not torch.equal(answer, exact)
    torch.testing.assert_close(answer, exact, atol=2e-2, rtol=2e-2)
