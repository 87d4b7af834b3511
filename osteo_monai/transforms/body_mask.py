"""Mask of the vertebral bodies in a label map."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from osteo_monai.domain import LEVEL_LABELS, VertebraLevel

__all__ = ["VertebralBodyMaskd"]


class VertebralBodyMaskd(MapTransform):
    """Replace label maps (1, X, Y, Z) by masks: 1 in vertebral bodies (T1 to L6), 0 elsewhere, float32.

    Sacrum and ribs of the label map (see ``osteo_monai.domain.LEVEL_LABELS`` and ``RIB_LABEL``) become 0. Metadata are
    kept.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        labels = [label for level, label in LEVEL_LABELS.items() if level is not VertebraLevel.SACRUM]
        self._labels = torch.tensor(labels, dtype=torch.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            label = result[key].float()
            result[key] = torch.isin(label.round(), self._labels.to(label.device)).float()
        return result
