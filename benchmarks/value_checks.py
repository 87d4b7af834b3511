"""How often the checks of values and sizes find an error, by its kind and size, and how often they are wrong.

    python benchmarks/value_checks.py [--people 2000]

Tissues of virtual people (``TissueSpread``, 80 to 140 kVp, native and portal venous) on scanners of their own are
fitted as those of a scan; sizes are drawn from the spread of pitch and width. Writes
``benchmarks/results/value_checks_DATE.json``. Images are not made: the finding of tissues in them is not in the rates.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.progress import track

from osteo_monai.domain import ContrastPhase, Finding, VertebraLevel
from osteo_monai.measurement.calibration import TissueSample, fit_scale
from osteo_monai.measurement.calibration.accuracy import OTHER_KVP_SD, OTHER_SCANNER_SD, WATER_SD_HU
from osteo_monai.measurement.scan_tissues import ScanTissues
from osteo_monai.screening.gates.size import PITCH_SD, WIDTH_MM, SizeFacts, body_size
from osteo_monai.screening.gates.values import ValueFacts, tissue_scale
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.spread import TissueSpread

RESULTS = Path(__file__).parent / "results"
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
WIDTH_SD_SEEN = 0.08


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
    size = PITCH_SD * rng.normal()
    pitch, width = math.exp(size), math.exp(size + WIDTH_SD_SEEN * rng.normal())
    level = VertebraLevel.L1
    return outcome(body_size(SizeFacts(along * pitch, 5, {level: across * width * WIDTH_MM[level]})))


def main() -> None:
    """Run the simulation, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=2000, help="virtual people per error")
    count = parser.parse_args().people
    drawn = list(track(people(count), "drawing people", total=count))
    rows: dict[str, dict[str, int]] = {}
    for name, (offset, gain) in track(SCALES.items(), "scales"):
        rows[f"scale, {name}"] = Counter(scale_outcome(kvp, tissues, offset, gain) for kvp, tissues in drawn)
    rng = np.random.default_rng(7)
    for name, (along, across) in SIZES.items():
        rows[f"spacing, {name}"] = Counter(size_outcome(rng, along, across) for _ in range(count))
    print("| error | refused | warned | nothing |\n|---|---|---|---|")
    for name, counts in rows.items():
        shares = " | ".join(f"{counts.get(key, 0) / count:.1%}" for key in ("refusal", "warning", "nothing"))
        print(f"| {name} | {shares} |")
    write_json(RESULTS / f"value_checks_{datetime.now(UTC):%Y-%m-%d}.json", {"people": count, "counts": rows})


if __name__ == "__main__":
    main()
