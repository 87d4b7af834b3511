"""Density, level names and outlines of the product on the records of a manifest with a reference.

    python benchmarks/public_density.py MANIFEST [--output FOLDER] [--kvp 120] [--calibration physics] [--by-label]
        [--published TABLE:SUBJECT:VALUE[:NAME] ...] [--published-field KEY ...] [--limit N]

MANIFEST is a data manifest, such as one of ``osteo-monai manifest import``. Each CT of it is screened; what follows
depends on the reference that its record has:

- ``bmd_mg_cm3``: bias, SD, limits of agreement, class agreement, by scanner and contrast phase;
- ``t_score``: area against osteoporosis by DXA (T-score -2.5 or less);
- ``centroids`` (or a ``label`` of bodies): identification rate and distance as the VerSe challenge defines them, and
  spurious bodies;
- ``label``: Dice of outlines with ``label_kind`` body, share inside the own vertebra with ``label_kind`` vertebra.

With ``--by-label`` the levels are also taken from the label (``manifest segment`` and ``measure``), so that an error of
density is separated from one of names. Published values of the same people are compared in the same tables:
``--published`` joins a CSV table by subject, ``--published-field`` reads a field of ``extra``.

Writes report.html, summary.json, ``predictions.csv`` and ``predictions_dxa.csv`` (for ``osteo-monai evaluate``),
``excluded.csv`` with each record without a density and the reason, ``naming.csv`` and ``outlines.csv``. A second run
with the same manifest, weights and options continues the first one.
"""

import argparse
import json
import math
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import osteo_monai
from osteo_monai.cohort import labelled_centres
from osteo_monai.cohort.overlap import OutlineOverlap, outline_overlap
from osteo_monai.data import Manifest, Record, read_manifest, record_columns, write_manifest, write_predictions
from osteo_monai.data.csv_tables import read_table, write_table
from osteo_monai.domain import LEVEL_LABELS, OSTEOPOROSIS_T_SCORE, DensityThresholds, Severity, VertebraLevel
from osteo_monai.errors import OsteoError, UnusableInputError
from osteo_monai.imaging import read_label_map
from osteo_monai.metrics import Identification, identify_bodies, pooled_identification
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.evaluation import EvaluationOptions, ResultTable, write_evaluation
from osteo_monai.reporting.evaluation.results import Cell, Column, Row
from osteo_monai.reporting.publishing import json_ready
from osteo_monai.screening.ct.spines import NAMED_LEVELS
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.statistics import proportion
from osteo_monai.statistics.agreement import agreement
from osteo_monai.utils.files import file_sha256, write_json, write_text

MODEL = "osteo_monai"
BY_LABEL = "osteo_monai, labelled levels"
GRID_TOLERANCE_MM = 0.5
"""Largest distance of the corners of a label map from those of the outlines: rounding of headers."""


@dataclass(frozen=True)
class Case:
    """One record with what the product made of it.

    Attributes:
        split, record: of the manifest.
        result: of the screening.
        naming: ``None`` without true centres.
        overlaps: of the outlined levels that the label has.
        reasons: why it has no density, no naming or no overlap, by kind.
    """

    split: str
    record: Record
    result: ScreeningResult
    naming: Identification | None = None
    overlaps: tuple[OutlineOverlap, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


# --- one record ---------------------------------------------------------------------------------------------------


def overlaps(outlines: Path, label: Path, kind: str | None) -> tuple[OutlineOverlap, ...]:
    """Compare the outlines with a label map on the same grid.

    Raises:
        UnusableInputError: the grids differ.
    """
    found, affine = read_label_map(outlines)
    truth, true_affine = read_label_map(label)
    ends = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)])
    ends[:, :3] *= found.shape
    if found.shape != truth.shape or np.abs(ends @ (affine - true_affine).T).max() > GRID_TOLERANCE_MM:
        raise UnusableInputError(f"the label map must have the grid of the image, got shape {truth.shape}")
    shown = [level for level, number in LEVEL_LABELS.items() if (found == number).any() and (truth == number).any()]
    return tuple(outline_overlap(found, truth, level, kind) for level in shown)


def refusal_reason(result: ScreeningResult) -> str:
    """Return the codes of the refusals as one text."""
    codes = dict.fromkeys(f.code for f in result.findings if f.severity is Severity.REFUSAL)
    return "; ".join(codes) or result.verdict


def compare(split: str, record: Record, base: Path, result: ScreeningResult, folder: Path) -> Case:
    """Compare one result with the references of its record."""
    reasons: dict[str, str] = {}
    naming = None
    shares: tuple[OutlineOverlap, ...] = ()
    if result.density is None:
        reasons["density"] = refusal_reason(result)
    elif record.bmd_mg_cm3 is not None and record.bmd_standard != result.density.standard:
        reasons["density"] = f"reference in {record.bmd_standard}, density in {result.density.standard}"
    try:
        if (truth := labelled_centres(record, base)) is not None:
            naming = identify_bodies(truth, {str(v.level): v.centre_mm for v in result.levels_found})
    except (OsteoError, ValueError) as error:
        reasons["naming"] = str(error)
    outlines = folder / "labels.nii.gz"
    if isinstance(record.label, str) and outlines.is_file():
        try:
            shares = overlaps(outlines, base / record.label, record.label_kind)
        except (OsteoError, ValueError) as error:
            reasons["outline"] = str(error)
    return Case(split, record, result, naming, shares, reasons)


# --- the set ------------------------------------------------------------------------------------------------------


def working_manifest(options: argparse.Namespace, console: Console) -> tuple[Manifest, Path]:
    """Write the CT records of one image, with ``--kvp`` for unknown tube voltages, and return them and their file."""
    manifest = read_manifest(options.manifest)
    path = options.output / "manifest.json"
    splits: dict[str, tuple[Record, ...]] = {}
    left = options.limit
    skipped = 0
    for split, records in manifest.splits.items():
        if options.split and split not in options.split:
            continue
        chosen = [record for record in records if record.view is None and len(record.images) == 1][:left]
        skipped += sum(record.view is not None or len(record.images) > 1 for record in records)
        left = None if left is None else left - len(chosen)
        filled = [r if r.kvp is not None else r.model_copy(update={"kvp": options.kvp}) for r in chosen]
        splits[split] = tuple(record.moved(options.manifest.parent, path.parent) for record in filled)
    splits = {split: records for split, records in splits.items() if records}
    if not splits:
        raise UnusableInputError(f"'{options.manifest.name}' must have CT records in the chosen splits, got none")
    if skipped:
        console.print(f"{skipped} records are no CT of one image and are left out")
    working = Manifest(header=manifest.header, splits=splits)
    write_manifest(working, path)
    return working, path


def screen_records(manifest: Manifest, base: Path, options: argparse.Namespace, console: Console) -> list[Case]:
    """Screen each record, or read its result of an earlier run with the same settings."""
    from osteo_monai.cli.options import parse_calibration
    from osteo_monai.screening import ScreeningOptions, Study, load_models
    from osteo_monai.screening_files import screen_to_folder

    calibration = parse_calibration(options.calibration)
    models = load_models(options.device, opinions=False)
    weights = [m.weights_sha256 for m in (models.localisation, models.column, models.segmentation)]
    settings = {"calibration": options.calibration, "weights": weights, "version": osteo_monai.__version__}
    settings["manifest"] = file_sha256(base / "manifest.json")
    known = base / "settings.json"
    same = known.is_file() and json.loads(known.read_text(encoding="utf-8")) == settings
    write_json(known, settings)
    cases = []
    everything = list(manifest.records())
    for number, (split, _, record) in enumerate(track(everything, "Screening", console=console)):
        folder = base / "screened" / f"{number:05d}"
        written = folder / "result.json"
        if same and written.is_file():
            result = ScreeningResult.model_validate_json(written.read_text(encoding="utf-8"))
        else:
            study = Study("ct", base / record.images[0])
            wanted = ScreeningOptions(calibration=calibration, kvp=record.kvp)
            result = screen_to_folder(study, folder, name=f"record {number}", options=wanted, models=models)
        cases.append(compare(split, record, base, result, folder))
    return cases


def measure_by_label(path: Path, console: Console) -> dict[str, dict[str, object]]:
    """Return the cells of the densities at the labelled levels by absolute path of the image."""
    from osteo_monai.cohort import measure_cohort, segment_cohort
    from osteo_monai.data import read_prediction_rows

    folder = path.parent / "by_label"
    try:
        segment_cohort(path, folder / "segmented.json", overwrite=True)
        done = measure_cohort(folder / "segmented.json", folder / "measured")
    except OsteoError as error:
        console.print(f"By label: {error}", markup=False)
        return {}
    table = folder / "measured" / "hu_line_bmd.csv"
    if not done.rows[table]:
        console.print("By label: no record could be measured, see excluded.csv", markup=False)
        return {}
    keep = ("predicted_bmd_mg_cm3", "predicted_bmd_lower", "predicted_bmd_upper")
    rows = read_prediction_rows(table, ("predicted_bmd_mg_cm3",))
    # the image is relative to the segmented manifest
    return {_absolute(folder, row["image"]): {name: row.get(name) for name in keep} for row in rows}


def _absolute(folder: Path, image: str) -> str:
    return os.path.normpath((folder / image).absolute())


def published_values(options: argparse.Namespace, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Return published densities in mg/cm3 by name and subject."""
    values = dict(_published_table(text) for text in options.published)
    for key in options.published_field:
        fields = ((case.record.subject_id, (case.record.extra or {}).get(key)) for case in cases)
        values[key] = {subject: float(value) for subject, value in fields if isinstance(value, (int, float))}
    subjects = {case.record.subject_id for case in cases}
    for name, found in values.items():
        if not found.keys() & subjects:
            raise UnusableInputError(f"--published must have subjects of the manifest, got none in '{name}'")
    return values


def _published_table(text: str) -> tuple[str, dict[str, float]]:
    """Return the name and the values of ``TABLE:SUBJECT:VALUE[:NAME]``; rows without a value are left out."""
    parts = text.split(":")
    if len(parts) not in (3, 4):
        raise UnusableInputError(f"--published must be TABLE:SUBJECT:VALUE[:NAME], got '{text}'")
    path, subject, value = Path(parts[0]), parts[1].lower(), parts[2].lower()
    values: dict[str, float] = {}
    for line, row in read_table(path, (subject, value)).rows:
        try:
            number = float(row[value] or "nan")
        except ValueError:
            message = f"'{path.name}', line {line}: {parts[2]} must be a number, got '{row[value][:40]}'"
            raise UnusableInputError(message) from None
        if row[subject] in values:
            raise UnusableInputError(f"'{path.name}', line {line}: {parts[1]} must be unique, got it twice")
        if math.isfinite(number):
            values[row[subject]] = number
    return parts[-1], values


def cohort_name(manifest: Manifest) -> str:
    """Return the name of the set as an external cohort, since no bundle was trained on it."""
    words = re.sub(r"[^a-z0-9]+", "_", manifest.header.name.lower()).strip("_")
    return f"external_{words or 'set'}"


def prediction_rows(
    cases: Sequence[Case],
    manifest: Manifest,
    base: Path,
    by_label: Mapping[str, Mapping[str, object]],
    published: Mapping[str, Mapping[str, float]],
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the rows with a reference density, and those with a T-score as the truth."""
    density_rows: list[dict[str, object]] = []
    dxa_rows: list[dict[str, object]] = []
    limits = DensityThresholds()
    for case in cases:
        record, image = case.record, ";".join(case.record.images)
        facts: dict[str, object] = {**record_columns(record, cohort_name(manifest), manifest.header.virtual)}
        facts |= {"image": image, "image_id": image, "split": case.split}
        models: dict[str, dict[str, object]] = {MODEL: _predicted(case)}
        if by_label:
            models[BY_LABEL] = dict(by_label.get(_absolute(base, image), {}))
        for name, values in published.items():
            models[name] = {"predicted_bmd_mg_cm3": values.get(record.subject_id)}
        for model, predicted in models.items():
            row = facts | {"model": model} | predicted
            if record.bmd_mg_cm3 is not None and record.bmd_standard == limits.standard:
                density_rows.append(row | {"bmd_mg_cm3": record.bmd_mg_cm3})
            if record.t_score is not None:
                dxa_rows.append(row | {"osteoporosis": record.t_score <= OSTEOPOROSIS_T_SCORE})
    return _answered(density_rows), _answered(dxa_rows)


def _predicted(case: Case) -> dict[str, object]:
    density = case.result.density
    if density is None:
        return {}
    values = {"mg_cm3": density.mg_cm3, "lower": density.interval_low, "upper": density.interval_high}
    cells: dict[str, object] = {f"predicted_bmd_{name}": round(value, 2) for name, value in values.items()}
    if case.result.calibration is not None:
        cells["calibration"] = case.result.calibration.method
    return cells | {"standard": density.standard.value}


def _answered(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows of models that have any prediction; rows without one stay, so that they are counted."""
    answered = {(r["model"], r["cohort"]) for r in rows if r.get("predicted_bmd_mg_cm3") not in (None, "")}
    return [row for row in rows if (row["model"], row["cohort"]) in answered]


# --- tables -------------------------------------------------------------------------------------------------------


def count_table(cases: Sequence[Case]) -> ResultTable:
    """Return the number of records by outcome."""
    table = ResultTable(
        "records",
        "Records of the manifest",
        (Column("outcome", "Outcome"), Column("records", "Records"), Column("share", "Share (95 % interval)")),
    )
    outcomes = Counter(case.reasons.get("density", "measured") for case in cases)
    rows: list[Row] = [{"outcome": "all", "records": len(cases)}]
    for name, count in sorted(outcomes.items(), key=lambda item: (item[0] != "measured", -item[1], item[0])):
        text = name if name == "measured" else f"no density: {name}"
        rows.append({"outcome": text, "records": count, "share": proportion(count, len(cases))})
    references = {
        "with a reference density": sum(case.record.bmd_mg_cm3 is not None for case in cases),
        "with a T-score": sum(case.record.t_score is not None for case in cases),
        "with true centres": sum(case.naming is not None for case in cases),
        "with compared outlines": sum(bool(case.overlaps) for case in cases),
    }
    rows += [{"outcome": name, "records": count} for name, count in references.items()]
    other = Counter(f"{kind}: {why}" for c in cases for kind, why in c.reasons.items() if kind != "density")
    rows += [{"outcome": f"not compared, {text}", "records": count} for text, count in sorted(other.items())]
    return table.filled(rows)


def subgroups(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Return all cases, and those of each scanner and contrast phase if there are several."""
    groups = {"all": list(cases)}
    for name in ("scanner", "contrast_phase"):
        by_value: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            by_value[str(getattr(case.record, name) or "unknown")].append(case)
        if len(by_value) > 1:
            groups |= {f"{name.replace('_', ' ')} {value}": found for value, found in sorted(by_value.items())}
    return groups


def naming_table(cases: Sequence[Case]) -> ResultTable:
    """Return identification rate, distance and spurious bodies by subgroup, all levels and those that are named."""
    table = ResultTable(
        "naming",
        "Level names: VerSe 2019's identification rate (nearest true centre is the right one, within 20 mm)",
        (
            Column("subgroup", "Subgroup"),
            Column("levels", "Levels"),
            Column("scans", "Scans"),
            Column("bodies", "True bodies"),
            Column("rate", "Identification rate (95 % interval)"),
            Column("scan_rate", "Mean over scans"),
            Column("distance", "Mean distance (mm)", 1),
            Column("all_right", "Scans with every body identified"),
            Column("spurious", "Spurious bodies"),
            Column("beyond", "Beyond the labels"),
        ),
    )
    named = [str(level) for level in NAMED_LEVELS if level is not VertebraLevel.SACRUM]
    span = f"{named[0]} to {named[-1]}"
    rows: list[Row] = []
    for name, members in subgroups(cases).items():
        found = [case.naming for case in members if case.naming is not None]
        located = [c.naming for c in members if c.naming is not None and c.result.levels_found]
        kinds = [("all", found), (span, [scan.among(named) for scan in found])]
        if len(located) < len(found):
            kinds.append((f"{span}, scans with a located column", [scan.among(named) for scan in located]))
        for levels, scans in kinds:
            several = [scan for scan in scans if scan.bodies]
            if several:
                rows.append({"subgroup": name, "levels": levels} | _naming_cells(several))
    notes = [
        f"The product names {span} only. A scan without a located column counts with no identified body. Intervals "
        "count bodies as independent. Spurious: a predicted body within the labelled part of the spine without a true "
        "body; beyond: above or below that part, where sets leave out bodies that the scan cuts."
    ]
    return table.filled(rows, notes if rows else ())


def _naming_cells(scans: Sequence[Identification]) -> dict[str, Cell]:
    pooled = pooled_identification(scans)
    right = sum(scan.identified == len(scan.bodies) for scan in scans)
    distance = pooled.mean_distance_mm
    return {
        "scans": len(scans),
        "bodies": len(pooled.bodies),
        "rate": proportion(pooled.identified, len(pooled.bodies)),
        "scan_rate": mean(scan.rate for scan in scans),
        "distance": distance if math.isfinite(distance) else "",
        "all_right": proportion(right, len(scans)),
        "spurious": pooled.spurious,
        "beyond": pooled.beyond,
    }


def beside_table(rows: Sequence[Mapping[str, object]]) -> ResultTable:
    """Return bias, SD and error of the product and of each other model on the scans that both have."""
    table = ResultTable(
        "beside",
        "The product beside other values on the scans that both have, mg/cm3; estimate (95 % confidence interval)",
        (
            Column("other", "Other values"),
            Column("n", "Scans"),
            Column("model", "Model"),
            Column("bias", "Bias", 1),
            Column("sd", "SD of the differences", 1),
            Column("mae", "MAE", 1),
            Column("lower_limit", "Lower limit of agreement", 1),
            Column("upper_limit", "Upper limit of agreement", 1),
        ),
    )
    values: dict[str, dict[str, tuple[float, float, str]]] = defaultdict(dict)
    for row in rows:
        if row.get("predicted_bmd_mg_cm3") not in (None, ""):
            numbers = float(str(row["bmd_mg_cm3"])), float(str(row["predicted_bmd_mg_cm3"]))
            values[str(row["model"])][str(row["image"])] = (*numbers, str(row["subject_id"]))
    cells: list[Row] = []
    for other in (name for name in values if name != MODEL):
        common = sorted(values[MODEL].keys() & values[other].keys())
        for model in (MODEL, other) if common else ():
            reference, predicted, people = zip(*(values[model][image] for image in common), strict=True)
            found = agreement(reference, predicted, groups=people)
            row_of: dict[str, Cell] = {"other": other, "n": found.n, "model": model}
            row_of |= {name: getattr(found, name) for name in ("bias", "mae", "lower_limit", "upper_limit")}
            cells.append(row_of | {"sd": found.sd if math.isfinite(found.sd) else ""})
    return table.filled(cells)


def outline_table(cases: Sequence[Case]) -> ResultTable:
    """Return Dice, or shares inside the own and other vertebrae, by level."""
    names = {"dice": "Dice", "inside": "Inside the own vertebra", "in_other": "Inside other vertebrae"}
    columns = [Column("level", "Level")]
    for name, heading in names.items():
        columns += [Column(f"{name}_n", "n")] if name != "in_other" else []
        columns += [Column(name, heading), Column(f"{name}_sd", "SD"), Column(f"{name}_worst", "Worst")]
    table = ResultTable("outlines", "Outlines against the labels", tuple(columns))
    rows: list[Row] = []
    everything = [overlap for case in cases for overlap in case.overlaps]
    for level in [str(v) for v in VertebraLevel if any(o.level == str(v) for o in everything)]:
        of_level = [overlap for overlap in everything if overlap.level == level]
        row: dict[str, Cell] = {"level": level}
        for name in names:
            values = [value for o in of_level if (value := getattr(o, name)) is not None]
            if values:
                row |= {
                    f"{name}_n": len(values),
                    name: mean(values),
                    f"{name}_worst": (max if name == "in_other" else min)(values),
                }
                row[f"{name}_sd"] = stdev(values) if len(values) > 1 else ""
        rows.append(row)
    note = "Dice is computed with labels of bodies; of whole vertebrae a perfect body would have a Dice of about 0.83."
    return table.filled(rows, [note] if rows else ())


def write_rows(cases: Sequence[Case], output: Path) -> None:
    """Write the tables of single records."""
    excluded, bodies, outlines = [], [], []
    for case in cases:
        who = (case.split, case.record.subject_id, ";".join(case.record.images))
        excluded += [(*who, kind, reason) for kind, reason in case.reasons.items()]
        for body in case.naming.bodies if case.naming is not None else ():
            distance = f"{body.distance_mm:.2f}" if math.isfinite(body.distance_mm) else None
            bodies.append((*who, body.level, body.called, distance, body.identified))
        outlines += [(*who, *(v if v is None else str(v) for v in asdict(o).values())) for o in case.overlaps]
    head = ("cohort", "subject_id", "image")
    write_table(output / "excluded.csv", (*head, "comparison", "reason"), excluded)
    write_table(output / "naming.csv", (*head, "level", "called", "distance_mm", "identified"), bodies)
    write_table(output / "outlines.csv", (*head, "level", "dice", "inside", "in_other"), outlines)


def evaluate(rows: Sequence[dict[str, object]], output: Path, name: str, virtual: bool) -> tuple[list[Any], list[Any]]:
    """Write and evaluate a predictions table; return its tables and figures of density and areas."""
    if not rows:
        return [], []
    path = output / f"{name}.csv"
    write_predictions(path, rows)
    evaluation = write_evaluation(EvaluationOptions((path,), virtual=virtual), output / f"evaluation_{name}")
    names = ["subgroups", "performance"] if name.endswith("dxa") else ["density", "overall", "subgroups", "performance"]
    figures = sorted((output / f"evaluation_{name}" / "figures").glob("agreement_*.svg"))
    return [evaluation.tables[n] for n in names if n in evaluation.tables], figures


def run(options: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[ResultTable]]:
    """Screen and compare everything; return the summary and its tables."""
    if options.kvp is not None and not 40 <= options.kvp <= 200:
        raise UnusableInputError(f"--kvp must be between 40 and 200 kV, got {options.kvp:g}")
    options.output.mkdir(parents=True, exist_ok=True)
    manifest, path = working_manifest(options, console)
    virtual = manifest.header.virtual
    cases = screen_records(manifest, path.parent, options, console)
    published = published_values(options, cases)
    by_label = measure_by_label(path, console) if options.by_label else {}
    densities, dxa = prediction_rows(cases, manifest, path.parent, by_label, published)
    write_rows(cases, options.output)
    own = [count_table(cases), beside_table(densities), naming_table(cases), outline_table(cases)]
    of_density, figures = evaluate(densities, options.output, "predictions", virtual)
    of_dxa, _ = evaluate(dxa, options.output, "predictions_dxa", virtual)
    shown = [table for table in (own[0], *of_density, *of_dxa, *own[1:]) if table.rows]
    publish(shown, figures, options, virtual)
    summary = {table.name: table.as_json() for table in own if table.rows}
    summary |= {f"density_{table.name}": table.as_json() for table in of_density}
    summary |= {f"dxa_{table.name}": table.as_json() for table in of_dxa}
    head: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "manifest": manifest.header.name,
        "virtual": virtual,
    }
    head |= {"calibration": options.calibration, "assumed_kvp": options.kvp}
    return head | {"tables": summary}, shown


def publish(shown: Iterable[ResultTable], figures: Sequence[Path], options: argparse.Namespace, virtual: bool) -> None:
    """Write report.html."""
    from osteo_monai.reporting.drawing import Picture

    caption = "Reference and predicted density; Bland-Altman plot with bias and 95 % limits of agreement."
    pictures = [Picture(f.read_text(encoding="utf-8"), "OutlineOverlap of densities", caption, 820) for f in figures]
    methods = [
        f"Calibration {options.calibration}; levels named by the screening itself, unless a model says otherwise."
    ]
    if options.kvp is not None:
        methods.append(f"Unknown tube voltages are assumed to be {options.kvp:g} kV; the density depends on that.")
    values = {"title": f"Density, names and outlines: {options.manifest.name}", "tables": list(shown)}
    values |= {"pictures": pictures, "notice": "Virtual patients" if virtual else "", "methods": methods}
    write_text(options.output / "report.html", render("tables.html.j2", values | {"version": osteo_monai.__version__}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--output", "-o", type=Path, default=Path("public_density"))
    parser.add_argument("--split", nargs="+", default=[], help="splits of the manifest; all without it")
    parser.add_argument("--kvp", type=float, help="tube voltage of records and headers without one")
    parser.add_argument("--calibration", default="physics", help="as in 'osteo-monai screen'")
    parser.add_argument("--by-label", action="store_true", help="also measure at the labelled levels")
    parser.add_argument("--published", action="append", default=[], metavar="TABLE:SUBJECT:VALUE[:NAME]")
    parser.add_argument(
        "--published-field", action="append", default=[], metavar="KEY", help="of 'extra' of the records"
    )
    parser.add_argument("--limit", type=int, help="largest number of records")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        summary, shown = run(options, console)
    except (OsteoError, ValueError) as error:
        print(f"public_density: {error}", file=sys.stderr)
        return 2
    write_json(options.output / "summary.json", json_ready(summary))
    for table in shown:
        print(f"\n{table.caption}\n")
        for row in (table.headings, ["---"] * len(table.headings), *table.printed()):
            print(f"| {' | '.join(row)} |")
        print("".join(f"\n{note}" for note in table.printed_notes()))
    console.print(f"Report: {options.output / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
