"""A cohort of phantoms: images, label maps and a manifest."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.data import Header, Manifest, Record, write_manifest

from ..screening.conftest import LEVELS, inside_body, make_models, phantom_affine, phantom_hu, phantom_mask

__all__ = ["make_models", "phantom_hu", "phantom_mask"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(array: NDArray[Any], path: Path, affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = phantom_affine() if affine is None else affine
    image = nib.Nifti1Image(array, matrix)
    image.set_sform(matrix, 1)
    nib.save(image, path)


@pytest.fixture(scope="session")
def truth_labels() -> NDArray[np.uint8]:
    """Labels 2 mm smaller than the bodies, so that truth and outline differ."""
    return np.asarray(np.sum([inside_body(level, 2.0) * level.label for level in LEVELS], axis=0).astype(np.uint8))


@pytest.fixture
def make_cohort(
    tmp_path: Path, phantom_hu: NDArray[np.float32], truth_labels: NDArray[np.uint8]
) -> Callable[..., Path]:
    """Return a function that writes records p0, p1, ... of the phantom, each with some fields changed."""

    def make(
        *changes: dict[str, Any], hu: NDArray[np.float32] | None = None, labels: NDArray[np.uint8] | None = None
    ) -> Path:
        base = tmp_path / "data"
        records = []
        for n, changed in enumerate(changes or ({},)):
            save((phantom_hu if hu is None else hu).astype(np.int16), base / f"p{n}" / "ct.nii.gz")
            save(truth_labels if labels is None else labels, base / f"p{n}" / "labels.nii.gz")
            facts = {
                "image": f"p{n}/ct.nii.gz",
                "label": f"p{n}/labels.nii.gz",
                "subject_id": f"p{n}",
                "kvp": 120.0,
                "age": 61.0,
                "sex": "F",
                "bmd_mg_cm3": 100.0,
                "bmd_standard": "K2HPO4",
                "contrast_phase": "native",
                "acquisition": "slab",
            }
            records.append(Record(**(facts | changed)))
        header = Header(name="phantoms", description="Four bodies", virtual=True, source="a test")
        path = base / "manifest.json"
        write_manifest(Manifest(header=header, splits={"training": records[:1], "test": records[1:]}), path)
        return path

    return make
