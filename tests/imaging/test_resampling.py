"""An oblique grid is brought upright without moving anything, and labels find their way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging import CTVolume, read_ct, read_label_map, write_label_map
from osteo_monai.imaging.orientation import obliquity_deg
from osteo_monai.imaging.resampling import upright_grid, upright_volume

SHAPE, SPACING = (30, 34, 26), (1.0, 1.2, 2.0)
SLOPE = np.array([3.0, -4.0, 5.0])
"""HU per mm along x, y and z: any interpolation must give a linear ramp back, a spline but for the rim."""


def oblique_affine(*degrees: float) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(SPACING)
    affine[:3, 3] = (-15.0, 20.0, -700.0)
    return affine


def world(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def ramp(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    places = world(affine, shape)
    return np.asarray((places - (0.0, 30.0, -680.0)) @ SLOPE, dtype=np.float32)


def inside(
    places: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, ...], rim: float = 0.0
) -> NDArray[np.bool_]:
    index = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return np.asarray(((index > rim) & (index < np.array(shape) - 1 - rim)).all(axis=-1))


def volume(affine: NDArray[np.float64], valid: NDArray[np.bool_] | None = None) -> CTVolume:
    return CTVolume(ramp(affine, SHAPE), affine, affine, SHAPE, valid=valid, instance_numbers=tuple(range(SHAPE[2])))


@pytest.mark.parametrize("degrees", [(8, 0, 0), (0, -12, 0), (0, 0, 20), (7, -9, 11)])
def test_a_ramp_stays_where_it_is(degrees: tuple[float, float, float]) -> None:
    affine = oblique_affine(*degrees)
    scan = upright_volume(volume(affine))
    assert obliquity_deg(scan.affine) == 0
    np.testing.assert_allclose(scan.spacing, SPACING)
    places = world(scan.affine, scan.hu.shape)
    assert scan.valid is not None
    # on the very border of the old grid either answer is right
    assert not (scan.valid & ~inside(places, affine, SHAPE, -1e-3)).any()
    assert not (~scan.valid & inside(places, affine, SHAPE, 1e-3)).any()
    core = inside(places, affine, SHAPE, 6)
    assert core.sum() > 500
    np.testing.assert_allclose(scan.hu[core], ramp(scan.affine, scan.hu.shape)[core], atol=0.05)
    assert np.abs(scan.hu - ramp(scan.affine, scan.hu.shape))[scan.valid].max() < 5
    assert (scan.hu[~scan.valid] == -1024).all()
    assert all(stride > 0 for stride in scan.hu.strides)
    assert scan.instance_numbers is None
    corners = world(affine, SHAPE)[:: SHAPE[0] - 1, :: SHAPE[1] - 1, :: SHAPE[2] - 1].reshape(-1, 3)
    low, high = scan.affine[:3, 3], scan.affine[:3, 3] + (np.array(scan.hu.shape) - 1) * SPACING
    assert (corners > low - SPACING).all()
    assert (corners < high + SPACING).all()


def test_invalid_voxels_spoil_what_touches_them() -> None:
    affine = oblique_affine(0, 0, 10)
    valid = np.ones(SHAPE, dtype=bool)
    valid[15, 17, 13] = False
    whole, holed = upright_volume(volume(affine)), upright_volume(volume(affine, valid))
    assert whole.valid is not None
    assert holed.valid is not None
    lost = np.argwhere(whole.valid & ~holed.valid)
    hole = affine[:3, :3] @ (15, 17, 13) + affine[:3, 3]
    distance = np.linalg.norm(lost @ holed.affine[:3, :3].T + holed.affine[:3, 3] - hole, axis=1)
    assert 1 <= len(lost) <= 8
    assert distance.max() < np.linalg.norm(SPACING)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (2, 0, 0), (0, 0, 31)])
def test_other_grids_are_left_alone(degrees: tuple[float, float, float]) -> None:
    scan = volume(oblique_affine(*degrees))
    assert upright_volume(scan) is scan


def test_an_upright_grid_beyond_the_size_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTEO_MAX_VOXELS", "30000")
    with pytest.raises(ScanRefusedError, match="above 30000 voxels"):
        upright_volume(volume(oblique_affine(0, 0, 20)))


@pytest.mark.parametrize("codes", ["RAS", "PIR", "LPS", "SAR"])
def test_labels_come_back_on_the_oblique_grid(tmp_path: Path, codes: Any) -> None:
    affine = oblique_affine(7, -9, 11)
    stored = ramp(affine, SHAPE)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    image = nib.Nifti1Image(stored, affine).as_reoriented(turn)
    nib.save(image, tmp_path / "ct.nii.gz")
    scan = read_ct(tmp_path / "ct.nii.gz")
    assert scan.original_shape == image.shape
    write_label_map((scan.hu > 0).astype(np.uint8) * 20, scan, tmp_path / "labels.nii.gz")
    written = nib.Nifti1Image.from_filename(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
    got, wanted = np.asarray(written.dataobj), (np.asarray(image.dataobj) > 0) * 20
    # nearest neighbour: within half a voxel of the border either label is right
    sure = np.abs(np.asarray(image.dataobj)) > float(np.abs(SLOPE) @ SPACING) / 2
    rim = np.zeros(image.shape, dtype=bool)
    rim[1:-1, 1:-1, 1:-1] = True
    assert np.mean(sure & rim) > 0.5
    np.testing.assert_array_equal(got[sure & rim], wanted[sure & rim])
    assert np.mean(got == wanted) > 0.93


def test_a_label_map_is_read_onto_the_grid_of_its_scan(tmp_path: Path) -> None:
    affine = oblique_affine(7, -9, 11)
    stored = ramp(affine, SHAPE)
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image((stored > 0).astype(np.uint8), affine), tmp_path / "labels.nii.gz")
    scan, (labels, there) = read_ct(tmp_path / "ct.nii.gz"), read_label_map(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(there, scan.affine, atol=1e-4)
    assert scan.valid is not None
    sure = scan.valid & (np.abs(scan.hu) > float(np.abs(SLOPE) @ SPACING) / 2)
    np.testing.assert_array_equal(labels[sure] == 1, scan.hu[sure] > 0)


def test_an_oblique_series_agrees_with_simpleitk(
    make_series: Callable[..., Path], phantom_hu: NDArray[np.int16], tmp_path: Path
) -> None:
    """Slices turned by 9 degrees about two axes, stacked along their normal, are no tilted gantry."""
    turn = Rotation.from_euler("zx", (9, 6), degrees=True).as_matrix()

    def change(ds: Any, k: Any) -> None:
        ds.ImageOrientationPatient = [float(v) for v in (*turn[:, 0], *turn[:, 1])]
        ds.ImagePositionPatient = [float(v) for v in np.array((-12.0, -17.0, -100.0)) + 2.5 * k * turn[:, 2]]

    folder = make_series(change, hu=phantom_hu)
    scan = read_ct(folder)
    assert [f.code for f in scan.findings] == ["oblique_grid_resampled"]
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)), SimpleITK.sitkFloat32)
    grid = SimpleITK.Image(*scan.hu.shape, SimpleITK.sitkFloat32)
    grid.SetSpacing(scan.spacing)
    grid.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    grid.SetOrigin([-scan.affine[0, 3], -scan.affine[1, 3], scan.affine[2, 3]])
    resampled = SimpleITK.Resample(image, grid, SimpleITK.Transform(), SimpleITK.sitkBSpline3)
    theirs = SimpleITK.GetArrayFromImage(resampled).transpose(2, 1, 0).clip(scan.hu[scan.valid].min(), scan.hu.max())
    assert scan.valid is not None
    assert scan.valid.mean() > 0.5
    tissue = scan.valid & (np.minimum(scan.hu, theirs) > -250)  # air is interpolated linearly
    assert tissue.sum() > 1000
    np.testing.assert_allclose(scan.hu[tissue], theirs[tissue], atol=2)
    write_label_map(scan.hu > 100, scan, tmp_path / "labels.nii")
    labels = SimpleITK.Resample(
        SimpleITK.ReadImage(str(tmp_path / "labels.nii")), image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor
    )
    agree = (SimpleITK.GetArrayFromImage(labels) == 1) == (SimpleITK.GetArrayFromImage(image) > 100)
    assert agree.mean() > 0.97


def test_a_real_oblique_scan_and_its_masks(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct_real_dev"
    scan = read_ct(folder / "verse014")
    labels, affine = read_label_map(folder / "verse014_vertebrae.nii")
    np.testing.assert_allclose(affine, scan.affine, atol=1e-4)
    assert labels.shape == scan.hu.shape
    original = np.asarray(nib.Nifti1Image.from_filename(folder / "verse014_vertebrae.nii").dataobj)
    stored = np.asarray(nib.Nifti1Image.from_filename(folder / "verse014" / "ct.nii").dataobj)
    for level in (20, 21, 22):
        # the same bone before and after: the HU of its depth, and its volume
        deep, now = (
            ndimage.distance_transform_edt(mask == level, sampling=sizes) > 5
            for mask, sizes in ((original, (1.0, 1.0, 2.0)), (labels, scan.spacing))
        )
        assert np.median(scan.hu[now]) == pytest.approx(np.median(stored[deep]), abs=4)
        assert np.count_nonzero(labels == level) == pytest.approx(np.count_nonzero(original == level), rel=0.02)
    write_label_map(labels, scan, tmp_path / "back.nii.gz")
    back = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "back.nii.gz").dataobj)
    for level in (20, 21, 22):
        both = np.count_nonzero((back == level) & (original == level))
        assert 2 * both / (np.count_nonzero(back == level) + np.count_nonzero(original == level)) > 0.93


def test_upright_grid_keeps_the_middle() -> None:
    affine = oblique_affine(7, -9, 11)
    grid = upright_grid(affine, SHAPE)
    assert grid is not None
    middle = affine[:3, :3] @ (np.array(SHAPE) - 1) / 2 + affine[:3, 3]
    np.testing.assert_allclose(grid.affine[:3, :3] @ (np.array(grid.shape) - 1) / 2 + grid.affine[:3, 3], middle)
