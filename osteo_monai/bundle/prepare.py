"""Checks at the start of a bundle's run."""

import difflib
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from monai.bundle import ConfigParser

__all__ = ["prepare_run", "refuse_unknown_settings"]

_MONAI_SETTINGS = frozenset(
    {"_meta_", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0", "imports"}
)
"""Top-level ids that ``monai.bundle run`` itself may add to a config."""


def refuse_unknown_settings(config: Mapping[str, Any], bundle_root: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` where ``config`` has a top-level id that no config file of the bundle knows.

    MONAI accepts any override (``--epochz 1``) and then ignores it.
    """
    known: set[str] = set(_MONAI_SETTINGS)
    for file in sorted(Path(bundle_root, "configs").glob("*.json")):
        known.update(key.lstrip("+") for key in json.loads(file.read_text()))
    unknown = sorted(set(config) - known)
    if unknown:
        guesses = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {guesses[0]!r}?" if guesses else ""
        raise ValueError(f"unknown setting {', '.join(map(repr, unknown))}: no config of this bundle has it{hint}")


def prepare_run(bundle_root: str | os.PathLike[str], output_dir: str | os.PathLike[str], write: bool = True) -> None:
    """Check the settings and write the merged config to ``<output_dir>/config.json``; a bundle's first initialise step.

    Args:
        bundle_root: the bundle's folder.
        output_dir: where the run writes; made if missing.
        write: only one process of a distributed run may write.

    Raises:
        SystemExit: on a setting that no config of the bundle knows, or an evaluation's missing checkpoint; MONAI
            would bury another exception's sentence under a page of its own.
        RuntimeError: when not called from a config.
    """
    parser = _calling_parser()
    config: dict[str, Any] = dict(cast(Mapping[str, Any], parser.config))
    try:
        refuse_unknown_settings(config, bundle_root)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    evaluates = "validate" in config and not any("trainer" in str(step) for step in config.get("run", ()))
    checkpoint = parser.get_parsed_content("checkpoint") if evaluates and "checkpoint" in config else ""
    if checkpoint and not Path(checkpoint).is_file():
        raise SystemExit(
            f"error: checkpoint: there is no file {Path(checkpoint).name!r}; train first, or name one with --checkpoint"
        )
    if write:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")


def _calling_parser() -> ConfigParser:
    """Return the parser that evaluates the expression we are called from: MONAI hands it to nobody."""
    for frame in _frames():
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return caller
    raise RuntimeError("prepare_run works in a bundle's config only")


def _frames() -> Iterator[Any]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
