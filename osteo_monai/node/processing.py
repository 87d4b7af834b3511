"""Contract between the node and what screens a study."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["FAILED", "Load", "Process", "Processed"]

Outcome = Literal["measured", "refused", "unusable", "failed"]
FAILED: Outcome = "failed"
"""Outcome of a study that may succeed when it is screened again, such as one that met a full disk."""


@dataclass(frozen=True)
class Processed:
    """What was done with one study.

    Attributes:
        outcome: ``failed`` is tried again; the others are results.
        files: DICOM files in the output folder to deliver, as relative paths.
        summary: one line without identifiers.
        notify: whether a person should see it: low density, or no result.
    """

    outcome: Outcome
    files: tuple[str, ...] = ()
    summary: str = ""
    notify: bool = False


Process = Callable[[Path, Path], Processed]
"""Screens the DICOM files of one study in a folder, and writes to another one."""

Load = Callable[[dict[str, object]], Process]
"""Loads the models once; gets ``device`` and ``options`` among other settings. Named ``package.module:function``."""
