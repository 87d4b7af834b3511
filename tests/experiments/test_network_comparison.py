import csv
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.experiments import ComparedNetwork, compare_networks
from osteo_monai.experiments.comparison_figures import chosen_cases, shown_window
from osteo_monai.experiments.comparison_scores import ImageTable, compare_scores
from osteo_monai.experiments.training import Training

from .conftest import TINY

BUNDLE = Path(__file__).parents[2] / "bundles" / "vertebral_body_segmentation_ct"


def _network(overlay: str | None) -> Any:
    files = [BUNDLE / "configs" / f"{name}.json" for name in ("train", *([overlay] if overlay else []))]
    return ConfigParser(ConfigParser.load_config_files([str(f) for f in files])).get_parsed_content("network_def")


def _weights(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_classical_unet_has_the_widths_of_the_compared_network() -> None:
    config = ConfigParser.load_config_file(str(BUNDLE / "configs" / "common.json"))
    widths = config["network_def"]["widths"]
    overlay = ConfigParser.load_config_file(str(BUNDLE / "configs" / "classical_unet.json"))
    assert overlay["network_def"]["features"] == [*widths[:5], widths[0]]


def test_the_other_unets_have_equal_weights_and_the_original_widths() -> None:
    own, equal, wide = (_network(name) for name in (None, "classical_unet_equal_weights", "classical_unet_wide"))
    assert abs(_weights(equal) / _weights(own) - 1) < 0.01
    assert isinstance(wide, BasicUNet)
    assert _weights(wide) == pytest.approx(31.0e6, rel=0.01)  # Ronneberger 2015: 64 to 1024


def _table(dice: list[float], distances: list[float], subjects: str = "aabc") -> ImageTable:
    scores = np.array([[d, m, m] for d, m in zip(dice, distances, strict=True)])
    return ImageTable(tuple((i, 0) for i in range(len(dice))), tuple(subjects), scores)


def test_networks_are_compared_by_person_over_images_and_trainings() -> None:
    networks = [ComparedNetwork("new", (), 10), ComparedNetwork("old", ("old",), 20)]
    nan = float("nan")
    scored = {
        "new": {1: _table([1.0, 0.8, 0.9, 0.7], [1, 1, 1, nan]), 2: _table([0.8, 0.6, 0.9, 0.9], [3, 3, 1, 1])},
        "old": {1: _table([0.7, 0.7, 0.6, 0.8], [2, 2, 4, 4]), 2: _table([0.7, 0.7, 0.6, 0.6], [2, 2, 4, 4])},
    }
    comparison = compare_scores(networks, scored)
    assert comparison.subjects == ("a", "b", "c")
    assert comparison.people["new"][:, 0] == pytest.approx([0.8, 0.9, 0.8])
    assert comparison.people["old"][:, 0] == pytest.approx([0.7, 0.6, 0.7])
    dice = comparison.pairs["new", "old", "dice"]
    assert (dice.people, dice.first_higher) == (3, 3)
    assert dice.difference.value == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    # in one image of person c nothing was segmented: no distance, also not from the other training
    distance = comparison.pairs["new", "old", "hausdorff95_mm"]
    assert distance.people == 2
    assert [distance.first, distance.second] == pytest.approx([1.5, 3.0])
    new = comparison.networks[0]
    assert (new.images, new.empty, new.weights) == (8, 1, 10)
    assert new.mean["dice"] == pytest.approx(0.825)
    assert new.by_seed[1]["dice"] == pytest.approx(0.85)
    assert new.mean["hausdorff95_mm"] == pytest.approx((1 + 1 + 1 + 3 + 3 + 1 + 1) / 7)


def test_networks_scored_on_other_images_are_not_compared() -> None:
    networks = [ComparedNetwork("new", (), 10), ComparedNetwork("old", (), 20)]
    tables = {"new": {1: _table([1, 1, 1, 1], [0] * 4)}, "old": {1: _table([1, 1, 1, 1], [0] * 4, "aabb")}}
    with pytest.raises(UnusableInputError, match="scored on the same images"):
        compare_scores(networks, tables)


def test_cases_are_the_extremes_of_the_scores() -> None:
    new, old = _table([0.9, 0.5, 0.8, 0.95], [0] * 4), _table([0.9, 0.5, 0.4, 0.97], [0] * 4)
    cases = chosen_cases([new, old])
    assert (cases["worst"], cases["best"]) == (1, 3)
    assert (cases["first network better"], cases["first network worse"]) == (2, 3)


def test_the_window_of_a_case_contains_what_is_falsely_segmented() -> None:
    """A low Dice coefficient beside a correct outline was not explained by the figure."""
    masks = np.zeros((2, 100, 100), np.float32)
    masks[:, 40:60, 40:60] = 1
    first, second = shown_window(masks)
    assert (first.start, first.stop) == (second.start, second.stop)
    assert 50 < first.stop - first.start < 70  # three times the body
    masks[1, 90:95, 5:10] = 1
    first, second = shown_window(masks)
    assert first.stop > 95
    assert second.start < 5


@pytest.mark.parametrize(
    ("networks", "seeds", "message"),
    [
        ([], [1], "networks must be different and at least one"),
        (["classical_unet"] * 2, [1], "networks must be different"),
        (["classical_unet"], [1, 1], "seeds must be different"),
    ],
)
def test_what_is_no_comparison_is_refused(networks: list[str], seeds: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_networks(BUNDLE, networks, tmp_path, seeds=seeds)


def _first_images(overlays: tuple[str, ...], manifest: Path, folder: Path) -> list[torch.Tensor]:
    """Return two batches of a training, after its network was made."""
    training = Training(BUNDLE, folder, overlays, TINY | {"data_source": str(manifest), "seed": 3})
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", *overlays)]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update({"bundle_root": str(BUNDLE), **training.all_settings()})
    torch.manual_seed(3)
    _ = parser.get_parsed_content("network_def")
    batches = iter(parser.get_parsed_content("train#dataloader"))
    return [next(batches)["image"] for _ in range(2)]


def test_all_networks_see_the_same_images_in_the_same_order(slices: Path, tmp_path: Path) -> None:
    own, unet = (_first_images(overlays, slices, tmp_path) for overlays in ((), ("classical_unet",)))
    assert all(torch.equal(a, b) for a, b in zip(own, unet, strict=True))
    assert not torch.equal(own[0], own[1])


def test_two_networks_from_training_to_tables(slices: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = compare_networks(BUNDLE, ["classical_unet"], output, str(slices), seeds=[1, 2], settings=TINY)
    names = ["ChannelAttentionUNet", "classical_unet"]
    assert [network.name for network in result.networks] == names
    assert [network.weights for network in result.networks] == [2_589_105, 894_225]
    assert [network.images for network in result.networks] == [8, 8]  # two people, two slices, two trainings
    content = json.loads((output / "comparison.json").read_text())
    assert len(content["manifest_sha256"]) == 64
    assert {row["network"] for row in content["networks"]} == set(names)
    with (output / "people.csv").open() as file:
        people = {(row["network"], row["subject_id"]): float(row["dice"]) for row in csv.DictReader(file)}
    for name in names:
        dice: dict[str, list[float]] = {}
        for seed in (1, 2):
            with (output / f"{name}_seed_{seed}" / "slices.csv").open() as file:
                for row in csv.DictReader(file):
                    dice.setdefault(row["subject_id"], []).append(float(row["dice"]))
        for subject, values in dice.items():
            assert people[name, subject] == pytest.approx(np.mean(values), abs=1e-6)
    assert all((output / name).stat().st_size > 5000 for name in ("cases.png", "people.png"))
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == BUNDLE.name)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if r.data.tags["kind"] == "network_comparison")
    assert {r.data.tags["mlflow.parentRunId"] for r in runs if r is not parent} == {parent.info.run_id}
    trained = [r.data.params for r in runs if r.data.tags["kind"] == "train"]
    assert len(trained) == 4
    assert {(p["network"], p["seed"]) for p in trained} == {
        (network, seed) for network in ("ChannelAttentionUNet", "BasicUNet") for seed in ("1", "2")
    }
    assert len({p["manifest_sha256"] for p in trained}) == 1

    # an interrupted training continues; complete ones are kept
    lost, kept = (output / f"{name}_seed_2" / "checkpoints/checkpoint_epoch=1.pt" for name in names)
    lost.unlink()
    before = kept.stat().st_mtime_ns
    again = compare_networks(BUNDLE, ["classical_unet"], output, str(slices), seeds=[1, 2], settings=TINY)
    assert lost.is_file()
    assert kept.stat().st_mtime_ns == before
    assert (again.networks, again.pairs) == (result.networks, result.pairs)


@pytest.mark.parametrize("seed", [7001, 9001])
def test_virtual_training_images_are_not_those_of_the_evaluation(seed: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"others than those of validation and test images, got {seed}"):
        compare_networks(BUNDLE, ["classical_unet"], tmp_path, seeds=[1, seed])
