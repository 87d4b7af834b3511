"""Choice of the device that networks run on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["torch_device"]


def torch_device(device: str) -> "torch.device":
    """Return a torch device.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: CUDA if available, else the CPU.

    Raises:
        ValueError: when CUDA is requested and not available, or the name is not a device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device must be one that this machine has, got '{device}' without any CUDA device")
    return torch.device(device)
