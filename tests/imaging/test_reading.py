import shutil

import pytest

from osteo_monai.domain import UnusableInputError
from osteo_monai.imaging import find_studies, read_ct


def study(uid):
    return lambda ds, k: setattr(ds, "StudyInstanceUID", uid)


def test_one_study_is_its_own_path(make_series, make_nifti, tmp_path):
    folder = make_series()
    assert find_studies(folder) == [folder]
    assert find_studies(tmp_path) == [tmp_path]
    one = next(iter(folder.iterdir()))
    assert find_studies(one) == [one]


def test_series_of_one_study_in_several_folders_are_one_entry(make_series, tmp_path):
    for name in ("a/1", "a/2"):
        (tmp_path / name).mkdir(parents=True)
        make_series(study("1.2.3"), name=name)
    (tmp_path / "b").mkdir()
    make_series(study("1.2.4"), name="b")
    assert find_studies(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_a_study_that_lies_around_another_is_not_given_by_a_folder_that_holds_both(make_series, tmp_path):
    make_series(study("1.2.3"), name="outer")
    (tmp_path / "outer" / "inner").mkdir()
    make_series(study("1.2.4"), name="outer/inner")
    assert find_studies(tmp_path) == [tmp_path / "outer", tmp_path / "outer" / "inner"]


def test_nifti_files_are_studies(make_series, make_nifti, tmp_path):
    first, second = make_nifti(name="x.nii.gz"), make_nifti(name="y.nii")
    (tmp_path / "x.json").write_text("{}")
    assert find_studies(tmp_path) == [first, second]
    folder = make_series()
    assert find_studies(tmp_path) == [folder, first, second]


def test_nothing_found(tmp_path):
    with pytest.raises(UnusableInputError, match="no file or folder"):
        find_studies(tmp_path / "absent")
    with pytest.raises(UnusableInputError, match="Nothing"):
        find_studies(tmp_path)


def test_folder_with_nifti(make_nifti, make_series, tmp_path, canonical_hu):
    make_nifti(name="x.nii.gz")
    assert read_ct(tmp_path).original_shape == canonical_hu.shape
    make_nifti(name="y.nii.gz")
    with pytest.raises(UnusableInputError, match="2 NIfTI files"):
        read_ct(tmp_path)
    folder = make_series()
    shutil.copy(tmp_path / "x.nii.gz", folder)
    assert [f.code for f in read_ct(folder).findings] == ["nifti_ignored"]
