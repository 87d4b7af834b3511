"""DICOM UIDs: checked before use, and hashed for names, logs and the status page."""

import hashlib
import re

__all__ = ["hashed", "is_uid", "shown"]

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST = 64
_SHOWN = 12


def is_uid(text: object) -> bool:
    """Return whether a text is a UID: digits and single points, at most 64 characters.

    Leading zeros of a component are accepted: real scanners write them, and they are harmless in a name.

    Example:
        >>> is_uid("1.2.840.10008.1.2"), is_uid("../../x"), is_uid("")
        (True, False, False)
    """
    return isinstance(text, str) and len(text) <= _LONGEST and _UID.fullmatch(text) is not None


def hashed(uid: str) -> str:
    """Return the name of a UID in files and in the queue: 32 hexadecimal digits of its SHA-256.

    Example:
        >>> len(hashed("1.2.3"))
        32
    """
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def shown(key: str) -> str:
    """Return the part of a hashed UID that logs and the status page show."""
    return key[:_SHOWN]
