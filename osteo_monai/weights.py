"""Weights of networks as files."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from osteo_monai.errors import ConfigError
from osteo_monai.utils.files import file_sha256, writing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_weights", "write_weights"]


def read_weights(checkpoint: str | os.PathLike[str]) -> "dict[str, Tensor]":
    """Read the tensors of a checkpoint on the CPU, without running code that a pickle file may hold.

    Args:
        checkpoint: state dict, or a mapping with the state dict as ``model``.

    Raises:
        ConfigError: when the file is missing or no PyTorch checkpoint.
    """
    import torch

    name = Path(checkpoint).name
    try:
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"checkpoint must be a file, got {name!r}, which does not exist") from None
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):  # torch raises any of these for other files
        raise ConfigError(f"checkpoint must be a state dict saved by PyTorch, got {name!r}") from None
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or any(not isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"checkpoint must be a state dict saved by PyTorch, got {name!r}")
    return state


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
