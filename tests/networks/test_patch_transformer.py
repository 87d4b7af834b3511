"""Li's network: shapes, weights counted by hand, order of normalisation, token, heads, ImageNet weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from osteo_monai.networks import PatchTransformer, load_imagenet_resnet18, slice_classifier

SMALL: dict[str, Any] = {"width": 16, "heads": 2, "layers": 2}


@pytest.mark.parametrize(
    ("arguments", "shape", "outputs"),
    [
        ({}, (2, 36, 32, 32), 37),
        ({"grid": (2, 3)}, (3, 6, 48, 32), 7),
        ({"grid": (1, 1), "layers": 1, "activation": "relu"}, (1, 1, 64, 64), 2),
        ({"heads": 8, "mlp_width": 24, "head_width": 5}, (1, 36, 32, 40), 37),
    ],
)
def test_shapes(arguments: Any, shape: Any, outputs: Any) -> None:
    network = PatchTransformer(**{**SMALL, **arguments}).eval()
    assert network(torch.randn(shape)).shape == (shape[0], outputs)


def test_weights_of_the_paper_s_network_by_hand() -> None:
    network = PatchTransformer()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    # ResNet-18 has 11,689,512 weights for 3 channels and 1000 classes: less two channels of 64 7 x 7 kernels and the
    # 1000 rows of 512 weights and a bias
    assert counts["encoder"] == 11_689_512 - 2 * 64 * 49 - 1000 * 513
    attention = 4 * (512 * 512 + 512)
    mlp = 512 * 2048 + 2048 + 2048 * 512 + 512
    assert counts["layers"] == 6 * (attention + mlp + 2 * 2 * 512)
    head = 512 * 256 + 256 + 256 + 1
    assert counts["global_head"] == head
    assert counts["local_heads"] == 36 * head
    assert network.token.shape == (1, 1, 512)
    assert network.position.shape == (1, 37, 512)
    assert sum(p.numel() for p in network.parameters()) == sum(counts.values()) + 38 * 512
    assert len(network.layers) == 6
    assert all(getattr(layer.self_attn, "num_heads", 0) == 8 and not layer.norm_first for layer in network.layers)
    assert network.encoder.conv1.weight.shape == (64, 1, 7, 7)
    assert network.encoder.fc is None


def test_a_patch_s_vector_is_the_mean_of_its_last_map() -> None:
    network = PatchTransformer(**SMALL, grid=(1, 2)).eval()
    x = torch.randn(1, 2, 64, 64)
    maps: dict[str, torch.Tensor] = {}
    network.encoder.layer4.register_forward_hook(lambda m, i, o: maps.update(last=o))
    tokens = network.tokens(x)
    assert maps["last"].shape == (2, 16, 2, 2)
    expected = maps["last"].mean((2, 3)) + network.position[0, 1:]
    torch.testing.assert_close(tokens[0, 1:], expected)
    torch.testing.assert_close(tokens[0, 0], network.token[0, 0] + network.position[0, 0])


def test_layers_normalise_after_each_sum() -> None:
    """E' = LN(MHSA(E) + E); LN(MLP(E') + E'), worked out from the weights."""
    torch.manual_seed(0)
    layer: Any = PatchTransformer(**SMALL, grid=(1, 2)).eval().layers[0]
    e = torch.randn(1, 3, 16)
    middle = layer.norm1(layer.self_attn(e, e, e)[0] + e)
    expected = layer.norm2(layer.linear2(functional.gelu(layer.linear1(middle))) + middle)
    torch.testing.assert_close(layer(e), expected)
    # post-norm: what leaves a layer is normalised
    torch.testing.assert_close(layer(e).mean(-1), torch.zeros(1, 3), atol=1e-5, rtol=0)


def test_layers_start_from_different_weights() -> None:
    network: Any = PatchTransformer(**SMALL)
    first, second = (layer.linear1.weight for layer in network.layers)
    assert not torch.equal(first, second)


def test_global_head_reads_the_first_token_and_local_heads_one_each() -> None:
    torch.manual_seed(0)
    network = PatchTransformer(**SMALL, grid=(1, 3)).eval()
    network.layers = nn.ModuleList()  # nothing mixes the tokens any more
    x = torch.randn(1, 3, 32, 32)
    changed = x.clone()
    changed[:, 1] += torch.randn(32, 32)
    with torch.no_grad():
        before, after = network(x), network(changed)
        assert (before != after).tolist() == [[False, False, True, False]]
        network.token.add_(1.0)
        assert (network(x) != before).tolist() == [[True, False, False, False]]


def test_local_heads_are_as_many_separate_mlps() -> None:
    heads = PatchTransformer(**SMALL, grid=(1, 3)).local_heads
    tokens = torch.randn(2, 3, 16)
    for patch in range(3):
        first, second = nn.Linear(16, 8), nn.Linear(8, 1)
        with torch.no_grad():
            first.weight.copy_(heads.weight1[patch].T)
            first.bias.copy_(heads.bias1[patch])
            second.weight.copy_(heads.weight2[patch][None])
            second.bias.copy_(heads.bias2[patch][None])
        expected = second(functional.gelu(first(tokens[:, patch])))[:, 0]
        torch.testing.assert_close(heads(tokens)[:, patch], expected)


def test_attentions() -> None:
    network: Any = PatchTransformer(**SMALL, grid=(2, 2)).eval()
    x = torch.randn(3, 4, 32, 32)
    with torch.no_grad():
        weights = network.attentions(x)
        assert weights.shape == (3, 2, 2, 5, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 2, 5))
        tokens = network.tokens(x)
        query, key = (
            functional.linear(tokens, w, b).unflatten(-1, (2, 8)).transpose(1, 2)
            for w, b in zip(
                network.layers[0].self_attn.in_proj_weight.split(16)[:2],
                network.layers[0].self_attn.in_proj_bias.split(16)[:2],
                strict=True,
            )
        )
        torch.testing.assert_close(weights[:, 0], (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1))


def test_imagenet_weights_answer_a_grey_image_as_three_equal_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour = slice_classifier(3, 1000, "resnet18").eval()
    torch.save(colour.state_dict(), tmp_path / "resnet18.pth")
    network = PatchTransformer(grid=(1, 1), layers=1, imagenet_weights=str(tmp_path / "resnet18.pth")).eval()
    grey = torch.randn(1, 1, 64, 64)
    colour.fc = None
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(grey), colour(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    network = slice_classifier(1, 1, "resnet18", (2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"got none\.pth"):
        load_imagenet_resnet18(network, tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"got text\.pth"):
        load_imagenet_resnet18(network, tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"state dict of tensors, got list\.pth"):
        load_imagenet_resnet18(network, tmp_path / "list.pth")
    torch.save(slice_classifier(3, 1, "resnet10", (2, 4, 4, 4)).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"those of a ResNet-18, got other\.pth, which differs in \d+ of 120"):
        load_imagenet_resnet18(network, tmp_path / "other.pth")


def test_every_ill_argument_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid must .*; width must .*; layers must .*; activation must .*; dropout"):
        PatchTransformer(grid=(6,), width=20, layers=0, activation="tanh", dropout=1.0)
    with pytest.raises(ValueError, match="imagenet_weights must have a width of 512, got 64"):
        PatchTransformer(width=64, imagenet_weights="weights.pth")
    with pytest.raises(ValueError, match=r"input must be \(N, 36, H, W\).*got \[1, 1, 64, 64\]"):
        PatchTransformer(**SMALL)(torch.zeros(1, 1, 64, 64))
