"""Join the parts of a batch that an array job screened: one summary table of all studies."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.batch import Entry, ledgers_below, missing_parts, read_ledger
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.names import NOT_READ
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.screening.summary import Row, SummaryWriter, read_not_read, summary_row, write_not_read
from osteo_monai.utils.inputs import open_input, read_input

__all__ = ["JOINED_FILES", "Joined", "join_parts"]

JOINED_FILES = ("summary.csv", "summary.json", NOT_READ, "index.html", "results.parquet")
"""Names of the files of a joined batch."""

_NOT_WRITTEN = "output_failed"
"""Code of a result that is in the summary only."""
_NAMED = 5
"""Studies of a problem that a message names."""


@dataclass(frozen=True)
class Joined:
    """What was joined.

    Attributes:
        studies: folder of each study below that of the batch, in the order of the input.
        missing: parts without a ledger.
        unfinished: number of studies without an outcome by part.
    """

    studies: tuple[str, ...]
    missing: tuple[str, ...]
    unfinished: Mapping[str, int]


def join_parts(folder: Path, partial: bool = False) -> Joined:
    """Write ``summary.csv``, ``summary.json`` and ``not_read.csv`` of all parts of a batch.

    Rows have the order of the input, and their ``folder`` starts with that of the part.

    Args:
        folder: with ``part_1_of_N`` to ``part_N_of_N``.
        partial: also join if parts are missing or not finished.

    Raises:
        UnusableInputError: there are no parts, they are of several divisions or by several versions, a study is in two
            of them, a part is missing, not finished or of another input, or a summary cannot be read.
    """
    ledgers = ledgers_below(folder)
    _check_division(folder, ledgers)
    contents = {part: read_ledger(path) for part, path in ledgers.items()}
    command = {content.facts.get("command", "screen") for content in contents.values()} - {"screen"}
    if command:
        raise UnusableInputError(
            f"'{folder}' must have parts of 'screen', got parts of '{min(command)}': start it without --part and with "
            "--resume."
        )
    _check_version(folder, [content.facts.get("version", "") for content in contents.values()])
    entries = {part: content.entries for part, content in contents.items()}
    _check_overlap(folder, entries)
    left = {part: sum(entry.state in ("pending", "running") for entry in of_part) for part, of_part in entries.items()}
    missing, unfinished = missing_parts(ledgers), {part: count for part, count in left.items() if count}
    if (missing or unfinished) and not partial:
        problems = [f"{name} is missing" for name in missing]
        problems += [f"{name} has {count} studies without an outcome" for name, count in unfinished.items()]
        raise UnusableInputError(f"'{folder}' must have all parts, finished, got: {'; '.join(problems)}.")
    if not partial:
        _check_input(folder, entries)
    rows = [row for part in ledgers for row in _rows(folder / part, entries[part])]
    ordered = [row for _, row in sorted(rows, key=lambda placed: placed[0])]
    SummaryWriter(folder).finish(ordered)
    write_not_read(folder, _not_read(folder, list(ledgers)))
    return Joined(tuple(str(row["folder"]) for row in ordered), missing, unfinished)


def _check_division(folder: Path, ledgers: Mapping[str, Path]) -> None:
    parts = [name for name in ledgers if name]
    if not parts or "" in ledgers:
        found = "the ledger of a run without --part" if "" in ledgers else "none"
        raise UnusableInputError(f"'{folder}' must have the parts of a batch, part_1_of_N and others, got {found}.")
    counts = sorted({int(name.rsplit("_", 1)[1]) for name in parts})
    if len(counts) > 1:
        got = " and ".join(map(str, counts))
        raise UnusableInputError(f"'{folder}' must have parts of one division, got parts of {got}.")


def _check_version(folder: Path, versions: Sequence[str]) -> None:
    found = sorted(set(versions))
    if len(found) > 1:
        got = " and ".join(version or "an unknown one" for version in found)
        raise UnusableInputError(
            f"'{folder}' must have parts by one version of osteo-monai, got {got}; repeat the parts with --resume."
        )


def _check_input(folder: Path, entries: Mapping[str, Sequence[Entry]]) -> None:
    """Refuse parts of several states of the input: a study that was added between them may be in none."""
    places = sorted(entry.position or 0 for of_part in entries.values() for entry in of_part)
    if places != list(range(len(places))):
        raise UnusableInputError(
            f"Parts of '{folder}' must be of the same input, got parts between which studies were added or removed; "
            "repeat the parts with --resume."
        )


def _check_overlap(folder: Path, entries: Mapping[str, Sequence[Entry]]) -> None:
    times = Counter(entry.study for of_part in entries.values() for entry in of_part)
    repeated = sorted(study for study, count in times.items() if count > 1)
    if repeated:
        more = f" and {len(repeated) - _NAMED} more" if len(repeated) > _NAMED else ""
        raise UnusableInputError(
            f"Parts of '{folder}' must have each study once, got in two of them: {', '.join(repeated[:_NAMED])}{more}."
        )


def _rows(folder: Path, entries: Sequence[Entry]) -> list[tuple[tuple[int, str], Row]]:
    """Return the rows of the finished studies of a part with their place in the order of the input."""
    summary = _summary(folder / "summary.json")
    rows = []
    for entry in entries:
        if entry.state in ("pending", "running"):
            continue
        row = _row(folder / entry.study, entry, summary) | {"folder": f"{folder.name}/{entry.study}"}
        rows.append(((entry.position or 0, folder.name), row))
    return rows


def _row(folder: Path, entry: Entry, summary: Mapping[str, Row]) -> Row:
    """Return the row of a result, or of the summary where the result could not be written."""
    if _NOT_WRITTEN not in entry.codes.split("; "):
        with suppress(OSError, ValueError), open_input(folder / "result.json") as stream:
            return summary_row(ScreeningResult.model_validate_json(stream.read()))
    if entry.study not in summary:
        raise UnusableInputError(
            f"'{folder}' must have the result that the ledger names, got none; repeat the part with --resume."
        )
    return summary[entry.study]


def _summary(path: Path) -> dict[str, Row]:
    """Return the rows of a summary by folder; none if the part was killed before it was written."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {str(row["folder"]): row for row in json.loads(read_input(path))}
    return {}


def _not_read(folder: Path, parts: Sequence[str]) -> list[tuple[str, str]]:
    """Return what no study of the input contains, once: each part has listed the whole input."""
    entries: dict[tuple[str, str], None] = {}
    for part in parts:
        entries |= dict.fromkeys(read_not_read(folder / part))
    return list(entries)
