"""Checklists of reporting guidelines, with what the predictions, the manifest and the evaluation state.

Items of TRIPOD+AI (Collins et al. 2024, doi 10.1136/bmj-2023-078378) and of STARD 2015 (Bossuyt et al. 2015, doi
10.1136/bmj.h5527), shortened. STARD-AI (Sounderajah et al. 2025) extends STARD 2015; its topics of data, model and
fairness have the letter A here, since its own numbers were not available.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from osteo_monai.data import Record, read_manifest
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, label
from osteo_monai.reporting.evaluation.results import Column, Missing, ResultTable, Row
from osteo_monai.utils.text import listed

__all__ = ["checklist_tables"]

_Items = tuple[tuple[str, str, str], ...]

_TRIPOD_AI: _Items = (
    ("1", "Title: development or evaluation of a model, population, outcome", ""),
    ("2", "Abstract", ""),
    ("3a", "Health care setting and reason for the model", ""),
    ("3b", "Target population, intended use and users", ""),
    ("3c", "Known inequalities between groups of people", ""),
    ("4", "Objectives: development, evaluation or both", "objective"),
    ("5a", "Sources of the data, and how far they represent the target population", "source"),
    ("5b", "Dates of the data", "dates"),
    ("6a", "Setting, number and place of centres", "centres"),
    ("6b", "Eligibility criteria", ""),
    ("6c", "Treatments", ""),
    ("7", "Preparation of the data, the same in all groups of people", ""),
    ("8a", "Outcome: definition, time and method", "outcome"),
    ("8b", "Qualification of assessors of a subjective outcome", ""),
    ("8c", "Blinding of the assessment of the outcome", ""),
    ("9a", "Choice of the predictors", ""),
    ("9b", "Definition of the predictors, time and method", ""),
    ("9c", "Qualification of assessors of subjective predictors", ""),
    ("10", "Sample size and its reason", "size"),
    ("11", "Missing data", "missing"),
    ("12a", "Use of the data for development and evaluation", "partition"),
    ("12b", "Form of the predictors in the model", ""),
    ("12c", "Type of model, steps of development, internal validation", "model"),
    ("12d", "Differences between clusters, such as centres", "heterogeneity"),
    ("12e", "Measures and figures of performance", "measures"),
    ("12f", "Updating of the model", "updating"),
    ("12g", "How predictions were computed", "rule"),
    ("13", "Class imbalance", "imbalance"),
    ("14", "Fairness", "fairness"),
    ("15", "Output of the model, and cut-offs", "rule"),
    ("16", "Differences between data of development and evaluation", "partition"),
    ("17", "Ethical approval", ""),
    ("18a", "Funding", ""),
    ("18b", "Conflicts of interest", ""),
    ("18c", "Protocol", ""),
    ("18d", "Registration", ""),
    ("18e", "Availability of the data", "licence"),
    ("18f", "Availability of the code", "software"),
    ("19", "Involvement of patients and the public", ""),
    ("20a", "Flow of participants", "participants"),
    ("20b", "Characteristics of the participants", "characteristics"),
    ("20c", "Comparison with the data of development", "partition"),
    ("21", "Participants and events in each analysis", "participants"),
    ("22", "Full specification of the model", "model"),
    ("23a", "Performance with intervals, also in subgroups", "performance"),
    ("23b", "Heterogeneity of performance between clusters", "heterogeneity"),
    ("24", "Results of updating", "updating"),
    ("25", "Interpretation, with fairness", ""),
    ("26", "Limitations", ""),
    ("27a", "Handling of poor or unavailable input", "missing"),
    ("27b", "Interaction of users with the model", ""),
    ("27c", "Next steps", ""),
)

_STARD: _Items = (
    ("1", "Title: diagnostic accuracy, at least one of its measures", ""),
    ("2", "Abstract", ""),
    ("3", "Background, intended use and role of the index test", ""),
    ("4", "Objectives and hypotheses", "objective"),
    ("5", "Prospective or retrospective collection of data", ""),
    ("6", "Eligibility criteria", ""),
    ("7", "Basis on which participants were identified", ""),
    ("8", "Setting, place and dates", "centres dates"),
    ("9", "Consecutive, random or convenience series", ""),
    ("10a", "Index test", "model"),
    ("10b", "Reference standard", "outcome"),
    ("11", "Reason for the reference standard", ""),
    ("12a", "Cut-offs of the index test, stated beforehand or found in the data", "rule"),
    ("12b", "Cut-offs of the reference standard", "outcome"),
    ("13a", "Whether readers of the index test knew the reference standard", ""),
    ("13b", "Whether assessors of the reference standard knew the index test", ""),
    ("14", "Methods of estimation and comparison", "measures"),
    ("15", "Indeterminate results", "missing"),
    ("16", "Missing data", "missing"),
    ("17", "Variability of accuracy, stated beforehand or found in the data", "fairness"),
    ("18", "Sample size and its reason", "size"),
    ("19", "Flow of participants", "participants"),
    ("20", "Characteristics of the participants", "characteristics"),
    ("21a", "Severity of disease in those with the condition", "severity"),
    ("21b", "Other diagnoses in those without the condition", ""),
    ("22", "Time and treatments between index test and reference standard", ""),
    ("23", "Cross tabulation of index test and reference standard", "crosstable"),
    ("24", "Accuracy with intervals", "performance"),
    ("25", "Adverse events", ""),
    ("26", "Limitations", ""),
    ("27", "Implications for practice", ""),
    ("28", "Registration", ""),
    ("29", "Protocol", ""),
    ("30", "Funding", ""),
    ("A", "Data sets: source, annotation, preparation, licence", "source licence"),
    ("A", "Data sets: division into training, validation and test", "partition"),
    ("A", "Model: version, training data, availability", "software"),
    ("A", "Bias and fairness in groups of people", "fairness"),
)

_COLUMNS = (
    Column("item", "Item"),
    Column("topic", "Topic"),
    Column("found", "Stated by the data and this evaluation"),
)


def checklist_tables(
    sets: Sequence[Predictions], tables: Mapping[str, ResultTable], options: EvaluationOptions
) -> list[ResultTable]:
    """Return the tables ``tripod_ai`` and ``stard``; items that nothing is known of are for the authors.

    Args:
        sets: predictions by model and cohort.
        tables: of the evaluation, by name.
        options: of the evaluation, with the manifest.

    Raises:
        ManifestError: the manifest has problems.
    """
    known = _of_predictions(sets, options) | _of_evaluation(sets, tables, options) | _of_manifest(sets, options)
    return [
        _filled("tripod_ai", "TRIPOD+AI (2024), items shortened", _TRIPOD_AI, known),
        _filled("stard", "STARD 2015, items shortened, with topics of STARD-AI (A)", _STARD, known),
    ]


_TO_STATE = Missing("the files do not say it: to be stated by the authors")


def _filled(name: str, caption: str, items: _Items, known: Mapping[str, str]) -> ResultTable:
    rows: list[Row] = []
    for number, topic, keys in items:
        found = " ".join(known[key] for key in keys.split() if key in known)
        rows.append({"item": number, "topic": topic, "found": found or _TO_STATE})
    answered = sum(not isinstance(row["found"], Missing) for row in rows)
    return ResultTable(name, f"{caption}: {answered} of {len(rows)} with a statement", _COLUMNS).filled(rows)


def _of_predictions(sets: Sequence[Predictions], options: EvaluationOptions) -> dict[str, str]:
    models = list(dict.fromkeys(p.model for p in sets))
    first = [next(p for p in sets if p.cohort == cohort) for cohort in dict.fromkeys(p.cohort for p in sets)]
    counts = listed(
        f"{label(p.cohort)} {len(np.unique(p.subjects))} subjects, {len(p)} images, "
        f"{int(p.is_class(TARGET).sum())} with osteoporosis"
        for p in first
    )
    shares = listed(f"{label(p.cohort)} {100 * p.is_class(TARGET).mean():.1f} %" for p in first)
    unanswered = sum(p.unanswered for p in sets)
    rules = dict.fromkeys(f"{p.model}: {p.decided_by}" for p in sets)
    outcome = "osteoporosis or none, as given"
    if any(np.isfinite(p.density).any() for p in sets) and len(sets[0].classes) > 2:
        limits = options.thresholds
        outcome = (
            f"bone density, osteoporosis below {limits.osteoporosis_below:g} and normal above "
            f"{limits.normal_above:g} mg/cm3 ({limits.source})"
        )
    return {
        "objective": f"Evaluation of {listed(models)} in {listed(label(p.cohort) for p in first)}.",
        "participants": f"{counts} (table subjects).",
        "imbalance": f"Share of osteoporosis in the images: {shares}; no resampling of classes.",
        "missing": f"{unanswered} rows without a prediction are counted and excluded; no imputation.",
        "rule": f"Predicted class by model: {'; '.join(rules)}.",
        "outcome": f"Truth: {outcome}.",
    }


def _of_evaluation(
    sets: Sequence[Predictions], tables: Mapping[str, ResultTable], options: EvaluationOptions
) -> dict[str, str]:
    factors = [] if "interactions" not in tables else [str(row["factor"]) for row in tables["interactions"].rows]
    people = [name for name in dict.fromkeys(factors) if name in ("sex", "age")]
    centres = len({p.cohort for p in sets if p.cohort.startswith("external_")})
    found = {
        "measures": f"Areas, rates, calibration and net benefit with {100 * options.level:g} % intervals, "
        f"{options.resamples} bootstrap samples, seed {options.seed} (section Methods).",
        "performance": "Tables performance, overall and predictive.",
        "size": f"Margin of non-inferiority {options.margin:g}."
        if options.margin
        else "No margin was stated; intervals show the precision.",
    }
    if factors:
        found["heterogeneity"] = f"By {listed(dict.fromkeys(factors))} with tests of interaction (table interactions)."
    elif centres:
        found["heterogeneity"] = f"{centres} external centres apart."
    if people:
        found["fairness"] = f"By {listed(people)} with tests of interaction (tables subgroups and interactions)."
    if "recalibration" in tables:
        found["updating"] = "Logistic recalibration at external centres (table recalibration)."
    if "confusion" in tables:
        found["crosstable"] = "Table confusion."
    if any(np.isfinite(p.density).any() for p in sets):
        diseased = np.concatenate([p.density[p.is_class(TARGET)] for p in sets if p.model == sets[0].model])
        diseased = diseased[np.isfinite(diseased)]
        if diseased.size:
            bounds = f"{diseased.min():.0f} to {diseased.max():.0f}, mean {diseased.mean():.0f} mg/cm3"
            found["severity"] = f"Density with osteoporosis: {bounds}."
    return found


def _of_manifest(sets: Sequence[Predictions], options: EvaluationOptions) -> dict[str, str]:
    if options.manifest is None:
        return {}
    manifest = read_manifest(options.manifest, check_files=False)
    header = manifest.header
    cohorts = [cohort for cohort in dict.fromkeys(p.cohort for p in sets) if cohort in manifest.splits]
    records = [record for cohort in cohorts for record in manifest.splits[cohort]]
    subjects = {split: len({r.subject_id for r in of}) for split, of in manifest.splits.items()}
    found = {
        "source": f"{header.name}: {header.description}" + (f" Source: {header.source}." if header.source else ""),
        "partition": "Subjects: " + listed(f"{label(split)} {count}" for split, count in subjects.items()) + ".",
        **_characteristics(records),
    }
    if header.licence:
        found["licence"] = f"Licence of the data: {header.licence}."
    if days := [record.acquired for record in records if record.acquired is not None]:
        found["dates"] = f"Acquired from {_day(min(days))} to {_day(max(days))} ({len(days)} of {len(records)} images)."
    for key, values in (
        ("centres", {r.centre for r in records if r.centre}),
        ("scanners", {r.scanner or r.manufacturer for r in records if r.scanner or r.manufacturer}),
    ):
        if values:
            found[key] = f"{len(values)} {key}: {listed(sorted(map(str, values)))}."
    if "scanners" in found:
        found["centres"] = " ".join(filter(None, (found.get("centres"), found.pop("scanners"))))
    return found


def _characteristics(records: Sequence[Record]) -> dict[str, str]:
    people = {record.subject_id: record for record in records}.values()
    parts = []
    if ages := [person.age for person in people if person.age is not None]:
        parts.append(f"age {np.mean(ages):.1f} (SD {np.std(ages, ddof=min(1, len(ages) - 1)):.1f}) years")
    if sexes := [person.sex.value for person in people if person.sex is not None]:
        parts.append(f"{sexes.count('F')} women of {len(sexes)}")
    return {"characteristics": f"{len(people)} subjects: {', '.join(parts)}."} if parts else {}


def _day(day: date) -> str:
    return day.isoformat()
