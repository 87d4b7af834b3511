"""Options of commands that process many studies, and ``osteo-monai batch status``."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.options import existing_folder
from osteo_monai.cli.output import console, show
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.text import share_words

if TYPE_CHECKING:
    from osteo_monai.batch import Entry, Part, State, Workers

__all__ = [
    "MANY",
    "ClusterAddress",
    "ClusterGpus",
    "MemoryLimit",
    "PartOfMany",
    "Retry",
    "TimeLimit",
    "WorkersOfMany",
    "chosen_workers",
    "parse_part",
    "parse_retry",
    "status",
]

MANY = "Many studies"
"""Help panel of the options of a batch."""

WorkersOfMany = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Parallel processes; each loads the models once and has one study in memory at a time.",
        rich_help_panel=MANY,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="End a study that takes longer; it is recorded as failed, and the others continue.",
        show_default="none",
        rich_help_panel=MANY,
    ),
]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        metavar="GIB",
        help="End a study whose process needs more memory, models included; it is recorded as failed.",
        show_default="none",
        rich_help_panel=MANY,
    ),
]
PartOfMany = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Process the I-th of N fixed shares of the studies, into the folder part_I_of_N of the output.",
        show_default="all",
        rich_help_panel=MANY,
    ),
]
Retry = Annotated[
    str | None,
    typer.Option(
        metavar="STATES",
        help="Continue a run, and repeat the studies in these states of its ledger: failed, refused or failed,refused.",
        show_default="none",
        rich_help_panel=MANY,
    ),
]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Run the workers on Ray (extra 'cluster'): local, auto or the address of a cluster, whose machines have "
        "input and output at the same paths.",
        show_default="none",
        rich_help_panel=MANY,
    ),
]
ClusterGpus = Annotated[
    float | None,
    typer.Option(
        "--cluster-gpus",
        metavar="SHARE",
        help="Share of a GPU that a worker on Ray reserves, such as 0.25.",
        show_default="0",
        rich_help_panel=MANY,
    ),
]

_RETRIED = ("failed", "refused")


def parse_retry(text: str | None) -> "frozenset[State]":
    """Return the states of ``--retry``.

    Raises:
        ValueError: naming the option.
    """
    states = [part.strip() for part in (text or "").split(",")] if text is not None else []
    if any(state not in _RETRIED for state in states):
        raise ValueError(f"--retry must be failed, refused or failed,refused, got '{text}'")
    return frozenset(states)  # type: ignore[arg-type]


def parse_part(text: str | None) -> "Part | None":
    """Return the share of ``--part``.

    Raises:
        ConfigError: naming the option.
    """
    from osteo_monai.batch import Part

    return None if text is None else Part.parse(text)


def chosen_workers(
    count: int,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    address: str | None = None,
    gpus: float | None = None,
) -> "Workers":
    """Return the workers of the options.

    Raises:
        ConfigError: naming the option.
    """
    from osteo_monai.batch import Cluster, Limits, Workers

    for name, value in (("--time-limit", time_limit), ("--memory-limit", memory_limit)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be above 0, got {value:g}")
    if gpus is not None and address is None:
        raise ConfigError("--cluster-gpus must be given with --cluster")
    limits = Limits(seconds=time_limit, memory_mib=None if memory_limit is None else 1024 * memory_limit)
    cluster = None if address is None else Cluster(address, gpus or 0.0)
    if cluster is not None:
        from osteo_monai.batch.cluster import check_reachable
        from osteo_monai.utils.optional import import_optional

        import_optional("ray", "cluster", "--cluster")
        check_reachable(cluster)
    return Workers(count, limits, cluster)


# --- osteo-monai batch status -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Progress:
    """State of a batch, all its parts together.

    Attributes:
        counts: of studies by state.
        reasons: numbers of refusals and failures by state and code.
        rate: studies per hour of the runs that go on; ``None`` before two studies of one have ended.
        changed: Unix time of the last change.
        runs: runs that go on, or were killed.
        missing: parts that were not begun.
    """

    counts: Counter[str]
    reasons: Counter[tuple[str, str]]
    rate: float | None
    changed: float
    runs: int
    missing: tuple[str, ...]

    @property
    def done(self) -> int:
        """Number of studies that are finished."""
        return sum(self.counts[state] for state in ("measured", "refused", "failed"))


def _progress(folder: Path) -> _Progress:
    from osteo_monai.batch import ledgers_below, read_ledger
    from osteo_monai.utils.locks import LOCK_NAME

    ledgers = ledgers_below(folder)
    if not ledgers:
        raise UnusableInputError(f"'{folder}' must be the output folder of a batch, got one without a ledger.")
    entries: list[Entry] = []
    rates: list[float | None] = []
    for path in ledgers.values():
        content = read_ledger(path)
        entries += content.entries
        if (path.parent / LOCK_NAME).exists():
            rates.append(_rate(content.entries, float(content.facts.get("started") or 0)))
    known = [rate for rate in rates if rate is not None]
    return _Progress(
        counts=Counter(entry.state for entry in entries),
        reasons=Counter((e.state, c) for e in entries if e.state in _RETRIED for c in e.codes.split("; ")),
        rate=sum(known) if known else None,
        changed=max((at for e in entries for at in (e.started, e.ended) if at is not None), default=0.0),
        runs=len(rates),
        missing=_missing_parts(ledgers),
    )


def _rate(entries: "Sequence[Entry]", since: float) -> float | None:
    """Return the studies per hour of a run, from the first one that it began to the last one that it ended."""
    ends = [entry.ended for entry in entries if entry.ended is not None and entry.ended >= since]
    begins = [entry.started for entry in entries if entry.started is not None and entry.started >= since]
    if len(ends) < 2 or not begins:
        return None
    return 3600 * len(ends) / max(max(ends) - min(begins), 1e-3)


def _missing_parts(names: Collection[str]) -> tuple[str, ...]:
    counts = {int(name.rsplit("_", 1)[1]) for name in names if name}
    wanted = [f"part_{number}_of_{count}" for count in sorted(counts) for number in range(1, count + 1)]
    return tuple(name for name in wanted if name not in names)


def status(
    folder: Annotated[
        Path,
        typer.Argument(parser=existing_folder, metavar="DIR", help="Output folder of a batch, with or without parts."),
    ],
) -> None:
    """Show how far a batch is: studies by state, rate, expected end, reasons of refusals and failures.

    The ledger is read while the batch runs. All parts of a batch that was started with --part are added up.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    state = _progress(folder)
    total = sum(state.counts.values())
    share = f" ({share_words(state.done / total)})" if total else ""
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), console=console()) as bar:
        bar.add_task(f"{state.done} of {total} studies{share}", total=total or 1, completed=state.done)
    for name in ("pending", "running", "measured", "refused", "failed"):
        show(f"  {name}: {state.counts[name]}")
    show(_pace(state, total - state.done))
    for (kind, code), number in state.reasons.most_common():
        show(f"  {kind}: {number} x {code}")
    if state.missing:
        show(f"Parts not begun ({len(state.missing)}): {', '.join(state.missing)}")


def _pace(state: _Progress, left: int) -> str:
    if not left:
        return "All studies are finished."
    if not state.runs:
        again = "Start the command again ('screen' with --resume)."
        return f"No run writes to this folder; {left} studies are left. {again}"
    ago = f"last change {max(time.time() - state.changed, 0):.0f} s ago" if state.changed else "no study begun yet"
    if state.rate is None:
        return f"Rate: not known before two studies have ended ({ago})."
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + 3600 * left / state.rate))
    return f"Rate: {state.rate:.0f} studies per hour; expected end: {end} ({ago})."
