from typing import Any

import pytest
import torch

from osteo_monai.networks import ChannelAttention, ChannelAttentionUNet

NARROW = (2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("arguments", "input_shape", "output_shape"),
    [
        ({"widths": NARROW}, (2, 1, 64, 64), (2, 1, 64, 64)),
        ({"widths": NARROW, "normalisation": "batch"}, (2, 1, 128, 64), (2, 1, 128, 64)),
        ({"widths": NARROW, "normalisation": "none", "in_channels": 3}, (1, 3, 64, 192), (1, 1, 64, 192)),
        ({"widths": NARROW, "out_channels": 4}, (1, 1, 128, 128), (1, 4, 128, 128)),
        ({}, (1, 1, 64, 64), (1, 1, 64, 64)),
    ],
)
def test_output_has_the_input_s_plane(arguments: Any, input_shape: Any, output_shape: Any) -> None:
    network = ChannelAttentionUNet(**arguments)
    assert network(torch.randn(input_shape)).shape == output_shape


def test_levels_are_built_as_the_paper_says() -> None:
    network = ChannelAttentionUNet(widths=NARROW)
    kernels = [[m.kernel_size for m in block.modules() if isinstance(m, torch.nn.Conv2d)] for block in network.encoder]
    assert kernels == [[(1, 1), (3, 3), (3, 3)]] * 5
    assert [m.kernel_size for m in network.level6.modules() if isinstance(m, torch.nn.Conv2d)] == [
        (2, 2),
        (3, 3),
        (3, 3),
    ]
    assert [m.kernel_size for m in network.level7.modules() if isinstance(m, torch.nn.Conv2d)] == [(2, 2)]
    ups = [m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert len(ups) == 6
    assert {m.kernel_size for m in ups} == {(2, 2)}
    assert network.head.kernel_size == (1, 1)


def test_deepest_level_sees_one_pixel_of_a_64_input() -> None:
    network = ChannelAttentionUNet(widths=NARROW)
    shapes = []
    network.level7.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    network(torch.zeros(1, 1, 64, 64))
    assert shapes == [(1, 8, 1, 1)]


@pytest.mark.parametrize("weighted", ["skip", "upsampled"])
def test_attention_multiplies_one_input_and_adds_the_other(weighted: str) -> None:
    attention = ChannelAttention(1, weighted)
    with torch.no_grad():
        attention.squeeze.weight.copy_(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))
        torch.as_tensor(attention.squeeze.bias).zero_()
        attention.excite.weight.fill_(0.5)
        torch.as_tensor(attention.excite.bias).zero_()
    lower = torch.tensor([[[[0.0, 2.0]]]])  # mean 1
    higher = torch.tensor([[[[3.0, 1.0]]]])  # mean 2: squeezed 1 + 4 = 5, excited 2.5
    weight = torch.sigmoid(torch.tensor(2.5))
    expected = {"skip": lower * weight + higher, "upsampled": higher * weight + lower}
    torch.testing.assert_close(attention(lower, higher), expected[weighted])
    torch.testing.assert_close(torch.jit.script(attention)(lower, higher), expected[weighted])


def test_a_slice_does_not_depend_on_the_others_of_its_batch() -> None:
    network = ChannelAttentionUNet(widths=NARROW)
    network.train()
    slices = torch.randn(3, 1, 64, 64)
    torch.testing.assert_close(network(slices)[1:2], network(slices[1:2]), atol=1e-5, rtol=1e-4)


def test_every_weight_learns() -> None:
    network = ChannelAttentionUNet(widths=NARROW)
    network(torch.randn(1, 1, 128, 128)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_inference_halves_like_max_pooling(kind: torch.dtype) -> None:
    network = ChannelAttentionUNet(widths=NARROW).eval().to(kind)
    x = torch.randn(2, 1, 64, 128).to(kind)
    pooling = network(x)  # the weights require gradients
    assert pooling.requires_grad
    with torch.inference_mode():
        assert torch.equal(network(x), pooling)


def test_a_traced_graph_has_max_pooling() -> None:
    network = ChannelAttentionUNet(widths=NARROW).eval()
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(1, 1, 64, 64))
    assert str(traced.inlined_graph).count("aten::max_pool2d") == 4


def test_torchscript_gives_the_same() -> None:
    network = ChannelAttentionUNet(widths=NARROW).eval()
    x = torch.randn(1, 1, 64, 128)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize("shape", [(1, 1, 64, 100), (1, 1, 32, 64), (1, 64, 64)])
def test_sizes_that_cannot_be_halved_six_times_are_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        ChannelAttentionUNet(widths=NARROW)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"widths": (8, 16)}, "widths must be 7"),
        ({"normalisation": "layer"}, "normalisation must be one of"),
        ({"out_channels": 0}, "at least 1"),
        ({"weighted": "both"}, "weighted must be one of"),
    ],
)
def test_impossible_arguments_are_refused(arguments: Any, said: Any) -> None:
    with pytest.raises(ValueError, match=said):
        ChannelAttentionUNet(**arguments)


def test_networks_that_weight_other_features_refuse_each_other_s_weights() -> None:
    skip, upsampled = (ChannelAttentionUNet(widths=[2] * 7, weighted=weighted) for weighted in ("skip", "upsampled"))
    with pytest.raises(RuntimeError, match="weights_upsampled"):
        skip.load_state_dict(upsampled.state_dict())
    with pytest.raises(RuntimeError, match="weights_upsampled"):
        upsampled.load_state_dict(skip.state_dict())
