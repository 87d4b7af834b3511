"""Inference on the axial slices of a volume."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from monai.utils import convert_to_dst_type
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from osteo_monai.inferers.autocast import AmpDtype, autocast
from osteo_monai.inferers.transfer import Fetched, divisible, fetch, send
from osteo_monai.utils.threads import parallel

__all__ = ["AxialSliceInferer"]

Output = Literal["logits", "probability", "label"]
Blending = Literal["gaussian", "constant"]
Crop = Literal["plane", "blocks", "body"]

_BACKGROUND_LOGIT = -100.0


@dataclass(frozen=True)
class _Box:
    """Rectangle of a slice of ``x`` rows from ``x0`` and ``y`` columns from ``y0``, padded to ``size``."""

    x0: int
    y0: int
    x: int
    y: int
    size: tuple[int, int]

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.x0, self.x0 + self.x), slice(self.y0, self.y0 + self.y)


class AxialSliceInferer(Inferer):
    """Run a 2D network over the axial slices of (N, C, X, Y, Z) in batches; Z, the last axis, is axial.

    Instance normalisation and pooling see the whole input of the network, so that its answer depends on the share of
    air. ``crop`` selects what it sees, so that the answer does not depend on the size of the plane. Inputs larger than
    ``roi_size`` are covered by MONAI's sliding windows. With ``output`` ``"label"`` the memory does not depend on the
    number of output channels.

    Args:
        batch_size: slices per call of the network, and windows per call.
        divisor: inputs are padded at their far edges to a multiple of this (64 for the seven-level network).
        padding_value: value of the padding in the network's input units (0 is air after scaling).
        output: ``"logits"``: (N, K, X, Y, Z) of the network; ``"probability"``: sigmoid for one channel, softmax for
            more; ``"label"``: uint8 (N, 1, X, Y, Z), the sigmoid above 0.5 or the argmax.
        sw_device: device of the network; default: the input's device.
        device: device of the result; default: the input's device.
        amp: whether autocast is used.
        amp_dtype: see ``autocast``.
        crop: input of the network. ``"plane"``: the whole slice. ``"blocks"``: the smallest square of blocks of
            ``divisor`` pixels, counted from the first pixel of the slice, that contains its pixels other than
            ``padding_value``; padding by whole blocks changes nothing. ``"body"``: the box around these pixels; no
            padding changes anything. Outside of it is background: probability 0, logit -100 (with more than one channel
            the first has logit 0).
        roi_size: size (X, Y) of the windows, multiples of ``divisor``; None: the whole input. An input that is smaller
            along an axis is not padded to the window.
        overlap: least share of a window that neighbouring windows have in common, 0 or more and below 1.
        mode: weights of overlapping windows: ``"gaussian"`` or ``"constant"``, see MONAI's ``SlidingWindowInferer``.
        progress: whether a progress bar is shown on stderr, if it is a terminal.

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
        amp_dtype: AmpDtype = "bfloat16",
        crop: Crop = "plane",
        roi_size: Sequence[int] | None = None,
        overlap: float = 0.25,
        mode: Blending = "gaussian",
        progress: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1 or divisor < 1:
            raise ValueError(f"batch_size and divisor must be at least 1, got {batch_size} and {divisor}")
        if output not in ("logits", "probability", "label"):
            raise ValueError(f"output must be 'logits', 'probability' or 'label', got {output!r}")
        if crop not in ("plane", "blocks", "body"):
            raise ValueError(f"crop must be 'plane', 'blocks' or 'body', got {crop!r}")
        _check_windows(roi_size, divisor, overlap, mode)
        autocast(torch.device("cpu"), False, amp_dtype)  # refuse another dtype before the first image
        self.batch_size = batch_size
        self.divisor = divisor
        self.padding_value = padding_value
        self.output = output
        self.sw_device = sw_device
        self.device = device
        self.amp = amp
        self.amp_dtype = amp_dtype
        self.crop = crop
        self.roi_size = None if roi_size is None else (int(roi_size[0]), int(roi_size[1]))
        self.overlap = overlap
        self.mode = mode
        self.progress = progress

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
        slices = volume.permute(0, 4, 1, 2, 3).flatten(0, 1)  # (N * Z, C, X, Y)
        result = torch.empty(0)
        waiting: tuple[list[tuple[int, _Box]], Fetched] | None = None
        batches = self._batches(slices)

        def answered(batch: list[tuple[int, _Box]]) -> Tensor:
            return self._answer(slices, batch, network, run_on, *args, **kwargs)

        # batches in parallel scale better on a CPU than the operations of a batch
        answers = parallel(answered, batches, None if divisible(network, run_on) else 1)
        for batch, answer in self._progress(batches, answers):
            if waiting is None:
                result = self._background((n * z, answer.shape[1], x, y), answer.dtype, keep_on)
            else:  # while the GPU computes this batch, the one before is stored
                _store(result, *waiting)
            waiting = batch, fetch(answer, keep_on)
        if waiting is not None:
            _store(result, *waiting)
        result = result.unflatten(0, (n, z)).permute(0, 2, 3, 4, 1)
        if data.ndim == 4:
            result = result[..., 0]
        return convert_to_dst_type(result, inputs, dtype=result.dtype, device=keep_on)[0]

    def _progress(
        self, batches: list[list[tuple[int, _Box]]], answers: Iterator[Tensor]
    ) -> Iterator[tuple[list[tuple[int, _Box]], Tensor]]:
        console = Console(stderr=True)
        hidden = not (self.progress and console.is_terminal)
        pairs = zip(batches, answers, strict=True)
        yield from track(pairs, "Slices", len(batches), console=console, transient=True, disable=hidden)

    def _batches(self, slices: Tensor) -> list[list[tuple[int, _Box]]]:
        """Return the index and box of each slice, in batches whose padded boxes have one size."""
        groups: dict[tuple[int, int], list[tuple[int, _Box]]] = {}
        for index, plane in enumerate(slices):
            box = self._box(plane)
            groups.setdefault(box.size, []).append((index, box))
        step = self.batch_size
        return [group[start : start + step] for group in groups.values() for start in range(0, len(group), step)]

    def _box(self, plane: Tensor) -> _Box:
        """Return the input of the network; one block if a slice has no pixels other than the padding value."""
        x, y = plane.shape[1:]
        if self.crop == "plane":
            return _Box(0, 0, x, y, (self._multiple(x), self._multiple(y)))
        content = (plane != self.padding_value).any(0)
        lines = [content.any(1 - axis).nonzero().flatten() for axis in (0, 1)]
        first = [int(line[0]) if len(line) else 0 for line in lines]
        if self.crop == "blocks":
            first = [start - start % self.divisor for start in first]
        length = [int(line[-1]) + 1 - start if len(line) else 1 for line, start in zip(lines, first, strict=True)]
        size = self._multiple(length[0]), self._multiple(length[1])
        if self.crop == "blocks":
            size = max(size), max(size)
        return _Box(first[0], first[1], min(size[0], x - first[0]), min(size[1], y - first[1]), size)

    def _multiple(self, length: int) -> int:
        return length + -length % self.divisor

    def _answer(
        self,
        slices: Tensor,
        batch: list[tuple[int, _Box]],
        network: Callable[..., Tensor],
        device: torch.device,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Return the answer for a batch on the padded boxes."""
        size = batch[0][1].size
        planes = []
        for index, box in batch:
            plane = slices[(index, slice(None), *box.slices)]
            pad = (0, size[1] - box.y, 0, size[0] - box.x)
            planes.append(functional.pad(plane, pad, value=self.padding_value) if any(pad) else plane)
        stacked = send(torch.stack(planes), device)
        with autocast(device, self.amp, self.amp_dtype):
            if self.roi_size is None or (size[0] <= self.roi_size[0] and size[1] <= self.roi_size[1]):
                answer = network(stacked, *args, **kwargs)
            else:
                windowed: Any = sliding_window_inference(
                    stacked,
                    (min(size[0], self.roi_size[0]), min(size[1], self.roi_size[1])),
                    self.batch_size,
                    lambda windows: network(windows, *args, **kwargs).float(),
                    overlap=self.overlap,
                    mode=self.mode,
                    cval=self.padding_value,
                )
                answer = windowed
        return self._finish(answer)

    def _finish(self, answer: Tensor) -> Tensor:
        if self.output == "logits":
            return answer.float()
        if self.output == "label":
            return (answer > 0 if answer.shape[1] == 1 else answer.argmax(1, keepdim=True)).to(torch.uint8)
        return answer.float().sigmoid() if answer.shape[1] == 1 else answer.float().softmax(1)

    def _background(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return what the result is outside of the boxes."""
        result = torch.zeros(shape, dtype=dtype, device=device)
        several = shape[1] > 1
        if self.output == "logits":
            result[:, int(several) :] = _BACKGROUND_LOGIT
        elif self.output == "probability" and several:
            result[:, 0] = 1.0
        return result


def _store(result: Tensor, batch: list[tuple[int, _Box]], fetched: Fetched) -> None:
    """Write the answers of a batch into the result, without their padding."""
    for (index, box), answer in zip(batch, fetched.wait(), strict=True):
        result[(index, slice(None), *box.slices)] = answer[:, : box.x, : box.y]


def _check_windows(roi_size: Sequence[int] | None, divisor: int, overlap: float, mode: str) -> None:
    """Raise ``ValueError`` when an argument of the windows is out of range."""
    if roi_size is not None and (len(roi_size) != 2 or any(size < 1 or size % divisor for size in roi_size)):
        raise ValueError(f"roi_size must be two positive multiples of {divisor}, got {tuple(roi_size)}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}")
    if mode not in ("gaussian", "constant"):
        raise ValueError(f"mode must be 'gaussian' or 'constant', got {mode!r}")
