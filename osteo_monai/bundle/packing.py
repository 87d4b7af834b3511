"""Archives of bundles as a model zoo, a Hugging Face repository and a contribution to MONAI's model zoo hold them."""

import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.bundle.pins import NEVER_READ
from osteo_monai.errors import ConfigError
from osteo_monai.utils.files import file_sha256, write_json, write_text, writing, writing_folder
from osteo_monai.utils.inputs import open_input, read_input

__all__ = ["LARGE_FILE_BYTES", "MODEL_INFO", "archive_name", "copy_published", "pack_bundles", "publishing_problems"]

LARGE_FILE_BYTES = 25 * 2**20
"""Size above which MONAI's model zoo wants a link in ``large_files.yml`` in place of a file (its CONTRIBUTING.md)."""

MODEL_INFO = "models/model_info.json"
"""Index of the archives, where ``monai.bundle`` reads that of a GitHub zoo."""

_NEEDED = ("LICENSE", "configs/metadata.json", "configs/train.json", "configs/inference.json", "docs/README.md")

_NEEDED_KEYS = (
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
    *("required_packages_version", "authors", "copyright", "network_data_format", "supported_apps", "eval_metrics"),
)
"""Keys that MONAI's metadata schema 20240725 requires, and those that a page of the zoo shows."""

_OUTPUT = ("eval", "inference")
"""Folders that runs write."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)


def archive_name(name: str, version: str) -> str:
    """Return the name of an archive without suffix: ``NAME_vVERSION``."""
    return f"{name}_v{version}"


def published_files(folder: Path) -> list[str]:
    """Return the files of a bundle that are published, by their sorted paths in it.

    Output of runs, exports, hidden files and links to folders are left out.
    """
    parts = []
    for root, folders, names in os.walk(folder):
        here = Path(root).relative_to(folder)
        if here == Path():
            folders[:] = [name for name in folders if name not in _OUTPUT]
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        parts += [(here / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(
        part for part in parts if not (part.startswith("models/") and Path(part).suffix.lower() in NEVER_READ)
    )


def copy_published(folder: Path, target: Path, leave_out: Sequence[str] = ()) -> None:
    """Copy the published files of a bundle into a folder; links to files become files."""
    for part in published_files(folder):
        if part not in leave_out:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / part, target / part)


def pack_bundles(
    folders: Sequence[Path],
    output: Path,
    base_url: str = "",
    wheel: Path | None = None,
    large_bytes: int = LARGE_FILE_BYTES,
) -> list[Path]:
    """Write bundles as a static zoo; equal bundles give equal bytes.

    Written below ``output``:

    - ``NAME_vVERSION.zip``: archive for ``monai.bundle.download`` and ``osteo-monai bundle fetch``;
    - ``models/model_info.json``: source, SHA-1 (as in MONAI's zoo) and SHA-256 of each archive, with those of other
      archives that are there already;
    - ``models/NAME``: folder for a pull request to MONAI's zoo, with ``large_files.yml`` in place of large files, which
      are written to ``large_files/NAME_vVERSION``;
    - ``huggingface/NAME``: folder for a Hugging Face repository, whose ``README.md`` is the card.

    Args:
        folders: folders of bundles.
        output: folder to write.
        base_url: address at which ``output`` will be served; sources are relative without it.
        wheel: wheel of this package, which the bundles need, to copy beside the archives.
        large_bytes: size above which a file is large.

    Returns:
        Paths of the archives.

    Raises:
        ConfigError: when a bundle cannot be published, or has a large file and ``base_url`` is empty.
    """
    problems = [f"{folder.name}: {problem}" for folder in folders for problem in publishing_problems(folder)]
    if problems:
        raise ConfigError("bundle must be complete, got:" + "".join(f"\n  - {problem}" for problem in problems))
    base = f"{base_url.rstrip('/')}/" if base_url else ""
    index = output / MODEL_INFO
    info: dict[str, Any] = json.loads(read_input(index)) if index.is_file() else {}
    archives = []
    for folder in folders:
        name = archive_name(folder.name, _metadata(folder)["version"])
        large = [part for part in published_files(folder) if (folder / part).stat().st_size > large_bytes]
        if large and not base:
            raise ConfigError(f"base_url must be set for files above {large_bytes} bytes, got none; {large[0]} is one")
        archive = output / f"{name}.zip"
        _write_archive(folder, archive)
        info[name] = {
            "checksum": hashlib.sha1(_content(archive), usedforsecurity=False).hexdigest(),
            "source": f"{base}{archive.name}",
            "sha256": file_sha256(archive),
        }
        _write_zoo_folder(folder, output, large, f"{base}large_files/{name}")
        _write_hugging_face(folder, output / "huggingface" / folder.name)
        archives.append(archive)
    if wheel is not None:
        with writing(output / wheel.name) as copy:
            shutil.copyfile(wheel, copy)
    write_json(index, dict(sorted(info.items())))
    return archives


def publishing_problems(folder: Path) -> list[str]:
    """Return why a bundle cannot be published, one phrase each: files, metadata, version, and links of the card."""
    missing = [f"{part} is missing" for part in _NEEDED if not (folder / part).is_file()]
    problems = [*missing, *([] if any((folder / "models").glob("*.pt")) else ["models has no weights"])]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", folder.name):
        problems.append(f"the name must have small letters, digits and underscores, got {folder.name!r}")
    if missing:
        return problems
    metadata = _metadata(folder)
    problems += [f"metadata.json has no {key!r}" for key in _NEEDED_KEYS if key not in metadata]
    if metadata.get("version") not in metadata.get("changelog", {}):
        problems.append(f"the changelog has no version {metadata.get('version')!r}")
    card = read_input(folder / "docs" / "README.md")
    return problems + [
        f"the card links to {target!r}, which is not in the bundle" for target in _dead_links(folder, card)
    ]


def _dead_links(folder: Path, card: str) -> Iterator[str]:
    """Yield the relative links of a card that leave the bundle or lead nowhere."""
    published = set(published_files(folder))
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", card):
        if not re.match(r"[a-z]+:", target):
            part = os.path.normpath(os.path.join("docs", target)).replace(os.sep, "/")
            if part not in published:
                yield target


def _metadata(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read_input(folder / "configs" / "metadata.json"))
    return content


def _write_archive(folder: Path, target: Path) -> None:
    """Write a zip whose bytes depend on names and contents only: not compressed, since zlib differs between systems."""
    with writing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for part in published_files(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{part}", _EARLIEST)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, _content(folder / part))


def _write_zoo_folder(folder: Path, output: Path, large: Sequence[str], large_url: str) -> None:
    """Write the folder of a pull request, and the large files beside it."""
    uploads = output / "large_files" / large_url.rpartition("/")[2]
    with writing_folder(output / "models" / folder.name) as temporary:
        copy_published(folder, temporary, leave_out=large)
        lines = ["large_files:"]
        for part in large:
            with writing(uploads / part) as upload:
                shutil.copyfile(folder / part, upload)
            lines += [
                f'- path: "{part}"', f'  url: "{large_url}/{part}"',
                f'  hash_val: "{file_sha256(folder / part)}"', '  hash_type: "sha256"',
            ]  # fmt: skip
        if large:
            write_text(temporary / "large_files.yml", "\n".join([*lines, ""]))


def _write_hugging_face(folder: Path, target: Path) -> None:
    """Write the layout that ``monai.bundle.push_to_hf_hub`` uploads, with the metadata that the hub reads."""
    card = read_input(folder / "docs" / "README.md")
    tags = "".join(f"- {tag}\n" for tag in ("monai", "medical", *_tags(card)))
    licence = "apache-2.0" if "Apache License" in read_input(folder / "LICENSE") else "other"
    head = f"---\ntags:\n{tags}library_name: monai\nlicense: {licence}\n---\n\n"
    with writing_folder(target) as temporary:
        copy_published(folder, temporary)
        write_text(temporary / "README.md", head + re.sub(r"\]\((?![a-z]+:|[#/])", "](docs/", card))


def _tags(card: str) -> list[str]:
    """Return the tags of a card as the hub writes them."""
    found = re.search(r"^### \*\*Tags\*\*\n+(.+)$", card, re.MULTILINE)
    return [tag.strip().lower().replace(" ", "-") for tag in found[1].split(",")] if found else []


def _content(path: Path) -> bytes:
    with open_input(path) as stream:
        return stream.read()
