"""Wording of lists, counts and file names in messages."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "counted",
    "escape_formula",
    "listed",
    "one_line",
    "percent_words",
    "printable",
    "safe_name",
    "share_words",
    "unescape_formula",
]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins with one of them (OWASP, CSV injection)."""

_NEUTRAL_WORDS = frozenset(
    {
        "a",
        "ap",
        "axial",
        "brain",
        "chest",
        "cr",
        "csv",
        "ct",
        "dcm",
        "dicom",
        "dx",
        "export",
        "file",
        "frame",
        "gz",
        "i",
    }
    | {"id", "im", "ima", "image", "images", "img", "instance", "jpeg", "jpg", "json", "label", "labels", "lat"}
    | {"lateral", "mask", "mr", "nii", "nifti", "pa", "png", "scan", "seg", "segmentation", "ser", "series", "slice"}
    | {"study", "txt", "volume", "x", "xray", "z"}
)
"""Words in names of files that scanners, archives and converters write."""


def listed(items: Iterable[object], last: str = "and") -> str:
    """Join items as English does.

    Example:
        >>> listed(["L1", "L2", "L3"])
        'L1, L2 and L3'
        >>> listed(["AP", "lateral"], last="or")
        'AP or lateral'
    """
    words = [str(item) for item in items]
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def escape_formula(text: str) -> str:
    """Return the text of a CSV cell that no spreadsheet computes as a formula; numbers stay numbers.

    Example:
        >>> escape_formula("=1+1"), escape_formula("-67.6")
        ("'=1+1", '-67.6')
    """
    if not text.startswith(_FORMULA_STARTS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def unescape_formula(text: str) -> str:
    """Return the text that ``escape_formula`` was given."""
    return text[1:] if text.startswith("'") and escape_formula(text[1:]) == text else text


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one.

    Example:
        >>> counted(1, "record"), counted(3, "record")
        ('1 record', '3 records')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent_words(probability: float) -> str:
    """Return a probability in whole per cent, rounded down, so that it is never rounded to a limit or to certainty.

    Example:
        >>> percent_words(0.698), percent_words(0.999)
        ('69 %', '>99 %')
    """
    return ">99 %" if probability > 0.99 else f"{int(probability * 100 + 1e-5)} %"  # networks give 0.95 as float32


def share_words(share: float, decimals: int = 0) -> str:
    """Return a share in per cent.

    Example:
        >>> share_words(0.126), share_words(0.126, 1)
        ('13 %', '12.6 %')
    """
    return f"{100 * share:.{decimals}f} %"


def printable(text: str) -> str:
    """Return a text with blanks in place of control characters other than line breaks.

    Example:
        >>> printable("scan\x1b[31m")
        'scan [31m'
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: str) -> str:
    """Return a text as one printable line: control and invisible characters become blanks.

    Example:
        >>> one_line("scan\\x1b[31m\\n2")
        'scan [31m 2'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def safe_name(path: str | os.PathLike[str]) -> str:
    """Return how a message names a file inside a study: its name if no person's name can be in it, else its hash.

    Names are shown if they consist of digits, separators and words such as ``slice`` and ``IM``.

    Example:
        >>> safe_name("/scans/IM_0001.dcm")
        "'IM_0001.dcm'"
        >>> safe_name("/scans/mueller_hans.dcm")
        'the file with the name hash 77dff1b1'
    """
    name = Path(path).name
    parts = re.findall(r"[^\W\d_]+", name)
    if name.isascii() and name.isprintable() and all(p.lower() in _NEUTRAL_WORDS for p in parts):
        return f"'{name}'"
    return f"the file with the name hash {hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
