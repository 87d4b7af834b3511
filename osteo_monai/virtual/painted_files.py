"""Painted images of virtual subjects as files, so that they are painted once and scanned anew in each epoch."""

import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai import __version__
from osteo_monai.utils.files import writing
from osteo_monai.utils.inputs import open_input, read_input
from osteo_monai.virtual.threads import one_thread

__all__ = ["PaintedFiles"]

Arrays = Mapping[str, NDArray[Any]]


class PaintedFiles:
    """Arrays of painted subjects below a folder, one file a subject, written when first used.

    The name of the folder has a digest of the settings, of the release and of the source of ``osteo_monai.virtual``:
    another generator does not read old files. Several processes may use one folder; each file is complete or absent.
    MONAI's ``PersistentDataset`` is not used: its names do not depend on the generator, and a process that is killed
    while it moves a file between disks leaves a part of it, which ends all later runs.

    Args:
        folder: made when the first file is written.
        kind: name of the data set.
        settings: on which the arrays depend, JSON values.
    """

    def __init__(self, folder: str | os.PathLike[str], kind: str, settings: Mapping[str, Any]) -> None:
        same = json.dumps([dict(settings), __version__, _source_digest()], sort_keys=True)
        self.folder = Path(folder) / f"{kind}_{hashlib.sha256(same.encode()).hexdigest()[:12]}"

    def get(self, subject: int, paint: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a subject: those of its file, or of ``paint``, which are then written.

        A file that cannot be read, such as an empty one after a loss of power, is written again.
        """
        path = self.folder / f"{subject:06d}.npz"
        if path.is_file():
            try:
                return _read(path)
            except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
                pass
        with one_thread():  # sums depend on the number of threads
            arrays = paint()
        with writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return arrays


def _read(path: Path) -> Arrays:
    with open_input(path) as file, np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


@functools.cache
def _source_digest() -> str:
    """Return a digest of all modules of this package, of which the painted values are a function."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(read_input(file).encode())
    return digest.hexdigest()
