"""Check that an image file holds Hounsfield units."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.plausibility import check_values

__all__ = ["CheckHounsfieldd"]


class CheckHounsfieldd(MapTransform):
    """Refuse images whose values cannot be Hounsfield units of a person: other modalities, masks, rescaled images.

    Images are tensors (1, X, Y, Z) as read from the file. An image without air passes: it may be a cropped CT.

    Raises:
        UnusableInputError: when the values cannot be Hounsfield units (``imaging.check_values``).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            values = torch.as_tensor(result[key]).numpy(force=True)[0].astype(np.float32, copy=False)
            refusals, _ = check_values(values, None, declared_ct=True)
            if refusals:
                raise UnusableInputError(f"{key} must be a CT in Hounsfield units: {refusals[0].message}")
        return result
