"""Build a manifest from a table and a folder of images."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from osteo_monai.data.checks import contradictions, high_density_note
from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.from_table.flow import Exclusion, Stage, apply_rules
from osteo_monai.data.from_table.images import (
    fill_from_headers,
    fill_from_label_maps,
    fill_from_screening,
    find_images,
    read_ct_header,
)
from osteo_monai.data.from_table.radiographs import (
    OnRadiograph,
    choose_radiographs,
    fill_from_radiographs,
    find_radiograph_rows,
)
from osteo_monai.data.from_table.rules import RULE_SETS
from osteo_monai.data.from_table.table import BuildOptions, TableRow, read_subjects
from osteo_monai.data.manifest import Header, Manifest, sentences
from osteo_monai.data.record import Record
from osteo_monai.domain import SCREENED_LEVELS
from osteo_monai.errors import ManifestError, UnusableInputError

__all__ = ["Build", "BuildProducts", "build_manifest", "build_products"]

_NO_STANDARD = (
    "densities in mg/cm3 need their standard: K2HPO4 or hydroxyapatite in a column bmd_standard or as --standard"
)


@dataclass(frozen=True)
class BuildProducts:
    """Files of a build, all in the folder of the manifest and named after it."""

    manifest: Path
    exclusions: Path
    flow_png: Path
    flow_svg: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, to be checked before any work."""
        return self.manifest, self.exclusions, self.flow_png, self.flow_svg


def build_products(manifest: Path) -> BuildProducts:
    """Return the files that belong to a manifest: ``one.json`` has ``one.exclusions.csv`` and ``one.flow.png``."""
    base = manifest.name.removesuffix(".json")
    exclusions, png, svg = (manifest.with_name(f"{base}.{name}") for name in ("exclusions.csv", "flow.png", "flow.svg"))
    return BuildProducts(manifest, exclusions, png, svg)


@dataclass(frozen=True)
class Build:
    """A manifest with the flow of its subjects.

    Attributes:
        manifest: its paths are relative to ``BuildOptions.folder``.
        exclusions: one for each excluded subject, in the order of the table.
        stages: of the flow diagram, from the table to the manifest; their counts add up.
        notes: sentences about what is unusual but no problem.
    """

    manifest: Manifest
    exclusions: tuple[Exclusion, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]

    def write_exclusions(self, path: Path) -> None:
        """Write ``subject_id``, ``stage`` and ``reason`` of each excluded subject as CSV."""
        rows = [(e.subject_id, e.stage, e.reason) for e in self.exclusions]
        write_table(path, ("subject_id", "stage", "reason"), rows)


def _no_progress(number: int, count: int) -> None:
    """Ignore a radiograph."""


def build_manifest(options: BuildOptions, on_radiograph: OnRadiograph = _no_progress) -> Build:
    """Join a table of subjects with a folder of images and apply a rule set.

    The image of a subject is named in its row, or it is the folder or file with the name of the subject, with or
    without ``sub-`` before it. Facts that the table does not have are from the DICOM headers or the JSON file of a
    NIfTI image. A subject with CT is excluded with all its images, by the first rule that applies to one of its rows.
    Each radiograph is read and checked, and its subject is excluded if none remains.

    Args:
        options: input of the build.
        on_radiograph: called before a radiograph is read, with its number and the number of all.

    Raises:
        ManifestError: listing all problems of the table and of the records made from it.
        UnusableInputError: the table or the folder cannot be read.
    """
    rows, problems, notes = read_subjects(options)
    if not options.images.is_dir():
        raise UnusableInputError(f"There is no folder '{options.images.name}' with the images.")
    rules = RULE_SETS[options.rules]
    kind = options.kind_of(rows)
    if kind == "radiograph":
        rows, image_problems, image_notes = find_radiograph_rows(rows, options.images)
        notes += [*image_notes, *fill_from_radiographs(rows, on_radiograph)]
    else:
        image_problems, image_notes = _join_ct(rows, options)
        notes += image_notes
    problems += image_problems
    flow = apply_rules(rows, rules.rules, options.exclude_unknown, kind)
    chosen = choose_radiographs(flow.kept, rules.first_only) if kind == "radiograph" else flow.kept
    if kind == "radiograph":
        notes += _left_out(rows, chosen)
    records, record_problems = _records(chosen if kind == "radiograph" else rows, options)
    problems += record_problems
    included = {row.subject for row in chosen}
    splits: dict[str, list[Record]] = defaultdict(list)
    for split, record in records:
        if record.subject_id in included:
            splits[split].append(record)
    if not problems and not splits:
        reasons = "; ".join(f"{reason}: {count}" for stage in flow.stages for reason, count in stage.excluded)
        problems += [f"no subject remains of {flow.stages[0].count} ({reasons})", *image_notes]
    if problems:
        raise ManifestError(options.table.name, list(dict.fromkeys(problems)))
    if not options.virtual and (note := high_density_note(record for _, record in records)):
        notes.append(note)
    manifest = Manifest(header=_header(options, flow.stages), splits={s: tuple(r) for s, r in splits.items()})
    return Build(manifest, flow.exclusions, flow.stages, tuple(notes))


def _join_ct(rows: Sequence[TableRow], options: BuildOptions) -> tuple[list[str], list[str]]:
    """Find the CT images of the rows and their facts; return problems and notes."""
    problems, notes = find_images(rows, options.images)
    notes += fill_from_headers(rows, read_ct_header)
    if options.screening is not None:
        notes += fill_from_screening(rows, options.screening)
    notes += fill_from_label_maps(rows)
    return problems, notes


def _left_out(rows: Sequence[TableRow], chosen: Sequence[TableRow]) -> list[str]:
    """Return a note on the radiographs of included subjects that are not in the manifest."""
    subjects, images = {row.subject for row in chosen}, {row.image for row in chosen}
    others = {row.image: row.lost for row in rows if row.subject in subjects and row.image not in images and row.image}
    if not others:
        return []
    unusable = Counter(reason for reason in others.values() if reason)
    unmet = sum(reason is None for reason in others.values())
    counts = [f"{reason}: {count}" for reason, count in unusable.items()]
    counts += [f"later, or excluded by a rule: {unmet}"] if unmet else []
    return [f"{len(others)} further radiographs of included subjects were left out ({'; '.join(counts)})."]


def _header(options: BuildOptions, stages: Sequence[Stage]) -> Header:
    description = f"Built from the table {options.table.name}."
    if options.rules != "none":
        description += f" Rules {options.rules}: {stages[-1].count} of {stages[0].count} subjects."
    return Header(name=options.name or options.table.stem, description=description, virtual=options.virtual)


def _records(rows: Sequence[TableRow], options: BuildOptions) -> tuple[list[tuple[str, Record]], list[str]]:
    """Return split and record of each row with a usable image, excluded subjects too, and all problems."""
    records: list[tuple[str, Record]] = []
    by_split: dict[str, list[Record]] = defaultdict(list)
    places: dict[tuple[str, int], str] = {}
    problems: list[str] = []
    for row in rows:
        try:
            record = _record(row, options)
        except ValidationError as error:
            problems += (_NO_STANDARD if "bmd_standard" in line else line for line in sentences(row.place, error))
            continue
        if row.image is None or row.lost is not None:
            continue
        split = row.facts["split"] or options.split
        places[split, len(by_split[split])] = row.place
        by_split[split].append(record)
        records.append((split, record))
    problems += contradictions(by_split, options.thresholds, options.virtual, lambda place: places[place])
    return records, problems


def _record(row: TableRow, options: BuildOptions) -> Record:
    """Return the record of a row, with paths relative to the folder of the manifest."""
    values = {name: row.facts[name] for name in Record.model_fields if row.facts.get(name) is not None}
    for name in ("label", "segmentation"):
        if name in values:
            # a path found with the image begins with the folder of the images, one in the table does not
            path = values[name] if isinstance(values[name], Path) else options.images / values[name]
            values[name] = str(path.absolute())
    values["image"] = "none" if row.image is None else str(row.image.absolute())
    levels = {str(level): row.facts[f"bmd_{level.lower()}_mg_cm3"] for level in SCREENED_LEVELS}
    if level_values := {level: value for level, value in levels.items() if value is not None}:
        values["level_bmd_mg_cm3"] = level_values
    return Record.model_validate(values).moved(options.images, options.folder)
