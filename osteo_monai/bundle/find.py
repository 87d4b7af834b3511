"""Location of the bundles on disk."""

import os
from importlib.util import find_spec
from pathlib import Path

from osteo_monai.errors import ModelMissingError

__all__ = ["BUNDLES_VARIABLE", "find_bundle"]

BUNDLES_VARIABLE = "OSTEO_BUNDLES"
"""Environment variable with the folder of the bundles; it overrides the checkout and the installed package."""

_PACKAGE = "osteo_monai_bundles"
"""Package that installs the bundles beside this one."""


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the absolute folder of a bundle.

    A path with a folder separator is used as it is. A bare name is looked up in ``$OSTEO_BUNDLES``, in the checkout of
    this package and in the installed package ``osteo_monai_bundles``, in this order; never in the current folder, since
    the expressions of a bundle's config are code.

    Raises:
        ModelMissingError: when no such folder has a ``configs/inference.json``.
    """
    text = os.fspath(name_or_path)
    if os.path.dirname(text) or text in (os.curdir, os.pardir):
        folders = [Path(text)]
    else:
        folders = [root / text for root in _roots()]
    for folder in folders:
        if (folder / "configs" / "inference.json").is_file():
            return folder.resolve()
    raise ModelMissingError(
        f"bundle must be an installed one or a folder with configs/inference.json, got {Path(text).name!r}; "
        f"set {BUNDLES_VARIABLE} to the folder of the bundles"
    )


def _roots() -> list[Path]:
    """List the folders that may hold bundles."""
    roots = [Path(__file__).parents[2] / "bundles"]
    if folder := os.environ.get(BUNDLES_VARIABLE):
        roots.insert(0, Path(folder))
    package = find_spec(_PACKAGE)
    if package is not None and package.submodule_search_locations is not None:
        # python -m searches the current folder too, and a package without __init__.py has all folders of its name
        places = map(Path, package.submodule_search_locations)
        roots += [place for place in places if place.resolve().parent != Path.cwd()]
    return roots
