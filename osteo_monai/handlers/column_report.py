"""Handler that scores the column network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.transforms.column_decoding import DISC_MINIMUM, decode_column

__all__ = ["ColumnReport"]

_IN_BODY = 0.2
"""Share of a body in a slice from which the slice counts as inside the body."""


class ColumnReport(EpochHandler):
    """Score the column network: bodies within 6 mm, discs within 4 mm, and the roles of the located bodies.

    Adds to ``engine.state.metrics``: ``centre_f1`` (harmonic mean of sensitivity and precision of the bodies),
    ``centre_error_mm`` (median over the located bodies), ``spurious_per_column``, ``disc_rate`` (sensitivity of discs)
    and ``role_accuracy`` (of the located bodies with a role). A body that the edge of the crop cuts is not counted,
    unless it is predicted as complete: then it is spurious.

    Call it with an evaluator's output before a handler that keeps the best weights by these metrics.

    Args:
        step_mm: distance of slices.
        pred_key, label_key: items of the output, (9, Z) and (6, Z), see ``RandColumnViewd``.
    """

    CENTRE_MM, DISC_MM = 6.0, 4.0

    def __init__(self, step_mm: float, pred_key: str = "pred", label_key: str = "label") -> None:
        self.step_mm, self.pred_key, self.label_key = step_mm, pred_key, label_key
        self.start()

    def start(self) -> None:
        self._errors: list[float] = []
        self._true = self._spurious = self._columns = 0
        self._roles: list[bool] = []
        self._discs: list[bool] = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            self.add(item[self.pred_key].float().cpu().numpy(), item[self.label_key].float().cpu().numpy())

    def add(self, logits: NDArray[np.floating], label: NDArray[np.floating]) -> None:
        """Count one column.

        Args:
            logits: (9, Z), output of the column network.
            label: (6, Z), see ``RandColumnViewd``.
        """
        z = np.arange(label.shape[1]) * self.step_mm
        bodies = decode_column(np.asarray(logits, float), np.column_stack([np.zeros((len(z), 2)), z]))
        centres, discs = (_heat_peaks(label[channel]) * self.step_mm for channel in (0, 1))
        heights = np.array([body.centre_mm[2] for body in bodies])
        is_true = np.zeros(len(bodies), bool)
        for centre in centres:
            distance = np.abs(heights - centre) if len(heights) else np.array([np.inf])
            nearest = int(distance.argmin())
            if distance[nearest] <= self.CENTRE_MM:
                is_true[nearest] = True
                self._errors.append(float(distance[nearest]))
                role = round(float(label[3][round(centre / self.step_mm)]))
                if role >= 0:
                    self._roles.append(int(np.argmax(bodies[nearest].role)) == role)
        for body, matched in zip(bodies, is_true, strict=True):
            # a body that the crop cuts is a body, though its label has no centre
            is_cut = label[2][round(body.centre_mm[2] / self.step_mm)] > _IN_BODY and not body.complete
            self._spurious += int(not matched and not is_cut)
        predicted = _heat_peaks(1.0 / (1.0 + np.exp(-logits[1])), DISC_MINIMUM) * self.step_mm
        self._discs += [bool(len(predicted) and np.abs(predicted - disc).min() <= self.DISC_MM) for disc in discs]
        self._columns += 1
        self._true += len(centres)

    def finish(self, engine: Engine) -> None:
        engine.state.metrics.update(self.metrics())

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the columns counted; NaN if undefined."""
        hits = len(self._errors)
        nan = float("nan")
        total = self._true + hits + self._spurious
        return {
            "centre_f1": 2 * hits / total if total else nan,
            "centre_error_mm": float(np.median(self._errors)) if hits else nan,
            "spurious_per_column": self._spurious / self._columns if self._columns else nan,
            "disc_rate": float(np.mean(self._discs)) if self._discs else nan,
            "role_accuracy": float(np.mean(self._roles)) if self._roles else nan,
        }


def _heat_peaks(heat: NDArray[np.floating], minimum: float = 0.8) -> NDArray[np.float64]:
    """Return the positions, in slices with fractions, of the maxima of a heat along the column."""
    peaks = [
        i
        for i in range(len(heat))
        if heat[i] >= minimum and heat[i] >= heat[max(0, i - 2) : i + 3].max() and (i == 0 or heat[i] > heat[i - 1])
    ]
    refined = []
    for peak in peaks:
        window = slice(max(0, peak - 2), peak + 3)
        refined.append(float((np.arange(len(heat))[window] * heat[window]).sum() / heat[window].sum()))
    return np.array(refined)
