"""Read radiographs exported as PNG or JPEG: 8 or 16 bits, grey, grey stored as colour, palettes, alpha."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from osteo_monai.domain import Finding
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.dicom_headers import unusable_if_damaged
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.limits import input_limits
from osteo_monai.imaging.radiograph.image import VIRTUAL_SOURCE, RadiographFacts, StoredRadiograph
from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.text import share_words

FORMATS = ("PNG", "JPEG")
COLOURED = 0.12
"""Channels that differ by more than this (of full scale) make a pixel coloured; JPEG and sepia scans stay below."""
MAX_COLOURED_SHARE = 0.2
"""The project's choice: labels and arrows are a few per cent of a picture."""

_DEPTHS = (10, 12, 14, 16)
_ROWS_AT_ONCE = 256


def is_picture(path: Path) -> bool:
    """Whether the file starts like a PNG or a JPEG."""
    try:
        with open_input(path) as stream:
            return stream.read(8).startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
    except OSError:
        return False


def read_picture(path: Path) -> StoredRadiograph:
    """Read a PNG or JPEG.

    Raises:
        UnusableInputError: damaged, or above the limit of pixels.
        ScanRefusedError: a colour picture, or black and white without grey.
    """
    with (
        unusable_if_damaged("The picture is damaged or cannot be decoded"),
        open_input(path) as stream,
        Image.open(stream, formats=FORMATS) as image,
    ):
        _check_size(image)
        kind = "PNG" if image.format == "PNG" else "JPEG"
        virtual = image.info.get("Source") == VIRTUAL_SOURCE
        grey, bits, findings = _grey(image)
    if kind == "JPEG":
        findings.append(info("lossy_compression", "The picture was compressed with loss (JPEG)."))
    return StoredRadiograph(grey, None, RadiographFacts(kind, bits, virtual), findings=findings)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a PNG mask as bool (rows, columns), True where it is not 0.

    Raises:
        UnusableInputError: damaged, or not a picture of one channel.
    """
    with (
        unusable_if_damaged("The mask is damaged or cannot be decoded"),
        open_input(path) as stream,
        Image.open(stream, formats=("PNG",)) as image,
    ):
        _check_size(image)
        values = np.asarray(image)
    if values.ndim != 2:
        raise UnusableInputError("The mask must be a PNG of one channel.")
    return values > 0


def _check_size(image: Image.Image) -> None:
    """Check the size that the picture states, before it is decoded."""
    most = input_limits().pixels
    if image.width * image.height > most:
        raise UnusableInputError(
            f"The picture must have at most {most} pixels (OSTEO_MAX_PIXELS), got {image.width} x {image.height}."
        )


def _grey(image: Image.Image) -> tuple[NDArray[np.float32], int, list[Finding]]:
    findings: list[Finding] = []
    if image.mode == "1":
        raise ScanRefusedError(refusal("no_grey_values", "The picture is black and white only, without grey values."))
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):
        values = np.asarray(turned)
        top = int(values.max(initial=0))
        if values.min(initial=0) < 0 or top >= 1 << 16:
            raise UnusableInputError("The picture's values do not fit into 16 bits.")
        bits = next(b for b in _DEPTHS if top < 1 << b)
        if bits < 16:
            findings.append(
                info("depth_assumed", f"The 16-bit picture was read as {bits} bits: its highest value is {top}.")
            )
        return np.asarray(values / ((1 << bits) - 1), np.float32), bits, findings
    if turned.mode == "L":
        return np.asarray(np.asarray(turned) / 255, np.float32), 8, findings
    grey, alpha, coloured = _from_colours(np.asarray(turned.convert("RGBA")))
    if coloured > MAX_COLOURED_SHARE:
        message = f"{share_words(coloured)} of the picture is coloured, so it is not a radiograph."
        raise ScanRefusedError(refusal("coloured", message))
    if coloured > 0.0005:
        message = f"{share_words(coloured, 1)} of the picture is coloured: it has annotations."
        findings.append(warning("annotations", message))
    if np.ptp(alpha) > 0:
        grey = grey * alpha  # transparent areas are shown on black
    return np.asarray(grey, np.float32), 8, findings


def _from_colours(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return grey values and opacity of RGBA pixels, 0 to 1, and the share of coloured pixels.

    Some rows at a time: the colours as float32 take 16 bytes per pixel.
    """
    grey, alpha = (np.empty(pixels.shape[:2], np.float32) for _ in range(2))
    coloured = 0
    for first in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        part = pixels[rows].astype(np.float32) / 255
        coloured += int((np.ptp(part[..., :3], axis=2) > COLOURED).sum())
        grey[rows], alpha[rows] = part[..., :3].mean(axis=2, dtype=np.float32), part[..., 3]
    return grey, alpha, coloured / grey.size
