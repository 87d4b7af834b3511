"""Screen many studies: a study that fails does not stop the others and keeps its row in the summary."""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from osteo_monai.batch import THIS_PROCESS, Entry, Failure, Ledger, Part, State, Workers, process
from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.earlier import remove_temporary_in, write_batch
from osteo_monai.screening.names import output_names
from osteo_monai.screening.result import FrozenDict, ScreeningResult
from osteo_monai.screening.studies import Kind, Study
from osteo_monai.screening.summary import Row, SummaryWriter, summary_row

__all__ = ["ScreenOne", "failed_result", "screen_folder", "state_of"]

ScreenOne: TypeAlias = Callable[[Study, Path], ScreeningResult]
"""Screens one study; gets it and the folder for its output."""

Key: TypeAlias = Callable[[Study], str]

OnProgress: TypeAlias = Callable[[str, ScreeningResult | None], None]

_OUTPUT_ERRORS = frozenset(
    getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENAMETOOLONG")
)
_FAILED = frozenset(
    {"internal_error", "worker_died", "time_limit", "memory_limit", "output_failed", "model_not_installed"}
)
"""Codes of refusals that are no property of the study."""

logger = logging.getLogger(__name__)


def _ignore_progress(name: str, result: ScreeningResult | None) -> None:
    """Do nothing."""


def _no_key(study: Study) -> str:
    return ""


def screen_folder(
    studies: Sequence[Study],
    root: Path,
    output: Path,
    load: Callable[[], ScreenOne],
    on_progress: OnProgress = _ignore_progress,
    *,
    archives: Sequence[Path] = (),
    earlier: Callable[[Study, Path], ScreeningResult | None] = lambda study, folder: None,
    key: Key = _no_key,
    workers: Workers = THIS_PROCESS,
    part: Part | None = None,
    facts: Mapping[str, object] | None = None,
) -> list[Row]:
    """Screen many studies, each into a folder of its own below ``output``, and write ledger and summary table.

    A row is appended to ``summary.csv`` after each study, in the order of completion; at the end ``summary.csv`` and
    ``summary.json`` are written in the order of ``studies``. Output of a study that failed is kept. Errors of one
    study, of its folder, of its row and of ``on_progress`` do not stop the others. If an earlier run was killed, the
    studies are screened by processes of their own, so that a study which ends its process cannot end the batch again.

    Args:
        studies: in the order of screening.
        root: the folder of the studies; output folders are named by the path below it.
        output: folder for the results; made if missing.
        load: loads the models of a worker and returns what screens one study; can be pickled where workers are
            processes.
        on_progress: called with the name before a study (result ``None``) and after it; no result is kept in memory.
        archives: further folders that names are relative to.
        earlier: returns the result of an earlier run that is kept (study, folder of its output).
        key: of the result of a study that failed, see :func:`osteo_monai.screening.earlier.run_key`.
        workers: number, limits and place.
        part: screen this share of the studies only.
        facts: of the run, for the ledger.

    Returns:
        Rows of the summary in the order of ``studies``.

    Raises:
        OSError: if the summary cannot be written, at the start or at the end.
        UnusableInputError: a file with the name of the ledger is none.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = output_names([study.path for study in studies], root, *archives)
    jobs = [_Job(s, output / n, place) for place, (s, n) in enumerate(zip(studies, names, strict=True))]
    chosen = [job for job in jobs if part is None or part.holds(job.name)]
    write_batch(output, [job.name for job in chosen])
    rows: dict[str, Row] = {}
    entries = []
    for job in chosen:
        kept = earlier(job.study, job.folder)
        entries.append(_entry(job, kept))
        if kept is not None:
            rows[job.name] = summary_row(kept, job.name)
            _report(on_progress, job.name, kept)
    todo = [job for job in chosen if job.name not in rows]
    summary = SummaryWriter(output, _in_order(chosen, rows))
    with Ledger(output) as ledger:
        interrupted = ledger.begin(entries, facts or {})
        if {job.name for job in todo} & set(interrupted):
            workers = replace(workers, apart=True)

        def on_start(index: int) -> None:
            ledger.start(todo[index].name)
            _report(on_progress, todo[index].name, None)

        try:
            for index, outcome in process(_LoadSafely(load, key), todo, workers, on_start, _files_of):
                job = todo[index]
                result = _ended(job, outcome, key) if isinstance(outcome, Failure) else outcome
                rows[job.name] = summary_row(result, job.name)
                ledger.finish(job.name, *state_of(result))
                summary.add(rows[job.name])
                _report(on_progress, job.name, result)
        finally:
            ledger.end()
            summary.finish(_in_order(chosen, rows))
    return _in_order(chosen, rows)


@dataclass(frozen=True)
class _Job:
    study: Study
    folder: Path
    position: int

    @property
    def name(self) -> str:
        return self.folder.name


def _files_of(job: _Job) -> Sequence[Path]:
    return job.study.files or (job.study.path,)


@dataclass(frozen=True)
class _LoadSafely:
    """Loads what screens one study and turns its errors into results."""

    load: Callable[[], ScreenOne]
    key: Key

    def __call__(self) -> Callable[[_Job], ScreeningResult]:
        screen_one = self.load()
        return lambda job: _screen_safely(job, screen_one, self.key)


def state_of(result: ScreeningResult) -> tuple[State, str, str]:
    """Return state, codes and reasons of a result as the ledger has them.

    A refusal is a property of the study; an error, a limit, or a missing model has failed and may be repeated.
    """
    refusals = [finding for finding in result.findings if finding.severity is Severity.REFUSAL]
    codes = list(dict.fromkeys(finding.code for finding in refusals))
    state: State = "measured" if not refusals else "failed" if _FAILED & set(codes) else "refused"
    return state, "; ".join(codes), " ".join(finding.message for finding in refusals)


def _entry(job: _Job, kept: ScreeningResult | None) -> Entry:
    if kept is None:
        return Entry(job.name, job.study.kind, position=job.position)
    seconds = sum(kept.seconds.values())
    return Entry(job.name, job.study.kind, *state_of(kept), seconds=seconds, position=job.position)


def _in_order(jobs: Sequence[_Job], rows: Mapping[str, Row]) -> list[Row]:
    return [rows[job.name] for job in jobs if job.name in rows]


def _screen_safely(job: _Job, screen_one: ScreenOne, key: Key) -> ScreeningResult:
    started = time.perf_counter()
    try:
        return screen_one(job.study, job.folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # any error of one study must not stop the others
        _log_failure(job.name, error)
        return _stored(job, failed_result(job.name, error, time.perf_counter() - started, job.study.kind), key)


def _ended(job: _Job, failure: Failure, key: Key) -> ScreeningResult:
    """Return the result of a study whose worker was ended, and remove what it has left unfinished."""
    if job.folder.is_dir():
        remove_temporary_in(job.folder)
    finding = Finding(code=failure.code, severity=Severity.REFUSAL, message=f"Screening was stopped: {failure.reason}.")
    return _stored(job, _unusable(job.name, job.study.kind, finding), key)


def _stored(job: _Job, result: ScreeningResult, key: Key) -> ScreeningResult:
    """Write the result of a failed study; the row in the summary remains where that fails."""
    try:
        if result.findings[0].code != "output_failed":  # which is screened again by --resume
            result = result.model_copy(update={"run": key(job.study)})
        result.write(job.folder / "result.json")
    except Exception as error:  # noqa: BLE001
        _log_failure(job.name, error)
        return failed_result(job.name, error, sum(result.seconds.values()), job.study.kind)
    return result


def _report(on_progress: OnProgress, name: str, result: ScreeningResult | None) -> None:
    """Report progress; a closed pipe or a character that the terminal does not have is no failure of the study."""
    try:
        on_progress(name, result)
    except (OSError, ValueError) as error:
        logger.debug("progress was not shown: %s", type(error).__name__)


def _log_failure(name: str, error: BaseException) -> None:
    """Log an unexpected error without the study name and the error text, which may contain patient identifiers."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    logger.warning("study %s (hash of its name): screening failed with %s", digest, type(error).__name__)
    logger.debug("traceback of study %s", digest, exc_info=error)


def failed_result(study: str, error: BaseException, seconds: float = 0.0, modality: Kind = "ct") -> ScreeningResult:
    """Return the result of a study whose screening was stopped by an unexpected error.

    The message has only the type of the error: the text of a third-party error may quote a header. A full or read-only
    disk has a code of its own, since the study is not at fault.
    """
    code, message = "internal_error", f"Screening was stopped by an unexpected error ({type(error).__name__})."
    if isinstance(error, OSError) and error.errno is not None and error.errno in _OUTPUT_ERRORS:
        code, message = "output_failed", f"The result could not be written ({os.strerror(error.errno)})."
    return _unusable(study, modality, Finding(code=code, severity=Severity.REFUSAL, message=message), seconds)


def _unusable(study: str, modality: Kind, finding: Finding, seconds: float = 0.0) -> ScreeningResult:
    times = FrozenDict(total=round(seconds, 3))
    return ScreeningResult(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=times)
