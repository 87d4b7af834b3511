"""Definition of a network with plain values, from the merged config of a run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from osteo_monai.tracking.paths import without_paths

__all__ = ["build_network", "network_definition"]

_ID = "network_def"


def network_definition(config: str | os.PathLike[str], network: nn.Module) -> dict[str, Any] | None:
    """Return class and arguments of a network, from the merged config of its run.

    Args:
        config: merged config, written when the run began.
        network: of the run. The definition must give the same layers: in a process that did not write the config, the
            file may be that of an earlier run.

    Returns:
        ``{"_target_": ..., argument: value}`` with plain values; ``None`` if there is no file, its values are not
        plain, or it is of another network.
    """
    if not Path(config).is_file():
        return None
    parser = ConfigParser(ConfigParser.load_config_file(str(config)))
    written = parser.get(_ID)
    if not isinstance(written, Mapping):
        return None
    definition = {"_target_": written["_target_"]}
    for name in written:
        if not str(name).startswith("_"):
            definition[name] = _without_files(parser.get_parsed_content(f"{_ID}#{name}"))
    try:
        definition = json.loads(json.dumps(definition))
    except (TypeError, ValueError):
        return None
    return definition if str(build_network(definition)) == str(network) else None


def build_network(definition: Mapping[str, Any]) -> nn.Module:
    """Return a new network on the CPU; the state of random generators stays as it is."""
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = ConfigParser({_ID: dict(definition)}).get_parsed_content(_ID)
    return network


def _without_files(value: Any) -> Any:
    """Return an argument; a file of initial weights becomes an empty text, since the weights are those of the run."""
    return "" if isinstance(value, str) and without_paths(value) != value else value
