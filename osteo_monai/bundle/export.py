"""Files that are written into a bundle: merged configs, and the weights of a training."""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from osteo_monai.utils.files import file_sha256, write_text, writing

__all__ = ["export_weights", "merge_configs", "write_merged_configs"]

_SHARED = "_shared"
"""Folder beside the bundles. Its configs are written into all of them, those of a subfolder into one group."""

_GROUPS = {
    "osteoporosis_classification_chest_xray": "radiograph_classification",
    "osteoporosis_classification_lumbar_xray": "radiograph_classification",
}

Config = dict[str, Any]


def merge_configs(folder: str | os.PathLike[str]) -> dict[str, Config]:
    """Return the configs of a bundle that are merged from other configs, by file name.

    - A config of ``_shared``, then that of the bundle's group, then the bundle's own ``<name>_overlay.json``: a
      top-level id of the later file replaces that of the earlier one. Skipped if the folder ``_shared`` is missing.
    - ``inference.json``: ``common.json``, then ``inference_overlay.json``, by MONAI's rules. MONAI Label and MONAI
      Deploy read this file only.

    Args:
        folder: folder of the bundle.
    """
    bundle = Path(folder).resolve()
    configs = bundle / "configs"
    shared = bundle.parent / _SHARED
    sources = [shared, shared / _GROUPS[bundle.name]] if bundle.name in _GROUPS else [shared]
    layers: dict[str, list[Path]] = {}
    for source in sources:
        for file in sorted(source.glob("*.json")):
            layers.setdefault(file.name, []).append(file)
    for name, files in layers.items():
        overlay = configs / f"{name.removesuffix('.json')}_overlay.json"
        files += [overlay] if overlay.is_file() else []
    merged = {name: _united(files) for name, files in layers.items()}
    inference = ConfigParser(config={})
    for name in ("common.json", "inference_overlay.json"):
        for key, value in (merged.get(name) or _read(configs / name)).items():
            merge_kv(inference, key, json.loads(json.dumps(value)))
    return merged | {"inference.json": {key: value for key, value in inference.get().items() if key != "_meta_"}}


def write_merged_configs(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the configs of ``merge_configs`` into the bundle and return their paths."""
    files = []
    for name, config in merge_configs(folder).items():
        file = Path(folder) / "configs" / name
        write_text(file, json.dumps(config, indent=4, ensure_ascii=False) + "\n")
        files.append(file)
    return files


def export_weights(checkpoint: str | os.PathLike[str], target: str | os.PathLike[str], half: bool = True) -> str:
    """Write the weights of a training checkpoint as a bundle's ``model.pt`` and return the file's SHA-256.

    Args:
        checkpoint: ``model.pt`` (best) or ``checkpoint_epoch=N.pt`` of a training.
        target: file to write.
        half: whether float32 tensors are stored in half precision.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    if half:
        state = {k: v.half() if v.dtype is torch.float32 else v for k, v in state.items()}
    with writing(target) as temporary, TemporaryDirectory() as folder:
        # torch writes the name of the file into it: a random name would change the checksum of equal weights
        file = Path(folder, Path(target).name)
        torch.save({k: v.contiguous() for k, v in state.items()}, file)
        shutil.copyfile(file, temporary)
    return file_sha256(target)


def _united(files: list[Path]) -> Config:
    """Return the first config with the top-level ids of the others, except their descriptions of the file."""
    first, *others = map(_read, files)
    for other in others:
        first |= {key: value for key, value in other.items() if key != "_desc_"}
    return first


def _read(file: Path) -> Config:
    content: Config = json.loads(file.read_text(encoding="utf-8"))
    return content
