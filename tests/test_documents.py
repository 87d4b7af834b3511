"""Commands and code of the documents run as printed, with small options."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = "data_manifests/recipes/virtual_demo.json"
SMALL = {"virtual ct": ["--matrix", "128"], "virtual radiograph": ["--rows", "512"]}
"""Options added to a command of a document so that it takes seconds."""


def blocks(document: str, language: str, section: str | None = None) -> list[str]:
    """Return the code blocks of a language in a document, or in one of its sections."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no {language} block in {section or 'any section'}"
    return found


def commands(section: str) -> Iterator[list[str]]:
    """Yield the words of each ``osteo-monai`` command in a section of the README."""
    for block in blocks("README.md", "sh", section):
        for line in block.splitlines():
            command = shlex.split(line, comments=True)
            if command and command[0] == "osteo-monai":
                yield command[1:]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command with this interpreter in a folder."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["osteo-monai"].partition(":")
    code = f"import sys; from {module} import {function}; sys.argv[0] = 'osteo-monai'; sys.exit({function}())"
    extra = next((SMALL[key] for key in SMALL if " ".join(words).startswith(key)), [])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *words, *extra], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_commands_of_the_readme_run(tmp_path: Path) -> None:
    recipe = json.loads((ROOT / RECIPE).read_text(encoding="utf-8"))
    recipe["acquisitions"] = [scan | {"matrix": 128} for scan in recipe["acquisitions"]]
    small_recipe = tmp_path / RECIPE
    small_recipe.parent.mkdir(parents=True)
    small_recipe.write_text(json.dumps(recipe), encoding="utf-8")
    names = {"STUDY": "ct/dicom", "CHEST.png": "film/chest_frontal.png", "DIR": "result"}
    count = 0
    for command in [*commands("Virtual patients"), *commands("Screening")]:
        names["DIR"] = f"result_{count}"
        done = run([names.get(word, word) for word in command], tmp_path)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        count += 1
    assert count >= 7
    for result in tmp_path.glob("result_*"):
        assert json.loads((result / "result.json").read_text(encoding="utf-8"))["verdict"].startswith("accepted")


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/first_steps.md"])
def test_python_blocks_run(document: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("\n".join(blocks(document, "python")), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_first_steps_begin_with_twenty_lines() -> None:
    # a notebook's first cell: from the import to a measured level
    assert len(blocks("docs/first_steps.md", "python")[0].splitlines()) <= 20


@pytest.mark.parametrize("section", ["Screening", "Virtual patients", "Your own data"])
def test_commands_exist(section: str, tmp_path: Path) -> None:
    verbs = {" ".join(words[:2]) if words[0] in ("virtual", "manifest") else words[0] for words in commands(section)}
    for verb in verbs:
        done = run([*verb.split(), "--help"], tmp_path)
        assert done.returncode == 0, f"{verb}: {done.stderr}"
