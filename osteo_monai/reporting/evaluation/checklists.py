"""Checklists of reporting guidelines, with what the predictions, the manifest and the evaluation state.

Items of TRIPOD+AI (Collins et al. 2024, doi 10.1136/bmj-2023-078378) and of STARD-AI (Sounderajah et al. 2025, doi
10.1038/s41591-025-03953-8; it contains all items of STARD 2015), shortened, with their published numbers. The numbers
were compared with transcriptions of both statements, not with the articles themselves.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from osteo_monai import __version__
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
    ("12c", "Type of model, steps of development, internal validation", ""),
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
    ("22", "Full specification of the model", ""),
    ("23a", "Performance with intervals, also in subgroups", "performance"),
    ("23b", "Heterogeneity of performance between clusters", "heterogeneity"),
    ("24", "Results of updating", "updating"),
    ("25", "Interpretation, with fairness", ""),
    ("26", "Limitations", ""),
    ("27a", "Handling of poor or unavailable input", "missing"),
    ("27b", "Interaction of users with the model", ""),
    ("27c", "Next steps", ""),
)

_DEVELOPMENT = frozenset({"9a", "12a", "12b", "12c", "15", "22", "27a", "27b"})
"""Items of TRIPOD+AI for studies that develop a model only."""

_STARD_AI: _Items = (
    ("1", "Title or abstract: accuracy of an AI test, at least one of its measures", ""),
    ("2", "Abstract", ""),
    ("3", "Background, intended use, novelty, place in the workflow", ""),
    ("4", "Objectives and hypotheses", "objective"),
    ("5", "Prospective or retrospective collection of data", ""),
    ("6", "Ethical approval, or why none was required", ""),
    ("7", "Eligibility criteria of participants and of data, in the order of their use", ""),
    ("8", "Basis on which participants were identified", ""),
    ("9", "Setting, place and dates", "centres dates"),
    ("10", "Consecutive, random or convenience series", ""),
    ("11", "Source of the data: routine, collected for the study, or public", "source"),
    ("12", "Annotation: by whom, with which experience, and how", ""),
    ("13", "Devices that captured the data, software that made the index test", "scanners"),
    ("14", "Acquisition protocols and preprocessing", ""),
    ("15a", "Index test", ""),
    ("15b", "Development of the index test: training, validation and test sets with their sizes", "partition"),
    ("15c", "Cut-offs of the index test, stated beforehand or found in the data", "rule"),
    ("15d", "Intended users and their expertise", ""),
    ("16a", "Reference standard", "outcome"),
    ("16b", "Reason for the reference standard", ""),
    ("16c", "Cut-offs of the reference standard, stated beforehand or found in the data", "outcome"),
    ("17a", "Whether readers of the index test knew clinical facts and the reference standard", ""),
    ("17b", "Whether assessors of the reference standard knew clinical facts and the index test", ""),
    ("18", "Methods of estimation and comparison of accuracy", "measures"),
    ("19", "Indeterminate results", ""),
    ("20", "Missing data", "missing"),
    ("21", "Variability of accuracy, stated beforehand or found in the data", "heterogeneity"),
    ("22", "Sample size and its reason", "size"),
    ("23", "Analysis of errors, bias and fairness", "fairness"),
    ("24", "Flow of participants, as a diagram", "participants"),
    ("25", "Characteristics of training, validation and test sets", "characteristics"),
    ("26a", "Severity of disease in those with the condition", "severity"),
    ("26b", "Other diagnoses in those without the condition", ""),
    ("27", "Time and treatments between index test and reference standard", ""),
    ("28", "Whether the data represent the intended population", ""),
    ("29", "Differences of the external data from training, validation and test sets", ""),
    ("30", "Cross tabulation of index test and reference standard", "crosstable"),
    ("31", "Accuracy with intervals", "performance"),
    ("32", "Adverse events", ""),
    ("33", "Limitations: bias, statistical uncertainty, generalisability", ""),
    ("34", "Implications for practice, intended use", ""),
    ("35", "Ethical considerations and fairness", ""),
    ("36", "Registration", ""),
    ("37", "Protocol", ""),
    ("38", "Funding", ""),
    ("39", "Commercial interests", ""),
    ("40a", "Availability of data and code", "licence software"),
    ("40b", "Whether outputs are stored and can be audited", "outputs"),
)

_COLUMNS = (
    Column("item", "Item"),
    Column("topic", "Topic"),
    Column("found", "Stated by the data and this evaluation"),
)


def checklist_tables(
    sets: Sequence[Predictions], tables: Mapping[str, ResultTable], options: EvaluationOptions
) -> list[ResultTable]:
    """Return the tables ``tripod_ai`` and ``stard_ai``; items that nothing is known of are for the authors.

    Args:
        sets: predictions by model and cohort.
        tables: of the evaluation, by name.
        options: of the evaluation, with the manifest.

    Raises:
        ManifestError: the manifest has problems.
    """
    known = _of_predictions(sets, options) | _of_evaluation(sets, tables, options) | _of_manifest(sets, options)
    tripod = tuple(
        (number, f"{topic} (development only)" if number in _DEVELOPMENT else topic, keys)
        for number, topic, keys in _TRIPOD_AI
    )
    return [
        _filled("tripod_ai", "TRIPOD+AI (2024), items shortened", tripod, known),
        _filled("stard_ai", "STARD-AI (2025), items shortened", _STARD_AI, known),
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
        "software": f"Analysis by osteo_monai {__version__} (Apache 2.0).",
        "outputs": "All numbers of this evaluation are in results.json and tables.",
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
