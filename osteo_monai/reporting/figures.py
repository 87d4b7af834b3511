"""The report's pictures as SVG: greyscale CT planes as embedded PNG, everything drawn over them as vectors.

Radiological display throughout: the patient's right is at the left of axial and coronal pictures, anterior is at the
left of sagittal ones, superior and anterior are up. With RAS+ arrays this is one rule: every axis is shown reversed.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, DensityThresholds, Sex, VertebraLevel
from osteo_monai.norms import DENSITY_NORMS, NORM_NAME, NORM_STANDARD
from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    PIXELS_PER_UNIT,
    Picture,
    embedded_picture,
    heat_colours,
    heated,
    label,
    line,
    rect,
    svg,
    text,
)
from osteo_monai.reporting.wording import HIGHEST_NAMED, bodies_above_words, density_words, percent_words
from osteo_monai.screening.images import ClassActivation, ReportImages
from osteo_monai.screening.result import Density, LocatedLevel

_HALF_WIDTH = 352
_BODY, _REGION = "#4fd8ff", "#ffb628"
_AXIAL_WINDOW = (400.0, 40.0)  # mediastinal window, width and level in HU
_COLUMN_WINDOW = (700.0, 150.0)  # wider: a slab mean of bone beside disc and canal
_SLAB_MM = 9.0  # well inside a body (40-50 mm wide, 30-35 mm deep), thick enough to quiet the noise
_MARGIN_MM = 32.0  # one vertebra shown beyond the outermost centres
_SURE = 0.95  # below this certainty the picture names the runner-up as well
_REGRESSION = "#b3431e"
_SEX_COLOUR = {Sex.FEMALE: "#6b3fa0", Sex.MALE: "#1f5fa8"}

_Axis = Callable[[float], float]


@dataclass(frozen=True)
class _Panel:
    """A rectangle of the drawing that looks at a plane: (u, v) in mm from the plane's upper left corner."""

    left: float
    top: float
    width: float
    height: float
    u0: float
    v0: float
    scale: float

    @classmethod
    def around(cls, left: float, top: float, width: float, height: float, u: float, v: float, scale: float) -> "_Panel":
        """Return the panel whose middle shows (u, v)."""
        return cls(left, top, width, height, u - width / scale / 2, v - height / scale / 2, scale)

    def x(self, u: float) -> float:
        return self.left + (u - self.u0) * self.scale

    def y(self, v: float) -> float:
        return self.top + (v - self.v0) * self.scale


def axial_picture(images: ReportImages, level: VertebraLevel, slice_index: int, number: str = "") -> Picture:
    """Draw the axial slice ``slice_index`` around the body of ``level`` with the contours of body and region.

    Args:
        number: how the slice is called in the source, e.g. ``instance 54``; shown in the corner.

    Raises:
        ValueError: if the slice is outside the volume or the level has neither a body nor a centre.
    """
    nx, ny, nz = images.hu.shape
    if not 0 <= slice_index < nz:
        raise ValueError(f"slice_index must be within 0-{nz - 1}, got {slice_index}")
    sx, sy, _ = images.spacing
    body, region = _outlines_of(images, level, slice_index)
    if body is not None and body.any():
        centre = np.argwhere(body).mean(axis=0)
    elif (found := _centre(images, level)) is not None:
        centre = found[:2]
    else:
        raise ValueError(f"{level} has neither a body in the label map nor a centre among the levels")
    width, height, scale = _HALF_WIDTH, 276, _HALF_WIDTH / 125  # 125 x 98 mm: body, posterior elements, psoas, aorta
    # 14 mm behind the centre of the body lies the middle of body and posterior elements together
    panel = _Panel.around(0, 0, width, height, _along(nx, sx, centre[0]), _along(ny, sy, centre[1]) + 14, scale)
    parts = [_image(images.hu[::-1, ::-1, slice_index].T, sx, sy, panel, _AXIAL_WINDOW)]
    shown = []
    for mask, colour, dash, name in (
        (body, _BODY, "", "vertebral body"),
        (region, _REGION, "5 3", "trabecular region"),
    ):
        if mask is not None and mask.any():
            parts.append(_outline(mask[::-1, ::-1].T, sx, sy, panel, colour, dash))
            shown.append(name)
    parts += _directions(panel, "R", "L", "A", "P")
    parts += _scale_bar(panel, 20)
    parts.append(label(8, 19, f"{level}", size=15, weight="bold"))
    parts.append(label(8, 34, f"slice {slice_index}" + (f", {number}" if number else ""), size=11))
    parts.append(label(8, height - 9, _window_words(_AXIAL_WINDOW), size=11))
    contours = f" Outlined: {' and '.join(shown)}." if shown else " Nothing is outlined."
    return Picture(
        svg(width, height, parts),
        f"Axial CT slice {slice_index} through {level}, patient right at image left, anterior up.{contours}",
        f"{level}, axial slice through the centre.",
    )


def column_picture(
    images: ReportImages, measured: Sequence[VertebraLevel], slices: Sequence[int] = (), above: int = 0
) -> Picture:
    """Draw a sagittal and a coronal view that follow the column, with the name and certainty of every level found.

    Each row of a view is the mean of a slab about the curve through the centres, so that bent columns stay in
    view; along the height nothing is straightened. Without levels both views are straight, through the middle.

    Args:
        measured: levels to be set off from the others.
        slices: axial slices (indices) to be drawn as reference lines.
        above: number of bodies above the levels that are named; told once, at the top.
    """
    nx, ny, nz = images.hu.shape
    sx, sy, sz = images.spacing
    levels = sorted(images.levels, key=lambda found: -float(images.index(found.centre_mm)[2]))
    centres = np.array([images.index(found.centre_mm) for found in levels]).reshape(-1, 3)
    curve_x, curve_y = _curve(centres, nz, (nx - 1) / 2, (ny - 1) / 2)

    gutter = 112.0
    v_low, v_high = _height_shown([_along(nz, sz, c[2]) for c in centres], nz * sz)
    span = v_high - v_low
    scale = min(470 / span, 3.2)
    across = min((FULL_WIDTH - gutter) / 2 / scale, 170.0)
    height, width = span * scale, across * scale
    left = (FULL_WIDTH - gutter - 2 * width) / 2
    middle_y = float(centres[:, 1].mean()) if len(centres) else (ny - 1) / 2
    middle_x = float(centres[:, 0].mean()) if len(centres) else (nx - 1) / 2
    views = []
    for axis, step, count, middle, start in ((1, sy, ny, middle_y, left), (0, sx, nx, middle_x, left + width + gutter)):
        shift = 12.0 if axis == 1 else 0.0  # sagittal: leave room for the spinous processes
        u = _clamped(_along(count, step, middle) + shift, across / 2, count * step - across / 2)
        panel = _Panel(start, 0, width, height, u - across / 2, v_low, scale)
        curve = curve_x if axis == 1 else curve_y
        views.append((axis, step, count, panel, curve))

    outlined = images.bodies is not None and bool(images.bodies.any())
    parts: list[str] = []
    for axis, step, count, panel, curve in views:
        plane = _slab_mean(images.hu, 1 - axis, curve, _SLAB_MM / (sx if axis == 1 else sy))
        parts.append(_image(plane[::-1, ::-1].T, step, sz, panel, _COLUMN_WINDOW))
        for k in slices:
            y = panel.y(_along(nz, sz, k))
            parts.append(line(panel.left, y, panel.left + panel.width, y, _REGION, 0.8, "2 4"))
        if images.bodies is not None:
            cut = _slab_middle(images.bodies, 1 - axis, curve)
            for number in np.unique(cut[cut > 0]):
                parts.append(_outline((cut == number)[::-1, ::-1].T, step, sz, panel, _BODY, ""))
        for found, centre in zip(levels, centres, strict=True):
            x, y = panel.x(_along(count, step, centre[axis])), panel.y(_along(nz, sz, centre[2]))
            if not panel.left < x < panel.left + panel.width:
                continue
            colour = _REGION if found.level in measured else "#ffffff"
            parts.append(line(x - 4, y, x + 4, y, colour, 1.4) + line(x, y - 4, x, y + 4, colour, 1.4))
        parts += _directions(panel, *("A", "P", "S", "I") if axis == 1 else ("R", "L", "S", "I"))
        parts += _scale_bar(panel, 50)
        parts.append(label(panel.left + 8, height - 9, "sagittal" if axis == 1 else "coronal", size=11))
    parts += _level_names(levels, centres, views[0][3], left + width, gutter, nz, sz, measured, above)
    names = ", ".join(f"{found.level} {percent_words(found.certainty)}" for found in levels)
    found_words = [f"Levels found with their certainty: {names}."] if names else []
    found_words += [bodies_above_words(above, bool(levels))] if above else []
    told = " ".join(found_words) or "No vertebral level was found."
    where = "along the curve through the centres of the bodies" if len(levels) > 1 else "through the column"
    if not levels:
        where = "through the middle of the volume"
    return Picture(
        svg(FULL_WIDTH, height, parts),
        f"Sagittal (anterior at image left) and coronal (patient right at image left) CT views {where}. {told}",
        f"Sagittal and coronal views {where}, each row the mean of a {_SLAB_MM:.0f} mm slab; "
        f"{_window_words(_COLUMN_WINDOW)} HU."
        + (" Crosses: centres found; percentages: certainty of the name." if levels else "")
        + (" Outlined: the levels to measure and, to compare with, those beside them." if outlined else "")
        + (" Dotted lines: the axial slices shown above." if slices else ""),
    )


def density_picture(
    density: Density,
    thresholds: DensityThresholds,
    age_years: float | None,
    sex: Sex | None,
    regression: Density | None = None,
) -> Picture:
    """Draw the measured density with its interval over the class bands and the norms of age and sex.

    The density by regression is drawn beside it, as a diamond, if it is in the same standard.

    Norms are drawn as the table gives them, one block (mean, one and two SD) per decade. With unknown age the density
    is a line across all ages; with unknown age or sex the norms of both sexes are drawn. A density in another standard
    than the thresholds or the norms is drawn without them.
    """
    width, height = FULL_WIDTH, 240.0
    left, right, top, bottom = 56.0, width - 92.0, 12.0, height - 44.0
    age_low, age_high = 18.0, 90.0
    if age_years is not None and not age_low <= age_years < age_high:
        age_low, age_high = min(age_low, age_years - 4), max(age_high, age_years + 4)
    if regression is not None and regression.standard is not density.standard:
        regression = None
    peak = max(240.0, *(1.05 * max(d.interval_high, d.mg_cm3) for d in (density, regression) if d is not None))
    peak = float(np.ceil(peak / 40) * 40)

    def x(age: float) -> float:
        return left + (age - age_low) / (age_high - age_low) * (right - left)

    def y(value: float) -> float:
        return bottom - _clamped(value, 0.0, peak) / peak * (bottom - top)

    parts = [f'<rect width="{width}" height="{height:.0f}" fill="#ffffff"/>']
    if density.standard is thresholds.standard:
        low, high = thresholds.osteoporosis_below, thresholds.normal_above
        bands = (
            (0.0, low, "#f3e3dd", BoneStatus.OSTEOPOROSIS),
            (low, high, "#faf2dc", BoneStatus.OSTEOPENIA),
            (high, peak, "#e8f1ea", BoneStatus.NORMAL),
        )
        for start, end, fill, status in bands:
            parts.append(rect(left, y(end), right - left, y(start) - y(end), fill))
            parts.append(text(right + 8, (y(start) + y(end)) / 2 + 4, status.value, 12, "#333333"))
        for cut in (low, high):
            parts.append(line(left, y(cut), right, y(cut), "#7a6f5a", 1, "6 3"))
            parts.append(text(right + 8, y(cut) + 4, f"{cut:g}", 11, "#555555"))
    for mark in range(0, int(peak) + 1, 40):
        parts.append(line(left - 4, y(mark), left, y(mark), "#555555", 1))
        parts.append(text(left - 8, y(mark) + 4, f"{mark}", 11, "#333333", "end"))
    for age in range(20, int(age_high) + 1, 10):
        parts.append(line(x(age), bottom, x(age), bottom + 4, "#555555", 1))
        parts.append(text(x(age), bottom + 18, f"{age}", 11, "#333333", "middle"))
    parts.append(text((left + right) / 2, height - 8, "age (years)", 12, "#333333", "middle"))
    parts.append(
        f'<text transform="translate(14 {(top + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle" font-size="12" '
        f'fill="#333333">{escape(f"density (mg/cm³ {density.standard})")}</text>'
    )

    comparable = density.standard is NORM_STANDARD
    both = sex is None or age_years is None
    shown: list[Sex] = list(Sex) if both else [sex] if sex else []
    if comparable:
        for one in shown:
            parts += _norm_blocks(one, both, x, y, age_years)
        parts += _norm_legend(shown, both, right)
    parts.append(rect(left, top, right - left, bottom - top, "none", "#555555"))
    value = density_words(density.mg_cm3, thresholds)
    if regression is None:
        parts += _measured_mark(density, f"measured {value}", age_years, x, y, left, right)
    else:
        other = density_words(regression.mg_cm3, thresholds)
        parts += _two_marks(
            (density, regression), (f"HU line {value}", f"regression {other}"), age_years, x, y, left, right
        )

    who = {Sex.FEMALE: "women", Sex.MALE: "men"}
    against = f"the norms of {' and '.join(who[s] for s in shown)} by decade of age ({NORM_NAME})"
    value_words = (
        f"{value} mg/cm³ {density.standard}, 90 % interval {density.interval_low:.1f} to {density.interval_high:.1f}"
    )
    if regression is not None:
        value_words += (
            f"; by regression {density_words(regression.mg_cm3, thresholds)}, "
            f"{regression.interval_low:.1f} to {regression.interval_high:.1f}"
        )
    at = f"at age {int(age_years)}" if age_years is not None else "at unknown age (drawn across all ages)"
    return Picture(
        svg(width, height, parts),
        f"Plot of the measured density, {value_words}, {at}" + (f", against {against}." if comparable else "."),
        f"Norms by decade, {NORM_NAME}: mean (line), one SD (dark), two SD (light)."
        + (" Both sexes are shown, because age or sex is unknown." if both else "")
        + (" Point: HU line; diamond: density regression; bars: 90 % intervals." if regression is not None else "")
        if comparable
        else f"The norms are in mg/cm³ {NORM_STANDARD} and this density is not: no comparison is drawn.",
    )


def activation_picture(activation: ClassActivation) -> Picture:
    """Draw each slice as the classifier saw it, and again under the map of where it looked.

    The map is drawn on the bodies alone, by its largest value there: beside them the network was shown nothing, and
    what a map of a few pixels says there is its coarseness. The caption tells how much of the map lies on the bodies.
    """
    shown = activation.slices > 0
    within = activation.heat * shown.any(axis=0)
    share = float(within.sum() / activation.heat.sum()) if within.any() else 0.0
    heat = within / within.max() if within.any() else within
    count = len(activation.levels)
    gap, bar = 8.0, 56.0
    side = min((FULL_WIDTH - bar - gap * (2 * count)) / (2 * count), 158.0)
    height = side + 20
    parts = [rect(0, 0, FULL_WIDTH, height, "#ffffff")]
    start = (FULL_WIDTH - bar - 2 * count * (side + gap)) / 2
    for place, (level, plane) in enumerate(zip(activation.levels, activation.slices, strict=True)):
        grey = np.repeat(np.clip(plane, 0, 1)[..., None], 3, axis=2)
        for column, (rgb, words) in enumerate(
            (
                (grey, f"{level}, as the network saw it"),
                (heated(grey, heat * shown[place]), f"{level}, where it looked"),
            )
        ):
            at = start + (2 * place + column) * (side + gap)
            parts.append(embedded_picture(rgb[::-1, ::-1].transpose(1, 0, 2), at, 0, side))
            parts.append(text(at + side / 2, side + 14, words, 11, "#333333", "middle"))
    x, y = start + 2 * count * (side + gap) + 4, 22.0
    steps = heat_colours(np.linspace(1, 0, 40, dtype=np.float32))
    tall = (side - 44) / len(steps)
    for k, (r, g, b) in enumerate(steps.astype(int)):
        parts.append(rect(x, y + k * tall, 12, tall + 0.3, f"#{r:02x}{g:02x}{b:02x}"))
    parts += [text(x, y - 7, "most", 11, "#333333"), text(x, side - 8, "none", 11, "#333333")]
    names = " and ".join(activation.levels)
    return Picture(
        svg(FULL_WIDTH, height, parts),
        f"Slices of {names} as the classifier saw them, each also under its Grad-CAM map for {activation.status}, "
        "patient right at image left, anterior up.",
        f"Where the classifier looked when it said {activation.status} (Grad-CAM, last residual stage): not where the "
        "bone is diseased. "
        + ("The map is coarse and one for all slices. " if count > 1 else "The map is coarse. ")
        + (
            f"{percent_words(share)} of it lies on the bodies; the rest, where the network was shown nothing, "
            "is not drawn."
            if share
            else "Nothing in the bodies spoke for this class."
        ),
    )


def axial_slice(images: ReportImages, level: VertebraLevel) -> int | None:
    """Return the index of the axial slice through the centre of ``level``, or ``None`` if it is not in the volume."""
    centre = _centre(images, level)
    if centre is None:
        return None
    k = round(float(centre[2]))
    return k if 0 <= k < images.hu.shape[2] else None


def _along(count: int, step: float, index: float) -> float:
    """Distance in mm of a voxel's centre from the shown edge of a reversed axis."""
    return (count - 1 - float(index) + 0.5) * step


def _centre(images: ReportImages, level: VertebraLevel) -> NDArray[np.float64] | None:
    for found in images.levels:
        if found.level is level:
            return images.index(found.centre_mm)
    if images.bodies is None:
        return None
    where = np.argwhere(images.bodies == level.label)
    return where.mean(axis=0) if len(where) else None


def _outlines_of(
    images: ReportImages, level: VertebraLevel, k: int
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Body of this level and the region within it on axial slice ``k``, each of shape (X, Y)."""
    body = None if images.bodies is None else images.bodies[:, :, k] == level.label
    if images.regions is None:
        return body, None
    drawn = images.regions[:, :, k]
    if drawn.dtype != np.bool_:
        return body, drawn == level.label
    region = drawn.astype(np.bool_)
    # a region without names belongs to the body it lies in
    return body, region if body is None else region & body


def _curve(
    centres: NDArray[np.float64], nz: int, middle_x: float, middle_y: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the column at every slice: linear between the centres, constant beyond the outermost."""
    z = np.arange(nz, dtype=np.float64)
    if not len(centres):
        return np.full(nz, middle_x), np.full(nz, middle_y)
    order = np.argsort(centres[:, 2])
    return (
        np.interp(z, centres[order, 2], centres[order, 0]),
        np.interp(z, centres[order, 2], centres[order, 1]),
    )


def _slab_mean(hu: NDArray[np.float32], axis: int, curve: NDArray[np.float64], voxels: float) -> NDArray[np.float32]:
    """Mean over ``voxels`` voxels of ``axis`` (0 or 1) about ``curve``, per slice: shape (other axis, Z)."""
    count, nz = hu.shape[axis], hu.shape[2]
    half = max(voxels, 1.0) / 2
    plane = np.empty((hu.shape[1 - axis], nz), dtype=np.float32)
    for k in range(nz):
        low = int(_clamped(round(curve[k] + 0.5 - half), 0, count - 1))
        high = int(_clamped(round(curve[k] + 0.5 + half), low + 1, count))
        block = hu[low:high, :, k] if axis == 0 else hu[:, low:high, k]
        plane[:, k] = block.mean(axis=axis, dtype=np.float32)
    return plane


def _slab_middle(labels: NDArray[np.integer], axis: int, curve: NDArray[np.float64]) -> NDArray[np.integer]:
    """Labels on the curve itself: shape (other axis, Z)."""
    nz = labels.shape[2]
    at = np.clip(np.rint(curve).astype(int), 0, labels.shape[axis] - 1)
    slices = np.arange(nz)
    return labels[at, :, slices].T if axis == 0 else labels[:, at, slices]


def _height_shown(centres_v: Sequence[float], extent: float) -> tuple[float, float]:
    """Upper and lower end in mm of what the column views show: all levels and a margin, at least 160 mm."""
    if not centres_v:
        return (0.0, extent) if extent <= 450 else (extent / 2 - 225, extent / 2 + 225)
    low, high = min(centres_v) - _MARGIN_MM, max(centres_v) + _MARGIN_MM
    if high - low < 160:
        middle = (low + high) / 2
        low, high = middle - 80, middle + 80
    low, high = max(low, 0.0), min(high, extent)
    return (low, high) if high > low else (0.0, extent)  # centres outside the volume: show it whole


def _clamped(value: float, low: float, high: float) -> float:
    """``value`` within low-high; their middle if there is no room between them."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def _image(plane: NDArray[np.float32], u_step: float, v_step: float, panel: _Panel, window: tuple[float, float]) -> str:
    """Background and the part of ``plane`` (rows, columns; HU) that the panel sees, windowed, as SVG."""
    from PIL import Image

    rows, columns = plane.shape
    background = rect(panel.left, panel.top, panel.width, panel.height, "#000000")
    u1, v1 = max(panel.u0, 0.0), max(panel.v0, 0.0)
    u2 = min(panel.u0 + panel.width / panel.scale, columns * u_step)
    v2 = min(panel.v0 + panel.height / panel.scale, rows * v_step)
    if u2 <= u1 or v2 <= v1:
        return background
    width, height = (u2 - u1) * panel.scale, (v2 - v1) * panel.scale
    box = (u1 / u_step, v1 / v_step, min(u2 / u_step, columns), min(v2 / v_step, rows))
    size = (max(1, round(width * PIXELS_PER_UNIT)), max(1, round(height * PIXELS_PER_UNIT)))
    ww, wl = window
    # clipped beforehand, so that metal or padding does not ring through the interpolation
    wide = np.clip(np.nan_to_num(plane, nan=-1024.0), wl - 2 * ww, wl + 2 * ww).astype(np.float32)
    picture = np.asarray(Image.fromarray(wide).resize(size, Image.Resampling.BICUBIC, box=box))
    grey = np.clip((picture - (wl - ww / 2)) / ww * 255, 0, 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="PNG", compress_level=6)
    data = base64.b64encode(stream.getvalue()).decode()
    return background + (
        f'<image x="{panel.x(u1):.2f}" y="{panel.y(v1):.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )


def _outline(mask: NDArray[np.bool_], u_step: float, v_step: float, panel: _Panel, colour: str, dash: str) -> str:
    """Contour of ``mask`` (rows, columns) half-way between voxel centres, with a dark halo that bone cannot hide."""
    import contourpy

    padded = np.pad(mask.astype(np.float32), 1)
    path = []
    for curve in contourpy.contour_generator(z=padded).lines(0.5):
        points = np.asarray(curve)
        xy = [(panel.x((c - 0.5) * u_step), panel.y((r - 0.5) * v_step)) for c, r in points]
        path.append("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in xy) + "Z")
    if not path:
        return ""
    d = "".join(path)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="{d}" fill="none" stroke="#000000" stroke-opacity="0.55" stroke-width="3.2"/>'
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    )


def _directions(panel: _Panel, left: str, right: str, up: str, down: str) -> list[str]:
    middle_x, middle_y = panel.left + panel.width / 2, panel.top + panel.height / 2 + 5
    return [
        label(panel.left + 8, middle_y, left, size=13, weight="bold"),
        label(panel.left + panel.width - 8, middle_y, right, size=13, weight="bold", anchor="end"),
        label(middle_x, panel.top + 17, up, size=13, weight="bold", anchor="middle"),
        label(middle_x, panel.top + panel.height - 8, down, size=13, weight="bold", anchor="middle"),
    ]


def _scale_bar(panel: _Panel, mm: int) -> list[str]:
    x2, y = panel.left + panel.width - 10, panel.top + panel.height - 12
    x1 = x2 - mm * panel.scale
    ticks = "".join(line(x, y - 4, x, y + 4, "#ffffff", 1.4) for x in (x1, x2))
    return [line(x1, y, x2, y, "#ffffff", 1.4) + ticks, label((x1 + x2) / 2, y - 7, f"{mm} mm", 11, anchor="middle")]


def _level_names(
    levels: Sequence[LocatedLevel],
    centres: NDArray[np.float64],
    panel: _Panel,
    left: float,
    gutter: float,
    nz: int,
    sz: float,
    measured: Sequence[VertebraLevel],
    above: int,
) -> list[str]:
    """The names between the two views, each at the height of its centre and never over its neighbour."""
    parts = [rect(left, 0, gutter, panel.height, "#101418")]
    if not levels:
        words = "no level named" if above else "no level found"
        return [*parts, label(left + gutter / 2, panel.height / 2, words, 11, anchor="middle")]
    last = 2.0
    if above:
        last = 16.0
        parts.append(text(left + 14, last, f"above {HIGHEST_NAMED}: {above}", 11, "#d5dbe1"))
    for found, centre in zip(levels, centres, strict=True):
        y = panel.y(_along(nz, sz, centre[2]))
        place = max(y + 5, last + 15)
        last = place
        is_measured = found.level in measured
        colour = _REGION if is_measured else "#ffffff"
        weight = "bold" if is_measured else "normal"
        parts += [line(left, y, left + 7, y, colour, 1.2), line(left + gutter - 7, y, left + gutter, y, colour, 1.2)]
        parts.append(text(left + 14, place, str(found.level), 14, colour, weight=weight))
        parts.append(text(left + gutter - 14, place, percent_words(found.certainty), 11, "#d5dbe1", "end"))
        if found.certainty < _SURE and found.runner_up is not None:
            last = place + 12
            parts.append(text(left + gutter - 14, last, f"or {found.runner_up}", 11, "#d5dbe1", "end"))
    return parts


def _norm_blocks(sex: Sex, both: bool, x: _Axis, y: _Axis, age_years: float | None) -> list[str]:
    parts = []
    for norm in DENSITY_NORMS:
        if norm.sex is not sex:
            continue
        x1, x2 = x(norm.age_low), x(norm.age_high)
        if both:  # side by side within the decade, so that neither hides the other
            x1, x2 = (x1, (x1 + x2) / 2) if sex is Sex.FEMALE else ((x1 + x2) / 2, x2)
        colour = _SEX_COLOUR[sex]
        here = age_years is not None and norm.age_low <= age_years < norm.age_high
        for sds, opacity in ((2, 0.14), (1, 0.24 if not here else 0.34)):
            high, low = y(norm.mean + sds * norm.sd), y(norm.mean - sds * norm.sd)
            parts.append(rect(x1 + 1, high, x2 - x1 - 2, low - high, colour, opacity=opacity))
        dash = "" if sex is Sex.FEMALE else "7 3"
        parts.append(line(x1 + 1, y(norm.mean), x2 - 1, y(norm.mean), colour, 2.2, dash))
    return parts


def _norm_legend(shown: Sequence[Sex], both: bool, right: float) -> list[str]:
    parts = []
    for row, sex in enumerate(shown):
        y = 28.0 + 17 * row
        word = "women" if sex is Sex.FEMALE else "men"
        side = (" (left of each decade)" if sex is Sex.FEMALE else " (right of each decade)") if both else ""
        words = f"{word}, mean by decade{side}"
        start = right - 12 - 6.4 * len(words) - 34
        parts.append(rect(start - 6, y - 13, right - start - 2, 17, "#ffffff", opacity=0.85))
        parts.append(line(start, y - 4, start + 26, y - 4, _SEX_COLOUR[sex], 2.2, "" if sex is Sex.FEMALE else "7 3"))
        parts.append(text(start + 32, y, words, 11, "#222222"))
    return parts


def _measured_mark(
    density: Density, words: str, age: float | None, x: _Axis, y: _Axis, left: float, right: float
) -> list[str]:
    ink = "#111111"
    low, middle, high = y(density.interval_low), y(density.mg_cm3), y(density.interval_high)
    if age is None:
        return [
            rect(left, high, right - left, low - high, ink, opacity=0.10),
            line(left, middle, right, middle, ink, 2),
            text(left + 8, middle - 6, f"{words} (age unknown)", 12, ink, weight="bold", halo="#ffffff"),
        ]
    at = x(age)
    far = at > (left + right) / 2
    return [
        line(at, high, at, low, ink, 2),
        line(at - 6, high, at + 6, high, ink, 2) + line(at - 6, low, at + 6, low, ink, 2),
        f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="5" fill="{ink}" stroke="#ffffff" stroke-width="1.5"/>',
        text(at - 12 if far else at + 12, middle + 4, words, 12, ink, "end" if far else "start", "bold", "#ffffff"),
    ]


def _two_marks(
    densities: tuple[Density, Density],
    words: tuple[str, str],
    age: float | None,
    x: _Axis,
    y: _Axis,
    left: float,
    right: float,
) -> list[str]:
    """The measured density as a point and the one by regression as a diamond, side by side, words never overlapping.

    With unknown age both are lines across all ages, their intervals at the right end.
    """
    middles = [y(d.mg_cm3) for d in densities]
    heights = list(middles)
    if abs(middles[0] - middles[1]) < 15:
        above = 0 if middles[0] < middles[1] or densities[0].mg_cm3 > densities[1].mg_cm3 else 1
        centre = sum(middles) / 2
        heights[above], heights[1 - above] = centre - 7.5, centre + 7.5
    if age is None:
        above = 0 if heights[0] < heights[1] else 1
        heights[above], heights[1 - above] = heights[above] - 8, heights[1 - above] + 8  # off the lines
        parts = _measured_mark(densities[0], "", None, x, y, left, right)[:2]  # its words are placed below
        parts.append(line(left, middles[1], right, middles[1], _REGRESSION, 2, "8 4"))
    else:
        parts = []
    at = right - 16 if age is None else x(age)
    far = at > (left + right) / 2
    for place, (density, middle, said, height) in enumerate(zip(densities, middles, words, heights, strict=True)):
        colour = _REGRESSION if place else "#111111"
        low, high, u = y(density.interval_low), y(density.interval_high), at + (7 if place else -7)
        parts.append(line(u, high, u, low, colour, 2))
        parts.append(line(u - 5, high, u + 5, high, colour, 2) + line(u - 5, low, u + 5, low, colour, 2))
        parts.append(
            f'<path d="M{u:.1f} {middle - 7:.1f}l6 7l-6 7l-6 -7Z" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>'
            if place
            else f'<circle cx="{u:.1f}" cy="{middle:.1f}" r="5" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>'
        )
        beside = left + 8 if age is None else at - 20 if far else at + 20
        anchor = "end" if far and age is not None else "start"
        tail = " (age unknown)" if age is None else ""
        parts.append(text(beside, height + 4, said + tail, 12, colour, anchor, "bold", "#ffffff"))
    return parts


def _window_words(window: tuple[float, float]) -> str:
    return f"W {window[0]:.0f} L {window[1]:.0f}"
