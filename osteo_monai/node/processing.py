"""Contract between the node and what screens a study."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

__all__ = ["FAILED", "Load", "LoadByName", "Process", "Processed"]

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

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Processed":
        """Return what the screening process has answered."""
        return cls(answer["outcome"], tuple(answer["files"]), answer["summary"], answer["notify"])


Process = Callable[[Path, Path], Processed]
"""Screens the DICOM files of one study in a folder, and writes to another one."""

Load = Callable[[dict[str, object]], Process]
"""Loads the models once; gets ``device`` and ``options`` among other settings. Named ``package.module:function``."""


@dataclass(frozen=True)
class LoadByName:
    """Loads what screens a study in the screening process.

    Attributes:
        processor: ``package.module:function`` of type ``Load``.
        settings: given to it.
    """

    processor: str
    settings: Mapping[str, Any]

    def __call__(self) -> Callable[[tuple[Path, Path]], dict[str, Any]]:
        module, _, name = self.processor.partition(":")
        process = cast(Load, getattr(importlib.import_module(module), name))(dict(self.settings))
        return lambda folders: asdict(process(*folders))
