"""Options of commands that process many studies."""

from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.errors import ConfigError

if TYPE_CHECKING:
    from osteo_monai.batch import Part, Selection, State, Workers

__all__ = [
    "MANY",
    "ClusterAddress",
    "ClusterGpus",
    "MemoryLimit",
    "PartOfMany",
    "Resume",
    "Retry",
    "TimeLimit",
    "WorkersOfMany",
    "check_resume",
    "chosen_selection",
    "chosen_workers",
    "parse_part",
    "parse_retry",
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
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue a stopped run: keep whole results of the same version, options and input files.",
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


def check_resume(resume: bool, overwrite: bool) -> None:
    """Refuse ``--overwrite`` beside ``--resume``.

    Raises:
        ValueError: both are given.
    """
    if resume and overwrite:
        raise ValueError("--overwrite must not be given with --resume or --retry")


def chosen_selection(part: str | None, resume: bool, retry: str | None, overwrite: bool) -> "Selection":
    """Return the studies of the options, and which outcomes are kept.

    Raises:
        ValueError: naming the option.
        ConfigError: naming the option.
    """
    from osteo_monai.batch import Selection

    repeated = parse_retry(retry)
    check_resume(resume or bool(repeated), overwrite)
    return Selection(parse_part(part), resume or bool(repeated), frozenset(repeated))


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
