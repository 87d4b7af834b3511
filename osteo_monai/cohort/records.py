"""Reading of the images and label maps of records, their exclusion with a reason, and work on many records."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy import ndimage

from osteo_monai.batch import Entry, Failure, Ledger, State, Workers, process
from osteo_monai.data import Record
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import ConfigError, OsteoError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_label_map
from osteo_monai.imaging.orientation import GRID_TOLERANCE, grid_distance
from osteo_monai.measurement import trabecular_region
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
    """How the ledger of a folder records the records of a cohort.

    Attributes:
        folder: of the ledger.
        command: for its facts.
        keys: one for each job, unique.
        reason: returns why a record is excluded; empty if it is not.
    """

    folder: Path
    command: str
    keys: Sequence[str]
    reason: Callable[[Outcome], str]

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


def record_keys(records: Iterable[Record]) -> list[str]:
    """Return a key for each record: its images, with a number where they are repeated."""
    taken: Counter[str] = Counter()
    keys = []
    for record in records:
        name = image_name(record)
        taken[name] += 1
        keys.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return keys


def run_jobs(
    load: Callable[[], Callable[[Job], Outcome]],
    jobs: Sequence[Job],
    workers: Workers,
    title: str,
    failed: Callable[[str], Outcome],
    recorded: Recorded[Outcome] | None = None,
) -> list[Outcome]:
    """Process each job and return the outcomes in the order of the jobs.

    Args:
        load: loads the models of a worker and returns what processes one job; can be pickled where workers are
            processes.
        workers: number, limits and place.
        title: of the progress bar.
        failed: makes the outcome of a job that was not processed from the reason, one sentence.
        recorded: also write a ledger.

    Raises:
        OsteoError: the models cannot be loaded.
        ConfigError: another run writes to the folder of the ledger.
    """
    outcomes: dict[int, Outcome] = {}
    with ExitStack() as stack:
        ledger = None if recorded is None else stack.enter_context(_ledger(recorded, workers))
        bar = stack.enter_context(Progress(*Progress.get_default_columns()))
        task = bar.add_task(title, total=len(jobs))

        def on_start(index: int) -> None:
            if ledger is not None and recorded is not None:
                ledger.start(recorded.keys[index])

        for index, outcome in process(load, jobs, workers, on_start):
            outcomes[index] = failed(_sentence(outcome)) if isinstance(outcome, Failure) else outcome
            if ledger is not None and recorded is not None:
                ledger.finish(recorded.keys[index], *recorded.state(outcome))
            bar.advance(task)
    return [outcomes[index] for index in range(len(jobs))]


@contextmanager
def _ledger(recorded: Recorded[Outcome], workers: Workers) -> Iterator[Ledger]:
    recorded.folder.mkdir(parents=True, exist_ok=True)
    facts = {"command": recorded.command, "workers": workers.count}
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(recorded.folder))
        except LockedError:
            raise ConfigError(
                f"the output folder must be one that no other run writes to, got '{recorded.folder}'"
            ) from None
        ledger = stack.enter_context(Ledger(recorded.folder))
        ledger.begin([Entry(key, "record") for key in recorded.keys], facts)
        stack.callback(ledger.end)
        yield ledger


def _sentence(failure: Failure) -> str:
    return f"Not processed: {failure.reason}."


@dataclass(frozen=True)
class Ready(Generic[Job, Outcome]):
    """Loads nothing: work that needs no models, such as a function of a module."""

    work: Callable[[Job], Outcome]

    def __call__(self) -> Callable[[Job], Outcome]:
        return self.work
