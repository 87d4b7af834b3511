"""DarkNet-19 (Redmon and Farhadi, YOLO9000, 2016, arXiv 1612.08242, Table 6)."""

from torch import Tensor, nn

__all__ = ["DarkNet19"]

_STAGES: tuple[tuple[int, ...], ...] = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)
"""Channels of the 18 convolutions before the last, with 2 x 2 max pooling between stages. The second and fourth
convolution of a stage are 1 x 1, all others 3 x 3."""


class DarkNet19(nn.Module):
    """(N, ``in_channels``, H, W) to logits (N, ``out_channels``): 19 convolutions, five max poolings.

    Each convolution has no bias and is followed by batch normalisation and a leaky ReLU of slope 0.1. The last one is
    1 x 1 with a bias, has one channel a class and is averaged over its map. With 3 input channels and 1000 classes the
    convolutions have 20.8 million weights.

    Args:
        in_channels: 1 for a radiograph.
        out_channels: 1 for the logit of a binary classification.
        width: factor on all channels; less than 1 is a reduced-width variant.
        dropout: share of the input channels of the last convolution dropped in training.

    Raises:
        ValueError: with all arguments out of range.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        problems = []
        if in_channels < 1 or out_channels < 1:
            problems.append(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
        if not 1 / 32 <= width <= 4:
            problems.append(f"width must be between 1/32 and 4, got {width}")
        if not 0 <= dropout < 1:
            problems.append(f"dropout must be in [0, 1), got {dropout}")
        if problems:
            raise ValueError("; ".join(problems))
        channels = in_channels
        stages: list[nn.Module] = []
        for index, stage in enumerate(_STAGES):
            steps: list[nn.Module] = [nn.MaxPool2d(2)] if index else []
            for position, full in enumerate(stage):
                kernel = 1 if position % 2 else 3
                size = max(1, round(full * width))
                steps += [
                    nn.Conv2d(channels, size, kernel, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(size),
                    nn.LeakyReLU(0.1),
                ]
                channels = size
            stages.append(nn.Sequential(*steps))
        self.features = nn.Sequential(*stages)
        self.dropout = nn.Dropout2d(dropout)
        self.classes = nn.Conv2d(channels, out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_out")
        # initialised by its fan-out, a map of one class would start with logits of 30
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.zeros_(self.classes.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.classes(self.dropout(self.features(x)))
        return maps.mean((2, 3))
