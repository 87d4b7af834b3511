"""Report of radiographs: one module a section, in the order of ``SECTIONS``."""

from osteo_monai.reporting.page import Page
from osteo_monai.reporting.radiograph import maps, risks, summary
from osteo_monai.reporting.radiograph.acquisition import acquisition
from osteo_monai.reporting.radiograph.study import RadiographStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import VIEW_NAMES
from osteo_monai.screening.images import RadiographImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["SECTIONS", "VERDICTS", "page"]

SECTIONS: tuple[Section[RadiographStudy], ...] = (summary.SECTION, maps.SECTION, risks.SECTION)
"""Sections of the report from top to bottom; a new section is a module of this package, listed here."""

VERDICTS = {
    "accepted": ("Accepted", "All quality checks were passed."),
    "accepted_with_warnings": ("Accepted with warnings", "A risk is given; read the warnings before using it."),
    "refused": ("Refused", "No risk is given for this study."),
    "unusable": ("Unusable input", "The input could not be read, so nothing was evaluated."),
}
"""Verdict to its title and one sentence."""


def page(result: ScreeningResult, images: RadiographImages | None) -> Page:
    """Return the page of a result from radiographs.

    Args:
        result: of the study.
        images: for the figures; ``None`` when the input could not be read.
    """
    study = RadiographStudy.of(result, images)
    return Page(
        title="Osteoporosis risk screening",
        heading="Osteoporosis risk from radiographs",
        subtitle=_subtitle(study),
        verdicts=VERDICTS,
        headlines=[section.render(study) for section in SECTIONS if section.headline],
        sections=[section.render(study) for section in SECTIONS if not section.headline],
        acquisition=[] if study.reading is None else acquisition(study.reading),
    )


def _subtitle(study: RadiographStudy) -> str:
    if study.reading is None:
        return "Opportunistic risk"
    views = [VIEW_NAMES[r.view].lower().replace(" ap", " AP") for r in study.reading.radiographs]
    return f"Opportunistic risk from a {' and a '.join(views)} radiograph"
