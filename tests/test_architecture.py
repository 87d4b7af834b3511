"""The arrows of docs/architecture.md: which module may import which."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "osteo_monai"

MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "norms": {"domain"},
    "manifests": {"domain", "norms", "imaging"},
    "imaging": {"domain"},
    "tracking": {"manifests"},
    "training": set(),
    "networks": set(),
    "transforms": {"domain", "imaging"},
    "losses": {"domain", "transforms"},
    "evaluation": {"domain", "imaging", "manifests", "transforms"},
    "radiographs": {"domain", "manifests", "tracking", "transforms"},
    "clinical": {"domain", "manifests", "statistics"},
    "risk": {"domain", "statistics", "tracking"},
    "inferers": {"domain", "networks", "transforms", "tracking"},
    "statistics": {"domain", "imaging"},
    "measurement": {"domain", "norms", "imaging"},
    "virtual": {"domain", "norms", "manifests", "imaging"},
    # screening.screen ends by having the report written; reporting itself knows the result and nothing else of it
    "screening": {"domain", "norms", "manifests", "imaging", "transforms", "inferers", "measurement", "reporting"}
    | {"clinical", "risk"},
    "reporting": {"domain", "norms", "imaging", "screening"},
}
"""``cli`` may import everything and nothing may import it."""


def modules() -> list[str]:
    names = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    return sorted(names - {"__init__", "cli"})


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of ours that a file imports, without the package's own."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "osteo_monai":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("osteo_monai."):
            found.add(str(node.module).removeprefix("osteo_monai."))
        elif isinstance(node, ast.Import):
            ours = (a.name for a in node.names if a.name.startswith("osteo_monai."))
            found |= {name.removeprefix("osteo_monai.") for name in ours}
    return found


def imports_of(module: str) -> set[str]:
    files = list((PACKAGE / module).rglob("*.py")) or [PACKAGE / f"{module}.py"]
    return set().union(*(imported(ast.parse(file.read_text(encoding="utf-8"))) for file in files))


def test_every_module_has_its_place() -> None:
    assert set(modules()) <= set(MAY_IMPORT)


@pytest.mark.parametrize("module", modules())
def test_arrows_point_one_way(module: str) -> None:
    others = {name.split(".")[0] for name in imports_of(module)} - {module}
    assert others <= MAY_IMPORT[module], f"{module} must not import {sorted(others - MAY_IMPORT[module])}"


def test_reporting_knows_the_result_alone() -> None:
    assert {n for n in imports_of("reporting") if n.startswith("screening")} <= {"screening.result"}
