"""Process many studies: workers with limits, on this machine or a cluster, and the ledger of what became of each.

``engine`` gives studies to workers; ``worker`` is one process (``child`` runs in it), ``cluster`` places workers on
Ray. ``ledger`` is the state of a batch, ``settings`` its options.
"""

from osteo_monai.batch.engine import Failure, check_start, process
from osteo_monai.batch.ledger import (
    LEDGER,
    Entry,
    Ledger,
    LedgerContent,
    State,
    StoredOutcome,
    ledgers_below,
    missing_parts,
    read_ledger,
)
from osteo_monai.batch.settings import EVERYTHING, THIS_PROCESS, Cluster, Limits, Part, Selection, Workers
from osteo_monai.batch.worker import StartError, StoppedError, WorkerError, WorkerProcess

__all__ = [
    "EVERYTHING",
    "LEDGER",
    "THIS_PROCESS",
    "Cluster",
    "Entry",
    "Failure",
    "Ledger",
    "LedgerContent",
    "Limits",
    "Part",
    "Selection",
    "StartError",
    "State",
    "StoppedError",
    "StoredOutcome",
    "WorkerError",
    "WorkerProcess",
    "Workers",
    "check_start",
    "ledgers_below",
    "missing_parts",
    "process",
    "read_ledger",
]
