"""Commands and code of the documents run as printed, with small options."""

import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from osteo_monai import cli

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


DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")]
    if path.name != "CHANGELOG.md"  # has names of former releases
)


def mentioned_commands(document: str) -> Iterator[list[str]]:
    """Yield the words of each ``osteo-monai`` command in code of a document, lines in shell blocks joined."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    shell = [
        line for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()
    ]
    inline = re.findall(r"`(osteo-monai [^`]+)`", text)
    for line in [*(line.strip() for line in shell), *inline]:
        if line.startswith("osteo-monai "):
            yield line.split("#")[0].split()[1:]


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return the help of a command, ``None`` if there is no such command."""
    status = cli.run([*words, "--help"])
    text = capsys.readouterr().out
    return text if status == 0 else None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_exist(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for words in mentioned_commands(document):
        if not words or words[0].startswith("-"):
            continue
        group = help_of(words[:1], capsys)
        verb = words[: 2 if group and "COMMAND" in group and len(words) > 1 else 1]
        text = help_of(verb, capsys)
        options = re.findall(r"(?<=\s)--?[a-z][\w-]*", " ".join(words))
        if text is None:
            wrong.append(" ".join(verb))
        else:
            wrong += [f"{' '.join(verb)} {o}" for o in options if not re.search(rf"{o}(?![\w-])", text)]
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_of_the_package_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"\bosteo_monai(?:\.[A-Za-z_]\w*)+", text))):
        assert exists(name), name


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
