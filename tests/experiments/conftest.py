"""A small manifest of slices, and settings of a training of seconds."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

PEOPLE = {"training": 3, "validation": 1, "test": 2}

TINY: dict[str, Any] = {
    "image_size": 64,
    "epochs": 1,
    "epoch_length": 1,
    "batch_size": 1,
    "num_workers": 0,
    "amp": False,
    "warmup_steps": 0,
}


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Return a manifest of two slices a person, L1 and L2: boxes of bone in soft tissue."""
    content: dict[str, Any] = {"name": "boxes", "description": "boxes", "virtual": True}
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    rng = np.random.default_rng(1)
    for split, count in PEOPLE.items():
        content[split] = []
        for person in range(count):
            for level, label in (("L1", 20), ("L2", 21)):
                name = f"{split}{person}{level}"
                labels = np.zeros((64, 64, 1), np.uint8)
                left, back = rng.integers(8, 32, 2)
                labels[left : left + 20, back : back + 16] = label
                hu = (np.where(labels > 0, 200, 0) + rng.normal(0, 20, labels.shape)).astype(np.int16)
                nib.save(nib.Nifti1Image(hu, affine), tmp_path / f"{name}.nii.gz")
                nib.save(nib.Nifti1Image(labels, affine), tmp_path / f"{name}_label.nii.gz")
                record = {"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"}
                content[split].append(record | {"subject_id": f"{split}{person}", "level": level})
    file = tmp_path / "slices.json"
    file.write_text(json.dumps(content))
    return file
