"""The virtual scanner: HU as attenuation says, and blur, noise and limits as the protocol says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import ContrastPhase, MineralStandard, VertebraLevel
from osteo_monai.imaging.attenuation import hu_per_mg_cm3, hu_per_mg_iodine, tissue_hu
from osteo_monai.virtual.anatomy import Anatomy, Palette
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.ct import (
    CTPalette,
    CTProtocol,
    VirtualCT,
    acquire,
    add_noise,
    gaussian_blur,
    paint_table,
    simulate,
)
from osteo_monai.virtual.person import Variant

L = VertebraLevel
K2HPO4 = MineralStandard.K2HPO4


@dataclass
class Block:
    """Water everywhere, with a slab of ``value`` HU above z = 0 if given."""

    value: float = 0.0
    half_width: float = 150.0
    half_depth: float = 110.0
    seed: int = 0

    @property
    def trunk_centre(self) -> NDArray[np.float64]:
        return np.zeros(3)

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
        canvas.value[:] = 0.0

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
        canvas.value[:, :, canvas.axes[2] > 0] = self.value


def scan_block(block: Block, seed: int = 0, **protocol: object) -> NDArray[np.float32]:
    fields: dict[str, Any] = {
        "pixel": 1.0,
        "matrix": (48, 48),
        "slice_step": 1.0,
        "slice_thickness": 1.0,
        "table": False,
    }
    hu, _, _ = simulate(block, CTPalette(120.0), CTProtocol(**{**fields, **protocol}), z_range=(-20, 20), seed=seed)
    return hu


# --- HU -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kvp", [80.0, 100.0, 120.0, 140.0])
def test_bone_and_tissue_follow_attenuation(kvp: float) -> None:
    palette, standard = CTPalette(kvp, seed=4, spread=0.0), CTPalette(120.0, seed=4, spread=0.0)
    slope = float(palette.bone(150.0)) - float(palette.bone(50.0))
    assert slope == pytest.approx(100 * hu_per_mg_cm3(K2HPO4, kvp))
    # what a person's tissue has beyond the textbook's is the same at every voltage
    for name, material in (("muscle", "muscle"), ("adipose", "adipose"), ("aorta", "blood")):
        change = palette.tissue(name) - standard.tissue(name)
        assert change == pytest.approx(tissue_hu(material, kvp) - tissue_hu(material, 120.0))
    assert palette.tissue("air") == pytest.approx(-1000, abs=2)
    assert palette.mineral(100.0, K2HPO4) == pytest.approx(100 * hu_per_mg_cm3(K2HPO4, kvp))
    assert palette.solid("titanium") > 3071


def test_domain_randomisation_goes_beyond_people_and_no_further_than_told() -> None:
    def spread_of(name: str, randomise: float) -> float:
        return float(np.std([CTPalette(120.0, seed=s, randomise=randomise).tissue(name) for s in range(60)]))

    for name in ("muscle", "aorta", "liver", "adipose", "lung"):
        plain, half, full = (spread_of(name, r) for r in (0.0, 0.5, 1.0))
        assert full > 1.5 * half > 1.3 * plain
    assert all(CTPalette(120.0, seed=s, randomise=1.0).tissue("air") < -990 for s in range(5))
    assert CTPalette(120.0, seed=3, randomise=1.0).tissue("liver") == CTPalette(120.0, seed=3, randomise=1.0).tissue(
        "liver"
    )
    slopes = []
    for s in range(60):
        palette = CTPalette(120.0, seed=s, randomise=1.0)
        assert float(palette.bone(200.0)) > float(palette.bone(100.0)) + 70
        slopes.append(float(palette.bone(1.0)) - float(palette.bone(0.0)))
    exact = hu_per_mg_cm3(K2HPO4, 120.0)
    assert min(slopes) < 0.8 * exact < 1.25 * exact < max(slopes) <= 1.6 * exact + 1e-9
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="randomise must be from 0 to 1"):
            CTPalette(120.0, randomise=wrong)


@pytest.mark.parametrize(("thickness", "low", "high"), [(1.0, 230, 600), (1.6, 200, 500), (4.0, 120, 340)])
def test_end_plates_are_as_bright_as_real_ones(
    grow: Callable[..., Anatomy], scan_bodies: Callable[..., VirtualCT], thickness: float, low: float, high: float
) -> None:
    """Mean over a 6 mm circle, brightest slice: on real scans 346-506 (1 mm), 290-325 (1.6 mm), 170-230 (4 mm) HU.

    Those were people of 64 to 280 HU; limits here are wider by what densities of 60 and 180 mg/cm3 differ.
    """
    for seed, density in ((5, 60.0), (6, 120.0), (7, 180.0)):
        anatomy = grow(seed, density=density)
        ct = scan_bodies(anatomy, slice_step=thickness, slice_thickness=thickness, pixel=0.75, matrix=(110, 110))
        peaks = []
        for level in (L.L1, L.L2):
            v = anatomy.vertebra(level)
            z = ct.affine[2, 3] + thickness * np.arange(ct.hu.shape[2])
            x, y = (ct.affine[i, 3] + 0.75 * np.arange(110) for i in (0, 1))
            at = [v.centre + v.frame[:, 2] * (h - v.centre[2]) for h in z]
            line = np.array(
                [ct.hu[(x[:, None] - q[0]) ** 2 + (y[None] - q[1]) ** 2 < 9, k].mean() for k, q in enumerate(at)]
            )
            middle, reach = int(np.abs(z - v.centre[2]).argmin()), int(19 / thickness)
            peaks += [line[middle : middle + reach].max(), line[middle - reach : middle + 1].max()]
        assert all(low < peak < high for peak in peaks), (density, peaks)
        assert min(peaks) > ct.true_hu(L.L1)
        # of one person they are alike; slices of 4 mm cut them in other places
        assert max(peaks) < 1.5 * min(peaks)


def test_at_120_kvp_a_density_reads_as_qct_would() -> None:
    # marrow fat is in the density already, so that no offset is left at the reference voltage
    for seed in range(5):
        assert float(CTPalette(120.0, seed=seed).bone(100.0)) == pytest.approx(100 * hu_per_mg_cm3(K2HPO4, 120.0))


def test_an_80_kvp_scan_is_brighter_as_attenuation_says(
    man: Anatomy, clean: VirtualCT, scan_bodies: Callable[..., VirtualCT]
) -> None:
    low = scan_bodies(man, kvp=80.0)
    bone = (clean.labels == L.L1.label) & (clean.hu > 60) & (clean.hu < 250)
    gain = np.polyfit(clean.hu[bone], low.hu[bone], 1)[0]
    ratio = hu_per_mg_cm3(K2HPO4, 80.0) / hu_per_mg_cm3(K2HPO4, 120.0)
    assert 1.3 < ratio < 1.7
    assert gain == pytest.approx(ratio, rel=0.02)
    # the offset is what fat in the marrow costs more at 80 kVp
    assert low.true_hu(L.L1) < ratio * clean.true_hu(L.L1)
    np.testing.assert_array_equal(low.labels, clean.labels)


@pytest.mark.parametrize("phase", [ContrastPhase.ARTERIAL, ContrastPhase.PORTAL_VENOUS])
def test_contrast_agent_goes_where_blood_goes(phase: ContrastPhase) -> None:
    native, enhanced = CTPalette(120.0, seed=2), CTPalette(120.0, phase, seed=2)
    rise = {n: enhanced.tissue(n) - native.tissue(n) for n in ("aorta", "cava", "kidney", "muscle", "adipose")}
    assert rise["adipose"] == 0
    assert rise["aorta"] > 80 > 25 > rise["muscle"] > 0
    assert (rise["aorta"] > 3 * rise["cava"]) == (phase is ContrastPhase.ARTERIAL)
    bone = float(enhanced.bone(120.0)) - float(native.bone(120.0))
    assert 5 < bone < 17
    # iodine shines more at low voltage
    assert hu_per_mg_iodine(80.0) > 1.5 * hu_per_mg_iodine(120.0)
    low = CTPalette(80.0, phase, seed=2).tissue("aorta") - CTPalette(80.0, seed=2).tissue("aorta")
    assert low / rise["aorta"] == pytest.approx(hu_per_mg_iodine(80.0) / hu_per_mg_iodine(120.0))


def test_contrast_agent_brightens_the_aorta_in_a_scan(
    man: Anatomy, clean: VirtualCT, scan_bodies: Callable[..., VirtualCT]
) -> None:
    arterial = scan_bodies(man, phase=ContrastPhase.ARTERIAL)
    change = arterial.hu - clean.hu
    assert (change > 150).sum() > 1000  # 1 cm of a vessel of 20 mm is 3000 voxels
    assert arterial.true_hu(L.L1) - clean.true_hu(L.L1) == pytest.approx(
        float(np.median(change[clean.labels == L.L1.label])), abs=1.5
    )


def test_the_scanners_own_error() -> None:
    # 1.01 * (200 + 1000) - 1000 - 5 = 207; air, 1.01 * 0 - 1000 - 5 = -1005; what is off the scale is clipped after it
    assert scan_block(Block(200.0), noise_hu=0.0, gain=1.01, offset_hu=-5.0)[24, 24, -1] == 207
    assert scan_block(Block(-1000.0), noise_hu=0.0, gain=1.01, offset_hu=-5.0)[24, 24, -1] == -1005
    assert scan_block(Block(3000.0), noise_hu=0.0, gain=1.1)[24, 24, -1] == 3071
    assert scan_block(Block(-1000.0), noise_hu=0.0, offset_hu=-60.0)[24, 24, -1] == -1024
    # noise passes through it like everything else
    exact, off = scan_block(Block(0.0), noise_hu=20.0), scan_block(Block(0.0), noise_hu=20.0, gain=1.1, offset_hu=3.0)
    np.testing.assert_allclose(off, 1.1 * (exact + 1000) - 997, atol=1.1)


# --- the scanner ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "noise"), [("soft", 12.0), ("sharp", 40.0)])
def test_noise_has_the_strength_asked_for(kernel: str, noise: float) -> None:
    hu = scan_block(Block(), kernel=kernel, noise_hu=noise)
    assert hu.std() == pytest.approx(noise, rel=0.02)
    assert abs(hu.mean()) < 1
    np.testing.assert_array_equal(hu, scan_block(Block(), kernel=kernel, noise_hu=noise))
    assert not np.array_equal(hu, scan_block(Block(), seed=1, kernel=kernel, noise_hu=noise))


def test_noise_grows_with_the_patient() -> None:
    # half width and depth together 26 cm more: e-fold
    large = scan_block(Block(half_width=250.0, half_depth=270.0), noise_hu=10.0)
    assert large.std() == pytest.approx(10 * np.e, rel=0.02)


def test_soft_kernels_have_coarser_grain() -> None:
    def neighbours(kernel: str) -> float:
        hu = scan_block(Block(), kernel=kernel, noise_hu=30.0, pixel=0.7)
        return float(np.corrcoef(hu[:-1].ravel(), hu[1:].ravel())[0, 1])

    assert neighbours("soft") > neighbours("sharp") + 0.3


@pytest.mark.parametrize(("thickness", "fwhm"), [(1.0, 1.0), (3.0, 3.0), (6.0, 6.0)])
def test_slice_thickness_blurs_along_z(thickness: float, fwhm: float) -> None:
    hu = scan_block(Block(1000.0), slice_thickness=thickness, slice_step=0.5, noise_hu=0.0)[24, 24]
    edge = np.diff(hu)
    z = np.arange(len(edge))
    sigma = np.sqrt((edge * z**2).sum() / edge.sum() - ((edge * z).sum() / edge.sum()) ** 2) * 0.5
    # two samples of 0.5 mm widen the narrowest profile a little
    assert 2.355 * sigma == pytest.approx(fwhm, abs=0.12 * fwhm + 0.05)


def test_values_stay_on_the_scale_of_a_scanner() -> None:
    bright = scan_block(Block(20000.0), noise_hu=0.0)
    assert bright.max() == 3071
    dark = scan_block(Block(-5000.0), noise_hu=50.0)
    assert dark.min() == -1024
    assert bright.dtype == np.float32
    np.testing.assert_array_equal(bright, np.round(bright))


def test_grid_of_a_scan(man: Anatomy) -> None:
    protocol = CTProtocol(pixel=4.0, matrix=(96, 80), slice_step=5.0, slice_thickness=5.0)
    ct = acquire(man, protocol, z_range=(50, 100), centre_xy=(10.0, -6.0))
    assert ct.hu.shape == ct.labels.shape == (96, 80, 11)
    assert [str(array.dtype) for array in (ct.hu, ct.labels)] == ["float32", "uint8"]
    assert np.diag(ct.affine).tolist() == [4, 4, 5, 1]
    middle = ct.affine @ [47.5, 39.5, 0, 1]
    assert middle[:3] == pytest.approx([man.trunk_centre[0] + 10, man.trunk_centre[1] - 6, 50])
    # air around, a table behind, the trunk within
    assert ct.hu[:, -1].max() < -800
    assert 0.2 < (ct.hu > -200).mean() < 0.8


def test_soft_tissue_lies_where_bone_does() -> None:
    """Soft tissue is painted on coarser pixels: an edge at 3.3 mm must come out at 3.3 mm all the same."""

    class Edge(Block):
        def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
            canvas.value[:] = 1000.0 * canvas.coverage(canvas.axes[0] - 3.3)[:, None, None]

        def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
            pass

    hu = scan_block(Edge(), noise_hu=0.0)
    # 48 pixels of 1 mm about 0: the first begins at -24 mm
    assert hu[:, 24, 20].sum() / 1000 == pytest.approx(24 + 3.3, abs=0.05)


def test_matrices_may_be_odd(man: Anatomy) -> None:
    odd = acquire(man, CTProtocol(pixel=5.0, matrix=(63, 49), noise_hu=0.0), z_range=(100, 102))
    even = acquire(man, CTProtocol(pixel=5.0, matrix=(65, 51), noise_hu=0.0), z_range=(100, 102))
    np.testing.assert_array_equal(odd.labels, even.labels[1:-1, 1:-1])
    assert np.abs(odd.hu - even.hu[1:-1, 1:-1]).mean() < 55  # soft edges fall on other half pixels


def test_height_must_rise(man: Anatomy) -> None:
    with pytest.raises(ValueError, match=r"z_range must be ascending, got \(100, 100\)"):
        acquire(man, CTProtocol(), z_range=(100, 100))


def test_slices_do_not_depend_on_how_many_are_made(man: Anatomy) -> None:
    protocol = CTProtocol(pixel=4.0, matrix=(64, 64), slice_step=2.0, slice_thickness=0.1, noise_hu=0.0)
    long = acquire(man, protocol, z_range=(60, 60 + 2 * 39))  # more than are painted at once
    short = acquire(man, protocol, z_range=(60 + 2 * 14, 60 + 2 * 20))
    np.testing.assert_array_equal(long.labels[:, :, 14:21], short.labels)
    np.testing.assert_allclose(long.hu[:, :, 14:21], short.hu, atol=1)


@pytest.mark.parametrize("variants", [(), (Variant.SCOLIOSIS,)])
def test_complete_levels_lie_wholly_in_the_scan(grow: Callable[..., Anatomy], variants: tuple[Variant, ...]) -> None:
    anatomy = grow(5, *variants)
    for v in anatomy.vertebrae[1:8]:
        canvas = Canvas(v.centre - 36, (2, 2, 0.5), (37, 37, 145))
        body = anatomy.body_distance(v, canvas.positions((slice(None),) * 3)) < 0
        z = canvas.axes[2][body.any(0).any(0)]
        low, high = float(z.min()), float(z.max())

        def complete(bottom: float, top: float, level: VertebraLevel = v.level) -> bool:
            affine = np.diag([1.0, 1, 1, 1])
            affine[2, 3] = bottom
            empty = np.zeros((1, 1, round(top - bottom) + 1))
            ct = VirtualCT(
                empty.astype(np.float32), empty.astype(np.uint8), affine, anatomy, CTProtocol(), CTPalette(120.0)
            )
            return level in ct.complete_levels

        assert complete(low - 6, high + 7)
        assert not complete(low + 0.5, high + 50)
        assert not complete(low - 50, high - 1.5)


def test_volume_is_what_a_reader_would_give(clean: VirtualCT) -> None:
    volume = clean.volume()
    assert volume.hu is clean.hu
    assert volume.spacing == pytest.approx((1.0, 1.0, 1.5))
    facts = volume.acquisition
    assert (facts.kvp, facts.kernel, facts.contrast, facts.age_years) == (120.0, "B", None, 55.0)
    assert facts.sex == clean.anatomy.person.sex


def test_the_table_is_behind_the_back() -> None:
    canvas = Canvas((-200, -200, 0), (5, 5, 5), (81, 81, 2))
    paint_table(canvas, -100.0)
    table = canvas.value > -1000
    assert table.any()
    _, ys, _ = torch.nonzero(table, as_tuple=True)
    assert (-200 + 5 * ys).max() <= -95 + 0.00045 * 235**2
    elsewhere = Canvas((-200, 100, 0), (5, 5, 5), (81, 20, 2))
    paint_table(elsewhere, -100.0)
    assert elsewhere.value.max() == -1000


# --- filters --------------------------------------------------------------------------------------------------------


def spread(x: Tensor, axis: int) -> float:
    profile = x.sum([a for a in range(3) if a != axis])
    at = torch.arange(len(profile), dtype=torch.float32)
    mean = (profile * at).sum() / profile.sum()
    return float((((at - mean) ** 2 * profile).sum() / profile.sum()).sqrt())


def test_blur_of_a_point_is_a_gaussian() -> None:
    x = torch.zeros(41, 41, 41)
    x[20, 20, 20] = 8.0
    blurred = gaussian_blur(x, [2.0, 1.0, 0.0])
    assert blurred.sum().item() == pytest.approx(8.0, rel=1e-5)
    assert spread(blurred, 0) == pytest.approx(2.0, rel=0.02)
    assert spread(blurred, 1) == pytest.approx(1.0, rel=0.02)
    assert spread(blurred, 2) == 0
    assert x.sum() == 8 == x.max()  # the input is unchanged


def test_blur_keeps_what_is_even_to_the_edge() -> None:
    for shape in ((9, 5, 1), (2, 3, 4)):
        assert torch.allclose(gaussian_blur(torch.full(shape, 7.0), [3.0, 3.0, 3.0]), torch.tensor(7.0))


def test_no_noise_is_no_noise() -> None:
    hu = torch.zeros(4, 4, 4)
    assert add_noise(hu, 0.0, [1, 1, 1], torch.Generator()) is hu
