"""``osteo-monai batch status`` and ``osteo-monai batch join``: the output folder of a run over many studies."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.options import Overwrite, existing_folder
from osteo_monai.cli.output import check_folder, console, locked_folder, progress, show
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.text import share_words

if TYPE_CHECKING:
    from osteo_monai.batch import Entry, LedgerContent, State
    from osteo_monai.utils.locks import FolderLock

__all__ = ["join", "status"]

_Folder = Annotated[
    Path,
    typer.Argument(parser=existing_folder, metavar="DIR", help="Output folder of a batch, with or without parts."),
]
_DONE: "tuple[State, ...]" = ("measured", "refused", "failed")
_OPEN: "tuple[State, ...]" = ("pending", "running")


# --- status -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """The last run into one folder: a batch, or a part of it.

    Attributes:
        part: name of the part; empty without parts.
        content: of its ledger.
        lock: of its folder.
    """

    part: str
    content: "LedgerContent"
    lock: "FolderLock"

    @property
    def left(self) -> int:
        """Number of studies without an outcome."""
        return sum(entry.state not in _DONE for entry in self.content.entries)

    @property
    def works(self) -> bool:
        """Whether its process lives, or may live on another host."""
        return self.lock.state == "held" or (self.lock.state == "unknown" and not self.content.ended)

    @property
    def killed(self) -> bool:
        """Whether its process has ended without recording the end."""
        return bool(self.left) and not self.works and not self.content.ended

    @property
    def rate(self) -> float | None:
        """Studies per hour, from the first that the run began to the last that it ended; ``None`` before two."""
        since = float(self.content.facts.get("started") or 0)
        ends = [e.ended for e in self.content.entries if e.ended is not None and e.ended >= since]
        begins = [e.started for e in self.content.entries if e.started is not None and e.started >= since]
        if len(ends) < 2 or not begins:
            return None
        return 3600 * len(ends) / max(max(ends) - min(begins), 1e-3)


def _runs(folder: Path) -> list[_Run]:
    from osteo_monai.batch import ledgers_below, read_ledger
    from osteo_monai.utils.locks import read_lock

    ledgers = ledgers_below(folder)
    if not ledgers:
        raise UnusableInputError(f"'{folder}' must be the output folder of a batch, got one without a ledger.")
    locks = {part: read_lock(path.parent) for part, path in ledgers.items()}  # before the ledger, which a run ends with
    runs = [_Run(part, read_ledger(path), locks[part]) for part, path in ledgers.items()]
    if runs[0].part:
        return runs
    whole = _names(runs[0])  # of parts that a run without --part has joined
    return [run for run in runs if not run.part or not _names(run) <= whole]


def _names(run: _Run) -> frozenset[str]:
    return frozenset(entry.study for entry in run.content.entries)


def status(folder: _Folder) -> None:
    """Show how far a batch is: studies by state, rate, expected end, reasons of refusals and failures.

    The ledger is read while the batch runs. A run that was killed is named, with what to start next. All parts of a
    batch that was started with --part are added up.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    from osteo_monai.batch import missing_parts

    runs = _runs(folder)
    entries = [entry for run in runs for entry in run.content.entries]
    counts = Counter(entry.state for entry in entries)
    total, done = len(entries), sum(counts[state] for state in _DONE)
    share = f" ({share_words(done / total)})" if total else ""
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), console=console()) as bar:
        bar.add_task(f"{done} of {total} studies{share}", total=total or 1, completed=done)
    for name in (*_OPEN, *_DONE):
        show(f"  {name}: {counts[name]}")
    for line in _state_lines(runs, entries, total - done):
        show(line)
    codes = Counter(
        (e.state, code) for e in entries if e.state in ("refused", "failed") for code in e.codes.split("; ")
    )
    for (kind, code), number in codes.most_common():
        show(f"  {kind}: {number} x {code}")
    missing = missing_parts([run.part for run in runs])
    if missing:
        show(f"Parts not begun ({len(missing)}): {', '.join(missing)}")
    for run in runs:
        if run.content.copied:
            show(
                f"The ledger{_of([run])} was read from a copy: its folder is read-only, and a change that the killed "
                "run had not finished was undone in the copy."
            )


def _state_lines(runs: "Sequence[_Run]", entries: "Sequence[Entry]", left: int) -> list[str]:
    """Return what the runs do, and what to start again."""
    if not left:
        return ["All studies are finished."]
    lines = []
    working = [run for run in runs if run.works]
    if working:
        lines.append(_pace(working, entries, left))
    for run in working:
        if run.lock.state == "unknown":
            lines.append(
                f"The run{_of([run])} on host {run.lock.host} does not hold its lock as seen from this host: it was "
                "killed, or the file system does not share locks; run 'batch status' on that host."
            )
    killed = [run for run in runs if run.killed]
    if killed:
        broken = sum(entry.state == "running" for run in killed for entry in run.content.entries)
        count = sum(run.left for run in killed)
        lines.append(
            f"Stopped (killed){_of(killed)}: {count} studies are left, {broken} of them begun. {_again(killed)}"
        )
    stopped = [run for run in runs if run.left and not run.works and not run.killed]
    if stopped:
        lines.append(f"Stopped{_of(stopped)}: {sum(run.left for run in stopped)} studies are left. {_again(stopped)}")
    return lines


def _of(runs: "Sequence[_Run]") -> str:
    parts = [run.part for run in runs if run.part]
    return f" of {', '.join(parts)}" if parts else ""


def _again(runs: "Sequence[_Run]") -> str:
    """Return the command that continues runs: with the same arguments, which the ledger does not have."""
    from osteo_monai.batch import Part

    command = runs[0].content.facts.get("command") or "screen"
    parts = [Part.of_folder(run.part) for run in runs if run.part]
    options = f"--part {parts[0].number}/{parts[0].count} --resume" if parts else "--resume"
    each = ", and the other parts in the same way" if len(parts) > 1 else ""
    return f"Start 'osteo-monai {command}' again with the same arguments and {options}{each}."


def _pace(runs: "Sequence[_Run]", entries: "Sequence[Entry]", left: int) -> str:
    changed = max((at for e in entries for at in (e.started, e.ended) if at is not None), default=None)
    ago = "no study begun yet" if changed is None else f"last change {max(time.time() - changed, 0):.0f} s ago"
    rates = [rate for run in runs if (rate := run.rate) is not None]
    if not rates:
        return f"Rate: not known before two studies have ended ({ago})."
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + 3600 * left / sum(rates)))
    return f"Rate: {sum(rates):.0f} studies per hour; expected end: {end} ({ago})."


# --- join ---------------------------------------------------------------------------------------------------------


def join(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=existing_folder, metavar="DIR", help="Output folder of 'osteo-monai screen --part' with all parts."
        ),
    ],
    partial: Annotated[
        bool, typer.Option("--partial", help="Also join if parts are missing or not finished, which are then named.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Join the parts of a batch: one summary.csv, results.parquet and index.html of all studies in DIR.

    Rows have the order of the input; their folder starts with that of the part. Exit code 2 if a part is missing or
    not finished, or a study is in two parts.
    """
    from osteo_monai.reporting.batch import write_batch_page
    from osteo_monai.screening.parts import JOINED_FILES, join_parts

    check_folder(folder, JOINED_FILES, overwrite)
    with locked_folder(folder), progress("Joining"):
        joined = join_parts(folder, partial)
        page = write_batch_page(folder, joined.studies)
    show(f"Joined: {len(joined.studies)} studies")
    if joined.missing:
        show(f"Parts missing ({len(joined.missing)}): {', '.join(joined.missing)}")
    _show_unfinished(joined.unfinished)
    show(f"Summary: {folder / 'summary.csv'}")
    show(f"Page: {page}")


def _show_unfinished(unfinished: Mapping[str, int]) -> None:
    for part, count in unfinished.items():
        show(f"Not finished: {part}, {count} studies have no outcome")
