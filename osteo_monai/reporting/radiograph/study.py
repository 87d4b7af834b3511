"""What the sections of a radiograph report share: the risk with its refusal rule, and the figures' images."""

from dataclasses import dataclass
from typing import Self

from osteo_monai.screening.images import RadiographImages
from osteo_monai.screening.result import RadiographRisk, RiskOpinion, ScreeningResult

__all__ = ["RadiographStudy"]


@dataclass(frozen=True)
class RadiographStudy:
    """A result from radiographs as it may be shown: without risk unless the study was accepted.

    Attributes:
        images: for the figures; ``None`` for an unread input.
        measured: whether the study was accepted.
        reading: risk and facts of the study, if it was accepted.
    """

    images: RadiographImages | None
    measured: bool
    reading: RadiographRisk | None

    @classmethod
    def of(cls, result: ScreeningResult, images: RadiographImages | None) -> Self:
        """Return the study of a result and its images."""
        measured = result.verdict in ("accepted", "accepted_with_warnings")
        return cls(images, measured, result.radiograph if measured else None)

    @property
    def opinions(self) -> list[RiskOpinion]:
        """Every risk that was computed, single views first."""
        reading = self.reading
        if reading is None:
            return []
        return [*reading.views, reading.risk, *(o for o in (reading.clinical, reading.combined) if o is not None)]
