"""Losses that MONAI does not have."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.transforms.vertebra_decoding import (
    BODY_CHANNEL,
    FIRST_NAME_CHANNEL,
    HEAT_CHANNEL,
    NAMED_LEVELS,
    RIB_CHANNEL,
    SACRUM_CHANNEL,
)


class BetaGaussianNLLLoss(nn.Module):
    """Negative log-likelihood of a normal distribution, weighted by variance^beta.

    Source: Seitzer et al. 2022, arXiv 2203.09168.

    With beta = 0 it is the plain likelihood, whose gradient on the mean fades where the variance is large, so that hard
    cases are given up early; with beta = 1 the mean is learned as by a squared error.

    Args:
        beta: in [0, 1]; the authors' recommendation is 0.5.
        scale: unit in which the error is counted, mg/cm3; it only scales the loss.
    """

    def __init__(self, beta: float = 0.5, scale: float = 50.0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie in [0, 1], got {beta}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.beta, self.scale = beta, scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the known targets, 0 where none is known.

        Args:
            prediction: (..., 2), mean in mg/cm3 and logarithm of the variance in (mg/cm3)^2.
            target: (...), true densities in mg/cm3, NaN where unknown.
        """
        if prediction.shape != (*target.shape, 2):
            raise ValueError(
                f"prediction must be the target's shape with a last axis of 2, got {tuple(prediction.shape)} "
                f"and {tuple(target.shape)}"
            )
        known = target.isfinite()
        mean, log_variance = prediction.float()[known].unbind(-1)
        log_variance = log_variance - 2 * math.log(self.scale)
        error = (target[known] - mean) / self.scale
        likelihood = 0.5 * (error.square() * torch.exp(-log_variance) + log_variance)
        return (likelihood * (self.beta * log_variance.detach()).exp()).sum() / max(1, int(known.sum()))


class OrdinalCrossEntropyLoss(nn.Module):
    """Cross-entropy of ordered classes that are not equally common.

    The logarithm of the classes' shares in training is added to the logits (Menon et al. 2021, arXiv 2007.07314), so
    the network itself learns what speaks for a class apart from how common it is, and the shares of another population
    can be put in afterwards. Smoothing gives a part of the target to the neighbouring classes alone, for those are what
    a case near a threshold is mistaken for (cf. Diaz and Marathe 2019).

    Args:
        prior: share of each class among the training items, in order; they are scaled to a sum of 1.
        smoothing: part of the target, in [0, 1), that neighbours share.
    """

    def __init__(self, prior: Sequence[float], smoothing: float = 0.05) -> None:
        super().__init__()
        share = torch.as_tensor(prior, dtype=torch.float32)
        if share.ndim != 1 or len(share) < 2 or not bool((share > 0).all()):
            raise ValueError(f"prior must hold a positive share for each of at least two classes, got {list(prior)}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {smoothing}")
        neighbours = torch.zeros(len(share), len(share))
        for i in range(len(share)):
            for j in (i - 1, i + 1):
                if 0 <= j < len(share):
                    neighbours[i, j] = 1.0
        target = (1 - smoothing) * torch.eye(len(share)) + smoothing * neighbours / neighbours.sum(1, keepdim=True)
        self.register_buffer("log_prior", (share / share.sum()).log(), persistent=False)
        self.register_buffer("target", target, persistent=False)
        self.log_prior: Tensor
        self.target: Tensor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (N, K) against class indices (N,)."""
        logits = prediction.float() + self.log_prior.to(prediction.device)
        return functional.cross_entropy(logits, self.target.to(prediction.device)[target.long()])


class GlobalLocalLoss(nn.Module):
    """Li's loss (Li et al. 2026, section 1.3): that of the radiograph plus that of its patches.

    Binary cross-entropy each. The paper names a global and a local loss and neither their weights nor the target of a
    patch; here each patch is asked for the radiograph's answer, and the local part is the mean over the patches.

    Args:
        local_weight: of the local part; 0 leaves the global one.
    """

    def __init__(self, local_weight: float = 1.0) -> None:
        super().__init__()
        if local_weight < 0:
            raise ValueError(f"local_weight must be 0 or positive, got {local_weight}")
        self.local_weight = local_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the batch.

        Args:
            prediction: (N, 1 + P) logits, the radiograph's first; P may be 0.
            target: (N,), probability of osteoporosis that is true: 0, 1 or between.
        """
        if prediction.dim() != 2 or target.shape != prediction.shape[:1]:
            raise ValueError(
                f"prediction must be (N, 1 + P) and target (N,), got {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}"
            )
        logits, truth = prediction.float(), target.float()
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], truth)
        if self.local_weight and logits.shape[1] > 1:
            local = functional.binary_cross_entropy_with_logits(logits[:, 1:], truth[:, None].expand_as(logits[:, 1:]))
            loss = loss + self.local_weight * local
        return loss


class VertebraLocalizationLoss(nn.Module):
    """Finding the bodies and naming them, as two separate questions.

    Finding: weighted binary cross-entropy on the centre heat map, and binary cross-entropy plus Dice on bodies, sacrum
    and ribs. Naming: cross-entropy of the level over the voxels of bodies alone, each body weighing the same.

    Args:
        heat_weight, name_weight: of the two parts beside the masks.
        positive_weight: how much more an error at a body's centre counts than one in the background.
    """

    def __init__(self, heat_weight: float = 5.0, name_weight: float = 1.0, positive_weight: float = 20.0) -> None:
        super().__init__()
        self.heat_weight, self.name_weight, self.positive_weight = heat_weight, name_weight, positive_weight
        index = torch.full((256,), -1, dtype=torch.long)
        for i, level in enumerate(NAMED_LEVELS):
            index[level.label] = i
        self.register_buffer("index", index, persistent=False)
        self.index: Tensor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            prediction: (B, 16, X, Y, Z) logits, channels as in ``vertebra_decoding``.
            target: (B, 2, X, Y, Z); labels of ``VirtualVolumeDataset`` and its heat map.
        """
        if prediction.shape[1] != FIRST_NAME_CHANNEL + len(NAMED_LEVELS) or target.shape[1] != 2:
            raise ValueError(
                f"prediction must have {FIRST_NAME_CHANNEL + len(NAMED_LEVELS)} channels and target 2, "
                f"got {prediction.shape[1]} and {target.shape[1]}"
            )
        prediction = prediction.float()
        classes, heat = target[:, 0].round().long(), target[:, 1]
        near = functional.binary_cross_entropy_with_logits(
            prediction[:, HEAT_CHANNEL], heat, weight=1.0 + self.positive_weight * heat
        )
        loss = self.heat_weight * near

        names = self.index[classes]
        body = names >= 0
        masks = torch.stack([body, classes == VertebraLevel.SACRUM.label, classes == RIB_LABEL], 1).float()
        logits = prediction[:, [BODY_CHANNEL, SACRUM_CHANNEL, RIB_CHANNEL]]
        loss = loss + functional.binary_cross_entropy_with_logits(logits, masks)
        p = torch.sigmoid(logits)
        overlap = (p * masks).sum((0, 2, 3, 4))
        size = (p + masks).sum((0, 2, 3, 4))
        present = masks.sum((0, 2, 3, 4)) > 0
        dice = 1.0 - (2 * overlap + 1) / (size + 1)
        loss = loss + (dice * present).sum() / present.sum().clamp(min=1)

        if body.any():
            batch, *_ = torch.nonzero(body, as_tuple=True)
            picked = names[body]
            logits = prediction[:, FIRST_NAME_CHANNEL:].movedim(1, -1)[body]
            entropy = functional.cross_entropy(logits, picked, reduction="none", label_smoothing=0.02)
            key = batch * len(NAMED_LEVELS) + picked
            count = torch.bincount(key, minlength=int(key.max()) + 1).float()
            share = 1.0 / count[key]
            loss = loss + self.name_weight * (entropy * share).sum() / share.sum()
        return loss


class ColumnLoss(nn.Module):
    """Finding bodies and discs along a straightened column.

    Binary cross-entropy of centres, discs and bodies, cross-entropy of the role over the slices of bodies, and the
    absolute error of the axis over slices that hold some of a body.

    Args:
        positive_weight: how much more an error at a centre or a disc counts than one between them.
        role_weight, offset_weight: of those two parts.
    """

    def __init__(self, positive_weight: float = 3.0, role_weight: float = 0.3, offset_weight: float = 0.5) -> None:
        super().__init__()
        self.positive_weight, self.role_weight, self.offset_weight = positive_weight, role_weight, offset_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            prediction: (B, 9, Z), channels as in ``networks.COLUMN_CHANNELS``.
            target: (B, 6, Z), rows as in ``virtual.column_dataset.RandColumnViewd``.

        Raises:
            ValueError: on other shapes.
        """
        if prediction.shape[1] != 9 or target.shape[1] != 6:
            raise ValueError(
                f"prediction must have 9 channels and target 6, got {prediction.shape[1]} and {target.shape[1]}"
            )
        prediction = prediction.float()
        heat = target[:, :3]
        weight = torch.ones_like(heat)
        weight[:, :2] += self.positive_weight * heat[:, :2]
        loss = 3.0 * functional.binary_cross_entropy_with_logits(prediction[:, :3], heat, weight=weight)
        role = target[:, 3].round().long()
        known = role.where(role >= 0, -100)
        entropy = functional.cross_entropy(prediction[:, 3:7], known, ignore_index=-100, label_smoothing=0.03)
        loss = loss + self.role_weight * entropy.nan_to_num()  # NaN where no slice has a role
        near = (target[:, 2:3] > 0.2).float()
        error = functional.smooth_l1_loss(prediction[:, 7:], target[:, 4:], reduction="none", beta=0.1)
        return loss + self.offset_weight * (error * near).sum() / (2 * near.sum()).clamp(min=1)
