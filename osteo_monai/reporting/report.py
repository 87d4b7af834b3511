"""The screening report: one self-contained HTML file written from a result, for screen and A4."""

from pathlib import Path

from osteo_monai.reporting import ct, radiograph
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.utils.files import write_text

__all__ = ["write_report"]


def write_report(result: ScreeningResult, images: ReportImages | RadiographImages | None, path: Path) -> None:
    """Write the report of one study to ``path`` as one HTML file (UTF-8) without external references.

    The report of a refused or unusable study states the reason first and no density, HU or risk, even if the result
    has one; figures are still shown.

    Args:
        result: of the study.
        images: for the figures, of the same modality; ``None`` when the input could not be read. Missing levels are
            taken from ``result.levels_found``.
        path: file to write; its folder is made if missing.

    Raises:
        ValueError: if the images are of the other modality.
        OSError: if ``path`` cannot be written.
    """
    if result.modality == "radiograph" and not isinstance(images, ReportImages):
        page = radiograph.page(result, images)
    elif result.modality == "ct" and not isinstance(images, RadiographImages):
        page = ct.page(result, images)
    else:
        expected = RadiographImages if result.modality == "radiograph" else ReportImages
        raise ValueError(f"images must be {expected.__name__} for a {result.modality}, got {type(images).__name__}")
    write_text(path, page.render(result))
