"""Signs of the upper end of the thorax: the highest ribs and the apexes of the lungs."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging import read_ct
from osteo_monai.measurement.landmarks import (
    MAX_LOG_LIKELIHOOD,
    ROLES,
    BodyLandmarks,
    InletSigns,
    role_log_likelihoods,
    trace_landmarks,
)
from osteo_monai.measurement.landmarks.inlet import lung_apex
from osteo_monai.virtual.anatomy import AnatomyWithNeck
from osteo_monai.virtual.ct import CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.person import draw_person

L = VertebraLevel
LEVELS = (L.T5, L.T4, L.T3, L.T2, L.T1)


@dataclass(frozen=True)
class Place:
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]


def place(centre: np.ndarray, up: np.ndarray) -> Place:
    points = (tuple(float(c) for c in centre + k * up) for k in (0.0, 9.0, -9.0))
    return Place(*points)  # type: ignore[arg-type]


@lru_cache(maxsize=4)
def upper_chest(seed: int, above_t1: float = 40.0) -> tuple[VirtualCT, list[Place]]:
    anatomy = AnatomyWithNeck(draw_person(seed, variants=frozenset()))
    assert anatomy.cervical_ribs == (0.0, 0.0)
    bodies = [*(anatomy.vertebra(level) for level in LEVELS), anatomy.cervical[0]]
    protocol = CTProtocol(pixel=2.0, matrix=(190, 150), slice_step=2.5, slice_thickness=2.5)
    low = anatomy.vertebra(L.T8).centre[2]
    scan = acquire(anatomy, protocol, z_range=(low, anatomy.vertebra(L.T1).centre[2] + above_t1))
    return scan, [place(v.centre, v.frame[:, 2]) for v in bodies]


def traced(scan: VirtualCT, bodies: list[Place]) -> list[BodyLandmarks]:
    return trace_landmarks(scan.hu, scan.affine, bodies, 0.95)


def favoured(seen: BodyLandmarks) -> str:
    odds = role_log_likelihoods(seen)
    return max(odds, key=odds.__getitem__)


@pytest.mark.parametrize("seed", [3, 8])
def test_the_first_rib_is_that_of_t1(seed: int) -> None:
    found = traced(*upper_chest(seed))
    *upper, t1, c7 = found
    assert all(seen.inlet is not None and True in seen.inlet.ribs for seen in (*upper[1:], t1))
    assert c7.inlet is not None
    assert True not in c7.inlet.ribs
    assert t1.inlet is not None
    assert abs(t1.inlet.apex_above) < 0.8
    assert favoured(t1) == "first_ribbed"
    assert favoured(c7) == "cervical"
    assert [favoured(seen) for seen in upper[1:]] == ["ribbed"] * 3


def test_a_scan_that_ends_in_the_thorax_has_no_signs() -> None:
    scan, bodies = upper_chest(3, above_t1=-45.0)
    assert [seen.inlet for seen in traced(scan, bodies[:3])] == [None] * 3


def test_one_body_alone_is_traced() -> None:
    scan, bodies = upper_chest(8)
    (t1,) = traced(scan, bodies[4:5])
    assert t1.inlet is not None
    scan, bodies = upper_chest(3, above_t1=-45.0)
    assert len(traced(scan, bodies[:1])) == 1


@pytest.mark.parametrize("gas", [-1000.0, -972.0, -953.0])
def test_gas_of_the_bowel_is_no_lung(gas: float) -> None:
    """The least dense is outside air, the others are medians of gas in the bowel of real scans."""
    scan, bodies = upper_chest(8)
    hu = np.where(scan.hu < -600, np.float32(gas), scan.hu)
    found = trace_landmarks(hu, scan.affine, bodies, 0.95)
    assert [seen.inlet for seen in found] == [None] * len(bodies)


def test_empty_slices_do_not_show_the_end_of_the_lungs() -> None:
    scan, bodies = upper_chest(3)
    hu = scan.hu.copy()
    z = scan.affine[2, 3] + scan.affine[2, 2] * np.arange(hu.shape[2])
    hu[:, :, z > bodies[3].centre_mm[2]] = 0.0
    assert [seen.inlet for seen in trace_landmarks(hu, scan.affine, bodies[:3], 0.95)] == [None] * 3


def test_lungs_that_are_aerated_at_their_base_only_have_no_apex() -> None:
    scan, bodies = upper_chest(3)
    hu = scan.hu.copy()
    z = scan.affine[2, 3] + scan.affine[2, 2] * np.arange(hu.shape[2])
    lung = (hu < -600) & (hu > -940)
    lung[:, :, z <= bodies[2].centre_mm[2]] = False
    hu[lung] = 30.0
    assert lung_apex(scan.hu, scan.affine, bodies, 0.95) is not None
    assert lung_apex(hu, scan.affine, bodies, 0.95) is None


@pytest.mark.parametrize("about", [0, 1])
def test_a_slightly_oblique_grid_does_not_move_the_apex(about: int) -> None:
    scan, bodies = upper_chest(8)
    angle = np.deg2rad(2.9)
    turn = np.eye(4)
    first, second = [axis for axis in range(3) if axis != about]
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    turned = [place(turn[:3, :3] @ b.centre_mm, turn[:3, 2]) for b in bodies]
    upright, oblique = (
        lung_apex(scan.hu, scan.affine, bodies, 0.95),
        lung_apex(scan.hu, turn @ scan.affine, turned, 0.95),
    )
    assert upright is not None
    assert oblique is not None
    above, above_oblique = upright - bodies[-2].centre_mm[2], oblique - turned[-2].centre_mm[2]
    assert above_oblique == pytest.approx(above, abs=4.0)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        (InletSigns(True, True, -0.2), "first_ribbed"),
        (InletSigns(True, None, 0.1), "first_ribbed"),
        (InletSigns(False, False, -1.0), "cervical"),
        (InletSigns(True, True, 1.0), "ribbed"),
    ],
)
def test_signs_favour_a_role_and_none_is_decisive(signs: InletSigns, expected: str) -> None:
    seen = BodyLandmarks(None, None, False, False, None, inlet=signs)
    odds = role_log_likelihoods(seen)
    assert set(odds) == set(ROLES)
    assert favoured(seen) == expected
    assert max(map(abs, odds.values())) <= MAX_LOG_LIKELIHOOD


def test_ribs_without_the_expected_apex_are_uncertain() -> None:
    """One sign is enough for neither role: the lung of a diseased apex ends lower."""
    odds = role_log_likelihoods(BodyLandmarks(None, None, False, False, None, inlet=InletSigns(True, True, -1.2)))
    assert abs(odds["first_ribbed"] - odds["cervical"]) < 3.0


def test_real_upper_chest(real_data: Path) -> None:
    """Centres by the column network; T1 by eye, from its ribs."""
    scan = read_ct(real_data / "ct_chest_above_l1")
    centres = np.array(
        [[12, -64, -111], [11, -55, -89], [9, -42, -67], [8, -29, -47], [8, -19, -31], [7, -6, -9], [7, 1, 10]], float
    )
    ups = np.gradient(centres, axis=0)
    bodies = [place(c, u / np.linalg.norm(u)) for c, u in zip(centres, ups, strict=True)]
    *upper, t1, c7 = trace_landmarks(scan.hu, scan.affine, bodies, 1.06)
    assert t1.inlet is not None
    assert t1.inlet.ribs == (True, True)
    assert favoured(t1) == "first_ribbed"
    assert favoured(upper[-1]) == "ribbed"
    assert c7.inlet is not None
    assert True not in c7.inlet.ribs
