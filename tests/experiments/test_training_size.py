from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from osteo_monai.data import Record, read_manifest
from osteo_monai.errors import ConfigError
from osteo_monai.experiments import nested_subset, training_size_curve

from .conftest import TINY

BUNDLE = Path(__file__).parents[2] / "bundles" / "vertebral_body_segmentation_ct"
SMALL: dict[str, Any] = TINY | {"network_def#widths": [2] * 7}


@pytest.mark.parametrize("sizes", [[0], [], [2, 2]])
def test_sizes_that_are_no_curve_are_refused(sizes: list[int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sizes must be different positive numbers"):
        training_size_curve(BUNDLE, sizes, tmp_path)


def _records() -> list[Record]:
    return [Record(subject_id=f"p{i % 5}", image=f"{i}.nii.gz") for i in range(10)]


def test_smaller_subsets_are_contained_in_larger_ones() -> None:
    records = _records()
    subsets = [nested_subset(records, size, 3) for size in range(1, 11)]
    for smaller, larger in pairwise(subsets):
        assert larger[: len(smaller)] == smaller
    assert set(subsets[-1]) == set(records)
    assert nested_subset(records[::-1], 4, 3) == nested_subset(records[::-1], 4, 3)


def test_a_subset_has_whole_people() -> None:
    for size in (2, 4, 6, 8):
        people = [record.subject_id for record in nested_subset(_records(), size, 3)]
        assert len(set(people)) == size // 2


def test_the_seed_chooses_the_people_and_not_the_order_of_the_records() -> None:
    people = {seed: {r.subject_id for r in nested_subset(_records(), 4, seed)} for seed in range(8)}
    assert len({frozenset(names) for names in people.values()}) > 1
    assert {r.subject_id for r in nested_subset(_records()[::-1], 4, 3)} == people[3]


def test_a_subset_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="size must be 1 to 10, the number of training images, got 11"):
        nested_subset(_records(), 11)


def test_a_curve_of_a_manifest_trains_on_the_given_numbers(slices: Path, tmp_path: Path) -> None:
    output = tmp_path / "curve"
    results = training_size_curve(BUNDLE, [6, 1], output, str(slices), settings=SMALL)
    assert [(r.images, r.subjects) for r in results] == [(1, 1), (6, 3)]
    manifests = [read_manifest(output / f"size_{size}" / "manifest.json") for size in (1, 6)]
    images = [[Path(r.images[0]).name for r in m.splits["training"]] for m in manifests]
    assert [len(names) for names in images] == [1, 6]
    assert images[1][0] == images[0][0]
    assert manifests[0].splits["test"] == manifests[1].splits["test"]
    weights = [torch.load(output / f"size_{s}/checkpoints/checkpoint_epoch=1.pt")["model"] for s in (1, 6)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == BUNDLE.name)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if r.data.tags["kind"] == "training_size")
    curve = client.get_metric_history(parent.info.run_id, "test_mean_dice")
    assert [(point.step, point.value) for point in curve] == [(r.images, r.mean) for r in results]
    assert len({r.data.params["manifest_sha256"] for r in runs if r.data.tags["kind"] == "train"}) == 2

    # a second call evaluates only, and one with other settings does not use these weights
    files = [output / f"size_{size}/checkpoints/checkpoint_epoch=1.pt" for size in (1, 6)]
    before = [file.stat().st_mtime_ns for file in files]
    assert training_size_curve(BUNDLE, [1, 6], output, str(slices), settings=SMALL) == results
    assert [file.stat().st_mtime_ns for file in files] == before
    with pytest.raises(ConfigError, match="'size_1' must hold a training with these settings and data"):
        training_size_curve(BUNDLE, [1, 6], output, str(slices), settings=SMALL | {"learning_rate": 0.01})
    with pytest.raises(ConfigError, match="size must be 1 to 6"):
        training_size_curve(BUNDLE, [1, 7], tmp_path / "other", str(slices), settings=SMALL)
    assert not (tmp_path / "other" / "size_1").exists()
