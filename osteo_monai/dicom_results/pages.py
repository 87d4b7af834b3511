"""Pages of the printed report: A4, drawn with matplotlib."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from osteo_monai.dicom_results.content import Box, Content, Table, content_of
from osteo_monai.dicom_results.objects import LABEL, PRODUCT
from osteo_monai.dicom_results.pictures import draw_axial, draw_radiographs, draw_sagittal, slices_of
from osteo_monai.dicom_results.version import software_version
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["page_pictures", "print_report", "wrapped"]

WIDTH, HEIGHT = 595.0, 842.0
"""A4 in points."""
MARGIN, BOTTOM = 42.0, 60.0
INK, SOFT, RULE, ALERT = "#1b242c", "#51606d", "#c3ccd4", "#a23b12"
FONT = "DejaVu Sans"
LEADING = 1.38

STYLE: dict[Any, Any] = {"font.family": FONT, "pdf.fonttype": 42, "text.color": INK}


@cache
def _renderer(dpi: float) -> RendererAgg:
    renderer: RendererAgg = FigureCanvasAgg(Figure(figsize=(0.1, 0.1), dpi=dpi)).get_renderer()
    return renderer


@cache
def _text_width(text: str, size: float, weight: str) -> float:
    """Return the width of a line in points; measured at a high resolution, since hinting rounds to pixels."""
    dpi = 720.0
    renderer = _renderer(dpi)
    properties = FontProperties(family=FONT, size=size, weight=weight)
    return float(renderer.get_text_width_height_descent(text, properties, False)[0]) * 72 / dpi


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Return the lines of a text that fit a width in points; a word that is too long is cut."""
    blank = _text_width("n n", size, weight) - _text_width("nn", size, weight)
    lines: list[str] = []
    line, used = "", 0.0
    for word in _short_words(text, width, size, weight):
        added = _text_width(word, size, weight)
        if line and used + blank + added > width:
            lines.append(line)
            line, used = word, added
        else:
            line, used = (f"{line} {word}", used + blank + added) if line else (word, added)
    return [*lines, line] if line else lines


def _short_words(text: str, width: float, size: float, weight: str) -> Iterator[str]:
    for word in text.split():
        while len(word) > 1 and (wide := _text_width(word, size, weight)) > width:
            count = max(1, int(len(word) * width / wide))
            yield word[:count]
            word = word[count:]
        yield word


@dataclass
class Pages:
    """Text and pictures from top to bottom; a block that does not fit begins a new page."""

    heading: str
    figures: list[Figure] = field(default_factory=list)
    top: float = 0.0
    """Points that are left below the last block, counted from the lower edge of the page."""

    def new_page(self) -> None:
        """Begin a page."""
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        self.figures.append(figure)
        self.top = HEIGHT - MARGIN
        if len(self.figures) > 1:
            self.text(f"{self.heading}, page {len(self.figures)}", 8, SOFT)
            self.skip(6)

    def reserve(self, points: float) -> None:
        """Begin a new page unless this many points are left."""
        if not self.figures or self.top - points < BOTTOM:
            self.new_page()

    def skip(self, points: float) -> None:
        """Leave a gap."""
        self.top -= points

    def line(
        self, x: float, text: str, size: float, colour: str = INK, weight: str = "normal", ha: str = "left"
    ) -> None:
        """Write one line at the current height."""
        self.figures[-1].text(
            x / WIDTH, (self.top - size) / HEIGHT, text, fontsize=size, color=colour, weight=weight, ha=ha,
            va="baseline", parse_math=False,
        )  # fmt: skip

    def text(self, text: str, size: float = 9, colour: str = INK, weight: str = "normal", indent: float = 0.0) -> None:
        """Write a paragraph."""
        for line in wrapped(text, WIDTH - 2 * MARGIN - indent, size, weight):
            self.reserve(size * LEADING)
            self.line(MARGIN + indent, line, size, colour, weight)
            self.skip(size * LEADING)

    def title(self, text: str) -> None:
        """Write the heading of a block, with a rule above it."""
        self.reserve(60)
        self.skip(12)
        self.rule()
        self.skip(5)
        self.text(text, 11, INK, "bold")
        self.skip(2)

    def rule(self) -> None:
        """Draw a horizontal rule."""
        y = self.top / HEIGHT
        self.figures[-1].add_artist(
            mpl.lines.Line2D([MARGIN / WIDTH, 1 - MARGIN / WIDTH], [y, y], color=RULE, linewidth=0.8)
        )

    def axes(self, left: float, width: float, height: float) -> Axes:
        """Return axes below the last block, ``left`` points from the margin."""
        bottom = self.top - height
        return self.figures[-1].add_axes(((MARGIN + left) / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))

    def table(self, table: Table) -> None:
        """Write a table: names at the left, values beside each other."""
        self.title(table.title)
        count = max([1, *(len(values) for _, values in table.rows)])
        first = 150.0 if count < 3 else 110.0
        widths = _widths(table, WIDTH - 2 * MARGIN - first, count)
        places = [MARGIN + first + sum(widths[:n]) for n in range(count)]
        if any(table.columns):
            for x, name in zip(places, table.columns, strict=False):
                self.line(x, name, 8, SOFT, "bold")
            self.skip(8 * LEADING)
        for name, values in table.rows:
            cells = [wrapped(name, first - 8, 8), *(wrapped(v, w - 8, 8) for v, w in zip(values, widths, strict=False))]
            height = max([1, *map(len, cells)]) * 8 * LEADING
            self.reserve(height)
            start = self.top
            for x, lines, colour in zip([MARGIN, *places], cells, [SOFT, *[INK] * count], strict=False):
                self.top = start
                for line in lines:
                    self.line(x, line, 8, colour)
                    self.skip(8 * LEADING)
            self.top = start - height - 1.5


def _widths(table: Table, available: float, count: int) -> list[float]:
    """Return column widths, in proportion to the longest text of each."""
    texts = [list(table.columns)] * bool(any(table.columns)) + [list(values) for _, values in table.rows]
    longest = [max([8, *(min(len(row[n]), 64) for row in texts if n < len(row))]) for n in range(count)]
    return [available * length / sum(longest) for length in longest]


def print_report(result: ScreeningResult, images: ReportImages | RadiographImages | None) -> bytes:
    """Return the report as PDF; equal results give equal bytes."""
    content = content_of(result, images)
    with mpl.rc_context(STYLE):
        pages = _pages(content, result, images)
        stream = io.BytesIO()
        facts = {"Title": content.heading, "Subject": LABEL, "Creator": PRODUCT, "Producer": None, "CreationDate": None}
        with PdfPages(stream, metadata=facts) as document:
            for number, figure in enumerate(pages.figures, start=1):
                _footer(figure, content, number, len(pages.figures))
                document.savefig(figure)
    return stream.getvalue()


def page_pictures(
    result: ScreeningResult, images: ReportImages | RadiographImages | None, dpi: int = 100
) -> list[bytes]:
    """Return the pages as PNG, as a viewer shows them."""
    content = content_of(result, images)
    shown = []
    with mpl.rc_context(STYLE):
        pages = _pages(content, result, images)
        for number, figure in enumerate(pages.figures, start=1):
            _footer(figure, content, number, len(pages.figures))
            stream = io.BytesIO()
            FigureCanvasAgg(figure)
            figure.savefig(stream, dpi=dpi, format="png")
            shown.append(stream.getvalue())
    return shown


def _pages(content: Content, result: ScreeningResult, images: ReportImages | RadiographImages | None) -> Pages:
    pages = Pages(content.heading)
    pages.new_page()
    pages.text(LABEL, 9, ALERT, "bold")
    pages.skip(4)
    pages.text(content.heading, 17, INK, "bold")
    pages.text(content.subtitle, 9, SOFT)
    if result.source is not None and result.source.study_date is not None:
        pages.text(f"Study of {result.source.study_date:%Y-%m-%d}", 9, SOFT)
    pages.skip(8)
    pages.text(content.verdict[0], 12, ALERT if content.refused else INK, "bold")
    pages.text(content.verdict[1], 9)
    if content.boxes:
        pages.skip(10)
        _boxes(pages, content.boxes)
    if content.note:
        pages.text(content.note, 8, SOFT)
    for name, sentences in content.findings:
        pages.title(name)
        for sentence in sentences:
            pages.text(f"• {sentence}", 8.5)
    _figures(pages, result, images)
    for table in content.tables:
        pages.table(table)
    return pages


def _boxes(pages: Pages, boxes: Sequence[Box]) -> None:
    gap = 14.0
    width = (WIDTH - 2 * MARGIN - gap * (len(boxes) - 1)) / len(boxes)
    start, lowest = pages.top, pages.top
    for number, box in enumerate(boxes):
        pages.top = start
        x = MARGIN + number * (width + gap)
        for text, size, colour, weight in (
            (box.heading, 8, SOFT, "normal"), (box.value, 13, INK, "bold"), (box.text, 8, INK, "normal"),
        ):  # fmt: skip
            for line in wrapped(text, width, size, weight):
                pages.line(x, line, size, colour, weight)
                pages.skip(size * LEADING)
        lowest = min(lowest, pages.top)
    pages.top = lowest - 4


def _figures(pages: Pages, result: ScreeningResult, images: ReportImages | RadiographImages | None) -> None:
    available = WIDTH - 2 * MARGIN
    if isinstance(images, RadiographImages):
        pages.reserve(300)
        pages.skip(12)
        draw_radiographs(pages.axes(0, available, 260), images)
        pages.skip(264)
        pages.text("Radiograph beside its Grad-CAM map. No map shows where bone is diseased.", 8, SOFT)
    elif images is not None:
        study = CTStudy.of(result, images)
        shown = slices_of(study)
        count = len(shown) + 1
        size = min((available - 8 * (count - 1)) / count, 200.0)
        pages.reserve(size + 40)
        pages.skip(12)
        for number, of_level in enumerate(shown):
            draw_axial(pages.axes(number * (size + 8), size, size), study.images or images, of_level)
        draw_sagittal(pages.axes(len(shown) * (size + 8), size, size), study.images or images, study)
        pages.skip(size + 4)
        pages.text(
            "Blue: vertebral body; orange: trabecular region. Axial slices with the patient's right at image left; "
            "sagittal slab with anterior at image left.", 8, SOFT,
        )  # fmt: skip


def _footer(figure: Figure, content: Content, number: int, count: int) -> None:
    figure.add_artist(Rectangle((0, 0), 1, (BOTTOM - 14) / HEIGHT, facecolor="white", edgecolor="none"))
    y = BOTTOM - 22
    for line in wrapped(content.notice, WIDTH - 2 * MARGIN, 7):
        figure.text(MARGIN / WIDTH, y / HEIGHT, line, fontsize=7, color=SOFT)
        y -= 9
    figure.text(
        1 - MARGIN / WIDTH, y / HEIGHT, f"{PRODUCT} {software_version()}, page {number} of {count}", fontsize=7,
        color=SOFT, ha="right",
    )  # fmt: skip
