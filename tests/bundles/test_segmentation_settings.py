"""The segmentation bundle runs with windows, precision, memory format and compilation as its settings say."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai.bundle import run_bundle
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.datasets import VirtualSliceDataset

BUNDLE = Path(__file__).parents[2] / "bundles" / "vertebral_body_segmentation_ct"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = VirtualSliceDataset(5, 8, size=150)
    hu = np.stack([people[i]["image"][0].numpy() for i in range(5)], -1)
    file = tmp_path_factory.mktemp("image") / "scan.nii.gz"
    nib.save(nib.Nifti1Image(hu.astype(np.float32), np.diag([1.5, 1.5, 3.0, 1.0])), file)
    return file


def _mask(image: Path, folder: Path, **settings: Any) -> Any:
    run_bundle(BUNDLE, ["inference"], {"image": str(image), "output_dir": str(folder), "device": "cpu", **settings})
    (file,) = folder.glob("*_body.nii.gz")
    loaded: Any = nib.load(file)
    return np.asarray(loaded.dataobj) > 0


@pytest.mark.slow
def test_inference_follows_its_settings(image: Path, tmp_path: Path) -> None:
    plain = _mask(image, tmp_path / "plain", amp=False)
    assert plain.sum() > 200
    same = _mask(image, tmp_path / "same", amp=False, channels_last=True, compile_backend="eager", volume_device="cpu")
    assert (same != plain).sum() <= 2
    rough = _mask(image, tmp_path / "rough", amp=True, amp_dtype="bfloat16")
    assert 0 < (rough != plain).sum() < 0.1 * plain.sum()
    windows = _mask(image, tmp_path / "windows", amp=False, roi_size=[128, 128], overlap=0.5, blending="constant")
    assert 0 < (windows != plain).sum() < 0.5 * plain.sum()


def test_impossible_settings_are_refused(image: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="amp_dtype must be bfloat16, or float16 on a CUDA device"):
        _mask(image, tmp_path / "half", amp_dtype="float16")
    with pytest.raises(ConfigError, match="'inferer#roi_siz'.*did you mean 'inferer#roi_size'"):
        _mask(image, tmp_path / "name", **{"inferer#roi_siz": [64, 64]})


@pytest.mark.slow
def test_a_step_of_training_with_autocast_channels_last_and_compilation(tmp_path: Path) -> None:
    settings = {
        "output_dir": str(tmp_path),
        "device": "cpu",
        "epochs": 1,
        "epoch_length": 1,
        "batch_size": 1,
        "validation_items": 1,
        "num_workers": 0,
        "image_size": 64,
        "track": False,
        "amp": True,
        "channels_last": True,
        "compile_backend": "eager",
        "network_def#widths": [2, 2, 2, 2, 2, 2, 2],
    }
    run_bundle(BUNDLE, ["train"], settings)
    assert (tmp_path / "checkpoints" / "model.pt").is_file()


@pytest.mark.gpu
@pytest.mark.parametrize("amp_dtype", ["bfloat16", "float16"])
def test_a_step_of_training_on_a_gpu(amp_dtype: str, tmp_path: Path) -> None:
    small = {"epochs": 1, "epoch_length": 2, "batch_size": 2, "validation_items": 2, "num_workers": 0, "track": False}
    settings = {"output_dir": str(tmp_path), "device": "cuda", "amp": True, "amp_dtype": amp_dtype, **small}
    run_bundle(BUNDLE, ["train"], settings)
    assert (tmp_path / "checkpoints" / "model.pt").is_file()
