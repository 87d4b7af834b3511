"""Report of a CT: one module a section, in the order of ``SECTIONS``."""

from osteo_monai.reporting.ct import axial, column, found, measurements, methods, norms, opinions, summary, texture
from osteo_monai.reporting.ct.acquisition import acquisition
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.page import Page
from osteo_monai.reporting.section import Section
from osteo_monai.screening.images import ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["SECTIONS", "VERDICTS", "page"]

SECTIONS: tuple[Section[CTStudy], ...] = (
    summary.SECTION,
    axial.SECTION,
    norms.SECTION,
    opinions.SECTION,
    column.SECTION,
    found.SECTION,
    measurements.SECTION,
    texture.SECTION,
    methods.SECTION,
)
"""Sections of the report from top to bottom; a new section is a module of this package, listed here."""

VERDICTS = {
    "accepted": ("Accepted", "All quality checks were passed."),
    "accepted_with_warnings": ("Accepted with warnings", "A density is given; read the warnings before using it."),
    "refused": ("Refused", "No bone density is given for this study."),
    "unusable": ("Unusable input", "The input could not be read, so nothing was measured."),
}
"""Verdict to its title and one sentence."""


def page(result: ScreeningResult, images: ReportImages | None) -> Page:
    """Return the page of a CT result.

    Args:
        result: of the study.
        images: for the figures; ``None`` when the input could not be read.
    """
    study = CTStudy.of(result, images)
    return Page(
        title="Bone density screening",
        heading="Bone density screening from CT",
        subtitle=f"Opportunistic estimate of trabecular density in {study.single_level or 'L1 and L2'}",
        verdicts=VERDICTS,
        headlines=[section.render(study) for section in SECTIONS if section.headline],
        sections=[section.render(study) for section in SECTIONS if not section.headline],
        acquisition=acquisition(result),
    )
