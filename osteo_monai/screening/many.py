"""Screen many studies: a study that fails does not stop the others and keeps its row in the summary."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.result import FrozenDict, ScreeningResult
from osteo_monai.screening.studies import Kind
from osteo_monai.screening.summary import SummaryWriter, summary_row

logger = logging.getLogger(__name__)


def screen_folder(
    studies: Sequence[Path],
    root: Path,
    output: Path,
    screen_one: Callable[[Path, Path], ScreeningResult],
    on_progress: Callable[[str, ScreeningResult | None], None] = lambda name, result: None,
    kind: Callable[[Path], Kind] = lambda study: "ct",
) -> list[ScreeningResult]:
    """Screen many studies, each into a folder of its own below ``output``, and write the summary table.

    A row is appended to ``summary.csv`` after each study; ``summary.json`` is written at the end. Output of a study
    that failed is kept.

    Args:
        studies: in the order of screening.
        root: the folder of the studies; output folders are named by the path below it.
        output: folder for the results; made if missing.
        screen_one: screens one study (path, folder for its output).
        on_progress: called with the name before a study (result ``None``) and after it.
        kind: kind of a study, for the result of one that fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    summary = SummaryWriter(output)
    results: list[ScreeningResult] = []
    try:
        for study, name in zip(studies, output_names(studies, root), strict=True):
            on_progress(name, None)
            started = time.perf_counter()
            try:
                result = screen_one(study, output / name)
            except Exception as error:  # noqa: BLE001  # any error of one study must not stop the others
                _log_failure(name, error)
                result = failed_result(name, error, time.perf_counter() - started, kind(study))
                result.write(output / name / "result.json")
            results.append(result)
            summary.add(summary_row(result, name))
            on_progress(name, result)
    finally:
        summary.finish()
    return results


def _log_failure(name: str, error: Exception) -> None:
    """Log an unexpected error without the study name and the error text, which may contain patient identifiers."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    logger.warning("study %s (hash of its name): screening failed with %s", digest, type(error).__name__)
    logger.debug("traceback of study %s", digest, exc_info=error)


def failed_result(study: str, error: Exception, seconds: float = 0.0, modality: Kind = "ct") -> ScreeningResult:
    """Return the result of a study whose screening was stopped by an unexpected error.

    The message has only the type of the error: the text of a third-party error may quote a header.
    """
    message = f"Screening was stopped by an unexpected error ({type(error).__name__})."
    finding = Finding(code="internal_error", severity=Severity.REFUSAL, message=message)
    times = FrozenDict(total=round(seconds, 3))
    return ScreeningResult(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=times)


def output_names(studies: Sequence[Path], root: Path) -> list[str]:
    """Return one folder name per study, unique and readable: its path below ``root`` with ``__`` for ``/``."""
    names: list[str] = []
    taken: set[str] = set()
    for study in studies:
        below = study.relative_to(root) if study.is_relative_to(root) else Path(study.name)
        base = "__".join(below.parts) or root.resolve().name
        name, n = base, 2
        while name in taken:
            name, n = f"{base}_{n}", n + 1
        taken.add(name)
        names.append(name)
    return names
