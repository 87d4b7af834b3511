"""Which DICOM files of a folder tree belong to one study, and the path that each study is given by."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.dicom_headers import (
    COMPANION_MODALITIES,
    Instance,
    looks_like_dicom,
    read_instance,
    walk_files,
)

IDENTIFIERS_MADE_ANEW = 4
"""So many CT slices in one folder, each the only one of its study, have lost their identifier to an anonymiser that
makes a new one per file (project custom): they are kept together, to be refused as one."""


@dataclass(frozen=True)
class StudyPart:
    """The DICOM files of one study that lie in one folder.

    Attributes:
        key: equal for the parts of one study (see ``Instance.study_key``); empty where it is unknown.
        files: in a fixed order; files that cannot be read are with the largest part of their folder.
        by_modality: those that can be read.
        ct: whether there is a CT image among them.
        alone: whether the folder holds no other study.
        spokesman: the file that stands for the study in a folder that it shares: its first CT image, else its first.
    """

    key: str
    folder: Path
    files: tuple[Path, ...]
    by_modality: Mapping[str, tuple[Path, ...]]
    ct: bool
    alone: bool
    spokesman: Path


def walk_studies(path: Path) -> Iterator[tuple[Path, list[StudyPart], list[Path]]]:
    """Yield each folder of a tree with its studies and with its files that are no DICOM.

    Objects that only go with images (segmentations, reports, RT objects) make no study of their own where images lie
    beside them in the folder, whatever study they name.
    """
    for folder, files in walk_files(path):
        dicom = [file for file in files if looks_like_dicom(file)]
        yield folder, study_parts(dicom), [file for file in files if file not in set(dicom)]


def study_parts(files: Sequence[Path]) -> list[StudyPart]:
    """Tell the studies of the DICOM files of one folder apart."""
    groups: defaultdict[str, list[Instance]] = defaultdict(list)
    unreadable: list[Path] = []
    for file in files:
        try:
            instance = _identify(file)
        except UnusableInputError:
            unreadable.append(file)
            continue
        groups[instance.study_key].append(instance)
    _keep_together(groups)
    images = {k: v for k, v in groups.items() if any(i.modality not in COMPANION_MODALITIES for i in v)}
    groups = defaultdict(list, images) if images else groups
    if not groups:
        return [_part("", [], unreadable, True)] if unreadable else []
    largest = max(groups, key=lambda key: len(groups[key]))
    alone = len(groups) == 1
    return [_part(key, found, unreadable if key == largest else [], alone) for key, found in groups.items()]


def study_of_slice(file: Path) -> tuple[list[Path], int]:
    """Return the DICOM files that lie beside a single-frame CT image and belong to its study, it included.

    Returns:
        files, ``[file]`` alone where it is no such image; and how many images of other studies lie in the folder. Files
        that name no study are taken as one.
    """
    try:
        own = _identify(file)
    except UnusableInputError:
        return [file], 0  # whoever reads it tells why
    if not own.is_ct or own.frames > 1:
        return [file], 0
    files, others = [], 0
    beside = [f for f in sorted(file.parent.iterdir()) if f.is_file() and looks_like_dicom(f)]
    for one in beside:
        try:
            instance = _identify(one)
        except UnusableInputError:
            files.append(one)  # told as damaged
            continue
        if instance.study_key == own.study_key:
            files.append(one)
        elif instance.modality not in COMPANION_MODALITIES:
            others += 1
    return files, others


def study_paths(parts: Sequence[StudyPart], beside: Sequence[StudyPart] = ()) -> list[Path]:
    """Return a path for each study.

    Folders of one study are given by the folder they share if that holds no other study. In a folder of several
    studies each is given by one of its files, which stands for those of its study there.

    Args:
        parts: of the studies wanted.
        beside: of other studies of the tree.
    """
    found: list[Path] = []
    members: defaultdict[str, list[StudyPart]] = defaultdict(list)
    for part in parts:
        members[part.key or f"no identifier {part.folder}"].append(part)
    for own in members.values():
        found += [part.spokesman for part in own if not part.alone]
        folders = [part.folder for part in own if part.alone]
        if folders:
            shared = Path(os.path.commonpath(folders))
            foreign = any(p.folder.is_relative_to(shared) for p in (*parts, *beside) if p not in own)
            found += folders if foreign else [shared]
    return found


def _identify(file: Path) -> Instance:
    with pydicom.config.disable_value_validation():  # type: ignore[no-untyped-call]
        return read_instance(file)


def _part(key: str, instances: Sequence[Instance], unreadable: Sequence[Path], alone: bool) -> StudyPart:
    files = sorted([*(i.path for i in instances), *unreadable])
    ct = sorted(i.path for i in instances if i.is_ct)
    return StudyPart(
        key=key,
        folder=files[0].parent,
        files=tuple(files),
        by_modality={m: tuple(i.path for i in instances if i.modality == m) for m in {i.modality for i in instances}},
        ct=bool(ct),
        alone=alone,
        spokesman=ct[0] if ct else files[0],
    )


def _keep_together(groups: dict[str, list[Instance]]) -> None:
    """Put CT slices that are each the only one of their study into one group."""
    single = [k for k, v in groups.items() if k and len(v) == 1 and v[0].is_ct and v[0].frames <= 1]
    if len(single) >= IDENTIFIERS_MADE_ANEW:
        together = [groups.pop(key)[0] for key in single]
        groups[""] = [*groups.get("", []), *together]
