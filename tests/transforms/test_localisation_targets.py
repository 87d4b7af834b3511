import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms import CLASS_NAMES, CentreHeatd, LocalizationClassesd, LocatedVertebra, SaveVertebraed


def test_label_classes_follow_the_names() -> None:
    labels = [0, 8, 14, 15, 16, 19, 28, 20, 25, 26, 50]
    target = torch.zeros(2, len(labels), 1, 1)
    target[0, :, 0, 0] = torch.tensor(labels, dtype=torch.float32)
    classes = LocalizationClassesd("label")({"label": target})["label"]
    names = [CLASS_NAMES[i] for i in classes.flatten().tolist()]
    expected = ["background", *["T8 or above"] * 3, "T9", "T12", "T13", "L1", "L6", "sacrum", "ribs"]
    assert names == expected


def test_prediction_takes_the_likeliest_structure_and_name() -> None:
    logits = torch.full((16, 4, 1, 1), -5.0)
    logits[1, 0] = 2.0  # a body, named by channel 4 + 6 = L1
    logits[10, 0] = 3.0
    logits[2, 1] = 1.0  # sacrum, over a weaker body
    logits[1, 1] = 0.5
    logits[3, 2] = 0.1  # ribs
    classes = LocalizationClassesd("pred")({"pred": logits})["pred"]
    assert [CLASS_NAMES[i] for i in classes.flatten().tolist()] == ["L1", "sacrum", "ribs", "background"]


def test_other_channel_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="image must have 16 channels"):
        LocalizationClassesd("pred")({"pred": torch.zeros(5, 2, 2, 2)})


def test_heat_peaks_at_the_centre_of_whole_bodies_only() -> None:
    label = torch.zeros(1, 9, 9, 20)
    label[:, 3:6, 3:6, 8:11] = VertebraLevel.L1.label
    label[:, 3:6, 3:6, 0:3] = VertebraLevel.L2.label  # cut by the lowest slice
    label[:, 3:6, 3:6, 15:18] = VertebraLevel.T5.label
    affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    target = CentreHeatd("label")({"label": MetaTensor(label, affine=affine)})["label"]
    assert target.shape == (2, 9, 9, 20)
    heat = target[1].numpy()
    assert heat[4, 4, 9] == pytest.approx(1.0)
    assert heat[4, 4, 16] == pytest.approx(1.0)
    # one slice up is 3 mm off: exp(-9 / 72)
    assert heat[4, 4, 10] == pytest.approx(np.exp(-9 / 72))
    assert heat[4, 4, 1] < 0.01
    assert set(target[0].unique().tolist()) == {
        0,
        VertebraLevel.T8.label,
        VertebraLevel.L1.label,
        VertebraLevel.L2.label,
    }
    with pytest.raises(ValueError, match="sd_mm must be positive"):
        CentreHeatd("label", sd_mm=0)


def test_vertebrae_are_written_as_json(tmp_path: Path) -> None:
    vertebra = LocatedVertebra(
        VertebraLevel.L1, 0.9, VertebraLevel.T12, (1.0, 2.0, 3.0), (1.0, 2.0, 18.0), (1.0, 2.0, -12.0), True
    )
    image = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": "some/where/scan.nii.gz"})
    SaveVertebraed("vertebrae", str(tmp_path / "out"))({"image": image, "vertebrae": [vertebra]})
    (row,) = json.loads((tmp_path / "out" / "scan_vertebrae.json").read_text())
    assert row["level"] == "L1"
    assert row["runner_up"] == "T12"
    assert row["centre_mm"] == [1.0, 2.0, 3.0]
