"""What the module of a public data set returns: its scans with their labels and facts, and those left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from osteo_monai.domain import LEVEL_LABELS, RIB_LABEL, MineralStandard

LabelKind: TypeAlias = Literal["vertebra", "body"]
Density: TypeAlias = Literal["phantom", "phantomless", "published"]

CERVICAL_LABELS: Mapping[str, int] = {f"C{n}": n for n in range(1, 8)}
"""VerSe numbers of the cervical vertebrae, which ``VertebraLevel`` does not have."""

NAMED_LABELS: Mapping[str, int] = {
    **CERVICAL_LABELS,
    **{level.upper(): number for level, number in LEVEL_LABELS.items()},
}
"""Number in label maps by the name of a vertebra in upper case."""

VERSE_NUMBERS: Mapping[int, int] = {**{number: number for number in NAMED_LABELS.values()}, 27: 0}
"""C1-C7 1-7, T1-T12 8-19, L1-L6 20-25, sacrum 26, coccyx 27, T13 28 (README of anjany/verse)."""


@dataclass(frozen=True)
class NumberedLabel:
    """A label map of the set.

    Attributes:
        path: NIfTI file.
        numbers: number of this project by number in the file; 0 for structures that are not used. A number that is
            missing here is refused, since the file then has another numbering.
    """

    path: Path
    numbers: Mapping[int, int]


@dataclass(frozen=True)
class BinaryMasks:
    """One binary mask for each structure; ``masks`` has the files by number of this project."""

    masks: Mapping[int, tuple[Path, ...]]


@dataclass(frozen=True)
class Centroids:
    """A file with centres of vertebral bodies.

    Attributes:
        path: JSON as in VerSe.
        unit: of the coordinates: voxels of the image, or mm from the corner of the image.
    """

    path: Path
    unit: Literal["voxel", "mm"]


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        key: identifier of the scan, unique in the set and usable as a file name.
        subject: identifier of the person.
        split: of the manifest.
        image: NIfTI file.
        label: its label map, or masks.
        centroids: its centres, if the set has them.
        facts: fields of ``Record`` that are known.
    """

    key: str
    subject: str
    split: str
    image: Path
    label: NumberedLabel | BinaryMasks
    centroids: Centroids | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A scan that is not in the manifest, with the reason."""

    subject: str
    scan: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Scans of a tree.

    Attributes:
        layout: name of the layout, for the description.
        cases: scans with image and label.
        left_out: scans that are not imported.
        notes: sentences for the user.
    """

    layout: str
    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a set is read from.

    Attributes:
        folder: of the set.
        tables: published tables beside it.
        images: folders of images, for sets that have labels only.
        density: column of the tables that becomes ``bmd_mg_cm3``.
        standard: of the densities, if the tables do not state it.
    """

    folder: Path
    tables: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    density: Density = "phantom"
    standard: MineralStandard | None = None


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        title: its published name.
        licence: of images and labels.
        source: address.
        label_kind: whether its labels are whole vertebrae or vertebral bodies.
        layout: how its tree looks, for messages.
        recognises: whether a folder looks like this set; must not raise.
        find: scans of a folder; raises ``UnusableInputError``.
    """

    title: str
    licence: str
    source: str
    label_kind: LabelKind
    layout: str
    recognises: Callable[[Path], bool]
    find: Callable[[Source], Found]


def label_of_structure(name: str) -> int:
    """Return the number of a structure by its name in a label scheme, 0 if it is not used.

    Example:
        >>> [label_of_structure(name) for name in ("vertebrae_L1", "L6 / LSTV", "S1", "rib_left_3", "left_hip")]
        [20, 25, 26, 50, 0]
    """
    word = name.strip().lower().removeprefix("vertebrae_").removeprefix("vertebra_").replace("/", " ").split()
    first = word[0].upper() if word else ""
    if "rib" in first.lower().split("_") or first.lower().startswith("rib"):
        return RIB_LABEL
    if first == "S1":
        return NAMED_LABELS["SACRUM"]
    return NAMED_LABELS.get(first.split("_")[0], 0)
