"""Centre heat map, the second training target of the localiser, from a label map of levels."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from osteo_monai.domain import VertebraLevel

__all__ = ["CentreHeatd"]


class CentreHeatd(MapTransform):
    """Convert a label map of levels (1, X, Y, Z) to (2, X, Y, Z): labels, and a Gaussian at the centre of each body.

    T1 to T7 become T8, the class "T8 or above". A body that touches the lowest or highest slice is cut: its centre is
    unknown, and it has no Gaussian.

    Args:
        keys: label maps; ``MetaTensor`` with isotropic or other axis-aligned spacing.
        sd_mm: standard deviation of the Gaussian, as in ``VirtualVolumeDataset``.
    """

    def __init__(self, keys: KeysCollection, sd_mm: float = 6.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if sd_mm <= 0:
            raise ValueError(f"sd_mm must be positive, got {sd_mm}")
        self.sd_mm = sd_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._targets(result[key])
        return result

    def _targets(self, label: MetaTensor) -> MetaTensor:
        labels = np.rint(label.cpu().numpy()[0]).astype(np.int64)
        spacing = torch.linalg.norm(label.affine[:3, :3].double(), dim=0).tolist()
        heat = np.zeros(labels.shape, np.float32)
        grids = np.ogrid[tuple(slice(n) for n in labels.shape)]
        for value in range(VertebraLevel.T1.label, VertebraLevel.T13.label + 1):
            body = labels == value
            touches_end = body[:, :, 0].any() or body[:, :, -1].any()
            if value == VertebraLevel.SACRUM.label or touches_end or not body.any():
                continue
            centre = ndimage.center_of_mass(body)
            distance = sum(((g - c) * s) ** 2 for g, c, s in zip(grids, centre, spacing, strict=True))
            np.maximum(heat, np.exp(-distance / (2 * self.sd_mm**2)), out=heat)
        upper = (labels >= VertebraLevel.T1.label) & (labels < VertebraLevel.T8.label)
        labels[upper] = VertebraLevel.T8.label
        stacked = torch.from_numpy(np.stack([labels.astype(np.float32), heat]))
        return MetaTensor(stacked, meta=label.meta, applied_operations=label.applied_operations)
