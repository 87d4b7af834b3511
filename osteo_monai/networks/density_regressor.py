"""DenseNet for the trabecular bone density of a vertebra, with its uncertainty, from slices."""

import logging
import math
from collections.abc import Sequence

import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DensityRegressor"]

logger = logging.getLogger(__name__)

GAUSSIAN_FACTOR = 1.6449
"""Half the width of the central 90 % of a normal distribution, in SDs: the factor of an uncalibrated network."""

_LINE_SLOPE = 0.75
"""Initial slope in mg/cm3 K2HPO4 per HU: 120 kVp body CT has effective energies of 65-75 keV, which give 0.66-0.80
without marrow fat (attenuation coefficients of NIST)."""


class DensityRegressor(nn.Module):
    """Mean and log-variance of a vertebral body's trabecular density.

    DenseNet variants and several slices had the best results in the review of Wang et al. 2025 (doi 10.2196/77155). The
    input of MONAI's DenseNet is the slices in HU, the outline of the body in each and the tube voltage. Its pooled
    features give offset and slope of a line, and the log-variance. The line is applied to the mean HU within the
    outline, away from the cortex. The network thus estimates a calibration from the surrounding tissues (the HU of
    muscle, fat and blood depend on tube voltage, contrast agent and scanner error). Its initial line is that from HU to
    density at 120 kVp.

    Args:
        slices: number of slices of one body, S.
        init_features, growth_rate, block_config, bn_size, dropout: see MONAI's ``DenseNet``. Layers as in
            DenseNet-121, with half of its growth rate for a quarter of the time.
        window: HU limits of the slices, scaled to -1 and 1.
        erosion: distance in pixels from the edge of the outline for the mean HU: a kernel of ``2 * erosion + 1`` pixels
            must be within the outline.
        centre, scale: offset and unit in mg/cm3 of the standardised densities; saved with the weights.

    Attributes:
        level_interval_factor, study_interval_factor: half width in predicted SDs of the interval with 90 % of the true
            densities of a level and of a study (mean over its levels); set by ``calibrate``, saved with the weights.

    Raises:
        ValueError: when an argument is out of range, or an input has another number of channels.
    """

    def __init__(
        self,
        slices: int = 5,
        init_features: int = 32,
        growth_rate: int = 16,
        block_config: Sequence[int] = (6, 12, 24, 16),
        bn_size: int = 4,
        dropout: float = 0.0,
        window: Sequence[float] = (-300.0, 700.0),
        erosion: int = 4,
        centre: float = 130.0,
        scale: float = 50.0,
    ) -> None:
        super().__init__()
        if slices < 1 or erosion < 0:
            raise ValueError(f"slices must be at least 1 and erosion at least 0, got {slices} and {erosion}")
        if len(window) != 2 or window[0] >= window[1]:
            raise ValueError(f"window must be two HU, the lower first, got {tuple(window)}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.slices = slices
        self.in_channels = 2 * slices + 2
        self.kernel = 2 * erosion + 1
        self.low, self.high = float(window[0]), float(window[1])
        dense = DenseNet(
            spatial_dims=2,
            in_channels=self.in_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=tuple(block_config),
            bn_size=bn_size,
            dropout_prob=dropout,
        )
        self.features = dense.features
        width = dense.class_layers.get_submodule("out").in_features
        self.head = nn.Linear(int(width), 3)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            # the line at 150 HU, its slope per 100 HU, and an SD of about 15 mg/cm3, all standardised
            start = [(150 * _LINE_SLOPE - centre) / scale, 100 * _LINE_SLOPE / scale, 2 * math.log(15 / scale)]
            self.head.bias.copy_(torch.tensor(start))
        for name, value in (
            ("centre", centre),
            ("scale", scale),
            ("level_interval_factor", GAUSSIAN_FACTOR),
            ("study_interval_factor", GAUSSIAN_FACTOR),
        ):
            self.register_buffer(name, torch.tensor(float(value)))
        self.centre: Tensor
        self.scale: Tensor
        self.level_interval_factor: Tensor
        self.study_interval_factor: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., 2): mean in mg/cm3 K2HPO4 and natural logarithm of the variance in (mg/cm3)^2.

        Args:
            x: (..., 2 S + 2, X, Y): S slices in HU, S masks of the body (0 or 1), and two constant planes: tube voltage
                as (kVp - 110) / 30, 0 if unknown; and 1 if known, 0 if unknown.
        """
        if x.dim() < 4 or x.shape[-3] != self.in_channels:
            raise ValueError(f"input must be (..., {self.in_channels}, X, Y), got shape {list(x.shape)}")
        lead = x.shape[:-3]
        stack = x.reshape(-1, x.shape[-3], x.shape[-2], x.shape[-1]).float()
        hu = stack[:, : self.slices].clamp(self.low, self.high)
        mask = stack[:, self.slices : 2 * self.slices]
        scaled = (hu - self.low) * (2.0 / (self.high - self.low)) - 1.0
        maps = self.features(torch.cat([scaled, stack[:, self.slices :]], 1))
        # float32 below: bfloat16 rounds densities to 0.5 mg/cm3, and autocast would apply to a matrix product
        pooled = functional.relu(maps).float().mean(dim=(-2, -1))
        output = (pooled[:, None] * self.head.weight.float()).sum(-1) + self.head.bias.float()
        line = (self.trabecular_hu(hu, mask) - 150.0) / 100.0
        mean = output[:, 0] + output[:, 1] * line
        log_variance = output[:, 2].clamp(-8.0, 4.0)
        result = torch.stack(
            [self.centre.float() + self.scale.float() * mean, log_variance + 2.0 * torch.log(self.scale.float())], -1
        )
        restored: Tensor = result.unflatten(0, lead)
        return restored

    def trabecular_hu(self, hu: Tensor, mask: Tensor) -> Tensor:
        """Return (N,): mean of ``hu`` within ``mask``, both (N, S, X, Y), where the kernel fits into the mask.

        If it fits nowhere, the whole mask is used; without a mask the value is 0 HU.
        """
        k, pad = self.kernel, self.kernel // 2  # separable: the same mean in less time
        filled = functional.avg_pool2d(mask, [k, 1], stride=1, padding=[pad, 0])
        filled = functional.avg_pool2d(filled, [1, k], stride=1, padding=[0, pad])
        inside = (filled > 0.999).float()
        inside = torch.where(inside.sum((1, 2, 3), keepdim=True) > 0, inside, mask)
        return (hu * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1.0)

    @torch.no_grad()
    def calibrate(self, prediction: Tensor, levels: Tensor, studies: Tensor, coverage: float = 0.9) -> None:
        """Set the interval factors from subjects that were not trained on (split-conformal prediction).

        The factor is the ceil((n + 1) * coverage)-th smallest of the n values |truth - mean| / SD. The interval of one
        further exchangeable subject then covers the truth with a probability of at least ``coverage``, for any network
        (Lei et al. 2018, doi 10.1080/01621459.2017.1307116). The SD of a study is the mean over its levels: errors of
        one scan are taken as fully correlated.

        Args:
            prediction: (N, L, 2), output of the network for N studies of L levels.
            levels: (N, L), true densities in mg/cm3, NaN if unknown.
            studies: (N,), true densities of the studies.
            coverage: share of the truths within the interval, in (0, 1).

        Raises:
            ValueError: when the shapes do not match, or ``coverage`` is out of range.
        """
        if prediction.dim() != 3 or prediction.shape[-1] != 2 or levels.shape != prediction.shape[:2]:
            raise ValueError(
                f"prediction must be (N, L, 2) and levels (N, L), got {tuple(prediction.shape)} "
                f"and {tuple(levels.shape)}"
            )
        if studies.shape != prediction.shape[:1]:
            raise ValueError(f"studies must be ({len(prediction)},), got {tuple(studies.shape)}")
        if not 0 < coverage < 1:
            raise ValueError(f"coverage must be in (0, 1), got {coverage}")
        mean, sd = prediction[..., 0].double(), prediction[..., 1].double().div(2).exp()
        for name, scores in (
            ("level", (levels - mean).abs() / sd),
            ("study", (studies - mean.mean(-1)).abs() / sd.mean(-1)),
        ):
            scores = scores[scores.isfinite()].flatten().sort().values
            rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
            if rank > len(scores):
                logger.warning(
                    "intervals of a %s are not calibrated: %d known densities, at least %d are required for %g %%",
                    name,
                    len(scores),
                    math.ceil(coverage / (1 - coverage) - 1e-9),
                    100 * coverage,
                )
                continue
            # rounded up to half precision (exact up to 8): the interval must still cover the subject at the quantile
            self.get_buffer(f"{name}_interval_factor").fill_(math.ceil(256 * float(scores[rank - 1])) / 256)
