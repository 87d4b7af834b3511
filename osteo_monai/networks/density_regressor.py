"""A DenseNet that reads trabecular bone density, and how sure it is, from slices of one vertebra."""

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
"""mg/cm3 K2HPO4 per HU that the training starts from: 120 kVp body CT lies at 65-75 keV, which gives 0.66-0.80 before
marrow fat (attenuation coefficients of NIST). The training is free to leave it."""


class DensityRegressor(nn.Module):
    """Mean and log-variance of a vertebral body's trabecular density.

    DenseNet variants and several slices did best in the review of Wang et al. 2025 (doi 10.2196/77155). The DenseNet of
    MONAI sees the slices in Hounsfield units, the outline of the body in each and the tube voltage. Its pooled features
    say three things: the offset and the slope of a line, and the log-variance. The line is then applied to the mean HU
    within the outline, away from the cortex. So the network reads a calibration off the surrounding tissues (muscle,
    fat, blood, whose HU tell of tube voltage, contrast agent and a scanner's error) and begins its training at the line
    from HU to density that holds at 120 kVp.

    Args:
        slices: slices of one body, S.
        init_features, growth_rate, block_config, bn_size, dropout: of the DenseNet. Layers as DenseNet-121; the default
            growth is half of it, which takes a quarter of the time.
        window: HU at which the slices are clipped and that become -1 and 1.
        erosion: pixels to stay away from the edge of the outline when the mean HU is taken; half a kernel, so that a
            kernel of ``2 * erosion + 1`` pixels must lie within the outline.
        centre, scale: mg/cm3 by which densities are standardised inside; kept with the weights.

    Attributes:
        level_interval_factor, study_interval_factor: how many predicted SDs on either side hold 90 % of the true
            densities of a level and of a study (the mean over its levels); found by ``calibrate`` and kept with the
            weights.

    Raises:
        ValueError: on an impossible argument, or an input of another number of channels.
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
                as (kVp - 110) / 30, 0 where it is unknown, and 1 where it is known.
        """
        if x.dim() < 4 or x.shape[-3] != self.in_channels:
            raise ValueError(f"input must be (..., {self.in_channels}, X, Y), got shape {list(x.shape)}")
        lead = x.shape[:-3]
        stack = x.reshape(-1, x.shape[-3], x.shape[-2], x.shape[-1]).float()
        hu = stack[:, : self.slices].clamp(self.low, self.high)
        mask = stack[:, self.slices : 2 * self.slices]
        scaled = (hu - self.low) * (2.0 / (self.high - self.low)) - 1.0
        maps = self.features(torch.cat([scaled, stack[:, self.slices :]], 1))
        # float32 from here on: bfloat16 would round a density to half a mg/cm3, and autocast takes matrix products only
        pooled = functional.relu(maps).float().mean(dim=(-2, -1))
        said = (pooled[:, None] * self.head.weight.float()).sum(-1) + self.head.bias.float()
        line = (self.trabecular_hu(hu, mask) - 150.0) / 100.0
        mean = said[:, 0] + said[:, 1] * line
        log_variance = said[:, 2].clamp(-8.0, 4.0)
        result = torch.stack(
            [self.centre.float() + self.scale.float() * mean, log_variance + 2.0 * torch.log(self.scale.float())], -1
        )
        return result.unflatten(0, lead)

    def trabecular_hu(self, hu: Tensor, mask: Tensor) -> Tensor:
        """Return (N,): mean of ``hu`` within ``mask``, both (N, S, X, Y), where a kernel fits into the mask.

        Where it fits nowhere, the whole mask counts; without a mask the value is 0 HU.
        """
        k, pad = self.kernel, self.kernel // 2  # a row, then a column: the same mean in a fraction of the time
        filled = functional.avg_pool2d(mask, [k, 1], stride=1, padding=[pad, 0])
        filled = functional.avg_pool2d(filled, [1, k], stride=1, padding=[0, pad])
        inside = (filled > 0.999).float()
        inside = torch.where(inside.sum((1, 2, 3), keepdim=True) > 0, inside, mask)
        return (hu * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1.0)

    @torch.no_grad()
    def calibrate(self, prediction: Tensor, levels: Tensor, studies: Tensor, coverage: float = 0.9) -> None:
        """Set the interval factors from people that were not trained on (split-conformal prediction).

        The factor is the ceil((n + 1) * coverage)-th smallest of the n values |truth - mean| / SD, so that the interval
        of one more exchangeable person covers the truth with a probability of at least ``coverage``, whatever the
        network (Lei et al. 2018, doi 10.1080/01621459.2017.1307116). A study's SD is the mean over its levels: their
        errors come from one scan and are taken as fully correlated.

        Args:
            prediction: (N, L, 2), the network's answers for N studies of L levels.
            levels: (N, L), true densities in mg/cm3, NaN where unknown.
            studies: (N,), true densities of the studies.
            coverage: share of the truths within the interval, in (0, 1).

        Raises:
            ValueError: on shapes that do not belong together, or a coverage outside (0, 1).
        """
        if prediction.dim() != 3 or prediction.shape[-1] != 2 or levels.shape != prediction.shape[:2]:
            raise ValueError(
                f"prediction must be (N, L, 2) and levels (N, L), got {tuple(prediction.shape)} "
                f"and {tuple(levels.shape)}"
            )
        if studies.shape != prediction.shape[:1]:
            raise ValueError(f"studies must be ({len(prediction)},), got {tuple(studies.shape)}")
        if not 0 < coverage < 1:
            raise ValueError(f"coverage must lie in (0, 1), got {coverage}")
        mean, sd = prediction[..., 0].double(), prediction[..., 1].double().div(2).exp()
        for name, scores in (
            ("level", (levels - mean).abs() / sd),
            ("study", (studies - mean.mean(-1)).abs() / sd.mean(-1)),
        ):
            scores = scores[scores.isfinite()].flatten().sort().values
            rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
            if rank > len(scores):
                logger.warning(
                    "intervals of a %s are not calibrated: %d known densities, at least %d are needed for %g %%",
                    name,
                    len(scores),
                    math.ceil(coverage / (1 - coverage) - 1e-9),
                    100 * coverage,
                )
                continue
            # rounded up to what half precision holds (to 8), or the person at the quantile might fall out
            self.get_buffer(f"{name}_interval_factor").fill_(math.ceil(256 * float(scores[rank - 1])) / 256)
