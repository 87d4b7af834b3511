"""One Jinja environment, one style sheet and one form of figures in all reports."""

from pathlib import Path

import jinja2
import pytest

from osteo_monai import reporting
from osteo_monai.reporting.environment import block, render

PACKAGE = Path(reporting.__file__).parent


def test_values_are_escaped_and_missing_names_are_errors() -> None:
    assert block("<p>{{ name }}</p>").render(name="<b>") == "<p>&lt;b&gt;</p>"
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        block("<p>{{ name }}</p>").render()
    with pytest.raises(jinja2.UndefinedError):
        render("screening.html.j2", {})


def test_there_is_one_environment_and_one_style_sheet() -> None:
    sources = {p: p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*") if p.suffix in (".py", ".j2", ".css")}
    assert [p.name for p, text in sources.items() if "Environment(" in text] == ["environment.py"]
    assert [p.name for p, text in sources.items() if "<style" in text] == ["base.html.j2"]
    assert [p.name for p, text in sources.items() if "<figure" in text] == ["macros.html.j2"]
    assert [p.name for p in sources if p.suffix == ".css"] == ["style.css"]
    pages = {p.name for p, text in sources.items() if '{% extends "base.html.j2" %}' in text}
    assert pages == {"screening.html.j2", "batch.html.j2", "evaluation.html.j2", "evidence.html.j2", "tables.html.j2"}
