"""Copies between host and GPU that overlap with the computation, and calls of a network that overlap on a CPU."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Fetched", "divisible", "fetch", "send"]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; from host to GPU through pinned memory, without waiting for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Fetched:
    """A tensor on its way to a device; ``wait`` returns it when the copy has ended."""

    tensor: Tensor
    done: torch.cuda.Event | None = None

    def wait(self) -> Tensor:
        if self.done is not None:
            self.done.synchronize()
        return self.tensor


def fetch(tensor: Tensor, device: torch.device) -> Fetched:
    """Start the copy of a tensor to a device; from GPU to host into pinned memory, while the GPU continues."""
    if tensor.device.type != "cuda" or device.type != "cpu":
        return Fetched(tensor.to(device))
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return Fetched(host, done)


def divisible(network: Callable[..., Tensor], device: torch.device) -> bool:
    """Return whether threads may call the network at the same time: without gradients, and if it is not compiled."""
    return device.type == "cpu" and not torch.is_grad_enabled() and not hasattr(network, "_orig_mod")
