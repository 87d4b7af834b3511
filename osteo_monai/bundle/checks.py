"""Checks of the settings that a run needs: folder of the bundle, device, weights and images."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from osteo_monai.errors import ConfigError
from osteo_monai.weights import read_weights

__all__ = [
    "check_bundle_root",
    "check_images",
    "check_run",
    "check_seed",
    "check_weights",
    "require_file",
    "require_setting",
    "warn_random_start",
]


def check_run(bundle_root: str | os.PathLike[str], device: torch.device | str, amp_dtype: str = "bfloat16") -> None:
    """Check folder, device and type of autocast; the first run step of every config.

    Raises:
        ConfigError: when ``bundle_root`` has no configs, there is no such device, or it cannot compute with the type.
    """
    check_bundle_root(bundle_root)
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device must be cpu, cuda or cuda:N, got {str(device)!r}") from None
    devices = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= devices:
        raise ConfigError(
            f"device must be one of the {devices} CUDA devices of this machine or cpu, got {str(device)!r}"
        )
    if amp_dtype not in ("bfloat16", "float16") or (amp_dtype == "float16" and wanted.type != "cuda"):
        raise ConfigError(
            f"amp_dtype must be bfloat16, or float16 on a CUDA device, got {amp_dtype!r} on {str(device)!r}"
        )


def check_seed(seed: int, *evaluation: int) -> None:
    """Check that virtual training images are others than those of validation and test.

    Args:
        seed: of the training images.
        evaluation: seeds of the images of validation and test.

    Raises:
        ConfigError: when the seeds are equal.
    """
    if seed in evaluation:
        raise ConfigError(f"seed of training must differ from those of validation and test, got {seed} for two of them")


def check_weights(checkpoint: str | os.PathLike[str], network: torch.nn.Module) -> None:
    """Check that a checkpoint holds the weights of a network; names and shapes must agree.

    Args:
        checkpoint: state dict, or a mapping with the state dict as ``model``.
        network: network of the bundle.

    Raises:
        ConfigError: when the file is missing, no PyTorch checkpoint, or of another network.
    """
    require_file("checkpoint", checkpoint)
    state, own, name = read_weights(checkpoint), network.state_dict(), Path(checkpoint).name
    wrong = sorted(own.keys() ^ state.keys()) or sorted(key for key in own if own[key].shape != state[key].shape)
    if wrong:
        raise ConfigError(
            f"checkpoint must hold the weights of this network, got {name!r}, which differs in {len(wrong)} of "
            f"{len(own)} tensors, such as {wrong[0]!r}"
        )


def check_images(images: Sequence[Any], dataset_dir: str | os.PathLike[str], pattern: str) -> None:
    """Check that inference has at least one image.

    Args:
        images: images to read, from ``image`` or from ``dataset_dir``: paths, or tuples of paths.
        dataset_dir: folder that is searched when ``image`` is empty.
        pattern: files that are searched there, such as ``NIfTI files``.

    Raises:
        ConfigError: when there is no image, or one is no path.
    """
    for item in images:
        for path in item if isinstance(item, tuple) else (item,):
            if not isinstance(path, str | os.PathLike):
                raise ConfigError(f"image and segmentation must be paths of files, got {path!r}")
    if images:
        return
    folder = Path(dataset_dir)
    found = "an empty one" if folder.is_dir() else "none"
    if folder.is_dir() and any(folder.iterdir()):
        found = "one without such files"
    raise ConfigError(
        f"dataset_dir must be a folder with {pattern}, got {found}: {folder.name!r}; set --image or --dataset_dir"
    )


def check_bundle_root(bundle_root: str | os.PathLike[str]) -> None:
    """Check that a folder is that of a bundle.

    Raises:
        ConfigError: when it has no ``configs/metadata.json``.
    """
    if not Path(bundle_root, "configs", "metadata.json").is_file():
        raise ConfigError(
            f"bundle_root must be the folder of the bundle, got {os.fspath(bundle_root)!r} without configs; "
            "set --bundle_root"
        )


def require_file(setting: str, path: str | os.PathLike[str]) -> None:
    """Check that a setting names a file.

    Raises:
        ConfigError: when there is no such file.
    """
    if not Path(path).is_file():
        advice = "train first or set" if setting == "checkpoint" else "set"
        raise ConfigError(
            f"{setting} must be a file, got {Path(path).name!r}, which does not exist; {advice} --{setting}"
        )


def require_setting(setting: str, value: object) -> None:
    """Check that a setting without a default was given.

    Raises:
        ConfigError: when it is empty.
    """
    if not value:
        raise ConfigError(f"{setting} must be set, got no value; set --{setting}")


def warn_random_start(imagenet_weights: str | os.PathLike[str]) -> None:
    """Log a warning if a training begins without ImageNet weights: its paper begins with them."""
    if not os.fspath(imagenet_weights):
        logging.getLogger(__name__).warning(
            "Training begins with random weights, the paper's with those of ImageNet: set --imagenet_weights FILE."
        )
