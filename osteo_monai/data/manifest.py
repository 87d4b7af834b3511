"""Read, check and write data manifests.

A manifest is one JSON file. Its splits are at the top level, as ``monai.data.load_decathlon_datalist`` requires::

    {"name": "...", "description": "...", "virtual": true, "training": [{"image": "...", ...}], "test": [...]}

so that MONAI reads it too. MONAI checks nothing; :func:`read_manifest` lists all problems in one error.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from osteo_monai.data.checks import UNIT_HINTS, contradictions, missing_files, same_content
from osteo_monai.data.record import Record
from osteo_monai.domain import SPLIT_PATTERN, DensityThresholds
from osteo_monai.errors import ConfigError, ManifestError
from osteo_monai.utils.files import file_sha256, write_text
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.inputs import read_input

SCHEMA_ADDRESS = "manifest.schema.json"


class Header(BaseModel):
    """Description of a manifest: everything but its splits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    virtual: bool
    """True if the people are simulated; all results from them must be marked."""
    licence: str | None = None
    source: str | None = None
    """Origin of images and values; for a virtual cohort the recipe and the version of the generator."""


class Manifest(BaseModel):
    """A checked manifest: its header and the records of each split.

    Example:
        >>> from osteo_monai import Manifest
        >>> from osteo_monai.data import Header, Record
        >>> record = Record(subject_id="a", image="a.nii.gz")
        >>> header = Header(name="demo", description="one scan", virtual=False, source="none")
        >>> manifest = Manifest(header=header, splits={"test": (record,)})
        >>> manifest.splits["test"][0].subject_id
        'a'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: Header
    splits: Annotated[
        Mapping[Annotated[str, Field(pattern=SPLIT_PATTERN)], tuple[Record, ...]], AfterValidator(FrozenDict)
    ]

    def records(self) -> Iterator[tuple[str, int, Record]]:
        """Yield each record with its split and its position there."""
        for split, records in self.splits.items():
            for position, record in enumerate(records):
                yield split, position, record

    def moved(self, old: Path, new: Path) -> "Manifest":
        """Return the manifest with paths relative to the folder ``new`` instead of ``old``."""
        splits = {split: tuple(r.moved(old, new) for r in records) for split, records in self.splits.items()}
        return self.model_copy(update={"splits": FrozenDict(splits)})

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file: header and splits in one object, without unknown fields."""
        content: dict[str, Any] = self.header.model_dump(mode="json", exclude_none=True)
        for split, records in self.splits.items():
            content[split] = [record.model_dump(mode="json", exclude_none=True) for record in records]
        return content


def join_manifests(paths: Sequence[Path], folder: Path, name: str) -> Manifest:
    """Join manifests into one with all their splits, such as a cohort and its external test centres.

    Records of splits of the same name are concatenated in the order of ``paths``.

    Args:
        paths: the manifests; their paths are made relative to ``folder``.
        folder: of the new manifest.
        name: of the new manifest.

    Raises:
        ManifestError: one of them is invalid, or only some have virtual people.
    """
    manifests = [read_manifest(path).moved(path.parent, folder) for path in paths]
    if len({m.header.virtual for m in manifests}) > 1:
        raise ManifestError(name, ["a manifest must not have both virtual and real people"])
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
    """Read and check a manifest.

    Args:
        path: the JSON file; paths in it are relative to its folder.
        thresholds: with which ``bone_status`` must agree (default: Pan 2024).
        check_files: also check that all named files exist.
        check_content: also report images at different paths with the same bytes.

    Raises:
        ManifestError: listing all problems.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from osteo_monai import read_manifest
        >>> header = {"name": "demo", "description": "one scan", "virtual": False, "source": "none"}
        >>> content = header | {"test": [{"subject_id": "a", "image": "a.nii.gz"}]}
        >>> _ = Path("manifest.json").write_text(json.dumps(content))
        >>> len(read_manifest(Path("manifest.json"), check_files=False).splits["test"])
        1
    """
    try:
        content = json.loads(read_input(path), object_pairs_hook=_no_duplicate_keys)
    except FileNotFoundError as error:
        raise ManifestError(path.name, ["the file does not exist"]) from error
    except OSError as error:
        raise ManifestError(path.name, [f"it cannot be read ({error.strerror})"]) from error
    except ValueError as error:  # malformed JSON, a repeated key, bytes that are not UTF-8
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
    """Read and check a manifest; return one split as a data list for MONAI's data sets.

    ``load_decathlon_datalist`` returns all fields of each record, but MONAI's collation needs the same ones in all.

    Args:
        path: the manifest.
        split: one of its splits.
        keys: fields to return; the paths ``image``, ``label``, ``segmentation``, ``centroids``, ``bone_mask`` and
            ``truth`` are absolute.

    Raises:
        ManifestError: listing all problems.
        ConfigError: the split does not exist, a record of it has no value for a key, or its label is of whole vertebrae
            and not of bodies.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if split not in manifest.splits:
        raise ConfigError(f"split must be one of {', '.join(manifest.splits)} in {path.name}, got {split!r}")
    items = []
    for position, record in enumerate(manifest.splits[split]):
        if "label" in keys and record.label_kind == "vertebra":
            raise ConfigError(f"{path.name}: {split}[{position}] must have a label of bodies, got whole vertebrae")
        fields = record.absolute(path.parent).model_dump(mode="json", exclude_none=True)
        if missing := [key for key in keys if key not in fields]:
            raise ConfigError(
                f"{path.name}: {split}[{position}] must have {', '.join(keys)}, missing: {', '.join(missing)}"
            )
        items.append({key: fields[key] for key in keys})
    return items


def write_manifest(manifest: Manifest, path: Path, thresholds: DensityThresholds | None = None) -> str:
    """Check a manifest, write it atomically, and return its SHA-256. The same content gives the same bytes.

    Files need not exist yet. The folder is made if missing.

    Raises:
        ManifestError: listing all problems; nothing is written then.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cohort.json"
        >>> header = Header(name="demo", description="Two radiographs.", virtual=True)
        >>> records = tuple(Record(image=f"{n}.png", subject_id=f"s{n}") for n in (1, 2))
        >>> checksum = write_manifest(Manifest(header=header, splits={"test": records}), path)
        >>> len(read_manifest(path, check_files=False).splits["test"])
        2
    """
    if problems := contradictions(manifest.splits, thresholds or DensityThresholds(), manifest.header.virtual):
        raise ManifestError(path.name, problems)
    write_text(path, json.dumps(manifest.as_json(), indent=1, ensure_ascii=False) + "\n")
    return file_sha256(path)


def manifest_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file; ``data_manifests/manifest.schema.json`` is a copy."""
    header, record = Header.model_json_schema(), Record.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ADDRESS,
        "title": "osteo_monai data manifest",
        "description": "Also read by monai.data.load_decathlon_datalist. A subject must be in one split only; "
        "bone_status must agree with bmd_mg_cm3. osteo_monai.data.read_manifest checks these too.",
        "type": "object",
        "properties": header["properties"],
        "required": header["required"],
        "patternProperties": {SPLIT_PATTERN: {"type": "array", "items": {"$ref": "#/$defs/Record"}}},
        "additionalProperties": False,
        "$defs": {**record.pop("$defs"), "Record": record},
    }


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse repeated keys, of which ``json`` keeps the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is repeated in one object")
    return content


def _parse(content: object) -> tuple[Manifest, list[str]]:
    """Return a manifest of the valid records, and the problems of all others."""
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
        for position, entry in enumerate(content[split]):
            try:
                records.append(Record.model_validate(entry))
            except ValidationError as error:
                problems += sentences(f"{split}[{position}]", error)
        splits[split] = tuple(records)
    if not any(splits.values()) and not problems:
        problems.append("it has no records: expected a split training, validation, test or external_<centre>")
    return Manifest.model_construct(header=header, splits=FrozenDict(splits)), problems


_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")


def sentences(prefix: str, error: ValidationError) -> list[str]:
    """Return one sentence for each error of pydantic, without the values, which may identify a patient."""
    lines = []
    for e in error.errors(include_input=False, include_url=False):
        # a union reports once for each type; the name of the type is not a key of the file
        keys = [str(part) for part in e["loc"] if part not in ("str", "tuple[str, ...]")]
        place = ".".join([*([prefix] if prefix else []), *keys])
        if e["type"] == "extra_forbidden":
            lines.append(f"{place}: this key is unknown")
        elif e["type"] in _BOUNDS and keys and keys[-1] in UNIT_HINTS:
            lines.append(f"{place}: {e['msg']}; {UNIT_HINTS[keys[-1]]}")
        else:
            message = _MEMBER.sub(r"\1", e["msg"].removeprefix("Value error, "))
            lines.append(f"{place or 'manifest'}: {message}")
    return list(dict.fromkeys(lines))
