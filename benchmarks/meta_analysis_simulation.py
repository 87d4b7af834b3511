"""Bias and interval coverage of the bivariate model on simulated meta-analyses.

    python benchmarks/meta_analysis_simulation.py [--meta-analyses 1000] [--bootstrap-meta-analyses 200]
        [--three-levels 1000]

The true values are near those of the review for osteoporosis: sensitivity 0.88, specificity 0.94, between-study
variances of the logits 0.5 and 0.8, correlation -0.4. Counts are binomial; sizes are log-normal with medians of 40
diseased and 150 healthy subjects. Scenarios: 3 to 39 studies, and tables of studies that share three quarters of their
between-study variance, 39 of 20 studies as in the review. ``covered_reported`` is the coverage of the interval that the
report gives: cluster-robust, or with t quantiles. ``--three-levels`` adds the three-level model in the
scenarios with several tables a study, beside the clustered intervals of the same meta-analyses. Writes
``benchmarks/results/meta_analysis_simulation_DATE.json`` after each step; ``--resume FILE`` skips the scenarios that
are complete in the file.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.special import expit, logit

from osteo_monai.statistics.meta_analysis import bootstrap, fit_bivariate, fit_three_levels
from osteo_monai.statistics.meta_analysis.estimates import auc_of_curve
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
MEAN = logit(np.array([0.88, 0.94]))
TAU2 = np.array([0.5, 0.8])
RHO = -0.4
SHARED = 0.75
SCENARIOS = (
    ("20 studies", 20, 20),
    ("39 tables of 20 studies", 20, 39),
    ("6 studies", 6, 6),
    ("39 studies", 39, 39),
    ("3 studies", 3, 3),
    ("4 studies", 4, 4),
    ("5 studies", 5, 5),
    ("7 studies", 7, 7),
    ("8 studies", 8, 8),
    ("9 studies", 9, 9),
    ("10 studies", 10, 10),
    ("14 studies", 14, 14),
    ("12 tables of 6 studies", 6, 12),
    ("24 tables of 12 studies", 12, 24),
)
REPLICATES = 200
"""Bootstrap samples in the scenarios; the coarse percentiles reduce the coverage by at most one point."""
AUC = float(auc_of_curve(MEAN, np.sqrt(TAU2)))


def draw(rng: np.random.Generator, studies: int, tables: int) -> tuple[np.ndarray, list[int]]:
    """Return one meta-analysis, (tables, 4), and the study of each table."""
    covariance = RHO * np.sqrt(TAU2.prod())
    factor = np.linalg.cholesky(np.array([[TAU2[0], covariance], [covariance, TAU2[1]]]))
    study = np.arange(tables) % studies
    effect = rng.standard_normal((tables, 2))
    if tables > studies:
        effect = np.sqrt(SHARED) * rng.standard_normal((studies, 2))[study] + np.sqrt(1 - SHARED) * effect
    diseased = np.maximum(10, rng.lognormal(np.log(40), 0.7, studies)).astype(int)[study]
    healthy = np.maximum(15, rng.lognormal(np.log(150), 0.8, studies)).astype(int)[study]
    p = expit(MEAN + effect @ factor.T)
    tp, tn = rng.binomial(diseased, p[:, 0]), rng.binomial(healthy, p[:, 1])
    return np.stack([tp, healthy - tn, diseased - tp, tn], axis=1), study.tolist()


def simulate(
    count: int, studies: int, tables: int, with_bootstrap: int, seed: int, save: Callable[[dict[str, Any]], None]
) -> None:
    """Fit ``count`` meta-analyses by each method; the first ``with_bootstrap`` exact fits are bootstrapped.

    ``save`` is given what was found so far, after every 100 and at the end.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, float]]] = {"binomial": [], "reml": [], "ml": []}
    failures = dict.fromkeys(rows, 0)
    started = time.process_time()
    for number in range(count):
        cells, study = draw(rng, studies, tables)
        for method, kept in rows.items():
            try:
                fit = fit_bivariate(cells, method)  # type: ignore[arg-type]
            except ValueError:
                failures[method] += 1
                continue
            if not fit.converged:
                failures[method] += 1
                continue
            s = fit.summary()
            row = {
                "logit_se": s.mean[0] - MEAN[0],
                "logit_sp": s.mean[1] - MEAN[1],
                "tau2_se": fit.tau2[0] - TAU2[0],
                "tau2_sp": fit.tau2[1] - TAU2[1],
                "rho": fit.correlation - RHO,
                "auc": fit.auc - AUC,
                "se_covered": float(expit(MEAN[0]) in s.sensitivity),
                "sp_covered": float(expit(MEAN[1]) in s.specificity),
                "boundary": float(any(m.startswith("Boundary") for m in fit.messages)),
            }
            reported = fit.reported(study if tables > studies else None)
            point = reported.summary()
            row["se_covered_reported"] = float(expit(MEAN[0]) in point.sensitivity)
            row["sp_covered_reported"] = float(expit(MEAN[1]) in point.specificity)
            if number < with_bootstrap and method == "binomial":
                again = bootstrap(reported, REPLICATES, seed=number)
                interval = again.auc_interval(fit)
                if np.isfinite(interval.low):
                    row["auc_covered"] = float(AUC in interval)
                row["se_covered_bootstrap"] = float(expit(MEAN[0]) in again.sensitivity_interval(fit))
                row["sp_covered_bootstrap"] = float(expit(MEAN[1]) in again.specificity_interval(fit))
            kept.append(row)
        if (number + 1) % 100 == 0 or number + 1 == count:
            done = {"meta_analyses": number + 1, "studies": studies, "tables": tables, "seed": seed}
            save(done | {"cpu_seconds": round(time.process_time() - started, 1)} | summarised(rows, failures))


def summarised(rows: dict[str, list[dict[str, float]]], failures: dict[str, int]) -> dict[str, Any]:
    """Return mean and Monte Carlo standard error of each column, by method."""
    found = {}
    for method, kept in rows.items():
        entry: dict[str, Any] = {"fitted": len(kept), "no_estimate": failures[method]}
        for name in dict.fromkeys(key for row in kept for key in row):
            values = np.array([row[name] for row in kept if name in row and np.isfinite(row[name])])
            what = "" if name == "boundary" or "covered" in name else "_bias"
            entry[name + what] = round(float(values.mean()), 4)
            entry[name + what + "_mc_se"] = round(float(values.std(ddof=1) / np.sqrt(len(values))), 4)
            if "covered" in name:
                entry[name + "_n"] = len(values)
        found[method] = entry
    return found


def simulate_three_levels(
    count: int, studies: int, tables: int, seed: int, save: Callable[[dict[str, Any]], None]
) -> None:
    """Find coverage and bias of the exact three-level model, and the coverage of the clustered intervals.

    ``save`` is given what was found so far, after every 100 meta-analyses and at the end.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, float]] = []
    failures = 0
    truth = expit(MEAN)
    started = time.process_time()
    for number in range(count):
        cells, study = draw(rng, studies, tables)
        try:
            fit = fit_three_levels(cells, study)
        except ValueError:
            failures += 1
            continue
        failures += not fit.converged
        point, clustered = fit.summary(), fit_bivariate(cells).reported(study).summary()
        rows.append(
            {
                "logit_se": fit.mean[0] - MEAN[0],
                "logit_sp": fit.mean[1] - MEAN[1],
                "between_se": fit.between[0, 0] - SHARED * TAU2[0],
                "between_sp": fit.between[1, 1] - SHARED * TAU2[1],
                "within_se": fit.within[0, 0] - (1 - SHARED) * TAU2[0],
                "within_sp": fit.within[1, 1] - (1 - SHARED) * TAU2[1],
                "se_covered": float(truth[0] in point.sensitivity),
                "sp_covered": float(truth[1] in point.specificity),
                "se_covered_clustered": float(truth[0] in clustered.sensitivity),
                "sp_covered_clustered": float(truth[1] in clustered.specificity),
                "boundary": float(any(m.startswith("Boundary") for m in fit.messages)),
            }
        )
        if (number + 1) % 100 == 0 or number + 1 == count:
            done: dict[str, Any] = {"meta_analyses": number + 1, "studies": studies, "tables": tables, "seed": seed}
            done |= {"not_converged": failures, "cpu_seconds": round(time.process_time() - started, 1)}
            save(done | summarised({"binomial": rows}, {"binomial": failures}))


def main() -> None:
    """Run the scenarios, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meta-analyses", type=int, default=1000)
    parser.add_argument("--bootstrap-meta-analyses", type=int, default=200)
    parser.add_argument("--three-levels", type=int, default=0, metavar="N", help="meta-analyses of each scenario")
    parser.add_argument("--resume", type=Path, help="result of an earlier run, which is completed in place")
    parser.add_argument("--scenarios", nargs="+", choices=[name for name, *_ in SCENARIOS], help="default: all")
    given = parser.parse_args()
    n, b = given.meta_analyses, given.bootstrap_meta_analyses
    path = given.resume or RESULTS / f"meta_analysis_simulation_{datetime.now(UTC):%Y-%m-%d}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if given.resume else {"scenarios": {}}
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    result |= {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine | {"numpy": np.__version__, "scipy": scipy.__version__},
        "truth": {"sensitivity": 0.88, "specificity": 0.94, "tau2": TAU2.tolist(), "rho": RHO, "auc": round(AUC, 6)},
        "bootstrap_replicates": REPLICATES,
    }
    path.parent.mkdir(exist_ok=True)

    def saver(part: str, name: str) -> Callable[[dict[str, Any]], None]:
        def save(found: dict[str, Any]) -> None:
            result.setdefault(part, {})[name] = found
            write_json(path, result)
            print(f"{part}, {name}: {found['meta_analyses']} meta-analyses", flush=True)

        return save

    wanted = [scenario for scenario in SCENARIOS if given.scenarios is None or scenario[0] in given.scenarios]
    for name, studies, tables in wanted:
        if result["scenarios"].get(name, {}).get("meta_analyses", 0) < n:
            simulate(n, studies, tables, b, tables + studies, saver("scenarios", name))
    for name, studies, tables in wanted:
        done = result.get("three_levels", {}).get(name, {}).get("meta_analyses", 0)
        if tables > studies and done < given.three_levels:
            simulate_three_levels(given.three_levels, studies, tables, 1000 + tables, saver("three_levels", name))
    print(path)


if __name__ == "__main__":
    main()
