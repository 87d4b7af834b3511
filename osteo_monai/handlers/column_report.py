"""Handler that scores the column network."""

from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from osteo_monai.transforms.column_decoding import DISC_MINIMUM, decode_column

__all__ = ["ColumnReport"]


class ColumnReport:
    """Score the column network: bodies found within 6 mm, discs within 4 mm, and the roles of the bodies found.

    Adds to ``engine.state.metrics``: ``centre_f1`` (harmonic mean of the share of true bodies found and of found bodies
    that are true), ``centre_error_mm`` (median over those found), ``spurious_per_column``, ``disc_rate`` (of true
    discs) and ``role_accuracy`` (of bodies found that have a role). A body that the crop cuts is not asked for; found,
    it is spurious unless it is called cut.

    Args:
        step_mm: distance of slices.
        pred_key, label_key: items of the output, (9, Z) and (6, Z) as ``RandColumnViewd`` gives it.
    """

    CENTRE_MM, DISC_MM = 6.0, 4.0

    def __init__(self, step_mm: float, pred_key: str = "pred", label_key: str = "label") -> None:
        self.step_mm, self.pred_key, self.label_key = step_mm, pred_key, label_key
        self._reset()

    def _reset(self) -> None:
        self._errors: list[float] = []
        self._true = self._spurious = self._columns = 0
        self._roles: list[bool] = []
        self._discs: list[bool] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        # before a handler that keeps the best weights looks at the metrics
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._reset()

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            self.add(item[self.pred_key].float().cpu().numpy(), item[self.label_key].float().cpu().numpy())

    def add(self, logits: NDArray[np.floating], label: NDArray[np.floating]) -> None:
        """Count one column."""
        slices = label.shape[1]
        z = np.arange(slices) * self.step_mm
        axis = np.column_stack([np.zeros((slices, 2)), z])
        found = decode_column(np.asarray(logits, float), axis)
        truth, discs = (_heat_peaks(label[channel]) * self.step_mm for channel in (0, 1))
        self._columns += 1
        self._true += len(truth)
        heights = np.array([b.centre_mm[2] for b in found])
        taken = np.zeros(len(found), bool)
        for t in truth:
            distance = np.abs(heights - t) if len(heights) else np.array([np.inf])
            nearest = int(distance.argmin())
            if distance[nearest] <= self.CENTRE_MM:
                taken[nearest] = True
                self._errors.append(float(distance[nearest]))
                role = round(float(label[3][round(t / self.step_mm)]))
                if role >= 0:
                    self._roles.append(int(np.argmax(found[nearest].role)) == role)
        for body, is_true in zip(found, taken, strict=True):
            # a body that the crop cuts is one, though it has no centre to be found
            is_cut = label[2][round(body.centre_mm[2] / self.step_mm)] > 0.2 and not body.complete
            self._spurious += int(not is_true and not is_cut)
        seen = _heat_peaks(1.0 / (1.0 + np.exp(-logits[1])), DISC_MINIMUM) * self.step_mm
        self._discs += [bool(len(seen) and np.abs(seen - d).min() <= self.DISC_MM) for d in discs]

    def _report(self, engine: Engine) -> None:
        engine.state.metrics.update(self.metrics())

    def metrics(self) -> dict[str, float]:
        """Return the metrics of what was counted; NaN where there was nothing to count."""
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


def _heat_peaks(heat: NDArray[np.floating], least: float = 0.8) -> NDArray[np.float64]:
    """Return the slices, with fractions, of the maxima of a heat along the column."""
    peaks = [
        i
        for i in range(len(heat))
        if heat[i] >= least and heat[i] >= heat[max(0, i - 2) : i + 3].max() and (i == 0 or heat[i] > heat[i - 1])
    ]
    refined = []
    for p in peaks:
        near = slice(max(0, p - 2), p + 3)
        refined.append(float((np.arange(len(heat))[near] * heat[near]).sum() / heat[near].sum()))
    return np.array(refined)
