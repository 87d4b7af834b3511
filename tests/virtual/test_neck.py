"""Virtual people whose chest is continued by neck and shoulders."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy, AnatomyWithNeck
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.cohort import ABOVE_T1_MM, scan, z_range
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.person import Variant, draw_person
from osteo_monai.virtual.plan import plan_cohort
from osteo_monai.virtual.recipe import CohortRecipe

L = VertebraLevel


@pytest.fixture(scope="module")
def person() -> AnatomyWithNeck:
    return AnatomyWithNeck(draw_person(5, variants=frozenset({Variant.THIRTEEN_RIBS})))


def painted(anatomy: Anatomy, low: float, high: float) -> Canvas:
    step = (2.5, 2.5, 4.0)
    canvas = Canvas((-160.0, anatomy.trunk_centre[1] - 130.0, low), step, (130, 104, int((high - low) / 4)))
    palette = CTPalette(120.0, seed=anatomy.seed)
    anatomy.paint_soft(canvas, palette)
    anatomy.paint_hard(canvas, palette)
    return canvas


def test_below_the_shoulders_nothing_differs(person: AnatomyWithNeck) -> None:
    plain = Anatomy(person.person)
    low, high = (float(plain.vertebra(level).centre[2]) for level in (L.L2, L.T11))
    ours, theirs = painted(person, low, high), painted(plain, low, high)
    assert torch.equal(ours.value, theirs.value)
    assert torch.equal(ours.label, theirs.label)


def test_c7_continues_the_column_without_label_and_ribs(person: AnatomyWithNeck) -> None:
    centres = np.array([person.vertebra(L.T1).centre, *(v.centre for v in person.cervical)])
    gaps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # C7-T1, C6-C7, C5-C6 of 1,245 people (naming tables): 20.1, 17.9, 16.9 mm
    assert np.allclose(gaps / person.scale, (20.1, 17.9, 16.9), rtol=0.12)
    canvas = painted(person, centres[1, 2] - 3, centres[3, 2] + 8)
    for v in person.cervical[:2]:
        index = [int((c - o) / s) for c, o, s in zip(v.centre, canvas.origin, canvas.spacing, strict=True)]
        assert canvas.value[tuple(index)] > 80
        assert canvas.label[tuple(index)] == 0


def test_the_apexes_of_the_lungs_end_about_t1(person: AnatomyWithNeck) -> None:
    t1 = person.vertebra(L.T1).centre
    canvas = painted(person, t1[2] - 60, t1[2] + 60)
    parts, _ = ndimage.label(canvas.value.numpy() < -600)
    outside = np.unique(np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel()]))
    sizes = np.bincount(parts.ravel())
    sizes[[0, *outside]] = 0
    beside = np.abs(canvas.axes[0].numpy() - t1[0]) > 22
    for lung in np.argsort(sizes)[-2:]:
        assert sizes[lung] > 1000
        top = canvas.axes[2].numpy()[(parts == lung)[beside].any(axis=(0, 1))].max()
        assert -25 < top - t1[2] < 15


def test_a_chest_scan_with_neck_shows_l2_and_c7(person: AnatomyWithNeck) -> None:
    for seed in range(5):
        low, high = z_range(person, "chest_with_neck", np.random.default_rng(seed))
        v = person.vertebra(L.L2)
        assert low < v.centre[2] - 0.5 * v.height
        assert ABOVE_T1_MM[0] <= high - person.vertebra(L.T1).centre[2] <= ABOVE_T1_MM[1]


def test_a_recipe_plans_such_scans() -> None:
    recipe = CohortRecipe.model_validate(
        {
            "name": "neck", "description": "A chest scan with neck.", "seed": 3, "subjects": 1,
            "splits": {"test": 1.0}, "formats": ["nifti"],
            "acquisitions": [
                {"name": "chest", "coverage": "chest_with_neck", "matrix": 96, "pixel": [4.0, 4.0],
                 "slice_thickness": 5.0, "slice_step": 5.0}
            ],
        }
    )  # fmt: skip
    (plan,) = plan_cohort(recipe)
    made = scan(Anatomy(draw_person(4, variants=frozenset())), plan.scans[0])  # type: ignore[arg-type]
    assert isinstance(made.anatomy, AnatomyWithNeck)
    assert {L.T1, L.L1} <= set(made.complete_levels)
