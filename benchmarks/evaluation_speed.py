"""Time of the statistics of an evaluation on large tables, one core.

    python benchmarks/evaluation_speed.py [--rows 1000000] [--people 2000]

Paired DeLong test on ``--rows`` rows, clustered and not; rates, ROC band, flexible calibration, decision curve and
difference of net benefit with 2,000 bootstrap samples of ``--people`` rows; fit of 500 studies and of 39, with 2,000
bootstrap samples of each, and of 150 tables on three levels. Writes
``benchmarks/results/evaluation_speed_DATE.json``.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from osteo_monai.statistics import (
    class_performance,
    decision_curve,
    delong_test,
    flexible_calibration,
    net_benefit_difference,
    roc_band,
)
from osteo_monai.statistics.meta_analysis import bootstrap, fit_bivariate, fit_three_levels
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"


def _tables(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    diseased, healthy = (np.maximum(15, rng.lognormal(np.log(n), 0.7, count)).astype(int) for n in (40, 150))
    p = expit(np.array([2.0, 2.7]) + rng.normal(0, [0.7, 0.9], (count, 2)))
    tp, tn = rng.binomial(diseased, p[:, 0]), rng.binomial(healthy, p[:, 1])
    return np.stack([tp, healthy - tn, diseased - tp, tn], axis=1)


def main() -> None:
    """Time each computation, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=2000)
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    truth = rng.random(given.rows) < 0.2
    first, second = (truth + rng.normal(0, spread, given.rows) for spread in (1.0, 1.2))
    subjects = np.arange(given.rows) // 2
    few = slice(0, given.people)
    chance = expit(2 * first[few] - 2.5)
    works: dict[str, Callable[[], Any]] = {
        f"DeLong test, {given.rows} rows": lambda: delong_test(truth, first, second),
        f"the same, two rows a subject, {given.rows} rows": lambda: delong_test(truth, first, second, groups=subjects),
        f"rates, F1 and kappa, {given.people} rows, 2000 samples": lambda: class_performance(
            np.where(truth[few], "yes", "no"), np.where(chance > 0.4, "yes", "no"), ["no", "yes"], resamples=2000
        ),
        f"ROC band, {given.people} rows, 2000 samples": lambda: roc_band(truth[few], first[few], resamples=2000),
        f"flexible calibration, {given.people} rows, 2000 samples": lambda: flexible_calibration(
            truth[few], chance, resamples=2000
        ),
        f"decision curve, {given.people} rows, 2000 samples": lambda: decision_curve(
            truth[few], chance, resamples=2000
        ),
        f"difference of net benefit, {given.people} rows, 2000 samples": lambda: net_benefit_difference(
            truth[few], chance, None, [0.1, 0.2, 0.3], resamples=2000
        ),
        "fit of 500 studies": lambda: fit_bivariate(_tables(500)),
        "fit of 500 studies and 2000 bootstrap samples": lambda: bootstrap(fit_bivariate(_tables(500)), 2000),
        "fit of 39 studies and 2000 bootstrap samples": lambda: bootstrap(fit_bivariate(_tables(39)), 2000),
        "three levels, 150 tables of 75 studies": lambda: fit_three_levels(
            _tables(150), (np.arange(150) // 2).tolist()
        ),
    }
    seconds = {}
    for name, work in works.items():
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        seconds[name] = {"wall": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}
        print(f"{name}: {seconds[name]}", flush=True)
    result = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "seconds": seconds,
    }
    path = RESULTS / f"evaluation_speed_{datetime.now(UTC):%Y-%m-%d}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)
    print(json.dumps(result["seconds"], indent=1))
    print(path)


if __name__ == "__main__":
    main()
