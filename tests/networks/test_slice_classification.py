"""The classifier: shapes, depths, weights counted by hand, ill arguments, export."""

from typing import Any

import pytest
import torch
from torch import nn

from osteo_monai.networks import VolumeClassifier, slice_classifier

SMALL: dict[str, Any] = {"widths": (2, 4, 4, 6)}


@pytest.mark.parametrize(
    ("arguments", "shape", "classes"),
    [
        ({"depth": "resnet10"}, (3, 2, 64, 64), 3),
        ({"depth": "resnet18", "in_channels": 1, "out_channels": 2}, (2, 1, 96, 64), 2),
        ({"depth": "resnet34", "dropout": 0.5}, (2, 2, 64, 64), 3),
        ({"depth": "3-4-6-3"}, (2, 2, 64, 64), 3),
        ({}, (2, 2, 64, 64), 3),
    ],
)
def test_shapes(arguments: Any, shape: Any, classes: Any) -> None:
    network = slice_classifier(**{**SMALL, **arguments}).eval()
    assert network(torch.randn(shape)).shape == (shape[0], classes)


@pytest.mark.parametrize(("depth", "units"), [("resnet101", [3, 4, 23, 3]), ("3-4-6-3", [3, 4, 6, 3])])
def test_both_readings_of_the_paper(depth: Any, units: Any) -> None:
    network = slice_classifier(depth=depth, **SMALL)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    assert [len(stage) for stage in stages] == units
    kernels = [m.kernel_size for m in network.layer1[0].children() if isinstance(m, nn.Conv2d)]
    assert kernels == [(1, 1), (3, 3), (1, 1)]


def test_units_as_the_paper_describes_them() -> None:
    network = slice_classifier(depth="3-4-6-3", unit="3-3-1")
    first = [m for m in network.layer2[0].children() if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size, m.stride) for m in first] == [((3, 3), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (1, 1))]
    assert [unit.downsample is None for unit in network.layer2] == [False, True, True, True]  # a DBlock first
    # a standard unit has 1 x 1 in place of the first 3 x 3: eight more weights for each pair of its channels
    pairs = [64 * 64, 256 * 64, 256 * 64, 256 * 128, *[512 * 128] * 3, 512 * 256, *[1024 * 256] * 5]
    pairs += [1024 * 512, *[2048 * 512] * 2]
    standard = sum(p.numel() for p in slice_classifier(depth="3-4-6-3").parameters())
    assert sum(p.numel() for p in network.parameters()) == standard + 8 * sum(pairs)
    x = torch.randn(1, 2, 64, 64)
    small = slice_classifier(depth="3-4-6-3", unit="3-3-1", **SMALL).eval()
    torch.testing.assert_close(torch.jit.script(small)(x), small(x))


@pytest.mark.parametrize(("unit", "depth"), [("3-3-3", "resnet101"), ("3-3-1", "resnet18")])
def test_units_that_a_depth_does_not_have_are_refused(unit: str, depth: str) -> None:
    with pytest.raises(ValueError, match=f"unit must be one of .*, got '{unit}'"):
        slice_classifier(depth=depth, unit=unit)


def test_default_is_resnet_101_with_a_stem_that_halves_twice() -> None:
    network = slice_classifier()
    # torchvision's ResNet-101 has 44,549,160 weights for 3 channels and 1000 classes: less one channel of 64 7 x 7
    # kernels and 997 rows of 2048 weights and a bias
    assert sum(p.numel() for p in network.parameters()) == 44_549_160 - 64 * 49 - 997 * 2049
    assert network.conv1.kernel_size == (7, 7)
    features = network.maxpool(network.conv1(torch.zeros(1, 2, 64, 64)))
    assert features.shape[2:] == (16, 16)


def test_brightness_is_not_normalised_away() -> None:
    """The difference of the classes, the mean of the image, must reach the features of single images."""
    network = slice_classifier(depth="resnet10", **SMALL)
    network.train()
    for _ in range(20):  # running statistics
        network(torch.rand(8, 2, 32, 32))
    network.eval()
    with torch.no_grad():
        dark, bright = network(torch.full((1, 2, 32, 32), 0.2)), network(torch.full((1, 2, 32, 32), 0.8))
    assert (dark - bright).abs().max() > 1e-3


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    network: Any = slice_classifier(depth="resnet10", dropout=0.5, **SMALL).eval()
    x = torch.randn(1, 2, 32, 32)
    torch.testing.assert_close(network(x), network(x))
    network.fc.train()
    assert len({network(x).sum().item() for _ in range(8)}) > 1


def test_torchscript() -> None:
    network = slice_classifier(depth="resnet10", dropout=0.1, **SMALL).eval()
    x = torch.randn(1, 2, 32, 32)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


def test_every_ill_argument_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth must be one of .*, got 'deep'; widths must be four .*; dropout must"):
        slice_classifier(depth="deep", widths=(1, 2, 3), dropout=1.0)
    with pytest.raises(ValueError, match="in_channels and out_channels must be at least 1, got 0 and 3"):
        slice_classifier(in_channels=0)


def test_volumes_are_stacks_of_each_level() -> None:
    network = VolumeClassifier(levels=2, slices=5, depth="resnet10", **SMALL).eval()
    x = torch.randn(2, 10, 32, 32)
    assert network(x).shape == (2, 3)
    torch.testing.assert_close(network(x), network[1](torch.stack([x[:, :5], x[:, 5:]], 1)))
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))
    with pytest.raises(ValueError, match="spatial_dims must be 2, or 3 with unit 1-3-1, got 3 with 3-3-1"):
        slice_classifier(depth="3-4-6-3", unit="3-3-1", spatial_dims=3)
