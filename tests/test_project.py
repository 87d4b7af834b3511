"""The project outside its code: links, versions, dependencies, sizes, and no path of one machine."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xgboost
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import osteo_monai

ROOT = Path(__file__).parents[1]
MIB = 1024**2
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
SKIPPED = {".git", ".venv", "demo", "cohorts", "build", "dist", "eval", "data", "mlruns", "__pycache__"}


def project_files(*suffixes: str) -> list[Path]:
    files: list[Path] = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [b for b in below if b not in SKIPPED and not b.endswith(("_cache", ".egg-info"))]
        files += [Path(folder, n) for n in names if n not in SKIPPED and (not suffixes or Path(n).suffix in suffixes)]
    return sorted(files)


@pytest.mark.parametrize("page", project_files(".md"), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not re.match(r"[a-z]+:", t) and not (page.parent / t).exists()]
    assert not missing


def requirements() -> list[Requirement]:
    """Return all dependencies: required ones, extras and groups."""
    declared = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    declared += [entry for group in SETTINGS["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    return [Requirement(text) for text in declared]


def test_every_dependency_is_pinned_within_its_range() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in requirements():
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_version_has_one_source() -> None:
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    release = re.search(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [match and match.group(1) for match in (citation, release)] == [PROJECT["version"]] * 2
    assert osteo_monai.__version__ == PROJECT["version"], "the installed package is older: run `make setup`"
    assert "version" not in PROJECT.get("dynamic", [])


def test_build_needs_a_setuptools_that_reads_the_licence() -> None:
    # licence as an SPDX expression (PEP 639): setuptools before 77.0.3 stops with a schema error
    setuptools = next(r for r in map(Requirement, SETTINGS["build-system"]["requires"]) if r.name == "setuptools")
    assert isinstance(PROJECT["license"], str)
    assert setuptools.specifier.contains("77.0.3")
    assert not setuptools.specifier.contains("77.0.1")


IMPORT_NAMES = {
    "jinja2": "jinja2",
    "dicomweb-client": "dicomweb_client",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "PyYAML": "yaml",
    "pytorch-ignite": "ignite",
    "scikit-learn": "sklearn",
    "xgboost-cpu": "xgboost",
    "itk-bonemorphometry": "BoneMorphometry",
    "itk-texturefeatures": "TextureFeatures",
}
USED_WITHOUT_IMPORT = {
    "fire": "command line of monai.bundle",
    "jsonschema": "monai.bundle verify_metadata",
    "pylibjpeg": "plugin of pydicom",
    "pylibjpeg-libjpeg": "plugin of pydicom",
    "pylibjpeg-openjpeg": "plugin of pydicom",
    "pylibjpeg-rle": "plugin of pydicom",
    "pyjpegls": "plugin of pydicom",
}


def shipped_dependencies() -> list[str]:
    extras = (entry for extra in PROJECT["optional-dependencies"].values() for entry in extra)
    return sorted({Requirement(entry).name for entry in (*PROJECT["dependencies"], *extras)} - set(USED_WITHOUT_IMPORT))


@pytest.mark.parametrize("name", shipped_dependencies())
def test_every_dependency_has_a_use(name: str) -> None:
    module = IMPORT_NAMES.get(name, name)
    statement = re.compile(
        rf"^\s*(import|from) .*\b{module}|import_optional\(\s*[\"']{module}|itk[\w.]*{module}", re.MULTILINE
    )
    users = [p for p in (ROOT / "osteo_monai").rglob("*.py") if statement.search(p.read_text(encoding="utf-8"))]
    assert users, f"{name} is declared and no module imports it"


@pytest.mark.parametrize("group", [name for name in SETTINGS["dependency-groups"] if name != "dev"])
def test_the_group_for_developers_has_every_group(group: str) -> None:
    assert {"include-group": group} in SETTINGS["dependency-groups"]["dev"]


def test_python_versions_agree() -> None:
    workflow = (ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8")
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix
    tested = re.findall(r"[\d.]+", matrix.group(1))
    classified = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert tested == classified
    assert PROJECT["requires-python"] == f">={tested[0]}"


def test_lowest_versions_are_constraints() -> None:
    script = ROOT / "tools" / "lowest_versions.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    lines = done.stdout.split()
    assert len(lines) == len(PROJECT["dependencies"])
    assert all(re.fullmatch(r"[A-Za-z0-9-]+==[\d.]+", line) for line in lines)


def test_no_doctest_is_skipped() -> None:
    word = "+" + "SKIP"
    assert not [
        str(p.relative_to(ROOT))
        for p in project_files(".py")
        if word in p.read_text(encoding="utf-8") and p.name != "test_public_api.py"
    ]


def test_shipped_weights_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (ROOT / "bundles").glob("*/models/*.pt")}
    assert all(size <= 16 * MIB for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 64 * MIB


@pytest.mark.parametrize(("name", "probability"), [("clinical", 0.044288), ("combined", 0.387867)])
def test_shipped_models_of_xgboost_are_read_right(name: str, probability: float) -> None:
    # computed with xgboost 3.2, which wrote the models; xgboost 3.0 computes 0.078 and 0.537
    booster = xgboost.Booster()
    booster.load_model(ROOT / "bundles" / "osteoporosis_classification_chest_xray" / "models" / f"{name}.ubj")
    facts = np.full((1, booster.num_features()), 50.0, dtype=np.float32)
    predicted = booster.predict(xgboost.DMatrix(facts, feature_names=booster.feature_names))
    assert predicted.tolist() == pytest.approx([probability], abs=1e-5)


def test_nothing_belongs_to_one_machine() -> None:
    # joined here, so that this file is no match
    paths = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "/op" + "t/", "py" + "pi.org"]
    matches = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in project_files(
            ".py", ".json", ".toml", ".txt", ".md", ".cff", ".conf", ".j2", ".html", ".sh", ".yml", ""
        )
        for text in paths
        if text in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert not matches


def test_plain_english() -> None:
    done = subprocess.run([sys.executable, "tools/plain_english.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
