"""Content of the wheel. ``tools/check_wheel.sh`` installs it and screens with it."""

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def tracked_files() -> list[str]:
    """Return the paths under version control that exist, relative to the root."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs a checkout with version control")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: an earlier ``build`` folder could add files."""
    pytest.importorskip("setuptools", minversion="77.0.3")
    source = tmp_path_factory.mktemp("source")
    for name in tracked_files():
        if not name.startswith(("tests/", "docs/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    left_behind = source / "bundles" / "vertebra_localization_ct" / "eval" / "predictions.csv"
    left_behind.parent.mkdir()
    left_behind.touch()
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(target), str(source)], check=True)
    return zipfile.ZipFile(next(target.glob("*.whl")))


@pytest.fixture(scope="module")
def description(wheel: zipfile.ZipFile) -> Message:
    """The core metadata of the wheel."""
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode("utf-8"))


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("osteo_monai", "osteo_monai"),
        ("bundles", "osteo_monai_bundles"),
        ("data_manifests", "osteo_monai_data_manifests"),
    ],
)
def test_holds_every_file_of_a_folder(folder: str, package: str, wheel: zipfile.ZipFile) -> None:
    content = {name for name in tracked_files() if name.startswith(f"{folder}/")}
    # parts that several bundles share are written into each bundle
    content = {name for name in content if not name.startswith("bundles/_")}
    assert content
    assert {name.replace(folder, package, 1) for name in content} <= set(wheel.namelist())


def test_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    packages = {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()}
    assert packages == {"osteo_monai", "osteo_monai_bundles", "osteo_monai_data_manifests"}
    assert not [name for name in wheel.namelist() if "/eval/" in name or "__pycache__" in name]


def test_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(file.compress_size for file in wheel.infolist()) < 64 * 1024**2


def test_metadata(description: Message) -> None:
    assert {label.partition(",")[0] for label in description.get_all("Project-URL", [])} == {
        "Changelog", "Documentation", "Homepage", "Issues", "Source",
    }  # fmt: skip
    assert set(description.get_all("Provides-Extra", [])) == {"cluster", "excel", "jpeg", "onnx", "pacs", "texture"}
    assert description["Requires-Python"] == ">=3.11"
    assert description["License-Expression"] == "Apache-2.0"


def test_tools_of_developers_are_no_dependencies(description: Message) -> None:
    requirements = " ".join(description.get_all("Requires-Dist", []))
    assert not [name for name in ("pytest", "mypy", "ruff", "hypothesis", "spekpy") if name in requirements]


def test_large_libraries_are_optional(description: Message) -> None:
    required = [r for r in description.get_all("Requires-Dist", []) if "extra ==" not in r]
    names = {requirement.split(">")[0].split("<")[0].split(";")[0].strip() for requirement in required}
    assert not {"itk", "itk-bonemorphometry", "itk-texturefeatures", "openpyxl", "spekpy"} & names
    assert "xgboost-cpu" in names


def test_command_is_installed(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "osteo-monai = osteo_monai.cli" in wheel.read(name).decode()
