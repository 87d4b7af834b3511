"""Segmentation networks trained equally and compared on the same people (Pan 2024, Fig. 6)."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from osteo_monai.bundle import check_trusted, config_files, find_bundle
from osteo_monai.errors import ConfigError
from osteo_monai.experiments.comparison_figures import draw_cases, draw_people
from osteo_monai.experiments.comparison_scores import (
    ComparedNetwork,
    Comparison,
    ImageTable,
    compare_scores,
    read_scores,
    write_comparison,
)
from osteo_monai.experiments.parent import parent_of_runs
from osteo_monai.experiments.training import Training, shared_slices, source_facts
from osteo_monai.tracking import sqlite_uri

__all__ = ["SEEDS", "compare_networks"]

logger = logging.getLogger(__name__)

SEEDS = (20240311,)
"""Seed of the bundle."""

_PRODUCTS = ("networks.csv", "pairs.csv", "people.csv", "comparison.json", "cases.png", "people.png")


def compare_networks(
    bundle: str | os.PathLike[str],
    networks: Sequence[str],
    output: Path,
    data_source: str = "virtual",
    overlays: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Comparison:
    """Train the network of a segmentation bundle and others equally, and compare them on the same test people.

    All have the same images, seeds, order of images, augmentations and number of steps; the last weights are evaluated.
    Scores of a person are means over the images and trainings of this person, and networks are compared by person.
    An interrupted comparison continues with the same arguments.

    Args:
        bundle: name or folder of ``vertebral_body_segmentation_ct``.
        networks: overlays of the bundle with another ``network_def``, such as ``classical_unet``.
        output: folder of the tables and figures, and of one folder a training.
        data_source: ``virtual``, or path of a data manifest with training, validation and test.
        overlays: configs of the bundle for all networks, such as ``pan2024``.
        seeds: one training a network each.
        settings: further settings of ``train.json`` and ``evaluate.json``.
        trust: run a bundle that this release does not pin, see ``run_bundle``.

    Returns:
        The scores, also in ``networks.csv``, ``pairs.csv``, ``people.csv`` and ``comparison.json``; ``cases.png`` has
        outlines of the same images, ``people.png`` the Dice coefficients of each person.

    Raises:
        ConfigError: no other network, or a network or seed twice; see also ``run_bundle``.
        UnusableInputError: the networks were not scored on the same images.
    """
    for name, values in (("networks", networks), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{name} must be different and at least one, got {list(values)}")
    folder = find_bundle(bundle)
    check_trusted(folder, trust)
    if data_source == "virtual":
        _check_seeds(folder, overlays, seeds)
    plans = [tuple(overlays), *((*overlays, name) for name in networks)]
    compared = [_network(folder, plan, name) for plan, name in zip(plans, [None, *networks], strict=True)]
    store = {
        "tracking_uri": sqlite_uri(output / "mlflow.db"),
        **shared_slices(folder, overlays, output),
        **(settings or {}),
        "data_source": data_source,
    }
    facts = {f"network_{i}": f"{network.name}, {network.weights} weights" for i, network in enumerate(compared, 1)}
    facts |= {"seeds": ", ".join(map(str, seeds)), "overlays": ", ".join(overlays)}
    trainings = {
        (network.name, seed): Training(
            folder, output / f"{network.name}_seed_{seed}", network.overlays, store | {"seed": seed}, trust
        )
        for seed in seeds
        for network in compared
    }
    with parent_of_runs(folder, ["train", *overlays], store, "network_comparison", facts) as parent:
        for number, ((name, seed), training) in enumerate(trainings.items(), 1):
            training.run(parent)
            logger.info("training %d of %d is complete: %s with seed %d", number, len(trainings), name, seed)
        scored: dict[str, dict[int, ImageTable]] = {network.name: {} for network in compared}
        for (name, seed), training in trainings.items():
            scored[name][seed] = read_scores(training.evaluate(parent))
        comparison = compare_scores(compared, scored)
        write_comparison(output, comparison, source_facts(data_source) | {"seeds": list(seeds)})
        draw_people(output / "people.png", comparison)
        draw_cases(
            output / "cases.png",
            [(network.name, trainings[network.name, seeds[0]]) for network in compared],
            [scored[network.name][seeds[0]] for network in compared],
        )
        for step, network in enumerate(comparison.networks, 1):
            parent.log({f"test_{score}": value for score, value in network.mean.items()}, step)
        parent.log_artifacts([output / name for name in _PRODUCTS])
    return comparison


def _check_seeds(folder: Path, overlays: Sequence[str], seeds: Sequence[int]) -> None:
    """Refuse seeds by which virtual training images would be those of validation or test."""
    config = ConfigParser(ConfigParser.load_config_files(config_files(folder, ["train", *overlays])))
    evaluation = {config["validation_seed"], config["test_seed"]}
    if shared := sorted(evaluation & set(seeds)):
        raise ConfigError(
            f"seeds must be others than those of validation and test images, got {', '.join(map(str, shared))}"
        )


def _network(folder: Path, overlays: tuple[str, ...], name: str | None) -> ComparedNetwork:
    """Return a network before its training; ``name`` is ``None`` for the bundle's own."""
    parser = ConfigParser(ConfigParser.load_config_files(config_files(folder, ["train", *overlays])))
    network = parser.get_parsed_content("network_def")
    weights = sum(parameter.numel() for parameter in network.parameters())
    return ComparedNetwork(name or type(network).__name__, overlays, weights)
