"""Read repeated measurements of subjects from predictions tables and from the summary.csv of a screening."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath

from osteo_monai.data.csv_tables import plain_cell, read_table, refuse
from osteo_monai.data.manifest import read_manifest
from osteo_monai.data.predictions_schema import TRUE_WORDS
from osteo_monai.data.record import Record
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import UnusableInputError

__all__ = ["CONDITIONS", "CONDITION_NAMES", "MEAN", "MeasuredScan", "MeasuredScans", "read_measured_scans"]

MEAN = "mean"
"""Name of the mean density over the measured levels."""
CONDITIONS = ("calibration", "standard", "kvp", "contrast_phase", "scanner")
"""Columns in which two scans must agree, so that their densities are comparable."""
CONDITION_NAMES = {
    "calibration": "calibration",
    "standard": "mineral standard",
    "kvp": "tube voltage",
    "contrast_phase": "contrast phase",
    "scanner": "scanner",
    "levels": "levels of the mean",
}
"""Printed names of ``CONDITIONS``."""
_DENSITY_LIMITS = (-300.0, 1000.0)
_OF_SUMMARY, _OF_PREDICTIONS = "density_mg_cm3", "predicted_bmd_mg_cm3"
_SUMMARY_METHOD = "screening"
_NAMES = ("subject_id", "study", "folder", "image", "model")
"""Columns whose cells are read as they are: a name may be NA or 1,5."""
_LUMBAR = tuple(level for level in VertebraLevel if level.startswith("L"))


@dataclass(frozen=True)
class MeasuredScan:
    """Densities of one scan by one method.

    Attributes:
        subject: pseudonym.
        method: name of the model, or ``screening`` for rows of a summary.
        densities: mg/cm3 by level, and of ``MEAN``; at least one.
        acquired: day of the scan, if known.
        image: path or name of the image; empty if unknown.
        conditions: text by name of ``CONDITIONS``, and the ``levels`` of the mean; empty if unknown.
        virtual: whether the person is virtual.
    """

    subject: str
    method: str
    densities: Mapping[str, float]
    acquired: date | None = None
    image: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    virtual: bool = False

    def differences(self, other: "MeasuredScan", level: str) -> list[str]:
        """Return the conditions of ``level`` that both scans have, with different values."""
        names = (*CONDITIONS, "levels") if level == MEAN else CONDITIONS
        pairs = [(name, self.conditions.get(name, ""), other.conditions.get(name, "")) for name in names]
        return [name for name, first, second in pairs if first and second and first != second]

    def unknown(self, other: "MeasuredScan") -> list[str]:
        """Return the conditions that one of the scans lacks."""
        return [name for name in CONDITIONS if not (self.conditions.get(name) and other.conditions.get(name))]


@dataclass(frozen=True)
class MeasuredScans:
    """Results of :func:`read_measured_scans`.

    Attributes:
        scans: in the order of the files.
        unmeasured: number of rows without a density by reason.
    """

    scans: tuple[MeasuredScan, ...]
    unmeasured: Mapping[str, int]


def read_measured_scans(paths: Sequence[Path], manifest: Path | None = None) -> MeasuredScans:
    """Read the densities of scans, several of which may be of one subject.

    A table is the ``summary.csv`` of a screening, recognised by its column ``density_mg_cm3``, or a predictions table
    (docs/predictions.md). Both may have the columns ``subject_id``, ``acquired`` (a day, as 2021-07-31) and those of
    ``CONDITIONS``; what a row lacks is taken from the record of its image in the manifest.

    Args:
        paths: CSV files.
        manifest: of the images.

    Raises:
        UnusableInputError: lists all problems of a file; no subject identifier is quoted.
        ManifestError: the manifest has problems.
    """
    cohort = None if manifest is None else read_manifest(manifest, check_files=False)
    records = [] if cohort is None else [record for _, _, record in cohort.records()]
    virtual = cohort is not None and cohort.header.virtual
    scans: list[MeasuredScan] = []
    unmeasured: Counter[str] = Counter()
    seen: dict[tuple[str, ...], str] = {}
    for path in paths:
        table = read_table(path)
        problems = [*table.problems, *_header_problems(table.header, bool(records))]
        if not table.rows and not problems:
            problems.append("there is no row below the header")
        refuse(path, problems)
        for line, texts in table.rows:
            cells = {n: t if n in _NAMES else plain_cell(t, table.separator) for n, t in texts.items()}
            try:
                scan = _scan(cells, path, records, virtual)
            except ValueError as error:
                problems += [f"line {line}: {problem}" for problem in str(error).split("\n")]
                continue
            if not scan.densities:
                unmeasured[cells.get("refusals") or "no density in the table"] += 1
                continue
            problems += _repeated(scan, f"'{path.name}', line {line}", seen)
            scans.append(scan)
        refuse(path, problems)
    if not scans:
        names = ", ".join(f"'{path.name}'" for path in paths)
        raise UnusableInputError(f"{names} must have at least one row with a density, got none")
    return MeasuredScans(tuple(scans), dict(unmeasured))


def _header_problems(header: Sequence[str], has_manifest: bool) -> Iterator[str]:
    by_level = [name for name in _level_columns(header).values() if name in header]
    if not by_level and not {_OF_SUMMARY, _OF_PREDICTIONS} & set(header):
        yield f"a column {_OF_PREDICTIONS} (predictions) or {_OF_SUMMARY} (summary) must be present, got neither"
    if "subject_id" not in header and not has_manifest:
        yield "a column subject_id must be present, or a manifest be given"


def _level_columns(header: Sequence[str]) -> dict[str, str]:
    """Return the column of each lumbar level in lower case, as tables are read."""
    template = "{}_mg_cm3" if _OF_SUMMARY in header else "predicted_bmd_{}_mg_cm3"
    return {str(level): template.format(level.lower()) for level in _LUMBAR}


def _scan(cells: Mapping[str, str], path: Path, records: Sequence[Record], virtual: bool) -> MeasuredScan:
    summary = _OF_SUMMARY in cells
    image = cells.get("folder") or cells.get("study") or "" if summary else cells.get("image", "")
    record = _record_of(image, records) if records else None
    facts = {} if record is None else record.model_dump(mode="json", exclude_none=True)

    def fact(name: str) -> str:
        return cells.get(name) or str(facts.get(name, ""))

    problems: list[str] = []
    densities = _densities(cells, problems)
    acquired = None
    try:
        acquired = date.fromisoformat(fact("acquired")) if fact("acquired") else None
    except ValueError:
        problems.append(f"acquired must be a day such as 2021-07-31, got '{fact('acquired')[:40]}'")
    if not fact("subject_id"):
        problems.append("subject_id is empty")
    if problems:
        raise ValueError("\n".join(problems))
    conditions = {name: fact(name).strip() for name in CONDITIONS}
    conditions["kvp"] = _whole(conditions["kvp"])
    conditions["contrast_phase"] = conditions["contrast_phase"].replace("unknown", "")
    return MeasuredScan(
        subject=fact("subject_id"),
        method=_SUMMARY_METHOD if summary else cells.get("model") or path.stem,
        densities=densities,
        acquired=acquired,
        image=image,
        conditions=conditions | {"levels": cells.get("levels", "")},
        virtual=virtual or cells.get("virtual", "").lower() in TRUE_WORDS,
    )


def _densities(cells: Mapping[str, str], problems: list[str]) -> dict[str, float]:
    """Return the densities of a row; add what is wrong with them to ``problems``."""
    of_row = cells.get("level", "").upper() or MEAN
    columns = {of_row: _OF_SUMMARY if _OF_SUMMARY in cells else _OF_PREDICTIONS}
    columns |= {level: name for level, name in _level_columns(list(cells)).items() if level != of_row}
    densities = {}
    for level, name in columns.items():
        if not cells.get(name):
            continue
        try:
            value = float(cells[name])
        except ValueError:
            value = float("nan")
        if _DENSITY_LIMITS[0] <= value <= _DENSITY_LIMITS[1]:
            densities[level] = value
        else:
            problems.append(f"{name} must be a density in mg/cm3, got '{cells[name][:40]}'")
    return densities


def _record_of(image: str, records: Sequence[Record]) -> Record:
    """Return the record of an image, by its path or the end of it; ``__`` is ``/`` in names of studies."""
    wanted = _stem(image).split("__") if "/" not in image else list(PurePosixPath(_stem(image)).parts)
    found = []
    for record in records:
        parts = [part for path in record.images for part in PurePosixPath(_stem(path)).parts if part not in ("/", ".")]
        if image and parts[-len(wanted) :] == wanted:
            found.append(record)
    if len(found) != 1:
        raise ValueError(f"image must be that of one record of the manifest, got {len(found)} records")
    return found[0]


def _stem(path: str) -> str:
    lower = path.lower()
    return next((path[: -len(end)] for end in (".nii.gz", ".nii") if lower.endswith(end)), path)


def _whole(text: str) -> str:
    """Return a number without decimals; tube voltages of 120, 120.0 and 119.9 kV are the same."""
    try:
        return f"{float(text):.0f}"
    except ValueError:
        return text


def _repeated(scan: MeasuredScan, place: str, seen: dict[tuple[str, ...], str]) -> list[str]:
    """Return a problem if a row has the image of an earlier one: copies would look like perfect repeats."""
    if not scan.image:
        return []
    problems = []
    for level in scan.densities:
        earlier = seen.setdefault((scan.subject, scan.method, level, scan.image), place)
        if earlier != place:
            problems.append(f"{place} must have another image than {earlier}, got the same image, level and method")
    return problems[:1]
