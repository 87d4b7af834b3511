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
    """

    _arguments: tuple[Any, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args if self._arguments is None else self._arguments


class UnusableInputError(OsteoError):  # exit code 2
    """The input cannot be read: no such path, no images, a damaged file."""


class ConfigError(OsteoError, ValueError):  # exit code 2
    """A setting of a bundle's run is unknown, missing or out of range."""


class ModelMissingError(OsteoError, FileNotFoundError):  # exit code 4
    """A bundle or its weights are not installed; the input may be sound."""


class NotEstimableError(OsteoError, ValueError):  # exit code 2
    """A statistical model cannot be fitted to the data at hand."""


class UnattainableError(OsteoError, ValueError):  # exit code 2
    """No cut-off reaches the requested sensitivity or specificity."""


class ScanRefusedError(OsteoError):  # exit code 3
    """The scan was read, but no valid number can be computed from it.

    Args:
        findings: at least one finding of severity ``refusal``.
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
    """

    def __init__(self, manifest: str, problems: Sequence[str]) -> None:
        kinds: dict[str, list[str]] = defaultdict(list)
        for problem in problems:
            kinds[_NUMBERS_AND_NAMES.sub("#", problem)].append(problem)
        shown = [line for alike in kinds.values() for line in (*alike[:_SHOWN], *_rest(alike))]
        listed = "".join(f"\n  - {line}" for line in shown)
        super().__init__(f"{manifest} has {len(problems)} problem{'s' if len(problems) != 1 else ''}:{listed}")
        self.problems = tuple(problems)
        self._arguments = (manifest, self.problems)


def _rest(alike: Sequence[str]) -> list[str]:
    return [f"and {len(alike) - _SHOWN} more like the last {_SHOWN}"] if len(alike) > _SHOWN else []
