"""VerSe 2019 and 2020 (Sekuboyina 2021, Löffler 2020, Liebl 2021) in both published layouts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osteo_monai.data.public.case import (
    VERSE_NUMBERS,
    Case,
    Centroids,
    Found,
    LeftOut,
    NumberedLabel,
    PublicSet,
    Source,
)
from osteo_monai.data.public.files import find_below, nifti_below, stem
from osteo_monai.data.public.verse_tables import SUBJECT_OF_SERIES, read_verse_tables
from osteo_monai.errors import UnusableInputError

_SPLITS = {"training": "training", "validation": "validation", "test": "test"}
_CHALLENGE_FOLDERS = {"01_training": "training", "02_validation": "validation", "03_test": "test"}
_IDENTIFIER = re.compile(r"(verse|gl)(\d+)", re.IGNORECASE)
_NON_DERIVATIVE_LICENCE = "CC BY-NC-ND 4.0"
"""Of the scans ``gl*``, which are from another collection (noted in the readme of VerSe 2020; not read in full)."""


@dataclass(frozen=True)
class _Scan:
    split: str
    base: str
    image: Path | None
    mask: Path | None
    centroids: Centroids | None

    @property
    def series(self) -> str:
        """Identifier of the image series: that of ``split-``, else that of the subject."""
        return "".join(_IDENTIFIER.findall(self.base)[-1]).lower()

    @property
    def person(self) -> str:
        """Identifier of the person: that of ``sub-``, or the published one of a series."""
        prefix, number = _IDENTIFIER.findall(self.base)[0]
        series = _IDENTIFIER.findall(self.base)[-1]
        if (prefix, number) == series and prefix.lower() == "verse":
            number = f"{SUBJECT_OF_SERIES.get(int(number), int(number)):03d}"
        return f"{prefix.lower()}{number}"


def _recognises(folder: Path) -> bool:
    return bool(_raw_folders(folder) or _challenge_folders(folder))


def _raw_folders(folder: Path) -> list[Path]:
    return [path for path in find_below(folder, "rawdata") if next(path.glob("sub-*"), None) is not None]


def _challenge_folders(folder: Path) -> list[Path]:
    return [path for name in _CHALLENGE_FOLDERS for path in find_below(folder, name)]


def _find(source: Source) -> Found:
    raw, challenge = _raw_folders(source.folder), _challenge_folders(source.folder)
    if raw and challenge:
        raise UnusableInputError(
            "The folder must have one layout of VerSe, got rawdata and 01_training; import them separately."
        )
    scans = [scan for path in raw for scan in _scans_by_subject(path)]
    scans += [scan for path in challenge for scan in _scans_of_challenge(path)]
    layout = "rawdata and derivatives" if raw else "01_training, 02_validation, 03_test"
    facts, notes = read_verse_tables(source)
    return _cases(scans, facts, layout, notes)


def _cases(scans: list[_Scan], facts: Mapping[str, Mapping[str, Any]], layout: str, notes: tuple[str, ...]) -> Found:
    cases, left_out = [], []
    places: dict[str, Path] = {}
    for scan in scans:
        if scan.image is None or scan.mask is None:
            left_out.append(LeftOut(scan.person, scan.base, "no image" if scan.image is None else "no mask"))
            continue
        earlier = places.setdefault(scan.base, scan.image.parent)
        if earlier != scan.image.parent:
            raise UnusableInputError(
                f"'{scan.base}' must be in one folder, got two; import VerSe 2019 and VerSe 2020 separately."
            )
        known = dict(facts.get(scan.series, {}))
        if scan.series.startswith("gl"):
            known["extra"] = {**known.get("extra", {}), "licence": _NON_DERIVATIVE_LICENCE}
        label = NumberedLabel(scan.mask, VERSE_NUMBERS)
        cases.append(Case(scan.base, scan.person, scan.split, scan.image, label, scan.centroids, known))
    return Found(layout, tuple(cases), tuple(left_out), notes)


def _scans_by_subject(raw: Path) -> Iterator[_Scan]:
    """Yield the scans of a folder ``rawdata`` with their derivatives."""
    split = next((split for word, split in _SPLITS.items() if word in raw.resolve().parent.name.lower()), None)
    if split is None:
        raise UnusableInputError(
            f"The folder of rawdata must be named after its split, such as dataset-verse19training, got "
            f"'{raw.resolve().parent.name}'."
        )
    derivatives = raw.parent / "derivatives"
    images = {stem(p).removesuffix("_ct"): p for p in nifti_below(raw) if stem(p).endswith("_ct")}
    ending = "_seg-vert_msk"
    masks = {stem(p).removesuffix(ending): p for p in nifti_below(derivatives) if stem(p).endswith(ending)}
    for base in sorted(images.keys() | masks.keys()):
        if not _IDENTIFIER.search(base):
            continue
        mask = masks.get(base)
        names = (f"{base}_seg-subreg_ctd.json", f"{base}_seg-vb_ctd.json")
        centroids = None if mask is None else _first(mask.parent, names, "voxel")
        yield _Scan(split, base, images.get(base), mask, centroids)


def _scans_of_challenge(folder: Path) -> Iterator[_Scan]:
    """Yield the scans of a folder such as ``01_training``."""
    split = _CHALLENGE_FOLDERS[folder.name]
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in nifti_below(folder):
        base = stem(path)
        (masks if base.endswith("_seg") else images)[base.removesuffix("_seg")] = path
    for base in sorted(images.keys() | masks.keys()):
        if not _IDENTIFIER.search(base):
            continue
        mask = masks.get(base)
        names = (f"{base}_iso-ctd.json", f"{base.removesuffix('-iso')}_iso-ctd.json", f"{base}_ctd.json")
        centroids = None if mask is None else _first(mask.parent, names, "mm")
        yield _Scan(split, base, images.get(base), mask, centroids)


def _first(folder: Path, names: tuple[str, ...], unit: Any) -> Centroids | None:
    return next((Centroids(folder / name, unit) for name in names if (folder / name).is_file()), None)


VERSE = PublicSet(
    title="VerSe",
    licence="CC BY-SA 4.0; scans gl*: CC BY-NC-ND 4.0",
    source="https://github.com/anjany/verse (OSF nqjyw: VerSe 2019; t98fz: VerSe 2020)",
    label_kind="vertebra",
    layout="*training/rawdata/sub-*/*_ct.nii.gz with derivatives, or 01_training/*/*_seg.nii.gz",
    recognises=_recognises,
    find=_find,
)
