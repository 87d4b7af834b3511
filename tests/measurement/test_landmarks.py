"""Ribs, transverse processes and the sacrum as witnesses of names: on drawn bones, and on real scans."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import ContrastPhase, VertebraLevel
from osteo_monai.imaging import read_ct
from osteo_monai.measurement.landmarks import (
    MAX_LOG_LIKELIHOOD,
    ROLES,
    BodyLandmarks,
    LateralBone,
    Role,
    describe_last_rib,
    role_log_likelihoods,
    trace_landmarks,
)
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, acquire
from osteo_monai.virtual.person import Variant, draw_person

MUSCLE, BONE = 50.0, 420.0
FINE, THICK = (1.1, 1.1, 1.5), (1.0, 1.0, 5.0)
VIEW = ((-135.0, 135.0), (-75.0, 45.0), (-110.0, 75.0))
T12_RIB = [(20.0, -20.0, 42.0), (45.0, -36.0, 22.0), (85.0, -36.0, -15.0)]
"""Centre line of the right last rib in the person below, mm from L1: reaches 85 mm, 74 mm long."""
T11_RIB = [(20.0, -20.0, 72.0), (60.0, -40.0, 45.0), (110.0, -30.0, -15.0), (130.0, 0.0, -60.0)]


@dataclass(frozen=True)
class Place:
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]


def places(
    centres: NDArray[np.float64] | Sequence[tuple[float, float, float]] | Sequence[NDArray[np.float64]],
) -> list[Place]:
    """Bodies at these centres, from the lowest up; their axes run along the line through the centres."""
    centres = np.asarray(centres, dtype=float)
    ups = np.gradient(centres, axis=0)

    def point(at: NDArray[np.float64]) -> tuple[float, float, float]:
        return float(at[0]), float(at[1]), float(at[2])

    return [Place(point(c), point(c + 0.43 * up), point(c - 0.43 * up)) for c, up in zip(centres, ups, strict=True)]


class Scan:
    """HU on a grid, into which bones are drawn with partial volume; mm about the middle of L1."""

    def __init__(
        self,
        spacing: tuple[float, float, float] = FINE,
        view: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] = VIEW,
        turn_degrees: float = 0.0,
        seed: int = 0,
    ) -> None:
        shape = [round((high - low) / s) for (low, high), s in zip(view, spacing, strict=True)]
        angle = np.radians(turn_degrees)
        turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        self.affine = np.eye(4)
        self.affine[:3, :3] = turn * np.array(spacing)
        middle = np.array([np.mean(w) for w in view])
        self.affine[:3, 3] = middle - self.affine[:3, :3] @ (np.array(shape) - 1) / 2
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        self.points = (index @ self.affine[:3, :3].T + self.affine[:3, 3]).astype(np.float32)
        self.blur = np.array(spacing) / 2
        self.hu = np.random.default_rng(seed).normal(MUSCLE, 15.0, shape).astype(np.float32)

    def fill(self, depth: np.ndarray, hu: float) -> None:
        """Set what is inside (depth in mm above 0) to ``hu``; the border is as soft as a voxel."""
        share = np.clip(depth / max(1.0, float(self.blur.mean())) + 0.5, 0.0, 1.0)
        self.hu = (self.hu * (1 - share) + hu * share).astype(np.float32)

    def rod(self, line: list[tuple[float, float, float]], radius: float, hu: float = BONE) -> None:
        distance = np.full(self.hu.shape, np.inf, dtype=np.float32)
        for a, b in itertools.pairwise(np.asarray(line, dtype=np.float32)):
            along = np.clip((self.points - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
            distance = np.minimum(distance, np.linalg.norm(self.points - a - along[..., None] * (b - a), axis=-1))
        self.fill(radius - distance, hu)

    def ball(self, centre: tuple[float, float, float], radii: tuple[float, float, float], hu: float) -> None:
        relative = np.linalg.norm((self.points - np.array(centre)) / np.array(radii), axis=-1)
        self.fill((1 - relative) * min(radii), hu)

    def trunk(self, centres: list[tuple[float, float, float]]) -> None:
        """Bodies of 46 by 34 by 26 mm with a shell of cortex, and their arches."""
        for centre in np.asarray(centres, dtype=float):
            x, y, z = np.moveaxis(self.points - centre.astype(np.float32), -1, 0)
            inside = np.minimum(17 * (1 - np.hypot(x / 23, y / 17)), 13 - np.abs(z))
            self.fill(inside, 500.0)
            self.fill(inside - 2.0, 150.0)
            self.fill(np.minimum(22 - np.abs(x), np.minimum(6 - np.abs(y + 34), 9 - np.abs(z))), 400.0)

    def traced(
        self, centres: NDArray[np.float64] | list[tuple[float, float, float]], scale: float = 1.0
    ) -> list[BodyLandmarks]:
        return trace_landmarks(self.hu, self.affine, places(centres), scale)


PITCH = 32.0
SPINE = [(0.0, 0.0, PITCH * k) for k in (-2, -1, 0, 1)]
"""L3, L2, L1, T12."""


def mirrored(line: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(-x, y, z) for x, y, z in line]


def process(z: float, reach: float) -> list[tuple[float, float, float]]:
    """A right transverse process that starts a little above the middle of the body."""
    return [(18.0, -26.0, z + 4), (reach - 3.0, -30.0, z + 4)]


def person(spacing: tuple[float, float, float] = FINE, **view: Any) -> Scan:
    """T12 to L3 with last ribs on T12 and processes below."""
    scan = Scan(spacing, **view)
    scan.trunk(SPINE)
    for side in (list, mirrored):
        scan.rod(side(T12_RIB), 4.0)
        scan.rod(side(T11_RIB), 6.0)
        for z, reach in ((0.0, 40.0), (-PITCH, 44.0), (-2 * PITCH, 46.0)):
            scan.rod(side(process(z, reach)), 4.0)
    return scan


def favoured(landmarks: BodyLandmarks) -> str:
    odds = role_log_likelihoods(landmarks)
    usual: tuple[Role, ...] = ("ribbed", "last_ribbed", "lumbar", "last_lumbar")
    return max(usual, key=odds.__getitem__)


@pytest.fixture(scope="module")
def seen() -> list[BodyLandmarks]:
    return person().traced(SPINE)


@pytest.mark.parametrize("spacing", [FINE, (0.7, 0.7, 2.5), THICK])
def test_last_rib_is_followed_to_its_end_on_both_sides(spacing: tuple[float, float, float]) -> None:
    t12 = person(spacing).traced(SPINE)[3]
    for bone in (t12.right, t12.left):
        assert bone is not None
        assert bone.reach_mm == pytest.approx(89, abs=4)  # the rod's end is round, radius 4
        assert bone.descent_mm == pytest.approx(51, abs=7)  # from where it leaves the column, 27 mm beside the axis
        assert bone.length_mm == pytest.approx(90, abs=9)  # 33 + 54 mm of centre line, and half the round end
        assert bone.thickness_mm == pytest.approx(9.5, abs=2)  # above a threshold below half of the bone
        assert not bone.open_end
        assert bone.belonging > 0.9
    assert favoured(t12) == "last_ribbed"


def test_process_is_short_and_level(seen: list[BodyLandmarks]) -> None:
    for found, reach in zip(seen[:3], (46, 44, 40), strict=True):
        for bone in (found.right, found.left):
            assert bone is not None
            assert bone.reach_mm == pytest.approx(reach, abs=3)
            assert abs(bone.descent_mm) < 4
        odds = role_log_likelihoods(found)
        assert odds["ribbed"] < -2 < odds["lumbar"]


def test_short_stub_is_a_process_sooner_than_a_rudimentary_rib(seen: list[BodyLandmarks]) -> None:
    odds = role_log_likelihoods(seen[2])
    assert 2.0 < odds["lumbar"] - odds["last_ribbed"] < 3.5  # one rib in 7 to 30 is rudimentary


def test_right_is_where_x_grows() -> None:
    scan = Scan()
    scan.trunk(SPINE)
    scan.rod(T12_RIB, 4.0)
    t12 = scan.traced(SPINE)[3]
    assert t12.right is not None
    assert t12.right.side == "right"
    assert t12.left is None
    assert t12.left_in_view


def test_each_side_votes() -> None:
    scan = Scan()
    scan.trunk(SPINE)
    one = scan
    one.rod(T12_RIB, 4.0)
    single = role_log_likelihoods(one.traced(SPINE)[3])
    one.rod(mirrored(T12_RIB), 4.0)
    both = role_log_likelihoods(one.traced(SPINE)[3])
    assert both["last_ribbed"] - both["lumbar"] > single["last_ribbed"] - single["lumbar"] > 1


def test_narrow_view_says_nothing_of_ribs() -> None:
    narrow = person(view=((-40.0, 40.0), VIEW[1], VIEW[2])).traced(SPINE)
    for found in narrow:
        assert not found.right_in_view
        assert not found.left_in_view
        odds = role_log_likelihoods(replace(found, sacrum_below=None))
        assert max(abs(v) for v in odds.values()) == 0 or found.right is not None
    assert role_log_likelihoods(narrow[3])["ribbed"] > -1  # a rib that the border cuts may be any


def test_rib_cut_by_the_scan_has_an_open_end() -> None:
    cut = person(view=((-60.0, 135.0), VIEW[1], VIEW[2])).traced(SPINE)[3]
    assert cut.left is not None
    assert cut.left.leaves_view
    assert cut.right is not None
    assert not cut.right.leaves_view
    assert cut.left.length_mm < cut.right.length_mm - 15
    assert "left at least" in describe_last_rib(cut, "T12")


def test_rib_cut_by_a_round_field_of_view_has_an_open_end() -> None:
    scan = person()
    scan.hu[np.hypot(scan.points[..., 0], scan.points[..., 1] + 10) > 68] = -1024.0
    t12 = scan.traced(SPINE)[3]
    for bone in (t12.right, t12.left):
        assert bone is not None
        assert bone.reach_mm == pytest.approx(64, abs=6)
        assert bone.leaves_view
    odds = role_log_likelihoods(t12)
    assert odds["ribbed"] >= odds["last_ribbed"]


def test_enhanced_kidney_is_no_rib() -> None:
    scan = person()
    for side in (1, -1):
        scan.ball((side * 62.0, -18.0, -10.0), (26.0, 22.0, 48.0), 220.0)  # touches the processes and the last ribs
    found = scan.traced(SPINE)
    for lumbar in found[:3]:
        odds = role_log_likelihoods(lumbar)
        assert odds["ribbed"] - odds["lumbar"] < 0.1
        for bone in (lumbar.right, lumbar.left):
            assert bone is None or bone.reach_mm < 55
    assert favoured(found[3]) == "last_ribbed"
    for bone in (found[3].right, found[3].left):
        assert bone is not None
        assert bone.reach_mm == pytest.approx(89, abs=6)


def test_osteophyte_is_no_process() -> None:
    scan = Scan()
    scan.trunk(SPINE)
    scan.rod([(15.0, 5.0, 14.0), (38.0, 5.0, 16.0)], 5.0)
    l1 = scan.traced(SPINE)[2]
    assert l1.right is None
    assert l1.right_in_view


def test_calcified_vessel_beside_the_column_is_no_rib() -> None:
    scan = Scan()
    scan.trunk(SPINE)
    scan.rod([(-34.0, 12.0, 60.0), (-38.0, 14.0, -60.0)], 9.0, 350.0)
    assert all(found.left is None for found in scan.traced(SPINE))


def test_oblique_rib_is_followed_back_to_its_vertebra() -> None:
    # It crosses 27 mm beside the axis half-way between T12 and L1, and points at T12.
    scan = Scan()
    scan.trunk(SPINE)
    line = [(17.0, -24.0, 28.0), (27.0, -28.0, 18.0), (80.0, -36.0, -34.0)]
    scan.rod(line, 3.5)
    found = scan.traced(SPINE)
    assert found[3].right is not None
    assert found[3].right.length_mm > 70
    assert found[2].right is None
    assert not found[2].right_in_view  # so near to another's rib, L1 is not said to have none


@pytest.mark.parametrize("size", [0.85, 1.15])
def test_size_of_the_person_is_taken_off(size: float, seen: list[BodyLandmarks]) -> None:
    scan = person()
    scan.affine = np.diag([size, size, size, 1.0]) @ scan.affine
    found = scan.traced(size * np.array(SPINE), scale=size)
    for small, normal in zip(found, seen, strict=True):
        ours, theirs = role_log_likelihoods(small), role_log_likelihoods(normal)
        assert favoured(small) == favoured(normal) or abs(ours["lumbar"] - ours["last_ribbed"]) < 0.6
        assert ours["last_ribbed"] == pytest.approx(theirs["last_ribbed"], abs=0.8)


def test_oblique_grid_gives_the_same_ribs(seen: list[BodyLandmarks]) -> None:
    turned = person(turn_degrees=8.0, view=((-140.0, 140.0), VIEW[1], (-125.0, 90.0))).traced(SPINE)
    for ours, theirs in zip(turned, seen, strict=True):
        assert ours.right is not None
        assert theirs.right is not None
        assert ours.right.length_mm == pytest.approx(theirs.right.length_mm, abs=6)


def sacrum(scan: Scan, top: float) -> None:
    """Wings, iliac bones and a sacrum that turns backwards, its base at z ``top``."""
    x, y, z = np.moveaxis(scan.points, -1, 0)
    below = top - z
    scan.fill(np.minimum.reduce([23 - np.abs(x), 17 - np.abs(y + 0.9 * below), below, 45 - below]), 250.0)
    scan.fill(np.minimum.reduce([52 - np.abs(x), 14 - np.abs(y + 22 + 0.5 * below), below + 8, 50 - below]), 260.0)
    scan.fill(np.minimum.reduce([8 - np.abs(np.abs(x) - 58), 30 - np.abs(y + 42), below + 12]), 380.0)


def test_sacrum_is_found_below_the_last_body_alone() -> None:
    scan = Scan(view=(VIEW[0], (-90.0, 45.0), (-150.0, 75.0)))
    scan.trunk(SPINE)
    scan.ball((0.0, 20.0, -120.0), (60.0, 30.0, 30.0), -90.0)  # fat of the pelvis
    sacrum(scan, SPINE[0][2] - 17)
    found = scan.traced(SPINE)
    assert found[0].sacrum_below is not None
    assert found[0].sacrum_below > 0.9
    assert all(f.sacrum_below is not None and f.sacrum_below < 0.1 for f in found[1:])
    assert favoured(found[0]) == "last_lumbar"


def test_sacrum_is_unknown_where_the_scan_ends() -> None:
    ended = person(view=(VIEW[0], VIEW[1], (-2 * PITCH - 14, 75.0))).traced(SPINE)
    assert ended[0].sacrum_below is None
    assert ended[1].sacrum_below is not None


@pytest.mark.parametrize(("phase", "ribs"), [(ContrastPhase.ARTERIAL, 12), (ContrastPhase.NATIVE, 11)])
def test_virtual_person(phase: ContrastPhase, ribs: int) -> None:
    anatomy = Anatomy(draw_person(100, variants=frozenset([Variant.ELEVEN_RIBS] if ribs == 11 else [])))
    bodies = {v.level: v for v in anatomy.vertebrae}
    protocol = CTProtocol(pixel=2.0, matrix=(190, 150), slice_step=2.5, slice_thickness=2.5, phase=phase)
    span = (bodies[VertebraLevel.L4].centre[2] - 20, bodies[VertebraLevel.T10].centre[2])
    scan = acquire(anatomy, protocol, z_range=span)
    levels = [VertebraLevel.L3, VertebraLevel.L2, VertebraLevel.L1, VertebraLevel.T12, VertebraLevel.T11]
    found = dict(
        zip(levels, trace_landmarks(scan.hu, scan.affine, places([bodies[k].centre for k in levels])), strict=True)
    )
    odds = role_log_likelihoods(found[VertebraLevel.T12])
    if ribs == 12:
        assert favoured(found[VertebraLevel.T12]) == "last_ribbed"
        assert odds["lumbar"] < -2
    else:
        assert odds["ribbed"] < -2
        assert odds["lumbar"] > odds["last_ribbed"] - 0.6
    assert role_log_likelihoods(found[VertebraLevel.T11])["lumbar"] < -2
    for level in (VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3):
        assert role_log_likelihoods(found[level])["ribbed"] < -2


def rib(length: float, **kept: Any) -> LateralBone:
    values: dict[str, Any] = {
        "side": "right",
        "reach_mm": 0.8 * length + 5,
        "descent_mm": 0.5 * length,
        "length_mm": length,
    }
    values |= {"volume_cm3": 4.0, "thickness_mm": 8.0, "leaves_view": False, "merges": False, "belonging": 1.0}
    return LateralBone(**(values | kept))


def test_no_observation_decides_and_none_is_flat() -> None:
    nothing = BodyLandmarks(None, None, False, False, None)
    assert role_log_likelihoods(nothing) == dict.fromkeys(ROLES, 0.0)
    for length in (20, 40, 60, 90, 130, 170, 250):
        for sacrum_below in (None, 1e-6, 1 - 1e-6):
            bone = rib(length)
            odds = role_log_likelihoods(BodyLandmarks(bone, replace(bone, side="left"), True, True, sacrum_below))
            assert set(odds) == set(ROLES)
            assert max(map(abs, odds.values())) <= MAX_LOG_LIKELIHOOD


def test_length_tells_the_last_rib_from_the_one_above() -> None:
    gains = []
    for length in (80, 110, 140, 170, 200):
        odds = role_log_likelihoods(BodyLandmarks(rib(length), None, True, False, None))
        gains.append(odds["ribbed"] - odds["last_ribbed"])
    assert gains == sorted(gains)
    assert gains[0] < -1
    assert gains[-1] > 1
    open_end = role_log_likelihoods(BodyLandmarks(rib(80, leaves_view=True), None, True, False, None))
    assert open_end["ribbed"] > open_end["last_ribbed"]  # cut at 80 mm, it may be any rib
    assert open_end["lumbar"] < -1


def test_what_may_be_the_neighbours_counts_less() -> None:
    clear = role_log_likelihoods(BodyLandmarks(rib(90), None, True, False, None))
    doubtful = role_log_likelihoods(BodyLandmarks(rib(90, belonging=0.3), None, True, False, None))
    assert doubtful["last_ribbed"] == pytest.approx(0.3 * clear["last_ribbed"])
    assert doubtful["lumbar"] == pytest.approx(0.3 * clear["lumbar"])


def test_a_process_longer_than_the_next_may_be_a_rib() -> None:
    """Processes grow from L1 to L3: one that is longer than the next lower one raises doubts, a shorter one none."""
    bone = rib(34, descent_mm=2.0)
    seen = BodyLandmarks(bone, replace(bone, side="left"), True, True, None)
    odds = [role_log_likelihoods(replace(seen, longer_mm=d)) for d in (-8.0, 0.0, 6.0, 14.0)]
    gains = [o["supernumerary"] - o["lumbar"] for o in odds]
    assert gains[0] == gains[1]
    assert gains[1] + 1.0 < gains[2] <= gains[3]


@pytest.mark.parametrize(("reach", "longer"), [(40.0, False), (54.0, True)])
def test_bones_are_compared_with_those_of_the_body_below(reach: float, longer: bool) -> None:
    scan = Scan()
    scan.trunk(SPINE)
    for side in (list, mirrored):
        scan.rod(side(T11_RIB), 6.0)
        for z, end in ((PITCH, reach), (0.0, 40.0), (-PITCH, 44.0), (-2 * PITCH, 46.0)):
            scan.rod(side(process(z, end)), 4.0)
    *_, l1, t12 = scan.traced(SPINE)
    assert l1.longer_mm is not None
    assert l1.longer_mm < 0
    assert t12.longer_mm is not None
    assert (t12.longer_mm > 8.0) is longer


def test_sentence_for_the_report() -> None:
    both = BodyLandmarks(rib(98.4), rib(104.8, side="left"), True, True, None)
    assert describe_last_rib(both, "T12") == "T12 carries the last ribs: right 98 mm, left 105 mm"
    one = BodyLandmarks(rib(98.4, leaves_view=True), None, True, False, None)
    assert describe_last_rib(one, "T12") == "T12 carries the last ribs: right at least 98 mm, left not in view"
    none = BodyLandmarks(None, None, True, False, None)
    assert describe_last_rib(none, "T12") == "No rib was seen at T12: right none, left not in view"


def test_bodies_that_cannot_be_traced_are_refused() -> None:
    scan = Scan(spacing=(3.0, 3.0, 3.0))
    assert trace_landmarks(scan.hu, scan.affine, []) == []
    with pytest.raises(ValueError, match="sorted"):
        trace_landmarks(scan.hu, scan.affine, places(SPINE)[::-1])
    with pytest.raises(ValueError, match="bodies must lie in the scan"):
        scan.traced(np.array(SPINE) + [0, 0, 900])


# Real scans: z of the bodies as in truth.json, x and y of the axis read off the scans.
REAL = {
    "lidc0001": {
        "L2": (-19, -39, -308), "L1": (-21, -36, -281), "T12": (-18, -51, -254), "T11": (-13, -58, -228)
    },
    "lidc0002_short_rib": {"L1": (7, -7, -320), "T12": (6, -18, -289), "T11": (2, -26, -259)},
    "lung_bases_5mm": {"L1": (22, -60, -147), "T12": (23, -67, -120), "T11": (22, -77, -93)},
    "abdomen_portal_3mm": {
        "L5": (-7, -111, 148), "L4": (-5, -108, 182), "L3": (-8, -109, 218), "L2": (-10, -116, 254),
        "L1": (-10, -123, 290), "T12": (-10, -126, 321),
    },
    "petct_abdomen_5mm": {
        "L5": (6, 142, -1214), "L4": (7, 142, -1179), "L3": (10, 135, -1144), "L2": (14, 127, -1110),
        "L1": (17, 120, -1077), "T12": (24, 115, -1045),
    },
    "abdomen_arterial": {
        "L5": (6, -126, 1143), "L4": (4, -124, 1175), "L3": (-6, -125, 1210), "L2": (-12, -135, 1242),
        "L1": (-14, -143, 1273),
    },
}  # fmt: skip
SCALES = {"lidc0001": 0.89, "lung_bases_5mm": 0.87, "abdomen_arterial": 0.94}
"""Mean pitch over the average of these levels; about 1 for the others."""


@pytest.fixture(scope="module")
def real(real_data: Path) -> Callable[..., Any]:
    traced = {}

    def trace(name: str) -> dict[str, BodyLandmarks]:
        if name not in traced:
            scan = read_ct(real_data / "ct_real_dev" / name)
            found = trace_landmarks(scan.hu, scan.affine, places(list(REAL[name].values())), SCALES.get(name, 1.0))
            traced[name] = dict(zip(REAL[name], found, strict=True))
        return traced[name]

    return trace


@pytest.mark.parametrize("name", ["lidc0001", "abdomen_portal_3mm", "petct_abdomen_5mm"])
def test_real_last_ribs_name_t12(name: str, real: Callable[..., Any]) -> None:
    found = real(name)
    assert favoured(found["T12"]) == "last_ribbed"
    for bone in (found["T12"].right, found["T12"].left):
        assert bone is not None
        assert bone.reach_mm > 66
        assert not bone.open_end
    odds = role_log_likelihoods(found["L1"])
    assert odds["ribbed"] < -2
    assert odds["last_ribbed"] <= odds["lumbar"]


@pytest.mark.parametrize("name", ["lidc0002_short_rib", "lung_bases_5mm"])
def test_real_rudimentary_ribs_are_uncertain_or_right(name: str, real: Callable[..., Any]) -> None:
    found = real(name)
    odds = role_log_likelihoods(found["T12"])
    # stubs of 25 mm may be processes; a rib of 48 mm is one
    assert odds["last_ribbed"] - odds["lumbar"] > (-3.0 if name == "lidc0002_short_rib" else 0.5)
    assert odds["ribbed"] < -2
    odds = role_log_likelihoods(found["T11"])
    assert odds["ribbed"] > odds["last_ribbed"] + 1  # so that the stubs' body is the last that may carry ribs


@pytest.mark.parametrize("name", ["abdomen_arterial", "abdomen_portal_3mm", "petct_abdomen_5mm"])
def test_real_sacrum_is_found_below_l5(name: str, real: Callable[..., Any]) -> None:
    found = real(name)
    assert favoured(found["L5"]) == "last_lumbar"
    assert found["L5"].sacrum_below > 0.85
    for level in ("L4", "L3", "L2", "L1"):
        assert found[level].sacrum_below < 0.2


def test_real_abdomen_of_another_origin(real_data: Path) -> None:
    folder = real_data / "ct_totalsegmentator_example" / "full"
    image = nib.as_closest_canonical(nib.load(folder / "example_ct.nii.gz"))
    levels = np.asarray(nib.as_closest_canonical(nib.load(folder / "totalseg.nii.gz")).dataobj)
    bodies = np.asarray(nib.as_closest_canonical(nib.load(folder / "totalseg_vertebrae_body.nii.gz")).dataobj) == 1
    centres = [
        nib.affines.apply_affine(image.affine, np.argwhere(bodies & (levels == label)).mean(axis=0))
        for label in range(27, 33)
    ]
    l5, l4, *_, l1, t12 = trace_landmarks(image.get_fdata(dtype=np.float32), image.affine, places(centres))
    assert favoured(t12) == "last_ribbed"
    assert role_log_likelihoods(l1)["ribbed"] < -2
    assert l5.sacrum_below is not None
    assert l4.sacrum_below is not None
    assert l5.sacrum_below > 0.9
    assert l4.sacrum_below < 0.1
