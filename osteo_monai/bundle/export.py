"""Files that are written into a bundle: merged configs, and the weights of a training."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from monai.networks.utils import convert_to_onnx

from osteo_monai.bundle.checks import check_weights
from osteo_monai.bundle.pins import check_trusted, config_files
from osteo_monai.errors import ConfigError
from osteo_monai.utils.files import write_text, writing
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.optional import import_optional
from osteo_monai.weights import read_weights, write_weights

__all__ = ["export_onnx", "export_weights", "merge_configs", "write_merged_configs"]

_SHARED = "_shared"
"""Folder beside the bundles. Its configs are written into all of them, those of a subfolder into one group."""

_GROUPS = {
    "osteoporosis_classification_chest_xray": "radiograph_classification",
    "osteoporosis_classification_lumbar_xray": "radiograph_classification",
}

_COMPLETE = {
    "train.json": ("common.json", "train_overlay.json"),
    "evaluate.json": ("common.json", "train_overlay.json", "evaluate_overlay.json"),
    "inference.json": ("common.json", "inference_overlay.json"),
}
"""Configs that run by themselves, and their sources in order."""

Config = dict[str, Any]


def merge_configs(folder: str | os.PathLike[str]) -> dict[str, Config]:
    """Return the configs of a bundle that are merged from other configs, by file name.

    - A config of ``_shared``, then that of the bundle's group, then the bundle's own ``<name>_own.json``: a top-level
      id of the later file replaces that of the earlier one. Skipped if the folder ``_shared`` is missing.
    - ``train.json``, ``evaluate.json`` and ``inference.json``: the sources in ``_COMPLETE``, by MONAI's rules.
      ``monai.bundle.load``, MONAI Label and MONAI Deploy read one of these files only.

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
        own = configs / f"{name.removesuffix('.json')}_own.json"
        files += [own] if own.is_file() else []
    merged = {name: _united(files) for name, files in layers.items()}
    for name, parts in _COMPLETE.items():
        if parts[-1] in merged or (configs / parts[-1]).is_file():
            merged[name] = _complete(
                {part: merged[part] if part in merged else _read(configs / part) for part in parts}
            )
    return merged


def write_merged_configs(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the configs of ``merge_configs`` into the bundle and return their paths."""
    files = []
    for name, config in merge_configs(folder).items():
        file = Path(folder) / "configs" / name
        write_text(file, json.dumps(config, indent=4, ensure_ascii=False) + "\n")
        files.append(file)
    return files


def export_weights(
    checkpoint: str | os.PathLike[str],
    target: str | os.PathLike[str],
    half: bool = True,
    others: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Write the weights of a training checkpoint as a bundle's ``model.pt`` and return the file's SHA-256.

    Args:
        checkpoint: ``model.pt`` (best) or ``checkpoint_epoch=N.pt`` of a training.
        target: file to write.
        half: whether float32 tensors are stored in half precision.
        others: further checkpoints of the same network; the mean of all weights is written. Use it for networks without
            batch normalisation, whose statistics have no such mean.

    Raises:
        ConfigError: when a file is no checkpoint, or not of the same network.
    """
    state = read_weights(checkpoint)
    if others:
        states = [state, *(read_weights(other) for other in others)]
        shapes = [{name: value.shape for name, value in one.items()} for one in states]
        if any(one != shapes[0] for one in shapes):
            raise ConfigError("checkpoints must be of one network, got weights of other names or shapes")
        state = {name: torch.stack([one[name].float() for one in states]).mean(0) for name in state}
    return write_weights(state, target, half)


def export_onnx(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    overlays: Sequence[str] = (),
    trust: bool = False,
) -> list[str]:
    """Write a bundle's network with its weights as an ONNX file whose sizes vary as the metadata allow.

    The first axis (batch) always varies, and so does each axis of the image whose size is a formula such as ``32*n`` in
    ``network_data_format``. Input ``image``, output ``pred``.

    Args:
        folder: folder of the bundle.
        target: file to write.
        overlays: configs of the bundle merged over its ``inference.json``, such as ``lateral``.
        trust: load a bundle that this release does not pin, see ``check_trusted``.

    Returns:
        Names of the axes that vary, in order.

    Raises:
        ConfigError: when the bundle is not trusted, or its weights are missing or of another network.
        MissingExtraError: the extra ``onnx`` is not installed.
    """
    import_optional("onnx", "onnx", "Export to ONNX")
    check_trusted(Path(folder), trust)
    configs = Path(folder) / "configs"
    parser = ConfigParser(ConfigParser.load_config_files(config_files(Path(folder), ["inference", *overlays])))
    parser["bundle_root"] = str(folder)
    formats = _read(configs / "metadata.json")["network_data_format"]
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    file = parser.get_parsed_content("checkpoint")
    check_weights(file, network)
    network.load_state_dict(read_weights(file))
    sizes = formats["inputs"]["image"]["spatial_shape"]
    names = [f"size_{axis}" if isinstance(size, str) else "" for axis, size in enumerate(sizes)]
    axes = {0: "batch", **{axis + 2: name for axis, name in enumerate(names) if name}}
    shape = [_example_size(size) if isinstance(size, str) else size for size in sizes]
    image = torch.rand(2, formats["inputs"]["image"]["num_channels"], *shape)
    with writing(target) as temporary, _without_fused_attention():
        convert_to_onnx(
            network,
            [image],
            input_names=["image"],
            output_names=["pred"],
            dynamic_axes={"image": axes, "pred": {0: "batch"}},
            filename=str(temporary),
            dynamo=False,  # the other exporter keeps the batch of the example
        )
    return list(axes.values())


def _example_size(formula: str) -> int:
    """Return a size that ``n`` or ``32*n`` allows; not the least, since a size of 1 would become a constant.

    Raises:
        ConfigError: for another formula.
    """
    found = re.fullmatch(r"(?:(\d+)\*)?n", formula)
    if found is None:
        raise ConfigError(f"spatial_shape must have sizes such as 32*n or n, got {formula!r}")
    return 2 * int(found[1] or 4)


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Switch off PyTorch's fused Transformer layers, which ONNX does not have; results agree up to rounding."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _united(files: list[Path]) -> Config:
    """Return the first config with the top-level ids of the others, except their descriptions of the file."""
    first, *others = map(_read, files)
    for other in others:
        first |= {key: value for key, value in other.items() if key != "_desc_"}
    return first


def _complete(parts: dict[str, Config]) -> Config:
    """Return the configs merged in order by MONAI's rules, with a description that names the files."""
    parser = ConfigParser(config={})
    for part in parts.values():
        for key, value in json.loads(json.dumps(part)).items():
            merge_kv(parser, key, value)
    files = " and ".join(", ".join(parts).rsplit(", ", 1))
    head = {"_desc_": f"Written by `osteo-monai bundle merge` from {files}: edit these."}
    return head | {key: value for key, value in parser.get().items() if key not in ("_meta_", "_desc_")}


def _read(file: Path) -> Config:
    content: Config = json.loads(read_input(file))
    return content
