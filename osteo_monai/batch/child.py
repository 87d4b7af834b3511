"""Process of one worker: ``python -m osteo_monai.batch.child``.

It loads the models once, has limits that its parent enforces, and may be killed at any moment. Messages are frames,
see ``osteo_monai.batch.frames``. Input: first a pickled pair of what loads the models and whether answers are pickles,
then one pickle for each study, a pair of the study and of the paths to read ahead. Output: one answer when the models
are loaded, then one for each study.
"""

import json
import os
import pickle
import queue
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

from osteo_monai.batch.ahead import ReadAhead
from osteo_monai.batch.frames import read_frame, write_frame
from osteo_monai.errors import OsteoError


def _read(stream: BinaryIO, frames: "queue.Queue[bytes]") -> None:
    """Queue the frames of the parent; end this process when the parent has ended, also in the middle of a study."""
    try:
        while (frame := read_frame(stream)) is not None:
            frames.put(frame)
    finally:
        os._exit(0)


def _failure(error: BaseException) -> dict[str, Any]:
    # the text of other errors may quote a header
    message = str(error) if isinstance(error, OsteoError) else ""
    return {"failed": type(error).__name__, "message": message}


def _answered(encode: Callable[[Any], bytes], compute: Callable[[], Any]) -> bytes:
    """Return the frame with a value, or with the error of its computation."""
    try:
        return encode({"value": compute()})
    except Exception as error:  # noqa: BLE001  # an error of one study must not end the others; the parent reports it
        return encode(_failure(error))


def _as_json(answer: Any) -> bytes:
    return json.dumps(answer).encode()


def main() -> None:
    """Process the studies that are given on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    orders = os.fdopen(os.dup(0), "rb")
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # some libraries print header values
        os.dup2(silent, descriptor)
    warnings.simplefilter("ignore")
    frames: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(orders, frames), daemon=True).start()
    pickled, as_pickle = pickle.loads(frames.get())
    encode: Callable[[Any], bytes] = pickle.dumps if as_pickle else _as_json
    work: Callable[[Any], Any]

    def load() -> None:
        nonlocal work
        work = pickle.loads(pickled)()

    write_frame(answers, _answered(encode, load))
    ahead = ReadAhead()

    def process() -> Any:
        job, paths = pickle.loads(frames.get())
        ahead.start(paths)
        return work(job)

    while True:
        write_frame(answers, _answered(encode, process))


if __name__ == "__main__":
    main()
