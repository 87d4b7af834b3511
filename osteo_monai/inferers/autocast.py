"""Inference on the axial slices of a volume, and mixed precision on GPU and CPU."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.utils import convert_to_dst_type
from torch import Tensor
from torch.nn import functional

__all__ = ["AutocastInferer", "AxialSliceInferer", "LocalizationInferer", "bfloat16_is_fast"]

Output = Literal["logits", "probability", "label"]


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Return whether ``device`` multiplies bfloat16 in hardware; emulation is slower than float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and probe is not None and bool(probe())


class AutocastInferer(SimpleInferer):
    """Call the network once under bfloat16 autocast and return float32.

    MONAI's ``amp=True`` autocasts on CUDA only. bfloat16 needs no gradient scaling, so this serves training on both
    devices.

    Args:
        enabled: whether to autocast.
        divisor: spatial sizes are padded at their far end to a multiple of this; the output has the original size.
        minimum: least padded size (default: the divisor); instance normalisation needs more than one value at the
            deepest level.
        padding_value: value of the padding in the network's input units (0 is air after scaling).
    """

    def __init__(
        self, enabled: bool = True, divisor: int = 1, minimum: int | None = None, padding_value: float = 0.0
    ) -> None:
        super().__init__()
        minimum = divisor if minimum is None else minimum
        if divisor < 1 or minimum < 1 or minimum % divisor:
            raise ValueError(f"divisor must be at least 1 and minimum a multiple of it, got {divisor} and {minimum}")
        self.enabled = enabled
        self.divisor = divisor
        self.minimum = minimum
        self.padding_value = padding_value

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        shape = inputs.shape[2:]
        wanted = [max(self.minimum, size + -size % self.divisor) for size in shape]
        pad = [n for size, full in zip(reversed(shape), reversed(wanted), strict=True) for n in (0, full - size)]
        padded = functional.pad(inputs, pad, value=self.padding_value) if any(pad) else inputs
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.enabled):
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
        enabled, divisor, minimum: see ``AutocastInferer``.
    """

    def __init__(
        self,
        whole: tuple[int, int] = (64, 48),
        water: float = 0.5,
        empty: float = 0.01,
        enabled: bool = True,
        divisor: int = 1,
        minimum: int | None = None,
    ) -> None:
        super().__init__(enabled, divisor, minimum)
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


class AxialSliceInferer(Inferer):
    """Run a 2D network over the axial slices of (N, C, X, Y, Z) in batches; Z, the last axis, is axial.

    Whole slices need no sliding window: they are padded at their far edges to a size that the network can halve, and
    the output is written into one volume. With ``output`` ``"label"`` its memory does not depend on the number of
    output channels.

    Args:
        batch_size: slices per call of the network.
        divisor: X and Y are padded to a multiple of this (64 for the seven-level network).
        padding_value: value of the padding in the network's input units (0 is air after scaling).
        output: ``"logits"``: (N, K, X, Y, Z) of the network; ``"probability"``: sigmoid for one channel, softmax for
            more; ``"label"``: uint8 (N, 1, X, Y, Z), the sigmoid above 0.5 or the argmax.
        sw_device: device of the network; default: the input's device.
        device: device of the result; default: the input's device.
        amp: whether bfloat16 autocast is used.

    Raises:
        ValueError: when an argument is out of range, or an input has another shape.
    """

    def __init__(
        self,
        batch_size: int = 16,
        divisor: int = 64,
        padding_value: float = 0.0,
        output: Output = "logits",
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        amp: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1 or divisor < 1:
            raise ValueError(f"batch_size and divisor must be at least 1, got {batch_size} and {divisor}")
        if output not in ("logits", "probability", "label"):
            raise ValueError(f"output must be 'logits', 'probability' or 'label', got {output!r}")
        self.batch_size = batch_size
        self.divisor = divisor
        self.padding_value = padding_value
        self.output = output
        self.sw_device = sw_device
        self.device = device
        self.amp = amp

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the volume of the kind ``output``, a ``MetaTensor`` with the input's geometry if the input is one.

        An input (N, C, X, Y) is taken as N single slices and gives (N, K, X, Y).
        """
        if inputs.ndim not in (4, 5) or 0 in inputs.shape:
            raise ValueError(
                f"inputs must be (N, C, X, Y, Z) or (N, C, X, Y) and not empty, got shape {tuple(inputs.shape)}"
            )
        data = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        volume = data if data.ndim == 5 else data[..., None]
        n, _, x, y, z = volume.shape
        run_on = torch.device(self.sw_device) if self.sw_device is not None else volume.device
        keep_on = torch.device(self.device) if self.device is not None else volume.device
        pad = (0, -y % self.divisor, 0, -x % self.divisor)
        slices = volume.permute(0, 4, 1, 2, 3).flatten(0, 1)  # (N * Z, C, X, Y)
        result = torch.empty(0)
        for start in range(0, n * z, self.batch_size):
            batch = slices[start : start + self.batch_size].to(run_on)
            if any(pad):
                batch = functional.pad(batch, pad, value=self.padding_value)
            with torch.autocast(run_on.type, dtype=torch.bfloat16, enabled=self.amp):
                answer = network(batch.contiguous(), *args, **kwargs)
            answer = self._finish(answer[..., :x, :y])
            if start == 0:
                result = torch.empty((n * z, *answer.shape[1:]), dtype=answer.dtype, device=keep_on)
            result[start : start + len(answer)] = answer.to(keep_on)
        result = result.unflatten(0, (n, z)).permute(0, 2, 3, 4, 1)
        if data.ndim == 4:
            result = result[..., 0]
        return convert_to_dst_type(result, inputs, dtype=result.dtype, device=keep_on)[0]

    def _finish(self, answer: Tensor) -> Tensor:
        if self.output == "logits":
            return answer.float()
        if self.output == "label":
            return (answer > 0 if answer.shape[1] == 1 else answer.argmax(1, keepdim=True)).to(torch.uint8)
        return answer.float().sigmoid() if answer.shape[1] == 1 else answer.float().softmax(1)
