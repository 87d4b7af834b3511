"""Screen many studies: a study that fails does not stop the others and keeps its row in the summary."""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.earlier import write_batch
from osteo_monai.screening.names import output_names
from osteo_monai.screening.result import FrozenDict, ScreeningResult
from osteo_monai.screening.studies import Kind
from osteo_monai.screening.summary import Row, SummaryWriter, summary_row

__all__ = ["failed_result", "screen_folder"]

OnProgress = Callable[[str, ScreeningResult | None], None]

_OUTPUT_ERRORS = frozenset(
    getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENAMETOOLONG")
)

logger = logging.getLogger(__name__)


def _ignore_progress(name: str, result: ScreeningResult | None) -> None:
    """Do nothing."""


def screen_folder(
    studies: Sequence[Path],
    root: Path,
    output: Path,
    screen_one: Callable[[Path, Path], ScreeningResult],
    on_progress: OnProgress = _ignore_progress,
    kind: Callable[[Path], Kind] = lambda study: "ct",
    *,
    archives: Sequence[Path] = (),
    earlier: Callable[[Path, Path], ScreeningResult | None] = lambda study, folder: None,
) -> list[ScreeningResult]:
    """Screen many studies, each into a folder of its own below ``output``, and write the summary table.

    A row is appended to ``summary.csv`` after each study; ``summary.json`` is written at the end. Output of a study
    that failed is kept. Errors of one study, of its folder, of its row and of ``on_progress`` do not stop the others.

    Args:
        studies: in the order of screening.
        root: the folder of the studies; output folders are named by the path below it.
        output: folder for the results; made if missing.
        screen_one: screens one study (path, folder for its output).
        on_progress: called with the name before a study (result ``None``) and after it.
        kind: kind of a study, for the result of one that fails.
        archives: further folders that names are relative to.
        earlier: returns the result of an earlier run that is kept (path, folder of its output).

    Raises:
        OSError: if the summary cannot be written, at the start or at the end.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = output_names(studies, root, *archives)
    write_batch(output, names)
    results: dict[str, ScreeningResult] = {}
    for study, name in zip(studies, names, strict=True):
        if (kept := earlier(study, output / name)) is not None:
            results[name] = kept
    summary = SummaryWriter(output, _rows(names, results))
    try:
        for study, name in zip(studies, names, strict=True):
            if name not in results:
                _report(on_progress, name, None)
                results[name] = _screen_safely(study, output / name, screen_one, kind(study))
                summary.add(summary_row(results[name], name))
            _report(on_progress, name, results[name])
    finally:
        summary.finish(_rows(names, results))
    return [results[name] for name in names]


def _rows(names: Sequence[str], results: Mapping[str, ScreeningResult]) -> list[Row]:
    return [summary_row(results[name], name) for name in names if name in results]


def _screen_safely(
    study: Path, folder: Path, screen_one: Callable[[Path, Path], ScreeningResult], kind: Kind
) -> ScreeningResult:
    started = time.perf_counter()
    try:
        return screen_one(study, folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # any error of one study must not stop the others
        _log_failure(folder.name, error)
        result = failed_result(folder.name, error, time.perf_counter() - started, kind)
    try:
        result.write(folder / "result.json")
    except Exception as error:  # noqa: BLE001  # the row in the summary remains
        _log_failure(folder.name, error)
        return failed_result(folder.name, error, time.perf_counter() - started, kind)
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
    finding = Finding(code=code, severity=Severity.REFUSAL, message=message)
    times = FrozenDict(total=round(seconds, 3))
    return ScreeningResult(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=times)
