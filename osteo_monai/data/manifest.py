"""Reading, checking and writing data manifests.

A manifest is one JSON file. Its splits stand at the top level, as ``monai.data.load_decathlon_datalist`` wants them::

    {"name": "...", "description": "...", "virtual": true, "training": [{"image": "...", ...}], "test": [...]}

so that one file serves MONAI and us. MONAI checks nothing; :func:`read_manifest` checks everything and lists all that
is wrong in one error.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from osteo_monai.data.checks import UNIT_HINTS, contradictions, missing_files, same_content
from osteo_monai.data.record import PATH_FIELDS, Record
from osteo_monai.domain import SPLIT_PATTERN, DensityThresholds
from osteo_monai.errors import ManifestError

SCHEMA_ADDRESS = "manifest.schema.json"


class Header(BaseModel):
    """What a manifest says about itself, beside its splits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    virtual: bool
    """True if the people are simulated; every number that comes from them must then say so."""
    licence: str | None = None
    source: str | None = None
    """Where the images and values come from; for a virtual cohort the recipe and the version that made it."""


class Manifest(BaseModel):
    """A checked manifest: its header and the records of each split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: Header
    splits: dict[Annotated[str, Field(pattern=SPLIT_PATTERN)], tuple[Record, ...]]

    def records(self) -> Iterator[tuple[str, int, Record]]:
        """Every record with its split and its place in it."""
        for split, records in self.splits.items():
            for place, record in enumerate(records):
                yield split, place, record

    def moved(self, old: Path, new: Path) -> "Manifest":
        """Return the manifest with its paths, relative to the folder ``old`` so far, relative to the folder ``new``."""
        splits = {split: tuple(r.moved(old, new) for r in records) for split, records in self.splits.items()}
        return self.model_copy(update={"splits": splits})

    def as_json(self) -> dict[str, Any]:
        """The file's content: header and splits side by side, unknown fields left out."""
        content: dict[str, Any] = self.header.model_dump(mode="json", exclude_none=True)
        for split, records in self.splits.items():
            content[split] = [record.model_dump(mode="json", exclude_none=True) for record in records]
        return content


def join_manifests(paths: Sequence[Path], folder: Path, name: str) -> Manifest:
    """Return one manifest with the splits of several, such as a cohort and the external centres it is tested on.

    Records of splits of the same name stand one after the other, in the order of ``paths``.

    Args:
        paths: the manifests; their paths are made relative to ``folder``.
        folder: where the new one will stand.
        name: of the new one.

    Raises:
        ManifestError: one of them is wrong, or some hold virtual people and others do not.
    """
    manifests = [read_manifest(path).moved(path.parent, folder) for path in paths]
    if len({m.header.virtual for m in manifests}) > 1:
        raise ManifestError(name, ["virtual and real people must not stand in one manifest"])
    splits: dict[str, tuple[Record, ...]] = {}
    for manifest in manifests:
        for split, records in manifest.splits.items():
            splits[split] = splits.get(split, ()) + records
    sources = "; ".join(f"{path.name} of {m.header.name}" for path, m in zip(paths, manifests, strict=True))
    header = Header(
        name=name,
        description="Joined: " + "; ".join(m.header.description.rstrip(".") for m in manifests) + ".",
        virtual=manifests[0].header.virtual,
        source=sources,
    )
    return Manifest(header=header, splits=splits)


def read_manifest(
    path: Path, thresholds: DensityThresholds | None = None, check_files: bool = True, check_content: bool = False
) -> Manifest:
    """Read a manifest and check all of it.

    Args:
        path: the JSON file; paths in it are relative to its folder.
        thresholds: what ``bone_status`` must follow from; default Pan's.
        check_files: also check that every file that is named exists.
        check_content: also look for images at different paths that hold the same bytes.

    Raises:
        ManifestError: listing every problem at once.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicate_keys)
    except FileNotFoundError as error:
        raise ManifestError(path.name, ["there is no such file"]) from error
    except ValueError as error:  # malformed JSON, a key that stands twice, bytes that are not UTF-8
        raise ManifestError(path.name, [f"it is not valid JSON: {error}"]) from error
    manifest, problems = _parse(content)
    problems += contradictions(manifest.splits, thresholds or DensityThresholds(), manifest.header.virtual)
    if check_files:
        problems += missing_files(manifest.splits, path.parent)
    if check_content:
        problems += same_content(manifest.splits, path.parent)
    if problems:
        raise ManifestError(path.name, problems)
    return manifest


def datalist(
    path: str | os.PathLike[str], split: str, keys: Sequence[str] = ("image", "label")
) -> list[dict[str, Any]]:
    """Read and check a manifest, and return one split as MONAI's data sets want it.

    ``load_decathlon_datalist`` passes on every field there is, and MONAI's collation breaks off where two records of a
    batch do not have the same ones. Here a bundle says what it needs.

    Args:
        path: the manifest.
        split: one of its splits.
        keys: fields to pass on; the paths ``image``, ``label``, ``segmentation``, ``bone_mask`` and ``truth`` come back
            joined to the manifest's folder.

    Raises:
        ManifestError: listing every problem at once.
        ValueError: if there is no such split, or a record of it lacks one of the keys.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if split not in manifest.splits:
        raise ValueError(f"{path.name} has no split {split!r}, it has {', '.join(manifest.splits)}")
    items = []
    for place, record in enumerate(manifest.splits[split]):
        fields = record.model_dump(mode="json", exclude_none=True)
        if lacking := [key for key in keys if key not in fields]:
            raise ValueError(
                f"{path.name}: {split}[{place}] must have {', '.join(keys)}, it lacks {', '.join(lacking)}"
            )
        items.append({key: _joined(path.parent, fields[key]) if key in PATH_FIELDS else fields[key] for key in keys})
    return items


def _joined(base: Path, value: str | list[str]) -> str | list[str]:
    return str(base / value) if isinstance(value, str) else [str(base / part) for part in value]


def write_manifest(manifest: Manifest, path: Path, thresholds: DensityThresholds | None = None) -> str:
    """Check a manifest, write it, and return its sha256. The same content gives the same bytes.

    Files need not exist yet. The folder is made if it is missing.

    Raises:
        ManifestError: listing every problem at once; nothing is written then.
    """
    if problems := contradictions(manifest.splits, thresholds or DensityThresholds(), manifest.header.virtual):
        raise ManifestError(path.name, problems)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False) + "\n"
    path.write_bytes(text.encode("utf-8"))
    return manifest_sha256(path)


def manifest_sha256(path: Path) -> str:
    """Checksum of the manifest's bytes, as it is logged with every run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the file; ``data_manifests/manifest.schema.json`` is this, written down."""
    header, record = Header.model_json_schema(), Record.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ADDRESS,
        "title": "osteo_monai data manifest",
        "description": "Also read by monai.data.load_decathlon_datalist. No subject may stand in two splits; "
        "bone_status must follow from bmd_mg_cm3. osteo_monai.data.read_manifest checks those too.",
        "type": "object",
        "properties": header["properties"],
        "required": header["required"],
        "patternProperties": {SPLIT_PATTERN: {"type": "array", "items": {"$ref": "#/$defs/Record"}}},
        "additionalProperties": False,
        "$defs": {**record.pop("$defs"), "Record": record},
    }


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what ``json`` would settle by silently taking the last one."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return content


def _parse(content: object) -> tuple[Manifest, list[str]]:
    """Turn JSON content into a manifest, leaving out records that cannot be read and saying what is wrong with each."""
    problems: list[str] = []
    if not isinstance(content, Mapping):
        content, problems = {}, [f"it must be a JSON object, got {type(content).__name__}"]
    heading = {key: value for key, value in content.items() if not re.match(SPLIT_PATTERN, key)}
    try:
        header = Header.model_validate(heading)
    except ValidationError as error:
        header = Header.model_construct(name="", description="", virtual=False)
        problems += sentences("", error)
    splits: dict[str, tuple[Record, ...]] = {}
    for split in (key for key in content if key not in heading):
        if not isinstance(content[split], list):
            problems.append(f"{split} must be a list of records, got {type(content[split]).__name__}")
            continue
        records = []
        for place, entry in enumerate(content[split]):
            try:
                records.append(Record.model_validate(entry))
            except ValidationError as error:
                problems += sentences(f"{split}[{place}]", error)
        splits[split] = tuple(records)
    if not any(splits.values()) and not problems:
        problems.append("it has no records: expected a split training, validation, test or external_<centre>")
    return Manifest.model_construct(header=header, splits=splits), problems


_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def sentences(where: str, error: ValidationError) -> list[str]:
    """One sentence for each complaint of pydantic; values are left out, they may identify a patient."""
    found = []
    for e in error.errors(include_input=False, include_url=False):
        # A union reports once per member; the member's name is no key of the file
        keys = [str(part) for part in e["loc"] if part not in ("str", "tuple[str, ...]")]
        place = ".".join([*([where] if where else []), *keys])
        if e["type"] == "extra_forbidden":
            found.append(f"{place}: this key is unknown")
        elif e["type"] in _BOUNDS and keys and keys[-1] in UNIT_HINTS:
            found.append(f"{place}: {e['msg']}; {UNIT_HINTS[keys[-1]]}")
        else:
            found.append(f"{place or 'manifest'}: {e['msg'].removeprefix('Value error, ')}")
    return list(dict.fromkeys(found))
