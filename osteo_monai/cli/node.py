"""``osteo-monai node``: receive studies from a PACS, screen them, send the results back."""

import os
import signal
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.errors import ExitCode
from osteo_monai.cli.options import existing_file
from osteo_monai.cli.output import show
from osteo_monai.errors import ConfigError, ModelMissingError
from osteo_monai.utils.files import write_text
from osteo_monai.utils.optional import import_optional
from osteo_monai.utils.text import counted, listed

if TYPE_CHECKING:
    from osteo_monai.node import NodeConfig, Queue

__all__ = ["check", "example", "list_", "mercure", "require_pacs", "retry", "run"]

EXAMPLE = "node.yaml"

_Config = Annotated[
    Path, typer.Argument(parser=existing_file, metavar="CONFIG", help="YAML file of 'osteo-monai node example'.")
]


def require_pacs() -> None:
    """Check that the libraries of the extra ``pacs`` are installed.

    Raises:
        MissingExtraError: one is not.
    """
    for module in ("pynetdicom", "dicomweb_client", "prometheus_client", "yaml", "requests"):
        import_optional(module, "pacs", "The DICOM network")


def _read(path: Path) -> "NodeConfig":
    require_pacs()
    from osteo_monai.node import read_config

    return read_config(path)


def example(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file to write.")] = Path(EXAMPLE),
) -> None:
    """Write a commented example of the settings."""
    if output.exists():
        raise ConfigError(f"FILE must not exist, got '{output}'")
    text = files("osteo_monai.node").joinpath("templates", EXAMPLE).read_text(encoding="utf-8")
    write_text(output, text)
    show(f"Settings: {output}")


def check(config: _Config) -> None:
    """Check the settings, certificates and credentials, without starting anything."""
    from osteo_monai.cli.node_screening import screening_options

    settings = _read(config)
    from osteo_monai.node import check_connections

    screening_options(settings.screening.options, settings.screening.device)
    check_connections(settings)
    show(f"'{config}' has no mistakes.")
    if settings.receiver is not None:
        received = settings.receiver
        show(f"Receiver: {received.ae_title} at {received.address}:{received.port}, TLS: {_yes(received.tls)}")
    for destination in settings.destinations:
        show(f"Destination: {destination.name} ({destination.kind})")
    if not settings.destinations:
        show("Destination: none, results stay in the folder.")


def _yes(value: object) -> str:
    return "no" if value is None else "yes"


def run(config: _Config) -> None:
    """Run the node until SIGTERM or SIGINT: receive, screen, deliver.

    Logs are JSON lines on stderr without identifiers. A study that is being screened when the node stops is screened
    again at the next start.

    Exit codes: 0 stopped by a signal, 1 unexpected error (start again), 2 wrong settings, 4 model not installed.
    """
    from osteo_monai.cli.node_screening import PROCESSOR, screening_options

    settings = _read(config)
    from osteo_monai.batch import StartError
    from osteo_monai.node import Node
    from osteo_monai.node.logs import log_to

    screening_options(settings.screening.options, settings.screening.device)
    log_to()
    node = Node(settings, PROCESSOR)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stopping.set())
    try:
        node.run()
    except StartError as error:
        if error.error == ModelMissingError.__name__:
            raise ModelMissingError(str(error)) from None
        raise


def list_(config: _Config) -> None:
    """List the queue and all dead letters. Studies are named by the first digits of a hash of their UID."""
    queue = _queue(config)
    try:
        for name, states in queue.counts().items():
            show(f"{name.capitalize()}: {listed(f'{number} {state}' for state, number in states.items()) or 'none'}")
        for row in queue.studies():
            reason = row["job_reason"] or row["reason"]
            state = f"{row['job_state'] or row['state']}, {counted(row['images'], 'image')}"
            show(f"study {row['study'][:12]}: {state}{': ' if reason else ''}{reason or ''}")
        for row in queue.failures():
            show(f"{row['item']}: study {row['study'][:12]}, {row['kind']}: {row['reason']}")
    finally:
        queue.close()


def retry(
    config: _Config,
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Such as 'job 3' or 'delivery 8'; all if left out.")
    ] = None,
) -> None:
    """Queue dead letters again; a running node continues with them."""
    queue = _queue(config)
    try:
        wanted = items or []
        revived = queue.revive(wanted, time.time())
        missing = sorted(set(wanted) - set(revived))
        for item in revived:
            show(f"Queued: {item}")
        if missing:
            raise ConfigError(f"ITEM must be a dead letter of 'osteo-monai node list', got {listed(missing)}")
        if not revived:
            show("There is no dead letter.")
    finally:
        queue.close()


def _queue(config: Path) -> "Queue":
    settings = _read(config)
    from osteo_monai.node import QUEUE_FILE, Queue

    path = settings.folder / QUEUE_FILE
    if not path.is_file():
        raise ConfigError(f"folder must be that of a node that has run, got '{settings.folder}'")
    return Queue(path)


def mercure() -> None:
    """Screen one task of mercure: folders from its environment variables, result.json, DICOM results.

    Exit codes: 0 also for a refused study, which is a finished task; 1 unexpected error, 2 wrong settings, 4 model not
    installed.
    """
    require_pacs()
    from osteo_monai.cli.node_screening import load
    from osteo_monai.node import folders, run_module

    source, target = folders(os.environ)
    done = run_module(source, target, load)
    show(done.summary or done.outcome)
    raise typer.Exit(ExitCode.UNEXPECTED if done.outcome == "failed" else ExitCode.MEASURED)
