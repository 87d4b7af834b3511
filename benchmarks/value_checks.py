"""How often the checks of values and sizes find an error, by its kind and size, and how often they are wrong.

    python benchmarks/value_checks.py [--people 2000] [--scans 12]

Tissues of virtual people (``TissueSpread``, 80 to 140 kVp, native and portal venous) on scanners of their own are
fitted as those of a scan; sizes are drawn from the spread of people that the gate states. With ``--scans``, scans of
the recipe ``virtual_calibration`` are painted as well, and the whole check of values is run on their images with each
error. Writes ``benchmarks/results/value_checks_DATE.json``.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from osteo_monai.domain import ContrastPhase, Finding, VertebraLevel
from osteo_monai.measurement.calibration import TissueSample, fit_scale
from osteo_monai.measurement.calibration.accuracy import OTHER_KVP_SD, OTHER_SCANNER_SD, WATER_SD_HU
from osteo_monai.measurement.scan_tissues import ScanTissues
from osteo_monai.screening.ct.values import value_facts
from osteo_monai.screening.gates import run_gates
from osteo_monai.screening.gates.size import MEAN_MM, PITCH_SD, REST_R, REST_SD, SLOPE, SizeFacts, body_size
from osteo_monai.screening.gates.values import VALUE_GATES, ValueFacts, tissue_scale
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.cohort import grow, scan
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.plan import ScanPlan, plan_cohort
from osteo_monai.virtual.recipe import read_recipe
from osteo_monai.virtual.spread import TissueSpread

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RECIPE = ROOT / "data_manifests" / "recipes" / "virtual_calibration.json"
MATRIX = 256
"""Rows and columns of the painted scans, for speed."""
SCALES = {
    "none": (0.0, 1.0), "offset 10": (10.0, 1.0), "offset 25": (25.0, 1.0), "offset -25": (-25.0, 1.0),
    "offset 50": (50.0, 1.0), "offset -50": (-50.0, 1.0), "offset 100": (100.0, 1.0), "HU x 1.02": (0.0, 1.02),
    "HU x 1.05": (0.0, 1.05), "HU x 1.1": (0.0, 1.1), "HU x 0.8": (0.0, 0.8), "slope 0.8": (-204.8, 0.8),
    "slope 1.05": (51.2, 1.05), "slope 1.1": (102.4, 1.1),
}  # fmt: skip
"""Offset and gain of the values; a slope of stored values acts about -1024 HU."""
SIZES = {
    f"{axis} x {factor:g}": tuple(factor if part in axis else 1.0 for part in ("along", "across"))
    for factor in (0.75, 0.8, 1.25, 1.33, 1.5)
    for axis in ("along", "across", "along and across")
} | {"none": (1.0, 1.0)}


def people(count: int) -> Iterator[tuple[float, dict[str, float]]]:
    """Return tube voltage and HU of air, fat and muscle of each person."""
    for n in range(count):
        rng = np.random.default_rng([n, 20261129])
        kvp = float(rng.choice([80.0, 100.0, 120.0, 140.0]))
        phase = ContrastPhase.NATIVE if rng.random() < 0.5 else ContrastPhase.PORTAL_VENOUS
        beam = math.exp(math.hypot(OTHER_SCANNER_SD, 0.0 if kvp == 120.0 else OTHER_KVP_SD) * rng.normal())
        palette = CTPalette(kvp, phase, seed=n, tissues=TissueSpread(), beam=beam)
        water, gain = WATER_SD_HU * rng.normal(), 1.0 + 0.004 * rng.normal()
        yield kvp, {name: water + gain * float(palette.tissue(name)) for name in ("air", "adipose", "muscle")}


def outcome(finding: Finding | None) -> str:
    """Return the severity of a finding."""
    return "nothing" if finding is None else finding.severity.value


def scale_outcome(kvp: float, tissues: dict[str, float], offset: float, gain: float) -> str:
    """Return what the tissue gate answers for values of a wrong scale."""
    air, fat, lean = (TissueSample(offset + gain * tissues[n], 5000.0) for n in ("air", "adipose", "muscle"))
    found = ScanTissues(air, fat, lean, np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64))
    return outcome(tissue_scale(ValueFacts(None, found, fit_scale(found.samples(), kvp))))


def size_outcome(rng: np.random.Generator, along: float, across: float) -> str:
    """Return what the size gate answers for a person with wrong spacing."""
    names = list(MEAN_MM)
    r = np.array([[REST_R.get((a, b), REST_R.get((b, a), 1.0)) for b in names] for a in names])
    sd = np.array([REST_SD[name] for name in names])
    spread = r * np.outer(sd, sd)
    size = PITCH_SD * rng.normal()
    rest = rng.multivariate_normal(np.zeros(len(names)), spread)
    level = VertebraLevel.L1
    lengths = {
        name: {level: across * math.exp(SLOPE[name] * size + own) * MEAN_MM[name][level]}
        for name, own in zip(names, rest, strict=True)
    }
    return outcome(body_size(SizeFacts(along * math.exp(size), 5, lengths)))


def painted(count: int) -> Iterator[tuple[float, tuple[float, float, float], NDArray[np.float32]]]:
    """Yield tube voltage, spacing and HU of the first scans of the recipe."""
    for plan in plan_cohort(read_recipe(RECIPE))[:count]:
        anatomy, _ = grow(plan, dxa=False)
        for planned in plan.scans:
            if isinstance(planned, ScanPlan):
                factor = planned.matrix[0] / MATRIX
                smaller = planned.model_copy(update={"pixel": planned.pixel * factor, "matrix": (MATRIX, MATRIX)})
                made = scan(anatomy, smaller, plan.tissues)
                spacing = (smaller.pixel, smaller.pixel, smaller.slice_step)
                yield planned.kvp, spacing, np.asfortranarray(made.hu)


def image_outcome(hu: NDArray[np.float32], spacing: tuple[float, float, float], kvp: float) -> str:
    """Return the most severe answer of the check of values on an image."""
    found = run_gates(VALUE_GATES, value_facts(np.asfortranarray(hu, np.float32), spacing, None, kvp))
    severities = {f.severity.value for f in found}
    return next((name for name in ("refusal", "warning") if name in severities), "nothing")


def spoiled(hu: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the image with each error."""
    for name, (offset, gain) in SCALES.items():
        yield f"image, {name}", np.rint(offset + gain * hu)
    yield "image, above 0 HU x 1.15", np.where(hu > 0, np.rint(1.15 * hu), hu)
    yield "image, clipped at 250 HU", np.minimum(hu, 250.0)
    yield "image, steps of 16 HU", 16.0 * np.floor(hu / 16.0)
    part = hu.copy()
    part[:, :, hu.shape[2] // 2 :] += 25.0
    yield "image, 25 HU in a half of the slices", part


def main() -> None:
    """Run the simulation, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=2000, help="virtual people per error")
    parser.add_argument("--scans", type=int, default=0, help="painted scans, with each error")
    arguments = parser.parse_args()
    count = arguments.people
    drawn = list(track(people(count), "drawing people", total=count))
    rows: dict[str, dict[str, int]] = {}
    for name, (offset, gain) in track(SCALES.items(), "scales"):
        rows[f"scale, {name}"] = Counter(scale_outcome(kvp, tissues, offset, gain) for kvp, tissues in drawn)
    rng = np.random.default_rng(7)
    for name, (along, across) in SIZES.items():
        rows[f"spacing, {name}"] = Counter(size_outcome(rng, along, across) for _ in range(count))
    for kvp, spacing, hu in track(painted(arguments.scans), "painting scans", total=arguments.scans):
        for name, image in spoiled(hu):
            rows.setdefault(name, Counter())[image_outcome(image, spacing, kvp)] += 1
    print("| error | refused | warned | nothing |\n|---|---|---|---|")
    for name, counts in rows.items():
        total = sum(counts.values())
        shares = " | ".join(f"{counts.get(key, 0) / total:.1%}" for key in ("refusal", "warning", "nothing"))
        print(f"| {name} | {shares} |")
    record = {"people": count, "scans": arguments.scans, "counts": rows}
    write_json(RESULTS / f"value_checks_{datetime.now(UTC):%Y-%m-%d}.json", record)


if __name__ == "__main__":
    main()
