"""Stored projections of virtual people, and their look as clinical radiographs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osteo_monai.data import read_manifest
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.anatomy.thorax import Thorax
from osteo_monai.virtual.dxa import areal_density, projected_density, t_score_slope
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.projections import (
    ClinicalLookd,
    LoadProjectiond,
    RandClinicalLookd,
    load_projection,
    write_projections,
)
from osteo_monai.virtual.radiograph import Projection, clinical_look, project_chest

RECIPE = {
    "name": "tiny",
    "description": "two people with a planned class",
    "seed": 5,
    "subjects": 2,
    "splits": {"training": 0.5, "test": 0.5},
    "osteoporosis": {"share": 0.5, "population": {"female_fraction": 1.0, "age_mean": 72, "age_sd": 5}},
    "acquisitions": [{"modality": "radiograph", "name": "dr", "rows": 96}],
    "formats": ["png"],
}


@pytest.fixture(scope="module")
def projection() -> Projection:
    anatomy = Anatomy(draw_person(5, mean_density=130.0))
    return project_chest(anatomy, Thorax(anatomy), np.random.default_rng(2), 144)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return write_projections(folder / "recipe.json", folder / "out", rows=96).parent


def _drawing(seed: int, **arguments: Any) -> Callable[[Any], Any]:
    """Return the transform with a fixed state; MONAI types the state's owner as ``Randomizable``."""
    transform = RandClinicalLookd(**arguments)
    transform.set_random_state(seed)
    return transform


def test_projections_carry_the_truth_of_the_recipe(store: Path) -> None:
    manifest = read_manifest(store / "manifest.json")
    records = [record for _, _, record in manifest.records()]
    assert len(records) == 2
    assert manifest.header.virtual
    assert sorted(r.t_score is not None and r.t_score <= -2.5 for r in records) == [False, True]
    assert {r.view for r in records} == {"chest_frontal"}
    for record in records:
        stored = load_projection(store / record.images[0])
        assert stored.water.shape == stored.mineral.shape == (96, 96)
        assert stored.pixel == pytest.approx(430 / 96)
        assert 15 < float(stored.water.max()) < 60
        assert 0.5 < float(stored.mineral.max()) < 5


def test_stored_paths_are_those_of_the_projection(
    projection: Projection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osteo_monai.virtual.projections.project_chest", lambda *_: projection)
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    folder = write_projections(tmp_path / "recipe.json", tmp_path / "out", rows=96, subjects=1).parent
    (path,) = folder.glob("*.npz")
    stored = load_projection(path)
    torch.testing.assert_close(stored.water, projection.water, atol=0.00051, rtol=0)
    torch.testing.assert_close(stored.mineral, projection.mineral, atol=0.00011, rtol=0)
    assert (stored.lungs, stored.source_distance) == (projection.lungs, projection.source_distance)


def test_interrupted_run_continues_and_other_sizes_are_written_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    write = write_projections
    marker = tmp_path / "out" / ".unfinished.json"
    write(tmp_path / "recipe.json", tmp_path / "first", rows=64)
    write(tmp_path / "recipe.json", tmp_path / "out", rows=64, subjects=1)
    (kept,) = (tmp_path / "out").glob("*.npz")
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "manifest.json").unlink()
    from osteo_monai.virtual.cohort import mark
    from osteo_monai.virtual.recipe import read_recipe

    mark(tmp_path / "out", read_recipe(tmp_path / "recipe.json"))
    write(tmp_path / "recipe.json", tmp_path / "out", rows=64)
    assert kept.stat().st_mtime_ns == before
    assert not marker.exists()
    for path in (tmp_path / "first").glob("*.npz"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    (tmp_path / "out" / "manifest.json").unlink()
    mark(tmp_path / "out", read_recipe(tmp_path / "recipe.json"))
    write(tmp_path / "recipe.json", tmp_path / "out", rows=72)
    assert load_projection(kept).water.shape == (72, 72)


def test_wrong_arguments_and_files_are_refused(store: Path, tmp_path: Path) -> None:
    recipe = store.parent / "recipe.json"
    with pytest.raises(UnusableInputError, match="must be a folder without a manifest"):
        write_projections(recipe, store)
    with pytest.raises(ConfigError, match="rows 64 or more, got 1, None and 32"):
        write_projections(recipe, tmp_path / "x", rows=32)
    with pytest.raises(ConfigError, match="got 1, 0 and 288"):
        write_projections(recipe, tmp_path / "x", subjects=0)
    for content in (b"", b"no archive"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UnusableInputError, match=r"'a\.npz' must be a projection"):
            load_projection(tmp_path / "a.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UnusableInputError, match=r"'array\.npy' must be a projection"):
        load_projection(tmp_path / "array.npy")
    np.savez(tmp_path / "b.npz", water=np.zeros((4, 4)))
    with pytest.raises(UnusableInputError, match=r"'b\.npz' must be a projection"):
        load_projection(tmp_path / "b.npz")


def test_box_holds_the_lungs(projection: Projection) -> None:
    left, right, top, bottom = projection.lungs
    columns, rows = projection.water.shape[1], projection.water.shape[0]
    assert 0 < left < right < columns
    assert 0 < top < bottom < rows

    def water(u: float, v: float) -> float:
        row, column = round(top + v * (bottom - top)), round(left + u * (right - left))
        return float(projection.water[row - 2 : row + 3, column - 2 : column + 3].mean())

    lungs = max(water(0.25, 0.45), water(0.75, 0.4))
    assert lungs < 0.75 * water(0.5, 0.6)  # heart and spine
    assert lungs < 0.75 * water(0.25, 1.15)  # liver


def test_looks_are_repeatable_and_vary(projection: Projection) -> None:
    looks = [clinical_look(projection, np.random.default_rng(seed)) for seed in range(12)]
    again = clinical_look(projection, np.random.default_rng(3))
    assert torch.equal(looks[3], again)
    for look in looks:
        assert look.dtype is torch.float32
        assert 0.0 <= float(look.min()) < float(look.max()) <= 1.0
        assert torch.isfinite(look).all()
    assert len({tuple(look.shape) for look in looks}) > 8  # frames
    assert np.ptp([float(look.median()) for look in looks]) > 0.1  # grey scale
    ratios = [look.shape[1] / look.shape[0] for look in looks]
    assert max(ratios) > 1.1 * min(ratios)


def test_mineral_brightens_bone_in_each_look(projection: Projection) -> None:
    """The look hides density, but never turns it round."""
    dense = replace(projection, mineral=1.5 * projection.mineral)
    gains = []
    for seed in range(16):
        one, more, weight = (
            clinical_look(p, np.random.default_rng([seed, 1]))
            for p in (projection, dense, replace(projection, mineral=0 * projection.mineral))
        )
        bone = (one - weight) > torch.quantile(one - weight, 0.9)
        gains.append(float((more - one)[bone].mean()))
    assert min(gains) > 0
    assert float(np.median(gains)) > 0.01


def test_transforms_draw_or_repeat_a_look(store: Path) -> None:
    path = next(store.glob("*.npz"))
    item = LoadProjectiond()({"image": str(path), "row": 3})
    fixed = [ClinicalLookd(seed=1)(item)["image"] for _ in range(2)]
    assert fixed[0].ndim == 3
    assert len(fixed[0]) == 1
    assert torch.equal(*fixed)
    assert not torch.equal(fixed[0][0, :20, :20], ClinicalLookd(seed=1)(item | {"row": 4})["image"][0, :20, :20])
    drawn = _drawing(7)
    first, second = drawn(item)["image"], drawn(item)["image"]
    assert first.shape != second.shape or not torch.equal(first, second)
    assert torch.equal(first, _drawing(7)(item)["image"])


def test_one_anatomy_gets_every_t_score(store: Path) -> None:
    path = next(store.glob("*.npz"))
    own = load_projection(path)
    assert np.isfinite([own.t_score, own.slope]).all()
    other = own.with_t_score(own.t_score - 1.0)
    assert other.t_score == pytest.approx(own.t_score - 1.0)
    assert float(other.mineral.sum() / own.mineral.sum()) == pytest.approx(1 - 1 / own.slope, abs=1e-4)
    assert torch.equal(other.water, own.water)
    assert own.with_t_score(-50.0).t_score == pytest.approx(own.t_score - 0.65 * own.slope)
    targets = []
    draw = _drawing(2, t_scores=(-5.0, 1.0))
    for _ in range(12):
        targets.append(draw({"image": own, "target": 0.5})["target"])
    assert set(targets) == {0.0, 1.0}
    assert _drawing(2)({"image": own, "target": 0.5})["target"] == 0.5
    with pytest.raises(ValueError, match="t_scores must be a lower and a higher T-score"):
        RandClinicalLookd(t_scores=(1.0, -5.0))
    with pytest.raises(ValueError, match="versions must be 1 or more, and 1 without t_scores, got 2"):
        RandClinicalLookd(versions=2)


def test_versions_of_a_look_differ_in_bone_only(projection: Projection) -> None:
    """Frame, letters and disease are the same: away from bone only the scatter of bone differs."""
    own = replace(projection, t_score=-2.0, slope=4.5)
    gains = []
    for seed in range(5):
        pair = _drawing(seed, t_scores=(-5.0, 1.0), target_sd=1.5, versions=2)({"image": own})
        assert isinstance(pair, list)
        (first, one), (second, two) = ((item["image"], item["target"]) for item in pair)
        assert first.shape == second.shape
        denser, lighter = (first, second) if one < two else (second, first)
        difference = (denser - lighter)[0]
        gains.append((abs(one - two), float(torch.quantile(difference, 0.98))))
        assert float(torch.quantile(difference.abs(), 0.3)) < 0.03
        assert np.corrcoef(first.flatten(), second.flatten())[0, 1] > 0.9
    assert all(gain > 0 for _, gain in gains)
    assert max(gains)[1] > 0.02  # of the pair whose T-scores differ most


@pytest.mark.parametrize("seed", [3, 8])
def test_slope_is_that_of_the_simulated_dxa(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten per cent more projected mineral raise the T-score by a tenth of the slope."""
    anatomy = Anatomy(draw_person(seed, variants=frozenset()))
    areal = areal_density(anatomy)
    more = 1.1 * projected_density(anatomy)
    monkeypatch.setattr("osteo_monai.virtual.dxa.projected_density", lambda _: more)
    gain = areal_density(anatomy).t_score - areal.t_score
    assert gain == pytest.approx(0.1 * t_score_slope(anatomy.person, areal), rel=1e-6)
