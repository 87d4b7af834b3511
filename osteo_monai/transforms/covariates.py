"""Facts of a person as input of a CT classifier, beside the slices."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from osteo_monai.domain import Sex
from osteo_monai.errors import ConfigError

__all__ = ["COVARIATES", "CovariatePlanesd", "Covariatesd", "covariate_reference"]

Facts = Mapping[str, Any]


def _number(facts: Facts, name: str) -> float:
    """Return a number, NaN if unknown."""
    value = facts.get(name)
    return math.nan if value is None else float(value)


def _body_mass_index(facts: Facts) -> float:
    """Return weight in kg over the square of height in m."""
    return _number(facts, "weight_kg") / (_number(facts, "height_cm") / 100) ** 2


def _female(facts: Facts) -> float:
    sex = facts.get("sex")
    return math.nan if sex is None else float(Sex(sex) is Sex.FEMALE)


COVARIATES: Mapping[str, Callable[[Facts], float]] = {
    "age": lambda facts: _number(facts, "age"),
    "sex": _female,
    "bmi": _body_mass_index,
}
"""Covariates by name: age in years, sex (1 female, 0 male), body mass index in kg/m2; NaN if unknown."""


class Covariatesd(Transform):
    """Encode facts of a person as values and flags.

    Input: ``facts``, a mapping with ``age`` (years), ``sex`` (``F`` or ``M``), ``height_cm`` and ``weight_kg``; unknown
    facts, or the mapping, may be absent. Output: ``covariates``, float32 (2 K,) for K names: K values, 0 if unknown,
    then K flags, 1 if known and 0 if not. Without names nothing is added.

    Args:
        names: of ``COVARIATES``, in the order of the network's inputs.
        facts_key, covariates_key: input and output.

    Raises:
        ValueError: when a name is unknown or repeated.
    """

    def __init__(self, names: Sequence[str] = (), facts_key: str = "facts", covariates_key: str = "covariates") -> None:
        super().__init__()
        if isinstance(names, str) or set(names) - set(COVARIATES) or len(set(names)) < len(names):
            raise ValueError(f"covariates must be different ones of {', '.join(COVARIATES)}, got {names!r}")
        self.names = tuple(names)
        self.facts_key, self.covariates_key = facts_key, covariates_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        if self.names:
            values = torch.tensor([COVARIATES[name](result.get(self.facts_key, {})) for name in self.names])
            known = values.isfinite()
            result[self.covariates_key] = torch.cat([values.where(known, 0.0), known.float()])
        return result


class CovariatePlanesd(Transform):
    """Append each covariate to an image as a constant plane, see ``CovariateClassifier``.

    Works on one item and on a batch: image (..., C, X, Y) and covariates (..., K) give (..., C + K, X, Y).

    Args:
        image_key, covariates_key: inputs; the latter is removed.
    """

    def __init__(self, image_key: str = "image", covariates_key: str = "covariates") -> None:
        super().__init__()
        self.image_key, self.covariates_key = image_key, covariates_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image, covariates = result[self.image_key], result.pop(self.covariates_key)
        planes = covariates.to(image)[..., None, None].expand(*covariates.shape, *image.shape[-2:])
        result[self.image_key] = torch.cat([image, planes], -3)
        return result


def covariate_reference(items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[float]]:
    """Return mean and SD (n - 1) of each covariate over the items that have it, (K, 2).

    Pass the people of the training split only. A covariate that is the same in all of them has an SD of 1.

    Args:
        items: each with ``facts``, see ``Covariatesd``.
        names: of ``COVARIATES``.

    Raises:
        ConfigError: with all covariates that fewer than two items have.
    """
    encode, count = Covariatesd(names), len(names)
    if not names:
        return []
    encoded = torch.stack([encode({"facts": item["facts"]})["covariates"] for item in items]).double()
    reference, problems = [], []
    for index, name in enumerate(names):
        values = encoded[encoded[:, count + index] > 0, index]
        if len(values) < 2:
            problems.append(f"{name} must be known for two people of the training split or more, got {len(values)}")
        else:
            reference.append([float(values.mean()), float(values.std()) or 1.0])
    if problems:
        raise ConfigError("; ".join(problems))
    return reference
