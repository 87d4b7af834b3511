"""Process that screens studies: ``python -m osteo_monai.node.child``.

It loads the models once, has limits that its parent enforces, and may be killed at any moment. Input, one JSON object
per line: first ``processor`` (``module:function``) and ``settings``, then ``input`` and ``output`` of one study each.
Output: one JSON line with ``ready`` or ``failed``, then one line for each study.
"""

import importlib
import json
import os
import queue
import signal
import sys
import threading
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, cast

from osteo_monai.errors import OsteoError
from osteo_monai.node.processing import Load, Process, Processed


def _load(message: dict[str, Any]) -> Process:
    module, _, name = str(message["processor"]).partition(":")
    load = cast(Load, getattr(importlib.import_module(module), name))
    return load(message["settings"])


def _read(lines: TextIO, jobs: "queue.Queue[dict[str, Any]]") -> None:
    """Queue the lines of the parent; end this process when the parent has ended, also in the middle of a study."""
    for line in lines:
        jobs.put(json.loads(line))
    os._exit(0)


def _failure(error: BaseException) -> dict[str, str]:
    # the text of other errors may quote a header
    message = str(error) if isinstance(error, OsteoError) else ""
    return {"failed": type(error).__name__, "message": message}


def main() -> None:
    """Screen the studies that are named on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # some libraries print header values
        os.dup2(silent, descriptor)
    warnings.simplefilter("ignore")
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        process = _load(jobs.get())
    except Exception as error:  # noqa: BLE001  # the parent reports any error
        answer(_failure(error))
        return
    answer({"ready": True})
    while True:
        job = jobs.get()
        try:
            processed: Processed = process(Path(job["input"]), Path(job["output"]))
            answer(asdict(processed))
        except Exception as error:  # noqa: BLE001  # an error of one study must not end the others
            answer(_failure(error))


if __name__ == "__main__":
    main()
