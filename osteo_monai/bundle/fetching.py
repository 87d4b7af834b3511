"""Installation of bundles from an address, a folder, an archive or a Hugging Face repository."""

import json
import re
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlparse
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from osteo_monai.bundle.find import user_bundles
from osteo_monai.bundle.packing import MODEL_INFO, archive_name, copy_published
from osteo_monai.bundle.pins import check_trusted, differences, pinned_files, pinned_names, pinned_version
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.archives import ArchiveError, ArchiveLimits, unpack_zip
from osteo_monai.utils.files import file_sha256, writing, writing_folder
from osteo_monai.utils.inputs import read_input

__all__ = ["fetch_bundle"]

_LIMITS = ArchiveLimits(files=1000, mib=4096, ratio=200)
_SCHEMES = ("http", "https")
_TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 18


def fetch_bundle(
    name: str, source: str, root: Path | None = None, trust: bool = False, overwrite: bool = False
) -> Path:
    """Copy a bundle into the folder where ``find_bundle`` looks, after a check of its files against this release.

    Args:
        name: name of the bundle.
        source: folder of the bundle, or of several; zip archive; address of an archive, of a static zoo that
            ``pack_bundles`` wrote, or of a Hugging Face repository (``https://huggingface.co/OWNER/NAME``), from which
            only bundles of this release can be fetched.
        root: folder to write into; ``user_bundles()`` if ``None``.
        trust: also install a bundle that this release does not pin; loading it needs trust again.
        overwrite: replace the bundle if it is there.

    Returns:
        Folder of the bundle.

    Raises:
        ConfigError: when the bundle is not trusted, is there already, or the name is none of a bundle.
        UnusableInputError: when the source has no such bundle, is damaged or cannot be reached.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ConfigError(f"bundle must be a name of letters, digits and underscores, got {name!r}")
    target = (user_bundles() if root is None else root) / name
    if target.exists() and not overwrite:
        raise ConfigError(f"overwrite must be set to replace a bundle, got none; {name} is installed already")
    with TemporaryDirectory(prefix="osteo_monai_bundle_") as temporary:
        found = _obtained(name, source, Path(temporary))
        if not check_trusted(found, trust) and not trust:
            raise UnusableInputError(f"source must hold every file of the bundle, got {differences(found)[0]}")
        with writing_folder(target) as folder:
            copy_published(found, folder)
    return target


def _obtained(name: str, source: str, temporary: Path) -> Path:
    """Return the folder of the bundle: that of the source, or one below ``temporary``."""
    if urlparse(source).scheme in _SCHEMES:
        return _downloaded(name, source, temporary)
    path = Path(source)
    if path.is_dir():
        candidates = [path / name, *([path] if path.resolve().name == name else [])]
        for folder in candidates:
            if (folder / "configs" / "metadata.json").is_file():
                return folder
        index = path / MODEL_INFO
        if index.is_file():
            archive, sha256 = _archive_of(name, index)
            if not urlparse(archive).scheme:
                return _unpacked(name, path / archive, temporary, sha256)
            return _downloaded(name, archive, temporary, sha256)
        if (path / "configs" / "metadata.json").is_file():
            return _renamed(name, path, temporary)
    elif path.is_file():
        return _unpacked(name, path, temporary)
    raise UnusableInputError(f"source must be an address, or a folder or zip archive with {name}, got '{source}'")


def _renamed(name: str, folder: Path, temporary: Path) -> Path:
    """Copy a bundle in a folder of another name, such as a snapshot of a Hugging Face cache."""
    copy_published(folder, temporary / name)
    return temporary / name


def _unpacked(name: str, archive: Path, temporary: Path, sha256: str = "") -> Path:
    if sha256 and file_sha256(archive) != sha256:
        raise UnusableInputError(f"archive must have the SHA-256 of its index, got another one for '{archive.name}'")
    target = temporary / "unpacked"
    try:
        unpack_zip(archive, target, _LIMITS)
    except ArchiveError as error:
        raise UnusableInputError(f"source must be a zip archive of a bundle, got an {error}") from None
    except FileNotFoundError:
        raise UnusableInputError(f"source must hold '{archive.name}', got none") from None
    folder = target / name
    if not (folder / "configs" / "metadata.json").is_file():
        raise UnusableInputError(f"source must hold the folder {name}, got '{archive.name}' without it")
    return folder


def _downloaded(name: str, url: str, temporary: Path, sha256: str = "") -> Path:
    """Download the archive at an address, or that of a zoo or Hugging Face repository."""
    if urlparse(url).scheme not in _SCHEMES:  # an index may name a file of this machine
        raise UnusableInputError(f"source must have addresses that begin with http or https, got '{url}'")
    if urlparse(url).path.endswith(".zip"):
        archive = temporary / f"{name}.zip"
        _download(url, archive, sha256 or None)
        return _unpacked(name, archive, temporary)
    base = url.rstrip("/") + "/"
    index = temporary / "model_info.json"
    if urlparse(url).netloc != "huggingface.co" and _download(urljoin(base, MODEL_INFO), index, optional=True):
        address, sha256 = _archive_of(name, index)
        if not urlparse(address).path.endswith(".zip"):  # another index could lead back to this one
            raise UnusableInputError(f"source must have zip archives in its index, got '{address}'")
        return _downloaded(name, urljoin(base, address), temporary, sha256)
    return _from_repository(name, base, temporary)


def _from_repository(name: str, base: str, temporary: Path) -> Path:
    """Download the pinned files of a Hugging Face repository, or of a folder served in its layout."""
    if name not in pinned_names():
        raise UnusableInputError(f"source must be an archive or zoo for bundles of other releases, got '{base}'")
    branch = "resolve/main/" if urlparse(base).netloc == "huggingface.co" else ""
    for part, sha256 in pinned_files(name).items():
        _download(urljoin(base, branch + quote(part)), temporary / name / part, sha256)
    for part in ("LICENSE", "docs/README.md"):
        _download(urljoin(base, branch + part), temporary / name / part, optional=True)
    return temporary / name


def _archive_of(name: str, index: Path) -> tuple[str, str]:
    """Return address and SHA-256 (empty if not stated) of the archive of this release, else of the latest version."""
    try:
        info: dict[str, dict[str, Any]] = json.loads(read_input(index))
        versions = [key.removeprefix(f"{name}_v") for key in info if key.startswith(f"{name}_v")]
        own = pinned_version(name)
        version = own if own in versions else max(versions, key=_version_order, default=None)
        entry = None if version is None else info[archive_name(name, version)]
        if entry is not None:
            return str(entry["source"]), str(entry.get("sha256", ""))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UnusableInputError("source must have a model_info.json of archives, got a damaged one") from None
    raise UnusableInputError(f"source must hold the bundle {name}, got {len(info)} other archives")


def _version_order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _download(url: str, target: Path, sha256: str | None = None, optional: bool = False) -> bool:
    """Download a file; return whether there is one, which an optional file need not be.

    Raises:
        UnusableInputError: when it cannot be reached, or has another SHA-256.
    """
    try:
        with (
            urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            writing(target) as temporary,
            temporary.open("wb") as file,
            _progress() as bar,
        ):
            size = int(response.headers.get("Content-Length", 0)) or None
            task = bar.add_task(target.name, total=size)
            while chunk := response.read(_CHUNK):
                bar.advance(task, file.write(chunk))
    except HTTPError as error:
        if error.code == 404 and optional:
            return False
        raise UnusableInputError(f"source must have '{url}', got HTTP status {error.code}") from None
    except (HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise UnusableInputError(f"source must be reachable, got '{url}': {reason}") from None
    if sha256 is not None and file_sha256(target) != sha256:
        raise UnusableInputError(f"source must hold the files of this release, got another one for '{url}'")
    return True


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    return Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)
