"""The chest bundle on real frontal chest radiographs: who is read, how the risk goes with age and sex, and repeats.

    OSTEO_REAL_DATA=FOLDER python benchmarks/real_radiographs.py [--bundle DIR] [--against DIR] [--pictures DIR]

The radiographs have no bone label: what comes out is an association, not an accuracy. Measured are the rank correlation
of the risk with age, over all people and within each sex, and the agreement of several radiographs of one person, whose
bones are the same. Intervals are bootstraps by person. Prints a summary and writes
counts and figures, no rows of persons, to ``benchmarks/results/real_radiographs_DATE.json``; with ``--pictures`` also
the heat maps, for looking at, into a folder outside the repository.
"""

import argparse
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr

from osteo_monai.bundle import InferenceBundle, load_bundle
from osteo_monai.data.csv_tables import read_table
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.radiograph import read_radiograph
from osteo_monai.statistics.repeatability import repeatability
from osteo_monai.utils.files import write_json, writing

ROOT = Path(__file__).parents[1]
BUNDLE = "osteoporosis_classification_chest_xray"
RESAMPLES = 2000
Person = tuple[float, str, float]
"""Age, sex (F or M) and mean risk of the person's radiographs."""


def rounded(value: float) -> float | None:
    """Return three decimals for JSON; ``None`` for what cannot be computed."""
    return round(value, 3) if np.isfinite(value) else None


def interval(values: list[float]) -> list[float] | None:
    """95 % interval of bootstrap values; those that could not be computed are left out."""
    usable = [value for value in values if np.isfinite(value)]
    if not usable:
        return None
    low, high = np.quantile(usable, [0.025, 0.975])
    return [round(float(low), 3), round(float(high), 3)]


def higher(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a person of ``first`` has a higher risk than one of ``second``; ties count half."""
    if not len(first) or not len(second):
        return float("nan")
    difference = first[:, None] - second[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def correlation(age: np.ndarray, risk: np.ndarray) -> float:
    """Return Spearman's rank correlation; NaN without three people or without a spread of both."""
    if len(age) < 3 or np.ptp(age) == 0 or np.ptp(risk) == 0:
        return float("nan")
    return float(spearmanr(age, risk).statistic)


def within_sexes(age: np.ndarray, risk: np.ndarray, female: np.ndarray) -> float:
    """Return the mean of the correlations of women and of men, weighted by their number less one."""
    found = [(int(of.sum()) - 1, correlation(age[of], risk[of])) for of in (female, ~female)]
    usable = [(weight, value) for weight, value in found if weight > 1 and np.isfinite(value)]
    return sum(w * v for w, v in usable) / sum(w for w, _ in usable) if usable else float("nan")


def _measures(people: list[Person]) -> dict[str, Callable[[np.ndarray], float]]:
    """Return the rank correlations of risk with age as functions of the chosen people's indices."""
    age, risk = (np.array([one[i] for one in people]) for i in (0, 2))
    female = np.array([one[1] == "F" for one in people])
    return {
        "spearman_risk_age": lambda d: correlation(age[d], risk[d]),
        "spearman_women": lambda d: correlation(age[d][female[d]], risk[d][female[d]]),
        "spearman_men": lambda d: correlation(age[d][~female[d]], risk[d][~female[d]]),
        "spearman_within_sexes": lambda d: within_sexes(age[d], risk[d], female[d]),
        "woman_above_man": lambda d: higher(risk[d][female[d]], risk[d][~female[d]]),
    }


def _draws(people: int) -> list[np.ndarray]:
    """Return the people of each resample, the same in each call."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, people, people) for _ in range(RESAMPLES)]


def associations(people: list[Person]) -> dict[str, Any]:
    """Spearman's correlation of risk with age, and the chance that a woman's risk is above a man's; by subject."""
    draws, everyone = _draws(len(people)), np.arange(len(people))
    numbers: dict[str, Any] = {"subjects": len(people), "women": sum(one[1] == "F" for one in people)}
    for name, measure in _measures(people).items():
        numbers[name] = rounded(measure(everyone))
        numbers[f"{name}_95"] = interval([measure(d) for d in draws])
    return numbers


def differences(people: list[Person], others: list[Person]) -> dict[str, Any]:
    """Measures of ``people`` less those of ``others``, the same people with the risks of another bundle; paired."""
    draws, everyone = _draws(len(people)), np.arange(len(people))
    first, second = _measures(people), _measures(others)
    numbers: dict[str, Any] = {}
    for name in first:
        numbers[name] = rounded(first[name](everyone) - second[name](everyone))
        numbers[f"{name}_95"] = interval([first[name](d) - second[name](d) for d in draws])
    return numbers


def agreement(logits: dict[str, list[float]]) -> dict[str, Any]:
    """Agreement of the logits of several radiographs of one person, against the spread between people.

    ``icc`` is the share of the variance of single radiographs that lies between people; ``sd_within`` and
    ``sd_between`` are the SDs of the logit of one person's radiographs and of people's means (``sd_all`` with those of
    one radiograph).
    """
    repeated = [values for values in logits.values() if len(values) > 1]
    if len(repeated) < 2:
        return {"repeated_subjects": len(repeated)}

    def icc(chosen: list[list[float]]) -> float:
        return repeatability(
            np.concatenate(chosen), np.repeat(np.arange(len(chosen)), [len(v) for v in chosen])
        ).icc.value

    rng = np.random.default_rng(1)
    draws = [[repeated[i] for i in rng.integers(0, len(repeated), len(repeated))] for _ in range(RESAMPLES)]
    within = [np.subtract(values, np.mean(values)) for values in repeated]
    df = sum(len(values) - 1 for values in repeated)
    return {
        "repeated_subjects": len(repeated),
        "repeated_radiographs": sum(len(values) for values in repeated),
        "icc": rounded(icc(repeated)),
        "icc_95": interval([icc(draw) for draw in draws]),
        "sd_within": round(float(np.sqrt(sum((w**2).sum() for w in within) / df)), 3),
        "sd_between": round(float(np.std([np.mean(values) for values in repeated], ddof=1)), 3),
        "sd_all": round(float(np.std([np.mean(values) for values in logits.values()], ddof=1)), 3),
    }


def risks_of(
    bundle: InferenceBundle, radiographs: list[tuple[dict[str, str], np.ndarray]], pictures: Path | None
) -> tuple[list[Person], dict[str, Any]]:
    """Return the people with their mean risk, and the figures of one bundle; with ``pictures``, draw the heat maps."""
    risks: dict[str, list[float]] = defaultdict(list)
    facts: dict[str, tuple[float, str]] = {}
    shown, seconds = [], []
    for row, pixels in track(radiographs, bundle.name):
        started = time.perf_counter()
        answer = bundle(torch.from_numpy(pixels)[None])
        seconds.append(time.perf_counter() - started)
        risks[row["subject"]].append(float(answer["pred"][0]))
        facts[row["subject"]] = float(row["age"]), row["sex"]
        shown.append((pixels, answer["heat"][0], float(answer["pred"][0])))
    people = [(*facts[subject], float(np.mean(own))) for subject, own in risks.items()]
    pooled = np.array([value for own in risks.values() for value in own])
    if pictures is not None:
        draw(shown, pictures)
    return people, {
        "bundle": bundle.name,
        "weights_sha256": bundle.weights_sha256,
        "risk_quartiles": [round(float(q), 4) for q in np.quantile(pooled, [0, 0.25, 0.5, 0.75, 1])],
        **associations(people),
        **agreement({subject: [float(np.log(r / (1 - r))) for r in own] for subject, own in risks.items()}),
        "seconds_median": round(float(np.median(seconds)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder for the heat maps, outside the repository")
    parser.add_argument("--bundle", default=BUNDLE, help="name or folder of the bundle (default: the published one)")
    parser.add_argument("--against", help="name or folder of a second bundle: paired differences of the measures")
    arguments = parser.parse_args()
    if "OSTEO_REAL_DATA" not in os.environ:
        parser.error("OSTEO_REAL_DATA must name the folder that holds cxr_frontal")
    folder = Path(os.environ["OSTEO_REAL_DATA"]) / "cxr_frontal"
    torch.set_num_threads(1)
    names = [name for name in (arguments.bundle, arguments.against) if name]
    bundles = [load_bundle(name, trust=name != BUNDLE) for name in names]
    outcomes: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    radiographs: list[tuple[dict[str, str], np.ndarray]] = []
    rows = [row for _, row in read_table(folder / "index.csv", ("file", "subject", "age", "sex")).rows]
    for row in track(rows, "radiographs"):
        try:
            radiograph = read_radiograph(folder / row["file"], "chest_frontal")
        except (ScanRefusedError, UnusableInputError) as error:
            outcomes["refused"] += 1
            findings.update(f.code for f in getattr(error, "findings", ()))
            continue
        outcomes["answered"] += 1
        findings.update(f.code for f in radiograph.findings)
        radiographs.append((row, radiograph.pixels))
    people, figures = risks_of(bundles[0], radiographs, arguments.pictures)
    result = {"radiographs": len(rows), **outcomes, "findings": dict(findings.most_common()), **figures}
    if arguments.against:
        others, result["against"] = risks_of(bundles[1], radiographs, None)
        result["differences"] = differences(people, others)
    Console().print_json(data=result)
    name = f"real_radiographs_{datetime.now(UTC):%Y-%m-%d_%H%M}.json"
    write_json(ROOT / "benchmarks" / "results" / name, result, indent=1)


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
