"""Checks of the pixels of a radiograph: size, borders, exposure and contrast."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.utils.text import share_words

MIN_SIDE, SMALL_SIDE = 256, 512
"""Pixels. Below the first a vertebra has fewer than some ten pixels and a cortex less than one; below the second the
trabecular pattern is lost. The project's choice."""

BORDER_SHARE, LARGE_BORDER_SHARE = 0.02, 0.15
"""A flat strip at an edge is removed from the first share of the side on; from the second on with a warning."""

FLAT = 0.012
"""Grey values within this of each other are flat: three steps of eight bits, so that JPEG noise passes."""

MAX_CUT, WARN_CUT = 0.35, 0.20
"""Share of pixels at the very black or very white end. Of 51 real radiographs the highest was 0.23 (bedside exposures);
CT slices shown in a soft-tissue window, masks and screenshots have more."""

MIN_CONTRAST, WARN_CONTRAST = 0.12, 0.25
"""Difference of the 95th and the 5th percentile of the grey values."""

MIN_LEVELS = 32
"""Distinct grey values that a radiograph must have at least; five bits."""

Grey = NDArray[np.float32]


def find_box(pixels: Grey) -> tuple[int, int, int, int]:
    """Return first and last (exclusive) row and column inside flat borders; strips below ``BORDER_SHARE`` are kept."""
    ends = [0, pixels.shape[0], 0, pixels.shape[1]]
    for _ in range(2):  # a border beside another one is flat only after that is removed
        for axis in (0, 1):
            part = pixels[ends[0] : ends[1], ends[2] : ends[3]]
            lines = part if axis == 0 else part.T
            lines = lines[:, :: max(1, lines.shape[1] // 300)]
            middle = np.median(lines, axis=1)
            off = (np.abs(lines - middle[:, None]) > FLAT).mean(axis=1)
            for end, order in ((2 * axis, 1), (2 * axis + 1, -1)):
                flat = (off[::order] < 0.06) & (np.abs(middle[::order] - middle[::order][0]) <= FLAT)
                width = 0 if flat.all() else int(np.argmin(flat))
                if width >= BORDER_SHARE * len(flat):
                    ends[end] += order * width
    return ends[0], ends[1], ends[2], ends[3]


def check_box(shape: tuple[int, int], box: tuple[int, int, int, int]) -> list[Finding]:
    """Check the size of a picture and its removed borders."""
    rows, columns = box[1] - box[0], box[3] - box[2]
    if min(rows, columns) < MIN_SIDE:
        message = f"The picture has {rows} x {columns} pixels without its borders; at least {MIN_SIDE} are required."
        return [refusal("too_small", message)]
    findings = []
    if min(rows, columns) < SMALL_SIDE:
        findings.append(warning("low_resolution", f"The picture has only {rows} x {columns} pixels."))
    lost = 1 - rows * columns / (shape[0] * shape[1])
    if lost > 0:
        finding = warning if lost > LARGE_BORDER_SHARE else info
        findings.append(finding("borders_removed", f"Empty borders, {share_words(lost)} of the picture, were removed."))
    return findings


def check_values(pixels: Grey) -> list[Finding]:
    """Check the histogram of the grey values for wrong exposure, display window or processing."""
    step = max(1, round((pixels.size / 500_000) ** 0.5))
    values = pixels[::step, ::step].ravel()
    low, high = float(values.min()), float(values.max())
    if high - low <= FLAT:
        return [refusal("constant_image", "All pixels have the same value: this is not an image.")]
    levels = np.unique(values).size
    if levels < MIN_LEVELS:
        return [
            refusal("few_grey_levels", f"The picture has only {levels} grey values: it may be a mask or a drawing.")
        ]
    near = FLAT * (high - low)
    dark, bright = float((values <= low + near).mean()), float((values >= high - near).mean())
    contrast = float(np.diff(np.percentile(values, (5, 95)))[0])
    cut = f"{share_words(dark)} of the picture is fully black and {share_words(bright)} fully white"
    findings = []
    if dark + bright > MAX_CUT:
        message = f"{cut}: its grey values are clipped."
        findings.append(refusal("grey_values_cut", message))
    elif dark + bright > WARN_CUT:
        kind = "underexposed or shown too bright" if bright > dark else "overexposed or shown too dark"
        message = f"{cut}: it is {kind}."
        findings.append(warning("grey_values_cut", message))
    if contrast < MIN_CONTRAST:
        findings.append(refusal("no_contrast", f"The grey values span only {share_words(contrast)} of the scale."))
    elif contrast < WARN_CONTRAST:
        findings.append(warning("low_contrast", f"The grey values span only {share_words(contrast)} of the scale."))
    return findings
