"""The body of a virtual person: levels in order, sizes of the literature, densities exact, variants as named."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, Sex, VertebraLevel
from osteo_monai.virtual.anatomy import (
    BODY_SIZE_MM,
    FEMALE_SCALE,
    Anatomy,
    Noise,
    Palette,
    Positions,
    Shape,
    Texture,
    Value,
    Vertebra,
    paint_shapes,
    reached,
    sequence,
)
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.ct import CTPalette, VirtualCT
from osteo_monai.virtual.dxa import projected_density
from osteo_monai.virtual.person import Variant, draw_person

L = VertebraLevel
ALL = (slice(None),) * 3
THORACIC = [VertebraLevel(f"T{n}") for n in range(12, 0, -1)]
LUMBAR = [VertebraLevel(f"L{n}") for n in range(5, 0, -1)]

Grow = Callable[..., Anatomy]
Scan = Callable[..., VirtualCT]


def frame_coordinates(ct: VirtualCT, v: Vertebra) -> NDArray[np.float64]:
    """Coordinates u, v, w of every voxel in the frame of a body: (3, X, Y, Z)."""
    voxels = np.indices(ct.hu.shape).reshape(3, -1)
    world = ct.affine[:3, :3] @ voxels + ct.affine[:3, 3:]
    return (v.frame.T @ (world - v.centre[:, None])).reshape(3, *ct.hu.shape)


def central(ct: VirtualCT, v: Vertebra) -> NDArray[np.bool_]:
    """The middle half of the height and 0.7 of the width and depth, where densities are defined."""
    u, y, w = frame_coordinates(ct, v)
    depth, middle = 0.5 * (v.front + v.back), 0.5 * (v.front - v.back)
    inside = (u / (0.7 * v.half_width)) ** 2 + ((y - middle) / (0.7 * depth)) ** 2 < 1
    return np.asarray(inside & (abs(w) < 0.25 * v.height))


def body_volume_ml(anatomy: Anatomy, level: VertebraLevel) -> float:
    v = anatomy.vertebra(level)
    canvas = Canvas(v.centre - 40, (1.6,) * 3, (51,) * 3)
    return float((anatomy.body_distance(v, canvas.positions(ALL)) < 0).sum()) * 1.6**3 / 1000


# --- the column -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (None, LUMBAR + THORACIC),
        (Variant.LUMBARISED, [L.L6, *LUMBAR, *THORACIC]),
        (Variant.SACRALISED, LUMBAR[1:] + THORACIC),
        (Variant.ELEVEN_RIBS, LUMBAR + THORACIC),
        (Variant.THIRTEEN_RIBS, [*LUMBAR, L.T13, *THORACIC]),
        (Variant.SCOLIOSIS, LUMBAR + THORACIC),
        (Variant.SCREWS, LUMBAR + THORACIC),
    ],
)
def test_levels_from_the_lowest_up(grow: Grow, variant: Variant | None, expected: list[VertebraLevel]) -> None:
    variants = () if variant is None else (variant,)
    assert sequence(frozenset(variants)) == expected
    anatomy = grow(5, *variants)
    assert [v.level for v in anatomy.vertebrae] == expected
    rise = np.diff([v.centre[2] for v in anatomy.vertebrae])
    assert (rise > 12).all()
    assert anatomy.vertebrae[0].centre[2] > 0  # the origin is the sacral end plate
    for v in anatomy.vertebrae:
        assert v.frame @ v.frame.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(v.frame) == pytest.approx(1)


def test_a_level_that_is_not_there(grow: Grow) -> None:
    with pytest.raises(KeyError, match="this spine has no L5"):
        grow(5, Variant.SACRALISED).vertebra(L.L5)


def test_neighbours_leave_room_for_a_disc(man: Anatomy) -> None:
    for below, above in zip(man.vertebrae, man.vertebrae[1:], strict=False):
        end_plate = below.world(0, 0, below.height / 2)
        other = above.world(0, 0, -above.height / 2)
        assert np.linalg.norm(other - end_plate) == pytest.approx(above.disc_below, abs=1e-9)
        assert 1.5 < above.disc_below < 14


def test_scoliosis_bends_sideways(grow: Grow) -> None:
    def sway(anatomy: Anatomy) -> float:
        return max(abs(float(np.degrees(np.arcsin(v.frame[0, 2])))) for v in anatomy.vertebrae)

    assert sway(grow(5, Variant.SCOLIOSIS)) > 2 * sway(grow(5))


def test_volumes_are_those_of_the_literature(grow: Grow) -> None:
    men = np.array([[body_volume_ml(grow(seed), level) for level in (L.L1, L.L2)] for seed in range(6)])
    women = np.array(
        [[body_volume_ml(grow(seed, sex=Sex.FEMALE), level) for level in (L.L1, L.L2)] for seed in range(6)]
    )
    assert 25 < men.mean() < 45
    assert men.min() > 20
    assert men[:, 1].mean() > men[:, 0].mean()
    # the same seed gives a smaller woman: the cube of the linear size and of what statures differ by
    assert women.mean() / men.mean() == pytest.approx(FEMALE_SCALE**3, abs=0.02)


def test_sizes_grow_downwards() -> None:
    widths = [BODY_SIZE_MM[level][0] for level in BODY_SIZE_MM if level >= L.T4 or level.startswith("L")]
    assert BODY_SIZE_MM[L.T8][0] < BODY_SIZE_MM[L.T12][0] < BODY_SIZE_MM[L.L1][0] < BODY_SIZE_MM[L.L5][0]
    assert min(widths) >= 27


# --- the bone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [40.0, 120.0, 220.0])
def test_median_hu_is_that_of_the_density(grow: Grow, scan_bodies: Scan, density: float) -> None:
    anatomy = grow(5, density=density)
    ct = scan_bodies(anatomy)
    for level in (L.L1, L.L2):
        v = anatomy.vertebra(level)
        expected = float(ct.palette.bone(v.density))
        assert ct.true_hu(level) == pytest.approx(expected)
        # 2 %, or 1.5 HU where bone is hardly denser than water: HU are whole numbers
        assert np.median(ct.hu[central(ct, v)]) == pytest.approx(expected, rel=0.02, abs=1.5)


def test_the_trabecular_pattern_has_a_mean_of_one(man: Anatomy) -> None:
    """Painted without blur, islands or the cortex; the basivertebral vein is painted later."""
    v = man.vertebra(L.L1)
    shape = next(s for s in man.shapes if s.label == L.L1.label)
    axis = torch.linspace(-1, 1, 15)
    u, y, w = torch.meshgrid(axis, axis, axis, indexing="ij")
    disc = u * u + y * y < 1
    local = torch.stack([0.7 * v.half_width * u, 0.7 * 0.5 * (v.front + v.back) * y + 0.5 * (v.front - v.back),
                         0.25 * v.height * w])[:, disc]  # fmt: skip
    world = torch.as_tensor(v.frame).float() @ local + torch.as_tensor(v.centre).float()[:, None]
    palette = CTPalette(120.0)
    painted = shape.value(palette, (world[0], world[1], world[2]), torch.full((world.shape[1],), -9.0))
    assert isinstance(painted, torch.Tensor)
    assert painted.mean().item() == pytest.approx(float(palette.bone(v.density)), rel=1e-3)
    assert painted.std() > 5


def test_a_body_is_one_piece_with_a_dense_shell(man: Anatomy, clean: VirtualCT) -> None:
    for level in (L.L1, L.L2):
        v = man.vertebra(level)
        body = clean.labels == level.label
        _, pieces = ndimage.label(body)
        assert pieces == 1
        shell = body & ~ndimage.binary_erosion(body, iterations=1)
        assert clean.hu[shell].mean() > clean.hu[central(clean, v)].mean() + 30
        assert 0.4 < man.cortex_thickness(level) < 1.6


def test_body_distance_and_label_agree(man: Anatomy) -> None:
    v = man.vertebra(L.L2)
    canvas = Canvas(v.centre - 36, (2.0,) * 3, (37,) * 3)
    man.paint(canvas, CTPalette(120.0))
    label = canvas.label == L.L2.label
    inside = man.body_distance(v, canvas.positions(ALL)) < 0
    assert torch.equal(label, inside)
    box = reached(canvas, v)
    assert box is not None
    assert label[box].sum() == label.sum() > 2000


def test_the_grid_does_not_change_the_body(man: Anatomy) -> None:
    v = man.vertebra(L.L1)
    volumes, values = [], []
    for step in (1.0, 2.1):
        n = int(76 / step)
        canvas = Canvas(v.centre - 38 + 0.3 * step, (step,) * 3, (n,) * 3)
        man.paint(canvas, CTPalette(120.0))
        body = canvas.label == L.L1.label
        volumes.append(float(body.sum()) * step**3)
        values.append(float(canvas.value[body].median()))
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
    assert values[0] == pytest.approx(values[1], rel=0.03)


def test_a_person_is_painted_the_same_every_time(man: Anatomy) -> None:
    canvases = [Canvas((-60, -60, 60), (3.0,) * 3, (40, 40, 40)) for _ in range(2)]
    for anatomy, canvas in zip((man, Anatomy(man.person)), canvases, strict=True):
        anatomy.paint(canvas, CTPalette(120.0))
    assert torch.equal(canvases[0].value, canvases[1].value)
    assert torch.equal(canvases[0].label, canvases[1].label)


def test_soft_and_hard_parts_make_the_whole(man: Anatomy) -> None:
    whole, parts = (Canvas((-60, -60, 60), (3.0,) * 3, (40, 40, 30)) for _ in range(2))
    man.paint(whole, CTPalette(120.0))
    man.paint_soft(parts, CTPalette(120.0))
    assert parts.label.max() == 0
    man.paint_hard(parts, CTPalette(120.0))
    assert torch.equal(whole.value, parts.value)
    assert torch.equal(whole.label, parts.label)


# --- what variants do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "last"),
    [(None, L.T12), (Variant.ELEVEN_RIBS, L.T11), (Variant.THIRTEEN_RIBS, L.T13), (Variant.SACRALISED, L.T12)],
)
def test_the_last_rib(grow: Grow, variant: Variant | None, last: VertebraLevel) -> None:
    for seed in (2, 5):
        anatomy = grow(seed, *(() if variant is None else (variant,)))
        for v in anatomy.vertebrae[1:9]:
            expected = v.level.startswith("T") and v.centre[2] >= anatomy.vertebra(last).centre[2]
            # where a rib leaves the transverse process: those of other levels pass far from it
            for side, reach in zip((-1, 1), anatomy.rib_reach(v.level), strict=True):
                tubercle = v.world(side * (v.half_width + 11), -v.back - 17, 2.0)
                canvas = Canvas(tubercle - 8, (1.6,) * 3, (11,) * 3)
                anatomy.paint_hard(canvas, CTPalette(120.0))
                assert bool((canvas.label == RIB_LABEL).any()) == expected
                assert (reach > 0) == expected


def farthest_rib(anatomy: Anatomy, v: Vertebra, side: float) -> tuple[float, float]:
    """How far the rib of ``v`` reaches to the side, and how far below its inner end the outer one lies, mm."""
    shapes = [s for s in anatomy.bone_shapes if s.label == RIB_LABEL]
    canvas = Canvas(v.centre - [150, 120, 130], (2.0,) * 3, (151, 90, 90))
    paint_shapes(canvas, CTPalette(120.0), shapes)
    parts, _ = ndimage.label(canvas.label.numpy() == RIB_LABEL)
    head = np.array([v.world(side * (v.half_width + 5), -v.back - 8, w) for w in (0.0, 5.0)])
    at = np.rint((head - canvas.origin) / 2.0).astype(int)
    near = parts[at[:, 0].min() - 3 : at[:, 0].max() + 4, at[:, 1].min() - 4 : at[:, 1].max() + 5,
                 at[:, 2].min() - 4 : at[:, 2].max() + 4]  # fmt: skip
    x, _, z = np.nonzero(parts == np.bincount(near[near > 0]).argmax())
    out = side * (canvas.origin[0] + 2.0 * x - v.centre[0])
    return float(out.max()), 2.0 * float(z[out < out.min() + 4].mean() - z[out > out.max() - 4].mean())


def test_the_last_ribs_are_as_long_and_as_steep_as_real_ones(grow: Grow) -> None:
    """On sixteen real scans: reach 48-108 mm, ends 6-85 mm below the head; the eleventh over 100 mm for usual sizes."""
    reaches, falls = [], []
    for seed in range(8):
        anatomy = grow(seed)
        v = anatomy.vertebra(L.T12)
        for side, drawn in zip((-1.0, 1.0), anatomy.rib_reach(L.T12), strict=True):
            reach, fall = farthest_rib(anatomy, v, side)
            assert reach == pytest.approx(drawn, abs=9)
            reaches.append(reach)
            falls.append(fall)
        assert min(anatomy.rib_reach(L.T11)) > max(anatomy.rib_reach(L.T12)) - 10
    assert min(reaches) < 70
    assert 80 < max(reaches) < 125
    assert min(falls) > 2
    assert 40 < max(falls) < 110


def test_a_fifth_of_people_have_short_last_ribs() -> None:
    reach = np.array([min(Anatomy(draw_person(seed, variants=frozenset())).rib_reach(L.T12)) for seed in range(150)])
    # of 150 a share of 0.23 has a standard error of 0.034
    assert 0.13 < (reach < 68).mean() < 0.35
    assert (reach > 0).all()


def test_transverse_processes_tell_the_levels_apart(grow: Grow) -> None:
    """L3's reach farthest and T12's no farther than its pedicle beside a rib; the sides differ."""
    tips: dict[VertebraLevel, list[float]] = {level: [] for level in (L.T12, L.L1, L.L3)}
    for seed in range(6):
        anatomy = grow(seed)
        for level, found in tips.items():
            v = anatomy.vertebra(level)
            canvas = Canvas(v.centre - [70, 70, 12], (1.5,) * 3, (94, 60, 20), background=0.0)
            paint_shapes(canvas, CTPalette(120.0), [s for s in anatomy.vertebra_shapes if s.label in (0, level.label)])
            u, _, w = v.local(canvas.positions(ALL))
            bone = (canvas.value > 100) & (w.abs() < 10)
            found += [float(u[bone].max()), float(-u[bone].min())]
    assert np.mean(tips[L.T12]) < 28 < 33 < np.mean(tips[L.L1]) < np.mean(tips[L.L3]) - 3
    assert np.abs(np.diff(np.reshape(tips[L.L3], (-1, 2)))).max() > 1


def test_the_arch_joins_the_body_and_closes_the_canal(grow: Grow) -> None:
    for seed in range(4):
        anatomy = grow(seed)
        for level in (L.T9, L.T12, L.L2, L.L4):
            v = anatomy.vertebra(level)
            canvas = Canvas(v.centre - [50, 85, 42], (1.5,) * 3, (67, 80, 56), background=0.0)
            index = anatomy.vertebrae.index(v)
            own = [s for s in anatomy.vertebra_shapes if s.label == level.label]
            arches = [s for s in anatomy.vertebra_shapes if s.label == 0 and s.shell is not None]
            paint_shapes(canvas, CTPalette(120.0), [*own, arches[index]])
            bone = canvas.value.numpy() > 90
            parts, _ = ndimage.label(bone)
            whole = np.bincount(parts[bone])[1:]
            assert whole.max() > 0.99 * bone.sum()
            # one sees no way from the canal to the side or to the back in the projection along w
            shadow = bone[:, :, 16:34].any(2)
            holes, count = ndimage.label(~shadow)
            outside = holes[0, 0]
            inside = np.rint((v.world(0, -v.back - 8, 0) - canvas.origin) / 1.5).astype(int)
            assert holes[inside[0], inside[1]] not in (0, outside)
            assert count >= 2


def test_a_wedge_fracture_lowers_the_front_and_compacts_the_bone(grow: Grow, scan_bodies: Scan) -> None:
    found = 0
    for seed in range(12):
        anatomy = grow(seed, Variant.WEDGE_FRACTURE)
        broken = [v for v in anatomy.vertebrae if v.fracture]
        assert len(broken) == 1
        v = broken[0]
        assert 0.25 <= v.fracture <= 0.45
        if v.level not in (L.L1, L.L2) or found == 2:
            continue
        found += 1
        whole = grow(seed).vertebra(v.level)
        canvas = Canvas(v.centre - 30, (1.0,) * 3, (61,) * 3)
        u, y, w = v.local(canvas.positions(ALL))
        inside = anatomy.body_distance(v, canvas.positions(ALL)) < 0

        def height(at: float, u: Tensor = u, y: Tensor = y, w: Tensor = w, inside: Tensor = inside) -> float:
            column = inside & (u.abs() < 3) & ((y - at).abs() < 1.5)
            return float(w[column].max() - w[column].min())

        front, back = height(0.75 * v.front), height(-0.75 * v.back)
        assert front < 0.9 * back  # a dished plate takes up to a tenth of the height
        assert front < 0.85 * whole.height
        assert back > 0.75 * whole.height
        assert v.trabecular_density == pytest.approx(v.density * (1 + 0.5 * v.fracture))
        ct = scan_bodies(anatomy)
        # the collapsed body is thin: its lower half is bone for certain
        middle = central(ct, v) & (frame_coordinates(ct, v)[2] < 0) & (frame_coordinates(ct, v)[1] < 0)
        assert np.median(ct.hu[middle]) == pytest.approx(ct.true_hu(v.level), rel=0.1)
        assert ct.true_hu(v.level) > float(ct.palette.bone(v.density)) + 5
    assert found


def test_cement_and_screws_are_bright(grow: Grow) -> None:
    plain, cemented, screwed = grow(5), grow(5, Variant.CEMENT), grow(5, Variant.SCREWS)

    def brightest(anatomy: Anatomy) -> tuple[float, int]:
        canvas = Canvas((-45, -60, 0), (3.0,) * 3, (30, 36, 70))
        anatomy.paint_hard(canvas, CTPalette(120.0))
        return float(canvas.value.max()), int((canvas.value > 2500).sum())

    value, metal = brightest(plain)
    assert value < 1600
    assert metal == 0
    cement, _ = brightest(cemented)
    assert 1000 < cement < 2500
    titanium, metal = brightest(screwed)
    assert titanium > 3071
    assert metal > 50


def test_osteophytes_widen_the_rim_alone(grow: Grow) -> None:
    ratio = [
        body_volume_ml(grow(seed, Variant.OSTEOPHYTES), L.L2) / body_volume_ml(grow(seed), L.L2) for seed in range(6)
    ]
    assert 1.0 < np.mean(ratio) < 1.15


def test_the_trunk_follows_the_weight(man: Anatomy, grow: Grow) -> None:
    people = [grow(seed) for seed in range(8)]
    bmi = [a.person.weight_kg / (a.person.height_cm / 100) ** 2 for a in people]
    assert np.corrcoef(bmi, [a.half_depth for a in people])[0, 1] > 0.8
    assert all(115 <= a.half_width <= 240 and 80 <= a.half_depth <= 190 for a in people)
    # the column lies in the back half of the trunk, whose section follows the column
    canvas = Canvas(man.vertebra(L.L1).centre - [2, 150, 0], (4.0,) * 3, (1, 120, 1))
    man.paint_soft(canvas, CTPalette(120.0))
    trunk = np.flatnonzero(canvas.value[0, :, 0].numpy() > -300) * 4.0 - 150
    assert 45 < -trunk.min() < trunk.max()


# --- random fields --------------------------------------------------------------------------------------------------


def test_noise_is_a_field_of_its_seed() -> None:
    x = torch.linspace(-200, 200, 4000)
    p = (x, 0.3 * x, -x)
    assert torch.equal(Noise(3)(p, 4.0), Noise(3)(p, 4.0))
    assert not torch.equal(Noise(3)(p, 4.0), Noise(4)(p, 4.0))
    # at its nodes the variance is one, and a small step changes it little
    nodes = torch.arange(46.0)
    a, b, c = torch.meshgrid(nodes, nodes, nodes, indexing="ij")
    assert Noise(1)((a, b, c), 1.0).std().item() == pytest.approx(1, rel=0.02)
    assert (Noise(3)(p, 40.0) - Noise(3)((p[0] + 0.1, p[1] + 0.1, p[2] + 0.1), 40.0)).abs().max() < 0.1


# --- painting -------------------------------------------------------------------------------------------------------


def test_leaving_out_what_a_shape_does_not_reach_changes_nothing(
    grow: Grow, scan_bodies: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    anatomy = grow(3, Variant.WEDGE_FRACTURE)
    quick = scan_bodies(anatomy)
    monkeypatch.setattr(
        "osteo_monai.virtual.anatomy.shapes._painted",
        lambda canvas, box, distance: (box, canvas.positions(box), distance),
    )
    whole = scan_bodies(anatomy)
    np.testing.assert_array_equal(quick.hu, whole.hu)
    np.testing.assert_array_equal(quick.labels, whole.labels)


def test_reach_along_z_holds_the_body(man: Anatomy, clean: VirtualCT) -> None:
    for level in (L.L1, L.L2):
        v = man.vertebra(level)
        z = clean.affine[2, 3] + clean.affine[2, 2] * np.flatnonzero((clean.labels == level.label).any((0, 1)))
        assert v.centre[2] - v.reach_z < z.min()
        assert z.max() < v.centre[2] + v.reach_z
        assert v.reach_z < 0.5 * v.height + 12


@pytest.mark.parametrize(
    ("seed", "variants", "areal", "shapes"),
    [
        (1, (), 0.845403, 494),
        (2, ("osteophytes", "wedge_fracture", "scoliosis", "lumbarised"), 1.322910, 513),
        (3, ("cement", "screws", "thirteen_ribs"), 0.829821, 505),
        (4, ("eleven_ribs", "osteophytes"), 0.856488, 458),
    ],
)
def test_bodies_stay_what_they_were(seed: int, variants: tuple[str, ...], areal: float, shapes: int) -> None:
    """Cohorts that exist were made from these bodies: the bodies are those of release 0.2."""
    anatomy = Anatomy(draw_person(seed, variants=frozenset(Variant(v) for v in variants)))
    assert len(anatomy.shapes) == shapes
    assert projected_density(anatomy) == pytest.approx(areal, abs=2e-6)


def textured_ball(value: Value, **keywords: object) -> Shape:
    """A ball of radius 6 about the origin with ``value``."""
    return Shape(
        (-6.0,) * 3,
        (6.0,) * 3,
        lambda p: (p[0] ** 2 + p[1] ** 2 + p[2] ** 2).sqrt() - 6.0,
        value,
        7,
        **keywords,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("posed", [False, True])
@pytest.mark.parametrize("shell", [False, True])
def test_a_texture_is_painted_like_any_value_but_computed_where_visible_only(posed: bool, shell: bool) -> None:
    counts: list[int] = []

    def value(palette: Palette, p: Positions, d: Tensor) -> Tensor:
        counts.append(d.numel())
        return 10 * p[0] + p[1] * p[2] + d

    painted = []
    keywords = {"shell": (1.0, lambda palette, p, d: 900.0)} if shell else {}
    for made in (value, Texture(value)):
        canvas = Canvas((-9, -9, -9), (1, 1, 1), (19, 19, 19), pose=np.eye(4) if posed else None, softness=1.0)
        paint_shapes(canvas, CTPalette(120.0), [textured_ball(made, **keywords)])
        painted.append(canvas)
    assert torch.equal(painted[0].value, painted[1].value)
    assert torch.equal(painted[0].label, painted[1].label)
    assert counts[1] < 0.75 * counts[0]


def test_a_hidden_part_of_a_texture_is_not_computed() -> None:
    counts: list[int] = []

    def value(palette: Palette, p: Positions, d: Tensor) -> Tensor:
        counts.append(d.numel())
        return 10 * p[0] + d

    def later(p: Positions) -> Tensor:
        return (p[0] + 0 * p[1] + 0 * p[2]) - 2.0

    cover = Shape((-6.0,) * 3, (6.0,) * 3, later, lambda palette, p, d: 55.0)
    painted = []
    for hidden in (None, later):
        canvas = Canvas((-9, -9, -9), (1, 1, 1), (19, 19, 19), softness=1.0)
        paint_shapes(canvas, CTPalette(120.0), [textured_ball(Texture(value), hidden=hidden), cover])
        painted.append(canvas.value)
    torch.testing.assert_close(painted[0], painted[1], atol=1e-3, rtol=0)
    assert counts[1] < 0.6 * counts[0]
