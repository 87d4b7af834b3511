"""Removal of paths and addresses from what a run records: a folder may be named after a patient."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osteo_monai.utils.files import file_sha256

__all__ = ["without_paths"]

_QUOTED = re.compile(r"(['\"])(/[^'\"]+)\1")
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"]*")


def without_paths(value: Any) -> Any:
    """Return a value without paths and addresses; mappings and lists are searched.

    A file becomes ``sha256 <digits>``, another path ``(path)``, an address ``<scheme>://``. References and expressions
    of a config stay, except for absolute paths and addresses in their quotes.
    """
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    if isinstance(value, os.PathLike):
        return _without_path(os.fspath(value))
    return _without_path(value) if isinstance(value, str) else value


def _without_path(text: str) -> str:
    text = _ADDRESS.sub(r"\1://", text)
    if text.startswith(("$", "@", "%")):
        return _QUOTED.sub(lambda found: f"'{_named(found[2])}'" if _is_absolute(found[2]) else found[0], text)
    is_path = "\n" not in text and (_is_absolute(text) or _exists(text))
    return _named(text) if is_path else text


def _is_absolute(text: str) -> bool:
    """Return whether a text is an absolute path; '/model.pt' at the end of an expression is none."""
    parts = Path(text).parts
    return (
        len(parts) > 1 and parts[0] == "/" and os.path.lexists(Path(*parts[:2])) and (len(parts) > 2 or _exists(text))
    )


def _exists(text: str) -> bool:
    try:
        return (os.sep in text or bool(Path(text).suffix)) and os.path.lexists(text)
    except (OSError, ValueError):  # longer than a name of a file may be
        return False


def _named(path: str) -> str:
    return f"sha256 {file_sha256(path)}" if os.path.isfile(path) else "(path)"
