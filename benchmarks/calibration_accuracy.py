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
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from osteo_monai.domain import ContrastPhase, MineralStandard
from osteo_monai.measurement.calibration import Scanner as SiteScanner
from osteo_monai.measurement.calibration import (
    SiteFile,
    SiteScan,
    TissueSample,
    calibrate,
    density,
    fit_regression,
    regression_rows,
    site_line,
)
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
SCANS_PER_SCANNER = {"physics": 2, "internal": 2, "site line": 20, "precalibrated": 20}
"""Fewer scanners are simulated for the methods that are fitted to the scans of each one."""
REFERENCE_SD = 3.0
"""mg/cm3; error of a known density of the training scans (project custom; phantomless bias of 3.0, PMC8844761)."""
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
    seed: int

    def scan(self, number: int) -> Scan:
        """Simulate one person in this scanner."""
        own = np.random.default_rng([self.seed, self.number, int(self.kvp), 1])
        beam_sd = np.hypot(OTHER_SCANNER_SD, 0.0 if self.kvp == 120.0 else OTHER_KVP_SD)
        beam = float(np.exp(beam_sd * own.normal()))
        water, gain = WATER_SD_HU / np.sqrt(2.0) * own.normal(), 1.0 + HU_GAIN_SD * own.normal()
        rng = np.random.default_rng([self.seed, self.number, int(self.kvp), 2, number])
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


def _fitted(scanner: Scanner, tissues: Sequence[str]) -> Calibrate:
    """Fit a site calibration to the training scans of a scanner."""
    known = np.array([scan.truth for scan in scanner.training])
    known += REFERENCE_SD * np.random.default_rng([scanner.seed, scanner.number, 3]).normal(size=len(known))
    hu = [scan.hu for scan in scanner.training]
    rows = regression_rows(
        hu, [[scan.tissues[t].hu for t in tissues] for scan in scanner.training] if tissues else None
    )
    enhanced = scanner.phase is not ContrastPhase.NATIVE
    model = SiteScanner(manufacturer="simulated", model="simulated")
    facts = SiteScan(model, scanner.kvp, enhanced, None, "simulated")
    site = SiteFile(
        program="benchmark",
        fitted=date(2026, 1, 1),
        scanner=facts.scanner,
        kvp=scanner.kvp,
        standard=MineralStandard.K2HPO4,
        contrast="enhanced" if enhanced else "native",
        region=facts.region,
        method="precalibrated" if tissues else "line",
        tissues=tuple(tissues),
        regression=fit_regression(rows, known),
        scans=len(known),
        subjects=len(known),
        density_range=(float(known.min()), float(known.max())),
        cross_validation={},
    )
    return lambda scan: site_line(site, facts, scan.tissues)


def site_line_60(scanner: Scanner) -> Calibrate:
    """Calibrate by a line fitted to 60 scans of the scanner."""
    return _fitted(scanner, ())


def precalibrated_60(scanner: Scanner) -> Calibrate:
    """Calibrate by air, fat and muscle, whose equivalent densities are fitted to 60 scans of the scanner."""
    return _fitted(scanner, ("air", "adipose", "muscle"))


METHODS: Mapping[str, Callable[[Scanner], Calibrate]] = {
    "physics": physics,
    "internal": internal,
    "site line": site_line_60,
    "precalibrated": precalibrated_60,
}


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


def simulate(kvp: float, phase: ContrastPhase, scans: int, seed: int) -> dict[str, Any]:
    """Return the accuracy of each method at one tube voltage and phase."""
    found = {}
    for name, make in METHODS.items():
        values: list[float] = []
        truths: list[float] = []
        covered: list[bool] = []
        refused, each = 0, SCANS_PER_SCANNER[name]
        for number in track(range(scans // each), f"{kvp:g} kVp {phase}, {name}"):
            scanner = Scanner(kvp, phase, number, seed)
            line = make(scanner)
            for scan in (scanner.scan(n) for n in range(each)):
                try:
                    value = density(scan.hu, line(scan))
                except ValueError:
                    refused += 1
                    continue
                truths.append(scan.truth)
                values.append(value.mg_cm3)
                covered.append(value.interval_low <= scan.truth <= value.interval_high)
        found[name] = accuracy(truths, values, covered, refused)
    return found


def whole_scans(folder: Path) -> dict[str, Any]:
    """Measure a virtual cohort with the steps of screening, with both methods on the same outlines."""
    from osteo_monai.data import read_manifest
    from osteo_monai.imaging import read_ct
    from osteo_monai.screening.ct.levels import locate_vertebrae
    from osteo_monai.screening.ct.measuring import measure
    from osteo_monai.screening.ct.steps import check, check_image, is_refused, locate, outline
    from osteo_monai.screening.models import load_models
    from osteo_monai.screening.options import Calibration, InternalCalibration, PhysicsCalibration, ScreeningOptions

    models = load_models("cpu")
    methods: dict[str, Calibration] = {"physics": PhysicsCalibration(), "internal": InternalCalibration()}
    rows: list[dict[str, Any]] = []
    records = [r for split in read_manifest(folder / "manifest.json").splits.values() for r in split]
    for record in track(records, "Whole virtual CTs"):
        row: dict[str, Any] = {"acquisition": record.acquisition, "kvp": record.kvp, "phase": record.contrast_phase}
        volume = read_ct(folder / str(record.image), keep_doubts=True)
        checked = check(check_image(volume, ScreeningOptions(kvp=record.kvp)))
        located = locate(checked, locate_vertebrae(volume, models.localisation, models.column))
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
    parser.add_argument("--seed", type=int, default=1)
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
            f"{kvp:g} kVp {phase}": simulate(kvp, phase, given.scans_per_condition, given.seed)
            for phase in phases
            for kvp in KVPS
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
