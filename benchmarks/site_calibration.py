"""Error and coverage of calibrations fitted at a site, on virtual people without images.

    python benchmarks/site_calibration.py [--fits 20] [--output benchmarks/results/site_calibration_DATE.json]

For each tube voltage, spread of tissues between people and stability of the HU scale, a line and two internal methods
are fitted to 60 people and used on 200 others. HU are those of the virtual CT, with errors of the scale of each scan;
known densities have an error of 3 mg/cm3.
"""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import ContrastPhase
from osteo_monai.measurement.calibration import fit_regression, regression_rows
from osteo_monai.measurement.calibration.density import Z_90
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.ct import CTPalette

Array = NDArray[np.float64]

PEOPLE, OTHERS = 60, 200
REFERENCE_SD = 3.0
"""mg/cm3; error of a known density (project custom; phantomless bias of 3.0 mg/cm3, PMC8844761)."""
NOISE_SD = 1.0
"""HU; error of the mean of a tissue."""
KVP = (80.0, 100.0, 120.0, 140.0)
SPREADS = {"small": 6.0, "wide": 10.0}
"""SD in HU of a soft tissue between people: that of the virtual CT, and the project's assumption for people."""
SCALES = {"stable": (0.002, 2.0), "unstable": (0.01, 6.0)}
"""SD of the gain and of the offset (HU) of a scan."""
METHODS: dict[str, tuple[int, ...]] = {"line": (), "air and blood": (0, 1), "air, fat and muscle": (0, 2, 3)}


def people(
    count: int, kvp: float, spread: float, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[Array, ...]:
    """Return true and known density, HU of the bone, and HU (n, 4) of air, blood, fat and muscle."""
    true = np.clip(rng.normal(120.0, 42.0, count), 20.0, 260.0)
    bone, tissues = np.empty(count), np.empty((count, 4))
    for i in range(count):
        palette = CTPalette(kvp, ContrastPhase.NATIVE, seed=int(rng.integers(2**31)), spread=spread)
        bone[i] = float(palette.bone(float(true[i])))
        tissues[i] = [palette.tissue(name) for name in ("air", "aorta", "adipose", "muscle")]
    gain, offset = rng.normal(1.0, scale[0], count), rng.normal(0.0, scale[1], count)
    bone = gain * (bone + 1000.0) - 1000.0 + offset + rng.normal(0, NOISE_SD, count)
    tissues = gain[:, None] * (tissues + 1000.0) - 1000.0 + offset[:, None] + rng.normal(0, NOISE_SD, (count, 4))
    return true, true + rng.normal(0, REFERENCE_SD, count), bone, tissues


def errors(kvp: float, spread: float, scale: tuple[float, float], fits: int, seed: int) -> dict[str, dict[str, float]]:
    """Return bias and SD against the true density, and coverage of a known one, for each method."""
    rng = np.random.default_rng([seed, int(kvp)])
    differences: dict[str, list[Array]] = {name: [] for name in METHODS}
    covered: dict[str, list[float]] = {name: [] for name in METHODS}
    widths: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(fits):
        _, known, bone, tissues = people(PEOPLE, kvp, spread, scale, rng)
        new_true, new_known, new_bone, new_tissues = people(OTHERS, kvp, spread, scale, rng)
        for name, columns in METHODS.items():
            used = list(columns)
            fit = fit_regression(regression_rows(bone, tissues[:, used] if used else None), known)
            predicted, sd = fit.predict(regression_rows(new_bone, new_tissues[:, used] if used else None))
            differences[name].append(predicted - new_true)
            covered[name].append(float(np.mean(np.abs(predicted - new_known) <= Z_90 * sd)))
            widths[name].append(float(2 * Z_90 * sd.mean()))
    return {
        name: {
            "bias": round(float(np.mean(differences[name])), 2),
            "sd": round(float(np.std(differences[name])), 2),
            "coverage_90": round(float(np.mean(covered[name])), 3),
            "width": round(float(np.mean(widths[name])), 1),
        }
        for name in METHODS
    }


def main() -> None:
    """Run the simulation, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fits", type=int, default=20, help="number of fits of each setting")
    parser.add_argument("--seed", type=int, default=20261129)
    default = Path(__file__).parent / "results" / f"site_calibration_{date.today()}.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    print("| kVp | tissues | HU scale | method | bias | SD | coverage | width |\n|---|---|---|---|---|---|---|---|")
    for spread_name, spread in SPREADS.items():
        for scale_name, scale in SCALES.items():
            for kvp in KVP:
                for method, numbers in errors(kvp, spread, scale, options.fits, options.seed).items():
                    results.append(
                        {"kvp": kvp, "tissues": spread_name, "scale": scale_name, "method": method, **numbers}
                    )
                    cells = (f"{kvp:g}", spread_name, scale_name, method, *numbers.values())
                    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    settings = {"people": PEOPLE, "others": OTHERS, "fits": options.fits, "seed": options.seed}
    write_json(options.output, {"settings": settings, "results": results})


if __name__ == "__main__":
    main()
