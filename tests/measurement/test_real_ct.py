"""The measurement on one real body CT, with the masks of another model (no density is known for it)."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement import hu_statistics, trabecular_region
from osteo_monai.measurement.shape import body_shape
from osteo_monai.measurement.tissues import dense_volume_cm3, metal_volume_mm3, surroundings

REFERENCE_MEDIAN = {1: 105.0, 2: 118.0}
"""Median HU of L1 and L2 after taking one voxel (3 mm) off the mask."""


@pytest.fixture(scope="module")
def scan(real_data: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]]:
    folder = real_data / "ct_totalsegmentator_example" / "full"
    image = nib.Nifti1Image.from_filename(folder / "example_ct.nii.gz")
    mask = nib.Nifti1Image.from_filename(folder / "derived_body_mask_L1is1_L2is2.nii.gz")
    labels = np.asarray(mask.dataobj)
    return image.get_fdata(dtype=np.float32), image.affine, labels


@pytest.mark.parametrize("level", [1, 2])
def test_trabecular_hu_lies_within_ten_of_the_eroded_reference(
    scan: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]], level: int
) -> None:
    hu, affine, labels = scan
    region = trabecular_region(labels == level, hu, affine)
    assert region.name == "central-trabecular 1.0"
    assert 5.0 < region.volume_cm3 < 20.0  # ERAP's real regions: 7.8 +- 2.6 and 9.9 +- 3.2 cm3
    median = hu_statistics(hu, region.mask).median
    assert median == pytest.approx(REFERENCE_MEDIAN[level], abs=5.0)
    assert hu_statistics(hu, labels == level).median - median > 25  # the cortex is really off


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("spacing", [(0.8, 0.8, 2.0), (1.5, 1.5, 5.0)])
def test_another_grid_gives_the_same_hu(
    scan: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]],
    level: int,
    spacing: tuple[float, float, float],
) -> None:
    hu, affine, labels = scan
    step = np.array(spacing) / 3.0
    box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in ndimage.find_objects((labels == level).astype(int))[0])
    part, mask = hu[box], (labels[box] == level).astype(np.float32)
    where = np.stack(
        np.meshgrid(*(np.arange(0, n - 1, f) for n, f in zip(part.shape, step, strict=True)), indexing="ij")
    )
    fine = ndimage.map_coordinates(part, where, order=1)
    body = ndimage.map_coordinates(mask, where, order=1) > 0.5
    region = trabecular_region(body, fine, np.diag([*spacing, 1.0]))
    same = hu_statistics(hu, trabecular_region(labels == level, hu, affine).mask)
    assert hu_statistics(fine, region.mask).median == pytest.approx(same.median, abs=5.0)


def test_shape_agrees_with_the_model_that_made_the_masks(
    scan: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]],
) -> None:
    _, affine, labels = scan
    shape = body_shape(labels == 1, affine)
    # Its own report: anterior 21, posterior 27 mm at L1.
    assert (shape.anterior_mm, shape.posterior_mm) == pytest.approx((21, 27), abs=3.5)
    assert shape.centre_slice == 97
    assert body_shape(labels == 2, affine).centre_slice == 86


def test_tissues_of_a_native_scan(scan: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]]) -> None:
    hu, affine, labels = scan
    for level in (1, 2):
        found = surroundings(hu, affine, labels == level)
        assert found.air is not None
        assert -1005 < found.air.hu < -980
        assert found.fat is not None
        assert -115 < found.fat.hu < -90
        assert found.muscle is not None
        assert 10 < found.muscle.hu < 65
        assert found.aorta is not None
        assert not found.aorta.enhanced
        assert found.aorta.hu == pytest.approx(44, abs=10)
        assert metal_volume_mm3(hu, affine, labels == level) == 0.0
    # L1 holds a dense spot of 0.4 to 0.8 thousand HU; L2 does not.
    assert dense_volume_cm3(hu, affine, labels == 1) == pytest.approx(0.3, abs=0.15)
    assert dense_volume_cm3(hu, affine, labels == 2) == 0.0
