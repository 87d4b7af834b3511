"""Hyper-parameters read from the objects of a training: network, loss, optimiser, schedule, augmentation."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.transforms import Compose, Randomizable, Transform
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["describe", "network_facts", "settings_of", "training_facts", "unwrapped"]

_NOT_SETTINGS = frozenset(
    {
        *("self", "params", "optimizer", "last_epoch", "device", "lazy", "keys", "allow_missing_keys"),
        *("meta_keys", "meta_key_postfix", "factor_key", "progress"),
    }
)
"""Arguments that select data, not what is done with them."""
_IMPLEMENTATION = frozenset({"foreach", "capturable", "differentiable", "fused", "maximize", "decoupled_weight_decay"})
"""Arguments of optimisers that select an implementation, a sign, or what the class says."""
_MISSING = object()
_MOST_VALUES = 64
"""Longest list that is a setting and not data."""
_DEPTH = 3
"""Objects inside objects that are searched for an argument: MONAI's transforms of dictionaries hold others."""


def training_facts(engine: Any, lr_scheduler: object = None) -> dict[str, Any]:
    """Return the hyper-parameters of a trainer or evaluator of MONAI, by the name of the MLflow parameter.

    Args:
        engine: with a network, and as a trainer with a loss, an optimiser and a data loader.
        lr_scheduler: schedule of the learning rate.
    """
    facts = network_facts(engine.network)
    if (inferer := getattr(engine, "inferer", None)) is not None:
        facts["inferer"] = describe(inferer)
    if not hasattr(engine, "optimizer"):
        return facts
    for name, part in (("loss", engine.loss_function), ("lr_scheduler", lr_scheduler)):
        if part is not None:
            facts[name] = type(part).__name__
            facts |= {f"{name}.{key}": value for key, value in settings_of(part).items()}
    optimizer = engine.optimizer
    facts["optimizer"] = type(optimizer).__name__
    used = {key: value for key, value in optimizer.defaults.items() if key not in _IMPLEMENTATION and _is_plain(value)}
    facts |= {f"optimizer.{key}": value for key, value in used.items()}
    steps = list(_transforms(getattr(getattr(engine.data_loader, "dataset", None), "transform", None)))
    of_batch = [] if inspect.isroutine(engine.prepare_batch) else [engine.prepare_batch]
    random = [step for step in steps if isinstance(step, Randomizable)] + of_batch
    facts["augmentation"] = "; ".join(map(describe, random)) or "none"
    facts["preprocessing"] = ", ".join(type(step).__name__ for step in steps) or "none"
    return facts


def network_facts(network: nn.Module) -> dict[str, Any]:
    """Return class, number of weights, and output channels of the layers with weights, runs of equal numbers once."""
    plain = unwrapped(network)
    channels: list[int] = []
    for layer in plain.modules():
        width = getattr(layer, "out_channels", getattr(layer, "out_features", None))
        if isinstance(width, int) and isinstance(getattr(layer, "weight", None), torch.Tensor):
            channels += [width] if channels[-1:] != [width] else []
    return {
        "network": type(plain).__name__,
        "network_weights": sum(p.numel() for p in plain.parameters()),
        "network_channels": "-".join(map(str, channels)),
    }


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside PyTorch's wrappers for several processes and for compiled code."""
    while isinstance(network, DataParallel | DistributedDataParallel) or hasattr(network, "_orig_mod"):
        inner = network.module if isinstance(network, DataParallel | DistributedDataParallel) else network._orig_mod
        network = cast(nn.Module, inner)
    return network


def describe(part: object) -> str:
    """Return class and settings of an object, or of a function with the values it holds, as ``Name(a=1, b=2)``.

    Example:
        >>> from monai.transforms import RandFlipd
        >>> describe(RandFlipd("image", prob=0.5, spatial_axis=0))
        'RandFlipd(prob=0.5, spatial_axis=0)'
    """
    if inspect.isfunction(part):
        held = {key: value for key, value in inspect.getclosurevars(part).nonlocals.items() if _is_plain(value)}
        name = part.__qualname__.removeprefix("<lambda>").split(".<locals>")[0] or "lambda"
        return f"{name}({', '.join(f'{key}={_short(value)}' for key, value in sorted(held.items()))})"
    settings = ", ".join(f"{key}={_short(value)}" for key, value in settings_of(part).items())
    return f"{type(part).__name__}({settings})"


def settings_of(part: object) -> dict[str, Any]:
    """Return the arguments of an object's class that the object, or an object it holds, keeps as plain values."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(part).__init__).parameters.items():
        if (
            name in _NOT_SETTINGS
            or name.endswith("_key")
            or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ):
            continue
        value = _kept(part, name, _DEPTH)
        if value is not _MISSING:
            found[name] = value
    if functions := getattr(part, "lr_lambdas", None):
        found["lr_lambda"] = "; ".join(map(describe, functions))
    return found


def _kept(part: object, name: str, depth: int) -> Any:
    own = dict(vars(part)) if hasattr(part, "__dict__") else {}
    if isinstance(part, nn.Module):
        own |= {**dict(part.named_buffers(recurse=False)), **dict(part.named_children())}
    for key in (name, f"_{name}"):
        if key in own and _is_plain(own[key]):
            return _plain(own[key])
    if depth > 0:
        for inner in own.values():
            if isinstance(inner, Transform | nn.Module) and (value := _kept(inner, name, depth - 1)) is not _MISSING:
                return value
    return _MISSING


def _is_plain(value: object) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return bool(np.prod(value.shape) <= _MOST_VALUES)
    if isinstance(value, Mapping):
        return len(value) <= _MOST_VALUES and all(_is_plain(v) for v in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) <= _MOST_VALUES and all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str | np.generic | torch.dtype)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _short(value: Any) -> str:
    return str(_plain(value))


def _transforms(step: Any) -> Iterator[Any]:
    """Yield the steps of a transform, those of nested sequences in order."""
    if isinstance(step, Compose):
        for inner in step.transforms:
            yield from _transforms(inner)
    elif step is not None:
        yield step
