"""The public interface: what ``import osteo_monai`` offers, how much it loads, and which types a checker reports."""

import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import osteo_monai

ROOT = Path(__file__).parents[1]
ITEMS = [name for name in osteo_monai.__all__ if name != "__version__"]
HEAVY = {"numpy", "scipy", "pandas", "torch", "monai", "ignite", "mlflow", "pydicom", "pydantic", "typer", "matplotlib"}


def modules_after(statement: str) -> set[str]:
    """Return the names of the modules that a new interpreter has loaded after a statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_no_heavy_library() -> None:
    loaded = modules_after("import osteo_monai")
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("osteo_monai")} == {"osteo_monai"}
    assert len(loaded) < 120, "the standard library's metadata reader only"


def test_domain_types_load_without_torch() -> None:
    loaded = modules_after("from osteo_monai import VertebraLevel, DensityThresholds, ScreeningResult, OsteoError")
    assert not {"torch", "monai", "pandas"} & loaded


@pytest.mark.parametrize("name", ITEMS)
def test_every_name_resolves(name: str) -> None:
    item = getattr(osteo_monai, name)
    assert inspect.isclass(item) or inspect.isfunction(item)
    assert name in dir(osteo_monai)


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_has_the_name_of_its_definition(name: str) -> None:
    """B17: ``make_ct`` and others were aliases of functions with other names."""
    assert getattr(osteo_monai, name).__name__ == name


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(osteo_monai, "no_such_name")  # noqa: B009  mypy would refuse the plain form


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_has_a_runnable_example(name: str) -> None:
    documentation = getattr(osteo_monai, name).__doc__ or ""
    assert ">>> " in documentation
    assert "+SKIP" not in documentation


def test_errors_have_one_root() -> None:
    errors = [getattr(osteo_monai, name) for name in ITEMS if name.endswith("Error")]
    assert len(errors) >= 8
    assert all(issubclass(error, osteo_monai.OsteoError) for error in errors)


def test_items_cross_process_borders() -> None:
    # a name that resolves to another object than the one in its module could not be pickled
    for name in ITEMS:
        assert pickle.loads(pickle.dumps(getattr(osteo_monai, name))) is getattr(osteo_monai, name)


@pytest.fixture(scope="module")
def revealed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """mypy's messages for a file that uses every item, by line."""
    snippet = tmp_path_factory.mktemp("mypy") / "snippet.py"
    lines = ["import osteo_monai", *(f"reveal_type(osteo_monai.{name})" for name in ITEMS)]
    lines += ["osteo_monai.DensityThresholds().no_such_attribute", "osteo_monai.no_such_name"]
    snippet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # an empty configuration, as a user has it: this project's plugins must not be needed
    config = ["--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'user'}"]
    output, errors, _ = api.run([*config, "--no-error-summary", str(snippet)])
    assert not errors
    return {int(line): text for line, text in re.findall(r"snippet\.py:(\d+): (.*)", output)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ITEMS)
def test_type_checkers_see_the_type(name: str, revealed: dict[int, str]) -> None:
    message = revealed[ITEMS.index(name) + 2]
    found = re.search(r'Revealed type is "(.*)"', message)
    assert found, message
    assert found.group(1) != "Any"
    # `ndarray[tuple[Any, ...], ...]` is a type; a parameter or a result `Any` is none
    assert not re.search(r": Any[,) ]|-> Any$", found.group(1))


@pytest.mark.slow
def test_type_checkers_report_wrong_names(revealed: dict[int, str]) -> None:
    assert "no_such_attribute" in revealed[len(ITEMS) + 2]
    assert "no_such_name" in revealed[len(ITEMS) + 3]
