"""What the bundles for radiographs read and report: records of a view and a fold, tables of risk, heat maps, two views
made one answer, and the training of all folds.

``python -m osteo_monai.radiographs cross_validate BUNDLE OUTPUT --data_source MANIFEST``,
``python -m osteo_monai.radiographs fuse AP.csv LATERAL.csv OUTPUT.csv`` and
``python -m osteo_monai.radiographs heat PREDICTIONS.csv``.
"""

import argparse
import csv
import hashlib
import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import ConfigParser, run
from torch import Tensor

from osteo_monai.data import Record, read_manifest
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE
from osteo_monai.errors import ManifestError
from osteo_monai.tracking import sqlite_uri
from osteo_monai.transforms.radiograph import join_patches

__all__ = [
    "HeatMapFigures",
    "cross_validate",
    "fuse_views",
    "heat_shares",
    "last_checkpoint",
    "radiograph_items",
    "risk_columns",
    "risk_outputs",
    "soft_target",
]

logger = logging.getLogger(__name__)

FACTS = ("age", "sex", "height_cm", "weight_kg", "t_score", "centre", "kvp", "acquisition")
"""What a table of predictions repeats of a record, where it is known."""

IN_FOLD, OTHER_FOLDS = "fold", "other_folds"
"""Names that stand, beside those of a manifest's splits, for the people of one fold and for all but them."""

_HEAT_COLUMNS = ("heat_on_bone", "attention_on_bone", "bone_area")


def soft_target(t_score: float, sd: float = 0.0) -> float:
    """Return the probability that a T-score measured again, with an SD of ``sd``, is -2.5 or less; 0 or 1 without one.

    A person of -2.4 and one of -2.6 are all but the same person. DXA repeats a T-score of the lumbar spine with an SD
    of about 0.1 to 0.2; larger values also teach how far from the threshold somebody is.
    """
    if sd < 0:
        raise ValueError(f"sd must be 0 or positive, got {sd}")
    if sd == 0:
        return float(t_score <= OSTEOPOROSIS_T_SCORE)
    return 0.5 * math.erfc((t_score - OSTEOPOROSIS_T_SCORE) / (sd * math.sqrt(2)))


def radiograph_items(
    data_source: str,
    splits: Sequence[str],
    view: str,
    fold: int = 0,
    folds: int = 0,
    seed: int = 0,
    target_sd: float = 0.0,
    need_truth: bool = True,
) -> list[dict[str, Any]]:
    """Return the records of one view in a manifest's splits as a data set of the radiograph bundles wants them.

    Each item holds ``image`` (path), ``bone`` (path of its mask, if all have one), ``label`` (1 for osteoporosis, 0, or
    -1 where unknown), ``target`` (what the loss is given, see ``soft_target``), ``row`` (its place in the list),
    ``place`` (its place in the manifest) and ``facts`` (columns for ``evaluation.PredictionsSaver``); the last two do
    not collate, so transforms must drop them.

    Args:
        data_source: path of a data manifest; its records need ``view`` and ``t_score``.
        splits: names of splits; also, with ``folds``, ``"fold"``: the people of one fold of ``training`` and
            ``validation`` together, and ``"other_folds"``: all but them. Folds divide people, not images, alike in each
            class, by a hash of seed and name. In tables the people of a fold stand in the cohort ``validation``, since
            they were not trained on, with the number of the fold in the column ``fold``.
        view: such as ``chest_frontal``; records of another or of none are passed over.
        fold, folds: which of how many, from 0; 0 folds for none.
        seed: of the folds.
        target_sd: of ``soft_target``.
        need_truth: whether a record without a T-score is refused.

    Raises:
        SystemExit: listing all that is wrong; MONAI would bury another exception's sentence under a page of its own.
    """
    if not data_source:
        raise SystemExit("error: --data_source must name a data manifest of radiographs, got none")
    path = Path(data_source)
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise SystemExit(f"error: {error}") from None
    problems = []
    if not splits or isinstance(splits, str):
        problems.append(f"splits must be a list such as \"['test']\", got {splits!r}")
        splits = []
    if folds and (folds < 2 or not 0 <= fold < folds):
        problems.append(f"fold must be one of the folds, from 0, and folds at least 2, got fold {fold} of {folds}")
        folds = 0
    if not folds and {IN_FOLD, OTHER_FOLDS} & set(splits):
        problems.append("the people of a fold were asked for: --folds must say how many folds there are, such as 5")
        splits = [split for split in splits if split not in (IN_FOLD, OTHER_FOLDS)]
    chosen: list[tuple[str, int, Record, dict[str, Any]]] = []
    for split in splits:
        virtual_split = split in (IN_FOLD, OTHER_FOLDS)
        sources = ("training", "validation") if virtual_split else (split,)
        records = [(s, place, r) for s, place, r in manifest.records() if s in sources]
        wanted = [(s, place, record) for s, place, record in records if record.view == view]
        if not wanted:
            unnamed = sum(record.view is None for _, _, record in records)
            named = " or ".join(map(repr, sources))
            problems.append(
                f"{path.name} has no records of the view {view!r} in a split {named}, it has "
                f"{', '.join(manifest.splits) or 'no splits'}; {unnamed} of {len(records)} records there name no 'view'"
            )
        if need_truth and (lacking := [(s, p) for s, p, record in wanted if record.t_score is None]):
            problems.append(
                f"{path.name}: {len(lacking)} of {len(wanted)} radiographs of {split} have no 't_score' "
                f"(the first is {lacking[0][0]}[{lacking[0][1]}])"
            )
            continue
        if virtual_split:
            number = _folds([record for _, _, record in wanted], folds, seed)
            wanted = [one for one in wanted if (number[one[2].subject_id] == fold) == (split == IN_FOLD)]
        added = {"cohort": "validation", "fold": fold} if split == IN_FOLD else {}
        chosen += [(s, p, record, {"cohort": s, **added}) for s, p, record in wanted]
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))

    images: dict[str, int] = defaultdict(int)
    for _, _, record, _ in chosen:
        images[record.subject_id] += 1
    masks = all(record.bone_mask for _, _, record, _ in chosen)
    items: list[dict[str, Any]] = []
    for split, place, record, added in chosen:
        facts = record.model_dump(mode="json", include=set(FACTS), exclude_none=True)
        facts |= {"subject_id": record.subject_id, **added, "virtual": int(manifest.header.virtual)}
        if images[record.subject_id] > 1:
            facts["image_id"] = f"{split}[{place}]"
        score = record.t_score
        if score is not None:
            facts["osteoporosis"] = int(score <= OSTEOPOROSIS_T_SCORE)
        items.append(
            {
                "image": str(path.parent / record.images[0]),
                **({"bone": str(path.parent / str(record.bone_mask))} if masks else {}),
                "label": facts.get("osteoporosis", -1),
                "target": -1.0 if score is None else soft_target(score, target_sd),
                "row": len(items),
                "place": f"{split}[{place}]",
                "facts": facts,
            }
        )
    return items


def _folds(records: Sequence[Record], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each subject, alike in each class; a subject counts as osteoporotic by its lowest T-score."""
    lowest: dict[str, float] = {}
    for record in records:
        score = math.inf if record.t_score is None else record.t_score
        lowest[record.subject_id] = min(score, lowest.get(record.subject_id, math.inf))
    ordered = sorted(
        lowest,
        key=lambda s: (lowest[s] <= OSTEOPOROSIS_T_SCORE, hashlib.sha256(f"{seed}/{s}".encode()).digest()),
    )
    return {subject: place % folds for place, subject in enumerate(ordered)}


def risk_outputs(output: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, 2) of no osteoporosis and osteoporosis, and classes (N,), of a decollated batch."""
    risk = torch.stack([item["pred"].float()[0] for item in output])
    return torch.stack([1 - risk, risk], 1), torch.as_tensor([int(item["label"]) for item in output])


def risk_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell an answer ``pred`` (1 + P,), the risk first, in a table of predictions."""
    columns: dict[str, float | str] = {"probability_osteoporosis": round(float(item["pred"][0]), 6)}
    for name in _HEAT_COLUMNS:
        if name in item:
            value = float(item[name])
            columns[name] = "" if math.isnan(value) else round(value, 4)
    return columns


class HeatMapFigures:
    """Write ``heat_maps.png``: radiographs beside Grad-CAM over them and, of a Transformer, what its token attends to.

    Attach it to an evaluator whose postprocessing has ``HeatMapsd``; without its maps nothing is written.

    Args:
        folder: receives the picture; made if missing.
        grid: rows and columns of patches.
        count: rows of the figure, the first radiographs that come.
    """

    def __init__(self, folder: str, grid: Sequence[int] = (1, 1), count: int = 8) -> None:
        self.folder = Path(folder)
        self.grid = (int(grid[0]), int(grid[1]))
        self.count = count
        self._rows: list[tuple[str, Tensor, dict[str, Tensor]]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            if len(self._rows) >= self.count or "heat" not in item:
                return
            title = f"risk {float(item['pred'][0]):.2f}"
            if "heat_on_bone" in item:
                title += f", {100 * float(item['heat_on_bone']):.0f} % of the heat on bone"
                title += f"\n(bone: {100 * float(item['bone_area']):.0f} % of the image)"
            maps = {key: item[key][0].detach().float().cpu() for key in ("heat", "attention") if key in item}
            self._rows.append((title, join_patches(item["image"].detach().float().cpu(), self.grid), maps))

    def _draw(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = 1 + len(self._rows[0][2])
        figure = Figure(figsize=(3 * columns, 3.2 * len(self._rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for line, (title, image, maps) in zip(axes, self._rows, strict=True):
            for axis, (name, one) in zip(line, [("", None), *maps.items()], strict=True):
                axis.imshow(image, cmap="gray")
                axis.set_axis_off()
                if one is not None:
                    axis.imshow(one, cmap="jet", alpha=0.4, vmin=0, vmax=max(float(one.max()), 1e-9))
                axis.set_title({"heat": "Grad-CAM", "attention": "attention of the token"}.get(name, title), fontsize=7)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "heat_maps.png", dpi=110)


def fuse_views(files: Sequence[Path], output: Path, model: str = "fused views") -> int:
    """Write one table of predictions that joins those of several views: late fusion by the mean of the logits.

    A person's radiographs of one view are averaged first, then the views, each of the same weight. Who does not have
    every view is left out, so that the fused figures and those of a view are not of different people by accident.

    Args:
        files: tables of predictions, one a view.
        output: table to write.
        model: its name in the table.

    Returns:
        The number of people written.

    Raises:
        ValueError: listing all that is wrong with the tables.
    """
    problems = [] if len(files) > 1 else [f"files must be the tables of two or more views, got {len(files)}"]
    tables: list[dict[tuple[str, str], list[dict[str, str]]]] = []
    for file in files:
        people: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        try:
            for row in _rows(file):
                people[row.get("cohort", "test"), row["subject_id"]].append(row)
        except ValueError as error:
            problems.append(str(error))
        tables.append(people)
    everybody = list(dict.fromkeys(key for table in tables for key in table))
    both = [key for key in everybody if all(key in table for table in tables)]
    for key in both:
        truths = {row.get("osteoporosis", "") for table in tables for row in table[key]} - {""}
        if len(truths) > 1:
            problems.append(f"the tables disagree on whether a person of the cohort {key[0]} has osteoporosis")
    if not problems and not both:
        problems.append("no person has a prediction in every table")
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    fused = []
    for key in both:
        views = [sum(map(_logit, table[key])) / len(table[key]) for table in tables]
        answer = _answer(tables[0][key][0], sum(views) / len(views)) | {"model": model}
        answer.pop("image_id", None)
        fused.append(answer)
    if len(both) < len(everybody):
        logger.warning("%d of %d people lack a view and are left out", len(everybody) - len(both), len(everybody))
    _write(output, fused)
    return len(fused)


def heat_shares(file: Path) -> list[dict[str, Any]]:
    """Count how much of the heat maps lies on bone, by cohort: Li judged by eye, virtual people have masks.

    Args:
        file: a table of predictions with the columns ``heat_on_bone``, ``attention_on_bone`` and ``bone_area``.

    Returns:
        A row for each cohort and map: ``cohort``, ``map``, ``images`` (those whose map is not empty), ``empty``,
        ``on_bone`` and ``bone_area`` (means of shares of the map and of the image), ``low`` and ``high`` (95 % interval
        of the first), ``gain`` (mean of the ratios of the two; 1 for a map that knows nothing of bone).

    Raises:
        ValueError: the table has no such columns.
    """
    rows = [row for row in _rows(file) if row.get("bone_area")]
    found: list[dict[str, Any]] = []
    for cohort in dict.fromkeys(row.get("cohort", "test") for row in rows):
        own = [row for row in rows if row.get("cohort", "test") == cohort]
        for name in _HEAT_COLUMNS[:2]:
            if not any(name in row for row in own):
                continue
            pairs = [(float(row[name]), float(row["bone_area"])) for row in own if row.get(name)]
            if not pairs:
                continue
            share, area = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
            half = 1.96 * float(share.std()) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.nan
            mean = float(share.mean())
            found.append(
                {
                    "cohort": cohort,
                    "map": name.removesuffix("_on_bone"),
                    "images": len(pairs),
                    "empty": len(own) - len(pairs),
                    "on_bone": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "bone_area": float(area.mean()),
                    "gain": float((share / area.clamp(min=1e-6)).mean()),
                }
            )
    if not found:
        raise ValueError(
            f"{file.name} must have the columns {', '.join(_HEAT_COLUMNS)}: evaluate with --heat_maps True"
        )
    return found


def cross_validate(
    bundle: Path,
    output: Path,
    data_source: str,
    folds: int = 5,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Train a bundle once a fold of training and validation, and write tables of predictions.

    In them the people of training and validation have the risk that the network *not* trained on them gives (cohort
    ``validation``, column ``fold``): what a model that combines the risk with other facts must be trained on. Everybody
    else has the risk by the network of fold 0 in ``predictions.csv``, which is the network to publish, and the mean of
    the folds' logits in ``ensemble.csv``. The last weights of each training are judged, not those that were best on its
    fold: these would have been chosen on the people they are judged on.

    Args:
        bundle: a bundle for radiographs.
        output: receives a folder a fold, and the tables. A fold that has the checkpoint of its last epoch there is not
            trained again, only judged, so that what was cut short goes on.
        data_source: a data manifest.
        folds: how many.
        overlays: configs of the bundle beside common.json and train.json, such as ``li2026``.
        settings: settings of train.json and evaluate.json to change.

    Returns:
        ``predictions.csv``.
    """
    configs = bundle / "configs"
    files = [str(configs / f"{name}.json") for name in ("common", "train", *overlays)]
    epochs = (settings or {}).get("epochs", ConfigParser.load_config_files(files)["epochs"])
    external = [s for s in read_manifest(Path(data_source)).splits if s not in ("training", "validation")]
    tables = []
    for fold in range(folds):
        folder = output / f"fold_{fold}"
        common: dict[str, Any] = {
            "meta_file": str(configs / "metadata.json"),
            "logging_file": str(configs / "logging.conf"),
            "bundle_root": str(bundle),
            "output_dir": str(folder),
            "data_source": str(data_source),
            "fold": fold,
            "folds": folds,
            # one place to watch all folds in
            "tracking_uri": sqlite_uri(output / "mlflow.db"),
            **(settings or {}),
        }
        if not (folder / "checkpoints" / f"checkpoint_epoch={epochs}.pt").exists():
            run(config_file=files, **common)
        run(
            config_file=[*files, str(configs / "evaluate.json")],
            checkpoint=str(last_checkpoint(folder / "checkpoints")),
            splits=[IN_FOLD, *external],
            **common,
        )
        tables.append(_rows(folder / "predictions.csv"))
        logger.info("fold %d of %d is done", fold + 1, folds)
    rows = [row for table in tables for row in table if row.get("fold")]
    others = list(zip(*([row for row in table if not row.get("fold")] for table in tables), strict=True))
    _write(output / "predictions.csv", rows + [same[0] for same in others])
    ensemble = [_answer(same[0], sum(map(_logit, same)) / folds) for same in others]
    _write(output / "ensemble.csv", rows + ensemble)
    return output / "predictions.csv"


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the last epoch, ``checkpoint_epoch=N.pt``.

    Raises:
        ValueError: there is none.
    """
    epochs = {int(file.stem.rpartition("=")[2]): file for file in folder.glob("checkpoint_epoch=*.pt")}
    if not epochs:
        raise ValueError(f"{folder.name} must hold a checkpoint_epoch=N.pt, there is none")
    return epochs[max(epochs)]


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except OSError:
        raise ValueError(f"{file.name} cannot be read") from None
    for row in rows:
        try:
            inside = 0 <= float(row["probability_osteoporosis"]) <= 1 and bool(row["subject_id"])
        except (KeyError, TypeError, ValueError):
            inside = False
        if not inside:
            raise ValueError(f"{file.name} must have a subject_id and a probability_osteoporosis in each row")
    return rows


def _logit(row: Mapping[str, str]) -> float:
    p = min(max(float(row["probability_osteoporosis"]), 1e-6), 1 - 1e-6)  # six decimals are written
    return math.log(p / (1 - p))


def _answer(row: Mapping[str, str], logit: float) -> dict[str, Any]:
    """A row with another risk, and without what belongs to one network alone."""
    kept = {k: v for k, v in row.items() if k not in (*_HEAT_COLUMNS, "predicted")}
    return kept | {"probability_osteoporosis": round(1 / (1 + math.exp(-logit)), 6)}


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        table.writeheader()
        table.writerows(rows)


def main() -> None:
    """The command line; see the module's text."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m osteo_monai.radiographs", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    cross = verbs.add_parser("cross_validate", help="train and evaluate every fold, write one table of predictions")
    cross.add_argument("bundle", type=Path)
    cross.add_argument("output", type=Path)
    cross.add_argument("--data_source", required=True, help="data manifest")
    cross.add_argument("--folds", type=int, default=5)
    cross.add_argument("--overlays", nargs="*", default=[], help="such as li2026")
    cross.add_argument("--settings", type=json.loads, default={}, help="JSON, e.g. '{\"epochs\": 20}'")
    fuse = verbs.add_parser("fuse", help="join the predictions of several views, a person a row")
    fuse.add_argument("files", type=Path, nargs="+", help="tables of predictions, the last one to write")
    fuse.add_argument("--model", default="fused views")
    heat = verbs.add_parser("heat", help="how much of the heat maps lies on bone, by cohort")
    heat.add_argument("file", type=Path, help="table of predictions, made with --heat_maps True")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "heat":
            for row in heat_shares(arguments.file):
                print(
                    "{cohort}, {map}: {on_bone:.1%} ({low:.1%} to {high:.1%}) on bone, which is {bone_area:.1%} of the "
                    "image; {gain:.2f} times its share; {images} images, {empty} without a map".format(**row)
                )
            return
        if arguments.verb == "fuse":
            count = fuse_views(arguments.files[:-1], arguments.files[-1], arguments.model)
            print(f"{count} people: {arguments.files[-1]}")
        else:
            a = arguments
            print(cross_validate(a.bundle, a.output, a.data_source, a.folds, a.overlays, a.settings))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
