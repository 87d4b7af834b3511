"""Accuracy of the screening on a virtual cohort that no training has seen, by variant and acquisition.

    python benchmarks/virtual_screening.py [--recipe FILE] [--limit N] [--variant NAME] [--names-only]
        [--workers 2] [--device cpu]

Each person is scanned and screened in memory; ``--names-only`` stops after the names of the vertebrae. Prints a table
and writes one row a scan to ``benchmarks/results/virtual_screening_DATE.json``; before the date stands the recipe if it
is another one. These are numbers on virtual patients: they measure the software, not diagnostic accuracy.
"""

import argparse
import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from osteo_monai.domain import SCREENED_LEVELS, DensityThresholds, VertebraLevel
from osteo_monai.utils.files import file_sha256, write_json
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.cohort import person_of, scan
from osteo_monai.virtual.ct import VirtualCT
from osteo_monai.virtual.person import STANDARD
from osteo_monai.virtual.plan import ScanPlan, SubjectPlan, plan_cohort
from osteo_monai.virtual.recipe import read_recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "data_manifests" / "recipes" / "virtual_segmentation_test.json"
CERTAIN = 0.95
"""A name of this posterior or more should be right in 95 of 100."""
VISIBLE_RIB_MM = 43.0
"""Reach of a thirteenth rib, for a person of scale 1, beyond that of every process of L1 (``arch``: 35 to 43 mm)."""
SAME_BODY_MM = 10.0
"""A located centre nearer than this to a true one belongs to that body."""

_MODELS: Any = None


def _start(device: str) -> None:
    global _MODELS
    import torch

    from osteo_monai.screening.models import load_models

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    _MODELS = load_models(device)


def _dice(a: np.ndarray, b: np.ndarray) -> float | None:
    total = int(a.sum()) + int(b.sum())
    return None if total == 0 else 2.0 * int((a & b).sum()) / total


def _made(plan: SubjectPlan, number: int) -> tuple[VirtualCT, dict[str, Any]]:
    """Scan one person; return the scan and its facts."""
    started = time.perf_counter()
    planned = plan.scans[number]
    if not isinstance(planned, ScanPlan):
        raise ValueError(f"recipe must have CT acquisitions only, got {planned.acquisition}")
    ct = scan(Anatomy(person_of(plan)), planned)
    return ct, {
        "subject": plan.subject_id,
        "acquisition": planned.acquisition,
        "variants": sorted(plan.variants),
        "seconds_making": round(time.perf_counter() - started, 2),
    }


def name_scan(plan: SubjectPlan, number: int) -> dict[str, Any]:
    """Scan one person, name the vertebrae, and compare with the truth."""
    from osteo_monai.screening.ct.levels import locate_vertebrae

    ct, facts = _made(plan, number)
    made = time.perf_counter()
    column = locate_vertebrae(ct.volume(), _MODELS.localisation, _MODELS.column)
    l1 = column.vertebra(VertebraLevel.L1)
    return {
        **facts,
        "seconds_screening": round(time.perf_counter() - made, 2),
        "screenable": set(SCREENED_LEVELS) <= set(ct.complete_levels),
        "l1_certainty": None if l1 is None else round(l1.certainty, 3),
        **_levels(ct, SimpleNamespace(levels_found=column.vertebrae, levels=())),
    }


def measure_scan(plan: SubjectPlan, number: int) -> dict[str, Any]:
    """Scan one person, screen the scan, and compare with the truth."""
    from osteo_monai.screening.ct.pipeline import screen_volume

    ct, facts = _made(plan, number)
    made = time.perf_counter()
    result, images = screen_volume(ct.volume(), _MODELS, study=plan.subject_id)
    row: dict[str, Any] = {
        **facts,
        "seconds_screening": round(time.perf_counter() - made, 2),
        "verdict": result.verdict,
        "refusals": [f.code for f in result.findings if f.severity == "refusal"],
        "warnings": [f.code for f in result.findings if f.severity == "warning"],
        "screenable": set(SCREENED_LEVELS) <= set(ct.complete_levels),
    }
    row.update(_levels(ct, result))
    if result.density is not None and images.bodies is not None:
        person = ct.anatomy.person
        row["density_error_mg_cm3"] = round(result.density.mg_cm3 - person.mean_density, 2)
        row["inside_interval"] = result.density.interval_low <= person.mean_density <= result.density.interval_high
        row["true_status"] = str(DensityThresholds().status(person.mean_density, STANDARD))
        row["status"] = str(result.status)
        row["levels"] = {str(m.level): _body(ct, m, images.bodies) for m in result.levels}
    return row


def _ribs(result: Any) -> int | None:
    """Return the number of pairs of ribs by the names; ``None`` if the lowest thoracic body was not named."""
    thoracic = [v.level for v in result.levels_found if v.level.startswith("T")]
    below = any(v.level == VertebraLevel.L1 for v in result.levels_found)
    return max(int(level.removeprefix("T")) for level in thoracic) if thoracic and below else None


def _levels(ct: VirtualCT, result: Any) -> dict[str, Any]:
    """Compare located and true bodies."""
    low, high = ct.affine[2, 3], ct.affine[2, 3] + ct.affine[2, 2] * (ct.hu.shape[2] - 1)
    # what lies above T9 is found but not named
    named = [v for v in ct.anatomy.vertebrae if v.level not in list(VertebraLevel)[:8]]
    true = {v.level: v.centre for v in named if low + 5 < v.centre[2] < high - 5}
    every = {v.level: v.centre for v in ct.anatomy.vertebrae}
    right = wrong = spurious = certain = certain_right = 0
    distances, found = [], set()
    for located in result.levels_found:
        # also bodies that the scan cuts, which need not be found but must not have a wrong name
        gaps = {level: float(np.linalg.norm(c - located.centre_mm)) for level, c in every.items()}
        nearest = min(gaps, key=gaps.__getitem__)
        if gaps[nearest] > SAME_BODY_MM:
            spurious += 1
            continue
        if nearest in true:
            found.add(nearest)
            distances.append(gaps[nearest])
        is_right = located.level == nearest
        right, wrong = right + int(is_right), wrong + int(not is_right)
        if located.certainty >= CERTAIN:
            certain, certain_right = certain + 1, certain_right + int(is_right)
    measured_right = all(
        float(np.linalg.norm(ct.anatomy.vertebra(m.level).centre - m.centre_mm)) <= SAME_BODY_MM
        if any(v.level == m.level for v in ct.anatomy.vertebrae)
        else False
        for m in result.levels
    )
    l1 = next((b for b in result.levels_found if b.level == VertebraLevel.L1), None)
    l1_gap = None if l1 is None else float(np.linalg.norm(every[VertebraLevel.L1] - np.array(l1.centre_mm)))
    row: dict[str, Any] = {}
    if any(v.level == VertebraLevel.T13 for v in ct.anatomy.vertebrae):
        reach = max(ct.anatomy.rib_reach(VertebraLevel.T13)) / ct.anatomy.scale
        row["thirteenth_ribs_visible"] = reach >= VISIBLE_RIB_MM
    return {
        **row,
        "rib_count": {"true": sum(v.level.startswith("T") for v in ct.anatomy.vertebrae), "found": _ribs(result)},
        "l1_right": None if l1_gap is None else l1_gap <= SAME_BODY_MM,
        "bodies": len(true),
        "found": len(found),
        "named_right": right,
        "named_wrong": wrong,
        "spurious": spurious,
        "certain": certain,
        "certain_right": certain_right,
        "centre_error_mm": round(float(np.mean(distances)), 2) if distances else None,
        "measured_levels_right": measured_right if result.levels else None,
    }


def _body(ct: VirtualCT, measured: Any, bodies: np.ndarray) -> dict[str, Any]:
    """Compare one measured body with the truth."""
    if all(v.level != measured.level for v in ct.anatomy.vertebrae):
        return {"error": "this spine has no such level"}
    truth = ct.labels == measured.level.label
    ours = bodies == measured.level.label
    slices = np.flatnonzero(truth.any((0, 1)))
    third = len(slices) // 3
    middle = slices[third : len(slices) - third]
    v = ct.anatomy.vertebra(measured.level)
    return {
        "dice": _dice(ours, truth),
        "dice_middle_third": _dice(ours[:, :, middle], truth[:, :, middle]),
        "hu_error": round(measured.hu.median - ct.true_hu(measured.level), 2),
        "density_error_mg_cm3": round(measured.density.mg_cm3 - v.trabecular_density, 2),
        "height_loss": v.fracture,
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a group of scans."""
    bodies = [b for r in rows for b in r.get("levels", {}).values() if "error" not in b]
    screenable = [r for r in rows if r["screenable"]]
    measured = [r for r in rows if "density_error_mg_cm3" in r]
    named = sum(r["named_right"] + r["named_wrong"] for r in rows)
    certain = sum(r["certain"] for r in rows)

    def mean(values: list[float]) -> float | None:
        return round(float(np.mean(values)), 3) if values else None

    def share(right: int, of: int) -> list[float]:
        """Return number, total, and the exact 95 % interval (Clopper and Pearson) of a share."""
        interval = binomtest(right, of).proportion_ci(0.95, "exact")
        return [right, of, round(float(interval.low), 3), round(float(interval.high), 3)]

    def sd(values: list[float]) -> float | None:
        return round(float(np.std(values, ddof=1)), 3) if len(values) > 1 else None

    l1 = [r for r in rows if r["l1_right"] is not None]
    hu = [b["hu_error"] for b in bodies]
    density = [r["density_error_mg_cm3"] for r in measured]
    return {
        "scans": len(rows),
        "screenable": len(screenable),
        "measured": len(measured),
        "measured_though_level_wrong": sum(r["measured_levels_right"] is False for r in rows),
        "bodies_found": mean([r["found"] / r["bodies"] for r in rows if r["bodies"]]),
        "level_accuracy": round(sum(r["named_right"] for r in rows) / named, 4) if named else None,
        "l1_accuracy": mean([float(r["l1_right"]) for r in rows if r["l1_right"] is not None]),
        "l1_right": share(sum(r["l1_right"] for r in l1), len(rows)),
        "all_right": share(sum(r["named_right"] > 0 and r["named_wrong"] == 0 for r in rows), len(rows)),
        "ribs_right": share(sum(r["rib_count"]["found"] == r["rib_count"]["true"] for r in rows), len(rows)),
        "measured_right": share(sum(r["measured_levels_right"] is True for r in rows), len(rows)),
        "names_called_95_percent": round(certain / named, 4) if named else None,
        "right_of_these": round(sum(r["certain_right"] for r in rows) / certain, 4) if certain else None,
        "spurious_bodies": sum(r["spurious"] for r in rows),
        "centre_error_mm": mean([r["centre_error_mm"] for r in rows if r["centre_error_mm"] is not None]),
        "dice": mean([b["dice"] for b in bodies if b["dice"] is not None]),
        "dice_sd": sd([b["dice"] for b in bodies if b["dice"] is not None]),
        "dice_middle_third": mean([b["dice_middle_third"] for b in bodies if b["dice_middle_third"] is not None]),
        "hu_bias": mean(hu),
        "hu_mae": mean([abs(e) for e in hu]),
        "density_bias_mg_cm3": mean(density),
        "density_mae_mg_cm3": mean([abs(e) for e in density]),
        "density_sd_mg_cm3": sd(density),
        "interval_coverage": mean([float(r["inside_interval"]) for r in measured]),
        "status_agreement": mean([float(r["status"] == r["true_status"]) for r in measured]),
        "seconds_making": mean([r["seconds_making"] for r in rows]),
        "seconds_screening": mean([r["seconds_screening"] for r in rows]),
    }


def _text(figure: float | list[float] | None) -> str:
    """Return a figure, or a share as "12/15"."""
    if isinstance(figure, list):
        return f"{figure[0]:g}/{figure[1]:g}"
    return "" if figure is None else f"{figure:g}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--limit", type=int, default=None, help="largest number of people")
    parser.add_argument("--variant", default=None, help="only people with this variant, such as thirteen_ribs")
    parser.add_argument("--names-only", action="store_true", help="stop after the names of the vertebrae")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    recipe = read_recipe(arguments.recipe)
    plans = [p for p in plan_cohort(recipe) if arguments.variant is None or arguments.variant in p.variants]
    if not plans:
        parser.error(f"--variant must be one of the variants of the recipe, got {arguments.variant}")
    plans = plans[: arguments.limit]
    failed = 0
    jobs = [(plan, i) for plan in plans for i in range(len(plan.scans))]
    with ProcessPoolExecutor(arguments.workers, initializer=_start, initargs=(arguments.device,)) as pool:
        futures = [pool.submit(name_scan if arguments.names_only else measure_scan, *job) for job in jobs]
        rows = []
        for job, future in zip(track(jobs, description="Screening virtual patients"), futures, strict=True):
            try:
                rows.append(future.result())
            except Exception as error:  # noqa: BLE001 - an unexpected error must not lose the other rows
                Console().print(f"{job[0].subject_id}: {type(error).__name__}: {error}")
                failed += 1
    groups = {"all": rows, "no variant": [r for r in rows if not r["variants"]]}
    for variant in sorted({v for r in rows for v in r["variants"]}):
        groups[variant] = [r for r in rows if variant in r["variants"]]
    for visible in (True, False):
        group = [r for r in rows if r.get("thirteenth_ribs_visible") is visible]
        if group:
            groups[f"thirteenth ribs {'longer' if visible else 'not longer'} than processes"] = group
    for name in sorted({r["acquisition"] for r in rows}):
        groups[name] = [r for r in rows if r["acquisition"] == name]
    summary = {name: summarise(group) for name, group in groups.items() if group}
    shown = (
        "scans",
        "measured",
        "measured_though_level_wrong",
        "level_accuracy",
        "l1_accuracy",
        "all_right",
        "dice",
        "dice_middle_third",
        "hu_bias",
        "hu_mae",
        "density_bias_mg_cm3",
        "density_mae_mg_cm3",
        "status_agreement",
    )
    table = Table("group", *(s.replace("_", " ") for s in shown), title=f"Virtual patients: {recipe.name}")
    for name, figures in summary.items():
        table.add_row(name, *(_text(figures[s]) for s in shown))
    Console(width=190).print(table)
    now = datetime.now(UTC)
    arguments.output.mkdir(parents=True, exist_ok=True)
    of = f"{recipe.name.removeprefix('virtual_')}_" if arguments.recipe != RECIPE or arguments.variant else ""
    of += "names_" if arguments.names_only else ""
    path = arguments.output / f"virtual_screening_{of}{now:%Y-%m-%d}.json"
    bundles = ("vertebra_localization_ct", "vertebral_column_ct", "vertebral_body_segmentation_ct")
    content = {
        "date": f"{now:%Y-%m-%d}",
        "what": "virtual patients, never trained on; not diagnostic accuracy",
        "recipe": recipe.name,
        "variant": arguments.variant,
        "names_only": arguments.names_only,
        "people": len(plans),
        "scans_that_failed": failed,
        "weights_sha256": {m: file_sha256(ROOT / "bundles" / m / "models" / "model.pt") for m in bundles},
        "summary": summary,
        "scans": rows,
    }
    write_json(path, content, indent=1)
    Console().print(f"Written: {path.name}")


if __name__ == "__main__":
    main()
