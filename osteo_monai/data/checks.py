"""Checks of a manifest beyond its schema: contradictions, units, files. Each function returns sentences."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from osteo_monai.data.record import Record
from osteo_monai.domain import SCREENED_LEVELS, DensityThresholds
from osteo_monai.norms import NORM_SOURCE, density_norm
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.inputs import open_input

MEAN_TOLERANCE_MG_CM3 = 0.51
"""Largest difference of a rounded subject density from the mean of its rounded L1 and L2 densities."""

DENSITY_IN_G_CM3_BELOW = 1.6
"""mg/cm3. A positive density below this is treated as one in g/cm3 (0.01 to 0.3) or g/cm2 (0.4 to 1.6): the lowest of
Pan's 1,048 subjects is 5.7 mg/cm3. Choice of this project."""

DENSITY_NOT_HU_BELOW = 400.0
"""mg/cm3. A density above this is treated as one in HU: the highest of Pan's 1,048 subjects is 295.1 mg/cm3. Choice of
this project."""

HU_SHIFT_SD, HU_SHIFT_SUBJECTS = 1.25, 20
"""Densities of at least this number of subjects that are on average this number of standard deviations above the norm
of age and sex are treated as HU: trabecular bone of 130 mg/cm3 K2HPO4 has about 170 HU at 120 kVp, 1.3 to 1.6 SD above
the norm, while the means of healthy populations differ by less than 0.5 SD. Choice of this project."""

HU_NOTE_SD = 0.5
"""The same for a note: the means of healthy populations differ by less, but so do densities of which half are in HU, or
all too high by a fifth. Choice of this project."""

ADULT_YEARS, SHORTEST_ADULT_CM = 18.0, 90.0
"""The height of an adult below this is treated as one in inches or a typing error."""

UNIT_HINTS: Mapping[str, str] = {
    "age": "expected years; is it in months, in days, or a year of birth?",
    "height_cm": "expected centimetres; is it in metres or millimetres?",
    "weight_kg": "expected kilograms; is it in grams?",
    "bmd_mg_cm3": "expected mg/cm3 of trabecular bone; is it in another unit?",
    "areal_bmd_g_cm2": "expected g/cm2; is it in mg/cm2, or a volumetric density?",
    "kvp": "expected kilovolts; is it in volts?",
    "slice_thickness_mm": "expected millimetres; is it in micrometres?",
}
"""Hint for a value outside the bounds of its field; the value itself is not quoted."""

_SAMPLED_BYTES = 2**16

Place = tuple[str, int]
"""Split and position in it."""


def contradictions(
    splits: Mapping[str, Sequence[Record]],
    thresholds: DensityThresholds,
    virtual: bool,
    name: Callable[[Place], str] = lambda place: f"{place[0]}[{place[1]}]",
) -> list[str]:
    """Report contradictions within and between records, and values in another unit.

    Args:
        splits: the records of each split.
        thresholds: with which ``bone_status`` must agree.
        virtual: the people are simulated; their densities may be drawn freely and are not compared with norms.
        name: of a record in a sentence.
    """
    problems: list[str] = []
    splits_of: dict[str, set[str]] = defaultdict(set)
    images, facts = _Images(), _Facts()
    for split, records in splits.items():
        for position, record in enumerate(records):
            place = name((split, position))
            splits_of[record.subject_id].add(split)
            own_problems = (*images.problems(record, place), *_densities(record, thresholds), *_units(record))
            problems += [f"{place}: {problem}" for problem in (*own_problems, *facts.problems(record, place))]
    for subject, names in splits_of.items():
        if len(names) > 1:
            problems.append(f"subject {subject!r} is in more than one split: {', '.join(sorted(names))}")
    if not virtual:
        problems += _density_like_hu(record for records in splits.values() for record in records)
    return problems


class _Images:
    """Images of the records so far."""

    def __init__(self) -> None:
        self._records: dict[tuple[tuple[str, ...], str | None], str] = {}
        self._owners: dict[str, tuple[str, str]] = {}

    def problems(self, record: Record, place: str) -> Iterator[str]:
        """Report an image that another record has; add those of this record, which is called ``place``."""
        paths = tuple(os.path.normpath(path) for path in record.images)
        earlier = self._records.setdefault((paths, record.level), place)
        if earlier != place:
            level = "" if record.level is None else f" of level {record.level}"
            yield f"duplicates {earlier}, both have the same image{level}"
            return
        for path in paths:
            subject, owner = self._owners.setdefault(path, (record.subject_id, place))
            if subject != record.subject_id:
                yield f"its image is that of another subject in {owner}"


class _Facts:
    """Facts of the subjects so far."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], tuple[object, str]] = {}

    def problems(self, record: Record, place: str) -> Iterator[str]:
        """Report facts that differ from an earlier record of the subject."""
        for fact in ("sex", "bmd_mg_cm3", "bmd_standard", "bone_status", "level_bmd_mg_cm3"):
            value = getattr(record, fact)
            if value is None:
                continue
            first, earlier = self._facts.setdefault((record.subject_id, fact), (value, place))
            if first != value:
                yield f"{fact} differs from the one of the same subject in {earlier}"


def _densities(record: Record, thresholds: DensityThresholds) -> Iterator[str]:
    """Report disagreement between the subject's density, its levels and its class."""
    bmd, levels = record.bmd_mg_cm3, record.level_bmd_mg_cm3 or {}
    if bmd is not None and all(level in levels for level in SCREENED_LEVELS):
        average = mean(levels[level] for level in SCREENED_LEVELS)
        if abs(average - bmd) > MEAN_TOLERANCE_MG_CM3:
            yield f"bmd_mg_cm3 is {bmd:g}, but the mean of {' and '.join(SCREENED_LEVELS)} is {average:g} mg/cm3"
    if bmd is None or record.bone_status is None or record.bmd_standard is None:
        return
    if record.bmd_standard != thresholds.standard:
        yield (
            f"bone_status cannot be checked: bmd_mg_cm3 is in mg/cm3 {record.bmd_standard}, "
            f"the thresholds are in mg/cm3 {thresholds.standard}; convert the density"
        )
    elif (expected := thresholds.status(bmd, record.bmd_standard)) != record.bone_status:
        yield f"bone_status is {record.bone_status}, but {bmd:g} mg/cm3 {record.bmd_standard} means {expected}"


def _units(record: Record) -> Iterator[str]:
    """Report values within the bounds of their fields that are implausible in their unit."""
    densities = {"bmd_mg_cm3": record.bmd_mg_cm3}
    densities |= {f"level_bmd_mg_cm3.{level}": value for level, value in (record.level_bmd_mg_cm3 or {}).items()}
    for field, value in densities.items():
        if value is None:
            continue
        if 0 <= value < DENSITY_IN_G_CM3_BELOW:
            kind = "g/cm3, or in g/cm2 from DXA" if value else "no unit: a zero for an unknown value"
            yield f"{field} is {value:g}, which looks like {kind}; expected mg/cm3 of trabecular bone"
        elif value > DENSITY_NOT_HU_BELOW:
            yield f"{field} is {value:g}, which looks like HU; expected mg/cm3 of trabecular bone"
    if (record.age or 0) >= ADULT_YEARS and record.height_cm is not None and record.height_cm < SHORTEST_ADULT_CM:
        yield f"height_cm is {record.height_cm:g}, too small for an adult; expected centimetres, is it in inches?"


def _density_like_hu(records: Iterable[Record]) -> Iterator[str]:
    """Report densities in HU: they overlap with mg/cm3 in a person, but their cohort mean is far above the norm."""
    subjects, shift = _above_norm(records)
    if subjects >= HU_SHIFT_SUBJECTS and shift > HU_SHIFT_SD:
        yield (
            f"bmd_mg_cm3 is on average {shift:.1f} standard deviations above the norm of age and sex in "
            f"{subjects} subjects ({NORM_SOURCE}), which looks like HU; expected mg/cm3 of trabecular bone"
        )


def high_density_note(records: Iterable[Record]) -> str | None:
    """Return a sentence if the densities are too high on average for healthy people, but not as high as HU."""
    subjects, shift = _above_norm(records)
    if subjects < HU_SHIFT_SUBJECTS or not HU_NOTE_SD < shift <= HU_SHIFT_SD:
        return None
    return (
        f"bmd_mg_cm3 is on average {shift:.1f} standard deviations above the norm of age and sex in {subjects} "
        "subjects: check that all densities are in mg/cm3, none in HU."
    )


def _above_norm(records: Iterable[Record]) -> tuple[int, float]:
    """Return the number of subjects with age and density, and their mean difference from the norm in its SD."""
    people = {r.subject_id: r for r in records if None not in (r.age, r.bmd_mg_cm3)}
    shifts = []
    for record in people.values():
        norm = density_norm(record.age or 0.0, record.sex)
        if norm is not None and record.bmd_mg_cm3 is not None:
            shifts.append((record.bmd_mg_cm3 - norm.mean) / norm.sd)
    return len(shifts), mean(shifts) if shifts else 0.0


# --- files --------------------------------------------------------------------------------------------------------


def missing_files(splits: Mapping[str, Sequence[Record]], base: Path) -> list[str]:
    """Report files that records name and that do not exist."""
    return [
        f"{split}[{position}]: there is no file {name}"
        for split, records in splits.items()
        for position, record in enumerate(records)
        for name in record.files
        if not (base / name).exists()
    ]


def same_content(splits: Mapping[str, Sequence[Record]], base: Path) -> list[str]:
    """Report images at different paths with the same bytes.

    Sizes are compared first, then three samples of the bytes, then all bytes, so that few files are read completely.
    Folders are compared by their files, without their names.
    """
    places: dict[str, str] = {}
    for split, records in splits.items():
        for position, record in enumerate(records):
            for name in record.images:
                places.setdefault(os.path.normpath(name), f"{split}[{position}]")
    groups = [[name for name in places if (base / name).exists()]]
    for signature in (_sizes, _samples, _hashes):
        groups = [group for candidates in groups for group in _grouped(candidates, signature, base)]
    return [
        f"{places[copy]}: its image {copy} has the same content as {group[0]} in {places[group[0]]}"
        for group in groups
        for copy in group[1:]
    ]


def _grouped(names: Sequence[str], signature: Callable[[list[Path]], object], base: Path) -> list[list[str]]:
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        path = base / name
        files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
        groups[signature(files)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _sizes(files: list[Path]) -> object:
    sizes = tuple(sorted(f.stat().st_size for f in files))
    # empty files and folders are not copies; reading them reports the fault
    return sizes if any(sizes) else (files[0] if files else object())


def _samples(files: list[Path]) -> object:
    return tuple(sorted(_sample(f) for f in files))


def _sample(file: Path) -> str:
    size, digest = file.stat().st_size, hashlib.sha256()
    with open_input(file) as stream:
        for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def _hashes(files: list[Path]) -> object:
    return tuple(sorted(file_sha256(file) for file in files))
