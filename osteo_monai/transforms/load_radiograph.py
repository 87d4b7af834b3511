"""Loading radiographs, with the masks that belong to them, through the checked reader."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.radiograph import Radiograph, read_mask, read_radiograph

__all__ = ["LoadRadiographd"]


class LoadRadiographd(MapTransform):
    """Replace the path of a radiograph (DICOM, PNG or JPEG) by its pixels, upright and with bone bright.

    Out: float32 MetaTensor (1, rows, columns), 0..1; row 0 on top, column 0 at the viewer's left. Its ``meta`` holds
    ``filename_or_obj``, ``view``, ``spacing_mm`` (rows, columns; absent where unknown) and ``findings`` (codes).

    Args:
        keys: items with one path each.
        view: what is needed (``chest_frontal``, ``lumbar_ap``, ...); another view is refused. An item of a record that
            is named by ``view_key`` goes before it.
        view_key: item that names the view of a record.
        mask_keys: items with paths of PNG masks on the grid of the first radiograph as it is stored; they are cropped
            and turned along with it and become float32 0 or 1. Records without them pass.
        check: whether the pixels are checked, and cropped and turned by what they show; ``False`` for virtual images.
        allow_missing_keys: pass records without one of ``keys``.

    Raises:
        UnusableInputError: a file cannot be read, or a mask is not on its radiograph's grid.
        ScanRefusedError: a radiograph is not fit for use.
    """

    def __init__(
        self,
        keys: KeysCollection,
        view: str | None = None,
        view_key: str = "view",
        mask_keys: Sequence[str] | str = (),
        check: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.view, self.view_key, self.check = view, view_key, check
        self.mask_keys = (mask_keys,) if isinstance(mask_keys, str) else tuple(mask_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        read: Radiograph | None = None
        for key in self.key_iterator(result):
            path = Path(result[key])
            radiograph = read_radiograph(path, result.get(self.view_key) or self.view, check=self.check)
            read = read or radiograph
            meta: dict[str, Any] = {
                "filename_or_obj": str(path),
                "view": str(radiograph.view),
                "findings": [finding.code for finding in radiograph.findings],
            }
            if radiograph.spacing_mm:
                meta["spacing_mm"] = radiograph.spacing_mm
            result[key] = MetaTensor(torch.from_numpy(radiograph.pixels)[None], meta=meta)
        for key in self.mask_keys:
            if read is not None and result.get(key):
                try:
                    mask = np.ascontiguousarray(read.layout.apply(read_mask(Path(result[key]))), np.float32)
                except ValueError as error:
                    raise UnusableInputError(f"{key} does not fit its radiograph: {error}.") from None
                result[key] = MetaTensor(torch.from_numpy(mask)[None], meta={"filename_or_obj": str(result[key])})
        return result
