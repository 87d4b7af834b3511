"""What the bundles' evaluations report beyond MONAI's own metrics: distances, levels, figures, the size curve."""

import argparse
import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import run
from monai.handlers import IgniteMetricHandler
from monai.metrics import SurfaceDistanceMetric
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = [
    "LevelReport",
    "OverlayFigures",
    "SurfaceDistanceMM",
    "match_levels",
    "slicewise",
    "training_size_curve",
    "true_centres",
]

logger = logging.getLogger(__name__)


def slicewise(output: Sequence[Mapping[str, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Return prediction and label of each axial slice, (1, X, Y) each, so that volumes are scored as Pan scored slices.

    A slice without a body in the label has no Dice coefficient and is left out by the metrics.
    """
    predictions: list[Tensor] = []
    labels: list[Tensor] = []
    for item in output:
        for key, images in (("pred", predictions), ("label", labels)):
            image = item[key]
            images.extend(image.unbind(-1) if image.ndim == 4 else [image])
    return predictions, labels


class _DistanceInMM(SurfaceDistanceMetric):
    def __init__(self, spacing: Sequence[float]) -> None:
        super().__init__(include_background=True, symmetric=True)
        self.spacing = tuple(float(s) for s in spacing)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]
        both = (y_pred.flatten(2).any(-1) & y.flatten(2).any(-1)).float()
        distance = super()._compute_tensor(y_pred, y, spacing=self.spacing)
        # one contour missing: no distance exists (its Dice of 0 tells); MONAI would make the mean infinite
        return torch.where(both > 0, distance, torch.full_like(distance, torch.nan))


class SurfaceDistanceMM(IgniteMetricHandler):
    """Mean symmetric distance between predicted and true contours, in mm.

    Args:
        spacing: pixel size in mm along each axis of the images compared.
        output_transform: see MONAI's ``SurfaceDistance``.
        save_details: keep the value of each image for ``MetricsSaver``.
    """

    def __init__(self, spacing: Sequence[float], output_transform: Any = slicewise, save_details: bool = True) -> None:
        super().__init__(metric_fn=_DistanceInMM(spacing), output_transform=output_transform, save_details=save_details)


class OverlayFigures:
    """Write panels of slices (Pan 2024, Fig. 6): image, probability, reference outline, predicted outline.

    Args:
        folder: receives ``overlays.png``; made if missing.
        count: rows of the figure, spread over the validation set.
        probability_key: item of the output that holds the probability before it was cut, if it was kept.
    """

    def __init__(self, folder: str, count: int = 8, probability_key: str = "probability") -> None:
        self.folder = Path(folder)
        self.count = count
        self.probability_key = probability_key
        self._rows: list[tuple[NDArray[np.float32], ...]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            if len(self._rows) >= self.count:
                return
            images = [item[key] for key in ("image", self.probability_key, "label", "pred") if key in item]
            planes = [image.detach().float().cpu().numpy()[0] for image in images]
            label = planes[-2]
            if not label.any():
                continue
            if label.ndim == 3:  # the slice with most of the body
                at = int(label.sum((0, 1)).argmax())
                planes = [plane[..., at] for plane in planes]
            self._rows.append(tuple(planes))

    def _draw(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = len(self._rows[0])
        figure = Figure(figsize=(2.4 * columns, 2.4 * len(self._rows)), layout="constrained")
        FigureCanvasAgg(figure)
        titles = ["CT", *(["probability"] if columns == 4 else []), "reference", "network"]
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for row, planes in zip(axes, self._rows, strict=True):
            image, label, prediction = planes[0], planes[-2], planes[-1]
            for axis, title, plane in zip(row, titles, planes, strict=True):
                axis.imshow(image.T, cmap="gray", origin="lower")
                axis.set_axis_off()
                if title == "probability":
                    axis.imshow(plane.T, cmap="inferno", origin="lower", alpha=0.6, vmin=0, vmax=1)
                elif title != "CT" and plane.any():
                    axis.contour(plane.T > 0.5, [0.5], colors=["lime" if title == "reference" else "red"], linewidths=1)
            inside, found = label > 0.5, prediction > 0.5
            row[-1].set_title(f"Dice {2 * (inside & found).sum() / (inside.sum() + found.sum()):.3f}", fontsize=8)
        for axis, title in zip(axes[0][:-1], titles, strict=False):
            axis.set_title(title, fontsize=8)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "overlays.png", dpi=100)


def true_centres(
    target: NDArray[np.floating], affine: NDArray[np.floating]
) -> dict[VertebraLevel, NDArray[np.floating]]:
    """Return the centre in RAS+ mm of each body that is labelled T9 to L6 and has its centre in the volume.

    Args:
        target: (2, X, Y, Z), labels and centre heat map as in ``VirtualVolumeDataset``.
        affine: (4, 4), voxel index to RAS+ mm.
    """
    classes, heat = np.rint(target[0]).astype(int), target[1]
    centres: dict[VertebraLevel, NDArray[np.floating]] = {}
    for level in VertebraLevel:
        if level.label <= VertebraLevel.T8.label or level is VertebraLevel.SACRUM:
            continue
        weight = np.where(classes == level.label, heat, 0.0)
        # 0.8: the voxel next to a centre is at most 3.5 mm away at 4 mm sampling, and the map has an SD of 6 mm
        if weight.max(initial=0.0) < 0.8:
            continue
        weight = np.where(weight > 0.5, weight, 0.0)
        at = np.array(
            [(weight.sum(tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() for axis, n in enumerate(weight.shape)]
        )
        centres[level] = affine[:3, :3] @ (at / weight.sum()) + affine[:3, 3]
    return centres


def match_levels(
    truth: Mapping[VertebraLevel, NDArray[np.floating]], found: Sequence[LocatedVertebra], reach_mm: float = 15.0
) -> list[tuple[VertebraLevel, LocatedVertebra | None, float]]:
    """Pair each true body with the nearest found one within ``reach_mm`` (half a lumbar body's height), or with none.

    Returns:
        (true level, found vertebra or ``None``, distance in mm or NaN) for each true body.
    """
    pairs: list[tuple[VertebraLevel, LocatedVertebra | None, float]] = []
    for level, centre in truth.items():
        distances = [float(np.linalg.norm(np.subtract(v.centre_mm, centre))) for v in found]
        best = int(np.argmin(distances)) if distances else -1
        if best >= 0 and distances[best] <= reach_mm:
            pairs.append((level, found[best], distances[best]))
        else:
            pairs.append((level, None, float("nan")))
    return pairs


class LevelReport:
    """Score the localiser: which true bodies were found, named rightly, and how far off the centres are.

    Adds to ``engine.state.metrics`` (over bodies T9 to L6 whose centre is in the volume):
    ``detection_rate`` (found within 15 mm), ``level_accuracy`` (found and rightly named, of all true bodies),
    ``certain_level_accuracy`` (rightly named among found bodies of certainty at least ``certain``), ``certain_share``
    (of the found bodies) and ``centre_error_mm`` (median over the found ones). Writes ``levels.csv`` with a row a body
    and ``level_confusion.png``.

    Args:
        save_dir: made if missing.
        certain: see above.
        target_key, vertebrae_key: items of the output.
    """

    def __init__(
        self, save_dir: str, certain: float = 0.9, target_key: str = "target", vertebrae_key: str = "vertebrae"
    ) -> None:
        self.save_dir = Path(save_dir)
        self.certain = certain
        self.target_key = target_key
        self.vertebrae_key = vertebrae_key
        self._rows: list[tuple[int, VertebraLevel, LocatedVertebra | None, float]] = []
        self._scan = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._rows, self._scan = [], 0

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            target = item[self.target_key]
            truth = true_centres(target.detach().cpu().numpy(), np.asarray(target.affine, float))
            self._rows += [(self._scan, *pair) for pair in match_levels(truth, item[self.vertebrae_key])]
            self._scan += 1

    def _report(self, engine: Engine) -> None:
        found = [(level, v, distance) for _, level, v, distance in self._rows if v is not None]
        right = [v.level is level for level, v, _ in found]
        sure = [v.certainty >= self.certain for _, v, _ in found]
        metrics = {
            "detection_rate": len(found) / len(self._rows) if self._rows else float("nan"),
            "level_accuracy": sum(right) / len(self._rows) if self._rows else float("nan"),
            "certain_level_accuracy": float(np.mean([r for r, s in zip(right, sure, strict=True) if s]))
            if any(sure)
            else float("nan"),
            "certain_share": float(np.mean(sure)) if sure else float("nan"),
            "centre_error_mm": float(np.median([d for *_, d in found])) if found else float("nan"),
        }
        engine.state.metrics.update(metrics)
        self.save_dir.mkdir(parents=True, exist_ok=True)
        with (self.save_dir / "levels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["scan", "level", "found_level", "certainty", "distance_mm"])
            for scan, level, v, distance in self._rows:
                named = [v.level.value, f"{v.certainty:.4f}", f"{distance:.2f}"] if v else ["", "", ""]
                table.writerow([scan, level.value, *named])
        self._draw()

    def _draw(self) -> None:
        names = [level.value for level in VertebraLevel if level is not VertebraLevel.SACRUM][7:]
        counts = np.zeros((len(names), len(names) + 1), int)
        for _, level, v, _ in self._rows:
            counts[names.index(level.value), names.index(v.level.value) if v else len(names)] += 1
        figure = Figure(figsize=(6.5, 5.5), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        axis.imshow(counts, cmap="Blues")
        for i, j in np.argwhere(counts):
            axis.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8)
        axis.set_xticks(range(len(names) + 1), [*names, "none"], rotation=60)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("found")
        axis.set_ylabel("true")
        figure.savefig(self.save_dir / "level_confusion.png", dpi=100)


def training_size_curve(
    bundle: Path, sizes: Sequence[int], output_dir: Path, overrides: Mapping[str, Any] | None = None
) -> list[dict[str, float]]:
    """Train a bundle on ever more images and score each network (Pan 2024, Fig. 5).

    Each size is one training and one evaluation with the bundle's own configs, tracked like any other.

    Args:
        bundle: folder of ``vertebral_body_segmentation_ct``.
        sizes: numbers of virtual training images.
        output_dir: receives ``training_size.csv`` and ``training_size.png``, and a folder a size.
        overrides: settings of train.json and evaluate.json to change, such as ``{"epochs": 5}``.

    Returns:
        A row a size: ``images``, ``mean``, ``std`` (of the Dice coefficient over the test slices).

    Raises:
        ValueError: when a size is below 1 or there is none.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes must be positive numbers of images, got {list(sizes)}")
    configs = bundle / "configs"
    rows = []
    for size in sizes:
        folder = output_dir / f"size_{size}"
        settings: dict[str, Any] = {
            "bundle_root": str(bundle),
            "output_dir": str(folder),
            "train#virtual#length": size,
            **(overrides or {}),
        }
        files = [str(configs / "common.json"), str(configs / "train.json")]
        meta = str(configs / "metadata.json")
        log = str(configs / "logging.conf")
        run(config_file=files, meta_file=meta, logging_file=log, **settings)
        settings["checkpoint"] = str(folder / "checkpoints" / "model.pt")
        run(config_file=[*files, str(configs / "evaluate.json")], meta_file=meta, logging_file=log, **settings)
        with (folder / "val_mean_dice_summary.csv").open() as file:
            summary = list(csv.DictReader(file))[-1]
        rows.append({"images": float(size), "mean": float(summary["mean"]), "std": float(summary["std"])})
        logger.info("%d training images: Dice %.4f +- %.4f", size, rows[-1]["mean"], rows[-1]["std"])
    with (output_dir / "training_size.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["images", "mean", "std"])
        table.writeheader()
        table.writerows(rows)
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.errorbar(
        [r["images"] for r in rows], [r["mean"] for r in rows], [r["std"] for r in rows], marker="o", capsize=3
    )
    axis.set_xlabel("training images (virtual patients)")
    axis.set_ylabel("Dice coefficient, mean and SD over test slices")
    figure.savefig(output_dir / "training_size.png", dpi=120)
    return rows


def main() -> None:
    """``python -m osteo_monai.evaluation BUNDLE OUTPUT --sizes 50 100 200``: Dice over training-set size."""
    parser = argparse.ArgumentParser(prog="python -m osteo_monai.evaluation", description=training_size_curve.__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 300, 500, 1096])
    parser.add_argument("--overrides", type=json.loads, default={}, help="JSON, e.g. '{\"epochs\": 20}'")
    arguments = parser.parse_args()
    training_size_curve(arguments.bundle, arguments.sizes, arguments.output, arguments.overrides)


if __name__ == "__main__":
    main()
