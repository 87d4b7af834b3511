"""Published cohorts must stay reproducible: seeds, order of random draws and geometry are compared with stored values.

The states of the generators after an anatomy was built depend on every draw and on its order. A test that fails here
means that published virtual cohorts cannot be generated again.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from osteo_monai.domain import View
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.anatomy.thorax import Thorax
from osteo_monai.virtual.cohort import scan
from osteo_monai.virtual.column_dataset import paint_column
from osteo_monai.virtual.datasets import VirtualSliceDataset, VirtualVolumeDataset
from osteo_monai.virtual.person import Variant, draw_person
from osteo_monai.virtual.plan import ScanPlan, SubjectPlan, plan_cohort
from osteo_monai.virtual.radiograph import draw_protocol, project, usual_protocol
from osteo_monai.virtual.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "data_manifests" / "recipes"
V = Variant


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def serialised(plan: SubjectPlan) -> str:
    """Return a plan as JSON with sorted variants, which are a set, and without newer fields at their defaults."""
    fields = plan.model_dump(mode="json")
    assert fields.pop("tissues") is None
    for planned in fields["scans"]:
        assert (planned.pop("beam", 1.0), planned.pop("hardening", 1.0)) == (1.0, 1.0)
    return json.dumps({**fields, "variants": sorted(fields["variants"])}, sort_keys=True)


PLANS = {
    "virtual_demo": "3dd8937be84c8d6e",
    "virtual_pan2024_small": "2a014f534e61f62e",
    "virtual_external_other_scanner": "5e9e21df90791c27",
    "virtual_li2026_external_1": "b4e0e57bdfc2b2ac",
    "virtual_boonrod2025_lumbar": "fec16ed9827274b2",
}


@pytest.mark.parametrize("name", sorted(PLANS))
def test_plan_of_a_shipped_recipe(name: str) -> None:
    plans = plan_cohort(read_recipe(RECIPES / f"{name}.json"))
    assert digest(*map(serialised, plans)) == PLANS[name]


BODIES: list[tuple[int, frozenset[Variant] | None, int, int, str]] = [
    (1, None, 510, 2289, "1e59569d8163328c"),
    (2, frozenset({V.LUMBARISED, V.OSTEOPHYTES, V.CEMENT}), 520, 2168, "a78c74ac89c168e0"),
    (7, frozenset({V.THIRTEEN_RIBS, V.SCREWS, V.SCOLIOSIS, V.WEDGE_FRACTURE}), 493, 1733, "96e2aadc61de1de4"),
    (11, frozenset({V.ELEVEN_RIBS}), 479, 2564, "b64aa0bb0eaf2de6"),
    (20, frozenset({V.SACRALISED}), 474, 2185, "f9f52fbc87079870"),
]
"""Seed, variants, number of shapes, number of pulmonary vessels, and digest of generator states and labels."""


@pytest.mark.parametrize(("seed", "variants", "shapes", "vessels", "expected"), BODIES)
def test_random_draws_of_an_anatomy(
    seed: int, variants: frozenset[Variant] | None, shapes: int, vessels: int, expected: str
) -> None:
    anatomy = Anatomy(draw_person(seed, variants=variants))
    thorax = Thorax(anatomy)
    assert (len(anatomy.shapes), len(thorax.vessels)) == (shapes, vessels)
    states = [generator.bit_generator.state["state"] for generator in (anatomy._rng, thorax._rng)]
    assert digest(states, [s.label for s in (*anatomy.shapes, *thorax.soft, *thorax.hard)]) == expected


def test_values_of_a_ct() -> None:
    plan = ScanPlan(
        acquisition="a",
        seed=3,
        kvp=100,
        kernel="soft",
        slice_thickness=2.0,
        slice_step=4.0,
        pixel=3.0,
        matrix=(128, 128),
        noise_hu=10.0,
        phase="portal_venous",
        coverage="abdomen",
    )
    ct = scan(Anatomy(draw_person(3)), plan)
    assert ct.hu.shape == (128, 128, 87)
    labels, counts = np.unique(ct.labels[ct.labels > 0], return_counts=True)
    expected = {18: 510, 19: 606, 20: 802, 21: 796, 22: 967, 23: 915, 24: 963, 26: 5058, 50: 1541}
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == pytest.approx(expected, abs=2)
    assert [float(ct.hu.mean()), float(ct.hu.std())] == pytest.approx([-488.8683, 474.7059], abs=0.02)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View.CHEST_FRONTAL, (0.642376, 0.292649, 0.225032)),
        (View.LUMBAR_AP, (0.730011, 0.231843, 0.289656)),
        (View.LUMBAR_LATERAL, (0.754368, 0.232090, 0.402102)),
    ],
)
def test_values_of_a_radiograph(view: View, expected: tuple[float, float, float]) -> None:
    protocol = draw_protocol(usual_protocol(view, 96), np.random.default_rng([4, 4]))
    made = project(Anatomy(draw_person(4)), protocol, 4)
    values = (float(made.pixels.mean()), float(made.pixels.std()), float(made.mineral.mean()))
    assert values == pytest.approx(expected, abs=2e-4)


def bytes_digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


SLICES = {0: ("f4d6ebdb021de318", -162.5059, 410.8971), 5: ("e5589cfb1fd28820", -366.6620, 504.3253)}
VOLUMES = {0: ("82c4ba90edfc8a99", -320.2781, 452.7820), 3: ("c8c39d02bdfc51cf", -276.7462, 435.3208)}
KEPT_VOLUMES = {0: ("e048d68dcc40f6a8", -379.5924, 473.4626), 3: ("893d9cc09f0cfbaa", -619.5749, 482.3930)}
COLUMNS = {0: ("35b9c62aac064d06", -512.7437, 465.9195), 2: ("ea51942bc4804be0", -184.1550, 426.1807)}
"""Digest of the labels, mean and SD of the image in HU, by index of the item."""


@pytest.mark.parametrize("index", sorted(SLICES))
def test_values_of_a_training_slice(index: int) -> None:
    item = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4)[index]
    assert isinstance(item, dict)
    digest_of_labels, mean, sd = SLICES[index]
    assert bytes_digest(item["label"].to(torch.uint8)) == digest_of_labels
    assert [float(item["image"].mean()), float(item["image"].std())] == pytest.approx([mean, sd], abs=1e-3)


@pytest.mark.parametrize("index", sorted(VOLUMES))
def test_values_of_a_training_volume(index: int) -> None:
    item = VirtualVolumeDataset(1000, seed=3, size=(56, 48, 64), spacing_mm=5.0)[index]
    assert isinstance(item, dict)
    digest_of_labels, mean, sd = VOLUMES[index]
    assert bytes_digest(item["label"][0].to(torch.uint8)) == digest_of_labels
    assert [float(item["image"].mean()), float(item["image"].std())] == pytest.approx([mean, sd], abs=1e-3)


@pytest.mark.parametrize("index", sorted(KEPT_VOLUMES))
def test_values_of_a_scan_of_a_kept_subject(index: int, tmp_path: Path) -> None:
    item = VirtualVolumeDataset(1000, seed=3, size=(56, 48, 64), spacing_mm=5.0, people=2, folder=tmp_path)[index]
    digest_of_labels, mean, sd = KEPT_VOLUMES[index]
    assert bytes_digest(item["label"][0].to(torch.uint8)) == digest_of_labels
    assert [float(item["image"].mean()), float(item["image"].std())] == pytest.approx([mean, sd], abs=1e-3)


@pytest.mark.parametrize("index", sorted(COLUMNS))
def test_values_of_a_training_column(index: int) -> None:
    column = paint_column(3, index)
    digest_of_labels, mean, sd = COLUMNS[index]
    assert bytes_digest(column["bodies"]) == digest_of_labels
    image = column["image"].float()
    assert [float(image.mean()), float(image.std())] == pytest.approx([mean, sd], abs=1e-3)
