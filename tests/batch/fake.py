"""Processing without models, for tests of the engine: a study is an order such as ``sleep 0.1``."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.errors import ModelMissingError
from osteo_monai.utils.files import write_text


@dataclass(frozen=True)
class Load:
    """Loads nothing and returns ``obey``."""

    missing: bool = False

    def __call__(self) -> Callable[[str], str]:
        if self.missing:
            raise ModelMissingError("Models are not installed: a.")
        return obey


def obey(order: str) -> str:
    """Do what an order says and return it with the number of this process."""
    word, _, value = order.partition(" ")
    if word == "sleep":
        time.sleep(float(value))
    elif word == "die":
        os.kill(os.getpid(), 9)
    elif word == "die_once":
        if not Path(value).exists():
            write_text(value, "")
            os.kill(os.getpid(), 9)
    elif word == "exit":
        os._exit(3)
    elif word == "memory":
        block = bytearray(int(value) << 20)
        time.sleep(60)
        del block
    elif word == "error":
        raise ValueError("PatientName DOE^JOHN")
    return f"{order} by {os.getpid()}"
