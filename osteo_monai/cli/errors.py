"""Exit codes, checks of options, and the one place that turns an error into a sentence and an exit code."""

import errno
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum

import typer

from osteo_monai.errors import ModelMissingError, OsteoError, ScanRefusedError, UnusableInputError
from osteo_monai.utils.optional import MissingExtraError
from osteo_monai.utils.text import printable

__all__ = ["ArgumentError", "ExitCode", "OptionChecks", "parameter_name", "report", "sentence"]


_NOT_WRITABLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it exceeds the largest file size of this system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission",
}


class ExitCode(IntEnum):
    """Exit codes of every command."""

    MEASURED = 0
    """The command did what was requested; a screening measured every study."""
    UNEXPECTED = 1
    """An unexpected error, such as a full disk or a defect of this program."""
    UNUSABLE = 2
    """Unusable input or a wrong argument."""
    REFUSED = 3
    """A study was read, and refused with a reason."""
    MODEL_MISSING = 4
    """A bundle or its weights are not installed."""


class ArgumentError(OsteoError):
    """Words of the command line are wrong; ``problems`` holds one sentence for each.

    Args:
        problems: at least one sentence.
        hint: such as ``See 'osteo-monai screen --help'.``
    """

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        first, *more = problems
        if more:
            start = f"{len(problems)} arguments are wrong. {hint}".rstrip(". ")
            super().__init__("\n  - ".join([f"{start}:", *problems]))
        else:
            super().__init__(f"{first}. {hint}" if hint else first)
        self.problems = tuple(problems)
        self._arguments = (self.problems, hint)


class OptionChecks:
    """Collect the problems of all options, so that one message reports them together.

    Only quick checks belong here: an error of a computation must not be reported as a wrong argument.

    Example:
        >>> checks = OptionChecks()
        >>> with checks.collect():
        ...     raise ValueError("--age must be at most 120, got 200")
        >>> with checks.collect():
        ...     raise ValueError("--kvp must be at least 70, got 5")
        >>> checks.finish()
        Traceback (most recent call last):
        osteo_monai.cli.errors.ArgumentError: 2 arguments are wrong:
          - --age must be at most 120, got 200
          - --kvp must be at least 70, got 5
    """

    def __init__(self) -> None:
        self._problems: list[str] = []

    @contextmanager
    def collect(self, **options: str) -> Iterator[None]:
        """Keep the message of a wrong option that the block reports; other errors pass through.

        Args:
            **options: names of options by the name of the field that a message starts with, such as
                ``mean_density="--density"``.
        """
        try:
            yield
        except typer.BadParameter as error:
            self._problems.append(sentence(error))
        except (ValueError, UnusableInputError) as error:
            self._problems.append(_renamed(str(error), options))

    def finish(self) -> None:
        """Raise ``ArgumentError`` if there was a problem."""
        if self._problems:
            raise ArgumentError(self._problems)


def _renamed(message: str, options: Mapping[str, str]) -> str:
    """Replace names of fields by names of options where a sentence starts with them."""

    def option(found: re.Match[str]) -> str:
        return found[1] + options[found[2]] if found[2] in options else found[0]

    return re.sub(r"(^|; )(?:the )?(\w+)(?= must )", option, message)


def parameter_name(error: typer.BadParameter) -> str:
    """Return the name of the option or argument that an error is about: ``--age``, ``RECIPE``; empty if unknown."""
    parameter = error.param
    if parameter is None:
        return ""
    names = [parameter.metavar or str(parameter.name).upper()] if parameter.param_type_name == "argument" else []
    return names[0] if names else max(parameter.opts, key=len)


def sentence(error: typer.BadParameter, given: Mapping[str, object] | None = None) -> str:
    """Return ``X must be ..., got ...`` for a wrong or missing option or argument.

    Args:
        error: of this module's parsers, or of typer's own.
        given: words of the command line by parameter name; typer's own messages do not repeat them.
    """
    name = parameter_name(error)
    if not name:
        return error.message
    if not error.message:
        return f"{name} is missing"
    if error.message.startswith("must "):
        return f"{name} {error.message}"
    wanted = re.fullmatch(r"Input should be (.+?)(, unable to .*)?", error.message)
    if wanted and error.param is not None and given is not None and error.param.name in given:
        return f"{name} must be {wanted[1]}, got '{given[error.param.name]}'"
    return f"{name}: {error.message}"


def report(error: Exception, debug: bool) -> ExitCode:
    """Print one sentence about an error to stderr and return the exit code.

    The text of a third-party error is not printed: it may quote a DICOM header.

    Args:
        error: that stopped the command.
        debug: print the traceback as well, except for a wrong command line.
    """
    if debug and not isinstance(error, (typer.TyperException, ArgumentError)):
        traceback.print_exception(error)
    code, message = _explained(error)
    if message:
        advice = " Run the command with --debug for the traceback." if code is ExitCode.UNEXPECTED and not debug else ""
        with suppress(OSError):  # a full disk or a closed pipe: the exit code remains
            typer.echo(printable(f"osteo-monai: {message}{advice}"), err=True)
    return code


def _explained(error: Exception) -> tuple[ExitCode, str]:
    if isinstance(error, typer.TyperException):  # a wrong command line; without a message help was printed
        return ExitCode.UNUSABLE, _usage_sentence(error)
    if isinstance(error, ModelMissingError):
        return ExitCode.MODEL_MISSING, str(error)
    if isinstance(error, ScanRefusedError):
        return ExitCode.REFUSED, str(error)
    if isinstance(error, (OsteoError, MissingExtraError)):
        return ExitCode.UNUSABLE, str(error)
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE and error.filename:
        return ExitCode.UNEXPECTED, f"'{error.filename}' cannot be written: {_NOT_WRITABLE[error.errno]}."
    if isinstance(error, OSError) and error.strerror is not None:
        file = f": '{error.filename}'" if error.filename else ""
        return ExitCode.UNEXPECTED, f"{error.strerror}{file}."
    return ExitCode.UNEXPECTED, f"An unexpected error stopped the command ({type(error).__name__})."


def _usage_sentence(error: typer.TyperException) -> str:
    text = sentence(error) if isinstance(error, typer.BadParameter) else error.format_message().strip()
    context = getattr(error, "ctx", None)
    if not text or context is None:
        return text
    return f"{text.rstrip('.?')}{'?' if text.endswith('?') else '.'} See '{context.command_path} --help'."
