"""Handler that scores predicted bone densities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import SCREENED_LEVELS, DensityThresholds
from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure

__all__ = ["DensityReport"]

Densities = NDArray[np.floating]


class CalibratedNetwork(Protocol):
    """Network with interval factors, see ``DensityRegressor``."""

    level_interval_factor: Tensor
    study_interval_factor: Tensor

    def calibrate(self, prediction: Tensor, levels: Tensor, studies: Tensor, coverage: float) -> None:
        """Set the interval factors."""


class DensityReport(EpochHandler):
    """Score predicted bone densities, and optionally calibrate their intervals.

    Adds to ``engine.state.metrics``, over studies of known density: ``bias`` (mean of predicted minus true, mg/cm3),
    ``error_sd`` (SD of the same), ``interval_coverage`` (share of true densities within the interval) and
    ``interval_width`` (mean, mg/cm3); over levels ``level_mae`` and ``level_interval_coverage``. Writes
    ``densities.png``: predicted over true densities with their intervals, and differences over means (Bland and Altman
    1986).

    The output must have items with ``pred`` (L, 2), see ``DensityRegressor``, and true densities ``label`` (L,) and
    ``study_label`` (1,) in mg/cm3, NaN if unknown.

    Args:
        network: network with the interval factors.
        folder: folder of the figure; empty for no figure.
        calibrate: whether the interval factors of the network are first set from the subjects of this epoch. Their
            coverage then equals ``coverage``; only the coverage of other subjects is a result.
        coverage: target of ``calibrate``.
        levels: vertebrae, in the order of the predictions.
    """

    def __init__(
        self,
        network: CalibratedNetwork,
        folder: str = "",
        calibrate: bool = False,
        coverage: float = 0.9,
        levels: Sequence[str] = SCREENED_LEVELS,
    ) -> None:
        self.network = network
        self.folder = Path(folder) if folder else None
        self.calibrate, self.coverage = calibrate, coverage
        self.levels = tuple(levels)
        self._rows: list[Tensor] = []

    def start(self) -> None:
        self._rows = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            parts = (item["pred"].flatten(), item["label"], item["study_label"])
            self._rows.append(torch.cat([part.detach().double().cpu() for part in parts]))

    def finish(self, engine: Engine) -> None:
        count = len(self.levels)
        rows = torch.stack(self._rows)
        if idist.get_world_size() > 1:  # each process has a part of the subjects
            rows = evenly_divisible_all_gather(rows.to(idist.device()), concat=True).cpu()
        prediction, truth, study = rows[:, : 2 * count].unflatten(1, (count, 2)), rows[:, 2 * count : -1], rows[:, -1]
        if self.calibrate:
            self.network.calibrate(prediction, truth, study, self.coverage)
        mean, sd = prediction[..., 0], (prediction[..., 1] / 2).exp()
        level_factor = float(self.network.level_interval_factor)
        level_error, level_known = (mean - truth).abs(), truth.isfinite()
        error, half = mean.mean(1) - study, float(self.network.study_interval_factor) * sd.mean(1)
        known = study.isfinite()
        engine.state.metrics.update(
            bias=float(error[known].mean()),
            error_sd=float(error[known].std()),
            interval_coverage=float((error.abs() <= half)[known].double().mean()),
            interval_width=float(2 * half.mean()),
            level_mae=float(level_error[level_known].mean()),
            level_interval_coverage=float((level_error <= level_factor * sd)[level_known].double().mean()),
        )
        if self.folder is not None and known.any():
            _draw(self.folder, study[known].numpy(), mean.mean(1)[known].numpy(), half[known].numpy())


def _draw(folder: Path, truth: Densities, predicted: Densities, half: Densities) -> None:
    """Write the figure of true and predicted densities (N,) with half their interval (N,), all in mg/cm3."""
    figure = new_figure(10, 4.5)
    left, right = figure.subplots(1, 2)
    left.errorbar(truth, predicted, half, fmt=".", ms=4, lw=0.5, alpha=0.6)
    limits = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    left.plot(limits, limits, color="black", lw=1)
    thresholds = DensityThresholds()
    for limit in (thresholds.osteoporosis_below, thresholds.normal_above):
        left.axvline(limit, color="grey", lw=0.8, ls=":")
        left.axhline(limit, color="grey", lw=0.8, ls=":")
    left.set_xlabel("true density (mg/cm3)")
    left.set_ylabel("predicted density with its interval (mg/cm3)")
    difference = predicted - truth
    right.plot((predicted + truth) / 2, difference, ".", ms=4, alpha=0.6)
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    for offset, style in ((0.0, "-"), (-spread, "--"), (spread, "--")):
        right.axhline(float(difference.mean()) + offset, color="black", lw=1, ls=style)
    right.set_xlabel("mean of predicted and true density (mg/cm3)")
    right.set_ylabel("predicted minus true (mg/cm3)")
    save_figure(figure, folder / "densities.png", dpi=100)
