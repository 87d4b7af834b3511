"""Radiographs: geometry and path lengths worked by hand, then what must hold of the pictures."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from osteo_monai.domain import Sex, VertebraLevel, View
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.virtual.anatomy import Anatomy, Shape
from osteo_monai.virtual.anatomy.thorax import Thorax, Vessel
from osteo_monai.virtual.canvas import capsule, ellipsoid
from osteo_monai.virtual.cohort import make_cohort
from osteo_monai.virtual.dxa import ArealDensity
from osteo_monai.virtual.files import radiograph_truth, write_bone_mask, write_radiograph_dicom, write_radiograph_png
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.plan import plan_cohort
from osteo_monai.virtual.radiograph import (
    Paths,
    PerspectiveCanvas,
    RadiographProtocol,
    RayGeometry,
    VirtualRadiograph,
    develop,
    expose,
    project,
    project_ct,
    usual_protocol,
)
from osteo_monai.virtual.radiograph.project import MineralPalette, draw_vessels
from osteo_monai.virtual.recipe import read_recipe

FRAME = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
SOURCE = np.array([0.0, -1000.0, 0.0])


def canvas(columns: int = 81, depth: int = 56, step: float = 2.5, rows: int = 81) -> PerspectiveCanvas:
    """Detector 1200 mm from the source, pixels of 1 mm about the central ray; samples about the origin."""
    first = 1000.0 - 0.5 * step * (depth - 1)
    return PerspectiveCanvas(
        SOURCE,
        FRAME,
        1200.0,
        (-0.5 * (columns - 1), 1.0, columns),
        (first, step, depth),
        (-0.5 * (rows - 1), 1.0, rows),
    )


def ball(radius: float, value: float, shell: tuple[float, float] | None = None) -> Shape:
    return Shape(
        (-radius,) * 3,
        (radius,) * 3,
        lambda p: ellipsoid(p, (0.0, 0.0, 0.0), (radius,) * 3),
        lambda palette, p, d: value,
        None,
        None if shell is None else (shell[0], lambda palette, p, d: shell[1]),
    )


def test_rays_diverge_from_the_source() -> None:
    c = canvas()
    x, y, z = c.positions((slice(0, 81), slice(0, 56), slice(0, 81)))
    # column 70 lies 30 mm to the viewer's right, which is the person's left; at the origin's depth 30 / 1.2 = 25 mm
    depth = int(np.argmin(np.abs(c.axes[1].numpy() - 1000)))
    scale = float(c.axes[1][depth]) / 1200
    assert float(x[70, depth, 0]) == pytest.approx(-30 * scale, abs=1e-3)
    assert float(z[0, depth, 70]) == pytest.approx(-30 * scale, abs=1e-3)
    assert float(y.flatten()[depth]) == pytest.approx(float(c.axes[1][depth]) - 1000, abs=1e-3)


def test_a_box_holds_every_sample_of_its_shape() -> None:
    c = canvas()
    low, high = np.array([5.0, -30.0, -12.0]), np.array([17.0, 40.0, 9.0])
    box = c.box(low, high)
    assert box is not None
    x, y, z = torch.broadcast_tensors(*c.positions((slice(0, 81), slice(0, 56), slice(0, 81))))
    inside = torch.ones_like(x, dtype=torch.bool)
    for axis, values in enumerate((x, y, z)):
        inside &= (values >= low[axis]) & (values <= high[axis])
    outside = inside.clone()
    outside[box] = False
    assert inside.any()
    assert not outside.any()
    assert c.box([200.0, 0, 0], [220.0, 10, 10]) is None


@pytest.mark.parametrize("radius", [6.0, 11.0, 20.0])
def test_path_through_a_ball(radius: float) -> None:
    c = canvas()
    c.paint_shapes(MineralPalette(), [ball(radius, 100.0)])
    paths = c.value.sum(1) * 2.5 / 100.0
    # through the middle 2 r; the whole adds up to the volume seen at a magnification of 1.2
    assert float(paths[40, 40]) == pytest.approx(2 * radius, rel=0.05)
    volume = float(paths.sum()) / 1.2**2
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)


@pytest.mark.parametrize("thickness", [0.4, 0.9, 1.8])
def test_a_cortex_thinner_than_a_step_keeps_its_mineral(thickness: float) -> None:
    c = canvas()
    c.paint_shapes(MineralPalette(), [ball(12.0, 0.0, (thickness, 900.0))])
    mineral = float((c.value.sum(1) * 2.5).sum()) / 1.2**2 / 900.0
    shell = 4 / 3 * np.pi * (12.0**3 - (12.0 - thickness) ** 3)
    assert mineral == pytest.approx(shell, rel=0.10)


def test_pieces_of_a_bent_tube_meet_without_a_seam() -> None:
    thorax = Thorax.__new__(Thorax)
    thorax.hard, thorax.soft = [], []
    thorax._tube([(-20, -3, 0), (-5, 0, 2), (8, 4, -2), (20, 9, 3)], 4.0, lambda palette, p, d: 100.0)
    c = canvas(step=2.0, depth=60)
    c.paint_shapes(MineralPalette(), thorax.hard)
    whole = canvas(step=2.0, depth=60)
    points = np.array([(-20, -3, 0), (-5, 0, 2), (8, 4, -2), (20, 9, 3)], float)

    def distance(p: tuple[torch.Tensor, ...]) -> torch.Tensor:
        pieces = [capsule(p, a, b, 4.0) for a, b in pairwise(points)]  # type: ignore[arg-type]
        return torch.stack(torch.broadcast_tensors(*pieces)).amin(0)

    whole.paint_shapes(MineralPalette(), [Shape((-30,) * 3, (30,) * 3, distance, lambda palette, p, d: 100.0)])
    ours, exact = c.value.sum(1), whole.value.sum(1)
    assert float(ours.sum()) == pytest.approx(float(exact.sum()), rel=0.03)
    assert float((ours - exact).abs().max()) < 0.25 * float(exact.max())


def test_path_through_a_vessel() -> None:
    protocol = RadiographProtocol(size=(100, 100), field_size=(100.0, 100.0), source_distance=1200.0)
    beam = RayGeometry(SOURCE, FRAME, 1200.0, (900.0, 1100.0))
    vessel = Vessel(np.array([-20.0, 0, 0]), np.array([20.0, 0, 0]), 3.0)
    drawn = draw_vessels([vessel], beam, protocol, 2.0).numpy()
    # across: pi r^2 times the contrast, at a magnification of 1.2 in the rows only
    assert drawn[:, 50].sum() / 1.2 == pytest.approx(2.0 * np.pi * 9, rel=0.03)
    assert drawn[:, 5].sum() == 0


def test_scatter_lowers_contrast_and_photons_lower_noise() -> None:
    water = torch.full((120, 120), 20.0)
    water[40:80, 40:80] = 15.0
    paths = Paths(water, torch.zeros_like(water))
    base = RadiographProtocol(size=(120, 120), field_size=(120.0, 120.0), heel=0.0, scatter=0.0, photons=1e6)

    def contrast(protocol: RadiographProtocol) -> float:
        signal = expose(paths, protocol)
        return float(signal[50:70, 50:70].mean() / signal[5:20, 5:20].mean())

    assert contrast(base) > 1.15 * contrast(replace(base, scatter=1.0))
    quiet, loud = (expose(paths, replace(base, photons=n, blur=0.01))[5:30, 5:30].std() for n in (100.0, 1.0))
    assert float(loud) == pytest.approx(10 * float(quiet), rel=0.15)


def test_collimated_borders_are_bright_in_the_picture() -> None:
    paths = Paths(torch.full((100, 100), 12.0), torch.zeros(100, 100))
    protocol = RadiographProtocol(size=(100, 100), borders=(0.1, 0.0, 0.0, 0.0), heel=0.0)
    picture = develop(expose(paths, protocol), protocol)
    assert float(picture[20:80, 1:6].mean()) > 0.9
    assert float(picture.min()) >= 0
    assert float(picture.max()) <= 1


@pytest.mark.parametrize(
    ("field", "value", "word"), [("bits", 20, "bits must be"), ("size", (10, 500), "size must be")]
)
def test_impossible_protocols_are_refused(field: str, value: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        RadiographProtocol(**{field: value})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def woman() -> Anatomy:
    return Anatomy(draw_person(8, sex=Sex.FEMALE, age_years=66.0, mean_density=110.0, variants=frozenset()))


@pytest.fixture(scope="module")
def chest(woman: Anatomy) -> VirtualRadiograph:
    return project(woman, usual_protocol("chest_frontal", 192), seed=3)


def test_a_chest_looks_like_one(chest: VirtualRadiograph) -> None:
    rows, columns = chest.pixels.shape
    t8 = chest.landmarks[VertebraLevel.T8]
    assert abs(t8[1] - columns / 2) < 0.06 * columns
    row = int(t8[0])
    lungs = [chest.pixels[row - 30 : row - 10, int(x * columns) - 6 : int(x * columns) + 6].mean() for x in (0.3, 0.7)]
    spine = chest.pixels[row - 30 : row - 10, int(t8[1]) - 4 : int(t8[1]) + 4].mean()
    abdomen = chest.pixels[int(0.92 * rows) :, int(0.35 * columns) : int(0.45 * columns)].mean()
    assert max(lungs) + 0.25 < min(spine, abdomen)
    # the heart is on the person's left, the viewer's right
    low = slice(row + 2, row + 12)
    left, right = (chest.pixels[low, int(t8[1] + s * 0.11 * columns)].mean() for s in (1, -1))
    assert left > right + 0.1
    assert 0.2 < chest.bone_mask.mean() < 0.65
    assert chest.bone_mask[row, int(t8[1])]


def test_same_seed_same_picture_and_another_seed_other_noise(woman: Anatomy, chest: VirtualRadiograph) -> None:
    again = project(woman, chest.protocol, seed=3)
    other = project(woman, chest.protocol, seed=4)
    assert np.array_equal(again.pixels, chest.pixels)
    assert not np.array_equal(other.pixels, chest.pixels)
    assert np.array_equal(other.mineral, chest.mineral)


@pytest.mark.parametrize("view", [View.CHEST_FRONTAL, View.LUMBAR_LATERAL])
def test_less_density_less_mineral_in_the_same_body(view: View) -> None:
    made = [
        project(
            Anatomy(draw_person(8, sex=Sex.FEMALE, age_years=66.0, mean_density=d, variants=frozenset())),
            usual_protocol(view, 96),
        )
        for d in (60.0, 160.0)
    ]
    poor, rich = (m.mineral.mean() for m in made)
    assert 0.35 * rich < poor < 0.8 * rich
    assert made[0].landmarks == made[1].landmarks


def test_lumbar_views_show_the_lumbar_spine(woman: Anatomy) -> None:
    for view in (View.LUMBAR_AP, View.LUMBAR_LATERAL):
        made = project(woman, usual_protocol(view, 160))
        rows = [made.landmarks[VertebraLevel(f"L{n}")][0] for n in (1, 2, 3, 4, 5)]
        assert rows == sorted(rows)
        assert abs(rows[2] - 80) < 20
        for n in (2, 3):
            row, column = made.landmarks[VertebraLevel(f"L{n}")]
            assert made.bone_mask[round(row), round(column)]


def test_dicom_says_what_it_is_and_names_no_person(chest: VirtualRadiograph, tmp_path: Path) -> None:
    kinds: list[tuple[Literal["MONOCHROME1", "MONOCHROME2"], Literal["DX", "CR"]]] = [
        ("MONOCHROME2", "DX"),
        ("MONOCHROME1", "CR"),
        ("MONOCHROME1", "DX"),
    ]
    for photometric, modality in kinds:
        made = replace(chest, protocol=replace(chest.protocol, photometric=photometric, modality=modality))
        path = tmp_path / f"{photometric}_{modality}.dcm"
        write_radiograph_dicom(made, path, subject_id="virtual_8")
        ds = pydicom.dcmread(path)
        assert (ds.Modality, ds.ViewPosition, ds.BodyPartExamined) == (modality, "PA", "CHEST")
        assert list(ds.PatientOrientation) == ["L", "F"]
        assert str(ds.PatientName) == "VIRTUAL"
        assert ds.PatientBirthDate == ""
        low, high = ds.WindowCenter - 0.5 - (ds.WindowWidth - 1) / 2, ds.WindowCenter - 0.5 + (ds.WindowWidth - 1) / 2
        shown = np.clip((ds.pixel_array - low) / (high - low), 0, 1)
        shown = 1 - shown if photometric == "MONOCHROME1" else shown
        assert np.abs(shown - chest.pixels).max() < 2e-3


def test_png_mask_and_truth(chest: VirtualRadiograph, tmp_path: Path) -> None:
    write_radiograph_png(chest, tmp_path / "a.png")
    write_bone_mask(chest, tmp_path / "b.png")
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.dtype == np.uint16
    assert np.abs(picture / 65535.0 - chest.pixels).max() < 1.0 / 4095
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")) > 0, chest.bone_mask)
    truth = json.loads(json.dumps(radiograph_truth(chest, ArealDensity(0.8, -2.496, ()))))
    assert truth["t_score"] == -2.5
    assert truth["osteoporosis"] is True
    assert truth["protocol"]["view"] == "chest_frontal"


def test_projecting_a_ct_of_a_cylinder() -> None:
    hu = np.full((60, 60, 30), -1000.0, np.float32)
    x, y = np.meshgrid(np.arange(60) - 29.5, np.arange(60) - 29.5, indexing="ij")
    hu[np.hypot(x, y) * 4 < 100] = 0.0
    hu[np.hypot(x, y) * 4 < 20] = 400.0
    affine = np.diag([4.0, 4.0, 8.0, 1.0])
    volume = CTVolume(hu, affine, affine, (60, 60, 30))
    protocol = replace(usual_protocol("lumbar_ap", 96), field_size=(240.0, 240.0), size=(96, 96))
    made, half = project_ct(volume, protocol), project_ct(volume, protocol, density_factor=0.5)
    # 40 mm of (400 - 100) HU at about 1.5 HU per mg/cm3: 0.8 g/cm2; twice as much as with half the density
    assert 0.6 < made.mineral[48, 48] < 1.0
    assert half.mineral[48, 48] == pytest.approx(0.5 * made.mineral[48, 48], rel=0.01)
    assert made.pixels[48, 48] > made.pixels[48, 20]
    with pytest.raises(ValueError, match="density_factor"):
        project_ct(volume, protocol, density_factor=0.0)


def test_projecting_a_real_ct(real_data: Path) -> None:
    from osteo_monai.imaging import read_ct

    volume = read_ct(real_data / "ct_totalsegmentator_example" / "full" / "example_ct.nii.gz")
    made = project_ct(volume, usual_protocol("lumbar_ap", 192))
    assert 0.02 < made.bone_mask.mean() < 0.9
    assert 0.5 < made.mineral.max() < 8
    half = project_ct(volume, usual_protocol("lumbar_ap", 192), density_factor=0.6)
    assert half.mineral.sum() == pytest.approx(0.6 * made.mineral.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("name", "people", "ill"),
    [
        ("virtual_li2026_chest", 1600, 568),  # 1600 x 1518 / 4278
        ("virtual_li2026_external_1", 188, 119),
        ("virtual_li2026_external_2", 76, 63),
        ("virtual_boonrod2025_lumbar", 480, 192),
    ],
)
def test_shipped_centres_have_the_numbers_of_the_papers(name: str, people: int, ill: int) -> None:
    plans = plan_cohort(read_recipe(Path(__file__).parents[2] / "data_manifests" / "recipes" / f"{name}.json"))
    assert len(plans) == people
    assert sum(bool(p.osteoporosis) for p in plans) == ill
    assert all(40 <= p.age_years < 90 for p in plans)
    if name == "virtual_boonrod2025_lumbar":
        assert {tuple(sorted(s.acquisition for s in p.scans)) for p in plans} == {("ap", "lateral")}
    if name == "virtual_li2026_external_1":  # 99 and 38 women
        assert sum(p.sex is Sex.FEMALE for p in plans if p.osteoporosis) == 99
        assert sum(p.sex is Sex.FEMALE for p in plans if not p.osteoporosis) == 38


def recipe(tmp_path: Path, **fields: object) -> Path:
    content = {
        "name": "r",
        "description": "d",
        "seed": 3,
        "subjects": 2,
        "population": {"age_mean": 62, "age_sd": 8, "age_min": 45, "body_mass_index": [24, 3]},
        "osteoporosis": {"share": 0.5, "population": {"female_fraction": 1.0, "age_mean": 72, "age_sd": 8}},
        "acquisitions": [{"modality": "radiograph", "name": "a", "rows": 64, "centre": "c", "kvp": [100, 110]}],
        "formats": ["png", "dicom"],
        **fields,
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_cohort_has_the_share_of_osteoporosis_asked_for(tmp_path: Path) -> None:
    manifest = json.loads(make_cohort(recipe(tmp_path), tmp_path / "out").read_text(encoding="utf-8"))
    records = manifest["test"]
    assert len(records) == 4
    ill = {r["subject_id"] for r in records if r["t_score"] <= -2.5}
    assert len(ill) == 1
    assert all(r["sex"] == "F" for r in records if r["subject_id"] in ill)
    for r in records:
        assert r["view"] == "chest_frontal"
        assert r["centre"] == "c"
        assert 95 < r["kvp"] < 120
        assert (tmp_path / "out" / r["image"]).exists()
        assert (tmp_path / "out" / r["bone_mask"]).exists()
        truth = json.loads((tmp_path / "out" / r["truth"]).read_text(encoding="utf-8"))
        assert truth["osteoporosis"] == (r["subject_id"] in ill)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"formats": ["nifti"]}, "formats must contain dicom or png"),
        ({"dxa": False}, "osteoporosis must have dxa true"),
        ({"acquisitions": [{"modality": "radiograph", "name": "a", "kvp": [110, 90]}]}, "kvp must satisfy"),
        ({"acquisitions": [{"modality": "radiograph", "name": "a", "view": "skull"}]}, "acquisitions.0.view"),
        ({"acquisitions": [{"modality": "radiograph", "name": "a", "kernel": "soft"}]}, "acquisitions.0.kernel"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_cohort(recipe(tmp_path, **fields), tmp_path / "out")
