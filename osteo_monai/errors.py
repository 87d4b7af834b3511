"""Errors of this package: one root class, so that one ``except`` catches all of them.

The comment beside each class names the exit code of ``osteo-monai`` that it leads to.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from osteo_monai.domain import Finding, Severity

_SHOWN = 10
_NUMBERS_AND_NAMES = re.compile(r"'[^']*'|(?<= file )\S+|-?\d+(\.\d+)?")


class OsteoError(Exception):
    """Base class; its message is one sentence without patient identifiers.

    Subclasses whose constructor takes something else than the message can be pickled too, so that they cross process
    borders in data loaders and worker pools.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import OsteoError, read_ct
        >>> try:
        ...     read_ct(Path("missing.nii.gz"))
        ... except OsteoError as error:
        ...     print(type(error).__name__)
        UnusableInputError
    """

    _arguments: tuple[Any, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args if self._arguments is None else self._arguments


class UnusableInputError(OsteoError):  # exit code 2
    """The input cannot be read: no such path, no images, a damaged file.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import read_ct
        >>> read_ct(Path("missing.nii.gz"))
        Traceback (most recent call last):
        osteo_monai.errors.UnusableInputError: There is no file or folder 'missing.nii.gz'.
    """


class ConfigError(OsteoError, ValueError):  # exit code 2
    """A setting of a command, a recipe or a bundle's run is unknown, missing or out of range.

    Example:
        >>> from osteo_monai import ConfigError
        >>> issubclass(ConfigError, ValueError)
        True
    """


class ModelMissingError(OsteoError, FileNotFoundError):  # exit code 4
    """A bundle or its weights are not installed; the input may be sound.

    Example:
        >>> from osteo_monai import ModelMissingError
        >>> issubclass(ModelMissingError, FileNotFoundError)
        True
    """


class NotEstimableError(OsteoError, ValueError):  # exit code 2
    """A statistical model cannot be fitted to the data at hand.

    Example:
        >>> from osteo_monai import NotEstimableError
        >>> issubclass(NotEstimableError, ValueError)
        True
    """


class UnattainableError(OsteoError, ValueError):  # exit code 2
    """No cut-off reaches the requested sensitivity or specificity.

    Example:
        >>> from osteo_monai import UnattainableError
        >>> issubclass(UnattainableError, ValueError)
        True
    """


class ScanRefusedError(OsteoError):  # exit code 3
    """The scan was read, but no valid number can be computed from it.

    Args:
        findings: at least one finding of severity ``refusal``.

    Example:
        >>> from osteo_monai import Finding, ScanRefusedError, Severity
        >>> refusal = Finding(code="missing_slice", severity=Severity.REFUSAL, message="A slice is missing.")
        >>> str(ScanRefusedError(refusal))
        'A slice is missing.'
    """

    def __init__(self, *findings: Finding) -> None:
        if not any(f.severity is Severity.REFUSAL for f in findings):
            raise ValueError("a refused scan needs a finding of severity 'refusal'")
        super().__init__("; ".join(f.message for f in findings if f.severity is Severity.REFUSAL))
        self.findings: Sequence[Finding] = findings
        self._arguments = findings


class ManifestError(OsteoError, ValueError):  # exit code 2
    """A manifest is invalid; ``problems`` holds one sentence for each fault.

    The message shows ten sentences of a kind, those that differ in numbers and names only, and counts the rest.

    Args:
        manifest: name of the manifest.
        problems: one sentence for each fault.

    Example:
        >>> from osteo_monai import ManifestError
        >>> ManifestError("manifest.json", ["there is no such file"]).problems
        ('there is no such file',)
    """

    def __init__(self, manifest: str, problems: Sequence[str]) -> None:
        kinds: dict[str, list[str]] = defaultdict(list)
        for problem in problems:
            kinds[_NUMBERS_AND_NAMES.sub("#", problem)].append(problem)
        shown = [_printable(line) for alike in kinds.values() for line in (*alike[:_SHOWN], *_rest(alike))]
        listed = "".join(f"\n  - {line}" for line in shown)
        super().__init__(f"{manifest} has {len(problems)} problem{'s' if len(problems) != 1 else ''}:{listed}")
        self.problems = tuple(problems)
        self._arguments = (manifest, self.problems)


def _printable(line: str) -> str:
    """Return a line with blanks for control characters, which a name in a damaged file may hold."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in line)


def _rest(alike: Sequence[str]) -> list[str]:
    return [f"and {len(alike) - _SHOWN} more like the last {_SHOWN}"] if len(alike) > _SHOWN else []
