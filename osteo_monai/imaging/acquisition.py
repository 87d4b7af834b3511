"""Interpretation of header entries: kernels, contrast agent, age, sex and dates."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from osteo_monai.domain import Finding, Sex
from osteo_monai.imaging.findings import info, warning
from osteo_monai.imaging.header_words import contrast_in_text, nothing_given

_SHARP_NUMBER = 55
"""Siemens numbers its kernels by sharpness: B31f is soft, Bl57 and Br59 are lung and bone, B60 up is called sharp."""

_SHARP_NAMES = frozenset(
    {"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA"}  # GE
    | {"D", "E", "L", "YA", "YB", "YC", "YD", "YE"}  # Philips detail, edge and lung filters
)
_SOFT_NAMES = frozenset(
    {"STANDARD", "STND", "SOFT", "DETAIL", "CHST"}  # GE
    | {"A", "B", "C", "EA", "EB", "EC", "UA", "UB", "UC"}  # Philips smooth and standard body, head filters
)


def clean_text(value: Any, limit: int = 80) -> str:
    """Return ``value`` as one printable line without the control characters that header text may contain."""
    if isinstance(value, (list, tuple)) or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))):
        value = " ".join(str(v) for v in value)
    text = "".join(c if c.isprintable() else " " for c in str("" if value is None else value))
    return re.sub(r"\s+", " ", text).strip()[:limit]


def number(value: Any) -> float | None:
    """Return a header entry as a finite float, ``None`` if it is empty, not a number or several numbers."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def kernel_is_sharp(kernel: str | None) -> bool | None:
    """Return whether a reconstruction kernel enhances edges; ``None`` if the name is absent or unknown.

    Names are those of the vendors: Siemens ``B31f`` or ``Br38f`` (55 and up are sharp), GE ``STANDARD`` or
    ``LUNG``, Philips ``B`` or ``YB``, Canon ``FC08`` (``FC30`` to ``FC59`` and ``FC80`` up are bone, lung, sharp).
    """
    text = clean_text(kernel).upper()
    if not text:
        return None
    words = set(re.findall(r"[A-Z]+", text))
    if words & {"LUNG", "BONE", "SHARP", "EDGE", "BONEPLUS", "HRCT"}:
        return True
    first = text.split()[0].split("/")[0]
    if first in _SHARP_NAMES:
        return True
    if first in _SOFT_NAMES:
        return False
    if canon := re.match(r"FC(\d{2})", text):
        filter_number = int(canon.group(1))
        return 30 <= filter_number < 60 or filter_number >= 80
    if siemens := re.match(r"(BL|BR|BV|BF|HR|HV|HC|HF|HP|QR|SA|TR|UR|UB|B|H|I|J|Q|S|T|U|V)(\d{2})\w?", text):
        return int(siemens.group(2)) >= _SHARP_NUMBER
    return False if words & {"SOFT", "STANDARD", "SMOOTH", "BODY"} else None


def contrast_note(
    agent: str,
    route: str,
    volume_ml: float | None,
    descriptions: Iterable[str],
    dose_ml: float | None = None,
    rate_ml_s: float | None = None,
) -> str | None:
    """Return the contrast agent entries of a header, verbatim and with their origin; ``None`` if there are none.

    Args:
        agent: ContrastBolusAgent (0018,0010), often empty though contrast was given.
        route: ContrastBolusRoute (0018,1040).
        volume_ml: ContrastBolusVolume (0018,1041).
        descriptions: series, protocol, study and body part texts; see :func:`contrast_in_text`.
        dose_ml: ContrastBolusTotalDose (0018,1044).
        rate_ml_s: ContrastFlowRate (0018,1046).
    """
    entries = []
    if agent and not nothing_given(agent):
        entries.append(f"agent: {agent}")
    if route and not nothing_given(route):
        entries.append(f"route: {route}")
    for name, amount, unit in (("volume", volume_ml, "ml"), ("total dose", dose_ml, "ml"), ("rate", rate_ml_s, "ml/s")):
        if amount is not None and amount > 0:
            entries.append(f"{name}: {amount:g} {unit}")
    entries += [f"description: {text}" for text in dict.fromkeys(descriptions) if contrast_in_text(text)]
    return "; ".join(entries) or None


def station_code(name: str) -> str | None:
    """Return a code of a StationName (0008,1010), equal for equal names: the name is free text of a site.

    Example:
        >>> station_code("CT1") == station_code("ct1 "), station_code("")
        (True, None)
    """
    plain = " ".join(name.split()).casefold()
    return hashlib.sha256(plain.encode()).hexdigest()[:8] if plain else None


RESCALE_TYPES = {"OD", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"}
"""Defined terms of RescaleType (0028,1054) besides HU (DICOM PS3.3 C.11.1.1.2)."""


def rescale_unit(kind: str) -> str:
    """Return a rescale type for a message; a value that is no defined term may hold free text and is not quoted."""
    return f"'{kind}'" if kind in RESCALE_TYPES else "no defined term"


def stated_native(descriptions: Iterable[str]) -> bool:
    """Return whether the first text that mentions contrast agent denies it.

    Args:
        descriptions: from the most specific (series) to the least (study), which describes several series.
    """
    return next((said for t in descriptions if (said := contrast_in_text(t)) is not None), None) is False


OLDEST_YEARS = 120.0
"""Highest valid age (project custom; the highest documented age is 122)."""

AGES_APART_YEARS = 1.5
"""Largest difference of a stated age and that of two dates without a warning; rounding makes up to a year (project
custom)."""

PLACEHOLDER_DAYS = frozenset(
    {date(1900, 1, 1), date(1901, 1, 1), date(1970, 1, 1), date(2000, 1, 1), date(1999, 11, 11)}
)
"""Days that replace a removed date: 1900 and 2000 in de-identified collections (LIDC-IDRI has 20000101), 1970 the first
day of computer clocks, 19991111 the dummy of dcm4che. A person really born on one of them only loses the age."""

_EARLIEST_YEAR, _LATEST_YEAR = 1800, 2200
"""Years outside this are fillers such as 0001, 1111 and 9999."""


def resolve_age(age: str, birth_date: str, study_date: str) -> tuple[float | None, list[Finding]]:
    """Return the age in years, ``None`` if unknown, and findings on the entries.

    A valid PatientAge is used first, then birth and study date. Invalid entries (zero in any unit, above 120 years, a
    word or hash, a birth date that is a placeholder or not before the study) count as missing, so that no adult becomes
    zero years old. Ages of infants in days, weeks and months are valid.

    Args:
        age: PatientAge, a DICOM age string (``055Y``, ``018M``) or whole years.
        birth_date, study_date: DICOM dates (``YYYYMMDD``).
    """
    stated, counted = _stated_age(age), _age_by_dates(birth_date, study_date)
    if stated is not None:
        if counted is None or abs(stated - counted) <= AGES_APART_YEARS:
            return stated, []
        message = "The stated age and that by birth and study date differ by more than a year; the stated one was used."
        return stated, [warning("age_contradiction", message)]
    wrong = []
    if age.strip():
        wrong.append("the age (zero, above 120 years or no number)")
    if birth_date.strip() and counted is None and real_day(study_date) is not None:
        wrong.append("the birth date (no date, a placeholder, or not before the study)")
    if not wrong:
        return counted, []
    return counted, [info("age_implausible", f"In the header {' and '.join(wrong)} is invalid and counts as unknown.")]


def age_in_years(age: str, birth_date: str, study_date: str) -> float | None:
    """Return the age of :func:`resolve_age` without its findings."""
    return resolve_age(age, birth_date, study_date)[0]


def _stated_age(age: str) -> float | None:
    match = re.fullmatch(r"\s*(\d{1,3})\s*([DWMY]?)\s*", age.upper())
    if match is None:
        return None
    years = int(match.group(1)) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12}.get(match.group(2), 1.0)
    return round(years, 2) if 0 < years <= OLDEST_YEARS else None


def _age_by_dates(birth_date: str, study_date: str) -> float | None:
    born, seen = real_day(birth_date), real_day(study_date)
    if born is None or seen is None or born >= seen:
        return None
    full_years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    return float(full_years) if full_years <= OLDEST_YEARS else None


def sex_of(text: str) -> Sex | None:
    """Return the sex in a header entry, ``None`` unless it is F, M, female or male."""
    return {"F": Sex.FEMALE, "M": Sex.MALE, "FEMALE": Sex.FEMALE, "MALE": Sex.MALE}.get(text.strip().upper())


def date_of(text: str) -> date | None:
    """Return the day of a DICOM date or date and time (``YYYYMMDD...``) or an ISO one; ``None`` if invalid."""
    match = re.fullmatch(r"(\d{4})([-./]?)(\d{2})\2(\d{2})(?:[T ].*|\d{6}.*)?", text.strip())
    if match is None:
        return None
    try:
        day = date(int(match.group(1)), int(match.group(3)), int(match.group(4)))
    except ValueError:
        return None
    return day if _EARLIEST_YEAR <= day.year <= _LATEST_YEAR else None


def real_day(text: str) -> date | None:
    """Return the day of :func:`date_of`, ``None`` also for a placeholder of a removed date."""
    day = date_of(text)
    return None if day in PLACEHOLDER_DAYS else day
