"""Pixel data of the frames of a series."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.decoding import PixelDecoder, PixelFile
from osteo_monai.imaging.dicom_headers import Frame


def decode_frames(frames: Sequence[Frame], decoder: PixelDecoder) -> Iterator[tuple[int, NDArray[np.integer]]]:
    """Yield index in ``frames`` and stored values (rows, columns), holding one image in memory at a time."""
    by_file: dict[Path, dict[int, int]] = {}
    for position, frame in enumerate(frames):
        by_file.setdefault(frame.instance.path, {})[frame.index] = position
    instances = {frame.instance.path: frame.instance for frame in frames}
    planes = decoder.decode([PixelFile.of(instances[path]) for path in by_file])
    for path, positions in by_file.items():
        for index in range(instances[path].frames):
            plane = next(planes)
            if index in positions:
                yield positions[index], plane


def rescaled(stored: NDArray[np.integer], frame: Frame) -> NDArray[np.float32]:
    """Return stored values (rows, columns) in HU by the rescale of their frame."""
    slope, intercept = rescale_of(frame)
    return np.asarray(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept))


def rescale_of(frame: Frame) -> tuple[float, float]:
    """Return rescale slope and intercept of a frame."""
    return frame.number("RescaleSlope") or 1.0, frame.number("RescaleIntercept") or 0.0
