"""DarkNet-19 by Redmon's table, and both of Boonrod's architectures behind one interface."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from osteo_monai.networks import DarkNet19, radiograph_classifier
from osteo_monai.networks.radiograph_classification import LAST_MAPS


def test_convolutions_of_redmon_s_table() -> None:
    network = DarkNet19(in_channels=3, out_channels=1000)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    layers = [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convolutions]
    assert layers[:5] == [(3, 32, 3), (32, 64, 3), (64, 128, 3), (128, 64, 1), (64, 128, 3)]
    assert layers[5:8] == [(128, 256, 3), (256, 128, 1), (128, 256, 3)]
    assert layers[8:13] == [(256, 512, 3), (512, 256, 1), (256, 512, 3), (512, 256, 1), (256, 512, 3)]
    assert layers[13:18] == [(512, 1024, 3), (1024, 512, 1), (512, 1024, 3), (1024, 512, 1), (512, 1024, 3)]
    assert layers[18:] == [(1024, 1000, 1)]
    assert [m.bias is None for m in convolutions] == [True] * 18 + [False]
    assert sum(isinstance(m, nn.MaxPool2d) for m in network.modules()) == 5
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 18
    # in thousands, stage by stage: 0.864 + 18.432 + 155.648 + 622.592 + 3,801.088 + 15,204.352 + 1,024
    assert sum(m.weight.numel() for m in convolutions) == 20_826_976


def test_stride_is_32_and_the_map_is_averaged() -> None:
    network = DarkNet19(width=1 / 16).eval()
    x = torch.randn(2, 1, 64, 96)
    maps = network.features(x)
    assert maps.shape == (2, 64, 2, 3)
    torch.testing.assert_close(network(x), network.classes(maps.mean((2, 3), keepdim=True))[:, :, 0, 0])


@pytest.mark.parametrize("architecture", LAST_MAPS)
@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (1, 1, 96, 64)])
def test_both_architectures_take_any_view(architecture: Any, shape: Any) -> None:
    network = radiograph_classifier(architecture, width=1 / 16, dropout=0.2).eval()
    assert network(torch.randn(shape)).shape == (shape[0], 1)
    assert network.get_submodule(LAST_MAPS[architecture])


def test_full_width_is_the_published_network() -> None:
    count = {name: sum(p.numel() for p in radiograph_classifier(name).parameters()) for name in LAST_MAPS}
    assert count["resnet18"] == 11_689_512 - 2 * 64 * 49 - 999 * 513
    # less two channels of 32 3 x 3 kernels and 999 rows of 1024; two numbers a normalised channel and one bias more
    channels = 32 + 64 + 320 + 640 + 2048 + 4096
    assert count["darknet19"] == 20_826_976 - 2 * 32 * 9 - 999 * 1024 + 2 * channels + 1


def test_imagenet_weights(tmp_path: Path) -> None:
    state = radiograph_classifier("resnet18", in_channels=3, out_channels=1000).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    network: Any = radiograph_classifier("resnet18", dropout=0.1, imagenet_weights=str(tmp_path / "resnet18.pth"))
    torch.testing.assert_close(network.conv1.weight, state["conv1.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_every_ill_argument_is_refused() -> None:
    with pytest.raises(ValueError, match=r"architecture must be one of resnet18, darknet19, got 'vgg'; width must"):
        radiograph_classifier("vgg", width=0)
    with pytest.raises(ValueError, match="imagenet_weights must be used with a resnet18 of width 1"):
        radiograph_classifier("darknet19", imagenet_weights="weights.pth")
    with pytest.raises(ValueError, match=r"in_channels and out_channels must .*; dropout must"):
        DarkNet19(in_channels=0, dropout=1.0)


def test_untrained_answers_are_near_one_half() -> None:
    """Logits of 30 would have to be unlearned before anything is learned."""
    torch.manual_seed(0)
    logits = DarkNet19(width=0.5)(torch.randn(8, 1, 64, 64))
    assert logits.abs().max() < 1.0
