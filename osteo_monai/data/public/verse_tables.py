"""Published tables about the people of VerSe 2019, joined by the number of the image series.

- ``verse19fem_AppendixA.csv`` of Bonelab/spineFE-benchmark (Walle 2025, doi 10.1093/gigascience/giaf094): densities
  with a phantom in 17 scans and without one in all 160, mg/cm3 K2HPO4, with the levels that were measured.
- ``ryai190138_appendixe1.xlsx`` of Löffler 2020 (doi 10.1148/ryai.2020190138), sheet VerSe_dataset: age, scanner as a
  number, T-score of DXA, density of the lumbar spine from HU. The standard of that density is not in the table.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from osteo_monai.data.public.case import Source
from osteo_monai.data.public.files import number_of, read_rows
from osteo_monai.domain import SCREENED_LEVELS, ContrastPhase, DensityThresholds, MineralStandard
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import sex_of

SUBJECT_OF_SERIES: Mapping[int, int] = {
    series: subject
    for subject, of_subject in {
        400: (90, 155), 401: (201, 253), 402: (202, 251), 403: (208, 255), 404: (209, 256), 405: (212, 258, 259),
        406: (214, 261), 407: (215, 262), 408: (223, 265), 409: (226, 266), 410: (227, 267), 411: (232, 270),
        412: (235, 290), 413: (239, 272), 414: (241, 273), 415: (243, 275), 416: (247, 279), 417: (277, 278),
    }.items()
    for series in of_subject
}  # fmt: skip
"""Person of the image series of VerSe 2019 that have the number of no person, since the person has several (columns
``verse_ID`` and ``subject_ID`` of verse19fem_AppendixA.csv)."""

_PHASES = {
    "ce-no": ContrastPhase.NATIVE,
    "ce-pv": ContrastPhase.PORTAL_VENOUS,
    "ce-art": ContrastPhase.ARTERIAL,
}

_Facts = dict[str, dict[str, Any]]


def read_verse_tables(source: Source) -> tuple[_Facts, tuple[str, ...]]:
    """Return facts by series, such as ``verse004``, and notes.

    All densities are in ``extra``. ``bmd_mg_cm3`` is that of ``source.density``, the mean over the series of a person
    whose measured levels include L1 or L2: one of the upper thoracic spine is no density of L1 and L2.

    Raises:
        UnusableInputError: a table cannot be read, or has no column verse_ID; the standard of the published density is
            not given.
    """
    facts: _Facts = defaultdict(dict)
    for path in source.tables:
        for row in read_rows(path, ("verse_ID",)):
            number = number_of(row["verse_id"])
            if number is None:
                continue
            known = facts[f"verse{int(number):03d}"]
            extra = {**known.get("extra", {}), **_densities(row)}
            known |= _person(row)
            if extra:
                known["extra"] = extra
    if source.tables and not facts:
        raise UnusableInputError(f"'{source.tables[0].name}' must have rows with a number in verse_ID, got none.")
    notes = _set_density(facts, source) if source.tables else ("No table is given: facts of the people are unknown.",)
    return dict(facts), notes


def _person(row: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "age": number_of(row.get("age_ct") or row.get("age")),
        "sex": sex_of(row.get("sex") or ""),
        "t_score": number_of(row.get("dxa t-value") or row.get("dxa t-score")),
        "contrast_phase": _PHASES.get((row.get("contrast enhancement") or "").lower()),
    }
    device = row.get("ct_device", "")
    code = number_of(device)
    # the table names scanners by numbers whose meaning it does not have
    found["scanner"] = (f"CT_device {code:g}" if code is not None else device) or None
    return {name: value for name, value in found.items() if value is not None}


def _densities(row: Mapping[str, str]) -> dict[str, str | float | bool]:
    extra: dict[str, str | float | bool] = {}
    for name, text in row.items():
        kind = _kind(name)
        value = number_of(text)
        # 0 is written where the lumbar spine could not be measured
        if kind is not None and value is not None and not (kind == "published" and value == 0):
            extra[f"bmd_{kind}_mg_cm3"] = value
    if levels := row.get("bmd_assessment"):
        extra["bmd_levels"] = levels
    if (row.get("foreign material") or "").lower() == "true":
        extra["foreign_material"] = True
    return extra


def _kind(column: str) -> str | None:
    if re.match(r"phantomless calibration v?bmd", column):
        return "phantomless"
    if re.match(r"phantom calibration v?bmd", column):
        return "phantom"
    return "published" if column == "bmd" or column.startswith("vbmd") else None


def _set_density(facts: _Facts, source: Source) -> tuple[str, ...]:
    """Set ``bmd_mg_cm3`` in ``facts``; return notes."""
    if source.density == "published" and source.standard is None:
        raise UnusableInputError("--standard must be given with --density published, whose table states no standard.")
    standard = source.standard if source.density == "published" else MineralStandard.K2HPO4
    field = f"bmd_{source.density}_mg_cm3"
    by_person: dict[int, list[float]] = defaultdict(list)
    for series, known in facts.items():
        extra = known.get("extra", {})
        if field in extra and (source.density == "published" or _of_lumbar_spine(extra)):
            by_person[_person_of(series)].append(extra[field])
    for series, known in facts.items():
        values = by_person.get(_person_of(series))
        if values and standard is not None:
            known |= _density(round(mean(values), 3), standard)
    counted = len(by_person)
    return (f"bmd_mg_cm3 is the density by '{source.density}', known for {counted} people of the tables.",)


def _density(value: float, standard: MineralStandard) -> dict[str, Any]:
    thresholds = DensityThresholds()
    known: dict[str, Any] = {"bmd_mg_cm3": value, "bmd_standard": standard}
    if standard == thresholds.standard:
        known["bone_status"] = thresholds.status(value, standard)
    return known


def _person_of(series: str) -> int:
    number = int(series.removeprefix("verse"))
    return SUBJECT_OF_SERIES.get(number, number)


def _of_lumbar_spine(extra: Mapping[str, Any]) -> bool:
    levels: Iterable[str] = re.split(r"[\s,]+", str(extra.get("bmd_levels", "")))
    return any(level in levels for level in SCREENED_LEVELS)
