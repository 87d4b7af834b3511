"""Input and output of a ``DensityRegressor``, and random changes of its input."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import MapTransform, Randomizable, Transform
from torch import Tensor
from torch.nn import functional

from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds

__all__ = ["DensityInputd", "EstimateDensityd", "RandAcquisitiond"]

_Z90 = 1.6449
"""Half the width of the central 90 % of a normal distribution, in SDs."""


def _voltage(kvp: Any) -> float:
    """Return the tube voltage in kV, NaN if unknown."""
    value = math.nan if kvp is None else float(kvp)
    if not math.isnan(value) and not 40 <= value <= 200:
        raise ValueError(f"kvp must be a tube voltage from 40 to 200 kV or unknown, got {value:g}")
    return value


class DensityInputd(Transform):
    """Stack slices, masks and tube voltage of each level into the network's input (see ``DensityRegressor``).

    Args:
        levels: number of levels in the stack of slices.
        image_key, mask_key: (L * S, X, Y) each, HU and 0/1, the slices of one level in sequence, see
            ``VertebralSlicesd``; the image becomes (L, 2 S + 2, X, Y) float32 and the mask is removed.
        kvp_key: tube voltage in kV; missing, ``None`` or NaN if unknown.

    Raises:
        ValueError: when the shapes do not match, or the tube voltage is out of range.
    """

    def __init__(self, levels: int = 2, image_key: str = "image", mask_key: str = "mask", kvp_key: str = "kvp") -> None:
        super().__init__()
        self.levels = levels
        self.image_key, self.mask_key, self.kvp_key = image_key, mask_key, kvp_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image, mask = (torch.as_tensor(result.pop(key)).float() for key in (self.image_key, self.mask_key))
        if image.ndim != 3 or image.shape != mask.shape or image.shape[0] % self.levels:
            raise ValueError(
                f"{self.image_key} and {self.mask_key} must both be ({self.levels} * S, X, Y), "
                f"got {tuple(image.shape)} and {tuple(mask.shape)}"
            )
        kvp = _voltage(result.get(self.kvp_key))
        known = not math.isnan(kvp)
        planes = image.new_zeros((self.levels, 2, *image.shape[1:]))
        if known:
            planes[:, 0], planes[:, 1] = (kvp - 110.0) / 30.0, 1.0
        stacks = [t.unflatten(0, (self.levels, -1)) for t in (image, mask)]
        result[self.image_key] = torch.cat([*stacks, planes], 1)
        return result


class RandAcquisitiond(Randomizable, Transform):
    """Simulate another scan of the same body, with the same density, in a stack of slices.

    Left and right are swapped, the frame is moved, gain and offset are changed, noise is added, the kernel is made
    softer or sharper, the mask shrinks or grows by a pixel, and the tube voltage is set to unknown. Amounts are uniform
    within their limits. Project choice of the defaults.

    Args:
        image_key, mask_key, kvp_key: see ``DensityInputd``, which follows.
        shift: largest shift in pixels.
        gain: largest relative change of HU + 1000.
        offset: largest offset in HU.
        noise: largest SD of the added noise, HU; its grain is one or three pixels.
        sharpness: range of the weight of (image - its 3 x 3 binomial mean) that is added; -1 is that mean.
        mask_prob: probability of a mask that is a pixel smaller or larger.
        forget_kvp: probability that the tube voltage is unknown.
        prob: probability of each of gain with offset, noise and sharpness.
    """

    def __init__(
        self,
        image_key: str = "image",
        mask_key: str = "mask",
        kvp_key: str = "kvp",
        shift: int = 4,
        gain: float = 0.03,
        offset: float = 6.0,
        noise: float = 25.0,
        sharpness: Sequence[float] = (-1.0, 0.7),
        mask_prob: float = 0.4,
        forget_kvp: float = 0.15,
        prob: float = 0.5,
    ) -> None:
        super().__init__()
        self.image_key, self.mask_key, self.kvp_key = image_key, mask_key, kvp_key
        self.shift, self.gain, self.offset, self.noise = shift, gain, offset, noise
        self.sharpness = tuple(sharpness)
        self.mask_prob, self.forget_kvp, self.prob = mask_prob, forget_kvp, prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image, mask = (torch.as_tensor(result[key]).float() for key in (self.image_key, self.mask_key))
        chance = self.R.random_sample
        if chance() < 0.5:
            image, mask = image.flip(-2), mask.flip(-2)
        if self.shift:
            dx, dy = self.R.randint(0, 2 * self.shift + 1, 2).tolist()
            x, y = image.shape[-2:]
            pad = (self.shift,) * 4
            image = functional.pad(image[None], pad, mode="replicate")[0, :, dx : dx + x, dy : dy + y]
            mask = functional.pad(mask, pad)[:, dx : dx + x, dy : dy + y]
        if chance() < self.prob:
            gain, offset = 1.0 + self._even(self.gain), self._even(self.offset)
            image = gain * (image + 1000.0) - 1000.0 + offset
        if chance() < self.prob:
            generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
            grain = torch.randn(image.shape, generator=generator)
            if chance() < 0.5:
                grain = 3.0 * functional.avg_pool2d(grain, 3, stride=1, padding=1)
            image = image + float(chance() * self.noise) * grain
        if chance() < self.prob:
            weight = torch.tensor([0.25, 0.5, 0.25])
            kernel = torch.outer(weight, weight)[None, None]
            smooth = functional.conv2d(functional.pad(image[:, None], (1,) * 4, mode="replicate"), kernel)[:, 0]
            image = image + float(self.R.uniform(low=self.sharpness[0], high=self.sharpness[1])) * (image - smooth)
        if chance() < self.mask_prob:
            grow = chance() < 0.5
            mask = functional.max_pool2d(mask if grow else 1.0 - mask, 3, stride=1, padding=1)
            mask = mask if grow else 1.0 - mask
        if chance() < self.forget_kvp:
            result[self.kvp_key] = math.nan
        result[self.image_key], result[self.mask_key] = image, mask
        return result

    def _even(self, limit: float) -> float:
        return float(self.R.uniform(-limit, limit))


class EstimateDensityd(MapTransform):
    """Convert the output of a ``DensityRegressor`` to densities with their intervals and the class of the study.

    Adds ``density``, a dictionary for JSON: ``standard``, ``coverage`` (of the intervals), and
    ``levels`` (a dictionary by level) and ``study``, each with ``bmd_mg_cm3``, ``lower``, ``upper`` and ``sd``; the
    study also has ``probability`` by class and ``bone_status``. A study's density is the mean over its levels, its SD
    the mean of theirs (see ``DensityRegressor.calibrate``). The probabilities are those of a normal distribution whose
    central 90 % are the interval. The output itself is kept.

    Args:
        keys: output of the network, (L, 2).
        network: network whose interval factors are read at each call.
        levels: vertebrae, in the order of the output.
    """

    def __init__(self, keys: str, network: Any, levels: Sequence[str] = SCREENED_LEVELS) -> None:
        super().__init__(keys)
        self.network = network
        self.levels = tuple(levels)
        self.thresholds = DensityThresholds()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        answer: Tensor = torch.as_tensor(result[self.keys[0]]).detach().double().cpu()
        if answer.shape != (len(self.levels), 2):
            raise ValueError(f"{self.keys[0]} must be ({len(self.levels)}, 2), got {tuple(answer.shape)}")
        mean, sd = answer[:, 0], (answer[:, 1] / 2).exp()
        factors = [float(getattr(self.network, f"{name}_interval_factor")) for name in ("level", "study")]
        study = _interval(float(mean.mean()), float(sd.mean()), factors[1])
        probability = self._classes(study)
        result["density"] = {
            "standard": str(self.thresholds.standard),
            "coverage": 0.9,
            "levels": {
                str(level): _interval(float(m), float(s), factors[0])
                for level, m, s in zip(self.levels, mean, sd, strict=True)
            },
            "study": {
                **study,
                "probability": probability,
                "bone_status": str(self.thresholds.status(study["bmd_mg_cm3"], self.thresholds.standard)),
            },
        }
        return result

    def _classes(self, study: Mapping[str, float]) -> dict[str, float]:
        below, not_normal = (
            0.5 * math.erfc((study["bmd_mg_cm3"] - limit) / max(study["sd"], 1e-6) / math.sqrt(2))
            for limit in (self.thresholds.osteoporosis_below, self.thresholds.normal_above)
        )
        return {
            str(BoneStatus.NORMAL): 1.0 - not_normal,
            str(BoneStatus.OSTEOPENIA): not_normal - below,
            str(BoneStatus.OSTEOPOROSIS): below,
        }


def _interval(mean: float, sd: float, factor: float) -> dict[str, float]:
    return {
        "bmd_mg_cm3": mean,
        "lower": mean - factor * sd,
        "upper": mean + factor * sd,
        "sd": factor * sd / _Z90,
    }
