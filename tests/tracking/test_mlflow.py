"""MLflow client functions."""

from osteo_monai import tracking


def test_names_of_runs_are_unique() -> None:
    names = {tracking.unique_run_name("train") for _ in range(20)}
    assert len(names) == 20
