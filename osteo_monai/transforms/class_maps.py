"""Class map from the sixteen channels of the localiser, or from its training labels."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.transforms.level_naming import NAMED_LEVELS

__all__ = ["CLASS_NAMES", "NAME_LABELS", "RIBS_LABEL", "LocalizationClassesd"]

RIBS_LABEL = RIB_LABEL
"""Label of all ribs in the localiser's training labels: ``osteo_monai.domain.RIB_LABEL``."""

NAME_LABELS: tuple[int, ...] = tuple(level.label for level in NAMED_LEVELS)
"""Labels of the name channels 4 to 15 of the localiser: T8 (T8 or above), T9 ... T13, L1 ... L6."""

CLASS_NAMES: tuple[str, ...] = (
    "background",
    "T8 or above",
    *(level.value for level in NAMED_LEVELS[1:]),
    "sacrum",
    "ribs",
)
"""Names of the classes of ``LocalizationClassesd``, by index."""


class LocalizationClassesd(MapTransform):
    """Convert a prediction (16, X, Y, Z) or a training label (2, X, Y, Z) to classes (1, X, Y, Z), int64.

    Prediction: channels 0 centre heat, 1 body, 2 sacrum, 3 ribs (logits), 4-15 logits of the names. A voxel has the
    most likely class of body, sacrum and ribs if its probability exceeds 0.5, and a body voxel its most likely name.
    Label: channel 0 holds level labels (``NAME_LABELS``; 8-14, T1-T7, count as T8 or above), 26 sacrum, 50 ribs.
    The classes are the indices of ``CLASS_NAMES``.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        table = torch.zeros(RIBS_LABEL + 1, dtype=torch.int64)
        table[VertebraLevel.T1.label : VertebraLevel.T8.label] = 1
        for index, label in enumerate(NAME_LABELS, start=1):
            table[label] = index
        table[VertebraLevel.SACRUM.label] = len(NAME_LABELS) + 1
        table[RIBS_LABEL] = len(NAME_LABELS) + 2
        self._table = table

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._classes(result[key])
        return result

    def _classes(self, image: Tensor) -> Tensor:
        x = image.as_tensor() if isinstance(image, MetaTensor) else image
        names = len(NAME_LABELS)
        if x.shape[0] == 4 + names:
            best, which = x[1:4].max(dim=0)
            sacrum_or_ribs = which + names  # 1 -> sacrum, 2 -> ribs
            classes = torch.where(which == 0, x[4:].argmax(dim=0) + 1, sacrum_or_ribs)
            return torch.where(best > 0, classes, torch.zeros_like(classes))[None]
        if x.shape[0] != 2:
            raise ValueError(
                f"image must have {4 + names} channels (prediction) or 2 (label), got shape {tuple(x.shape)}"
            )
        return self._table.to(x.device)[x[0].round().long().clamp_(0, RIBS_LABEL)][None]
