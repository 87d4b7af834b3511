"""The seven-level network of Pan et al. 2024 (doi 10.1186/s12891-024-07297-1, "Image segmentation module").

Specification of the paper, and choices where it has none:

====================  ==============================================================================================
encoder levels 1-5    1 x 1 convolution, then a residual structure of 3 x 3 convolutions
encoder level 6       a 2 x 2 convolution in place of the 1 x 1, then the residual structure
encoder level 7       only a 2 x 2 convolution, which reduces the resolution
skip of level 6       channel attention: concatenate skip and upsampled features, global average pooling, two 1 x 1
                      convolutions, weights times the "lower-level" features, added to the "higher-level" ones
decoder               2 x 2 transposed convolutions; below level 6 concatenation and a 3 x 3 convolution; a final 1 x 1
two readings          the paper calls the skip "high-level features" and the upsampled map "underlying features": by its
                      own words the weights multiply the upsampled map (``weighted="upsampled"``, in ``pan2024.json``);
                      by the usual sense of "lower-level" they multiply the skip (``"skip"``, the default: the weights
                      that ship were trained with it)
not stated            widths, normalisation, activations (of the attention too), how levels 2-5 halve the resolution,
                      the number of 3 x 3 convolutions in a residual structure
chosen here           widths a parameter; instance normalisation (below); ReLU, after the attention sigmoid; 2 x 2 max
                      pooling before levels 2-5, as in the U-Net the paper starts from; stride 2 in the 2 x 2
                      convolutions of levels 6 and 7; two 3 x 3 convolutions
====================  ==============================================================================================

Normalisation is per image by default: a network trained on simulated scans must not apply the intensity statistics of
the simulation to real scans, and the mask of a slice must not depend on the other slices of its batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LEVELS", "ChannelAttention", "ChannelAttentionUNet"]

LEVELS = 7
"""Number of resolution levels (Pan 2024, Fig. 2)."""

_DIVISOR = 2 ** (LEVELS - 1)
_NORMALISATIONS = ("instance", "batch", "none")
_WEIGHTED = ("skip", "upsampled")
_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]


def _halved(x: Tensor) -> Tensor:
    """Return the maxima of 2 x 2 pixels of a map with an even height and width.

    On a CPU two maxima of strided views take a quarter of the time of ``max_pool2d`` in bfloat16. Where maxima are
    equal, its gradient differs, so that training uses ``max_pool2d``; a traced graph has its operation.
    """
    if x.is_cuda or x.requires_grad or _is_tracing():
        return functional.max_pool2d(x, 2)
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[:, :, :, 0::2], rows[:, :, :, 1::2])


def _normalisation(name: str, channels: int) -> nn.Module:
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    return nn.Identity()


class _Residual(nn.Module):
    """Residual unit of two 3 x 3 convolutions; (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, normalisation: str) -> None:
        super().__init__()
        bias = normalisation == "none"
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.first_norm = _normalisation(normalisation, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.second_norm = _normalisation(normalisation, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(y)))


class _ConvNormReLU(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, normalisation: str, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride=stride,
                padding=kernel // 2 if kernel % 2 else 0,
                bias=normalisation == "none",
            ),
            _normalisation(normalisation, out_channels),
            nn.ReLU(),
        )


class ChannelAttention(nn.Module):
    """Weight the channels of skip or upsampled features by an attention over both, and add the others.

    Both inputs and the output have shape (N, ``channels``, H, W).

    Args:
        channels: of each input.
        weighted: features that the weights multiply, ``"skip"`` or ``"upsampled"``.

    Raises:
        ValueError: for another value of ``weighted``.
    """

    def __init__(self, channels: int, weighted: str = "skip") -> None:
        super().__init__()
        if weighted not in _WEIGHTED:
            raise ValueError(f"weighted must be one of {_WEIGHTED}, got {weighted!r}")
        self.weights_skip = weighted == "skip"
        self.squeeze = nn.Conv2d(2 * channels, channels, 1)
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, skip: Tensor, upsampled: Tensor) -> Tensor:
        pooled = torch.cat((skip, upsampled), dim=1).mean(dim=(2, 3), keepdim=True)
        weight = torch.sigmoid(self.excite(functional.relu(self.squeeze(pooled))))
        if self.weights_skip:
            return skip * weight + upsampled
        return upsampled * weight + skip


class ChannelAttentionUNet(nn.Module):
    """Pan's segmentation network: (N, ``in_channels``, H, W) to logits (N, ``out_channels``, H, W).

    Args:
        in_channels: channels of the input; one grey-scale slice by default, more for neighbouring slices.
        out_channels: channels of the logits.
        widths: feature channels of the seven levels, shallow to deep. The paper does not give them; the default has
            2.6 million weights and runs on a CPU.
        normalisation: ``"instance"`` (default, see the module's text), ``"batch"`` or ``"none"``.
        weighted: features that the channel attention multiplies, ``"skip"`` or ``"upsampled"`` (see the module's text).

    Raises:
        ValueError: when an argument is out of range, or H or W of an input is not a positive multiple of 64.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 48, 64, 96, 160, 224),
        normalisation: str = "instance",
        weighted: str = "skip",
    ) -> None:
        super().__init__()
        if len(widths) != LEVELS or min(widths) < 1:
            raise ValueError(f"widths must be {LEVELS} positive numbers, one per level, got {tuple(widths)}")
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
        if normalisation not in _NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {_NORMALISATIONS}, got {normalisation!r}")
        w = tuple(widths)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                _ConvNormReLU(in_channels if level == 0 else w[level - 1], w[level], 1, normalisation),
                _Residual(w[level], normalisation),
            )
            for level in range(5)
        )
        self.level6 = nn.Sequential(
            _ConvNormReLU(w[4], w[5], 2, normalisation, stride=2), _Residual(w[5], normalisation)
        )
        # no normalisation here: a 64 x 64 input leaves one value per channel, which has no variance
        self.level7 = nn.Sequential(nn.Conv2d(w[5], w[6], 2, stride=2), nn.ReLU())
        self.up7 = nn.ConvTranspose2d(w[6], w[5], 2, stride=2)
        self.attention = ChannelAttention(w[5], weighted)
        if (
            weighted == "upsampled"
        ):  # its weights have the same names and shapes, and are refused by the default network
            self.register_buffer("weights_upsampled", torch.ones(()))
        self.up = nn.ModuleList(nn.ConvTranspose2d(w[level + 1], w[level], 2, stride=2) for level in range(4, -1, -1))
        self.decoder = nn.ModuleList(
            _ConvNormReLU(2 * w[level], w[level], 3, normalisation) for level in range(4, -1, -1)
        )
        self.head = nn.Conv2d(w[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[2] % 64 != 0 or x.shape[3] % 64 != 0 or x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(
                f"input must be (N, C, H, W) with H and W positive multiples of 64 (six halvings), got {list(x.shape)}"
            )
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else _halved(x))
            skips.append(x)
        skip6 = self.level6(x)
        x = self.attention(skip6, self.up7(self.level7(skip6)))
        for level, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = block(torch.cat((skips[4 - level], up(x)), dim=1))
        logits: Tensor = self.head(x)
        return logits
