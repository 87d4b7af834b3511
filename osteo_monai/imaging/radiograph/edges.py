"""Whether a picture has the edges of a projection: a radiograph is smooth everywhere and even nowhere.

In a photograph, a drawing, a screenshot or a slice, even areas meet at sharp edges, so that few pixels have most of the
second derivative; in noise it has a normal distribution. The measure is the span of 98 % of the pixels by that of the
middle half, of the Laplacian at three scales.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from osteo_monai.domain import Finding
from osteo_monai.imaging.findings import refusal

SIDE = 256
"""The longer side is reduced to this number of pixels."""
SCALES = (1.5, 2.5, 4.0)
"""SD of the Gaussian, in pixels of the reduced picture."""
MOST = (18.0, 15.0, 12.0)
"""Largest measure at each scale. Project custom: at most 10.7, 10.1 and 7.9 in 51 real chest radiographs, 15.7, 12.0
and 8.9 in 32 virtual lumbar ones; drawings have 20 and more at the last."""
LEAST = 3.8
"""Smallest measure at the first scale: 4.3 and more in the real chests, 3.3 to 3.5 in noise."""
CUT = 0.04
"""Pixels within this share of the range from black or white are not counted: direct exposure is even."""
MARGIN = 0.05
"""Share of the side that is left out at each border: shutters and cassettes have edges."""
MIN_PIXELS = 1500

Grey = NDArray[np.float32]


def check_edges(pixels: Grey) -> list[Finding]:
    """Return a refusal if a picture (rows, columns; any grey scale) has not the edges of a projection."""
    measures = edge_measures(pixels)
    if measures is None:
        return []
    if measures[0] < LEAST:
        return [refusal("not_a_projection", "The picture shows noise only: it has no edges, so it is no radiograph.")]
    if any(value > most for value, most in zip(measures, MOST, strict=True)):
        message = "Even areas with sharp edges show a photograph, a drawing or a slice: the picture is no radiograph."
        return [refusal("not_a_projection", message)]
    return []


def edge_measures(pixels: Grey) -> tuple[float, ...] | None:
    """Return the span of 98 % of the Laplacian by that of its middle half at ``SCALES``; ``None`` if not known."""
    factor = SIDE / max(pixels.shape)
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(pixels, np.float32)).resize(size, Image.Resampling.BOX))
    low, high = np.percentile(small, [0.5, 99.5])
    if not high > low:
        return None
    grey = (small - low) / (high - low)
    seen = (grey > CUT) & (grey < 1 - CUT)
    border = max(1, round(MARGIN * SIDE))
    seen[:border] = seen[-border:] = seen[:, :border] = seen[:, -border:] = False
    measures = []
    for scale in SCALES:
        inside = ndimage.binary_erosion(seen, iterations=int(2 * scale))
        values = ndimage.gaussian_laplace(small, scale)[inside]
        if values.size < MIN_PIXELS:
            return None
        ends = np.percentile(values, [1.0, 25.0, 75.0, 99.0])
        measures.append(float((ends[3] - ends[0]) / max(ends[2] - ends[1], 1e-9)))
    return tuple(measures)
