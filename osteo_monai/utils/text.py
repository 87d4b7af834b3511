"""Wording of lists and counts in messages."""

from collections.abc import Iterable

__all__ = ["listed"]


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
