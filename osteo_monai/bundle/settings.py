"""Checks of the names of settings against the configs of a bundle."""

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser
from monai.bundle.utils import merge_kv

from osteo_monai.errors import ConfigError

__all__ = ["check_names", "check_top_level", "known_names"]

_MONAI_SETTINGS = frozenset(
    {"_meta_", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0", "imports"}
)
"""Top-level ids that MONAI itself may add to a config."""

_SIMILAR = 0.7
_SUGGESTIONS = 3
_LISTED = 8
"""If no name is similar, at most this number of valid ones is listed."""


def known_names(folders: Iterable[Path]) -> set[str]:
    """Return the top-level ids that the configs of folders have."""
    names = set(_MONAI_SETTINGS)
    for file in (file for folder in folders for file in sorted(folder.glob("*.json"))):
        if file.name != "metadata.json":
            names.update(_normalised(key).partition("#")[0] for key in ConfigParser.load_config_file(file))
    return names


def check_top_level(names: Iterable[str], known: Iterable[str]) -> None:
    """Check the top level of ids.

    Args:
        names: ids, such as ``epochs`` and ``network_def#widths``.
        known: see ``known_names``.

    Raises:
        ConfigError: naming the unknown ids and a similar known one.
    """
    choices = set(known)
    unknown = sorted({_normalised(name).partition("#")[0] for name in names} - choices)
    if unknown:
        hint = _question(difflib.get_close_matches(unknown[0], choices, n=1))
        raise ConfigError(f"unknown setting {', '.join(map(repr, unknown))}: no config of this bundle has it{hint}")


def check_names(files: Sequence[str | Path], settings: Mapping[str, Any]) -> None:
    """Check nested ids of config files and settings, and the arguments of the components of the merged config.

    A setting must have a place in the config: MONAI ignores a misspelt part, and ends with a trace if the part is an
    argument of a component. Files may add parts.

    Args:
        files: config files, merged in order.
        settings: id to value, applied after the files; their top level was checked.

    Raises:
        ConfigError: naming the id, why it has no place, and similar ids.
    """
    parser = ConfigParser({})
    for file in files:
        for name, value in ConfigParser.load_config_file(file).items():
            _check_place(name, parser.get(), may_add=True)
            merge_kv(parser, name, deepcopy(value))
    for name, value in settings.items():
        _check_place(name, parser.get(), may_add=False)
        parser[name] = value
    for place, component in _components("", parser.get()):
        _check_arguments(place, component, parser.get())


def _normalised(name: str) -> str:
    return name.lstrip("+").replace("::", "#")


def _check_place(name: str, config: Mapping[str, Any], may_add: bool) -> None:
    """Raise ``ConfigError`` when a nested id has no place in the config."""
    *parents, last = _normalised(name).split("#")
    if not parents:
        return
    node: Any = config
    for depth, key in enumerate(parents):
        if not _has(node, key):
            raise _unknown(name, _reason(parents[:depth], node, key), config)
        node = node[int(key)] if isinstance(node, list) else node[key]
    if isinstance(node, dict) and ("_target_" in node or may_add):
        return  # arguments of components are checked in the merged config
    if not _has(node, last):
        raise _unknown(name, _reason(parents, node, last), config)


def _has(node: Any, key: str) -> bool:
    if isinstance(node, list):
        return key.isdecimal() and int(key) < len(node)
    return isinstance(node, dict) and key in node


def _reason(parents: Sequence[str], node: Any, key: str) -> str:
    """Return why a node has no part ``key``."""
    parent = "#".join(parents)
    if not parents:
        return f"the config has no part {key!r}"
    if isinstance(node, list):
        return f"{parent!r} has the parts 0 to {len(node) - 1}" if node else f"{parent!r} has no parts"
    if isinstance(node, dict):
        return f"{parent!r} has no part {key!r}"
    if isinstance(node, str) and node.startswith("@"):
        return f"{parent!r} is a reference to {_normalised(node[1:])!r}"
    return f"{parent!r} has no parts"


def _components(place: str, node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield id and content of each component in a config."""
    if isinstance(node, dict | list):
        if isinstance(node, dict) and ConfigComponent.is_instantiable(node):
            yield place, node
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _components(f"{place}#{key}" if place else str(key), child)


def _check_arguments(place: str, component: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` when a component has an argument that its class or function does not accept."""
    accepted = _accepted_arguments(component)
    if accepted is None:
        return
    for name in component.keys() - ConfigComponent.non_arg_keys - set(accepted):
        if not name.startswith(("_desc_", "_args_")):
            target = str(component["_target_"]).rpartition(".")[2]
            raise _unknown(f"{place}#{name}", f"{target} has no argument {name!r}", config)


@cache
def _locator() -> ComponentLocator:
    """Return one locator of MONAI's classes, whose table is made once."""
    return ComponentLocator()


def _accepted_arguments(component: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of arguments; None if any name is accepted or the target cannot be found."""
    target = component["_target_"]
    return _parameters(target) if isinstance(target, str) and target[:1] not in "$@%" else None


@cache
def _parameters(target: str) -> tuple[str, ...] | None:
    try:
        found = locate(ConfigComponent({"_target_": target}, locator=_locator()).resolve_module_name())
        if not callable(found):
            return None
        parameters = inspect.signature(found).parameters.values()
    except (ErrorDuringImport, TypeError, ValueError):  # MONAI reports it, if the component is used
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY)


def _unknown(name: str, reason: str, config: Mapping[str, Any]) -> ConfigError:
    """Return the error for an id, with similar ids, or the valid ones beside it."""
    wanted = _normalised(name)
    parent, _, last = wanted.rpartition("#")
    ids = [one for one in _ids("", config) if one != wanted]
    beside = [one for one in ids if one.rpartition("#")[0] == parent]
    by_last = {one: one.rpartition("#")[2] for one in ids}
    matches = [f"{parent}#{key}" if parent else key for key in _close(last, [by_last[one] for one in beside])]
    matches += _close(wanted, ids)
    similar = _close(last, sorted(set(by_last.values())))
    matches += [one for key in similar for one in ids if by_last[one] == key]
    unique = sorted(set(matches), key=lambda one: (-difflib.SequenceMatcher(None, wanted, one).ratio(), one))
    hint = _question(unique[:_SUGGESTIONS])
    if not hint and beside:
        hint = f"; valid are {', '.join(map(repr, beside[:_LISTED]))}"
    return ConfigError(f"unknown setting {wanted!r}: {reason}{hint}")


def _close(word: str, choices: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word, choices, n=_SUGGESTIONS, cutoff=_SIMILAR)


def _ids(place: str, node: Any) -> Iterator[str]:
    """Yield all ids that a setting can have: parts of the config and arguments of its components."""
    names: dict[Any, None] = dict.fromkeys(node if isinstance(node, dict) else ())
    if ConfigComponent.is_instantiable(node):
        names |= dict.fromkeys(_accepted_arguments(node) or ())
    for name in names:
        if not str(name).startswith(("_", "+")):
            one = f"{place}#{name}" if place else str(name)
            yield one
            if name in node:
                yield from _ids(one, node[name])
    for index, part in enumerate(node if isinstance(node, list) else ()):
        yield from _ids(f"{place}#{index}", part)


def _question(names: Sequence[str]) -> str:
    """Return a question after a list of similar names; empty if there are none."""
    *most, last = [repr(name) for name in names] or [""]
    return f"; did you mean {', '.join(most)}{' or ' if most else ''}{last}?" if last else ""
