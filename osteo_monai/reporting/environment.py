"""The Jinja environment of all reports: one loader, one style sheet, one set of filters."""

from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from osteo_monai.reporting.numbers import FILTERS

__all__ = ["block", "render"]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("osteo_monai.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    # one markup of figures for all templates
    environment.globals["figure"] = vars(environment.get_template("macros.html.j2").module)["figure"]
    return environment


def render(name: str, values: Mapping[str, object]) -> str:
    """Return the page of a template of this package.

    Args:
        name: file of the template.
        values: every name that the template uses.

    Raises:
        jinja2.UndefinedError: if a name is missing.
    """
    return _environment().get_template(name).render(values)


@cache
def block(source: str) -> Template:
    """Return a template from its source; values are escaped as in the templates of files."""
    return _environment().from_string(source)
