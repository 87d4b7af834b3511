"""Mixed precision on GPU and CPU."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from monai.inferers import SimpleInferer
from torch import Tensor
from torch.nn import functional

__all__ = ["AmpDtype", "AutocastInferer", "LocalizationInferer", "autocast", "bfloat16_is_fast"]

AmpDtype = Literal["bfloat16", "float16"]


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Return whether ``device`` multiplies bfloat16 in hardware; emulation is slower than float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and probe is not None and bool(probe())


def autocast(device: torch.device, enabled: bool, dtype: str = "bfloat16") -> torch.autocast:
    """Return the autocast context of a device.

    Args:
        device: device of the network.
        enabled: whether to autocast.
        dtype: ``bfloat16``, or ``float16``, whose training scales the loss (``amp`` of MONAI's trainer).

    Raises:
        ValueError: for another dtype.
    """
    if dtype not in ("bfloat16", "float16"):
        raise ValueError(f"amp_dtype must be 'bfloat16' or 'float16', got {dtype!r}")
    return torch.autocast(device.type, dtype=getattr(torch, dtype), enabled=enabled)


class AutocastInferer(SimpleInferer):
    """Call the network once under autocast and return float32.

    MONAI's ``amp=True`` autocasts on CUDA only. bfloat16 needs no gradient scaling, so this serves training on both
    devices.

    Args:
        enabled: whether to autocast.
        divisor: spatial sizes are padded at their far end to a multiple of this; the output has the original size.
        minimum: least padded size (default: the divisor); instance normalisation needs more than one value at the
            deepest level.
        padding_value: value of the padding in the network's input units (0 is air after scaling).
        dtype: see ``autocast``.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(
        self,
        enabled: bool = True,
        divisor: int = 1,
        minimum: int | None = None,
        padding_value: float = 0.0,
        dtype: AmpDtype = "bfloat16",
    ) -> None:
        super().__init__()
        minimum = divisor if minimum is None else minimum
        if divisor < 1 or minimum < 1 or minimum % divisor:
            raise ValueError(f"divisor must be at least 1 and minimum a multiple of it, got {divisor} and {minimum}")
        self.enabled = enabled
        self.divisor = divisor
        self.minimum = minimum
        self.padding_value = padding_value
        self.dtype = dtype
        autocast(torch.device("cpu"), False, dtype)  # refuse another dtype before the first image

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        shape = inputs.shape[2:]
        wanted = [max(self.minimum, size + -size % self.divisor) for size in shape]
        pad = [n for size, full in zip(reversed(shape), reversed(wanted), strict=True) for n in (0, full - size)]
        padded = functional.pad(inputs, pad, value=self.padding_value) if any(pad) else inputs
        with autocast(inputs.device, self.enabled, self.dtype):
            result = network(padded, *args, **kwargs)
        if any(pad):
            result = result[(slice(None), slice(None), *(slice(size) for size in shape))]
        return result.float()


class LocalizationInferer(AutocastInferer):
    """``AutocastInferer`` for a network that was trained on whole trunks: narrower scans are surrounded by water.

    Narrow scans are crops about the spine. Air as padding would look like the outside of the body, and the empty parts
    of a crop or an oblique grid like lung.

    Args:
        whole: least size of a trunk in voxels along x and y; narrower scans are padded to it.
        water: HU 0 in the network's input units.
        empty: upper limit of empty voxels of a narrow scan, in the network's input units.
        enabled, divisor, minimum, dtype: see ``AutocastInferer``.
    """

    def __init__(
        self,
        whole: tuple[int, int] = (64, 48),
        water: float = 0.5,
        empty: float = 0.01,
        enabled: bool = True,
        divisor: int = 1,
        minimum: int | None = None,
        dtype: AmpDtype = "bfloat16",
    ) -> None:
        super().__init__(enabled, divisor, minimum, dtype=dtype)
        self.whole, self.water, self.empty = tuple(whole), water, empty

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        shape = inputs.shape[2:4]
        if shape[0] >= self.whole[0]:
            return super().__call__(inputs, network, *args, **kwargs)
        # also to the divisor, so that the base class does not pad with air
        missing = [max(w, s + -s % self.divisor) - s for w, s in zip(self.whole, shape, strict=True)]
        before = [m // 2 for m in missing]
        after = [m - b for m, b in zip(missing, before, strict=True)]
        filled = inputs.masked_fill(inputs < self.empty, self.water)
        padded = functional.pad(filled, (0, 0, before[1], after[1], before[0], after[0]), value=self.water)
        result = super().__call__(padded, network, *args, **kwargs)
        return result[:, :, before[0] : before[0] + shape[0], before[1] : before[1] + shape[1]]
