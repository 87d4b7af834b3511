"""Load of processor, memory, disk, network and GPU during a run, by MLflow's monitor."""

import importlib.util
import logging
import os
from typing import Any

from osteo_monai.tracking.runs import TrackedRun

__all__ = ["start_monitor"]

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def start_monitor(run: TrackedRun) -> Any:
    """Start MLflow's monitor of system metrics; call ``finish()`` of what is returned at the end of the run.

    Returns:
        The monitor; ``None`` if psutil is not installed, or the variable ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` is
        ``false``. GPUs are recorded if ``nvidia-ml-py`` is installed.
    """
    if os.environ.get(VARIABLE, "true").lower() in ("false", "0") or importlib.util.find_spec("psutil") is None:
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(run.run_id, tracking_uri=run.uri)
    monitor.start()
    return monitor
