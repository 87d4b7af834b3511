"""Many studies, one result row each: a study that fails never stops the rest and never loses its row."""

import csv
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osteo_monai.domain import Finding, Severity
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.result import ScreeningResult

if TYPE_CHECKING:
    from osteo_monai.imaging.studies import StudyPart

SUMMARY_COLUMNS: tuple[str, ...] = (
    "study",
    "modality",
    "verdict",
    "status",
    "density_mg_cm3",
    "interval_low",
    "interval_high",
    "standard",
    "levels",
    "L1_mg_cm3",
    "L2_mg_cm3",
    "L1_hu_mean",
    "L2_hu_mean",
    "L1_hu_median",
    "L2_hu_median",
    "opinions",
    "hu_rule_status",
    "regression_status",
    "regression_mg_cm3",
    "regression_interval_low",
    "regression_interval_high",
    "classifier_status",
    "probability_normal",
    "probability_osteopenia",
    "probability_osteoporosis",
    "calibration",
    "kvp",
    "view",
    "risk",
    "risk_low",
    "risk_high",
    "risk_raised",
    "risk_score",
    "combined_risk",
    "combined_risk_low",
    "combined_risk_high",
    "combined_risk_raised",
    "clinical_risk",
    "age",
    "sex",
    "height_cm",
    "weight_kg",
    "refusals",
    "warnings",
    "seconds",
    "folder",
)
"""Columns of summary.csv; a column without a value is empty, never zero. ``opinions`` says agree, borderline or differ,
the probabilities are the classifier's. ``view`` and what follows to ``weight_kg`` are of radiographs: calibrated
risks of osteoporosis, 0 to 1, and the network's own ``risk_score``; views that were fused are joined by a plus sign."""

Kind = Literal["ct", "radiograph"]

RADIOGRAPH_MODALITIES = frozenset({"CR", "DX", "RG"})
"""DICOM modalities of radiographs."""

_OPINION_COLUMNS = {"hu_rule": "hu_rule", "density_regression": "regression", "classifier": "classifier"}

EXIT_MEASURED, EXIT_UNUSABLE, EXIT_REFUSED = 0, 2, 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """What is screened at once: a CT by its path, or the radiographs of one study file by file.

    Attributes:
        kind: what it is, by its content.
        path: what it is called by: a file or a folder.
        files: of radiographs; empty for a CT, whose reader chooses among what is at ``path``.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...] = ()


def find_screenable(path: Path) -> list[Study]:
    """List the CT studies and the studies of radiographs at a path, told apart by their content.

    Each PNG, JPEG and NIfTI is a study of its own. DICOM files are told apart by StudyInstanceUID and PatientID, in one
    folder as well; radiographs (modality CR, DX or RG) of a study are put together wherever they lie in the tree. What
    lies in a folder beside the CT images of its study (radiographs, pictures) is passed over, and so are segmentations,
    reports and RT objects beside images.

    Returns:
        Studies ordered by path, each with a path of its own. What is neither, such as a folder of mammograms, counts as
        CT: its reader says why it is none.

    Raises:
        UnusableInputError: there is no such path, or nothing at it can be read.
    """
    from osteo_monai.imaging.nifti import is_nifti
    from osteo_monai.imaging.radiograph import is_picture
    from osteo_monai.imaging.studies import study_paths, walk_studies

    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    if path.is_file():
        radiograph = is_picture(path) or _is_radiograph(path)
        return [Study("radiograph", path, (path,)) if radiograph else Study("ct", path)]
    single: list[Path] = []
    films: list[StudyPart] = []
    slices: list[StudyPart] = []
    for _, parts, others in walk_studies(path):
        here = [part for part in parts if _radiographs(part)]
        films += here
        slices += [part for part in parts if part not in here]
        single += [file for file in others if is_nifti(file)]
        if len(here) == len(parts):  # a picture beside slices is a preview of them
            single += [file for file in others if is_picture(file)]
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for part in films:
        for number, file in enumerate(_radiographs(part)):
            groups[part.key or f"{part.folder} {number}"].append(file)
    folders = {part.folder for part in slices}
    studies = [Study("radiograph", _common_name(files, groups, folders), tuple(files)) for files in groups.values()]
    studies += [Study("radiograph", file, (file,)) if is_picture(file) else Study("ct", file) for file in single]
    studies += [Study("ct", one) for one in study_paths(slices, films)]
    if not studies:
        raise UnusableInputError("Nothing in the folder is DICOM or NIfTI.")
    if len(studies) == 1:
        return [Study(studies[0].kind, path, studies[0].files)]
    return sorted(studies, key=lambda study: study.path)


def _radiographs(part: "StudyPart") -> tuple[Path, ...]:
    """The radiographs of a study that shows no CT in this folder."""
    if part.ct:
        return ()
    return tuple(sorted(file for m in RADIOGRAPH_MODALITIES for file in part.by_modality.get(m, ())))


def _is_radiograph(file: Path) -> bool:
    from osteo_monai.imaging.dicom_headers import looks_like_dicom
    from osteo_monai.imaging.studies import study_parts

    return looks_like_dicom(file) and any(_radiographs(part) for part in study_parts([file]))


def _common_name(files: Sequence[Path], groups: Mapping[str, Sequence[Path]], other: set[Path]) -> Path:
    """The folder that holds these files and no other study, else the first file."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    foreign = any(file.is_relative_to(folder) for group in groups.values() for file in group if file not in files)
    return files[0] if foreign or any(one.is_relative_to(folder) for one in other) else folder


def exit_code(results: Sequence[ScreeningResult]) -> int:
    """Return 0 if every study was measured, 3 if at least one was refused with a reason, else 2 (unusable input).

    A refusal outweighs an unusable entry: a folder of studies often holds a file that is no study.
    """
    verdicts = {r.verdict for r in results}
    if "refused" in verdicts:
        return EXIT_REFUSED
    return EXIT_UNUSABLE if "unusable" in verdicts or not verdicts else EXIT_MEASURED


def summary_row(result: ScreeningResult, folder: str = "") -> dict[str, Any]:
    """Return one row of the summary table with the keys of ``SUMMARY_COLUMNS``."""
    row: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS)
    row |= {"study": result.study, "modality": result.modality, "verdict": result.verdict, "folder": folder}
    row["refusals"] = "; ".join(f.code for f in result.findings if f.severity is Severity.REFUSAL)
    row["warnings"] = "; ".join(f.code for f in result.findings if f.severity is Severity.WARNING)
    row["seconds"] = round(sum(result.seconds.values()), 2)
    if result.status is not None:
        row["status"] = result.status.value
    if result.density is not None:
        row["density_mg_cm3"] = round(result.density.mg_cm3, 1)
        row["interval_low"] = round(result.density.interval_low, 1)
        row["interval_high"] = round(result.density.interval_high, 1)
        row["standard"] = result.density.standard.value
    if result.calibration is not None:
        row["calibration"] = result.calibration.method
    if result.acquisition is not None:
        row["kvp"] = result.acquisition.kvp
    row["levels"] = " ".join(m.level for m in result.levels)
    for m in result.levels:
        values = {"mg_cm3": m.density.mg_cm3, "hu_mean": m.hu.mean, "hu_median": m.hu.median}
        for key, value in values.items():
            if f"{m.level}_{key}" in row:
                row[f"{m.level}_{key}"] = round(value, 1)
    told = [f.code.removeprefix("opinions_") for f in result.findings if f.code.startswith("opinions_")]
    row["opinions"] = told[0] if told else None
    for opinion in result.opinions:
        column = _OPINION_COLUMNS.get(opinion.name)
        if column is None:  # the line is the headline
            continue
        row[f"{column}_status"] = None if opinion.status is None else opinion.status.value
        if opinion.density is not None:
            row[f"{column}_mg_cm3"] = round(opinion.density.mg_cm3, 1)
            row[f"{column}_interval_low"] = round(opinion.density.interval_low, 1)
            row[f"{column}_interval_high"] = round(opinion.density.interval_high, 1)
        if opinion.name == "classifier" and opinion.probabilities is not None:
            row |= {f"probability_{status}": round(p, 4) for status, p in opinion.probabilities.items()}
    return row | _risk_columns(result)


def _risk_columns(result: ScreeningResult) -> dict[str, Any]:
    found = result.radiograph
    if found is None:
        return {}
    row: dict[str, Any] = {
        "view": "+".join(r.view for r in found.radiographs),
        "risk_score": round(found.risk.score, 4),
    }
    for name, opinion in (("risk", found.risk), ("combined_risk", found.combined)):
        if opinion is not None and opinion.probability is not None:
            row[name] = round(opinion.probability, 4)
            for end in ("low", "high"):
                value = getattr(opinion, end)
                row[f"{name}_{end}"] = None if value is None else round(value, 4)
            row[f"{name}_raised"] = opinion.raised
    if found.clinical is not None and found.clinical.probability is not None:
        row["clinical_risk"] = round(found.clinical.probability, 4)
    person = found.person
    row |= {"age": person.age_years, "sex": person.sex, "height_cm": person.height_cm, "weight_kg": person.weight_kg}
    kvp = {r.kvp for r in found.radiographs}
    return row | {"kvp": kvp.pop() if len(kvp) == 1 else None}


def write_summary(rows: Sequence[dict[str, Any]], output: Path) -> None:
    """Write ``summary.csv`` and ``summary.json`` (the same rows) to the folder ``output``."""
    with (output / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SUMMARY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (output / "summary.json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")


def output_names(studies: Sequence[Path], root: Path) -> list[str]:
    """Return one folder name per study, unique and readable: its path below ``root`` with ``__`` for ``/``."""
    names: list[str] = []
    taken: set[str] = set()
    for study in studies:
        below = study.relative_to(root) if study.is_relative_to(root) else Path(study.name)
        base = "__".join(below.parts) or root.resolve().name
        name, n = base, 2
        while name in taken:
            name, n = f"{base}_{n}", n + 1
        taken.add(name)
        names.append(name)
    return names


def screen_folder(
    studies: Sequence[Path],
    root: Path,
    output: Path,
    screen_one: Callable[[Path, Path], ScreeningResult],
    on_progress: Callable[[str, ScreeningResult | None], None] = lambda name, result: None,
    kind: Callable[[Path], Kind] = lambda study: "ct",
) -> list[ScreeningResult]:
    """Screen many studies, each into a folder of its own below ``output``, and write the summary table.

    The summary is rewritten after every study, so a run that is cut short leaves the rows it had. The output of a
    study that failed stays where it is.

    Args:
        studies: what to screen, in this order.
        root: the folder they were found in; their folders below ``output`` are named after the path below it.
        output: folder for the results; made where it does not exist.
        screen_one: screens one study (path, folder for its output).
        on_progress: called with the name before a study (result ``None``) and after it.
        kind: tells what a study is, for the result of one that breaks.
    """
    output.mkdir(parents=True, exist_ok=True)
    results: list[ScreeningResult] = []
    rows: list[dict[str, Any]] = []
    for study, name in zip(studies, output_names(studies, root), strict=True):
        on_progress(name, None)
        started = time.perf_counter()
        try:
            result = screen_one(study, output / name)
        except Exception as error:
            # whatever one study does, the others are screened and this one keeps its row
            logger.debug("screening failed", exc_info=True)
            result = failed_result(name, error, time.perf_counter() - started, kind(study))
            (output / name).mkdir(parents=True, exist_ok=True)
            result.write(output / name / "result.json")
        results.append(result)
        rows.append(summary_row(result, name))
        write_summary(rows, output)
        on_progress(name, result)
    if not studies:
        write_summary(rows, output)
    return results


def failed_result(study: str, error: Exception, seconds: float = 0.0, modality: Kind = "ct") -> ScreeningResult:
    """Return the result of a study whose screening broke off by an error nobody foresaw.

    The message names the kind of error only: the text of a foreign error may quote a header.
    """
    message = f"Screening broke off by an unexpected error ({type(error).__name__})."
    finding = Finding(code="internal_error", severity=Severity.REFUSAL, message=message)
    told = {"total": round(seconds, 3)}
    return ScreeningResult(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=told)
