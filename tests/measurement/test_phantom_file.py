"""Phantom in the scan: rods by labels and by cylinders give the line that made them, wrong files are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging import CTVolume
from osteo_monai.measurement import phantom_calibration

SPACING = (0.8, 0.8, 2.0)
DENSITIES = (0.0, 50.0, 100.0, 200.0)
SLOPE, OFFSET = 1.36, 4.0
"""HU per mg/cm3 of hydroxyapatite, and HU of water."""
RODS_MM = [(-24.0 + 16.0 * i, -40.0, 10.0) for i in range(len(DENSITIES))]
RADIUS_MM = 6.0


@pytest.fixture
def scan() -> CTVolume:
    """Four rods along z behind a person of 40 HU, with noise of 10 HU."""
    shape = (96, 128, 20)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = [-38.0, -50.0, -10.0]
    x, y, _ = (np.arange(n) * s + o for n, s, o in zip(shape, SPACING, affine[:3, 3], strict=True))
    plane = np.full(shape[:2], 40.0)
    for density, (cx, cy, _) in zip(DENSITIES, RODS_MM, strict=True):
        plane[np.hypot(x[:, None] - cx, y[None] - cy) <= RADIUS_MM] = OFFSET + SLOPE * density
    hu = np.repeat(plane[..., None], shape[2], 2) + np.random.default_rng(0).normal(0, 10, shape)
    return CTVolume(hu=hu.astype(np.float32), affine=affine, original_affine=affine, original_shape=shape)


def cylinders(radius: float = 4.0) -> list[dict[str, Any]]:
    return [
        {"density_mg_cm3": density, "centre_mm": list(place), "radius_mm": radius, "length_mm": 30}
        for density, place in zip(DENSITIES, RODS_MM, strict=True)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(**fields: Any) -> Path:
        path = tmp_path / "phantom.json"
        content = {"name": "test", "standard": "hydroxyapatite", "rods": cylinders(), **fields}
        path.write_text(json.dumps(content))
        return path

    return written


def labels_of(scan: CTVolume) -> NDArray[np.uint8]:
    x, y, _ = (np.arange(n) * s + o for n, s, o in zip(scan.hu.shape, SPACING, scan.affine[:3, 3], strict=True))
    labels = np.zeros(scan.hu.shape, dtype=np.uint8)
    for number, (cx, cy, _) in enumerate(RODS_MM, 1):
        labels[np.hypot(x[:, None] - cx, y[None] - cy) <= RADIUS_MM + 0.8] = 10 * number  # one voxel too wide
    return labels


def check(line: Any) -> None:
    assert line.method == "phantom"
    assert line.standard is MineralStandard.HYDROXYAPATITE
    assert 1 / line.slope == pytest.approx(SLOPE, rel=0.02)
    assert -line.intercept / line.slope == pytest.approx(OFFSET, abs=2.0)
    assert "R2 0.99" in line.note or "R2 1.00" in line.note
    assert 0.067 <= line.relative_sd < 0.08


def test_rods_given_as_cylinders(scan: CTVolume, write: Callable[..., Path]) -> None:
    check(phantom_calibration(scan, write()))


def test_rods_given_as_labels(scan: CTVolume, write: Callable[..., Path], tmp_path: Path) -> None:
    """The labels are one voxel too wide; the erosion in mm leaves the rods only."""
    nibabel.save(nibabel.Nifti1Image(labels_of(scan), scan.affine), tmp_path / "rods.nii.gz")
    rods = [{"density_mg_cm3": d, "label": 10 * i} for i, d in enumerate(DENSITIES, 1)]
    check(phantom_calibration(scan, write(rods=rods, labels="rods.nii.gz")))


def test_padding_in_a_rod_does_not_count(scan: CTVolume, write: Callable[..., Path]) -> None:
    hu, valid = scan.hu.copy(), np.ones(scan.hu.shape, dtype=bool)
    hu[:, :64, 8:], valid[:, :64, 8:] = -1024, False
    padded = CTVolume(
        hu=hu, affine=scan.affine, original_affine=scan.affine, original_shape=scan.original_shape, valid=valid
    )
    check(phantom_calibration(padded, write()))


def test_rods_outside_the_scan_or_beside_their_place_are_refused(scan: CTVolume, write: Callable[..., Path]) -> None:
    rods = cylinders()
    far = [*rods[:3], {**rods[3], "centre_mm": [500, 0, 0]}]
    with pytest.raises(ValueError, match="at least 20 voxels in the scan, got fewer for 4"):
        phantom_calibration(scan, write(rods=far))
    beside = [*rods[:2], {**rods[2], "centre_mm": [0, 20, 10]}, rods[3]]  # the person instead of the rod
    with pytest.raises(ValueError, match="mg/cm3 for rod 3|R2"):
        phantom_calibration(scan, write(rods=beside))


def test_labels_on_another_grid_are_refused(scan: CTVolume, write: Callable[..., Path], tmp_path: Path) -> None:
    affine = scan.affine.copy()
    affine[0, 3] += 5.0
    nibabel.save(nibabel.Nifti1Image(labels_of(scan), affine), tmp_path / "rods.nii.gz")
    rods = [{"density_mg_cm3": d, "label": 10 * i} for i, d in enumerate(DENSITIES, 1)]
    with pytest.raises(ValueError, match="labels must be on the grid of the scan"):
        phantom_calibration(scan, write(rods=rods, labels="rods.nii.gz"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"standard": "chalk"}, "standard"),
        ({"rods": cylinders()[:2]}, "rods"),
        ({"rods": [{"density_mg_cm3": d, "label": 1} for d in DENSITIES]}, "rods must have different labels"),
        (
            {"rods": [{"density_mg_cm3": d, "label": i + 1} for i, d in enumerate(DENSITIES)]},
            "labels must name a label",
        ),
        ({"rods": [{**rod, "label": 1} for rod in cylinders()]}, "either label, or centre_mm and radius_mm"),
        ({"rods": [{"density_mg_cm3": d, "centre_mm": [0, 0, 0]} for d in DENSITIES]}, "either label, or centre_mm"),
        ({"rods": [{**rod, "density_mg_cm3": 100} for rod in cylinders()]}, "at least 3 different densities"),
        ({"rods": [{**cylinders()[0], "water_mg_cm3": 1000}, *cylinders()[1:]]}, "for all rods or for none"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_files_are_refused(
    scan: CTVolume, write: Callable[..., Path], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"phantom\.json must be a valid phantom file") as caught:
        phantom_calibration(scan, write(**fields))
    assert message in str(caught.value)


def test_missing_files_are_unusable(scan: CTVolume, write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="phantom file 'none.json' cannot be read"):
        phantom_calibration(scan, tmp_path / "none.json")
    rods = [{"density_mg_cm3": d, "label": i + 1} for i, d in enumerate(DENSITIES)]
    with pytest.raises(UnusableInputError, match="label map"):
        phantom_calibration(scan, write(rods=rods, labels="none.nii.gz"))
