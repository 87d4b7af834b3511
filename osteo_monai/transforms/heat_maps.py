"""Heat maps of radiograph classifiers: Grad-CAM, attention of a Transformer's token, and their share on bone."""

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
    """Return (N, T, T): share of each output token (row) from each input token (column); rows sum to 1.

    Source: Abnar and Zuidema 2020 (arXiv 2005.00928): heads are averaged, half of the output of each layer is
    its input (residual sum), and the layers are multiplied.

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
    """Return the share of a map's sum on a mask (0..1, same shape); NaN if the map is 0 everywhere."""
    if heat.shape != mask.shape:
        raise ValueError(f"heat and mask must have the same shape, got {tuple(heat.shape)} and {tuple(mask.shape)}")
    total = float(heat.double().sum())
    return float((heat.double() * mask.double()).sum()) / total if total > 0 else math.nan


class HeatMapsd(Transform):
    """Add heat maps for osteoporosis, in postprocessing, by a second forward and a backward pass of the network.

    Added, each (1, rows * H, columns * W) on the frame of the joined patches, which covers the radiograph:

    - ``heat``: Grad-CAM (Selvaraju et al. 2017, as in MONAI) of the first logit. A shared encoder gives one small map a
      patch, on a common scale; the maps are joined and enlarged bilinearly. 0 where no feature supports the class.
    - ``attention``, if the network has ``attentions``: the share of the first output token from each patch
      (``attention_rollout``), with a sum of 1.

    With a bone mask in the data, in patches like the image, also ``heat_on_bone`` and ``attention_on_bone`` (share of
    each map on the mask) and ``bone_area`` (share of the frame on the mask, the value of a uniform map).

    Args:
        network: trained network; set to evaluation mode, without gradients.
        layer: name of the layer with the last feature maps.
        grid: rows and columns of patches.
        image_key: (rows * columns, H, W), input of the network; the maps are on its device.
        bone_key: bone mask, optional in the data.
        enabled: whether maps are added.
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
        image = torch.as_tensor(result[self.image_key])
        heat, attention = self._maps(image.as_tensor() if hasattr(image, "as_tensor") else image)
        maps = {"heat": heat} if attention is None else {"heat": heat, "attention": attention}
        result.update(maps)
        if self.bone_key in result:
            bone = join_patches(torch.as_tensor(result[self.bone_key]).to(heat.device).float(), self.grid)[None]
            result["bone_area"] = float(bone.mean())
            result.update({f"{name}_on_bone": share_on(values, bone) for name, values in maps.items()})
        return result

    def _maps(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        device = next(self.network.parameters()).device
        self.network.eval()
        # callers may use inference mode, whose tensors have no gradients
        with torch.inference_mode(False), torch.enable_grad():
            x = patches.clone()[None].to(device).float()
            if self._cam is None:  # made at first use, since its hooks stay on the network
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
