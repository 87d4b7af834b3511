"""MLflow client functions, and facts about code and machine that a run records."""

from osteo_monai.tracking.environment import environment_facts, git_commit
from osteo_monai.tracking.mlflow import log_finished_run, sqlite_uri, unique_run_name
from osteo_monai.tracking.store import prepare_store

__all__ = ["environment_facts", "git_commit", "log_finished_run", "prepare_store", "sqlite_uri", "unique_run_name"]
