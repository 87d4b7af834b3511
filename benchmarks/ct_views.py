#!/usr/bin/env python3
"""Draw real and virtual CT in three views for a visual comparison.

    python benchmarks/ct_views.py PICTURE.png SCAN [SCAN ...] [--slices MM]

A SCAN is what ``osteo_monai.imaging.read_ct`` reads (a DICOM folder, a NIfTI file), or ``virtual:SEED`` (that person,
T9 to the sacrum). Each row holds a sagittal mean of 6 mm and a coronal mean of 8 mm through the bodies, and a maximum
projection from 10 mm in front of the axis to 75 mm behind it, which shows ribs and transverse processes.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import ContrastPhase, VertebraLevel
from osteo_monai.imaging import read_ct
from osteo_monai.utils.files import writing
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, acquire
from osteo_monai.virtual.person import draw_person

HALF_WIDTH_MM, FRONT_MM, BACK_MM = 110.0, 90.0, 95.0
BONE_HU, METAL_HU = 130.0, 1800.0


@dataclass(frozen=True)
class Scan:
    """HU (X, Y, Z) in RAS+, voxel size in mm, and z in mm of the lowest slice."""

    name: str
    hu: NDArray[np.float32]
    spacing: tuple[float, float, float]
    z0: float
    column: NDArray[np.float64] | None = None
    """x, y, z in mm from the lowest voxel of the bodies' centres, from below up, where they are known."""


def load(argument: str, slices_mm: float) -> Scan:
    """Read a scan, or make one of a virtual person with slices of ``slices_mm``."""
    if not argument.startswith("virtual:"):
        volume = read_ct(Path(argument), declared_ct=True)
        return Scan(Path(argument).name, volume.hu, volume.spacing, float(volume.affine[2, 3]))
    seed = int(argument.removeprefix("virtual:"))
    anatomy = Anatomy(draw_person(seed))
    phase = list(ContrastPhase)[seed % 3]
    protocol = CTProtocol(slice_thickness=slices_mm, slice_step=slices_mm, pixel=1.0, matrix=(300, 300), phase=phase)
    top = float(anatomy.vertebra(VertebraLevel.T9).centre[2])
    column_y = float(np.mean([v.centre[1] for v in anatomy.vertebrae[:8]]))
    offset = column_y + 20.0 - float(anatomy.trunk_centre[1])
    scan = acquire(anatomy, protocol, z_range=(-40.0, top), centre_xy=(0.0, offset), seed=seed)
    person = anatomy.person
    name = f"{argument} {person.sex} {person.age_years:.0f} y {person.mean_density:.0f} mg/cm3 {phase} "
    column = np.array([v.centre for v in anatomy.vertebrae]) - scan.affine[:3, 3]
    title = name + " ".join(sorted(person.variants))
    return Scan(title, scan.hu, (1.0, 1.0, slices_mm), float(scan.affine[2, 3]), column)


def axis(scan: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y (voxels) of the bodies' axis in each slice: the densest patch of bone near the middle."""
    dx, dy, dz = scan.spacing
    if scan.column is not None:
        at = dz * np.arange(scan.hu.shape[2])
        x, y = (np.interp(at, scan.column[:, 2], scan.column[:, i] / (dx, dy)[i]) for i in (0, 1))
        return x, y
    columns, rows, n = scan.hu.shape
    body = scan.hu > -300
    middle = float(np.median([np.flatnonzero(body[..., k].any(1)).mean() for k in range(n) if body[..., k].any()]))
    x0, x1 = max(0, int(middle - 55 / dx)), min(columns, int(middle + 55 / dx))
    x, y = np.full(n, middle), np.full(n, rows * 0.4)
    for k in range(n):
        parts, count = ndimage.label(body[..., k])
        if not count:
            continue
        trunk = parts == 1 + int(np.argmax(ndimage.sum(body[..., k], parts, range(1, count + 1))))
        seen = np.flatnonzero(trunk[int(middle - 15 / dx) : int(middle + 15 / dx)].any(0))
        back = int(seen.min()) if len(seen) else 0
        y0, y1 = int(back + 25 / dy), min(rows, int(back + 150 / dy))
        bone = (scan.hu[x0:x1, y0:y1, k] > BONE_HU) & (scan.hu[x0:x1, y0:y1, k] < METAL_HU)
        if bone.any():
            density = ndimage.gaussian_filter(bone.astype(float), (14 / dx, 14 / dy))
            ix, iy = np.unravel_index(density.argmax(), density.shape)
            x[k], y[k] = ix + x0, iy + y0
    window = min(max(3, int(60 / dz) | 1), n)
    smooth = [
        ndimage.gaussian_filter1d(ndimage.median_filter(v, window, mode="nearest"), 15 / dz, mode="nearest")
        for v in (x, y)
    ]
    return smooth[0], smooth[1]


def _cut(image: NDArray[np.float32], middle: int, low: float, high: float, pixel: float) -> NDArray[np.float32]:
    """Part of a line from ``low`` to ``high`` mm about ``middle``, padded with air to that length."""
    at = middle + np.arange(round(low / pixel), round(high / pixel) + 1)
    inside = (at >= 0) & (at < len(image))
    part: NDArray[np.float32] = np.where(inside, image[at.clip(0, len(image) - 1)], np.float32(-1000))
    return part


def views(scan: Scan) -> list[tuple[NDArray[np.float32], float, tuple[float, float], str]]:
    """Return sagittal mean, coronal mean and projection: image (Z, pixels), pixel in mm, window in HU and title."""
    (dx, dy, _), (x, y) = scan.spacing, axis(scan)
    sagittal, coronal, projection = [], [], []
    for k in range(scan.hu.shape[2]):
        hu, i, j = scan.hu[..., k], round(float(x[k])), round(float(y[k]))
        a, b = max(1, int(3 / dx)), max(1, int(4 / dy))
        line = hu[max(0, i - a) : i + a + 1].mean(0)[::-1]
        sagittal.append(_cut(line, len(line) - 1 - j, -FRONT_MM, BACK_MM, dy))
        coronal.append(_cut(hu[:, max(0, j - b) : j + b + 1].mean(1)[::-1], hu.shape[0] - 1 - i, -110, 110, dx))
        deep = hu[:, max(0, int(j - 75 / dy)) : int(j + 10 / dy) + 1].max(1)[::-1]
        projection.append(_cut(deep, hu.shape[0] - 1 - i, -HALF_WIDTH_MM, HALF_WIDTH_MM, dx))
    return [
        (np.stack(sagittal), dy, (-150, 500), "sagittal, front left"),
        (np.stack(coronal), dx, (-150, 500), "coronal"),
        (np.stack(projection), dx, (0, 900), "projection, bodies to back"),
    ]


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("scan", nargs="+")
    parser.add_argument("--slices", type=float, default=2.0, help="slice thickness of virtual scans in mm (default 2)")
    arguments = parser.parse_args()
    scans = [load(argument, arguments.slices) for argument in arguments.scan]
    heights = [scan.hu.shape[2] * scan.spacing[2] for scan in scans]
    figure, axes = plt.subplots(
        len(scans), 3, figsize=(16, 0.026 * sum(heights) + 0.4 * len(scans)), squeeze=False,
        gridspec_kw={"height_ratios": heights, "width_ratios": [185, 220, 220]},
    )  # fmt: skip
    for row, scan, height in zip(axes, scans, heights, strict=True):
        for ax, (image, pixel, (dark, bright), title) in zip(row, views(scan), strict=True):
            extent = (0.0, image.shape[1] * pixel, scan.z0, scan.z0 + height)
            ax.imshow(image, origin="lower", extent=extent, cmap="gray", vmin=dark, vmax=bright)
            ax.set_title(f"{scan.name}: {title}" if title.startswith("sag") else title, fontsize=7, loc="left")
            ax.tick_params(labelsize=6)
    figure.tight_layout()
    with writing(arguments.picture) as temporary:
        figure.savefig(temporary, dpi=80)


if __name__ == "__main__":
    main()
