"""Bias, SD and coverage of the 90 % interval of each calibration, simulated and on whole virtual CTs.

    python benchmarks/calibration_accuracy.py [--scans-per-condition 3000] [--cohort DIR] [--plot FILE]

Each simulated scan has the HU of tissues and of trabecular bone of a virtual person (``osteo_monai.virtual.ct``), with
the spreads of ``SPREAD``: tissues between people, effective energy and HU scale between scanners, beam hardening at the
spine between people. ``--cohort`` measures a cohort of the recipe ``virtual_calibration`` with the steps of screening,
by each method. Writes ``benchmarks/results/calibration_accuracy_DATE.json``.

A method is a function from the training scans of one scanner (``TRAINING``, with known density) to a calibration of a
new scan of that scanner: add it to ``METHODS``.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from osteo_monai.domain import ContrastPhase
from osteo_monai.measurement.calibration import TissueSample, calibrate, density
from osteo_monai.measurement.calibration.accuracy import (
    HU_GAIN_SD,
    INTERNAL_RELATIVE_SD,
    OTHER_KVP_SD,
    OTHER_SCANNER_SD,
    WATER_SD_HU,
)
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.utils.files import write_json, writing
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.spread import TissueSpread

RESULTS = Path(__file__).parent / "results"
KVPS = (80.0, 100.0, 120.0, 140.0)
TRAINING = 60
SCANS_PER_SCANNER = 2
SPREAD = {
    "tissues": "osteo_monai.virtual.spread.TissueSpread",
    "effective energy between scanners, relative SD of HU per mg/cm3": OTHER_SCANNER_SD,
    "the same away from 120 kVp, in addition": OTHER_KVP_SD,
    "HU of water, SD (half of the variance between scanners, half between scans)": WATER_SD_HU,
    "gain of the HU scale, SD": HU_GAIN_SD,
    "beam hardening at the spine between people, relative SD": INTERNAL_RELATIVE_SD,
}
NOISE_HU = 1.5
"""Standard error of the HU of a tissue or a trabecular region."""


@dataclass(frozen=True)
class Scan:
    """One simulated scan.

    Attributes:
        truth: mg/cm3 K2HPO4, as by QCT with a phantom in the scan.
        hu: of the trabecular region.
    """

    truth: float
    hu: float
    tissues: Mapping[str, TissueSample]
    kvp: float
    phase: ContrastPhase


@dataclass(frozen=True)
class Scanner:
    """One scanner, with its training scans."""

    kvp: float
    phase: ContrastPhase
    number: int

    def scan(self, number: int) -> Scan:
        """Simulate one person in this scanner."""
        own = np.random.default_rng([self.number, int(self.kvp), 1])
        beam_sd = np.hypot(OTHER_SCANNER_SD, 0.0 if self.kvp == 120.0 else OTHER_KVP_SD)
        beam = float(np.exp(beam_sd * own.normal()))
        water, gain = WATER_SD_HU / np.sqrt(2.0) * own.normal(), 1.0 + HU_GAIN_SD * own.normal()
        rng = np.random.default_rng([self.number, int(self.kvp), 2, number])
        water += WATER_SD_HU / np.sqrt(2.0) * rng.normal()
        palette = CTPalette(
            self.kvp,
            self.phase,
            seed=int(rng.integers(2**31)),
            tissues=TissueSpread(),
            beam=beam,
            hardening=float(np.exp(INTERNAL_RELATIVE_SD * rng.normal())),
        )
        truth = float(np.clip(rng.normal(110.0, 40.0), 30.0, 230.0))

        def read(value: float) -> float:
            return float(water + gain * value + NOISE_HU * rng.normal())

        enhanced = self.phase is not ContrastPhase.NATIVE
        tissues = {
            "air": TissueSample(read(palette.tissue("air")), 5000.0),
            "adipose": TissueSample(read(palette.tissue("adipose")), 5000.0),
            "muscle": TissueSample(read(palette.tissue("muscle")), 3000.0, enhanced=enhanced),
        }
        if not enhanced:
            tissues["blood"] = TissueSample(read(palette.tissue("aorta")), 800.0)
        return Scan(truth, read(float(palette.bone(truth))), tissues, self.kvp, self.phase)

    @cached_property
    def training(self) -> tuple[Scan, ...]:
        """Scans of known density, made when a method needs them."""
        return tuple(self.scan(1_000_000 + n) for n in range(TRAINING))


Calibrate = Callable[[Scan], CalibrationUsed]


def physics(scanner: Scanner) -> Calibrate:
    """Calibrate by physics at the tube voltage; no training."""
    return lambda scan: calibrate("physics", kvp=scan.kvp)


def internal(scanner: Scanner) -> Calibrate:
    """Calibrate by the tissues of the scan; no training."""
    return lambda scan: calibrate("internal", kvp=scan.kvp, tissues=scan.tissues)


METHODS: Mapping[str, Callable[[Scanner], Calibrate]] = {"physics": physics, "internal": internal}


def accuracy(truths: Sequence[float], values: Sequence[float], covered: Sequence[bool], refused: int) -> dict[str, Any]:
    """Return bias and SD (mg/cm3), coverage (%) with its standard error, n and the number of refusals."""
    error = np.array(values) - np.array(truths)
    share = float(np.mean(covered))
    return {
        "n": len(error),
        "refused": refused,
        "bias": round(float(error.mean()), 2),
        "sd": round(float(error.std(ddof=1)), 2),
        "coverage_percent": round(100 * share, 1),
        "coverage_se": round(100 * float(np.sqrt(share * (1 - share) / len(error))), 1),
    }


def simulate(kvp: float, phase: ContrastPhase, scans: int) -> dict[str, Any]:
    """Return the accuracy of each method at one tube voltage and phase."""
    collected: dict[str, tuple[list[float], list[float], list[bool]]] = {name: ([], [], []) for name in METHODS}
    refused = dict.fromkeys(METHODS, 0)
    scanners = scans // SCANS_PER_SCANNER
    for number in track(range(scanners), f"{kvp:g} kVp {phase}"):
        scanner = Scanner(kvp, phase, number)
        fitted = {name: make(scanner) for name, make in METHODS.items()}
        for n in range(SCANS_PER_SCANNER):
            scan = scanner.scan(n)
            for name, line in fitted.items():
                try:
                    found = density(scan.hu, line(scan))
                except ValueError:
                    refused[name] += 1
                    continue
                truths, values, covered = collected[name]
                truths.append(scan.truth)
                values.append(found.mg_cm3)
                covered.append(found.interval_low <= scan.truth <= found.interval_high)
    return {name: accuracy(*collected[name], refused[name]) for name in METHODS}


def whole_scans(folder: Path) -> dict[str, Any]:
    """Measure a virtual cohort with the steps of screening, with both methods on the same outlines."""
    from osteo_monai.data import read_manifest
    from osteo_monai.imaging import read_ct
    from osteo_monai.screening.ct.measuring import measure
    from osteo_monai.screening.ct.steps import check, is_refused, locate, outline
    from osteo_monai.screening.models import load_models
    from osteo_monai.screening.options import Calibration, InternalCalibration, PhysicsCalibration, ScreeningOptions

    models = load_models("cpu")
    methods: dict[str, Calibration] = {"physics": PhysicsCalibration(), "internal": InternalCalibration()}
    rows: list[dict[str, Any]] = []
    records = [r for split in read_manifest(folder / "manifest.json").splits.values() for r in split]
    for record in track(records, "Whole virtual CTs"):
        row: dict[str, Any] = {"acquisition": record.acquisition, "kvp": record.kvp, "phase": record.contrast_phase}
        volume = read_ct(folder / str(record.image), keep_doubts=True)
        checked = check(volume, ScreeningOptions(kvp=record.kvp))
        located = locate(checked, models)
        if is_refused((*checked.findings, *located.findings)):
            rows.append({**row, "refused": "levels"})
            continue
        outlined = outline(checked, located, models.segmentation)
        for name, method in methods.items():
            with_method = replace(checked, options=replace(checked.options, calibration=method))
            measured = measure(with_method, located, outlined)
            if measured.density is None or not measured.levels:
                row[name] = None
                continue
            known = record.level_bmd_mg_cm3 or {}
            # a level that was left out counts in neither
            row["truth"] = float(np.mean([known[level.level] for level in measured.levels]))
            d = measured.density
            row[name] = [d.mg_cm3, d.interval_low, d.interval_high]
        rows.append(row)
    found: dict[str, Any] = {"rows": rows}
    for label, enhanced in (("native", False), ("enhanced", True)):
        group = [r for r in rows if (r["phase"] != "native") is enhanced and "refused" not in r]
        for name in methods:
            given = [r for r in group if r.get(name) is not None]
            if len(given) > 1:
                covered = [r[name][1] <= r["truth"] <= r[name][2] for r in given]
                truths, values = [r["truth"] for r in given], [r[name][0] for r in given]
                found[f"{label} {name}"] = accuracy(truths, values, covered, len(group) - len(given))
    return found


def plot(conditions: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw bias with SD, and coverage, of each method and condition."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names = list(conditions)
    width = 0.8 / len(METHODS)
    for i, method in enumerate(METHODS):
        x = np.arange(len(names)) + (i - 0.5 * (len(METHODS) - 1)) * width
        of = [conditions[name][method] for name in names]
        left.errorbar(x, [a["bias"] for a in of], [a["sd"] for a in of], fmt="o", capsize=3, label=method)
        errors = [1.96 * a["coverage_se"] for a in of]
        right.errorbar(x, [a["coverage_percent"] for a in of], errors, fmt="o", capsize=3, label=method)
    left.axhline(0.0, color="0.5", lw=0.8)
    left.set_ylabel("bias and SD, mg/cm³")
    right.axhspan(88.0, 92.0, color="0.9")
    right.axhline(90.0, color="0.5", lw=0.8)
    right.set_ylabel("coverage of the 90 % interval, %")
    for axes in (left, right):
        axes.set_xticks(
            range(len(names)), [name.replace(" kVp ", "\n").replace("_", "\n") for name in names], fontsize=7
        )
        axes.set_xlabel("tube voltage, kVp, and contrast phase", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    """Simulate all conditions, measure the cohort if given, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans-per-condition", type=int, default=3000, help="0: keep those of the file of today")
    parser.add_argument("--cohort", type=Path, help="folder of a cohort of the recipe virtual_calibration")
    parser.add_argument("--plot", type=Path, help="PNG of the simulated conditions")
    given = parser.parse_args()
    phases = (ContrastPhase.NATIVE, ContrastPhase.PORTAL_VENOUS)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"calibration_accuracy_{datetime.now(UTC):%Y-%m-%d}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    result["made"] = datetime.now(UTC).isoformat(timespec="seconds")
    result["spread"] = SPREAD | {"tissue values": TissueSpread().model_dump()}
    if given.scans_per_condition:
        result["simulated"] = {
            f"{kvp:g} kVp {phase}": simulate(kvp, phase, given.scans_per_condition) for phase in phases for kvp in KVPS
        }
    if given.cohort is not None:
        result["whole_scans"] = whole_scans(given.cohort)
    write_json(path, result, indent=1)
    if given.plot is not None:
        plot(result["simulated"], given.plot)
    whole = {name: found for name, found in result.get("whole_scans", {}).items() if name != "rows"}
    print(json.dumps({"simulated": result.get("simulated"), "whole_scans": whole}, indent=1))


if __name__ == "__main__":
    main()
