"""VertebralBodiesCT-Labels (Hofmann 2024): vertebral bodies of scans of TotalSegmentator and VerSe, labels only."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from osteo_monai.data.public.case import (
    NAMED_LABELS,
    Case,
    Found,
    LeftOut,
    NumberedLabel,
    PublicSet,
    Source,
    label_of_structure,
)
from osteo_monai.data.public.files import find_below, nifti_below, read_json, stem
from osteo_monai.data.public.verse_tables import SUBJECT_OF_SERIES
from osteo_monai.errors import UnusableInputError

BODY_NUMBERS: Mapping[int, int] = {
    **{n: NAMED_LABELS[f"T{n}"] for n in range(1, 13)},
    **{12 + n: NAMED_LABELS[f"L{n}"] for n in range(1, 7)},
    19: NAMED_LABELS["SACRUM"],
    20: 0,
    21: NAMED_LABELS["T13"],
}
"""T1-T12 1-12, L1-L6 13-18, sacrum 19, coccyx 20, T13 21 (dataset.json of the release of 2024-08-29)."""

_FOLDERS = {"train": "training", "test": "test"}
_SPLIT_FILE = "splits_train-test.json"
_IDENTIFIER = re.compile(r"(?<![a-z])(s\d{4}|verse\d+|gl\d+)(?![a-z0-9])", re.IGNORECASE)


def _recognises(folder: Path) -> bool:
    root = _root(folder)
    return root is not None and (root / "data.csv").is_file()


def _root(folder: Path) -> Path | None:
    """Return the folder with ``train`` and ``test``."""
    return next((path.parent for path in find_below(folder, "train") if (path.parent / "test").is_dir()), None)


def _find(source: Source) -> Found:
    root = _root(source.folder)
    if root is None:
        raise UnusableInputError(f"'{source.folder.name}' must have the folders train and test.")
    if not source.images:
        raise UnusableInputError(
            "--images must be given with vertebral-bodies: the set has labels only, its images are those of "
            "TotalSegmentator and VerSe."
        )
    _check_scheme(root)
    images = _Images(source.images)
    official = _official_splits(root)
    cases, left_out = [], []
    taken: dict[str, Path] = {}
    for folder, split in _FOLDERS.items():
        for path in nifti_below(root / folder):
            name = stem(path)
            if taken.setdefault(name, path) != path:
                raise UnusableInputError(f"'{name}' must be in train or in test, got both.")
            found = images.of(name)
            if len(found) != 1:
                reason = f"{len(found)} images have its identifier" if found else "its image is not in --images"
                left_out.append(LeftOut(_person(name), name, reason))
                continue
            label = NumberedLabel(path, BODY_NUMBERS)
            cases.append(Case(name, _person(name), official.get(name, split), found[0], label))
    return Found("train and test with label maps", tuple(cases), tuple(left_out))


def _check_scheme(root: Path) -> None:
    """Refuse a release whose ``dataset.json`` has another numbering."""
    for path in find_below(root, "dataset.json"):
        content = read_json(path)
        scheme = content.get("labels") if isinstance(content, dict) else None
        for name, number in (scheme if isinstance(scheme, dict) else {}).items():
            wanted = label_of_structure(name)
            if wanted and BODY_NUMBERS.get(number) != wanted:
                raise UnusableInputError(f"'{path.name}' must number {name} as the release of 2024, got {number}.")


def _official_splits(root: Path) -> dict[str, str]:
    """Return the split of each scan by the file of the set, if it is there in the expected form."""
    splits: dict[str, str] = {}
    for path in find_below(root, _SPLIT_FILE):
        content = read_json(path)
        for word, split in _FOLDERS.items():
            names = content.get(word) if isinstance(content, dict) else None
            splits |= {stem(Path(name)): split for name in names or () if isinstance(name, str)}
    return splits


class _Images:
    """Images of the sets that the labels belong to, by identifier."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for folder in folders:
            for path in nifti_below(folder):
                for name in self._names(path):
                    self._by_name[name].append(path)

    def of(self, name: str) -> list[Path]:
        """Return the images of a label map: those with its file name, else those with its identifier."""
        for key in (name.lower(), _identifier(name)):
            if key and self._by_name.get(key):
                return self._by_name[key]
        return []

    @staticmethod
    def _names(path: Path) -> Iterator[str]:
        name = stem(path).lower()
        if name.endswith(("_seg", "_msk")) or path.parent.name == "segmentations":
            return
        yield name.removesuffix("_0000")  # of the first channel, as nnU-Net names images
        identifier = _identifier(path.parent.name) if name == "ct" else _identifier(name)
        if identifier and identifier != name.removesuffix("_0000"):
            yield identifier


def _identifier(name: str) -> str | None:
    """Return the last identifier in a name, that of the image series; numbers without leading zeros."""
    found: list[str] = _IDENTIFIER.findall(name.replace("_", " "))
    if not found:
        return None
    letters = found[-1].lower().rstrip("0123456789")
    digits = found[-1][len(letters) :]
    return f"{letters}{digits}" if letters == "s" else f"{letters}{int(digits)}"


def _person(name: str) -> str:
    found: list[str] = [match.lower() for match in _IDENTIFIER.findall(name.replace("_", " "))]
    if not found:
        return name
    if len(set(found)) == 1 and found[0].startswith("verse"):
        number = int(found[0].removeprefix("verse"))
        return f"verse{SUBJECT_OF_SERIES.get(number, number):03d}"
    return found[0]


VERTEBRAL_BODIES = PublicSet(
    title="VertebralBodiesCT-Labels",
    licence="CC BY-SA 4.0",
    source="https://huggingface.co/datasets/fhofmann/VertebralBodiesCT-Labels",
    label_kind="body",
    layout="data.csv, train and test with label maps",
    recognises=_recognises,
    find=_find,
)
