"""Location of the bundles on disk."""

import os
from pathlib import Path

from osteo_monai.errors import ModelMissingError

__all__ = ["BUNDLES_VARIABLE", "SOURCE_BUNDLES", "find_bundle", "install_command", "user_bundles"]

BUNDLES_VARIABLE = "OSTEO_BUNDLES"
"""Environment variable with a folder of bundles; it overrides the source tree and the installed package."""

_ROOT = Path(__file__).resolve().parents[2]

SOURCE_BUNDLES = _ROOT / "bundles" if (_ROOT / "pyproject.toml").is_file() else None
"""Folder of the bundles in the source tree of this package; ``None`` for an installed package."""

_INSTALLED_BUNDLES = _ROOT / "osteo_monai_bundles"
"""Folder that the wheel installs beside this package."""


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the absolute folder of a bundle.

    A path with a folder separator is used as it is. A bare name is looked up in ``$OSTEO_BUNDLES``, in the source tree
    of this package, beside the installed package and in ``user_bundles()``, in this order; never in the current folder
    or on the search path of Python, since the expressions of a bundle's config are code.

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
            return Path(os.path.abspath(folder))  # links stay: their target may have another name
    name = Path(text).name
    raise ModelMissingError(
        f"bundle must be an installed one or a folder with configs/inference.json, got {name!r}; "
        f"{install_command(name)}"
    )


def install_command(name: str) -> str:
    """Return the advice that a message about a missing bundle ends with."""
    return (
        f"install it with 'osteo-monai bundle fetch {name} --source URL', reinstall the wheel of osteo-monai, which "
        f"has all bundles, or set {BUNDLES_VARIABLE} to their folder"
    )


def user_bundles() -> Path:
    """Return the folder into which bundles are fetched: ``$OSTEO_BUNDLES``, or one in the user's data folder."""
    if folder := os.environ.get(BUNDLES_VARIABLE):
        return Path(folder)
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path("~/.local/share").expanduser()
    return base / "osteo_monai" / "bundles"


def _roots() -> list[Path]:
    """List the folders that may hold bundles."""
    roots = [Path(folder)] if (folder := os.environ.get(BUNDLES_VARIABLE)) else []
    roots += [SOURCE_BUNDLES] if SOURCE_BUNDLES is not None else []
    user = user_bundles()  # relative without a home folder, and so in the current folder
    return [*roots, _INSTALLED_BUNDLES, *([user] if user.is_absolute() else [])]
