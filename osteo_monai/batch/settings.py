"""Settings of a batch: number of workers, limits of one study, cluster, part of an array job."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osteo_monai.errors import ConfigError

__all__ = ["EVERYTHING", "THIS_PROCESS", "Cluster", "Limits", "Part", "Selection", "Workers"]

_PART = re.compile(r"(\d{1,6})/(\d{1,6})")
_PART_FOLDER = re.compile(r"part_(\d{1,6})_of_(\d{1,6})")


@dataclass(frozen=True)
class Limits:
    """Limits of one study; a worker that exceeds one is ended, and its study has failed.

    Attributes:
        seconds: wall time of one study, without the loading of the models; ``None``: no limit.
        memory_mib: resident memory of the worker and the processes that it starts, models included; ``None``: no limit.
            Linux only.
        start_seconds: wall time to load the models.

    Raises:
        ConfigError: a limit is not positive.
    """

    seconds: float | None = None
    memory_mib: float | None = None
    start_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mib", "start_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value:g}")

    @property
    def any(self) -> bool:
        """Whether a study has a limit."""
        return self.seconds is not None or self.memory_mib is not None


@dataclass(frozen=True)
class Cluster:
    """Ray cluster (extra ``cluster``) whose machines have this package, and input and output at the same paths.

    Attributes:
        address: ``local`` starts Ray on this machine, ``auto`` joins the cluster that this machine belongs to; else
            the address of a cluster, such as ``10.0.0.1:6379``.
        gpus: share of a GPU that each worker reserves; 0.25 places four workers on one GPU.
        cpus: cores that each worker reserves.
    """

    address: str
    gpus: float = 0.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if not self.address.strip():
            raise ConfigError("cluster must be local, auto or an address such as 10.0.0.1:6379, got ''")
        if not (0 <= self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())):
            raise ConfigError(f"gpus must be 0 to 1 or a whole number, got {self.gpus:g}")


@dataclass(frozen=True)
class Workers:
    """What processes the studies of a batch.

    One worker without limits is this process. Others are processes of their own, each with its models; each has one
    study at a time, so that at most ``count`` studies are in memory.

    Attributes:
        count: studies processed at the same time.
        limits: of one study.
        cluster: where the workers run; this machine if ``None``.
        apart: use a process of its own for one worker too.

    Raises:
        ConfigError: ``count`` is less than 1.
    """

    count: int = 1
    limits: Limits = field(default_factory=Limits)
    cluster: Cluster | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"workers must be at least 1, got {self.count}")

    @property
    def inside(self) -> bool:
        """Whether this process does the work."""
        return self.count == 1 and not (self.limits.any or self.apart or self.cluster is not None)


THIS_PROCESS = Workers()
"""One worker, which is this process."""


@dataclass(frozen=True)
class Part:
    """A fixed share of the studies, for array jobs: ``number`` of ``count``.

    A study belongs to one part by a hash of its key, so that its part does not depend on the other studies, and all
    parts together hold each study once.

    Raises:
        ConfigError: ``number`` is not from 1 to ``count``.

    Example:
        >>> [[key for key in "abcdef" if Part(number, 3).holds(key)] for number in (1, 2, 3)]
        [['f'], ['a', 'b'], ['c', 'd', 'e']]
        >>> Part.parse("3/20").folder
        'part_3_of_20'
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"part must be a number and a count such as 3/20, got {self.number}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Return the part of a text such as ``3/20``.

        Raises:
            ConfigError: the text is something else.
        """
        found = _PART.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"part must be a number and a count such as 3/20, got '{text}'")
        return cls(int(found[1]), int(found[2]))

    def holds(self, key: str) -> bool:
        """Return whether a study is in this part."""
        digest = hashlib.sha256(os.fsencode(key)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    @property
    def folder(self) -> str:
        """Name of the folder of this part below the output folder."""
        return f"part_{self.number}_of_{self.count}"

    @classmethod
    def is_folder(cls, name: str) -> bool:
        """Return whether a name is that of the folder of a part."""
        found = _PART_FOLDER.fullmatch(name)
        return found is not None and 1 <= int(found[1]) <= int(found[2])

    @classmethod
    def of_folder(cls, name: str) -> "Part":
        """Return the part of the name of its folder, for which ``is_folder`` is true.

        Example:
            >>> Part.of_folder("part_3_of_20")
            Part(number=3, count=20)
        """
        _, number, _, count = name.split("_")
        return cls(int(number), int(count))


@dataclass(frozen=True)
class Selection:
    """Studies that a run processes, and outcomes of earlier runs that it keeps.

    Attributes:
        part: a share of the studies; all if ``None``.
        resume: keep outcomes of the same version, options and input files.
        retry: states of the ledger whose outcomes are not kept, such as ``failed``.
    """

    part: Part | None = None
    resume: bool = False
    retry: frozenset[str] = frozenset()

    def folder(self, output: Path) -> Path:
        """Return the output folder of this part."""
        return output if self.part is None else output / self.part.folder

    def places(self, keys: Sequence[str]) -> list[int]:
        """Return the places of the studies of this part among all.

        Example:
            >>> Selection(Part(2, 3)).places(["a", "b", "c"])
            [0, 1]
        """
        return [place for place, key in enumerate(keys) if self.part is None or self.part.holds(key)]


EVERYTHING = Selection()
"""All studies, without outcomes of earlier runs."""
