"""Structured logs of the node: one JSON object per line, without identifiers.

Messages of this package have none; it names studies and images by hashed UIDs. Those of other packages may quote
headers or addresses and are replaced by the name of the logger.
"""

import json
import logging
import sys
import threading
import time
from typing import TextIO

__all__ = ["JsonFormatter", "log_to"]

_OWN = "osteo_monai"
_FIELDS = (
    "study", "image", "stored", "reason", "status", "version", "outcome", "seconds", "destination", "objects",
    "attempt", "delivered", "address", "port", "items", "count",
)  # fmt: skip
"""Attributes of records that are written; others are not."""


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; only messages of this package are quoted."""
        own = record.name == _OWN or record.name.startswith(f"{_OWN}.")
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage() if own else "message of another package, not quoted",
        }
        if own:
            entry |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
        return json.dumps(entry, default=str)


def log_to(stream: TextIO = sys.stderr, level: int = logging.INFO) -> logging.Handler:
    """Send the records of all loggers to one stream as JSON, in place of the handlers so far.

    Other packages are logged from warnings on, those of the DICOM network only if they are critical: each failure of a
    connection has a record of this package.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(level)
    threading.excepthook = _log_thread
    for name in ("pynetdicom", "pydicom", "dicomweb_client", "retrying", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return handler


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    """Log that a thread of another package ended with an error, without the text of the error."""
    kind = arguments.exc_type
    logging.getLogger(__name__).warning("a thread ended with an error", extra={"reason": kind.__name__})
