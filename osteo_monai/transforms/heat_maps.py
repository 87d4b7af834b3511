"""Where a network looks in a radiograph: Grad-CAM, what a Transformer's token attends to, how much of it is bone."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform
from monai.visualize import GradCAM
from torch import Tensor, nn
from torch.nn import functional

from osteo_monai.transforms.radiograph import join_patches

__all__ = ["HeatMapsd", "attention_rollout", "share_on"]


def attention_rollout(weights: Tensor) -> Tensor:
    """Return (N, T, T): how much of each token's output (row) stems from each token that went in; rows sum to 1.

    Source: Abnar and Zuidema 2020 (arXiv 2005.00928): heads are averaged, half of each layer's output is taken to be
    its input (the residual sum), and the layers are multiplied.

    Args:
        weights: (N, layers, heads, T, T), rows that sum to 1.
    """
    mean = weights.mean(2)
    mixed = 0.5 * (mean + torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device))
    result = mixed[:, 0]
    for layer in mixed.unbind(1)[1:]:
        result = layer @ result
    return result


def share_on(heat: Tensor, mask: Tensor) -> float:
    """Return the part of a map's sum that lies on a mask (0..1, same shape); NaN where the map is 0 everywhere."""
    if heat.shape != mask.shape:
        raise ValueError(f"heat and mask must have the same shape, got {tuple(heat.shape)} and {tuple(mask.shape)}")
    total = float(heat.double().sum())
    return float((heat.double() * mask.double()).sum()) / total if total > 0 else math.nan


class HeatMapsd(Transform):
    """Add maps of what spoke for osteoporosis; a step of postprocessing that runs the network once more, backwards too.

    Added, each on the frame of the patches laid side by side, (1, rows * H, columns * W), which covers the radiograph:

    - ``heat``: Grad-CAM (Selvaraju et al. 2017, as in MONAI) of the first logit. A shared encoder gives one small map a
      patch, on a common scale; they are laid side by side, then enlarged bilinearly. 0 where nothing spoke for it.
    - ``attention``, if the network has ``attentions``: the share of the first token's output that stems from each patch
      (``attention_rollout``), the patches' shares summing to 1.

    With a mask of bone in the data, in patches like the image, also ``heat_on_bone`` and ``attention_on_bone`` (the
    share of each map that lies on it) and ``bone_area`` (the share of the frame that it covers, what an even map would
    get).

    Args:
        network: as trained; left in evaluation mode, without gradients.
        layer: name of the part whose output Grad-CAM takes: the last map.
        grid: rows and columns of patches.
        image_key: (rows * columns, H, W), the network's input; the maps come out on its device.
        bone_key: the mask.
        enabled: off, nothing is added.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        grid: Sequence[int] = (1, 1),
        image_key: str = "image",
        bone_key: str = "bone",
        enabled: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.grid = (int(grid[0]), int(grid[1]))
        self.image_key, self.bone_key = image_key, bone_key
        self.enabled = enabled
        self._cam: GradCAM | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        if not self.enabled:
            return result
        given = torch.as_tensor(result[self.image_key])
        heat, attention = self._maps(given.as_tensor() if hasattr(given, "as_tensor") else given)
        maps = {"heat": heat} if attention is None else {"heat": heat, "attention": attention}
        result.update(maps)
        if self.bone_key in result:
            bone = join_patches(torch.as_tensor(result[self.bone_key]).to(heat.device).float(), self.grid)[None]
            result["bone_area"] = float(bone.mean())
            result.update({f"{name}_on_bone": share_on(one, bone) for name, one in maps.items()})
        return result

    def _maps(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        device = next(self.network.parameters()).device
        self.network.eval()
        # whoever calls may be in inference mode, whose tensors have no gradients
        with torch.inference_mode(False), torch.enable_grad():
            x = patches.clone()[None].to(device).float()
            if self._cam is None:  # its hooks stay, so only a network that is asked gets them
                self._cam = GradCAM(self.network, self.layer)
            small = self._cam.compute_map(x, class_idx=0).detach()
            self.network.zero_grad(set_to_none=True)
        frame = [self.grid[0] * patches.shape[-2], self.grid[1] * patches.shape[-1]]
        joined = join_patches(small[:, 0], self.grid)[None, None]
        heat = functional.interpolate(joined, size=frame, mode="bilinear", align_corners=False)[0]
        attentions = getattr(self.network, "attentions", None)
        if attentions is None:
            return heat.to(patches.device), None
        with torch.no_grad():
            token = attention_rollout(attentions(x))[0, 0, 1:]
        spread = (token / token.sum()).reshape(1, 1, *self.grid)
        attention = functional.interpolate(spread, size=frame, mode="nearest")[0]
        return heat.to(patches.device), attention.to(patches.device)
