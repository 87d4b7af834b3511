"""Reading of the images and label maps of records, their exclusion with a reason, and work on many records."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from rich.progress import Progress
from scipy import ndimage

from osteo_monai.batch import (
    EVERYTHING,
    Entry,
    Failure,
    Ledger,
    Selection,
    State,
    StoredOutcome,
    Workers,
    ledgers_below,
    process,
    read_ledger,
)
from osteo_monai.data import Record
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import ConfigError, OsteoError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_label_map
from osteo_monai.imaging.orientation import GRID_TOLERANCE, grid_distance
from osteo_monai.measurement import trabecular_region
from osteo_monai.utils.inputs import walk_tree
from osteo_monai.utils.locks import LockedError, folder_lock

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

LabelMap: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""Labels (X, Y, Z) and their affine (4, 4) to RAS+ mm."""

EXCLUDED_FILE = "excluded.csv"

_UNEXPECTED = "Unexpected error"


class ExcludedRecordError(OsteoError):
    """A record cannot be used; the message is the reason."""


def exclusion_reason(record: Record, error: Exception) -> str:
    """Return the reason for an exclusion; log an unexpected error without its text, which may quote a header."""
    if isinstance(error, (ExcludedRecordError, UnusableInputError, ScanRefusedError)):
        return " ".join(str(error).split())  # one cell of a table
    digest = hashlib.sha256(record.subject_id.encode()).hexdigest()[:8]
    logger.warning("record of subject %s (hash): unexpected %s", digest, type(error).__name__)
    logger.debug("traceback of subject %s", digest, exc_info=error)
    return f"{_UNEXPECTED} ({type(error).__name__})."


def only_file(names: str | Sequence[str] | None, base: Path, kind: str) -> Path:
    """Return the path of the only file of a record.

    Raises:
        ExcludedRecordError: if there is none or more than one.
    """
    files = (names,) if isinstance(names, str) else tuple(names or ())
    if len(files) != 1:
        raise ExcludedRecordError(f"The record must have one of {kind}, got {len(files)}.")
    return base / files[0]


def read_labels(path: Path) -> LabelMap:
    """Read a label map.

    Raises:
        ExcludedRecordError: if it is not a label map.
    """
    try:
        return read_label_map(path)
    except ValueError as error:
        raise ExcludedRecordError(f"The label map cannot be used: {error}.") from error


def check_bodies(record: Record, source: str) -> None:
    """Refuse a label of whole vertebrae as a region to measure: HU of pedicles and arch are not those of a body.

    The arch is not removed here: the error of a density in a body that is estimated from a whole vertebra is unknown.

    Raises:
        ExcludedRecordError: if ``source`` is ``label`` and the label has whole vertebrae.
    """
    if source == "label" and record.label_kind == "vertebra":
        raise ExcludedRecordError(
            "The label must be of bodies, got whole vertebrae; 'osteo-monai manifest segment' makes bodies."
        )


def check_grid(labels: LabelMap, shape: tuple[int, ...], affine: NDArray[np.float64], name: str) -> None:
    """Compare the grids of a label map and an image in canonical orientation.

    Raises:
        ExcludedRecordError: if they differ.
    """
    if labels[0].shape != shape:
        raise ExcludedRecordError(f"Shape of the {name} must be that of the image {shape}, got {labels[0].shape}.")
    distance = grid_distance(affine, labels[1], shape)
    if not distance <= GRID_TOLERANCE:
        raise ExcludedRecordError(f"The {name} is {distance:.1f} voxels from the image.")


def trabecular_region_of(
    volume: CTVolume, labels: NDArray[np.uint8], level: VertebraLevel
) -> tuple[tuple[slice, ...], NDArray[np.bool_]] | str:
    """Return the box of a body with a margin of 2 voxels and the trabecular mask in it, or why there is none."""
    boxes = ndimage.find_objects(labels, max_label=level.label)
    box = boxes[level.label - 1] if len(boxes) >= level.label else None
    if box is None:
        return f"{level} is not in the label map."
    part = tuple(slice(max(side.start - 2, 0), side.stop + 2) for side in box)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in part]
    valid = None if volume.valid is None else volume.valid[part]
    region = trabecular_region(labels[part] == level.label, volume.hu[part], affine, valid)
    return (part, region.mask) if region.reason is None else f"{level}: {region.reason}"


def image_name(record: Record) -> str:
    """Return the image paths of a record as one text."""
    return ";".join(record.images)


@dataclass(frozen=True)
class Recorded(Generic[Outcome]):
    """How the ledger of a folder records the records of a cohort, and which outcomes of earlier runs are kept.

    Attributes:
        folder: of the whole cohort; a part has its ledger in a folder below it.
        command: for its facts.
        keys: one for each record of the cohort, unique.
        reason: returns why a record is excluded; empty if it is not.
        identities: hash for each record of all that its outcome depends on.
        kind: type of an outcome, which pydantic can write as JSON and read.
        selection: records of this run.
        adopt: returns a stored outcome of the record at a place as it is kept; ``None`` if its files are not whole.
        apart: use a process of its own after a killed run, so that a record which ends its process cannot end the run.
    """

    folder: Path
    command: str
    keys: Sequence[str]
    reason: Callable[[Outcome], str]
    identities: Sequence[str]
    kind: Any
    selection: Selection = EVERYTHING
    adopt: Callable[[int, Outcome], Outcome | None] = lambda place, outcome: outcome
    apart: bool = True

    def state(self, outcome: Outcome | Failure) -> tuple[State, str, str]:
        """Return state, code and reason of a record."""
        if isinstance(outcome, Failure):
            return "failed", outcome.code, _sentence(outcome)
        reason = self.reason(outcome)
        if not reason:
            return "measured", "", ""
        if reason.startswith(_UNEXPECTED):
            return "failed", "internal_error", reason
        return "refused", "excluded", reason

    def store(self, place: int, outcome: Outcome) -> StoredOutcome:
        """Return an outcome as the ledger stores it."""
        return StoredOutcome(self.identities[place], self._adapter.dump_json(outcome).decode())

    def kept(self) -> "dict[str, _Kept[Outcome]]":
        """Return the outcomes of earlier runs that are kept, by key: those of the cohort or of any of its parts."""
        found: dict[str, _Kept[Outcome]] = {}
        for entry, stored, place in self._stored():
            if entry.state in self.selection.retry or stored.identity != self.identities[place]:
                continue
            with suppress(ValidationError):  # of another version, or damaged: processed again
                outcome = self.adopt(place, self._adapter.validate_json(stored.content))
                if outcome is not None:
                    found[entry.study] = _Kept(entry, stored, outcome)
        return found

    def changed(self) -> dict[int, float]:
        """Return the records of this run with outcomes of earlier runs, none of which has the same hash.

        Returns:
            Unix time of the last outcome, by place.
        """
        ends: dict[int, float] = {}
        same = set()
        for entry, stored, place in self._stored():
            ends[place] = max(ends.get(place, 0.0), entry.ended or 0.0)
            if stored.identity == self.identities[place]:
                same.add(place)
        return {place: ends[place] for place in self.selection.places(self.keys) if place in ends.keys() - same}

    def _stored(self) -> Iterator[tuple[Entry, StoredOutcome, int]]:
        """Yield what the ledgers of the cohort and of its parts store of a record, with its place."""
        if not self.selection.resume or not self.folder.is_dir():
            return
        places = {key: place for place, key in enumerate(self.keys)}
        for path in ledgers_below(self.folder).values():
            content = read_ledger(path, outcomes=True)
            if content.facts.get("command") != self.command:  # the same records have other outcomes there
                continue
            for entry in content.entries:
                stored, place = content.outcomes.get(entry.study), places.get(entry.study)
                if stored is not None and place is not None:
                    yield entry, stored, place

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.kind)


@dataclass(frozen=True)
class _Kept(Generic[Outcome]):
    """An outcome of an earlier run."""

    entry: Entry
    stored: StoredOutcome
    outcome: Outcome


def record_identity(record: Record, base: Path, facts: Sequence[object]) -> str:
    """Return a hash of all that the outcome of a record depends on.

    Args:
        record: of a manifest; names, sizes and times of its files count, the files are not read.
        base: folder that its paths start from.
        facts: versions, options, weights.
    """
    files: list[object] = []
    for path in _files_below(record_files(record, base)):
        try:
            status = path.stat()
        except OSError:
            files.append([path.name, None])
        else:
            files.append([path.name, status.st_size, status.st_mtime_ns])
    values = [_version(), record.model_dump_json(), files, *map(str, facts)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _version() -> str:
    try:
        return version("osteo_monai")
    except PackageNotFoundError:
        return ""


def _files_below(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for _, files in walk_tree(path) for file in files)
        else:
            yield path


def record_files(record: Record, base: Path) -> list[Path]:
    """Return the images and label maps of a record; an image may be a folder."""
    return [base / name for name in (*record.images, *_names(record.label), *_names(record.segmentation))]


def _names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def record_keys(records: Iterable[Record]) -> list[str]:
    """Return a key for each record: its images, with a number where they are repeated."""
    taken: Counter[str] = Counter()
    keys = []
    for record in records:
        name = image_name(record)
        taken[name] += 1
        keys.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return keys


@contextmanager
def locked_output(folder: Path) -> Iterator[None]:
    """Make the output folder of a run and hold its lock.

    Raises:
        ConfigError: another run writes to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except LockedError:
            raise ConfigError(f"the output folder must be one that no other run writes to, got '{folder}'") from None
        yield


def run_jobs(
    load: Callable[[], Callable[[Job], Outcome]],
    jobs: Sequence[Job],
    workers: Workers,
    title: str,
    failed: Callable[[str], Outcome],
    recorded: Recorded[Outcome] | None = None,
    files_of: Callable[[Job], Sequence[Path]] = lambda job: (),
) -> dict[int, Outcome]:
    """Process each job of the selection and return the outcomes by the places of the jobs, in their order.

    Args:
        load: loads the models of a worker and returns what processes one job; can be pickled where workers are
            processes.
        jobs: of the whole cohort.
        workers: number, limits and place.
        title: of the progress bar.
        failed: makes the outcome of a job that was not processed from the reason, one sentence.
        recorded: also write a ledger, and keep outcomes of earlier runs.
        files_of: what is read ahead, see :func:`osteo_monai.batch.process`.

    Raises:
        OsteoError: the models cannot be loaded.
        ConfigError: another run writes to the folder of the ledger.
    """
    places = list(range(len(jobs))) if recorded is None else recorded.selection.places(recorded.keys)
    outcomes: dict[int, Outcome] = {}
    with ExitStack() as stack:
        ledger = None if recorded is None else stack.enter_context(_Recording.begun(recorded, places, workers))
        if ledger is not None:
            outcomes |= ledger.kept
            workers = replace(workers, apart=workers.apart or ledger.was_killed)
        todo = [place for place in places if place not in outcomes]
        bar = stack.enter_context(Progress(*Progress.get_default_columns()))
        task = bar.add_task(title, total=len(places), completed=len(outcomes))

        def on_start(index: int) -> None:
            if ledger is not None:
                ledger.start(todo[index])

        for index, ended in process(load, [jobs[place] for place in todo], workers, on_start, files_of):
            place = todo[index]
            outcomes[place] = failed(_sentence(ended)) if isinstance(ended, Failure) else ended
            if ledger is not None:
                ledger.finish(place, ended, outcomes[place])
            bar.advance(task)
    return {place: outcomes[place] for place in places}


@dataclass(frozen=True)
class _Recording(Generic[Outcome]):
    """The ledger of a run that continues.

    Attributes:
        kept: outcomes of earlier runs by place.
        was_killed: a record that is processed again was running when an earlier run was killed.
    """

    recorded: Recorded[Outcome]
    ledger: Ledger
    kept: dict[int, Outcome]
    was_killed: bool

    @classmethod
    @contextmanager
    def begun(
        cls, recorded: Recorded[Outcome], places: Sequence[int], workers: Workers
    ) -> "Iterator[_Recording[Outcome]]":
        """Lock the folder and begin the ledger.

        Raises:
            ConfigError: another run writes to the folder.
        """
        folder = recorded.selection.folder(recorded.folder)
        keys = {place: recorded.keys[place] for place in places}
        with ExitStack() as stack:
            stack.enter_context(locked_output(folder))
            kept = {key: found for key, found in recorded.kept().items() if key in set(keys.values())}
            ledger = stack.enter_context(Ledger(folder))
            entries = [
                replace(kept[key].entry, position=place) if key in kept else Entry(key, "record", position=place)
                for place, key in keys.items()
            ]
            facts = {"command": recorded.command, "workers": workers.count}
            broken = ledger.begin(entries, facts, {key: found.stored for key, found in kept.items()})
            stack.callback(ledger.end)
            outcomes = {place: kept[key].outcome for place, key in keys.items() if key in kept}
            again = set(keys.values()) - set(kept)
            yield cls(recorded, ledger, outcomes, recorded.apart and bool(again & set(broken)))

    def start(self, place: int) -> None:
        """Record that a record is given to a worker."""
        self.ledger.start(self.recorded.keys[place])

    def finish(self, place: int, ended: Outcome | Failure, outcome: Outcome) -> None:
        """Record the state of a record and store its outcome."""
        stored = self.recorded.store(place, outcome)
        self.ledger.finish(self.recorded.keys[place], *self.recorded.state(ended), stored)


def _sentence(failure: Failure) -> str:
    return f"Not processed: {failure.reason}."


@dataclass(frozen=True)
class Ready(Generic[Job, Outcome]):
    """Loads nothing: work that needs no models, such as a function of a module."""

    work: Callable[[Job], Outcome]

    def __call__(self) -> Callable[[Job], Outcome]:
        return self.work
