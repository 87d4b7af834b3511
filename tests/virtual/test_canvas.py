"""The grid and its shapes, against distances and fractions that can be worked by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from osteo_monai.virtual.canvas import Canvas, capsule, chain, ellipsoid, shared, smooth_max, smooth_min

ALL = (slice(None),) * 3


def point(x: float, y: float, z: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([x]), torch.tensor([y]), torch.tensor([z])


def ball(canvas: Canvas, centre: tuple[float, float, float], radius: float) -> Tensor:
    x, y, z = canvas.positions(ALL)
    return ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).sqrt() - radius


def test_positions_and_box_of_a_plain_grid() -> None:
    canvas = Canvas((-10, 0, 100), (2, 1, 5), (11, 20, 8))
    x, y, z = canvas.positions(ALL)
    assert (x.shape, y.shape, z.shape) == ((11, 1, 1), (1, 20, 1), (1, 1, 8))
    assert tuple(axis.flatten()[-1].item() for axis in (-x.flip(0), x, y, z)) == (10, 10, 19, 135)
    box = canvas.box((-1, 5, 112), (3, 6, 118))
    assert box is not None
    # voxels -1..3 mm along x are 5 (0 mm) and 6 (2 mm); the box may be a little larger, but not much
    for part, first, last in zip(box, (5, 5, 3), (6, 6, 3), strict=True):
        assert part.start <= first <= last < part.stop
        assert part.stop - part.start <= last - first + 5
    assert canvas.box((30, 0, 100), (40, 5, 110)) is None


def test_many_boxes_are_each_ones_own() -> None:
    canvas = Canvas((0, 0, 0), (1, 1, 1), (20, 20, 20))
    low, high = np.array([[2.0, 2, 2], [50, 50, 50], [-9, -9, -9]]), np.array([[5.0, 6, 7], [60, 60, 60], [99, 99, 99]])
    assert canvas.boxes(low, high) == [canvas.box(a, b) for a, b in zip(low, high, strict=True)]
    assert canvas.box(low[2], high[2]) == (slice(0, 20),) * 3


@pytest.mark.parametrize("posed", [False, True])
@pytest.mark.parametrize("warped", [False, True])
def test_box_holds_all_of_a_shape(posed: bool, warped: bool) -> None:
    pose = None
    if posed:
        c, s = math.cos(0.7), math.sin(0.7)
        pose = np.array([[1.2 * c, -1.2 * s, 0, 4], [1.2 * s, 1.2 * c, 0, -7], [0, 0, 1.2, 3], [0, 0, 0, 1]])
    warp = (lambda p: p + 3 * torch.sin(p.flip(0) / 9)) if warped else None
    canvas = Canvas((-30, -30, -30), (1.5, 2, 2.5), (40, 30, 24), pose=pose, warp=warp, reach=3 if warped else 0)
    for centre in ((5.0, -3.0, 8.0), (-12.0, 9.0, -10.0), (0.0, 0.0, 25.0)):
        distance = ball(canvas, centre, 7)
        covered = torch.nonzero(canvas.coverage(distance) > 0)
        box = canvas.box(np.array(centre) - 7, np.array(centre) + 7)
        assert len(covered) > 50
        assert box is not None
        for axis in range(3):
            assert box[axis].start <= covered[:, axis].min()
            assert covered[:, axis].max() < box[axis].stop


def test_box_includes_edges_displacements_and_turns() -> None:
    def covered_within_box(distance: Tensor, canvas: Canvas, low: tuple[float, ...], high: tuple[float, ...]) -> bool:
        covered = canvas.coverage(distance.expand(canvas.shape)) > 0
        box = canvas.box(low, high)
        assert box is not None
        assert covered.any()
        return bool(covered[box].sum() == covered.sum())

    grid: dict[str, Any] = {"origin": (-30, -30, -30), "spacing": (1, 1, 1), "shape": (61, 61, 61)}
    # an edge of 9 mm reaches 4.5 mm beyond the surface
    soft = Canvas(**grid, softness=9.0)
    assert covered_within_box(ball(soft, (0, 0, 0), 8.0), soft, (-8, -8, -8), (8, 8, 8))
    moved = Canvas(**grid, warp=lambda p: p + 7.0, reach=7.0)
    assert covered_within_box(ball(moved, (0, 0, 0), 8.0), moved, (-8, -8, -8), (8, 8, 8))
    # a rod along x that a pose turns by 45 degrees reaches as far along y
    c = math.sqrt(0.5)
    turned = Canvas(**grid, pose=np.array([[c, -c, 0, 0], [c, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    rod = capsule(turned.positions(ALL), (-20, 0, 0), (20, 0, 0), 2.0)
    assert covered_within_box(rod, turned, (-22, -2, -2), (22, 2, 2))


def test_pose_maps_canvas_to_shape() -> None:
    pose = np.eye(4)
    pose[:3, 3] = (10, 0, -5)
    x, y, z = Canvas((0, 0, 0), (1, 1, 1), (3, 3, 3), pose=pose).positions(ALL)
    assert (x[1, 0, 0].item(), y[0, 2, 0].item(), z[0, 0, 1].item()) == (11, 2, -4)


def test_coverage_of_a_half_plane_is_the_fraction_of_the_voxel() -> None:
    canvas = Canvas((0, 0, 0), (2, 2, 1), (6, 3, 2), background=0.0)
    x, _, _ = canvas.positions(ALL)
    # the surface at 4.5 mm: the voxel about 4 mm reaches from 3 to 5, three quarters of it are inside
    canvas.paint(ALL, (x - 4.5).expand(canvas.shape), 100.0, 7)
    assert canvas.value[:, 1, 1].tolist() == pytest.approx([100, 100, 75, 0, 0, 0])
    assert canvas.label[:, 1, 1].tolist() == [7, 7, 7, 0, 0, 0]


def test_painting_blends_erases_and_leaves_the_rest() -> None:
    canvas = Canvas((0, 0, 0), (1, 1, 1), (8, 8, 8), background=-1000.0)
    canvas.paint(ALL, torch.full(canvas.shape, -5.0), 50.0, 3)
    canvas.paint(None, torch.zeros(1), 999.0, 9)
    part = (slice(2, 4), slice(2, 4), slice(2, 4))
    canvas.paint(part, torch.full((2, 2, 2), -5.0), torch.full((2, 2, 2), 7.0), 0)
    canvas.paint(part, torch.full((2, 2, 2), 5.0), 1e6, 200)
    assert (canvas.value == 7).sum() == (canvas.label == 0).sum() == 8
    assert (canvas.value == 50).sum() == (canvas.label == 3).sum() == 504


def test_volume_of_a_ball() -> None:
    canvas = Canvas((-12, -12, -12), (1, 1, 1), (25, 25, 25), background=0.0)
    canvas.paint(ALL, ball(canvas, (0.3, -0.2, 0.4), 9.0), 1.0, 1)
    exact = 4 / 3 * math.pi * 9**3
    assert canvas.value.sum().item() == pytest.approx(exact, rel=0.005)
    assert (canvas.label > 0).sum().item() == pytest.approx(exact, rel=0.02)


def test_a_plate_across_long_voxels_keeps_its_mass() -> None:
    """A plate of 0.9 mm in slices of 3 mm, tilted or not: the painted mass is that of the plate, without steps."""
    canvas = Canvas((-20, -20, -15), (1, 1, 3), (41, 41, 11), background=0.0)
    x, y, z = canvas.positions(ALL)
    for tilt in (0.0, 0.2, 0.6):
        canvas.value[:] = 0.0
        norm = math.sqrt(1 + tilt * tilt)
        distance = (z - 0.7 - tilt * x + 0 * y) / norm
        canvas.paint_shell(ALL, distance, 0.9, 100.0, 0.0)
        inner = canvas.value[4:-4]  # where a tilted plate has not left through the ends
        assert inner.max() < 50  # no voxel is all shell: the plate is thinner than a voxel
        # mass of a line along z through the plate, whose length there is 0.9 mm times the norm
        assert (inner.sum(2) * 3).mean().item() == pytest.approx(90 * norm, rel=0.03)
        assert (inner.sum(2) * 3).std().item() < 0.12 * 90


@pytest.mark.parametrize("softness", [0.5, 2.0, 4.0])
def test_a_thin_shell_keeps_its_mass_at_any_softness(softness: float) -> None:
    canvas = Canvas((-20, 0, 0), (0.25, 1, 1), (161, 1, 1), background=0.0, softness=softness)
    x = canvas.positions(ALL)[0]
    canvas.paint_shell(ALL, x, 0.8, 1000.0, 100.0, 5)
    # left of zero: 20 mm of core, of which the shell takes 0.8 mm
    assert (canvas.value.sum() * 0.25).item() == pytest.approx(1000 * 0.8 + 100 * (20.0 - 0.8), rel=0.01)
    assert (canvas.label[:, 0, 0] == 5).sum() == 80


def test_a_warp_bends_value_and_label_alike() -> None:
    def shift(p: Tensor) -> Tensor:
        return p + torch.tensor([3.0, 0, -2.0])[:, None, None, None]

    plain, warped = (
        Canvas((-15, -15, -15), (1, 1, 1), (31, 31, 31), background=0.0, warp=w, reach=3) for w in (None, shift)
    )
    for canvas in (plain, warped):
        canvas.paint(ALL, ball(canvas, (0, 0, 0), 8.0).expand(canvas.shape), 100.0, 4)
    for before, after in ((plain.value, warped.value), (plain.label, warped.label)):
        assert torch.equal(after, torch.roll(before, (-3, 0, 2), (0, 1, 2)))


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4), (4, 4, 4, 4)])
def test_a_canvas_needs_three_sides(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape must be three positive integers, got \("):
        Canvas((0, 0, 0), (1, 1, 1), shape)


@pytest.mark.parametrize(
    ("at", "expected"),
    [((0, 0, 5), -2.0), ((3, 4, 5), 3.0), ((0, 0, -6), 4.0), ((0, 0, 13), 1.0), ((0, 2, 10), 0.0)],
)
def test_distance_to_a_rod(at: tuple[float, float, float], expected: float) -> None:
    assert capsule(point(*at), (0, 0, 0), (0, 0, 10), 2.0).item() == pytest.approx(expected, abs=1e-5)


def test_a_rod_may_taper_stretch_and_shrink_to_a_ball() -> None:
    # half-way the radius is 3
    assert capsule(point(5, 0, 5), (0, 0, 0), (0, 0, 10), 2.0, 4.0).item() == pytest.approx(2.0)
    # twice as thick along x: 4 mm out is the surface there, and 2 mm out along y
    wide: dict[str, Any] = {"radius": 2.0, "stretch": (2.0, 1.0, 1.0)}
    assert capsule(point(4, 0, 5), (0, 0, 0), (0, 0, 10), **wide).item() == pytest.approx(0.0)
    assert capsule(point(0, 2, 5), (0, 0, 0), (0, 0, 10), **wide).item() == pytest.approx(0.0)
    assert capsule(point(0, 3, 4), (0, 0, 0), (0, 0, 0), 2.0).item() == pytest.approx(3.0)


def test_distance_to_an_ellipsoid() -> None:
    centre, radii = (1.0, 2.0, 3.0), (10.0, 5.0, 2.0)
    for surface in ((11, 2, 3), (1, 7, 3), (1, 2, 1), (1 + 10 * 0.6, 2 + 5 * 0.8, 3)):
        assert ellipsoid(point(*surface), centre, radii).item() == pytest.approx(0.0, abs=1e-5)
    assert ellipsoid(point(1, 2, 3.1), centre, radii).item() < 0
    # a sphere's distance is exact
    assert ellipsoid(point(0, 3, 4), (0, 0, 0), (2, 2, 2)).item() == pytest.approx(3.0)
    # near the surface the gradient is one: 0.1 mm out along the shortest axis
    assert ellipsoid(point(1, 2, 5.1), centre, radii).item() == pytest.approx(0.1, abs=0.01)


def test_smooth_union_and_intersection() -> None:
    a, b = torch.tensor([0.0, 5.0, -3.0]), torch.tensor([0.0, -5.0, 9.0])
    # at the crease the polynomial adds a quarter of the radius; a radius away it adds nothing
    assert smooth_max(a, b, 4.0).tolist() == [1.0, 5.0, 9.0]
    assert smooth_min(a, b, 4.0).tolist() == [-1.0, -5.0, -3.0]
    x = torch.linspace(-6, 6, 50)
    assert torch.allclose(smooth_max(x, -x, 1e-4), x.abs(), atol=1e-4)
    assert torch.equal(smooth_min(x, -x, 2.0), -smooth_max(-x, x, 2.0))


@pytest.mark.parametrize("voxels", [(5, 4, 3), (60, 40, 30)])
def test_a_chain_is_the_union_of_its_rods(voxels: tuple[int, int, int]) -> None:
    """The small grid is computed in one pass, the large one rod by rod."""
    rng = np.random.default_rng(3)
    points, radius = rng.uniform(-20, 20, (6, 3)), rng.uniform(1, 6, 6)
    points[3] = points[2]  # a rod without length is a ball
    canvas = Canvas((-25, -25, -25), (50 / voxels[0], 50 / voxels[1], 50 / voxels[2]), voxels, pose=np.eye(4))
    p = canvas.positions(ALL)
    stretch = (1.25, 1.0, 0.8)
    rods = [
        capsule(p, points[i].tolist(), points[i + 1].tolist(), float(radius[i]), float(radius[i + 1]), stretch)
        for i in (0, 1, 3, 4)
    ]
    ball_distance = capsule(p, points[2].tolist(), points[3].tolist(), float(radius[2]), float(radius[3]), stretch)
    expected = torch.stack([*rods, ball_distance]).amin(0)
    assert torch.equal(chain(p, points, radius, stretch), expected)


def test_a_chain_on_a_plain_grid() -> None:
    canvas = Canvas((-10, -10, -10), (2, 2, 2), (11, 11, 11))
    p = canvas.positions(ALL)
    got = chain(p, np.array([[-6.0, 0, 0], [6, 0, 0], [6, 6, 0]]), np.array([2.0, 2, 2]))
    assert got.shape == canvas.shape
    x, y, z = torch.meshgrid(*canvas.axes, indexing="ij")
    along_x = ((x - x.clamp(-6, 6)) ** 2 + y**2 + z**2).sqrt() - 2
    along_y = ((x - 6) ** 2 + (y - y.clamp(0, 6)) ** 2 + z**2).sqrt() - 2
    torch.testing.assert_close(got, torch.minimum(along_x, along_y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("posed", [False, True])
def test_a_shared_result_is_computed_once_and_cut_to_each_box(posed: bool) -> None:
    canvas = Canvas((0, 0, 0), (1, 1, 1), (6, 5, 4), pose=np.eye(4) if posed else None)
    calls = []

    def radius(p: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        calls.append(1)
        return (p[0] ** 2 + p[1] ** 2 + p[2] ** 2).sqrt()

    for box in ((slice(1, 3), slice(0, 5), slice(2, 4)), (slice(0, 6), slice(1, 2), slice(0, 1))):
        p = canvas.positions(box)
        expected = (p[0] ** 2 + p[1] ** 2 + p[2] ** 2).sqrt()
        assert torch.equal(shared(p, radius), expected)
    assert len(calls) == 1
    assert shared(point(3, 4, 0), radius).item() == 5.0  # positions of no canvas


def test_a_shared_result_belongs_to_one_canvas() -> None:
    def first(p: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return p[0] + 0 * p[1] + 0 * p[2]

    near, far = (Canvas((x, 0, 0), (1, 1, 1), (2, 2, 2)) for x in (0, 100))
    assert shared(near.positions(ALL), first)[0, 0, 0] == 0
    assert shared(far.positions(ALL), first)[0, 0, 0] == 100
