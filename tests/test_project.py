"""What holds the project together outside its code: links, pins, sizes, and nothing that belongs to one machine."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MIB = 1024**2
SKIPPED = {".git", ".venv", "demo", "cohorts", "build", "dist", "eval", "data", "mlruns", "__pycache__"}


def project_files(*suffixes: str) -> list[Path]:
    files: list[Path] = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [b for b in below if b not in SKIPPED and not b.endswith(("_cache", ".egg-info"))]
        files += [Path(folder, name) for name in names if not suffixes or Path(name).suffix in suffixes]
    return sorted(files)


@pytest.mark.parametrize("page", project_files(".md"), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not re.match(r"[a-z]+:", t) and not (page.parent / t).exists()]
    assert not missing


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in map(Requirement, declared):
        name = canonicalize_name(requirement.name)
        if name != project["name"]:
            assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"


def test_shipped_weights_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (ROOT / "bundles").glob("*/models/*.pt")}
    assert all(size <= 16 * MIB for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 64 * MIB


def test_nothing_belongs_to_one_machine() -> None:
    # put together here, so that this file does not find itself
    words = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "/op" + "t/", "py" + "pi.org"]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in project_files(".py", ".json", ".toml", ".txt", ".md", ".cff", ".conf", ".j2", ".html", "")
        for word in words
        if word in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert not found
