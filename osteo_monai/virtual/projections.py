"""Stored projections of virtual people: the costly part of a radiograph, computed once.

A projection has the paths of the rays through water and mineral. Exposure, framing, processing and everything else of
:func:`osteo_monai.virtual.radiograph.clinical_look` are drawn from it again in every epoch.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from rich.progress import track

from osteo_monai import __version__
from osteo_monai.data.radiograph_items import soft_target
from osteo_monai.domain import View
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.files import writing
from osteo_monai.utils.inputs import open_input
from osteo_monai.virtual.anatomy.thorax import Thorax
from osteo_monai.virtual.cohort import each, grow, mark
from osteo_monai.virtual.dxa import t_score_slope
from osteo_monai.virtual.person import STANDARD
from osteo_monai.virtual.plan import SubjectPlan, plan_cohort
from osteo_monai.virtual.radiograph import Projection, clinical_look, project_chest
from osteo_monai.virtual.recipe import read_recipe

__all__ = ["ClinicalLookd", "LoadProjectiond", "RandClinicalLookd", "load_projection", "write_projections"]

_WATER_STEP_CM, _MINERAL_STEP_G_CM2 = 0.001, 0.0002
"""Steps of the stored values: 65 cm of water and 13 g/cm2 of mineral fit 16 bits."""


def write_projections(
    recipe_path: Path, output: Path, *, rows: int = 288, subjects: int | None = None, workers: int = 1
) -> Path:
    """Write a projection of each person of a recipe and return their manifest, ``output``/manifest.json.

    People, splits and truths are those of the recipe; its acquisitions are not used. An interrupted run is continued.

    Args:
        rows: rows and columns of a projection of 430 x 430 mm.
        subjects: number of people, the first of the recipe; default: all.
        workers: processes that generate people in parallel.

    Raises:
        ConfigError: the recipe is invalid, or ``rows`` or ``workers`` is out of range.
        UnusableInputError: the recipe cannot be read, or ``output`` has a manifest
            or an unfinished cohort of another recipe.
    """
    from osteo_monai.data import Header, Manifest, Record, write_manifest

    if workers < 1 or rows < 64 or (subjects is not None and subjects < 1):
        raise ConfigError(
            f"workers and subjects must be 1 or more and rows 64 or more, got {workers}, {subjects} and {rows}"
        )
    recipe = read_recipe(recipe_path)
    manifest_path = output / "manifest.json"
    if manifest_path.exists():
        raise UnusableInputError(
            f"'{output.name}' must be a folder without a manifest: choose another folder or remove it"
        )
    plans = plan_cohort(recipe)[:subjects]
    marker, begun = mark(output, recipe)
    make = partial(_write_person, output=output, rows=rows, keep=begun)
    splits: dict[str, list[Record]] = {}
    with each(make, plans, workers) as people:
        for plan, fields in track(zip(plans, people, strict=True), f"Projecting {recipe.name}", total=len(plans)):
            splits.setdefault(plan.split, []).append(Record(**fields))
    source = f"recipe {recipe_path.name}, projections of {rows} rows, osteo_monai {__version__}"
    header = Header(name=recipe.name, description=recipe.description, virtual=True, source=source)
    write_manifest(Manifest(header=header, splits=splits), manifest_path)
    marker.unlink()
    return manifest_path


def _write_person(plan: SubjectPlan, *, output: Path, rows: int, keep: bool) -> dict[str, Any]:
    """Write one projection, or ``keep`` a complete one of this size, and return the fields of its record."""
    path = output / f"{plan.subject_id}.npz"
    if not (keep and path.exists() and load_projection(path).water.shape == (rows, rows)):
        anatomy, areal = grow(plan)
        if areal is None:
            raise ConfigError("dxa must be true for projections, got false")
        made = project_chest(anatomy, Thorax(anatomy), np.random.default_rng([plan.seed, 14]), rows)
        person = anatomy.person
        facts = [person.height_cm, person.weight_kg, person.mean_density, areal.g_cm2]
        truth = [areal.t_score, t_score_slope(person, areal)]
        with writing(path) as temporary, temporary.open("wb") as target:
            np.savez(
                target,
                water=np.rint(made.water.numpy() / _WATER_STEP_CM).clip(0, 65535).astype(np.uint16),
                mineral=np.rint(made.mineral.numpy() / _MINERAL_STEP_G_CM2).clip(0, 65535).astype(np.uint16),
                pixel=np.float64(made.pixel),
                source_distance=np.float64(made.source_distance),
                lungs=np.array(made.lungs),
                facts=np.array(facts),
                truth=np.array(truth),
            )
    with open_input(path) as file, np.load(file) as stored:
        height, weight, density, areal_density = (float(k) for k in stored["facts"])
        t_score = float(stored["truth"][0])
    return {
        "image": path.name,
        "subject_id": plan.subject_id,
        "view": View.CHEST_FRONTAL,
        "age": plan.age_years,
        "sex": plan.sex,
        "height_cm": round(height, 1),
        "weight_kg": round(weight, 1),
        "bmd_mg_cm3": round(density, 2),
        "bmd_standard": STANDARD,
        "areal_bmd_g_cm2": round(areal_density, 4),
        "t_score": round(t_score, 2),
        "variants": tuple(sorted(plan.variants)),
    }


def load_projection(path: str | Path) -> Projection:
    """Read a projection that :func:`write_projections` has written.

    Raises:
        UnusableInputError: the file is not such a projection.
    """
    try:
        with open_input(path) as file, np.load(file) as stored:
            return Projection(
                torch.from_numpy(stored["water"].astype(np.float32) * _WATER_STEP_CM),
                torch.from_numpy(stored["mineral"].astype(np.float32) * _MINERAL_STEP_G_CM2),
                float(stored["pixel"]),
                float(stored["source_distance"]),
                tuple(stored["lungs"].tolist()),
                float(stored["truth"][0]),
                float(stored["truth"][1]),
            )
    except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:  # np.load gives an array or an archive
        raise UnusableInputError(f"'{Path(path).name}' must be a projection of `write_projections`") from error


class LoadProjectiond(MapTransform):
    """Replace the path of a projection by the projection."""

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = load_projection(result[key])
        return result


class ClinicalLookd(MapTransform):
    """Replace a projection by a radiograph (1, R, C) whose look depends on ``seed`` and the item's ``row`` only."""

    def __init__(self, keys: KeysCollection = "image", seed: int = 0) -> None:
        super().__init__(keys)
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = clinical_look(result[key], np.random.default_rng([self.seed, int(result["row"]), 15]))[None]
        return result


class RandClinicalLookd(RandomizableTransform, MapTransform):
    """Replace a projection by a radiograph (1, R, C) with a look that is drawn again at each call.

    With ``t_scores`` the person's mineral is multiplied so that the T-score is uniform in this range, and ``target`` is
    set accordingly: one anatomy has every density, so that size, sex and shape do not predict it.

    Args:
        keys: projections.
        t_scores: lowest and highest T-score; ``None`` for the person's own.
        target_sd: SD of the soft threshold in T-scores, see ``data.radiograph_items.soft_target``.
        versions: radiographs of one look, each with its own T-score, so that nothing else differs between them; with
            more than one, an item is a list, which the loader of MONAI flattens.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        t_scores: Sequence[float] | None = None,
        target_sd: float = 0.0,
        versions: int = 1,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if t_scores is not None and not (len(t_scores) == 2 and t_scores[0] < t_scores[1]):
            raise ValueError(f"t_scores must be a lower and a higher T-score, got {t_scores}")
        if versions < 1 or (versions > 1 and t_scores is None):
            raise ValueError(f"versions must be 1 or more, and 1 without t_scores, got {versions}")
        self.t_scores, self.target_sd, self.versions = t_scores, target_sd, versions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any] | list[dict[Hashable, Any]]:
        seed = int(self.R.randint(2**31))
        made = [self._version(dict(data), seed) for _ in range(self.versions)]
        return made[0] if self.versions == 1 else made

    def _version(self, result: dict[Hashable, Any], seed: int) -> dict[Hashable, Any]:
        for key in self.key_iterator(result):
            projection: Projection = result[key]
            if self.t_scores is not None:
                projection = projection.with_t_score(float(self.R.uniform(self.t_scores[0], self.t_scores[1])))
                result["target"] = soft_target(projection.t_score, self.target_sd)
            result[key] = clinical_look(projection, np.random.default_rng(seed))[None]
        return result
