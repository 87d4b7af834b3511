"""Location of bodies and discs along a straightened vertebral column: features of each slice, mixed along it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

COLUMN_CHANNELS: dict[str, int] = {"centre": 1, "disc": 1, "body": 1, "role": 4, "offset": 2}
"""Channels of the output for each slice: near the centre of a body, near the middle of a disc, inside a body (logits);
role of the body (logits of ribbed, last ribbed, lumbar, last lumbar); x and y from the window's centre to the column's
axis, in 10 mm."""


class ColumnNetwork(nn.Module):
    """Encode each axial window with its two neighbours as channels, then mix along the column.

    Args:
        window: voxels of a window along x and y.
        channels: channels of the three encoder blocks, each with two 3 x 3 convolutions, the second with stride 2.
        features: length of the feature vector of a slice.
        dilations: dilations of the residual 1D convolutions of width 5 along the column.
        dropout: share of a slice's features dropped in training.
    """

    def __init__(
        self,
        window: tuple[int, int] = (56, 40),
        channels: Sequence[int] = (24, 48, 72),
        features: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 8, 1),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(window) % 2 ** len(channels):
            raise ValueError(f"window must be divisible by {2 ** len(channels)}, got {tuple(window)}")
        blocks: list[nn.Module] = []
        previous = 3
        for n in channels:
            for stride, size in ((1, previous), (2, n)):
                blocks += [nn.Conv2d(size, n, 3, stride, 1, bias=False), nn.GroupNorm(8, n), nn.SiLU()]
            previous = n
        area = window[0] * window[1] // 4 ** len(channels)
        self.window = (int(window[0]), int(window[1]))
        self.encoder = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(previous * area, features), nn.Dropout(dropout))
        self.mixers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, features),
                nn.SiLU(),
                nn.Conv1d(features, features, 5, padding=2 * d, dilation=d),
                nn.GroupNorm(8, features),
                nn.SiLU(),
                nn.Conv1d(features, features, 1),
            )
            for d in dilations
        )
        self.head = nn.Conv1d(features, sum(COLUMN_CHANNELS.values()), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 9, Z) for columns (B, 1, X, Y, Z); channels as in ``COLUMN_CHANNELS``.

        Raises:
            ValueError: when the windows have another size than ``window``.
        """
        width, depth = self.window
        if x.dim() != 5 or x.shape[1] != 1 or x.shape[2] != width or x.shape[3] != depth:
            raise ValueError(f"columns must be (B, 1, {width}, {depth}, Z), got {list(x.shape)}")
        slices = x[:, 0].movedim(3, 1)  # (B, Z, X, Y)
        # ONNX has no replicate padding of one axis of four, and no unfold of a variable length
        below, above = torch.cat((slices[:, :1], slices[:, :-1]), 1), torch.cat((slices[:, 1:], slices[:, -1:]), 1)
        triplets = torch.stack((below, slices, above), 2)  # (B, Z, 3, X, Y)
        features = self.encoder(triplets.flatten(0, 1)).unflatten(0, [x.shape[0], x.shape[4]]).transpose(1, 2)
        for mixer in self.mixers:
            features = features + mixer(features)
        output: Tensor = self.head(features)
        return output
