"""Memory format and compilation of a network on its device."""

from typing import Any, cast

import torch
from torch import nn

__all__ = ["on_device"]


def on_device(
    network: nn.Module, device: torch.device | str, channels_last: bool = False, compile_backend: str = ""
) -> nn.Module:
    """Move a network to a device in place, and return it or its compiled form, which shares the weights.

    Args:
        network: 2D or 3D network.
        device: device of the weights.
        channels_last: whether the weights of convolutions are in channels-last order, in which cuDNN and oneDNN compute
            the whole network then.
        compile_backend: backend of ``torch.compile`` such as ``inductor``, which needs a C++ compiler or Triton; empty:
            no compilation.

    Raises:
        ValueError: when PyTorch has no such backend.
    """
    network.to(device)
    if channels_last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for weights in network.parameters():
            if weights.dim() in formats:
                weights.data = weights.data.contiguous(memory_format=formats[weights.dim()])
    if not compile_backend:
        return network
    known = torch.compiler.list_backends(exclude_tags=())
    if compile_backend not in known:
        raise ValueError(f"compile_backend must be one of {', '.join(known)} or empty, got {compile_backend!r}")
    compiled: Any = torch.compile(network, backend=compile_backend, dynamic=True)
    return cast(nn.Module, compiled)
