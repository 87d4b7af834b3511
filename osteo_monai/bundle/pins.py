"""Bundles that a release pins by SHA-256, and the code that other bundles hold.

A config is code: MONAI evaluates its ``$`` expressions and calls its ``_target_``. Bundles are therefore loaded only if
their files are those of the release, or the caller trusts them.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from osteo_monai.bundle.find import SOURCE_BUNDLES
from osteo_monai.errors import ConfigError
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.text import one_line

__all__ = [
    "NEVER_READ",
    "check_trusted",
    "config_files",
    "differences",
    "foreign_code",
    "make_pins",
    "pinned_files",
    "pinned_names",
]

logger = logging.getLogger(__name__)

PINS_FILE = "pins.json"

_READ_FOLDERS = ("configs", "models", "scripts")
"""Folders of a bundle that runs read; files elsewhere are ignored, except code."""

_CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".pkl", ".pickle"})

NEVER_READ = frozenset({".ts", ".onnx", ".csv", ".png", ".md", ".txt"})
"""Suffixes of exports and reports in ``models``, which no run reads."""

_MISSING = " is missing"

_MOST_LINES = 20
"""Lines of code that an error lists; ``osteo-monai bundle verify`` lists all."""


def config_files(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the files of configs of a bundle, by names such as ``inference`` and ``lateral``.

    Raises:
        ConfigError: when a name is that of a file elsewhere, which no check of the bundle covers.
    """
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ConfigError(f"configs must be names of configs of the bundle, got {outside[0]!r}")
    return [str(folder / "configs" / f"{name}.json") for name in names]


def pinned_names() -> list[str]:
    """Return the names of the bundles of this release."""
    return sorted(_pins()["bundles"])


def pinned_version(name: str) -> str | None:
    """Return the version of a bundle in this release; ``None`` when this release does not have it."""
    version: str | None = _pins()["versions"].get(name)
    return version


def pinned_files(name: str) -> Mapping[str, str]:
    """Return the SHA-256 of each pinned file of a bundle, by its path in the bundle.

    Raises:
        ConfigError: when this release has no such bundle.
    """
    bundles: dict[str, dict[str, str]] = _pins()["bundles"]
    if name not in bundles:
        raise ConfigError(f"bundle must be one of {', '.join(sorted(bundles))}, got {name!r}")
    return bundles[name]


def make_pins(bundles: Iterable[Path]) -> dict[str, Any]:
    """Return the content of ``pins.json`` for the folders of bundles.

    Returns:
        ``bundles``: SHA-256 by file, by bundle; ``versions``; ``targets``, ``expressions``: the code in their configs,
        which is the allow-list of ``foreign_code``.
    """
    folders = sorted(bundles)
    code = [found for folder in folders for file in _configs(folder) for found in _code(_parsed(file))]
    return {
        "bundles": {
            folder.name: {name: file_sha256(folder / name) for name in sorted(_read_files(folder)[0])}
            for folder in folders
        },
        "versions": {
            folder.name: json.loads(read_input(folder / "configs" / "metadata.json"))["version"] for folder in folders
        },
        "targets": sorted({text for kind, text in code if kind == "_target_"}),
        "expressions": sorted({text for kind, text in code if kind == "$"}),
    }


def differences(folder: Path) -> list[str]:
    """Return how the files of a bundle differ from those of this release, one phrase each; empty for none.

    The folder is compared with the pinned bundle of its name, or, under another name, with the one that has its
    ``metadata.json``.
    """
    bundles: dict[str, dict[str, str]] = _pins()["bundles"]
    present, links = _read_files(folder)
    digests = {name: file_sha256(folder / name) for name in present}
    metadata = digests.get("configs/metadata.json", "")
    same = (pinned for pinned in bundles.values() if pinned["configs/metadata.json"] == metadata)
    expected = bundles.get(folder.name) or next(same, None)
    if expected is None:
        return ["no bundle of this release has this name or metadata"]
    return [
        *(f"{name}{_MISSING}" for name in sorted(expected.keys() - digests.keys())),
        *(f"{name} is changed" for name in sorted(expected) if name in digests and digests[name] != expected[name]),
        *(f"{name} is added" for name in sorted(digests.keys() - expected.keys())),
        *(f"{name} is a linked folder or no regular file" for name in sorted(links)),
    ]


def foreign_code(folder: Path) -> list[str]:
    """Return the code of a bundle that this release does not have, as ``file: code``.

    Listed are ``_target_`` and ``$`` expressions (``imports`` too) that no pinned config has, macros (``%``), configs
    that are not JSON, and files of code.
    """
    allowed = {"_target_": set(_pins()["targets"]), "$": set(_pins()["expressions"])}
    known = {digest for files in _pins()["bundles"].values() for digest in files.values()}
    lines = []
    for file in _configs(folder):
        if file_sha256(file) in known:
            continue
        name = file.relative_to(folder).as_posix()
        try:
            found = _code(_parsed(file))
        except (ValueError, RecursionError):
            lines.append(f"{name}: not examined, since it is not JSON")
            continue
        lines += [
            f"{name}: {'_target_ ' if kind == '_target_' else ''}{text}"
            for kind, text in dict.fromkeys(found)
            if text not in allowed.get(kind, ())
        ]
    present, links = _read_files(folder)
    lines += [f"{name}: code" for name in sorted(present) if Path(name).suffix.lower() in _CODE]
    return [one_line(line) for line in [*lines, *(f"{name}: link, not examined" for name in sorted(links))]]


def check_trusted(folder: Path, trust: bool = False) -> bool:
    """Check that a bundle is one of this release, or trusted, before any of its configs is parsed.

    Bundles in the source tree of this package are as trusted as its modules, and a bundle of this release without some
    of its files holds no other code. Of a trusted bundle that is not pinned, the differences and the code are logged.

    Args:
        folder: of the bundle.
        trust: load it even if it is not pinned.

    Returns:
        Whether its files are those of this release.

    Raises:
        ConfigError: when they are not, and the bundle is not trusted.
    """
    found = differences(folder)
    if not found:
        return True
    if folder.resolve().parent == SOURCE_BUNDLES or all(phrase.endswith(_MISSING) for phrase in found):
        return False
    code = foreign_code(folder)
    if trust:
        _log_once(folder.name, "".join(f"\n  - {line}" for line in [*found, *code]))
        return False
    more = [f"and {len(code) - _MOST_LINES} more, which 'osteo-monai bundle verify' lists"][: len(code) > _MOST_LINES]
    lines = "".join(f"\n  - {line}" for line in [*code[:_MOST_LINES], *more])
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    raise ConfigError(
        f"bundle must be one that this release pins, or be trusted with --trust-bundle, got {folder.name!r}: "
        f"{found[0]}{others}" + (f"; code in it that this release does not have:{lines}" if code else "")
    )


@cache
def _log_once(name: str, lines: str) -> None:
    logger.warning("The bundle %s is trusted, but this release does not pin it:%s", name, lines)


@cache
def _pins() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files("osteo_monai.bundle").joinpath(PINS_FILE).read_text(encoding="utf-8"))
    return content


def _read_files(folder: Path) -> tuple[set[str], set[str]]:
    """Return the files of a bundle that a run may read, and links that are not followed; paths in the bundle.

    Links to files are followed, since a Hugging Face cache consists of them. Hidden files are left out.
    """
    names, links = set(), set()
    for path, part in _walk(folder):
        suffix = Path(part).suffix.lower()
        read = part.partition("/")[0] in _READ_FOLDERS and "/" in part
        exported = part.startswith("models/") and suffix in NEVER_READ
        if not path.is_file():
            links |= {part} if read or part in _READ_FOLDERS else set()
        elif suffix in _CODE or (read and not exported):
            names.add(part)
    return names, links


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files, and links to folders, with their path in the folder."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(root)
        for name in [*(name for name in folders if (here / name).is_symlink()), *names]:
            if not name.startswith("."):
                yield here / name, (here / name).relative_to(folder).as_posix()


def _configs(folder: Path) -> list[Path]:
    return sorted(folder / name for name in _read_files(folder)[0] if name.startswith("configs/"))


def _parsed(file: Path) -> Any:
    """Return the content of a JSON config, ``None`` for ``logging.conf``, whose classes MONAI checks.

    Raises:
        ValueError: when it is not JSON.
    """
    return None if file.suffix == ".conf" else json.loads(read_input(file))


def _code(part: Any, key: str = "") -> list[tuple[str, str]]:
    """Return kind (``_target_``, ``$`` or ``%``) and text of all code in a config."""
    if isinstance(part, dict):
        return [found for name, value in part.items() for found in _code(value, str(name))]
    if isinstance(part, list):
        return [found for value in part for found in _code(value, key)]
    if not isinstance(part, str):
        return []
    if re.split("#|::", key)[-1] == "_target_":
        return [("_target_", part)]
    return [(part[0], part)] if part.startswith(("$", "%")) else []
