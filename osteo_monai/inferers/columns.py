"""Inference on a straightened column, averaged over mirrored and shifted views."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from osteo_monai.inferers.autocast import AmpDtype, autocast
from osteo_monai.inferers.transfer import divisible
from osteo_monai.utils.threads import run_parallel


class ColumnInferer(Inferer):
    """Average the logits over views that are mirrored left to right or shifted by whole voxels in x and y.

    Args:
        margin: voxels on each side of the network's window.
        shifts: shift (x, y) of each view in voxels, at most ``margin`` each.
        step_mm: voxel size in mm, for the offsets.
        enabled: whether autocast is used.
        dtype: see ``autocast``.

    Raises:
        ValueError: when there is no shift, or one exceeds the margin.
    """

    def __init__(
        self,
        margin: int = 2,
        shifts: Sequence[Sequence[int]] = ((0, 0), (2, 0), (-2, 0)),
        step_mm: float = 2.5,
        enabled: bool = False,
        dtype: AmpDtype = "bfloat16",
    ) -> None:
        super().__init__()
        if not shifts:
            raise ValueError("shifts must have at least one view, got none")
        if any(abs(s) > margin for shift in shifts for s in shift):
            raise ValueError(f"shifts must be at most the margin of {margin} voxels, got {list(shifts)}")
        self.margin, self.shifts, self.step_mm, self.enabled = margin, [tuple(s) for s in shifts], step_mm, enabled
        self.dtype = dtype
        autocast(torch.device("cpu"), False, dtype)  # refuse another dtype before the first image

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return (B, 9, Z) for columns (B, 1, X + 2 margin, Y + 2 margin, Z)."""
        columns = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        m = self.margin

        def answered(view: tuple[int, int, bool]) -> Tensor:
            dx, dy, mirrored = view
            window = columns[:, :, m + dx : columns.shape[2] - m + dx, m + dy : columns.shape[3] - m + dy]
            with autocast(columns.device, self.enabled, self.dtype):
                given = network(window.flip(2) if mirrored else window, *args, **kwargs)
            answer: Tensor = given.float().clone()
            if mirrored:
                answer[:, 7] = -answer[:, 7]
            answer[:, 7] += dx * self.step_mm / 10.0
            answer[:, 8] += dy * self.step_mm / 10.0
            return answer

        views = [(dx, dy, mirrored) for dx, dy in self.shifts for mirrored in (False, True)]
        answers = run_parallel(answered, views, None if divisible(network, columns.device) else 1)
        return reduce(torch.add, answers) / len(answers)
