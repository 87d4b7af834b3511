"""What the bundles' evaluations read and report beyond MONAI's own: manifests, predictions, metrics, figures."""

import argparse
import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import run
from monai.data import CacheDataset
from monai.handlers import IgniteMetricHandler
from monai.metrics import ROCAUCMetric, SurfaceDistanceMetric, compute_roc_auc
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.data import Record, read_manifest
from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds, VertebraLevel
from osteo_monai.errors import ManifestError, ScanRefusedError, UnusableInputError
from osteo_monai.transforms.column_decoding import DISC_MINIMUM, decode_column
from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = [
    "ColumnReport",
    "DensityReport",
    "LevelReport",
    "OneVersusRestAUC",
    "OverlayFigures",
    "PredictionsSaver",
    "SubjectDataset",
    "SurfaceDistanceMM",
    "class_columns",
    "class_outputs",
    "class_shares",
    "density_columns",
    "density_items",
    "match_levels",
    "sampling_weights",
    "slicewise",
    "subject_items",
    "training_size_curve",
    "true_centres",
]

logger = logging.getLogger(__name__)


CLASSES: tuple[BoneStatus, ...] = tuple(BoneStatus)
"""The classes in the order of the classifier's channels: normal, osteopenia, osteoporosis."""

FACTS = ("bmd_mg_cm3", "age", "sex", "kvp", "contrast_phase", "acquisition")
"""What a table of predictions repeats of a record, where it is known."""


def subject_items(data_source: str, splits: Sequence[str], need_status: bool = True) -> list[dict[str, Any]]:
    """Return the records of a manifest's splits as a data set of the classifiers wants them.

    Each item holds ``image`` and ``label`` (paths; the latter is the record's ``segmentation``, what the segmentation
    bundle predicted, never its ground truth), ``status`` (index into ``CLASSES``, -1 where unknown), ``row`` (its place
    in the returned list), ``record`` (as the manifest has it) and ``facts`` (columns for ``PredictionsSaver``); the
    last two do not collate, so transforms must drop them. The class is the record's ``bone_status`` or follows from its
    density.

    Args:
        data_source: path of a data manifest.
        splits: such as ``["validation", "test"]``.
        need_status: whether a record of unknown class is refused.

    Raises:
        SystemExit: listing all that is wrong; MONAI would bury another exception's sentence under a page of its own.
    """
    path = Path(data_source)
    if not data_source:
        raise SystemExit("error: --data_source must name a data manifest whose records have a 'segmentation', got none")
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise SystemExit(f"error: {error}") from None
    problems = []
    if not splits or isinstance(splits, str):
        problems.append(f"splits must be a list such as \"['test']\", got {splits!r}")
        splits = []
    items: list[dict[str, Any]] = []
    for split in splits:
        records = manifest.splits.get(split, ())
        if not records:
            problems.append(f"{path.name} has no records in a split {split!r}, it has {', '.join(manifest.splits)}")
        if lacking := [place for place, record in enumerate(records) if record.segmentation is None]:
            problems.append(
                f"{path.name}: {len(lacking)} of {len(records)} records of {split} have no 'segmentation' "
                f"(the first is {split}[{lacking[0]}]); make them with `osteo-monai manifest segment`"
            )
        statuses = [_status(record) for record in records]
        if need_status and None in statuses:
            problems.append(
                f"{path.name}: {statuses.count(None)} of {len(records)} records of {split} have neither 'bone_status' "
                f"nor a density that tells it (the first is {split}[{statuses.index(None)}])"
            )
        for place, (record, status) in enumerate(zip(records, statuses, strict=True)):
            if record.segmentation is not None:
                facts = record.model_dump(mode="json", include=set(FACTS), exclude_none=True)
                facts |= {"subject_id": record.subject_id, "cohort": split, "virtual": int(manifest.header.virtual)}
                items.append(
                    {
                        "image": _below(path.parent, record.image),
                        "label": _below(path.parent, record.segmentation),
                        "status": -1 if status is None else CLASSES.index(status),
                        "row": len(items),
                        "place": f"{split}[{place}]",
                        "record": record,
                        "facts": facts if status is None else facts | {"bone_status": str(status)},
                    }
                )
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))
    return items


class SubjectDataset(CacheDataset):
    """MONAI's ``CacheDataset`` of ``subject_items`` that tells of all scans that cannot be used, not of the first.

    Raises:
        SystemExit: with a sentence a record (a level that its label map lacks, a file that cannot be read), after all
            were read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._problems: dict[int, str] = {}
        super().__init__(*args, **kwargs)
        if self._problems:
            told = "".join(f"\n  - {sentence}" for _, sentence in sorted(self._problems.items()))
            raise SystemExit(f"error: {len(self._problems)} of {len(self.data)} records cannot be used:{told}")

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except RuntimeError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if not isinstance(cause, ValueError | KeyError | OSError | UnusableInputError | ScanRefusedError):
                raise
            self._problems[idx] = f"{self.data[idx]['place']}: {cause}"
            return None


def _below(base: Path, paths: str | tuple[str, ...]) -> str | list[str]:
    return str(base / paths) if isinstance(paths, str) else [str(base / path) for path in paths]


def _status(record: Record, thresholds: DensityThresholds | None = None) -> BoneStatus | None:
    thresholds = thresholds or DensityThresholds()
    if record.bone_status is None and record.bmd_mg_cm3 is not None and record.bmd_standard == thresholds.standard:
        return thresholds.status(record.bmd_mg_cm3, record.bmd_standard)
    return record.bone_status


def _class_counts(items: Sequence[Mapping[str, Any]]) -> list[int]:
    counts = Counter(int(item["status"]) for item in items)
    if missing := [status.value for index, status in enumerate(CLASSES) if not counts[index]]:
        raise SystemExit(f"error: the training split must hold every class, it has no {', no '.join(missing)}")
    return [counts[index] for index in range(len(CLASSES))]


def class_shares(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return how common each of ``CLASSES`` is among items drawn with ``sampling_weights``; their sum is 1.

    Args:
        items: of ``subject_items``.
        balance: 0 leaves the classes as common as they are (n), 1 makes them equally common, between: n^(1 - balance).

    Raises:
        SystemExit: when a class has no items.
    """
    powers = [count ** (1.0 - balance) for count in _class_counts(items)]
    return [power / sum(powers) for power in powers]


def sampling_weights(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return the weight by which each item is to be drawn; arguments and errors as ``class_shares``."""
    counts = _class_counts(items)
    return [counts[int(item["status"])] ** -balance for item in items]


def class_outputs(output: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return predictions (N, 3) and class indices (N,) of a decollated batch, for metrics."""
    return torch.stack([item["pred"].float() for item in output]), torch.as_tensor([int(i["label"]) for i in output])


class _MeanAUC(ROCAUCMetric):
    def aggregate(self, average: Any = None) -> float:
        predicted, truth = self.get_buffer()
        areas = []
        for k in range(predicted.shape[1]):
            one = (truth == k).int()
            if 0 < int(one.sum()) < len(one):
                areas.append(float(compute_roc_auc(predicted[:, k], one)))  # type: ignore[arg-type]
        return float(np.mean(areas)) if areas else 0.0


class OneVersusRestAUC(IgniteMetricHandler):
    """Mean area under the one-versus-rest ROC curves of the classes that occur; 0 where only one does.

    Args:
        output_transform: gives scores (N, K) and class indices (N,).
    """

    def __init__(self, output_transform: Any = class_outputs) -> None:
        super().__init__(metric_fn=_MeanAUC(), output_transform=output_transform, save_details=False)


def class_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell an answer ``pred`` (3,), probabilities by class, in a table of predictions."""
    probabilities = item["pred"].double()
    columns: dict[str, float | str] = {
        f"probability_{status}": round(float(p), 6) for status, p in zip(CLASSES, probabilities, strict=True)
    }
    return columns | {"predicted": str(CLASSES[int(probabilities.argmax())])}


class PredictionsSaver:
    """Write what an evaluator answers as a table of predictions (docs/predictions.md), a row an item.

    Args:
        file: CSV file; its folder is made if missing.
        items: what the evaluator's data set was made of, each with ``facts``, columns that are known beforehand
            (``subject_items``). Items of the batch carry ``row``, their place in it.
        model: name of the model in the table.
        columns: makes the predicted columns from a decollated item of the output.
    """

    def __init__(
        self,
        file: str,
        items: Sequence[Mapping[str, Any]],
        model: str,
        columns: Callable[[Mapping[str, Any]], Mapping[str, Any]] = class_columns,
    ) -> None:
        self.file = Path(file)
        self.items = items
        self.model = model
        self.columns = columns
        self._answers: dict[int, Mapping[str, Any]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._answers = {}

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        for known, answer in zip(batch, output, strict=True):
            self._answers[int(known["row"])] = self.columns(answer)

    def _write(self, engine: Engine) -> None:
        rows = [
            {**self.items[row]["facts"], "model": self.model, **answer} for row, answer in sorted(self._answers.items())
        ]
        first = ["subject_id", "model", "cohort", "virtual", "bone_status"]
        columns = dict.fromkeys(key for row in rows for key in row)
        header = [key for key in first if key in columns] + [key for key in columns if key not in first]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, header, restval="")
            table.writeheader()
            table.writerows(rows)
        logger.info("%d predictions: %s", len(rows), self.file)


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


def density_items(
    data_source: str, splits: Sequence[str], levels: Sequence[str] = SCREENED_LEVELS, need_levels: bool = True
) -> list[dict[str, Any]]:
    """Read ``subject_items`` for the density regressor.

    Each item also holds ``kvp`` (NaN where unknown), ``level_bmd`` (L,) and ``study_bmd`` (1,) in mg/cm3 K2HPO4, NaN
    where unknown; the latter is the record's own density, else the mean over ``levels`` where all are known.

    Args:
        data_source, splits: see ``subject_items``.
        levels: in the order wanted.
        need_levels: whether a record without the density of each level is refused.

    Raises:
        SystemExit: listing all that is wrong.
    """
    items = subject_items(data_source, splits, need_status=False)
    other, lacking = [], []
    for item in items:
        record = item["record"]
        by_level = record.level_bmd_mg_cm3 or {}
        item["kvp"] = float("nan") if record.kvp is None else record.kvp
        item["level_bmd"] = torch.tensor([float(by_level.get(level, torch.nan)) for level in levels])
        study = item["level_bmd"].mean() if record.bmd_mg_cm3 is None else torch.tensor(record.bmd_mg_cm3)
        item["study_bmd"] = study.float()[None]
        if record.bmd_standard not in (None, DensityThresholds().standard):
            other.append(item["facts"]["cohort"])
        if not item["level_bmd"].isfinite().all():
            lacking.append(item["facts"]["cohort"])
    name, problems = Path(data_source).name, []
    for split, count in Counter(other).items():
        problems.append(f"{name}: {count} densities of {split} are not in mg/cm3 {DensityThresholds().standard}")
    for split, count in Counter(lacking if need_levels else []).items():
        problems.append(f"{name}: {count} records of {split} lack 'level_bmd_mg_cm3' of {' or '.join(levels)}")
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))
    return items


def density_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell a study's ``density`` (see ``EstimateDensityd``) in a table of predictions."""
    study = item["density"]["study"]
    by_level = {
        f"predicted_bmd_{level}{suffix}": round(values[key], 3)
        for level, values in item["density"]["levels"].items()
        for suffix, key in (("_mg_cm3", "bmd_mg_cm3"), ("_lower", "lower"), ("_upper", "upper"))
    }
    return {
        "predicted_bmd_mg_cm3": round(study["bmd_mg_cm3"], 3),
        "predicted_bmd_lower": round(study["lower"], 3),
        "predicted_bmd_upper": round(study["upper"], 3),
        **{f"probability_{status}": round(study["probability"][status], 6) for status in CLASSES},
        "predicted": study["bone_status"],
        **by_level,
    }


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
