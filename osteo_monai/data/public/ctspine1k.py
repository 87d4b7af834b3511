"""CTSpine1K (Deng 2021): CT of four collections with label maps in VerSe order; cut vertebrae are labelled too."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from osteo_monai.data.public.case import VERSE_NUMBERS, Case, Found, LeftOut, NumberedLabel, PublicSet, Source
from osteo_monai.data.public.files import find_below, nifti_below, stem
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.inputs import open_input, read_input

_SPLIT_FILE, _SERIES_FILE = "data_split.txt", "Path.csv"
_SPLITS = {"trainset": "training", "test_public": "validation", "test_private": "test"}
_FILE_NAME = re.compile(r"[^\s/]+?\.nii(?:\.gz)?")
_KERNEL = re.compile(r"\b[BHI]\d{2}[a-z]\b")
_LABEL_FOLDER = re.compile(r"label|mask|seg|annot|gt", re.IGNORECASE)


def _recognises(folder: Path) -> bool:
    return bool(find_below(folder, _SPLIT_FILE))


def _find(source: Source) -> Found:
    given = [path for path in source.tables if path.name == _SPLIT_FILE]
    split_files = given or find_below(source.folder, _SPLIT_FILE)
    if not split_files:
        raise UnusableInputError(f"'{source.folder.name}' must have the file {_SPLIT_FILE}; else give it as --table.")
    splits = _read_splits(split_files[0])
    series = _read_series([*source.tables, *find_below(source.folder, _SERIES_FILE)])
    images, labels = _pairs(source.folder)
    cases, left_out = [], []
    for name in sorted(images.keys() | labels.keys()):
        split = splits.get(name)
        missing = "no image" if name not in images else "no label map" if name not in labels else None
        if missing or split is None:
            left_out.append(LeftOut(name, name, missing or f"not in {_SPLIT_FILE}"))
            continue
        label = NumberedLabel(labels[name], VERSE_NUMBERS)
        cases.append(Case(name, name, split, images[name], label, facts=_facts(name, series)))
    unused = sum(name not in images and name not in labels for name in splits)
    notes = (f"{unused} scans of {_SPLIT_FILE} are not in the folder.",) if unused else ()
    return Found("images, label maps and data_split.txt", tuple(cases), tuple(left_out), notes)


def _name(path: Path | str) -> str:
    """Return the identifier of a scan: the file name without ``_seg`` and ``_ct``."""
    return stem(Path(path)).removesuffix("_seg").removesuffix("_ct")


def _pairs(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in nifti_below(folder):
        inside = path.parent.relative_to(folder).parts
        is_label = stem(path).endswith("_seg") or any(_LABEL_FOLDER.search(part) for part in inside)
        kind, files = ("label maps", labels) if is_label else ("images", images)
        if files.setdefault(_name(path), path) != path:
            raise UnusableInputError(f"'{_name(path)}' must have one file of {kind}, got two in different folders.")
    return images, labels


def _read_splits(path: Path) -> dict[str, str]:
    try:
        lines = read_input(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableInputError(f"'{path.name}' cannot be read as text.") from error
    splits: dict[str, str] = {}
    current = None
    for line in lines:
        if line.strip().endswith(":"):
            current = _SPLITS.get(line.strip()[:-1].strip().lower())
        # the published file has two names in one line
        elif current is not None:
            splits |= {_name(name): current for name in _FILE_NAME.findall(line)}
    if not splits:
        raise UnusableInputError(f"'{path.name}' must have the blocks {', '.join(_SPLITS)}, got no file name in one.")
    return splits


def _any_text(path: Path) -> str:
    with open_input(path) as stream:
        return stream.read().decode("utf-8", "replace")


def _read_series(paths: Iterable[Path]) -> dict[str, str]:
    """Return the description of the series that was used, by scan."""
    series: dict[str, str] = {}
    for path in (path for path in paths if path.name == _SERIES_FILE):
        for line in _any_text(path).splitlines():
            name, _, rest = line.partition("/")
            series.setdefault(name.strip().strip('"'), rest)
    return series


def _facts(name: str, series: Mapping[str, str]) -> dict[str, Any]:
    text = series.get(name, "").rpartition("/")[2]
    facts: dict[str, Any] = {}
    if kernel := _KERNEL.search(text):
        facts["kernel"] = kernel.group()
    positions = [word for word in ("prone", "supine") if re.search(word, text, re.IGNORECASE)]
    if len(positions) == 1:
        facts["extra"] = {"position": positions[0]}
    return facts


CTSPINE1K = PublicSet(
    title="CTSpine1K",
    licence="CC BY-NC-SA 4.0",
    source="https://github.com/MIRACLE-Center/CTSpine1K",
    label_kind="vertebra",
    layout="data_split.txt, images X.nii.gz and label maps X_seg.nii.gz or X.nii.gz in a folder of labels",
    recognises=_recognises,
    find=_find,
)
