"""Secondary capture: one picture with values and figures, which every workstation shows."""

import highdicom as hd
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom import Dataset

from osteo_monai.dicom_results.content import Content, content_of
from osteo_monai.dicom_results.objects import CAPTURE, LABEL, common
from osteo_monai.dicom_results.pages import STYLE, wrapped
from osteo_monai.dicom_results.pictures import draw_axial, draw_radiographs, draw_sagittal, slices_of
from osteo_monai.dicom_results.source import Source
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["capture", "overview"]

WIDTH, HEIGHT = 1024, 768
"""Pixels; at 72 dpi a pixel is a point."""
_EDGE = 24
_TEXT, _SOFT, _ALERT = "#ffffff", "#b8c4cf", "#ffb628"


def capture(result: ScreeningResult, images: ReportImages | RadiographImages | None, source: Source) -> Dataset:
    """Return the overview as Secondary Capture, RGB; no name is added to the pixels of the images."""
    ds = hd.sc.SCImage(
        pixel_array=overview(result, images),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.study_uid,
        patient_orientation=("L", "P"),
        **common(CAPTURE),
    )
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.BurnedInAnnotation = "YES" if source.burned_in else "NO"
    ds.add_new("PatientOrientation", "CS", "")
    ds.ImageComments = f"{LABEL}: osteoporosis screening"
    ds.BodyPartExamined = source.body_part or ("LSPINE" if result.modality == "ct" else "SPINE")
    return ds


def overview(result: ScreeningResult, images: ReportImages | RadiographImages | None) -> NDArray[np.uint8]:
    """Return the picture, RGB (rows, columns, 3)."""
    content = content_of(result, images)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor="black")
        canvas = FigureCanvasAgg(figure)
        y = _write(figure, content)
        _figures(figure, result, images, y - 12)
        canvas.draw()
        return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _write(figure: Figure, content: Content) -> float:
    """Write the text; return the height in points that is left below it."""
    lines = [(LABEL, 15.0, _ALERT, "bold"), (content.heading, 20.0, _TEXT, "bold")]
    if content.refused:
        lines.append((content.verdict[0], 18.0, _ALERT, "bold"))
        lines.append((content.verdict[1], 13.0, _TEXT, "normal"))
    for box in content.boxes:
        lines.append((f"{box.heading}: {box.value}", 16.0, _TEXT, "bold"))
        lines.append((box.text, 11.0, _SOFT, "normal"))
    if content.note:
        lines.append((content.note, 11.0, _SOFT, "normal"))
    serious = [text for name, texts in content.findings if name != "For information" for text in texts]
    lines += [(text, 12.0, _ALERT, "normal") for text in serious[:4]]
    if len(serious) > 4:
        lines.append((f"{len(serious) - 4} more in the report.", 12.0, _ALERT, "normal"))
    y = float(HEIGHT - _EDGE)
    for text, size, colour, weight in lines:
        for line in wrapped(text, WIDTH - 2 * _EDGE, size, weight):
            y -= size * 1.3
            figure.text(_EDGE / WIDTH, y / HEIGHT, line, fontsize=size, color=colour, weight=weight, parse_math=False)
    notice = wrapped(content.notice, WIDTH - 2 * _EDGE, 9)
    for number, line in enumerate(reversed(notice)):
        figure.text(_EDGE / WIDTH, (10 + 12 * number) / HEIGHT, line, fontsize=9, color=_SOFT)
    return y


def _figures(
    figure: Figure, result: ScreeningResult, images: ReportImages | RadiographImages | None, top: float
) -> None:
    low = 46.0
    high = top - low
    if images is None or high < 120:
        return
    if isinstance(images, RadiographImages):
        draw_radiographs(figure.add_axes((_EDGE / WIDTH, low / HEIGHT, 1 - 2 * _EDGE / WIDTH, high / HEIGHT)), images)
        return
    study = CTStudy.of(result, images)
    shown = slices_of(study)
    count = len(shown) + 1
    size = min((WIDTH - 2 * _EDGE - 10 * (count - 1)) / count, high)
    for number in range(count):
        box = ((_EDGE + number * (size + 10)) / WIDTH, (top - size) / HEIGHT, size / WIDTH, size / HEIGHT)
        axes = figure.add_axes(box)
        if number < len(shown):
            draw_axial(axes, study.images or images, shown[number])
        else:
            draw_sagittal(axes, study.images or images, study)
