"""A virtual CT in the layout of VerSe, with the shipped bundles: whole vertebrae are located, bodies are outlined."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai import cli

from ..data import public_trees as trees

pytestmark = pytest.mark.slow

ARCH_HU = 150.0
ARCH_MM = 75.0
"""Bone up to this distance behind the centre of a body is its arch."""


def whole_vertebrae(
    hu: NDArray[np.float32], bodies: NDArray[np.uint8], affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return the bodies with the bone behind them in their slices."""
    x, y, z = (
        np.asarray(affine[axis, axis] * index + affine[axis, 3])
        for axis, index in enumerate(np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]])
    )
    whole = bodies.copy()
    for number in (n for n in np.unique(bodies) if 8 <= n <= 25 or n == 28):
        index = np.argwhere(bodies == number)
        centre = affine @ np.append(index.mean(axis=0), 1.0)
        behind = (y < centre[1]) & (y > centre[1] - ARCH_MM) & (np.abs(x - centre[0]) < 40.0)
        heights = z[0, 0, index[:, 2]]
        whole[(hu > ARCH_HU) & behind & (z >= heights.min()) & (z <= heights.max()) & (whole == 0)] = number
    return whole


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual")
    words = ["--seed", "3", "--sex", "F", "--age", "62", "--density", "95", "--matrix", "128"]
    assert cli.run(["virtual", "ct", "--output", str(folder), *words]) == 0
    return folder / "truth"


@pytest.fixture(scope="module")
def tree(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verse")
    image, labels = nib.nifti1.load(truth / "ct.nii.gz"), nib.nifti1.load(truth / "labels.nii.gz")
    affine = np.asarray(image.affine)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    hu = np.asarray(image.dataobj, dtype=np.float32)
    bodies = np.asarray(labels.dataobj).astype(np.uint8)
    base, below = "sub-verse012", root / "dataset-verse19test"
    trees.save(hu.astype(np.int16), below / "rawdata" / base / f"{base}_ct.nii.gz", "PIR", affine)
    vertebrae = whole_vertebrae(hu, np.where(bodies <= 28, bodies, 0).astype(np.uint8), affine)
    trees.save(vertebrae, below / "derivatives" / base / f"{base}_seg-vert_msk.nii.gz", "PIR", affine)
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bodies_are_outlined_in_their_vertebrae_and_measured(tree: Path, truth: Path, tmp_path: Path) -> None:
    first, second, out = tmp_path / "verse.json", tmp_path / "segmented.json", tmp_path / "out"
    assert cli.run(["manifest", "import", "verse", str(tree), "-o", str(first), "--kvp", "120"]) == 0
    assert cli.run(["manifest", "segment", str(first), "-o", str(second), "--device", "cpu"]) == 0
    shares = rows_of(tmp_path / "segmentations" / "segmentation_shares_by_record.csv")
    assert [row["level"] for row in shares] == ["L1", "L2"]
    for row in shares:
        assert float(row["inside"]) > 0.75  # the label of a virtual person ends at the inner edge of the cortex
        assert float(row["in_other"]) == 0.0
    assert cli.run(["measure", str(second), "-o", str(out)]) == 0
    (line,) = rows_of(out / "hu_line_bmd.csv")
    facts: dict[str, Any] = json.loads((truth / "truth.json").read_text())
    assert float(line["predicted_bmd_mg_cm3"]) == pytest.approx(facts["mean_density_mg_cm3"], abs=12.0)
