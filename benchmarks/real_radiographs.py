"""The chest bundle on real frontal chest radiographs: who is read, and how the risk goes with age and sex.

    OSTEO_REAL_DATA=FOLDER python benchmarks/real_radiographs.py [--pictures FOLDER]

The radiographs have no bone label: what comes out is an association, not an accuracy. Prints a summary and writes
counts and figures, no rows of persons, to ``benchmarks/results/real_radiographs_DATE.json``; with ``--pictures`` also
the heat maps, for looking at, into a folder outside the repository.
"""

import argparse
import os
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr

from osteo_monai.bundle import load_bundle
from osteo_monai.data.csv_tables import read_table
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.radiograph import read_radiograph
from osteo_monai.utils.files import write_json, writing

ROOT = Path(__file__).parents[1]
BUNDLE = "osteoporosis_classification_chest_xray"
RESAMPLES = 2000


def interval(values: list[float]) -> list[float]:
    """95 % interval of bootstrap values; those that could not be computed are left out."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return [round(float(low), 3), round(float(high), 3)]


def higher(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a person of ``first`` has a higher risk than one of ``second``; ties count half."""
    if not len(first) or not len(second):
        return float("nan")
    difference = first[:, None] - second[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def associations(people: list[tuple[float, str, float]]) -> dict[str, Any]:
    """Spearman's correlation of risk with age, and the chance that a woman's risk is above a man's; by subject."""
    age, risk = (np.array([one[i] for one in people]) for i in (0, 2))
    female = np.array([one[1] == "F" for one in people])
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(people), len(people)) for _ in range(RESAMPLES)]
    return {
        "subjects": len(people),
        "women": int(female.sum()),
        "spearman_risk_age": round(float(spearmanr(age, risk).statistic), 3),
        "spearman_risk_age_95": interval([float(spearmanr(age[d], risk[d]).statistic) for d in draws]),
        "woman_above_man": round(higher(risk[female], risk[~female]), 3),
        "woman_above_man_95": interval([higher(risk[d][female[d]], risk[d][~female[d]]) for d in draws]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder for the heat maps, outside the repository")
    arguments = parser.parse_args()
    if "OSTEO_REAL_DATA" not in os.environ:
        parser.error("OSTEO_REAL_DATA must name the folder that holds cxr_frontal")
    folder = Path(os.environ["OSTEO_REAL_DATA"]) / "cxr_frontal"
    torch.set_num_threads(1)
    bundle = load_bundle(BUNDLE)
    outcomes: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    risks: dict[str, list[float]] = defaultdict(list)
    facts: dict[str, tuple[float, str]] = {}
    seconds, shown = [], []
    rows = [row for _, row in read_table(folder / "index.csv", ("file", "subject", "age", "sex")).rows]
    for row in track(rows, "radiographs"):
        started = time.perf_counter()
        try:
            radiograph = read_radiograph(folder / row["file"], "chest_frontal")
        except (ScanRefusedError, UnusableInputError) as error:
            outcomes["refused"] += 1
            findings.update(f.code for f in getattr(error, "findings", ()))
            continue
        answer = bundle(torch.from_numpy(radiograph.pixels)[None])
        seconds.append(time.perf_counter() - started)
        outcomes["answered"] += 1
        findings.update(f.code for f in radiograph.findings)
        risks[row["subject"]].append(float(answer["pred"][0]))
        facts[row["subject"]] = float(row["age"]), row["sex"]
        shown.append((radiograph.pixels, answer["heat"][0], float(answer["pred"][0])))
    people = [(*facts[subject], float(np.mean(own))) for subject, own in risks.items()]
    pooled = np.array([value for own in risks.values() for value in own])
    result = {
        "bundle": bundle.name,
        "weights_sha256": bundle.weights_sha256,
        "radiographs": len(rows),
        **outcomes,
        "findings": dict(findings.most_common()),
        "risk_quartiles": [round(float(q), 4) for q in np.quantile(pooled, [0, 0.25, 0.5, 0.75, 1])],
        **associations(people),
        "seconds_median": round(float(np.median(seconds)), 3),
    }
    Console().print_json(data=result)
    name = f"real_radiographs_{datetime.now(UTC):%Y-%m-%d}.json"
    write_json(ROOT / "benchmarks" / "results" / name, result, indent=1)
    if arguments.pictures:
        draw(shown, arguments.pictures)


def draw(shown: list[tuple[np.ndarray, Any, float]], folder: Path) -> None:
    """Write sheets of radiographs with their heat maps over them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(shown), 18):
        figure = Figure(figsize=(18, 9.6), layout="constrained")
        FigureCanvasAgg(figure)
        for axis, (pixels, heat, risk) in zip(figure.subplots(3, 6).flat, shown[start : start + 18], strict=False):
            axis.imshow(pixels, cmap="gray", extent=(0, 1, 0, 1))
            axis.imshow(np.asarray(heat), cmap="jet", alpha=0.35, extent=(0, 1, 0, 1))
            axis.set_title(f"{risk:.3f}", fontsize=9)
        for axis in figure.axes:
            axis.set_axis_off()
        with writing(folder / f"heat_{start // 18}.png") as temporary:
            figure.savefig(temporary, dpi=70)


if __name__ == "__main__":
    main()
