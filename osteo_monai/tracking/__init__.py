"""MLflow: stores, runs and their parents, data sets, models, and facts about code and machine that a run records."""

from osteo_monai.tracking.environment import environment_facts, git_commit
from osteo_monai.tracking.runs import TrackedRun, log_finished_run, metrics_of_children, tracked_run, unique_run_name
from osteo_monai.tracking.store import prepare_store, sqlite_uri, store_uri

__all__ = [
    "TrackedRun",
    "environment_facts",
    "git_commit",
    "log_finished_run",
    "metrics_of_children",
    "prepare_store",
    "sqlite_uri",
    "store_uri",
    "tracked_run",
    "unique_run_name",
]
