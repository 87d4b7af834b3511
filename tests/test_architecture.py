"""The arrows of docs/architecture.md: which module may import which."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "osteo_monai"

_BASE = {"domain", "errors", "utils"}

MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "utils": set(),
    "errors": {"domain"},
    "norms": _BASE,
    "imaging": {"norms"} | _BASE,
    "data": {"norms", "imaging"} | _BASE,
    "measurement": {"norms", "imaging"} | _BASE,
    "networks": _BASE,
    "transforms": {"imaging"} | _BASE,
    "losses": {"transforms"} | _BASE,
    "inferers": {"networks", "transforms"} | _BASE,
    "statistics": {"data"} | _BASE,
    "virtual": {"imaging", "data", "norms"} | _BASE,
    "bundle": {"inferers", "tracking"} | _BASE,
    "tracking": {"data"} | _BASE,
    "risk": {"data", "statistics"} | _BASE,
    "screening": {"bundle", "measurement", "imaging", "inferers", "transforms", "risk", "norms", "reporting"} | _BASE,
    "cohort": {"screening", "data", "imaging", "measurement", "bundle"} | _BASE,
    "reporting": {"screening", "statistics", "data", "imaging", "norms"} | _BASE,
    # one module each until they are split
    "training": set(),
    "evaluation": {"data", "transforms"} | _BASE,
    "radiographs": {"data", "transforms", "tracking"} | _BASE,
}
"""``cli`` may import everything and nothing may import it."""


def modules() -> list[str]:
    names = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    return sorted(names - {"__init__", "__main__", "cli"})


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


def test_reporting_imports_only_results_of_screening() -> None:
    imported_from = {n for n in imports_of("reporting") if n.startswith("screening")}
    assert imported_from <= {"screening.result", "screening.images"}
