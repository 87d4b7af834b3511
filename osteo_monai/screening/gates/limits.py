"""Limits of the quality gates: a value with its unit and source, which a caller may override."""

from collections.abc import Mapping
from dataclasses import dataclass

CUSTOM = "project custom, no source read"


@dataclass(frozen=True)
class Limit:
    """The default of one threshold.

    Attributes:
        name: unique over all gates.
        value: default, in ``unit``.
        unit: of ``value``; ``1`` for a fraction, a probability or a count.
        source: publication or reason.
    """

    name: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Limits:
    """The thresholds in force: the default of each limit, unless it is overridden.

    Example:
        >>> thickness = Limit("thickness", 5.0, "mm", "an example")
        >>> Limits()[thickness], Limits().override({thickness: 3.0})[thickness]
        (5.0, 3.0)
    """

    overrides: tuple[tuple[Limit, float], ...] = ()

    def __getitem__(self, limit: Limit) -> float:
        return dict(self.overrides).get(limit, limit.value)

    def override(self, changes: Mapping[Limit, float]) -> "Limits":
        """Return limits with other values for some of them."""
        return Limits(tuple((dict(self.overrides) | dict(changes)).items()))


DEFAULT_LIMITS = Limits()
