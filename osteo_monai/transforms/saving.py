"""Writing the localiser's list of vertebrae beside its label map."""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = ["SaveVertebraed"]


class SaveVertebraed(MapTransform):
    """Write a list of ``LocatedVertebra`` to ``<output_dir>/<scan>_vertebrae.json``.

    Args:
        keys: items that hold such lists.
        output_dir: made if missing.
        image_key: item whose metadata names the scan's file.
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
            self.output_dir.mkdir(parents=True, exist_ok=True)
            text = json.dumps([_as_json(v) for v in result[key]], indent=2)
            (self.output_dir / f"{stem}_{key}.json").write_text(text + "\n")
        return result


def _as_json(vertebra: LocatedVertebra) -> dict[str, Any]:
    return {
        "level": vertebra.level.value,
        "certainty": vertebra.certainty,
        "runner_up": vertebra.runner_up.value if vertebra.runner_up else None,
        "centre_mm": vertebra.centre_mm,
        "superior_mm": vertebra.superior_mm,
        "inferior_mm": vertebra.inferior_mm,
        "complete": vertebra.complete,
    }
