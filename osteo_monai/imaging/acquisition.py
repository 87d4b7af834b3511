"""What free-text header entries mean: kernels, contrast agent, age and sex."""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from osteo_monai.domain import Sex

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
    """Return ``value`` as one printable line: header text can hold control characters that end up in a terminal."""
    if isinstance(value, (list, tuple)) or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))):
        value = " ".join(str(v) for v in value)
    text = "".join(c if c.isprintable() else " " for c in str("" if value is None else value))
    return re.sub(r"\s+", " ", text).strip()[:limit]


def number(value: Any) -> float | None:
    """Return a header entry as a finite float, ``None`` where it is empty, not a number or several numbers."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def kernel_is_sharp(kernel: str | None) -> bool | None:
    """Say whether a reconstruction kernel enhances edges; ``None`` where the name is absent or not known.

    Names are the vendors' own: Siemens ``B31f`` or ``Br38f`` (55 and up are sharp), GE ``STANDARD`` or
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


_NO_CONTRAST = re.compile(
    r"\b(W/?O|WITHOUT|NON?|OHNE|SANS|SIN|SENZA)\b([\s_-]*\b(IV|I\.V\.|ORAL|OR|CON(TRAST)?E?|C|KM|PDC|CM)\b)*"
    r"|\bUNENHANCED\b|\bC-(?!\w)",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"\b(W|WITH|MIT|AVEC|POST)[\s_/-]*(C|CON|KM|PDC|CM)\b|CONTRAST|\bIV\b|\bI\.V\.|\bCTA\b|ANGIO|ARTERI[AE]L|PORTAL|VENOUS"
    r"|VENÖS|NEPHRO|UROGRAPH|\bENHANCED\b|\bC\+|\+C\b|(?:^|[\s_])KM(?:$|[\s_])",
    re.IGNORECASE,
)
_NOTHING_GIVEN = re.compile(
    r"^(NO|NONE|NON|N/?A|0|NOT? APPLIED|NIL|-+|NO CONTRAST|WITHOUT.*|UNENHANCED|W/?O.*)$", re.IGNORECASE
)


def contrast_note(agent: str, route: str, volume_ml: float | None, descriptions: Iterable[str]) -> str | None:
    """Return what a header says of contrast agent, verbatim and with its origin; ``None`` where it says nothing of it.

    Args:
        agent: ContrastBolusAgent (0018,0010), often empty though contrast was given.
        route: ContrastBolusRoute (0018,1040).
        volume_ml: ContrastBolusVolume (0018,1041).
        descriptions: series, study, protocol and body part texts; words that deny contrast do not count.
    """
    said = []
    if agent and not _NOTHING_GIVEN.match(agent):
        said.append(f"agent: {agent}")
    if route and not _NOTHING_GIVEN.match(route):
        said.append(f"route: {route}")
    if volume_ml is not None and volume_ml > 0:
        said.append(f"volume: {volume_ml:g} ml")
    for text in dict.fromkeys(descriptions):
        if _CONTRAST.search(_NO_CONTRAST.sub(" ", text)):
            said.append(f"description: {text}")
    return "; ".join(said) or None


def age_in_years(age: str, birth_date: str, study_date: str) -> float | None:
    """Return an age from a DICOM age string (``055Y``, ``018M``) or else from two DICOM dates (``YYYYMMDD``)."""
    if match := re.fullmatch(r"\s*(\d{1,3})\s*([DWMY]?)\s*", age.upper()):
        years = int(match.group(1)) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12}.get(match.group(2), 1.0)
        return round(years, 2) if 0 < years <= 120 else None
    born, seen = date_of(birth_date), date_of(study_date)
    if born is None or seen is None:
        return None
    full_years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    return float(full_years) if 0 <= full_years <= 120 else None


def sex_of(text: str) -> Sex | None:
    """Return the sex that a header entry states; anything but F or M is unknown."""
    return {"F": Sex.FEMALE, "M": Sex.MALE, "FEMALE": Sex.FEMALE, "MALE": Sex.MALE}.get(text.strip().upper())


def date_of(text: str) -> date | None:
    """Return the day of a DICOM (``YYYYMMDD``) or ISO date, ``None`` where it is none."""
    digits = re.sub(r"\D", "", text)
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
