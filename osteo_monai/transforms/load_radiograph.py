"""Load radiographs and their masks with the checked reader."""

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
    """Replace the path of a radiograph (DICOM, PNG or JPEG) by its pixels, upright, bone bright.

    Output: float32 MetaTensor (1, rows, columns), 0..1; row 0 on top, column 0 at the viewer's left. Its ``meta`` holds
    ``filename_or_obj``, ``view``, ``spacing_mm`` (rows, columns; absent if unknown) and ``findings`` (codes).

    Args:
        keys: items with one path each.
        view: required view (``chest_frontal``, ``lumbar_ap``, ...); other views are refused. The item ``view_key`` of a
            record overrides it.
        view_key: item with the view of a record.
        mask_keys: items with paths of PNG masks on the grid of the first radiograph as it is stored; they are cropped
            and rotated with it and become float32 0 or 1. Optional in the records.
        check: whether the pixels are checked, cropped and rotated by their content. Images whose item ``virtual`` is
            true are not: they are upright, and may be smaller than a radiograph.
        allow_missing_keys: see MONAI's ``MapTransform``.

    Raises:
        UnusableInputError: when a file cannot be read, or a mask is not on the grid of its radiograph.
        ScanRefusedError: when a radiograph cannot be used.
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
        first: Radiograph | None = None
        check = self.check and not result.get("virtual", False)
        for key in self.key_iterator(result):
            path = Path(result[key])
            radiograph = read_radiograph(path, result.get(self.view_key) or self.view, check=check)
            first = first or radiograph
            meta: dict[str, Any] = {
                "filename_or_obj": str(path),
                "view": str(radiograph.view),
                "findings": [finding.code for finding in radiograph.findings],
            }
            if radiograph.spacing_mm:
                meta["spacing_mm"] = radiograph.spacing_mm
            result[key] = MetaTensor(torch.from_numpy(radiograph.pixels)[None], meta=meta)
        for key in self.mask_keys:
            if first is not None and result.get(key):
                try:
                    mask = np.ascontiguousarray(first.layout.apply(read_mask(Path(result[key]))), np.float32)
                except ValueError as error:
                    raise UnusableInputError(f"{key} must be on the grid of its radiograph: {error}.") from None
                result[key] = MetaTensor(torch.from_numpy(mask)[None], meta={"filename_or_obj": str(result[key])})
        return result
