"""The classifier of Pan et al. 2024 (doi 10.1186/s12891-024-07297-1, "DCNN classification model construction").

The paper names ResNet-101 and describes stages of 3, 4, 6 and 3 units, which is the depth of ResNet-50 (ResNet-101 has
3, 4, 23 and 3), and units of two 3 x 3 and one 1 x 1 convolution, which is not the standard bottleneck (1 x 1, 3 x 3,
1 x 1). Both depths and both units are available; the default is the network named in the paper, with MONAI's standard
bottleneck.
A 7 x 7 convolution and a 3 x 3 max pooling, of stride 2 both, come first as in He et al. 2016 (MONAI's own default for
the former, stride 1, costs four times as much); global average pooling and a linear layer come last.
"""

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import ResNet
from monai.networks.nets.resnet import ResNetBottleneck
from torch import nn

__all__ = ["DEPTHS", "UNITS", "VolumeClassifier", "slice_classifier"]

DEPTHS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "3-4-6-3": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}
"""Kind of unit and number of units in the four stages."""


class _Unit331(ResNetBottleneck):
    """Unit of two 3 x 3 and one 1 x 1 convolution, in place of the bottleneck; the first has the stride."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1, **settings: Any) -> None:
        super().__init__(in_planes, planes, stride=stride, **settings)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)


UNITS: dict[str, type[ResNetBottleneck]] = {"1-3-1": ResNetBottleneck, "3-3-1": _Unit331}
"""Sizes of the convolutions of a unit: the standard bottleneck, and the description of the paper."""


def slice_classifier(
    in_channels: int = 2,
    out_channels: int = 3,
    depth: str = "resnet101",
    widths: Sequence[int] = (64, 128, 256, 512),
    dropout: float = 0.0,
    unit: str = "1-3-1",
    spatial_dims: int = 2,
) -> ResNet:
    """Return a residual network from (N, ``in_channels``, X, Y) to logits (N, ``out_channels``), randomly initialised.

    Normalisation is by batch: normalisation by image would remove the brightness of the bone, which carries the
    density.

    Args:
        in_channels: slices stacked as channels; L1 and L2, or L1 only.
        out_channels: classes.
        depth: one of ``DEPTHS``.
        widths: channels of the four stages (the output of a bottleneck stage has four times as many).
        dropout: share of the pooled features dropped in training.
        unit: one of ``UNITS``; of the depths ``3-4-6-3`` and ``resnet101`` only.
        spatial_dims: 2, or 3 for inputs (N, ``in_channels``, X, Y, Z), with the standard units only.

    Raises:
        ValueError: with all arguments out of range.
    """
    problems = []
    if depth not in DEPTHS:
        problems.append(f"depth must be one of {', '.join(DEPTHS)}, got {depth!r}")
    if len(widths) != 4 or min(widths, default=0) < 1:
        problems.append(f"widths must be four positive numbers, one per stage, got {tuple(widths)}")
    if in_channels < 1 or out_channels < 1:
        problems.append(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
    if not 0 <= dropout < 1:
        problems.append(f"dropout must be in [0, 1), got {dropout}")
    if spatial_dims not in (2, 3) or (spatial_dims == 3 and unit != "1-3-1"):
        problems.append(f"spatial_dims must be 2, or 3 with unit 1-3-1, got {spatial_dims} with {unit}")
    if unit not in UNITS or (unit != "1-3-1" and depth in DEPTHS and DEPTHS[depth][0] == "basic"):
        problems.append(f"unit must be one of {', '.join(UNITS)}, 3-3-1 with 3-4-6-3 or resnet101, got {unit!r}")
    if problems:
        raise ValueError("; ".join(problems))
    kind, layers = DEPTHS[depth]
    block: Any = UNITS[unit] if kind == "bottleneck" else kind
    network = ResNet(
        block=block,
        layers=list(layers),
        block_inplanes=list(widths),
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_size=7,
        conv1_t_stride=2,
        num_classes=out_channels,
        bias_downsample=False,
    )
    # MONAI has no dropout here; without dropout the layer keeps its usual name
    if dropout and network.fc is not None:
        network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)  # type: ignore[assignment]
    return network


class VolumeClassifier(nn.Sequential):
    """3D ``slice_classifier`` of the stacks that ``VertebralSlicesd`` cuts, with one channel a level.

    Input: (N, ``levels * slices``, X, Y), the slices of one level in sequence. Output: logits (N, ``out_channels``).

    Args:
        levels: vertebrae.
        slices: slices of one vertebra.
        out_channels, depth, widths, dropout: see ``slice_classifier``.

    Raises:
        ValueError: see ``slice_classifier``.
    """

    def __init__(
        self,
        levels: int = 2,
        slices: int = 17,
        out_channels: int = 3,
        depth: str = "resnet18",
        widths: Sequence[int] = (32, 64, 128, 256),
        dropout: float = 0.0,
    ) -> None:
        network = slice_classifier(levels, out_channels, depth, widths, dropout, spatial_dims=3)
        super().__init__(nn.Unflatten(1, (levels, slices)), network)
