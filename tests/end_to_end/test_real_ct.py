"""The shipped bundles on real scans: one that can be measured, and all those that must be refused.

One patient with L1 and L2, masks that are model output, no density reference: this measures finding, outlining and HU
on one scan, and nothing about diagnosis.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import Severity, VertebraLevel
from osteo_monai.screening import ScreeningModels, ScreeningResult, Study, load_models, screen_volume
from osteo_monai.screening_files import screen_to_folder

pytestmark = pytest.mark.slow

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
EXAMPLE = "ct_totalsegmentator_example"


@pytest.fixture(scope="session")
def models() -> ScreeningModels:
    """Load the shipped bundles once."""
    return load_models("cpu")


@pytest.fixture(scope="session")
def screened(
    real_data: Path, models: ScreeningModels, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ScreeningResult]:
    """Return a function that screens a study of the real data, each once, and checks what was written."""
    results: dict[str, ScreeningResult] = {}

    def run(name: str) -> ScreeningResult:
        if name not in results:
            output = tmp_path_factory.mktemp("screened")
            result = screen_to_folder(Study("ct", real_data / name), output, models=models)
            assert ScreeningResult.model_validate_json((output / "result.json").read_text()) == result
            assert (output / "report.html").stat().st_size > 1000
            results[name] = result
        return results[name]

    return run


def refusals(result: ScreeningResult) -> set[str]:
    return {f.code for f in result.findings if f.severity is Severity.REFUSAL}


def warned(result: ScreeningResult) -> set[str]:
    return {f.code for f in result.findings if f.severity is Severity.WARNING}


# --- what must be refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codes", "warnings"),
    [
        pytest.param(
            "ct_chest_above_l1", {"levels_not_covered"}, {"sharp_kernel", "contrast_flagged"}, id="chest T1-T9"
        ),
        pytest.param("ct_100kvp_thorax", {"levels_not_covered"}, {"kvp_not_120"}, id="100 kVp, thorax"),
        pytest.param(
            f"{EXAMPLE}/dicom_jpeg2000_t11_t12", {"levels_not_covered"}, {"contrast_flagged"}, id="T11-T12, contrast"
        ),
        pytest.param(f"{EXAMPLE}/cardiac_crop/ct_cropped.nii.gz", {"levels_not_covered"}, set(), id="heart"),
        pytest.param(
            "ct_tptbox_l3/sub-ct_label-22_ct.nii.gz",
            {"levels_not_covered", "level_uncertain"},
            set(),
            id="L1 absent, L2 cut, PIR",
        ),
    ],
)
def test_scans_without_whole_l1_and_l2_are_refused(
    screened: Callable[[str], ScreeningResult], name: str, codes: set[str], warnings: set[str]
) -> None:
    result = screened(name)
    assert result.verdict == "refused"
    assert refusals(result) & codes, refusals(result)
    assert warnings <= warned(result)
    assert result.density is None
    assert result.levels == ()


def test_l1_alone_is_measured_where_l2_is_cut(
    screened: Callable[[str], ScreeningResult], measured: ScreeningResult
) -> None:
    result = screened(f"{EXAMPLE}/partial_l2_cut/example_ct_sm.nii.gz")
    assert [m.level for m in result.levels] == [L1]
    assert {"level_left_out", "single_level"} <= warned(result)
    assert result.levels[0].hu.median == pytest.approx(measured.levels[0].hu.median, abs=5.0)  # the same person's
    assert result.density is not None
    assert measured.density is not None
    wide, narrow = (d.interval_high - d.interval_low for d in (result.density, measured.density))
    assert wide > narrow


def test_contrast_crop_is_refused(screened: Callable[[str], ScreeningResult]) -> None:
    """Arterial phase, T12 cut, no header: no body can be named, so no aorta is looked for beside one."""
    result = screened(f"{EXAMPLE}/contrast_crop_t12/ct_cropped.nii.gz")
    assert result.verdict == "refused"
    assert "levels_not_covered" in refusals(result)
    assert result.bodies_above > 5


@pytest.mark.parametrize("name", ["not_ct/mr_brain", "not_ct/seg_named_like_ct"])
def test_what_is_not_ct_is_refused(screened: Callable[[str], ScreeningResult], name: str) -> None:
    result = screened(name)
    assert result.verdict == "refused"
    assert refusals(result) == {"not_ct"}


@pytest.mark.parametrize("name", ["693_J2KI", "693_J2KR", "693_UNCI", "693_UNCR"])
def test_head_ct_of_one_slice_is_refused(screened: Callable[[str], ScreeningResult], name: str) -> None:
    """One slice, or one four times: all files of the study in the folder are read, and these are the same slice."""
    result = screened(f"dicom_odd/files/{name}.dcm")
    assert result.verdict == "refused"
    assert refusals(result) & {"single_slice", "duplicate_positions"}
    assert result.levels_found == ()


@pytest.mark.parametrize(
    "name",
    [
        f"{EXAMPLE}/full/totalseg.nii.gz",
        "ct_verse_mask/sub-verse004_seg-vert_msk.nii.gz",
        "ct_tptbox_l3/sub-ct_seg-vert_label-22_msk.nii.gz",
    ],
)
def test_masks_are_not_scans(screened: Callable[[str], ScreeningResult], name: str) -> None:
    result = screened(name)
    assert result.verdict == "refused"
    assert "not_hounsfield_units" in refusals(result)


def test_a_table_is_unusable(screened: Callable[[str], ScreeningResult]) -> None:
    assert screened("cxr_frontal/index.csv").verdict == "unusable"


# --- what must be measured ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def measured(screened: Callable[[str], ScreeningResult]) -> ScreeningResult:
    """Return the result of the one scan that shows L1 and L2."""
    return screened(f"{EXAMPLE}/full/example_ct.nii.gz")


@pytest.fixture(scope="session")
def reference(real_data: Path) -> NDArray[np.integer]:
    """Return the reference bodies, 1 = L1 and 2 = L2, on the canonical grid."""
    image = nib.as_closest_canonical(nib.load(real_data / EXAMPLE / "full" / "derived_body_mask_L1is1_L2is2.nii.gz"))
    return np.asarray(image.dataobj)


def test_l1_and_l2_are_found_and_measured(measured: ScreeningResult) -> None:
    assert measured.verdict == "accepted_with_warnings"
    assert [m.level for m in measured.levels] == [L1, L2]
    assert measured.density is not None
    assert measured.status is not None
    assert warned(measured) >= {"kvp_unknown"}


def test_centre_slices_lie_within_one_slice_of_the_reference(
    measured: ScreeningResult, reference: NDArray[np.integer]
) -> None:
    for m, label in zip(measured.levels, (1, 2), strict=True):
        centre = float(np.argwhere(reference == label)[:, 2].mean())
        assert abs(m.slice_index - centre) <= 1.5  # one slice, and the rounding of both


def test_trabecular_median_lies_within_10_hu_of_the_eroded_reference(
    measured: ScreeningResult, reference: NDArray[np.integer], real_data: Path
) -> None:
    scan = nib.as_closest_canonical(nib.load(real_data / EXAMPLE / "full" / "example_ct.nii.gz"))
    hu = np.asarray(scan.dataobj)
    for m, label in zip(measured.levels, (1, 2), strict=True):
        eroded = ndimage.binary_erosion(reference == label)
        assert m.hu.median == pytest.approx(np.median(hu[eroded]), abs=10)


def test_outlines_agree_in_the_middle_third(
    real_data: Path, reference: NDArray[np.integer], models: ScreeningModels, tmp_path: Path
) -> None:
    screen_to_folder(Study("ct", real_data / EXAMPLE / "full" / "example_ct.nii.gz"), tmp_path, models=models)
    labels = np.asarray(nib.as_closest_canonical(nib.load(tmp_path / "labels.nii.gz")).dataobj)
    for level, label in ((L1, 1), (L2, 2)):
        slices = np.flatnonzero((reference == label).any(axis=(0, 1)))
        third = len(slices) // 3
        middle = slices[third : len(slices) - third]
        ours, theirs = labels[:, :, middle] == level.label, reference[:, :, middle] == label
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) >= 0.9


def test_models_leave_the_scan_as_it_was(real_data: Path, models: ScreeningModels) -> None:
    from osteo_monai.imaging import read_ct

    volume = read_ct(real_data / EXAMPLE / "full" / "example_ct.nii.gz")
    before = volume.hu.copy()
    screen_volume(volume, models)
    np.testing.assert_array_equal(volume.hu, before)


def test_same_scan_gives_the_same_result(
    real_data: Path, models: ScreeningModels, measured: ScreeningResult, tmp_path: Path
) -> None:
    again = screen_to_folder(Study("ct", real_data / EXAMPLE / "full" / "example_ct.nii.gz"), tmp_path, models=models)
    assert again.levels == measured.levels
    assert again.density == measured.density


def reoriented(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """Return the image with its axes in another order and direction; no value changes."""
    start = nib.orientations.io_orientation(image.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(axes)))
    turned: nib.Nifti1Image = image.as_reoriented(change)
    return turned


def resampled(image: nib.Nifti1Image, spacing: tuple[float, float, float]) -> nib.Nifti1Image:
    """Return the image on a grid of another spacing (mm), by linear interpolation."""
    old = np.asarray(nib.affines.voxel_sizes(image.affine))
    zoom = np.asarray(spacing) / old
    shape = tuple(int(n) for n in np.floor((np.array(image.shape) - 1) / zoom) + 1)
    values = ndimage.affine_transform(
        np.asarray(image.dataobj, dtype=np.float32), zoom, output_shape=shape, order=1, mode="nearest"
    )
    affine = image.affine.copy()
    affine[:3, :3] = image.affine[:3, :3] * zoom
    return nib.Nifti1Image(np.round(values).astype(np.int16), affine)


def cropped(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the image without some outer columns and rows: another matrix, not square."""
    part: nib.Nifti1Image = image.slicer[9:-4, 3:-6, 2:]
    return part


def same_measurement(result: ScreeningResult, expected: ScreeningResult, hu: float) -> None:
    assert [m.level for m in result.levels] == [m.level for m in expected.levels], result.findings
    for m, e in zip(result.levels, expected.levels, strict=True):
        assert m.hu.median == pytest.approx(e.hu.median, abs=hu)
        np.testing.assert_allclose(m.centre_mm, e.centre_mm, atol=3.0)


@pytest.mark.parametrize("axes", ["LPS", "LAS", "PIR", "ASR", "SPL", "IRA"])
def test_orientation_changes_nothing(
    real_data: Path, models: ScreeningModels, measured: ScreeningResult, tmp_path: Path, axes: str
) -> None:
    image = nib.Nifti1Image.from_filename(real_data / EXAMPLE / "full" / "example_ct.nii.gz")
    path = tmp_path / "ct.nii.gz"
    nib.save(reoriented(image, axes), path)
    result = screen_to_folder(Study("ct", path), tmp_path / "out", models=models)
    same_measurement(result, measured, hu=0.01)
    assert nib.Nifti1Image.from_filename(tmp_path / "out" / "labels.nii.gz").shape == reoriented(image, axes).shape


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: resampled(image, (1.5, 1.5, 2.0)), id="1.5 x 1.5 x 2 mm"),
        pytest.param(lambda image: resampled(image, (2.0, 2.6, 4.0)), id="2 x 2.6 x 4 mm"),
        pytest.param(cropped, id="109 x 92 matrix"),
    ],
)
def test_grid_changes_little(
    real_data: Path,
    models: ScreeningModels,
    measured: ScreeningResult,
    tmp_path: Path,
    change: Callable[[nib.Nifti1Image], nib.Nifti1Image],
) -> None:
    image = nib.Nifti1Image.from_filename(real_data / EXAMPLE / "full" / "example_ct.nii.gz")
    path = tmp_path / "ct.nii.gz"
    nib.save(change(image), path)
    same_measurement(screen_to_folder(Study("ct", path), tmp_path / "out", models=models), measured, hu=3.0)
