"""The network of Li et al. 2026 (doi 10.13929/j.issn.1003-3289.2026.03.017, section 1.3) for chest radiographs.

Specification of the paper, and choices where it has none:

===================  ===============================================================================================
patches              a grid of 6 x 6, each resized to 256 x 256 pixels, one channel
patch encoder        one ResNet-18 for all patches, ImageNet weights, first convolution changed to one channel, global
                     pooling and classifier removed; "a 512-dimensional vector" a patch
tokens               a learnable [BMD] token joined to the 36 vectors; a position encoding added
encoder              six equal post-norm layers: E' = LN(MHSA(E) + E), then LN(MLP(E') + E')
heads                an MLP on the [BMD] token, whose sigmoid is the risk score; an *independent* MLP a patch token
contradiction        without pooling a patch gives a map of 512 channels, not a vector: its mean over the map is taken
not stated           number of attention heads, widths of the MLPs, activation, dropout, kind of position encoding, how
                     three channels of weights became one
chosen here          8 heads; 2048 (4 x 512) in the layers and 256 (512 / 2) in the heads, with one hidden layer; GELU;
                     dropout 0.1; a learned vector for each place, the token's included; the sum over the channels,
                     which answers a grey image as the original answers its three equal channels
===================  ===============================================================================================
"""

import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from osteo_monai.networks.slice_classification import slice_classifier

__all__ = ["PatchTransformer", "load_imagenet_resnet18"]


class _SeparateMLPs(nn.Module):
    """``count`` MLPs of one hidden layer and one output, each for its own token: (N, count, width) to (N, count)."""

    def __init__(self, count: int, width: int, hidden: int) -> None:
        super().__init__()
        # initialised as nn.Linear, each by itself
        first, second = 1 / math.sqrt(width), 1 / math.sqrt(hidden)
        self.weight1 = nn.Parameter(torch.empty(count, width, hidden).uniform_(-first, first))
        self.bias1 = nn.Parameter(torch.empty(count, hidden).uniform_(-first, first))
        self.weight2 = nn.Parameter(torch.empty(count, hidden).uniform_(-second, second))
        self.bias2 = nn.Parameter(torch.empty(count).uniform_(-second, second))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = functional.gelu(torch.einsum("npd,pdh->nph", tokens, self.weight1) + self.bias1)
        return torch.einsum("nph,ph->np", hidden, self.weight2) + self.bias2


class PatchTransformer(nn.Module):
    """A ResNet-18 for each patch of a grid, and a Transformer over the patches.

    Args:
        grid: rows and columns of patches.
        width: length of a patch's vector. 512 is the paper's network; less is a *reduced-width variant*, whose ResNet
            has stages of ``width`` / 8, / 4, / 2 and ``width`` channels.
        layers, heads: numbers of layers and of attention heads of the Transformer.
        mlp_width: hidden units in its layers; four times the width by default.
        head_width: hidden units of the global and of each local MLP; half the width by default.
        activation: ``"gelu"`` or ``"relu"``; activation of the layers.
        dropout: dropout of the layers.
        imagenet_weights: file with the ResNet-18's ImageNet weights (see ``load_imagenet_resnet18``); empty for random
            ones.

    Raises:
        ValueError: with all arguments out of range, or when an input has another shape.
    """

    def __init__(
        self,
        grid: Sequence[int] = (6, 6),
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        mlp_width: int | None = None,
        head_width: int | None = None,
        activation: str = "gelu",
        dropout: float = 0.1,
        imagenet_weights: str = "",
    ) -> None:
        super().__init__()
        problems = []
        if len(grid) != 2 or min(grid, default=0) < 1:
            problems.append(f"grid must be the rows and columns of patches, got {tuple(grid)}")
        if width < 8 or width % 8 or heads < 1 or width % heads:
            problems.append(f"width must be a multiple of 8 and of heads, got {width} and {heads}")
        if layers < 1:
            problems.append(f"layers must be at least 1, got {layers}")
        if activation not in ("gelu", "relu"):
            problems.append(f"activation must be gelu or relu, got {activation!r}")
        if not 0 <= dropout < 1:
            problems.append(f"dropout must be in [0, 1), got {dropout}")
        if imagenet_weights and width != 512:
            problems.append(f"imagenet_weights must have a width of 512, got {width}")
        if problems:
            raise ValueError("; ".join(problems))
        self.grid = (int(grid[0]), int(grid[1]))
        patches = self.grid[0] * self.grid[1]
        head_width = head_width or width // 2
        widths = (width // 8, width // 4, width // 2, width)
        self.encoder = slice_classifier(in_channels=1, out_channels=1, depth="resnet18", widths=widths)
        self.encoder.fc = None
        if imagenet_weights:
            load_imagenet_resnet18(self.encoder, imagenet_weights)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, patches + 1, width))
        for parameter in (self.token, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)
        # not nn.TransformerEncoder, whose layers start as copies of one layer
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                mlp_width or 4 * width,
                dropout,
                activation,
                batch_first=True,
                norm_first=False,
            )
            for _ in range(layers)
        )
        self.global_head = nn.Sequential(nn.Linear(width, head_width), nn.GELU(), nn.Linear(head_width, 1))
        self.local_heads = _SeparateMLPs(patches, width, head_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1 + P): the logit of the [BMD] token, then the local logits of the P patches.

        Args:
            x: (N, P, H, W), patches row by row from the top left; H and W of at least 32.
        """
        tokens = self.tokens(x)
        for layer in self.layers:
            tokens = layer(tokens)
        return torch.cat([self.global_head(tokens[:, 0]), self.local_heads(tokens[:, 1:])], 1)

    def tokens(self, x: Tensor) -> Tensor:
        """Return the input of the first layer (N, 1 + P, width): [BMD] first, positions added."""
        patches = self.grid[0] * self.grid[1]
        if x.dim() != 4 or x.shape[1] != patches:
            raise ValueError(f"input must be (N, {patches}, H, W), one channel a patch, got {list(x.shape)}")
        vectors = self.encoder(x.reshape(-1, 1, x.shape[2], x.shape[3])).reshape(x.shape[0], patches, -1)
        return torch.cat([self.token.expand(x.shape[0], -1, -1).to(vectors.dtype), vectors], 1) + self.position

    def attentions(self, x: Tensor) -> Tensor:
        """Return (N, layers, heads, 1 + P, 1 + P): attention of each token (row) to each token (column)."""
        tokens = self.tokens(x)
        weights = []
        for layer in self.layers:
            attend = cast(nn.MultiheadAttention, layer.self_attn)
            weights.append(attend(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)[1])
            tokens = layer(tokens)
        return torch.stack(weights, 1)


def load_imagenet_resnet18(network: nn.Module, file: str | Path) -> None:
    """Fill a one-channel ResNet-18 with ImageNet weights; the first convolution is summed over red, green and blue.

    Args:
        network: ``slice_classifier`` with ``depth="resnet18"`` and the default widths; its last layer, if any, is not
            changed.
        file: state dict of a ResNet-18 with the usual names (``conv1.weight``, ``layer1.0.conv1.weight``, ...), written
            by ``torch.save``. The project has no such file.

    Raises:
        ValueError: when the file is missing, no state dict, or that of another network.
    """
    path = Path(file)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"imagenet_weights must be a file, got {path.name}, which does not exist") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError):
        raise ValueError(f"imagenet_weights must be a state dict that torch can load, got {path.name}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"imagenet_weights must be a state dict of tensors, got {path.name}")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    if (stem := state.get("conv1.weight")) is not None and stem.shape[1] == 3:
        state["conv1.weight"] = stem.sum(1, keepdim=True)
    expected = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    # files from before 2018 have no batch counters
    wrong = [
        key
        for key in sorted(expected.keys() | state.keys())
        if not key.endswith("num_batches_tracked")
        and (key not in expected or key not in state or expected[key].shape != state[key].shape)
    ]
    if wrong:
        raise ValueError(
            f"imagenet_weights must be those of a ResNet-18, got {path.name}, which differs in {len(wrong)} of "
            f"{len(expected)} tensors, first in {wrong[0]}"
        )
    network.load_state_dict(state, strict=False)
