"""Memory format and compilation of networks."""

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from osteo_monai.networks import ChannelAttentionUNet, on_device

WIDTHS = (4, 4, 4, 4, 4, 4, 4)


def _network(dims: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if dims == 2:
        return ChannelAttentionUNet(widths=WIDTHS).eval(), torch.rand(2, 1, 64, 128)
    return BasicUNet(spatial_dims=3, features=(4, 4, 4, 4, 4, 4)).eval(), torch.rand(1, 1, 32, 32, 32)


@pytest.mark.parametrize(("dims", "memory_format"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_channels_last_changes_the_order_and_not_the_answer(dims: int, memory_format: Any) -> None:
    network, image = _network(dims)
    expected = network(image)
    placed = on_device(network, "cpu", channels_last=True)
    assert placed is network
    kernels = [p for p in network.parameters() if p.dim() == dims + 2]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=memory_format) for kernel in kernels)
    torch.testing.assert_close(placed(image), expected, atol=1e-4, rtol=1e-4)


def test_a_compiled_network_shares_the_weights() -> None:
    network, image = _network(2)
    compiled = on_device(network, "cpu", compile_backend="eager")
    assert compiled is not network
    torch.testing.assert_close(compiled(image), network(image))
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(0.5)
    torch.testing.assert_close(compiled(image), network(image))
    assert on_device(network, "cpu") is network


def test_another_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="compile_backend must be one of .*inductor.* or empty, got 'fast'"):
        on_device(nn.Linear(1, 1), "cpu", compile_backend="fast")


@pytest.mark.gpu
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("backend", ["", "inductor"])
def test_cuda_gives_the_answer_of_the_cpu(dims: int, backend: str) -> None:
    network, image = _network(dims)
    with torch.inference_mode():
        expected = network(image)
        placed = on_device(network, "cuda", channels_last=True, compile_backend=backend)
        torch.testing.assert_close(placed(image.cuda()).cpu(), expected, atol=1e-2, rtol=1e-2)
