"""Text of the printed report and of the overview: the values of the sections of the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osteo_monai.domain import Severity
from osteo_monai.reporting import ct, radiograph
from osteo_monai.reporting.ct import measurements, methods
from osteo_monai.reporting.ct import summary as ct_summary
from osteo_monai.reporting.ct.acquisition import acquisition
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.radiograph import risks
from osteo_monai.reporting.radiograph import summary as radiograph_summary
from osteo_monai.reporting.radiograph.acquisition import acquisition as radiograph_acquisition
from osteo_monai.reporting.radiograph.study import RadiographStudy
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["Box", "Content", "Table", "content_of"]

_SEVERITIES = (
    (Severity.REFUSAL, "Reasons for refusal"), (Severity.WARNING, "Warnings"), (Severity.INFO, "For information"),
)  # fmt: skip
FOLDER_FINDINGS = frozenset({"other_objects", "nifti_ignored", "other_studies", "output_failed"})
"""Findings on the folder that was read, not on the study: they change when results are stored beside the images."""


@dataclass(frozen=True)
class Box:
    """A key value with a heading above and a sentence below it."""

    heading: str
    value: str
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of a name and one value per column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Content:
    """All text of a report.

    Attributes:
        heading, subtitle: of the document.
        verdict: title and one sentence.
        boxes: key values, empty for a refused study.
        note: below the boxes.
        findings: heading and sentences of each severity.
        tables: from top to bottom.
        notice: on research use.
    """

    heading: str
    subtitle: str
    verdict: tuple[str, str]
    boxes: tuple[Box, ...]
    note: str
    findings: tuple[tuple[str, tuple[str, ...]], ...]
    tables: tuple[Table, ...]
    notice: str

    @property
    def refused(self) -> bool:
        return not self.boxes


def content_of(result: ScreeningResult, images: ReportImages | RadiographImages | None) -> Content:
    """Return the text of a result."""
    if result.modality == "ct":
        heading, subtitle, verdicts, boxes, note, tables = _of_ct(
            result, images if isinstance(images, ReportImages) else None
        )
    else:
        heading, subtitle, verdicts, boxes, note, tables = _of_radiographs(
            result, images if isinstance(images, RadiographImages) else None
        )
    findings = [
        (name, tuple(f.message for f in result.findings if f.severity is s and f.code not in FOLDER_FINDINGS))
        for s, name in _SEVERITIES
    ]
    models = [(m.bundle, [m.version, m.weights_sha256]) for m in result.models]
    if models:
        tables.append(Table("Models", ("version", "SHA-256 of the weights"), models))
    return Content(
        heading,
        subtitle,
        verdicts[result.verdict],
        tuple(boxes),
        note,
        tuple((name, texts) for name, texts in findings if texts),
        tuple(tables),
        result.research_use_notice,
    )


_Parts = tuple[str, str, Mapping[str, tuple[str, str]], list[Box], str, list[Table]]


def _of_ct(result: ScreeningResult, images: ReportImages | None) -> _Parts:
    study = CTStudy.of(result, images)
    boxes, note = _density_boxes(ct_summary.SECTION.values(study))
    tables = []
    if (values := measurements.SECTION.values(study)) is not None:
        rows: Any = values["rows"]
        names: Any = values["names"]
        tables.append(Table("Measurements per level", names, [(name, texts) for name, texts, _ in rows]))
    if (values := methods.SECTION.values(study)) is not None:
        tables.append(_facts("Density measurement", values["rows"]))
    if facts := acquisition(result):
        tables.append(_facts("Acquisition", facts))
    subtitle = f"Opportunistic estimate of trabecular density in {study.single_level or 'L1 and L2'}"
    return "Bone density screening from CT", subtitle, ct.VERDICTS, boxes, note, tables


def _facts(title: str, rows: Any) -> Table:
    return Table(title, (), [(str(name), [str(value)]) for name, value in rows])


def _density_boxes(values: Mapping[str, Any] | None) -> tuple[list[Box], str]:
    if values is None or values["density"] is None:
        return [], ""
    levels = f", {values['levels']}" if values["levels"] else ""
    density = f"{values['density']} mg/cm³ {values['standard']}"
    boxes = [
        Box(f"Density{levels}", density, f"90 % interval {values['interval']}"),
        Box(
            "Class by volumetric density",
            str(values["status"]).capitalize(),
            f"{values['distances']} {values['status_note']}".strip(),
        ),
        Box("Percentile for age and sex", str(values["percentile"]).capitalize(), values["percentile_note"]),
    ]
    return boxes, str(values["contrast"])


def _of_radiographs(result: ScreeningResult, images: RadiographImages | None) -> _Parts:
    study = RadiographStudy.of(result, images)
    values: Any = radiograph_summary.SECTION.values(study)
    boxes, note, tables = [], "", []
    if values is not None and values["boxes"] is not None:
        boxes = [Box(box["heading"], box["value"], box["text"]) for box in values["boxes"]]
        note = values["population"]
    table: Any = risks.SECTION.values(study)
    if table is not None:
        rows = [
            (row["name"], [row["risk"], row["interval"], row["cutoff"], row["raised"], row["score"]])
            for row in table["rows"]
        ]
        tables.append(Table("Risks", ("risk", "interval", "cut-off", "", "score"), rows))
    if study.reading is not None:
        tables.append(_facts("Acquisition", radiograph_acquisition(study.reading)))
    subtitle = "Opportunistic estimate of risk, not a density"
    return "Osteoporosis risk from radiographs", subtitle, radiograph.VERDICTS, boxes, note, tables
