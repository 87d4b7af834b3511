"""Networks of Boonrod et al. 2025 (doi 10.1007/s00774-025-01672-1).

The abstract names ResNet-18 as the best on anteroposterior and DarkNet-19 on lateral radiographs of the lumbar spine,
without further details. Both architectures are available for both views.
"""

from torch import nn

from osteo_monai.networks.darknet import DarkNet19
from osteo_monai.networks.patch_transformer import load_imagenet_resnet18
from osteo_monai.networks.slice_classification import slice_classifier

__all__ = ["LAST_MAPS", "radiograph_classifier"]

LAST_MAPS: dict[str, str] = {"resnet18": "layer4", "darknet19": "features"}
"""Architectures, and the layer of each with the last feature maps, for Grad-CAM."""


def radiograph_classifier(
    architecture: str = "resnet18",
    in_channels: int = 1,
    out_channels: int = 1,
    width: float = 1.0,
    dropout: float = 0.0,
    imagenet_weights: str = "",
) -> nn.Module:
    """Return a network from (N, ``in_channels``, rows, columns) to logits (N, ``out_channels``).

    Args:
        architecture: ``resnet18`` (stem of stride 2, see ``slice_classifier``) or ``darknet19``.
        in_channels, out_channels: 1 and 1 for the logit of osteoporosis in a radiograph.
        width: factor on all channels; less than 1 is a reduced-width variant.
        dropout: share of the pooled features dropped in training.
        imagenet_weights: file for a ``resnet18`` of full width and one channel, see ``load_imagenet_resnet18``; empty
            for random weights.

    Raises:
        ValueError: with all arguments out of range.
    """
    problems = []
    if architecture not in LAST_MAPS:
        problems.append(f"architecture must be one of {', '.join(LAST_MAPS)}, got {architecture!r}")
    if not 1 / 32 <= width <= 4:
        problems.append(f"width must be between 1/32 and 4, got {width}")
    if imagenet_weights and (architecture != "resnet18" or width != 1 or in_channels != 1):
        problems.append("imagenet_weights must be used with a resnet18 of width 1 and one channel")
    if problems:
        raise ValueError("; ".join(problems))
    if architecture == "darknet19":
        return DarkNet19(in_channels, out_channels, width, dropout)
    widths = [max(1, round(channels * width)) for channels in (64, 128, 256, 512)]
    network = slice_classifier(in_channels, out_channels, "resnet18", widths, dropout)
    if imagenet_weights:
        load_imagenet_resnet18(network, imagenet_weights)
    return network
