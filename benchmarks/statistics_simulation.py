"""Coverage of the intervals of an evaluation on simulated samples.

    python benchmarks/statistics_simulation.py [--replicates 1000] [--resume FILE]

Differences of sensitivity and of predictive values of two classifiers on the same cases, one or two images a person;
differences of two groups; share of wrong claims of non-inferiority at the margin; ICI, E50 and E90 of miscalibrated
probabilities; ordinal concordance of three classes. Each scenario has the seed that is written with it. The true values
are exact, or means over 4,000,000 cases. Writes ``benchmarks/results/statistics_simulation_DATE.json`` after each
scenario; ``--resume FILE`` skips those that are complete in the file.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.special import expit
from scipy.stats import norm

from osteo_monai.statistics import compare_rates, difference_of_groups, flexible_calibration, ordinal_concordance
from osteo_monai.statistics.proportions import Interval
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
Draw = Callable[[np.random.Generator], dict[str, tuple[Interval, float]]]
"""Draw one sample; return interval and true value of each quantity."""
WRONG = (0.08, 0.14)
"""Shares of wrong calls of the two classifiers."""
BOOTSTRAP = 200


def calls(rng: np.random.Generator, people: int, images: int, shared: float) -> tuple[np.ndarray, ...]:
    """Return truth, two calls and the person of each image; errors are correlated between tests and images."""
    truth = np.repeat(rng.random(people) < 0.3, images)
    person = np.repeat(np.arange(people), images)
    common = np.sqrt(shared) * rng.normal(size=people)[person]
    both = np.sqrt(0.4) * rng.normal(size=people * images)
    found = [truth]
    for wrong in WRONG:
        own = rng.normal(size=people * images)
        latent = common + np.sqrt(1 - shared) * (both + np.sqrt(0.6) * own)
        found.append(truth ^ (latent < norm.ppf(wrong)))
    return (*found, person)


def paired(people: int, images: int) -> Draw:
    """Differences of two classifiers on the same cases, at a prevalence of 30 %."""
    ppv = [0.3 * (1 - e) / (0.3 * (1 - e) + 0.7 * e) for e in WRONG]
    npv = [0.7 * (1 - e) / (0.7 * (1 - e) + 0.3 * e) for e in WRONG]

    def draw(rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
        truth, first, second, person = calls(rng, people, images, 0.5 if images > 1 else 0.0)
        found = compare_rates(truth, first, second, groups=person)
        gap = WRONG[1] - WRONG[0]
        return {
            "sensitivity": (found.sensitivity.difference, gap),
            "specificity": (found.specificity.difference, gap),
            "ppv": (found.ppv, ppv[0] - ppv[1]),
            "npv": (found.npv, npv[0] - npv[1]),
        }

    return draw


def groups(first: int, second: int) -> Draw:
    """Rates of two groups of different people: 0.92 and 0.86, and both 0.97."""

    def draw(rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
        member = np.arange(first + second) < first
        far = difference_of_groups(rng.random(first + second) < np.where(member, 0.92, 0.86), member)
        near = difference_of_groups(rng.random(first + second) < 0.97, member)
        return {"0.92 and 0.86": (far, 0.06), "0.97 and 0.97": (near, 0.0)}

    return draw


def at_the_margin(people: int) -> Draw:
    """Sensitivity of the second test below that of the first by the margin of 0.06.

    "wrong claims" counts intervals with a lower bound above -0.06, by an interval that covers in these cases only.
    """
    margin = WRONG[1] - WRONG[0]

    def draw(rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
        truth, first, second, _ = calls(rng, people, 1, 0.0)
        # errors do not depend on the truth: take all as cases
        found = compare_rates(np.ones(people), second == truth, first == truth).sensitivity.difference
        return {"wrong claims": (Interval(found.value, -1.0, found.low), -margin)}

    return draw


def calibration(people: int, slope: float) -> Draw:
    """Distances of probabilities whose true logit is ``slope`` times theirs, plus a curvature."""

    def true_chance(x: np.ndarray) -> np.ndarray:
        return np.asarray(expit(slope * x + (0.15 if slope != 1 else 0.0) * (x**2 - 1)))

    x = np.random.default_rng(99).normal(-0.8, 1.3, 4_000_000)
    gap = np.abs(true_chance(x) - expit(x))
    true = {"ici": float(gap.mean()), "e50": float(np.quantile(gap, 0.5)), "e90": float(np.quantile(gap, 0.9))}

    def draw(rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
        x = rng.normal(-0.8, 1.3, people)
        found = flexible_calibration(
            rng.random(people) < true_chance(x), expit(x), resamples=BOOTSTRAP, seed=int(rng.integers(1 << 30))
        )
        assert not isinstance(found, str), found
        return {name: (getattr(found, name), value) for name, value in true.items()}

    return draw


def ordinal(people: int, distance: float) -> Draw:
    """Concordance of a normal score whose mean rises by ``distance`` SD from class to class (50, 30 and 20 %)."""
    shares = np.array([0.5, 0.3, 0.2])
    pairs = [(0, 1), (1, 2), (0, 2)]
    weights = np.array([shares[a] * shares[b] for a, b in pairs])
    areas = norm.cdf(distance * np.array([1, 1, 2]) / np.sqrt(2))
    true = float(weights @ areas / weights.sum())

    def draw(rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
        classes = rng.choice(3, people, p=shares)
        return {"concordance": (ordinal_concordance(classes, classes * distance + rng.normal(size=people)), true)}

    return draw


SCENARIOS: dict[str, tuple[int, Draw]] = {
    "paired, 100 people": (1, paired(100, 1)),
    "paired, 300 people": (2, paired(300, 1)),
    "paired, 100 people with 2 images": (3, paired(100, 2)),
    "paired, 300 people with 2 images": (4, paired(300, 2)),
    "two groups of 50": (5, groups(50, 50)),
    "two groups of 200 and 60": (6, groups(200, 60)),
    "non-inferiority at the margin, 200 cases": (7, at_the_margin(200)),
    "non-inferiority at the margin, 800 cases": (8, at_the_margin(800)),
    "ordinal, 60 people": (9, ordinal(60, 1.0)),
    "ordinal, 200 people": (10, ordinal(200, 1.0)),
    "ordinal, 60 people, nearly separated": (11, ordinal(60, 2.5)),
    "calibration, 300 people, slope 0.6": (12, calibration(300, 0.6)),
    "calibration, 1000 people, slope 0.6": (13, calibration(1000, 0.6)),
    "calibration, 1000 people, slope 0.85": (14, calibration(1000, 0.85)),
    "calibration, 1000 people, perfect": (15, calibration(1000, 1.0)),
}
"""Seed and sampler of each scenario."""


def simulate(draw: Draw, seed: int, replicates: int) -> dict[str, Any]:
    """Return coverage, shares of intervals below and above the true value, and mean width of each quantity."""
    rng = np.random.default_rng(seed)
    started = time.process_time()
    found: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(replicates):
        for name, (interval, true) in draw(rng).items():
            if np.isfinite(interval.low):
                row = (true in interval, interval.high < true, interval.low > true, interval.high - interval.low)
                found.setdefault(name, []).append((*row, interval.value - true))
    keys = ("covered", "below", "above", "width", "bias")
    result: dict[str, Any] = {"replicates": replicates, "seed": seed}
    for name, rows in found.items():
        means = {
            key: round(float(np.mean(column)), 4) for key, column in zip(keys, zip(*rows, strict=True), strict=True)
        }
        result[name] = {"intervals": len(rows)} | means
    return result | {"cpu_seconds": round(time.process_time() - started, 1)}


def main() -> None:
    """Run the scenarios, print and write the coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--resume", type=Path, help="result of an earlier run, which is completed in place")
    given = parser.parse_args()
    path = given.resume or RESULTS / f"statistics_simulation_{datetime.now(UTC):%Y-%m-%d}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if given.resume else {"scenarios": {}}
    result |= {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "bootstrap_samples": BOOTSTRAP,
    }
    for name, (seed, draw) in SCENARIOS.items():
        if result["scenarios"].get(name, {}).get("replicates", 0) < given.replicates:
            result["scenarios"][name] = simulate(draw, seed, given.replicates)
            write_json(path, result)
            print(name, json.dumps(result["scenarios"][name]), flush=True)
    print(path)


if __name__ == "__main__":
    main()
