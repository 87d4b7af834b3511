"""Write lists of located vertebrae or bodies as JSON files."""

import dataclasses
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from osteo_monai.utils.files import write_json

__all__ = ["SaveVertebraed"]


class SaveVertebraed(MapTransform):
    """Write a list of ``LocatedVertebra`` or ``FoundBody`` to ``<output_dir>/<scan>_<key>.json``.

    Args:
        keys: items with such lists.
        output_dir: folder of the files, made if missing.
        image_key: item whose metadata have the file name of the scan.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, image_key: str = "image") -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image = result.get(self.image_key)
        source = image.meta.get("filename_or_obj", "scan") if isinstance(image, MetaTensor) else "scan"
        stem = Path(str(source)).name.removesuffix(".gz").removesuffix(".nii")
        for key in self.key_iterator(result):
            write_json(self.output_dir / f"{stem}_{key}.json", [dataclasses.asdict(v) for v in result[key]])
        return result
