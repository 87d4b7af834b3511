"""True centres of the bodies of a record."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.cohort import labelled_centres
from osteo_monai.cohort.records import ExcludedRecordError
from osteo_monai.data import Record

from .conftest import save

AFFINE = np.array([[2.0, 0, 0, -10], [0, 2.0, 0, 5], [0, 0, 3.0, 100], [0, 0, 0, 1]])


def labels() -> NDArray[np.uint8]:
    array = np.zeros((10, 10, 20), np.uint8)
    for number, z in ((21, 0), (20, 5), (19, 10), (26, 15)):
        array[2:7, 3:6, z : z + 3] = number
    return array


def record(**fields: object) -> Record:
    return Record.model_validate({"image": "ct.nii.gz", "subject_id": "a"} | fields)


def test_centres_of_a_label_map_of_bodies(tmp_path: Path) -> None:
    save(labels(), tmp_path / "labels.nii.gz", AFFINE)
    centres = labelled_centres(record(label="labels.nii.gz"), tmp_path)
    # L2 is in the first slice, and the sacrum is no body
    assert centres is not None
    assert set(centres) == {"L1", "T12"}
    assert centres["L1"] == pytest.approx((-10 + 2 * 4, 5 + 2 * 4, 100 + 3 * 6))


def test_whole_vertebrae_have_no_body_centres_but_a_file_of_centroids_has(tmp_path: Path) -> None:
    save(labels(), tmp_path / "labels.nii.gz", AFFINE)
    whole = record(label="labels.nii.gz", label_kind="vertebra")
    assert labelled_centres(whole, tmp_path) is None
    (tmp_path / "centres.json").write_text(json.dumps({"L1": [1, 2, 3], "C7": [0, 0, 400.5]}))
    centres = labelled_centres(whole.model_copy(update={"centroids": "centres.json"}), tmp_path)
    assert centres == {"L1": (1.0, 2.0, 3.0), "C7": (0.0, 0.0, 400.5)}


@pytest.mark.parametrize("content", ["[1]", '{"L1": [1, 2]}', '{"L1": [1, 2, NaN]}', '{"L1": 3}', "no"])
def test_another_form_of_centroids_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ExcludedRecordError, match=r"'c.json' must have three coordinates in mm by level"):
        labelled_centres(record(centroids="c.json"), tmp_path)


def test_no_truth_no_centres(tmp_path: Path) -> None:
    assert labelled_centres(record(), tmp_path) is None
