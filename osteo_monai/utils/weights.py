"""Weights of networks as files."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from osteo_monai.utils.files import file_sha256, writing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_weights", "write_weights"]


def read_weights(checkpoint: str | os.PathLike[str]) -> "dict[str, Tensor]":
    """Return the state dict of a checkpoint: the file itself, or its entry ``model``."""
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = state.get("model", state)
    return weights


def write_weights(state: "Mapping[str, Tensor]", target: str | os.PathLike[str], half: bool = True) -> str:
    """Write a state dict and return the file's SHA-256, which depends on the weights and the file's name only.

    Args:
        state: weights by name.
        target: file to write.
        half: whether float32 tensors are stored in half precision.
    """
    import torch

    if half:
        state = {k: v.half() if v.dtype is torch.float32 else v for k, v in state.items()}
    with writing(target) as temporary, TemporaryDirectory() as folder:
        # torch writes the name of the file into it: a random name would change the checksum of equal weights
        file = Path(folder, Path(target).name)
        torch.save({k: v.contiguous() for k, v in state.items()}, file)
        shutil.copyfile(file, temporary)
    return file_sha256(target)
