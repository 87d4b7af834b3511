"""Checks of output paths, progress on a terminal, and the log of a finished run."""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from osteo_monai.cli.logs import logger_level
from osteo_monai.errors import ConfigError
from osteo_monai.utils.text import listed, printable

if TYPE_CHECKING:
    from rich.console import Console

    from osteo_monai.tracking import TrackedRun

__all__ = [
    "CommandRun",
    "check_folder",
    "check_products",
    "check_tracking",
    "command_run",
    "console",
    "locked_folder",
    "progress",
    "show",
    "track_run",
]


def check_folder(folder: Path, products: Iterable[str], overwrite: bool, folders: Iterable[str] = ()) -> None:
    """Check that results can be written to a folder.

    Args:
        folder: need not exist yet.
        products: names of the files in it that a command would write.
        overwrite: whether these may exist.
        folders: names of the folders in it that a command would write.

    Raises:
        ConfigError: naming the option ``--output`` or ``--overwrite``.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output must be a folder, got the file '{folder}'")
    _check_writable(folder)
    check_products([folder / name for name in products], overwrite)
    _check_absent([folder / name for name in folders], overwrite)


def check_products(products: Iterable[Path], overwrite: bool) -> None:
    """Check that files can be written; all that exist are reported together.

    Raises:
        ConfigError: naming the options ``--output`` and ``--overwrite``.
    """
    paths = list(products)
    for folder in dict.fromkeys(path.parent for path in paths):
        _check_writable(folder)
    if folders := [path for path in paths if path.is_dir()]:
        raise ConfigError(f"--output must be a file, got the folder '{folders[0]}'")
    _check_absent(paths, overwrite)


def _check_absent(paths: Iterable[Path], overwrite: bool) -> None:
    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        files = listed(f"'{path}'" for path in existing)
        raise ConfigError(f"--overwrite must be given to replace {files}")


def _check_writable(folder: Path) -> None:
    """Check that a folder is writable, or can be made."""
    closest = next(parent for parent in (folder, *folder.parents, Path()) if parent.exists())
    if not closest.is_dir() or not os.access(closest, os.W_OK):
        raise ConfigError(f"--output must be in a writable folder, got '{folder}'")


class _Output:
    """Standard output that goes silent when it cannot be written: no reader of a pipe, a full disk, a closed terminal.

    The work continues, since what is printed is in the files too.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or silence standard output."""
        try:
            return self._stream.write(text)
        except OSError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flush, or silence standard output."""
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _silence(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def console() -> "Console":
    """Return the console that results are printed to; an output that cannot be written does not end the work."""
    from rich.console import Console

    file = None if sys.stdout is None else cast(TextIO, _Output(sys.stdout))
    return Console(file=file, highlight=False)


def show(line: object) -> None:
    """Print one line of text without markup, line breaks and control characters; bytes that are no characters become
    escapes.
    """
    if isinstance(line, str):
        line = printable(line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    console().print(line, markup=False, soft_wrap=True)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make an output folder and hold it for this run.

    Raises:
        ConfigError: another run writes to it.
    """
    from osteo_monai.utils.locks import LockedError, folder_lock

    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except LockedError:
            raise ConfigError(f"--output must be a folder that no other run writes to, got '{folder}'") from None
        yield


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show one line with the current stage on a terminal, and nothing elsewhere.

    Args:
        first: name of the first stage.
    """
    with console().status(first) as status:
        yield lambda stage: status.update(stage[:1].upper() + stage[1:])


def track_run(
    experiment: str,
    folder: Path,
    tracking_uri: str | None,
    parameters: Mapping[str, object],
    facts: Mapping[str, float],
    products: Iterable[str],
    parts: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Log a finished analysis to MLflow.

    Args:
        experiment: name of the experiment, also the prefix of the run's name.
        folder: with the results.
        tracking_uri: MLflow store; ``mlflow.db`` in the folder if ``None``.
        parameters: options of the analysis.
        facts: numbers that it computed.
        products: names of files and folders in ``folder`` to keep.
        parts: numbers of each part, such as a model, by its name; each part is a run below that of the analysis.
    """
    import mlflow  # its first import sets the level of its logger
    from sqlalchemy.exc import SQLAlchemyError

    from osteo_monai import tracking

    with logger_level("mlflow", logging.getLogger().level):
        try:
            tracking.log_finished_run(
                tracking_uri or tracking.sqlite_uri(folder / "mlflow.db"),
                experiment,
                tracking.unique_run_name(experiment),
                parameters,
                facts,
                [folder / name for name in products],
                parts,
            )
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            raise _not_logged(error, folder) from None


class CommandRun:
    """Run of a command in MLflow where tracking is requested; else nothing is logged."""

    def __init__(self, run: "TrackedRun | None") -> None:
        self._run = run

    def log(
        self,
        facts: Mapping[str, float],
        files: Iterable[Path] = (),
        manifest: Path | None = None,
        use: str = "test",
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """Log the results of the command.

        Args:
            facts: numbers; those that are not finite are left out.
            files: without names of patients.
            manifest: data manifest that was read.
            use: of the data: ``training``, ``validation`` or ``test``.
            parameters: what the work has shown, such as the models in use.

        Raises:
            ConfigError: MLflow could not log; the results are complete.
        """
        if self._run is None:
            return
        from mlflow import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        from osteo_monai.tracking.datasets import data_facts, log_data

        try:
            if manifest is not None:
                log_data(self._run, data_facts(str(manifest)), use)
            self._run.log_metrics({name: float(value) for name, value in facts.items() if math.isfinite(value)})
            self._run.log_artifacts(files)
            self._run.log_parameters(parameters or {})
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise _not_logged(error) from None


@contextmanager
def command_run(
    experiment: str, source: str, tracking_uri: str | None, parameters: Mapping[str, object]
) -> Iterator[CommandRun]:
    """Track a command where requested: by an option, or by the variable ``MLFLOW_TRACKING_URI``.

    The run ends with the block, FAILED after an error.

    Args:
        experiment: name of the experiment.
        source: command, also the prefix of the run's name.
        tracking_uri: MLflow store; ``None``: that of the variable, if it is set.
        parameters: options of the command; paths are removed.

    Raises:
        ConfigError: the store cannot be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    if uri is None:
        yield CommandRun(None)
        return
    import mlflow  # noqa: F401  # its first import sets the level of its logger

    from osteo_monai import tracking
    from osteo_monai.tracking.paths import without_paths

    name = tracking.unique_run_name(source.replace(" ", "_"))
    with (
        logger_level("mlflow", logging.getLogger().level),
        tracking.tracked_run(uri, experiment, name, f"osteo-monai {source}", without_paths(parameters)) as run,
    ):
        yield CommandRun(run)


def _not_logged(error: Exception, folder: Path | None = None) -> ConfigError:
    results = "The results" if folder is None else f"The results in '{folder}'"
    return ConfigError(f"{results} are complete, but MLflow could not log the run ({type(error).__name__}).")


def check_tracking(folder: Path, tracking_uri: str | None) -> None:
    """Check the MLflow store of ``track_run`` before the work begins; one that does not exist yet is made at the end.

    Raises:
        ConfigError: it cannot be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    if uri is None and not (folder / "mlflow.db").exists():
        return
    import mlflow  # noqa: F401  # its first import sets the level of its logger

    from osteo_monai import tracking

    with logger_level("mlflow", logging.getLogger().level):
        tracking.prepare_store(uri or tracking.sqlite_uri(folder / "mlflow.db"))
