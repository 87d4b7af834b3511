"""Sections of the screening reports: values from a study, and the template block that prints them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from markupsafe import Markup

from osteo_monai.reporting.environment import block

__all__ = ["Section"]

Study = TypeVar("Study")


@dataclass(frozen=True)
class Section(Generic[Study]):
    """One part of a report.

    Attributes:
        values: returns the values of the template block, or ``None`` when the study has nothing for this section.
        template: source of the block; must use no other names than those of ``values``.
        headline: whether the section is above the findings.
    """

    values: Callable[[Study], Mapping[str, object] | None]
    template: str
    headline: bool = False

    def render(self, study: Study) -> Markup:
        """Return the section as HTML, empty when the study has nothing for it."""
        values = self.values(study)
        return Markup("") if values is None else Markup(block(self.template).render(values))
