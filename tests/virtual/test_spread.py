"""Differences of tissues between people, and of effective energy between scanners."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from osteo_monai.domain import ContrastPhase, MineralStandard
from osteo_monai.imaging.attenuation import hu_per_mg_cm3, hu_per_mg_iodine
from osteo_monai.virtual.cohort import make_cohort
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.plan import ScanPlan, plan_cohort
from osteo_monai.virtual.recipe import CohortRecipe, Population
from osteo_monai.virtual.spread import TissueSpread

K2HPO4 = MineralStandard.K2HPO4


def palettes(kvp: float, count: int = 400) -> list[CTPalette]:
    return [CTPalette(kvp, seed=seed, tissues=TissueSpread()) for seed in range(count)]


def test_people_differ_by_the_published_spreads() -> None:
    people = palettes(120.0)
    fat, muscle, blood = (np.array([p.tissue(n) for p in people]) for n in ("adipose", "muscle", "aorta"))
    assert (fat.mean(), fat.std()) == pytest.approx((-100.0, 9.0), abs=1.5)
    assert (blood.mean(), blood.std()) == pytest.approx((42.5, 9.0), abs=1.5)
    assert muscle.mean() == pytest.approx(48.0, abs=1.5)  # fatty muscle lowers 51 HU by 3
    assert 8.0 < muscle.std() < 11.0
    assert np.corrcoef(fat, [p.tissue("visceral_fat") for p in people])[0, 1] > 0.99
    assert np.corrcoef(blood, [p.tissue("heart") for p in people])[0, 1] > 0.99
    assert abs(np.corrcoef(fat, blood)[0, 1]) < 0.15
    assert [p.tissue("liver") for p in people[:9]] == [CTPalette(120.0, seed=s).tissue("liver") for s in range(9)]


def test_a_person_keeps_its_tissues_at_another_voltage_and_phase() -> None:
    spread = TissueSpread(fat=20.0)
    shift = [
        CTPalette(kvp, phase, seed=4, tissues=spread).tissue("adipose")
        - CTPalette(kvp, phase, spread=0.0).tissue("adipose")
        for kvp in (80.0, 120.0)
        for phase in (ContrastPhase.NATIVE, ContrastPhase.ARTERIAL)
    ]
    assert np.ptp(shift) < 1e-9
    assert abs(shift[0]) > 1.0


@pytest.mark.parametrize("kvp", [80.0, 120.0, 140.0])
def test_beam_scales_bone_and_moves_tissues_as_its_energy_says(kvp: float) -> None:
    model, hard = CTPalette(kvp, seed=2), CTPalette(kvp, seed=2, beam=0.9)
    step = [float(p.bone(200.0)) - float(p.bone(100.0)) for p in (model, hard)]
    assert step[0] == pytest.approx(100.0 * hu_per_mg_cm3(K2HPO4, kvp))
    assert step[1] == pytest.approx(0.9 * step[0], rel=1e-3)
    assert 2.0 < hard.tissue("adipose") - model.tissue("adipose") < 12.0  # fat is nearer to water at higher energy
    assert -2.0 < hard.tissue("muscle") - model.tissue("muscle") < 0.0
    assert hard.tissue("air") == pytest.approx(model.tissue("air"), abs=0.1)
    assert hard.mineral(100.0, K2HPO4) == pytest.approx(0.9 * model.mineral(100.0, K2HPO4), rel=1e-3)
    arterial = CTPalette(kvp, ContrastPhase.ARTERIAL, seed=2, beam=0.9)
    rise = arterial.tissue("aorta") - hard.tissue("aorta")
    assert rise < (CTPalette(kvp, ContrastPhase.ARTERIAL, seed=2).tissue("aorta") - model.tissue("aorta"))
    assert hu_per_mg_iodine(kvp) > 0


def test_hardening_is_seen_in_bone_only() -> None:
    model, own = CTPalette(120.0, seed=2), CTPalette(120.0, seed=2, hardening=0.92)
    assert float(own.bone(100.0)) == pytest.approx(0.92 * float(model.bone(100.0)))
    assert own.tissue("adipose") == model.tissue("adipose")


ACQUISITION = {"name": "a", "matrix": 64, "slice_thickness": 8.0, "slice_step": 8.0, "coverage": "l1_l2"}


def recipe(acquisition: dict[str, float], **fields: object) -> CohortRecipe:
    return CohortRecipe.model_validate(
        {
            "name": "spread",
            "description": "d",
            "seed": 7,
            "subjects": 200,
            "acquisitions": [{**ACQUISITION, **acquisition}],
            "dxa": False,
            **fields,
        }
    )


def test_scanners_are_drawn_and_nothing_else_changes() -> None:
    plain = plan_cohort(recipe({}))
    varied = plan_cohort(recipe({"beam_sd": 0.092, "hardening_sd": 0.078}, population={"tissues": {}}))
    scans = [s for p in varied for s in p.scans if isinstance(s, ScanPlan)]
    assert np.std(np.log([s.beam for s in scans])) == pytest.approx(0.092, rel=0.15)
    assert np.std(np.log([s.hardening for s in scans])) == pytest.approx(0.078, rel=0.15)
    neutral = {"beam": 1.0, "hardening": 1.0}
    assert [
        p.model_copy(update={"tissues": None, "scans": tuple(s.model_copy(update=neutral) for s in p.scans)})
        for p in varied
    ] == list(plain)
    assert all(p.tissues == TissueSpread() for p in varied)


def test_cohort_has_the_spreads_in_its_truth(tmp_path: Path) -> None:
    wanted = recipe({"beam_sd": 0.092, "hardening_sd": 0.05}, population={"tissues": {"fat": 30.0}}, subjects=1)
    (tmp_path / "recipe.json").write_text(wanted.model_dump_json(exclude_unset=True))
    manifest = make_cohort(tmp_path / "recipe.json", tmp_path / "cohort")
    (path,) = (manifest.parent).rglob("*_truth.json")
    protocol = json.loads(path.read_text())["protocol"]
    (planned,) = plan_cohort(wanted)[0].scans
    assert isinstance(planned, ScanPlan)
    assert (protocol["beam"], protocol["hardening"]) == (planned.beam, planned.hardening)
    assert planned.beam != 1.0


def test_strata_may_have_tissues() -> None:
    strata = [{"age_min": 30, "age_max": 60, "men": 1, "women": 1}]
    assert Population.model_validate({"strata": strata, "tissues": {}}).tissues == TissueSpread()


def test_invalid_spreads_are_named() -> None:
    with pytest.raises(ValidationError, match="fat"):
        TissueSpread(fat=-1.0)
    with pytest.raises(ValidationError, match="beam_sd"):
        recipe({"beam_sd": 0.5})
