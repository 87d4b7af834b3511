"""Grouping of the DICOM files of a folder tree into studies, and a path for each study."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import clean_text
from osteo_monai.imaging.dicom_headers import (
    COMPANION_MODALITIES,
    Instance,
    looks_like_dicom,
    read_instance,
)
from osteo_monai.utils.inputs import OnSkip, ignore_skipped, walk_tree

IDENTIFIERS_MADE_ANEW = 4
"""Number of CT slices in one folder, each the only one of its study, from which on they count as one study: an
anonymiser has given each file a new identifier (project custom)."""


@dataclass(frozen=True)
class StudyPart:
    """DICOM files of one study in one folder.

    Attributes:
        key: equal for the parts of one study (see ``Instance.study_key``); empty if unknown.
        files: in a fixed order; unreadable files belong to the largest part of their folder.
        by_modality: the readable ones.
        ct: whether there is a CT image among them.
        only_study: whether the folder contains no other study.
        representative: path of the study in a folder with several: its first CT image, else its first file.
        person: known sex and birth date by keyword, for comparison only.
    """

    key: str
    folder: Path
    files: tuple[Path, ...]
    by_modality: Mapping[str, tuple[Path, ...]]
    ct: bool
    only_study: bool
    representative: Path
    person: Mapping[str, str] = field(default_factory=dict, repr=False)


def walk_studies(
    path: Path, on_skip: OnSkip = ignore_skipped, exclude: Collection[Path] = ()
) -> Iterator[tuple[Path, list[StudyPart], list[Path]]]:
    """Yield each folder of a tree with its studies and its files that are not DICOM.

    Objects that accompany images (segmentations, reports, RT objects) form no study if there are images in the folder,
    independent of their StudyInstanceUID.

    Args:
        path: a folder.
        on_skip: called for each entry that is left out, see :func:`osteo_monai.utils.inputs.walk_tree`.
        exclude: folders to leave out.
    """
    for folder, files in walk_tree(path, on_skip, exclude):
        dicom = {file for file in files if looks_like_dicom(file)}
        parts = study_parts([file for file in files if file in dicom])
        for file in sorted(dicom.difference(*(part.files for part in parts))):
            on_skip(file, "object beside images (segmentation, report, RT)")
        yield folder, parts, [file for file in files if file not in dicom]


def separate_people(parts: Sequence[StudyPart]) -> list[StudyPart]:
    """Return the parts with different keys where one study in several folders has two sexes or birth dates.

    Some anonymisers write one StudyInstanceUID and no PatientID for all people.
    """
    people: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    separate = []
    for part in parts:
        known = people[part.key]
        number = next((n for n, person in enumerate(known) if _may_be_one(person, part.person)), len(known))
        if number == len(known):
            known.append({})
        known[number] |= part.person
        separate.append(replace(part, key=f"{part.key} {number}") if part.key and number else part)
    return separate


def _may_be_one(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(other.get(fact, value) == value for fact, value in one.items())


def study_parts(files: Sequence[Path]) -> list[StudyPart]:
    """Group the DICOM files of one folder into studies."""
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
    only = len(groups) == 1
    return [_part(key, members, unreadable if key == largest else [], only) for key, members in groups.items()]


def study_of_slice(file: Path) -> tuple[list[Path], int]:
    """Return the DICOM files of the study of a single-frame CT image in its folder, including the image.

    Returns:
        files, only ``[file]`` if it is not such an image; and the number of images of other studies in the folder.
        Files without a study form one.
    """
    try:
        chosen = _identify(file)
    except UnusableInputError:
        return [file], 0  # reading reports the reason
    if not chosen.is_ct or chosen.frames > 1:
        return [file], 0
    files, others = [], 0
    beside = [f for f in sorted(file.parent.iterdir()) if looks_like_dicom(f)]
    for neighbour in beside:
        try:
            instance = _identify(neighbour)
        except UnusableInputError:
            files.append(neighbour)  # reading reports it as damaged
            continue
        if instance.study_key == chosen.study_key:
            files.append(neighbour)
        elif instance.modality not in COMPANION_MODALITIES:
            others += 1
    return files, others


def study_paths(parts: Sequence[StudyPart], beside: Sequence[StudyPart] = ()) -> list[Path]:
    """Return a path for each study.

    The path is the folder that contains all parts of a study and no other one; in a folder of several studies it is the
    representative file of each.

    Args:
        parts: of the requested studies.
        beside: parts of other studies in the tree.
    """
    paths: list[Path] = []
    members: defaultdict[str, list[StudyPart]] = defaultdict(list)
    for part in parts:
        members[part.key or f"no identifier {part.folder}"].append(part)
    for study in members.values():
        paths += [part.representative for part in study if not part.only_study]
        folders = [part.folder for part in study if part.only_study]
        if folders:
            shared = Path(os.path.commonpath(folders))
            mixed = any(p.folder.is_relative_to(shared) for p in (*parts, *beside) if p not in study)
            paths += folders if mixed else [shared]
    return paths


def _identify(file: Path) -> Instance:
    with pydicom.config.disable_value_validation():
        return read_instance(file)


def _part(key: str, instances: Sequence[Instance], unreadable: Sequence[Path], only_study: bool) -> StudyPart:
    files = sorted([*(i.path for i in instances), *unreadable])
    ct = sorted(i.path for i in instances if i.is_ct)
    return StudyPart(
        key=key,
        folder=files[0].parent,
        files=tuple(files),
        by_modality={m: tuple(i.path for i in instances if i.modality == m) for m in {i.modality for i in instances}},
        ct=bool(ct),
        only_study=only_study,
        representative=ct[0] if ct else files[0],
        person=_person(instances),
    )


def _person(instances: Sequence[Instance]) -> dict[str, str]:
    """Return sex and birth date where all instances that state them agree."""
    facts = {}
    for keyword in ("PatientSex", "PatientBirthDate"):
        values = {clean_text(i.header.get(keyword)).upper() for i in instances} - {""}
        if len(values) == 1:
            facts[keyword] = values.pop()
    return facts


def _keep_together(groups: dict[str, list[Instance]]) -> None:
    """Merge CT slices that are each the only one of their study into one group."""
    single = [k for k, v in groups.items() if k and len(v) == 1 and v[0].is_ct and v[0].frames <= 1]
    if len(single) >= IDENTIFIERS_MADE_ANEW:
        together = [groups.pop(key)[0] for key in single]
        groups[""] = [*groups.get("", []), *together]
