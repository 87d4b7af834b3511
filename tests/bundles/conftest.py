"""Bundles by name, settings of small runs, and manifests of a few records for them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = sorted(file.parents[1].name for file in BUNDLES.glob("*/configs/metadata.json"))
SEGMENTATION, LOCALIZATION = "vertebral_body_segmentation_ct", "vertebra_localization_ct"
COLUMN, DENSITY, CLASSIFICATION = (
    "vertebral_column_ct",
    "bone_density_regression_ct",
    "osteoporosis_classification_ct",
)
CHEST, LUMBAR = "osteoporosis_classification_chest_xray", "osteoporosis_classification_lumbar_xray"

STEP: dict[str, dict[str, Any]] = {
    SEGMENTATION: {"image_size": 64, "epoch_length": 1, "validation_items": 1, "num_workers": 0},
    LOCALIZATION: {"volume_size": [32, 32, 32], "epoch_length": 1, "validation_items": 1, "num_workers": 0, "views": 1},
    COLUMN: {"people": 1, "validation_items": 1, "num_workers": 0},
    DENSITY: {"num_workers": 0},
    CLASSIFICATION: {"cache_workers": 1},
    CHEST: {"cache_workers": 1},
    LUMBAR: {"cache_workers": 1},
}
"""Settings of a training of one step with the published network."""
TEST: dict[str, dict[str, Any]] = {
    SEGMENTATION: {"test_items": 2, "num_workers": 0},
    LOCALIZATION: {"test_items": 1, "num_workers": 0},
    COLUMN: {"test_items": 1, "num_workers": 0},
    DENSITY: {"num_workers": 0, "splits": ["test"]},
    CLASSIFICATION: {"cache_workers": 1, "splits": ["test"]},
    CHEST: {"cache_workers": 1, "splits": ["test"]},
    LUMBAR: {"cache_workers": 1, "splits": ["test"]},
}
"""Settings of an evaluation of the published weights on few virtual people or records."""


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Manifests by bundle: boxes of bone with outlines of L1 and L2, and radiographs with a bright band."""
    folder = tmp_path_factory.mktemp("cohorts")
    counts = {"training": 12, "validation": 9, "test": 3, "external_1": 2}
    splits: dict[str, dict[str, list[Any]]] = {kind: {split: [] for split in counts} for kind in ("ct", "xray")}
    subjects = [(split, number) for split, count in counts.items() for number in range(count)]
    for split, number in subjects:
        name, bmd = f"{split}_{number}", (150.0, 100.0, 60.0)[number % 3]
        splits["ct"][split].append(_scan(folder, name, bmd))
        splits["xray"][split] += _radiographs(folder, name, number)
    files = {}
    for kind, content in splits.items():
        files[kind] = folder / f"{kind}.json"
        files[kind].write_text(json.dumps({"name": kind, "description": kind, "virtual": True, **content}))
    return {
        **dict.fromkeys((DENSITY, CLASSIFICATION), files["ct"]),
        **dict.fromkeys((CHEST, LUMBAR), files["xray"]),
    }


def _scan(folder: Path, name: str, bmd: float) -> dict[str, Any]:
    labels = np.zeros((24, 28, 30), np.uint8)
    labels[4:20, 8:22, 16:27], labels[4:20, 8:22, 2:13] = 20, 21
    hu = np.where(labels > 0, bmd / 0.75, 50.0) + np.random.default_rng(int(bmd)).normal(0, 10, labels.shape)
    hu[0] = -1000  # without air it is no CT
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), folder / f"{name}_labels.nii.gz")
    density = {"level_bmd_mg_cm3": {"L1": bmd, "L2": bmd}, "bmd_mg_cm3": bmd, "bmd_standard": "K2HPO4"}
    files = {"image": f"{name}.nii.gz", "segmentation": f"{name}_labels.nii.gz"}
    return {**files, **density, "subject_id": name, "kvp": 120, "age": 60}


def _radiographs(folder: Path, name: str, number: int) -> list[dict[str, Any]]:
    records = []
    for view in ("chest_frontal", "lumbar_ap", "lumbar_lateral"):
        pixels = np.random.default_rng(number).normal(20000, 1000, (72, 60))
        pixels[:, 30 : 34 + 12 * (number % 2)] += 20000
        Image.fromarray(pixels.astype(np.uint16)).save(folder / f"{name}_{view}.png")
        facts = {
            "age": 60 + number,
            "sex": "FM"[number % 2],
            "height_cm": 160 + number,
            "weight_kg": 55 + number,
            "t_score": (-3.0, -1.0)[number % 2],
        }
        records.append({"image": f"{name}_{view}.png", "view": view, "subject_id": name, **facts})
    return records
