"""Descriptions of objects by class and arguments."""

import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import RandAdjustContrastd, RandFlipd, RandScaleIntensityd, RandSpatialCropd
from torch import nn

from osteo_monai.optimizers import warmup_cosine
from osteo_monai.tracking.description import describe, network_facts, settings_of, unwrapped
from osteo_monai.transforms import RandomisedRadiographs


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (RandFlipd("image", prob=0.25, spatial_axis=1), "RandFlipd(prob=0.25, spatial_axis=1)"),
        (
            RandScaleIntensityd("image", factors=0.2, prob=0.3),
            "RandScaleIntensityd(factors=[-0.2, 0.2], prob=0.3, channel_wise=False)",
        ),
        (warmup_cosine(100, 10), "warmup_cosine(floor=0.01, total_steps=100, warmup_steps=10)"),
        (nn.SmoothL1Loss(beta=0.5), "SmoothL1Loss(reduction=mean, beta=0.5)"),
    ],
)
def test_arguments_are_those_given(part: object, text: str) -> None:
    assert describe(part) == text


def test_arguments_inside_of_other_objects_are_found() -> None:
    crop = settings_of(RandSpatialCropd("image", roi_size=(32, 24), random_size=False))
    assert (crop["roi_size"], crop["random_size"]) == ([32, 24], False)
    assert settings_of(RandAdjustContrastd("image", prob=0.4, gamma=(0.5, 2.0)))["gamma"] == [0.5, 2.0]
    loss = settings_of(DiceCELoss(sigmoid=True, lambda_ce=0.5))
    assert (loss["sigmoid"], loss["lambda_ce"], loss["batch"]) == (True, 0.5, False)
    batch = settings_of(RandomisedRadiographs(flip=0.25, gamma=(0.8, 1.2)))
    assert (batch["flip"], batch["gamma"]) == (0.25, [0.8, 1.2])


def test_networks_of_other_widths_differ() -> None:
    networks = [BasicUNet(spatial_dims=2, features=[width] * 6) for width in (2, 4)]
    narrow, wide = map(network_facts, networks)
    assert narrow["network"] == wide["network"] == "BasicUNet"
    assert narrow["network_weights"] == sum(p.numel() for p in networks[0].parameters())
    assert narrow["network_weights"] < wide["network_weights"]
    assert narrow["network_channels"] != wide["network_channels"]


def test_wrapped_networks() -> None:
    network = nn.Linear(2, 3)
    assert unwrapped(nn.DataParallel(network)) is network
    assert unwrapped(network) is network
    assert unwrapped(torch.compile(network)) is network  # type: ignore[arg-type]
    assert network_facts(network)["network_channels"] == "3"
