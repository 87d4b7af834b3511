"""UIDs that follow from content, so that identical work has identical UIDs."""

from uuid import UUID, uuid5

__all__ = ["derived_uid"]

_NAMESPACE = UUID("c1e3a5fe-7d59-5d5c-9c1d-0f2b6a51d2e4")
"""Of this project; made once at random."""


def derived_uid(*parts: str) -> str:
    """Return the UID of a sequence of texts (``2.25.`` and a name-based UUID, DICOM PS3.5 section B.2).

    Example:
        >>> derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab")
        True
    """
    return f"2.25.{uuid5(_NAMESPACE, chr(31).join(parts)).int}"
