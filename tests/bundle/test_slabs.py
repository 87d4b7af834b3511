"""Segmentation of a file slab by slab: the mask of the whole scan, with one slab in memory."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.bundle import InferenceBundle, load_bundle, segment_by_slabs
from osteo_monai.cli import run
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.virtual.datasets import VirtualSliceDataset

ROOT = Path(__file__).parents[2]
SEGMENTATION = ROOT / "bundles" / "vertebral_body_segmentation_ct"


@pytest.fixture(scope="module")
def bundle() -> InferenceBundle:
    return load_bundle(SEGMENTATION)


@pytest.fixture(scope="module")
def scan() -> Any:
    """Seven virtual slices of 130 x 130 pixels of 1.5 mm, not all of the same person, as RAS."""
    people = VirtualSliceDataset(7, 5, size=130)
    hu = np.stack([people[i]["image"][0].numpy() for i in range(7)], -1)
    hu[..., 3] = -1024  # a slice without a body
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    affine[:3, 3] = (-90, 20, -400)
    return nib.Nifti1Image(hu.astype(np.float32), affine)


def _whole(bundle: InferenceBundle, image: Any) -> Any:
    data = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32).copy())[None]
    return torch.as_tensor(bundle(MetaTensor(data, affine=torch.as_tensor(image.affine)))["pred"])[0].numpy()


@pytest.mark.parametrize("axes", ["RAS", "PIR", "LSA"])
@pytest.mark.parametrize(("name", "slices"), [("scan.nii", 2), ("scan.nii.gz", 3), ("scan.nii", 50)])
def test_the_mask_is_that_of_the_whole_scan(
    axes: str, name: str, slices: int, bundle: InferenceBundle, scan: Any, tmp_path: Path
) -> None:
    turned = scan.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(scan.affine), nib.orientations.axcodes2ornt(axes))
    )
    nib.save(turned, tmp_path / name)
    expected = _whole(bundle, turned)
    assert expected.sum() > 500
    count = segment_by_slabs(bundle, tmp_path / name, tmp_path / "mask.nii", slices)
    mask: Any = nib.load(tmp_path / "mask.nii")
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, turned.affine, atol=1e-5)
    assert np.array_equal(np.asarray(mask.dataobj), expected)
    assert count == expected.sum()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted({name, "mask.nii"})


def test_one_slab_is_read_at_a_time(
    bundle: InferenceBundle, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(scan, tmp_path / "scan.nii")
    seen: list[tuple[int, ...]] = []

    class Recorded:
        name = "recorded"
        has_setting = bundle.has_setting

        def check_values(self, image: Any) -> None:
            seen.append(tuple(image.shape))

        def __call__(self, image: Any) -> dict[str, Any]:
            seen.append(tuple(image.shape))
            return {"pred": torch.ones(image.shape)}

    recorded: Any = Recorded()
    assert segment_by_slabs(recorded, tmp_path / "scan.nii", tmp_path / "mask.nii", 3) == 130 * 130 * 7
    assert [shape[-1] for shape in seen[1:]] == [3, 3, 1]


def test_other_inputs_are_refused(bundle: InferenceBundle, scan: Any, tmp_path: Path) -> None:
    image, mask = tmp_path / "scan.nii", tmp_path / "mask.nii"
    nib.save(scan, image)
    with pytest.raises(ConfigError, match="slices must be at least 1, got 0"):
        segment_by_slabs(bundle, image, mask, 0)
    with pytest.raises(ConfigError, match="output must be a file .nii, got 'mask.nii.gz'"):
        segment_by_slabs(bundle, image, tmp_path / "mask.nii.gz")
    with pytest.raises(ConfigError, match="'slice_batch_size', got 'vertebra_localization_ct'"):
        segment_by_slabs(load_bundle(ROOT / "bundles" / "vertebra_localization_ct"), image, mask)
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(UnusableInputError, match="image must be a NIfTI file, got 'text.nii'"):
        segment_by_slabs(bundle, tmp_path / "text.nii", mask)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 2, 2), np.float32), np.eye(4)), image)
    with pytest.raises(UnusableInputError, match="must have one 3D volume, got shape .4, 4, 2, 2."):
        segment_by_slabs(bundle, image, mask)
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).integers(0, 900, (60, 60, 20)).astype(np.float32), np.eye(4)), image
    )
    with pytest.raises(UnusableInputError, match="must be a CT in Hounsfield units"):
        segment_by_slabs(bundle, image, mask)
    assert not mask.exists()


def test_the_command_writes_the_mask(scan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.nii"
    nib.save(scan, image)
    words = ["bundle", "segment", str(SEGMENTATION), str(image), "--output", str(mask), "--slices", "4"]
    assert run(words) == 0
    written: Any = nib.load(mask)
    assert f"{int(np.asarray(written.dataobj).sum())} voxels" in capsys.readouterr().out
    assert run(words) == 2
    assert run([*words, "--overwrite"]) == 0


@pytest.mark.parametrize("pad", [0, 64, 256])
def test_padding_of_the_scan_changes_no_voxel(pad: int, bundle: InferenceBundle, scan: Any) -> None:
    """64 and 256 pixels of the network's input on each side."""
    expected = _whole(bundle, scan)
    padded = np.pad(np.asarray(scan.dataobj), ((pad, pad), (pad, pad), (0, 0)), constant_values=-1024)
    result = _whole(bundle, nib.Nifti1Image(padded, scan.affine))
    assert np.array_equal(result[pad : pad + 130, pad : pad + 130], expected)
    assert result.sum() == expected.sum()
