"""Dependencies between the packages, as docs/architecture.md has them, and limits of every module."""

import ast
import re
from pathlib import Path

import pytest

import osteo_monai

PACKAGE = Path(__file__).parents[1] / "osteo_monai"

_BASE = {"domain", "errors", "utils"}

MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "utils": set(),
    "errors": {"domain"},
    "norms": _BASE,
    "optimizers": _BASE,
    "networks": _BASE,
    "codecs": set(),
    "batch": _BASE,
    "imaging": {"codecs"} | _BASE,
    "measurement": {"imaging"} | _BASE,
    "data": {"imaging", "norms"} | _BASE,
    "transforms": {"imaging"} | _BASE,
    "inferers": _BASE,
    "losses": {"transforms"} | _BASE,
    "metrics": {"transforms"} | _BASE,
    "weights": _BASE,
    "tracking": {"weights"} | _BASE,
    "bundle": {"weights"} | _BASE,
    "statistics": {"data"} | _BASE,
    "virtual": {"data", "imaging", "norms"} | _BASE,
    "handlers": {"data", "metrics", "risk", "tracking", "transforms"} | _BASE,
    "risk": {"data", "statistics"} | _BASE,
    "screening": {"batch", "bundle", "imaging", "measurement", "risk", "transforms"} | _BASE,
    "cohort": {"batch", "data", "imaging", "measurement", "screening"} | _BASE,
    "site_calibration": {"batch", "cohort", "data", "imaging", "measurement", "reporting", "statistics"} | _BASE,
    "experiments": {"bundle", "data", "handlers", "statistics", "tracking", "weights"} | _BASE,
    "reporting": {"data", "norms", "screening", "statistics"} | _BASE,
    "node": {"batch"} | _BASE,
    "screening_files": {"imaging", "reporting", "screening"} | _BASE,
    "dicom_results": {"imaging", "reporting", "screening", "screening_files"} | _BASE,
}
"""``cli`` and the public names in ``osteo_monai/__init__.py`` may import everything, and nothing may import them."""

MOST_LINES = 500


def modules() -> list[str]:
    names = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    return sorted(names - {"__init__", "__main__", "cli"})


def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names of this package that a file imports, late imports included."""
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


@pytest.mark.parametrize("module", modules())
def test_every_allowed_dependency_exists(module: str) -> None:
    unused = MAY_IMPORT[module] - _BASE - {name.split(".")[0] for name in imports_of(module)}
    assert not unused, f"{module} does not import {sorted(unused)}"


def test_no_cycle() -> None:
    graph = {module: {name.split(".")[0] for name in imports_of(module)} - {module} for module in modules()}
    while graph:
        leaves = {module for module, others in graph.items() if not others & set(graph)}
        assert leaves, f"these import each other: {sorted(graph)}"
        graph = {module: others for module, others in graph.items() if module not in leaves}


def test_nothing_imports_the_command_line_or_public_names() -> None:
    for path in PACKAGE.rglob("*.py"):
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "cli.py", "__main__.py"):
            assert "cli" not in {name.split(".")[0] for name in names}, path.name
        if path != PACKAGE / "__init__.py":
            assert not names & set(osteo_monai.__all__), path.name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def unsafe_writes(tree: ast.AST) -> list[int]:
    """Return the lines that write a file in place: a crash there leaves half a file."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        receiver, _, method = ast.unparse(node.func).rpartition(".")
        texts = [str(a.value) for a in node.args[:2] if isinstance(a, ast.Constant)]
        opens = method == "open" and any(re.fullmatch("[wax]b?", t) for t in texts)
        writes = method in ("write_text", "write_bytes") and receiver not in ("", "files")
        in_temporary = "temporary" in (receiver, *map(ast.unparse, node.args[:1]))
        if (opens or writes) and not in_temporary:
            lines.append(node.lineno)
    return lines


def test_writes_in_place_are_found() -> None:
    assert unsafe_writes(ast.parse("path.write_text('a')\nopen(path, 'w')\npath.open('wb')")) == [1, 2, 3]
    safe = ["open(path)", "temporary.write_text('a')", "temporary.open('w')", "write_text(path, 'a')"]
    assert not unsafe_writes(ast.parse("\n".join(safe)))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_written_atomically(path: Path) -> None:
    lines = unsafe_writes(ast.parse(path.read_text(encoding="utf-8")))
    assert not lines, f"{path.name}, lines {lines}: use osteo_monai.utils.files"


def unchecked_reads(tree: ast.AST) -> list[int]:
    """Return the lines that open a file of any kind for reading: a named pipe or a device never ends."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            receiver, _, method = ast.unparse(node.func).rpartition(".")
            of_package = receiver.startswith("files(")
            if (method in ("read_text", "read_bytes") and not of_package) or ast.unparse(
                node
            ) == f"{receiver}.open('rb')":
                lines.append(node.lineno)
    return lines


def test_unchecked_reads_are_found() -> None:
    assert unchecked_reads(ast.parse("path.read_text()\nPath(a).read_bytes()\npath.open('rb')")) == [1, 2, 3]
    assert not unchecked_reads(ast.parse("read_input(path)\nfiles('a').joinpath('b').read_text(encoding='utf-8')"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_regular_files_are_read(path: Path) -> None:
    lines = unchecked_reads(ast.parse(path.read_text(encoding="utf-8")))
    assert not lines, f"{path.name}, lines {lines}: use osteo_monai.utils.inputs"


def test_per_cent_has_one_form_in_messages() -> None:
    """Findings had 41%, tables 41 %: use ``percent_words`` and ``share_words`` of ``osteo_monai.utils.text``."""
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r":\.?\d*%\}", line)
    ]
    assert not found


def test_there_is_one_protocol_of_bundles() -> None:
    """B17: screening had a protocol of its own."""
    nodes = {path: ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in PACKAGE.rglob("*.py")}
    defining = [
        path for path, of in nodes.items() if any(isinstance(n, ast.ClassDef) and n.name == "Bundle" for n in of)
    ]
    assert [str(path.relative_to(PACKAGE)) for path in defining] == ["bundle/runner.py"]


def test_no_target_of_a_bundle_has_the_name_of_a_module() -> None:
    # from Python 3.12 on, the name lookup that MONAI uses returns the module in place of the function
    targets = {
        target
        for path in (PACKAGE.parent / "bundles").glob("*/configs/*.json")
        for target in re.findall(r'"_target_": "(osteo_monai\.[\w.]+)"', path.read_text(encoding="utf-8"))
    }
    assert len(targets) > 20
    assert [t for t in sorted(targets) if (PACKAGE.parent / t.replace(".", "/")).with_suffix(".py").exists()] == []
