"""Dependencies of screening (B19): nothing above it, not even by a late import."""

import ast
from pathlib import Path

import pytest

import osteo_monai

PACKAGE = Path(osteo_monai.__file__).parent
ABOVE = {"reporting", "screening_files", "cohort", "statistics", "virtual", "cli", "data"}


@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "screening").rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_screening_imports_nothing_above_it(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    areas = {name.split(".")[1] for name in names if name.startswith("osteo_monai.")}
    assert not areas & ABOVE


def test_results_load_without_torch_and_imaging() -> None:
    tree = ast.parse((PACKAGE / "screening" / "result.py").read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    ours = {name.split(".")[1] for name in names if name.startswith("osteo_monai.")}
    assert ours == {"domain", "errors", "measurement", "utils"}


@pytest.mark.parametrize("area", ["screening", "cohort"])
def test_no_assert_is_control_flow(area: str) -> None:
    """B28: asserts vanish under -O."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (PACKAGE / area).rglob("*.py")]
    assert not any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree))
