"""Handler that scores predicted bone densities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import SCREENED_LEVELS, DensityThresholds

__all__ = ["DensityReport"]


class DensityReport:
    """Score predicted bone densities, and calibrate their intervals where that is asked for.

    Adds to ``engine.state.metrics``, over studies whose density is known: ``bias`` (mean of predicted less true,
    mg/cm3), ``error_sd`` (of the same), ``interval_coverage`` (share of true densities within the interval) and
    ``interval_width`` (mean, mg/cm3); and over levels ``level_mae`` and ``level_interval_coverage``. Writes
    ``densities.png``: predicted over true densities with their intervals, and differences over means (Bland and Altman
    1986).

    Expects an output of items with ``pred`` (L, 2), see ``DensityRegressor``, and true densities ``label`` (L,) and
    ``study_label`` (1,) in mg/cm3, NaN where unknown.

    Args:
        network: whose interval factors are used.
        folder: receives the figure; made if missing. Empty: no figure.
        calibrate: set the network's factors from these people first; then the coverage found here is the one asked
            for, and only that of other people means something.
        coverage: what ``calibrate`` is to reach.
        levels: in the order of the predictions.
    """

    def __init__(
        self,
        network: Any,
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

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            parts = (item["pred"].flatten(), item["label"], item["study_label"])
            self._rows.append(torch.cat([part.detach().double().cpu() for part in parts]))

    def _report(self, engine: Engine) -> None:
        count = len(self.levels)
        rows = torch.stack(self._rows)
        if idist.get_world_size() > 1:  # every process has seen a part of the people
            rows = evenly_divisible_all_gather(rows.to(idist.device()), concat=True).cpu()
        prediction, truth, study = rows[:, : 2 * count].unflatten(1, (count, 2)), rows[:, 2 * count : -1], rows[:, -1]
        if self.calibrate:
            self.network.calibrate(prediction, truth, study, self.coverage)
        mean, sd = prediction[..., 0], (prediction[..., 1] / 2).exp()
        factors = [float(getattr(self.network, f"{name}_interval_factor")) for name in ("level", "study")]
        level_error = (mean - truth).abs()
        known = truth.isfinite()
        error, half = mean.mean(1) - study, factors[1] * sd.mean(1)
        seen = study.isfinite()
        engine.state.metrics.update(
            bias=float(error[seen].mean()),
            error_sd=float(error[seen].std()),
            interval_coverage=float((error.abs() <= half)[seen].double().mean()),
            interval_width=float(2 * half.mean()),
            level_mae=float(level_error[known].mean()),
            level_interval_coverage=float((level_error <= factors[0] * sd)[known].double().mean()),
        )
        if self.folder is not None and seen.any():
            self._draw(study[seen].numpy(), mean.mean(1)[seen].numpy(), half[seen].numpy())

    def _draw(self, truth: NDArray[np.floating], predicted: NDArray[np.floating], half: NDArray[np.floating]) -> None:
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
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
        for at, style in ((0.0, "-"), (-spread, "--"), (spread, "--")):
            right.axhline(float(difference.mean()) + at, color="black", lw=1, ls=style)
        right.set_xlabel("mean of predicted and true density (mg/cm3)")
        right.set_ylabel("predicted less true (mg/cm3)")
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "densities.png", dpi=100)
