"""Places where bundles are found, and a message without paths when there is none."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from osteo_monai import bundle
from osteo_monai.bundle import BUNDLES_VARIABLE, find_bundle, user_bundles
from osteo_monai.errors import ModelMissingError

NAME = "vertebral_column_ct"
CHECKOUT = Path(__file__).parents[2] / "bundles"


def _bundle(root: Path, name: str) -> Path:
    (root / name / "configs").mkdir(parents=True)
    (root / name / "configs" / "inference.json").write_text("{}")
    return root / name


def test_a_name_is_found_in_the_variable_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BUNDLES_VARIABLE, raising=False)
    assert find_bundle(NAME) == CHECKOUT / NAME
    copy = _bundle(tmp_path, NAME)
    monkeypatch.setenv(BUNDLES_VARIABLE, str(tmp_path))
    assert find_bundle(NAME) == copy
    assert find_bundle("vertebra_localization_ct") == CHECKOUT / "vertebra_localization_ct"


def test_a_name_is_found_in_the_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BUNDLES_VARIABLE, raising=False)
    bundle = _bundle(tmp_path / "osteo_monai_bundles", "installed")
    monkeypatch.setattr("osteo_monai.bundle.find._INSTALLED_BUNDLES", tmp_path / "osteo_monai_bundles")
    assert find_bundle("installed") == bundle


def test_a_name_is_found_among_the_fetched_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BUNDLES_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_bundles() == tmp_path / "osteo_monai" / "bundles"
    bundle = _bundle(user_bundles(), "fetched")
    assert find_bundle("fetched") == bundle


def test_a_link_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a link's target may have another name, such as a checksum."""
    (tmp_path / "store").mkdir()
    (tmp_path / NAME).symlink_to(_bundle(tmp_path / "store", "0f3c"))
    monkeypatch.setenv(BUNDLES_VARIABLE, str(tmp_path))
    assert find_bundle(NAME) == tmp_path / NAME


def test_a_path_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = _bundle(tmp_path, NAME)
    monkeypatch.chdir(tmp_path)
    assert find_bundle(bundle) == bundle
    assert find_bundle(f"./{NAME}") == bundle
    monkeypatch.chdir(bundle)
    assert find_bundle(".") == bundle


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("folder", [".", "bundles", "osteo_monai_bundles"])
def test_a_name_is_never_taken_from_the_current_folder(
    folder: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study folder may hold a folder of that name, and expressions of its config are code."""
    current, root = tmp_path / "current", tmp_path / "elsewhere" / folder if linked else tmp_path / "current" / folder
    current.mkdir()
    for name in (NAME, "foreign"):
        _bundle(root, name)
    (root / "__init__.py").touch()
    if linked and folder != ".":
        (current / folder).symlink_to(root)
    elif linked:
        (current / "foreign").symlink_to(root / "foreign")
    monkeypatch.chdir(current)
    monkeypatch.syspath_prepend("")  # as python -m does
    monkeypatch.delenv(BUNDLES_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", ".")
    monkeypatch.setenv("HOME", ".")
    assert find_bundle(NAME) == CHECKOUT / NAME
    with pytest.raises(ModelMissingError):
        find_bundle("foreign")


@pytest.mark.parametrize("name", ["no_such_bundle", "somewhere/no_such_bundle"])
def test_a_missing_bundle_is_reported_without_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUNDLES_VARIABLE, str(tmp_path))
    with pytest.raises(ModelMissingError, match="got 'no_such_bundle'; install it with 'osteo-monai bundle") as caught:
        find_bundle(name)
    assert "'osteo-monai bundle fetch no_such_bundle --source URL'" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "/no_such" not in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_finding_a_bundle_loads_neither_torch_nor_monai() -> None:
    code = "import sys; from osteo_monai.bundle import find_bundle; print({'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_public_name_can_be_imported() -> None:
    assert all(hasattr(bundle, name) for name in bundle.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        getattr(bundle, "no_such_name")  # noqa: B009  # a plain access fails the type check


def as_protocol(loaded: bundle.InferenceBundle) -> bundle.Bundle:
    """Type check only: the runner has the interface that screening needs."""
    return loaded
