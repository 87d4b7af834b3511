"""The column network: shapes of its arguments, windows it refuses, any length of column, what one slice can reach."""

from typing import Any

import pytest
import torch

from osteo_monai.networks import COLUMN_CHANNELS, ColumnNetwork

SMALL: dict[str, Any] = {"window": (16, 8), "channels": (8, 8), "features": 8, "dilations": (1,), "dropout": 0.0}


def network(**arguments: Any) -> ColumnNetwork:
    torch.manual_seed(0)
    return ColumnNetwork(**{**SMALL, **arguments}).eval()


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (1, 1, 16, 8, 5)),
        ({"window": (8, 16)}, (3, 1, 8, 16, 4)),
        ({"window": (8, 8), "channels": (8, 16, 24)}, (2, 1, 8, 8, 6)),
        ({"features": 16, "dilations": (1, 2, 4), "dropout": 0.5}, (2, 1, 16, 8, 3)),
        ({"dilations": ()}, (1, 1, 16, 8, 4)),
    ],
)
def test_nine_answers_a_slice(arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    answer = network(**arguments)(torch.randn(shape))
    assert answer.shape == (shape[0], 9, shape[-1])
    assert sum(COLUMN_CHANNELS.values()) == 9


def test_the_network_of_the_bundle_is_small() -> None:
    whole = ColumnNetwork().eval()
    assert whole.window == (56, 40)
    assert 2 * sum(p.numel() for p in whole.parameters()) < 2 * 2**20  # bytes in half precision
    with torch.inference_mode():
        assert whole(torch.zeros(1, 1, 56, 40, 3)).shape == (1, 9, 3)


@pytest.mark.parametrize("slices", [1, 2, 7, 40])
def test_any_length_of_column(slices: int) -> None:
    assert network()(torch.randn(2, 1, 16, 8, slices)).shape == (2, 9, slices)


def test_a_slice_is_read_with_its_two_neighbours_alone_without_mixers() -> None:
    unmixed = network(dilations=())
    column = torch.randn(1, 1, 16, 8, 12)
    other = column.clone()
    other[..., 6] += 1.0
    changed = (unmixed(column) - unmixed(other)).abs().amax((0, 1)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [5, 6, 7]


def test_the_ends_are_repeated() -> None:
    """A column with repeated outermost slices gives the same output within."""
    unmixed, column = network(dilations=()), torch.randn(1, 1, 16, 8, 6)
    longer = torch.cat([column[..., :1], column, column[..., -1:]], -1)
    torch.testing.assert_close(unmixed(longer)[..., 1:-1], unmixed(column))


@pytest.mark.parametrize("shape", [(1, 1, 8, 16, 4), (1, 2, 16, 8, 4), (1, 1, 16, 12, 4), (1, 1, 16, 8)])
def test_other_windows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"columns must be \(B, 1, 16, 8, Z\), got"):
        network()(torch.zeros(shape))


@pytest.mark.parametrize("window", [(6, 8), (8, 6), (16, 10)])
def test_a_window_that_cannot_be_halved_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="window must be divisible by 4"):
        ColumnNetwork(window, (8, 8))


def test_torchscript() -> None:
    eager, column = network(dilations=(1, 2)), torch.randn(1, 1, 16, 8, 9)
    torch.testing.assert_close(torch.jit.script(eager)(column), eager(column))
