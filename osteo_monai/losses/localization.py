"""Losses of vertebra localization."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.transforms.level_naming import NAMED_LEVELS
from osteo_monai.transforms.vertebra_decoding import (
    BODY_CHANNEL,
    FIRST_NAME_CHANNEL,
    HEAT_CHANNEL,
    RIB_CHANNEL,
    SACRUM_CHANNEL,
)

__all__ = ["ColumnLoss", "VertebraLocalizationLoss"]


class VertebraLocalizationLoss(nn.Module):
    """Sum of separate losses for the location and the name of vertebral bodies.

    Location: weighted binary cross-entropy of the centre heat map, and binary cross-entropy plus Dice loss of bodies,
    sacrum and ribs. Name: cross-entropy of the level over the voxels of bodies, with equal weights of all bodies.

    Args:
        heat_weight, name_weight: weights of heat map and names relative to the masks.
        positive_weight: additional weight of an error at the centre of a body relative to the background.
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
            target: (B, 2, X, Y, Z): labels and centre heat map of ``VirtualVolumeDataset``.

        Raises:
            ValueError: for other numbers of channels.
        """
        if prediction.shape[1] != FIRST_NAME_CHANNEL + len(NAMED_LEVELS) or target.shape[1] != 2:
            raise ValueError(
                f"prediction must have {FIRST_NAME_CHANNEL + len(NAMED_LEVELS)} channels and target 2, "
                f"got {prediction.shape[1]} and {target.shape[1]}"
            )
        prediction = prediction.float()
        classes, heat = target[:, 0].round().long(), target[:, 1]
        heat_loss = functional.binary_cross_entropy_with_logits(
            prediction[:, HEAT_CHANNEL], heat, weight=1.0 + self.positive_weight * heat
        )
        loss = self.heat_weight * heat_loss + self._mask_loss(prediction, classes)
        names = self.index[classes]
        if (names >= 0).any():
            loss = loss + self.name_weight * _name_loss(prediction[:, FIRST_NAME_CHANNEL:], names)
        return loss

    def _mask_loss(self, prediction: Tensor, classes: Tensor) -> Tensor:
        """Return binary cross-entropy plus Dice loss of bodies, sacrum and ribs."""
        body = self.index[classes] >= 0
        masks = torch.stack([body, classes == VertebraLevel.SACRUM.label, classes == RIB_LABEL], 1).float()
        logits = prediction[:, [BODY_CHANNEL, SACRUM_CHANNEL, RIB_CHANNEL]]
        entropy = functional.binary_cross_entropy_with_logits(logits, masks)
        p = torch.sigmoid(logits)
        overlap = (p * masks).sum((0, 2, 3, 4))
        size = (p + masks).sum((0, 2, 3, 4))
        present = masks.sum((0, 2, 3, 4)) > 0
        dice = 1.0 - (2 * overlap + 1) / (size + 1)
        return entropy + (dice * present).sum() / present.sum().clamp(min=1)


def _name_loss(logits: Tensor, names: Tensor) -> Tensor:
    """Return the cross-entropy of names (B, X, Y, Z), -1 outside bodies, with equal weights of all bodies.

    Args:
        logits: (B, N, X, Y, Z) of N names.
        names: index of the name.
    """
    body = names >= 0
    batch, *_ = torch.nonzero(body, as_tuple=True)
    targets = names[body]
    entropy = functional.cross_entropy(logits.movedim(1, -1)[body], targets, reduction="none", label_smoothing=0.02)
    key = batch * len(NAMED_LEVELS) + targets
    count = torch.bincount(key, minlength=int(key.max()) + 1).float()
    share = 1.0 / count[key]
    return (entropy * share).sum() / share.sum()


class ColumnLoss(nn.Module):
    """Loss of bodies and discs along a straightened column.

    Binary cross-entropy of centres, discs and bodies, cross-entropy of the role over the slices of bodies, and smooth
    absolute error of the axis over slices with part of a body.

    Args:
        positive_weight: additional weight of an error at a centre or a disc.
        role_weight, offset_weight: weights of role and axis.
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
