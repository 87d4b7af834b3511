"""CTSpinoPelvic1K (Schwing): colonography CT with vertebrae to L6, made for transitional vertebrae."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osteo_monai.data.public.case import Case, Found, LeftOut, NumberedLabel, PublicSet, Source, label_of_structure
from osteo_monai.data.public.files import find_below, number_of, read_json
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import sex_of

_SCHEME_FILE, _SPLIT_FILE = "dataset_labels.json", "splits_5fold.json"
_WITHOUT_SPINE = "pelvic_native"
"""Configuration of records whose spine is not annotated."""
_EXTRA = ("position", "lstv_label", "castellvi_type", "has_l6", "hardware_labelled", "config")


def _recognises(folder: Path) -> bool:
    root = _root(folder)
    return root is not None and (root / "labels").is_dir()


def _root(folder: Path) -> Path | None:
    """Return the folder with the manifest of the set and its label scheme."""
    places = (path.parent for path in find_below(folder, "manifest.json"))
    return next((path for path in places if (path / "labels").is_dir() or (path / _SCHEME_FILE).is_file()), None)


def _find(source: Source) -> Found:
    root = _root(source.folder)
    if root is None:
        raise UnusableInputError(f"'{source.folder.name}' must have manifest.json and labels of CTSpinoPelvic1K.")
    content = read_json(root / "manifest.json")
    records = content.get("records") if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UnusableInputError("'manifest.json' must be a list of records, or an object with a list 'records'.")
    numbers = _scheme(root)
    test = _test_tokens(root)
    cases, left_out = [], []
    seen: set[str] = set()
    for record in records:
        label_file = str(record.get("label_file") or "")
        key = Path(label_file).name.removesuffix(".gz").removesuffix(".nii").removesuffix("_label")
        person = str(record.get("token") or key.split("_")[0])
        if key in seen:
            raise UnusableInputError(f"'manifest.json' must have one record for '{key}', got two.")
        seen.add(key)
        image = _existing(root, "ct", str(record.get("ct_file") or f"ct/{key}_ct.nii.gz"))
        label = _existing(root, "labels", label_file)
        if image is None or label is None or record.get("config") == _WITHOUT_SPINE:
            left_out.append(LeftOut(person, key or person, _reason(record, image, label)))
            continue
        split = "test" if not test or person in test else "training"
        cases.append(Case(key, person, split, image, NumberedLabel(label, numbers), facts=_facts(record)))
    notes = () if test else ("The set names no test records: all records are in the split test.",)
    return Found("manifest.json, ct and labels", tuple(cases), tuple(left_out), notes)


def _reason(record: Mapping[str, Any], image: Path | None, label: Path | None) -> str:
    if record.get("config") == _WITHOUT_SPINE:
        return "the spine is not annotated"
    return "no image; it is rebuilt with fetch_from_tcia.py of the set" if image is None and label else "no label map"


def _existing(root: Path, folder: str, name: str) -> Path | None:
    places = (root / name, root / folder / Path(name).name) if name else ()
    return next((place for place in places if place.is_file()), None)


def _scheme(root: Path) -> dict[int, int]:
    """Return numbers of this project by those of the release, whose versions number structures differently."""
    path = root / _SCHEME_FILE
    if not path.is_file():
        raise UnusableInputError(
            f"'{root.name}' must have {_SCHEME_FILE}: versions of CTSpinoPelvic1K number the vertebrae differently."
        )
    content = read_json(path)
    for name in ("id_to_name", "labels"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    numbers: dict[int, int] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        number, name = (key, value) if str(key).isdecimal() else (value, key)
        if str(number).isdecimal() and isinstance(name, str):
            numbers[int(number)] = label_of_structure(name)
    wanted = {label_of_structure(name) for name in ("L1", "L2", "L5")}
    if not wanted <= set(numbers.values()):
        raise UnusableInputError(f"'{path.name}' must name the vertebrae L1, L2 and L5, got {len(numbers)} structures.")
    return numbers


def _test_tokens(root: Path) -> set[str]:
    path = root / _SPLIT_FILE
    content = read_json(path) if path.is_file() else {}
    tokens = content.get("test_tokens") if isinstance(content, dict) else None
    return {str(token) for token in tokens or ()}


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "age": _number(record, "age"),
        "sex": sex_of(str(record.get("sex") or "")),
        "weight_kg": _number(record, "patient_weight"),
        "kvp": _number(record, "kvp"),
        "slice_thickness_mm": _number(record, "slice_thickness"),
        "kernel": record.get("convolution_kernel"),
        "manufacturer": record.get("manufacturer"),
        "scanner": record.get("manufacturer_model"),
    }
    extra = {name: record[name] for name in _EXTRA if record.get(name) not in (None, "")}
    return {name: value for name, value in facts.items() if value} | ({"extra": extra} if extra else {})


def _number(record: Mapping[str, Any], name: str) -> float | None:
    return number_of(str(record.get(name)))


SPINOPELVIC = PublicSet(
    title="CTSpinoPelvic1K",
    licence="CC BY-NC-SA 4.0 (v6 and later; earlier versions CC BY-NC 4.0)",
    source="https://doi.org/10.5281/zenodo.22139643",
    label_kind="vertebra",
    layout="manifest.json, dataset_labels.json, ct/NNNN_ct.nii.gz and labels/NNNN_label.nii.gz",
    recognises=_recognises,
    find=_find,
)
