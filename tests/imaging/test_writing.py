import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from osteo_monai.imaging import read_ct, write_label_map


def all_orientations() -> list[str]:
    signs = ("RL", "AP", "SI")
    return ["".join(letters) for axes in itertools.permutations(signs) for letters in itertools.product(*axes)]


@pytest.mark.parametrize("codes", all_orientations())
def test_labels_come_back_on_the_original_grid(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16], tmp_path: Path, codes: Any
) -> None:
    """All 48 orientations: the label of each original voxel is that of its HU."""
    wanted = nib.orientations.axcodes2ornt(codes)
    ras = nib.Nifti1Image(canonical_hu, np.diag([0.8, 0.9, 2.5, 1]))
    original = ras.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))
    scan = read_ct(make_nifti(np.asarray(original.dataobj), original.affine))
    out = tmp_path / "deep" / "labels.nii.gz"
    write_label_map((scan.hu > 100).astype(np.int32) * 21, scan, out)
    written = nib.Nifti1Image.from_filename(out)
    np.testing.assert_array_equal(np.asarray(written.dataobj), (np.asarray(original.dataobj) > 100) * 21)
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-5)
    assert "".join(nib.aff2axcodes(written.affine)) == codes
    assert written.get_data_dtype() == np.uint8
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 1)


def test_labels_overlay_the_dicom_series_in_another_reader(make_series: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_series()
    scan = read_ct(folder)
    write_label_map(scan.hu > 100, scan, tmp_path / "labels.nii")
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.Cast(SimpleITK.ReadImage(names), SimpleITK.sitkFloat32)
    labels = SimpleITK.ReadImage(str(tmp_path / "labels.nii"))
    placed = SimpleITK.Resample(labels, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(placed) == 1, SimpleITK.GetArrayFromImage(image) > 100)


@pytest.mark.parametrize(
    ("labels", "name", "said"),
    [
        (np.zeros((2, 2, 2), np.uint8), "x.nii", "shape"),
        (np.zeros((32, 40, 12), np.float32), "x.nii", "integers"),
        (np.full((32, 40, 12), -1), "x.nii", "0 to 65535"),
        (np.full((32, 40, 12), 70000), "x.nii", "0 to 65535"),
        (np.zeros((32, 40, 12), np.uint8), "x.png", ".nii"),
    ],
)
def test_wrong_arguments(make_nifti: Callable[..., Path], tmp_path: Path, labels: Any, name: Any, said: Any) -> None:
    scan = read_ct(make_nifti())
    with pytest.raises(ValueError, match=said):
        write_label_map(labels, scan, tmp_path / name)


def test_labels_above_255_keep_their_number(make_nifti: Callable[..., Path], tmp_path: Path) -> None:
    scan = read_ct(make_nifti())
    write_label_map(np.full(scan.hu.shape, 300), scan, tmp_path / "x.nii.gz")
    assert nib.Nifti1Image.from_filename(tmp_path / "x.nii.gz").get_fdata().max() == 300


def test_real_series_agrees_with_simpleitk(real_data: Path) -> None:
    """HU and geometry of one real series in an independent reader (padding apart, which ours sets to air)."""
    folder = real_data / "ct_chest_above_l1"
    scan = read_ct(folder)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    theirs = SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0)[::-1, ::-1, :]
    assert scan.valid is not None
    assert 0.2 < np.mean(~scan.valid) < 0.22
    np.testing.assert_array_equal(scan.hu[scan.valid], theirs[scan.valid])
    assert theirs[~scan.valid].max() < -1024
    for index in [(0, 0, 0), (511, 0, 99), (10, 500, 50)]:
        there = (511 - index[0], 511 - index[1], index[2])
        lps = np.array(image.TransformIndexToPhysicalPoint(there))
        np.testing.assert_allclose((scan.affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-3)


def test_a_write_that_fails_leaves_the_former_file(
    make_nifti: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = read_ct(make_nifti())
    path = tmp_path / "labels.nii.gz"
    write_label_map(np.ones(volume.hu.shape, dtype=np.uint8), volume, path)
    before = path.read_bytes()

    def half(image: object, target: Path) -> None:
        Path(target).write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half)
    with pytest.raises(OSError, match="disk full"):
        write_label_map(np.zeros(volume.hu.shape, dtype=np.uint8), volume, path)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"labels.nii.gz", "scan.nii.gz"}
