"""Results do not depend on the order of the rows of a table."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from osteo_monai.reporting.evaluation import EvaluationOptions, evaluate

CLASSES = ("normal", "osteopenia", "osteoporosis")


def write_model(path: Path, images: int, spread: float, people: int = 45) -> Path:
    """Write rounded probabilities (many ties) and densities of people in two cohorts, ``images`` of each."""
    truth = np.random.default_rng(1).integers(0, 3, people)
    rng = np.random.default_rng(int(10 * spread))
    lines = [
        "subject_id,image_id,cohort,bmd_mg_cm3,sex,predicted_bmd_mg_cm3,predicted_bmd_lower,predicted_bmd_upper,"
        + ",".join(f"probability_{name}" for name in CLASSES)
    ]
    for person in range(people):
        density = (140.0, 100.0, 60.0)[truth[person]] + person % 7
        for image in range(images):
            chance = np.floor(10 * softmax(2.0 * np.eye(3)[truth[person]] + rng.normal(0, spread, 3))) / 10
            chance[0] = 1 - chance[1] - chance[2]
            found = density + rng.normal(0, 12)
            cohort = "validation" if person % 3 == 0 else "external_a" if person % 3 == 1 else "test"
            cells = [f"p{person * 37 % 1000}", image, cohort, density, "FM"[person % 2], f"{found:.1f}"]
            cells += [f"{found - 20:.1f}", f"{found + 20:.1f}", *(f"{p:.1f}" for p in chance)]
            lines.append(",".join(str(cell) for cell in cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def shuffle(path: Path, folder: Path, seed: int) -> Path:
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    random.Random(seed).shuffle(rows)
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / path.name


@pytest.mark.parametrize("images", [1, 2])
def test_every_table_is_the_same_for_shuffled_rows(images: int, tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name, images, spread) for name, spread in (("a.csv", 1.0), ("b.csv", 2.0))]
    found = []
    for files in (paths, [shuffle(path, tmp_path / "shuffled", 3) for path in paths]):
        options = EvaluationOptions(tuple(files), baseline="b", sensitivity=0.9, resamples=100)
        found.append({name: table.as_json() for name, table in evaluate(options).tables.items()})
    assert len(found[0]) > 10
    assert found[0] == found[1]
