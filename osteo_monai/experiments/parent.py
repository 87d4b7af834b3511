"""One MLflow run above the runs of several trainings and evaluations of a bundle."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from osteo_monai.tracking import TrackedRun, metrics_of_children, tracked_run, unique_run_name

__all__ = ["ParentRun", "parent_of_runs"]


@dataclass(frozen=True)
class ParentRun:
    """Parent of the runs of a bundle.

    Attributes:
        run: in MLflow; ``None`` if the runs are not tracked.
        settings: of the config of each run below it.
    """

    run: TrackedRun | None
    settings: Mapping[str, Any]

    def name(self, prefix: str) -> dict[str, str]:
        """Return the setting of a unique name of a run below this one; none if the runs are not tracked."""
        return {} if self.run is None else {"run_name": unique_run_name(prefix)}

    def log_summary(self) -> None:
        """Log mean and SD of each metric over the evaluations below this run."""
        if self.run is not None:
            self.run.log_metrics(metrics_of_children(self.run, "evaluate"))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at a position on the horizontal axis of their charts."""
        if self.run is not None:
            self.run.log_metrics(metrics, step)

    def log_artifacts(self, files: Sequence[Path]) -> None:
        """Log files."""
        if self.run is not None:
            self.run.log_artifacts(files)


@contextmanager
def parent_of_runs(
    folder: Path, configs: Sequence[str], settings: Mapping[str, Any], kind: str, parameters: Mapping[str, Any]
) -> Iterator[ParentRun]:
    """Start the parent of runs; it ends with the block, FAILED after an error.

    The runs below it are in the same experiment. Their models are logged and not registered.

    Args:
        folder: of the bundle.
        configs: names of its configs, whose experiment is used.
        settings: of the runs; with ``track`` false there is no run. ``tracking_uri`` is the store.
        kind: tag of the run and prefix of its name, such as ``cross_validation``.
        parameters: of the run.
    """
    parser = ConfigParser(
        ConfigParser.load_config_files([str(folder / "configs" / f"{name}.json") for name in configs])
    )
    parser.update({name: value for name, value in settings.items() if name in ("track", "experiment_name")})
    if not parser.get_parsed_content("track"):
        yield ParentRun(None, {})
        return
    experiment = parser.get_parsed_content("experiment_name")
    facts = {"bundle": folder.name, **parameters}
    source = f"{folder.name} {kind}"
    name = unique_run_name(kind)
    with tracked_run(settings["tracking_uri"], experiment, name, source, facts, kind=kind, bundle=folder.name) as run:
        yield ParentRun(run, {"parent_run": run.run_id, "register_model": False})
