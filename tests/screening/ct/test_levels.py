"""From a drawn trunk to named vertebrae: the centre line, the bodies, the ribs beside them, the names."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement.landmarks import BodyLandmarks
from osteo_monai.screening.ct import levels
from osteo_monai.screening.ct.levels import Column, locate_vertebrae
from osteo_monai.screening.ct.naming import name_column
from osteo_monai.screening.ct.spines import PITCH_MM
from osteo_monai.transforms.column_decoding import FoundBody

from ..conftest import BARE, LAST_RIBS, FakeBundle, lateral_bone, vertebra

Line = list[tuple[float, float, float]]

SPACING = 2.0
LOW, HIGH = np.array([-136.0, -76.0, -110.0]), np.array([136.0, 44.0, 130.0])
NAMES = ("L3", "L2", "L1", "T12", "T11", "T10")
"""From the lowest up."""
Z = dict(zip(NAMES, -70.3 + np.cumsum([0.0, *(PITCH_MM[(b, a)][0] for a, b in pairwise(NAMES))]), strict=True))
"""Centres in mm, L1 at z = 0; distances as in the mean person."""


def grid_affine() -> NDArray[np.float64]:
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = LOW
    return affine


def draw_rod(hu: NDArray[np.float32], line: Line, radius: float, value: float = 420.0) -> None:
    """Set what lies within ``radius`` mm of a line of points (mm) to ``value``."""
    reach = int(np.ceil(radius / SPACING)) + 1
    for a, b in pairwise(np.array(line)):
        for share in np.linspace(0.0, 1.0, 1 + int(np.linalg.norm(b - a) / SPACING)):
            centre = a + share * (b - a)
            k = np.rint((centre - LOW) / SPACING).astype(int)
            low, high = np.maximum(k - reach, 0), np.minimum(k + reach + 1, hu.shape)
            if (high <= low).any():
                continue
            axes = (LOW[n] + SPACING * np.arange(low[n], high[n]) - centre[n] for n in range(3))
            x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
            box = hu[tuple(slice(p, q) for p, q in zip(low, high, strict=True))]
            box[x**2 + y**2 + z**2 <= radius**2] = value


def raised(line: Line, z: float) -> Line:
    return [(x, y, height + z) for x, y, height in line]


PROCESS: Line = [(18.0, -26.0, 4.0), (40.0, -30.0, 4.0)]
LAST_RIB: Line = [(20.0, -20.0, 10.0), (45.0, -36.0, -10.0), (85.0, -36.0, -47.0)]
RIB: Line = [(20.0, -20.0, 10.0), (60.0, -40.0, -17.0), (110.0, -30.0, -77.0), (130.0, 0.0, -122.0)]


@pytest.fixture(scope="module")
def trunk() -> CTVolume:
    """L3 to T10 in soft tissue, with ribs down to T12 and processes below."""
    shape = tuple(np.rint((HIGH - LOW) / SPACING).astype(int))
    hu = np.random.default_rng(0).normal(50.0, 12.0, shape).astype(np.float32)
    x, y, z = np.meshgrid(
        *(LOW[n] + SPACING * np.arange(shape[n]) for n in range(3)), indexing="ij", sparse=True
    )  # fmt: skip
    for name, centre in Z.items():
        inside = np.minimum(17 * (1 - np.hypot(x / 23, y / 17)), 12.5 - np.abs(z - centre))
        hu[inside > 0] = 450.0
        hu[inside > 2.5] = 150.0
        hu[(np.abs(x) < 22) & (np.abs(y + 34) < 6) & (np.abs(z - centre) < 9)] = 400.0  # the arch
        line, radius = (PROCESS, 4.0) if name.startswith("L") else (LAST_RIB, 4.0) if name == "T12" else (RIB, 6.0)
        for side in (1.0, -1.0):
            draw_rod(hu, [(side * px, py, pz) for px, py, pz in raised(line, centre)], radius)
    affine = grid_affine()
    return CTVolume(hu, affine, affine, hu.shape)


def body_at(name: str, **changes: Any) -> FoundBody:
    """Return what the column network finds at a vertebra of the trunk; no opinion of its role."""
    z = float(Z[name])
    found = FoundBody(0.97, (0.0, 0.0, z), (0.0, 0.0, z + 15.0), (0.0, 0.0, z - 15.0), 0.9, 0.9, (-1.4,) * 4, True)
    return replace(found, **changes)


class Localiser(FakeBundle):
    """Returns the given line."""

    def __init__(self, line: NDArray[np.float64]) -> None:
        self.line = line

    def __call__(self, image: Any, /) -> dict[str, Any]:
        assert tuple(image.affine.shape) == (4, 4)
        return {"line": self.line}


class ColumnNet(FakeBundle):
    """Returns the given bodies, and keeps the lines of its inputs."""

    def __init__(self, bodies: list[FoundBody]) -> None:
        self.bodies = bodies
        self.lines: list[NDArray[np.float64]] = []

    def __call__(self, scan: Any, /) -> dict[str, Any]:
        self.lines.append(scan["line"])
        return {"bodies": self.bodies, "axis_mm": scan["line"]}


def straight(x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    z = np.arange(LOW[2], HIGH[2], 10.0)
    return np.stack([np.full_like(z, x), np.full_like(z, y), z], axis=1)


def locate(volume: CTVolume, bodies: list[FoundBody], line: NDArray[np.float64] | None = None) -> Column:
    return locate_vertebrae(volume, Localiser(straight() if line is None else line), ColumnNet(bodies))


def named(column: Column) -> list[str]:
    return [str(v.level) for v in column.vertebrae]


# --- on the drawn trunk -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def located(trunk: CTVolume) -> Column:
    return locate(trunk, [body_at(name) for name in NAMES])


def test_ribs_name_the_bodies_from_the_top_down(located: Any) -> None:
    assert named(located) == ["T10", "T11", "T12", "L1", "L2", "L3"]
    assert located.above == ()
    for v in located.vertebrae:
        assert v.centre_mm == (0.0, 0.0, pytest.approx(Z[v.level.value]))
        assert (v.superior_mm[2], v.inferior_mm[2]) == (pytest.approx(v.centre_mm[2] + 15), v.centre_mm[2] - 15)
        assert (v.superior_seen, v.inferior_seen, v.complete) == (0.9, 0.9, True)
    assert min(v.certainty for v in located.vertebrae if v.level in ("L1", "L2")) > 0.85
    assert located.naming is not None
    assert located.naming.scale == pytest.approx(1.0, abs=0.03)


def test_a_vertebra_is_had_by_its_name(located: Any) -> None:
    l1 = located.vertebra(VertebraLevel.L1)
    assert l1 is not None
    assert l1.centre_mm[2] == pytest.approx(0.0)
    assert located.vertebra(VertebraLevel.L5) is None


def test_the_last_ribs_are_reported_with_their_lengths(located: Any) -> None:
    # both are 27 + 54 mm long from 20 mm beside the axis on, measured from 18 mm on
    sentence = located.last_rib()
    assert sentence is not None
    words = sentence.replace(" mm", "").replace(",", "").split()
    assert words[:6] == ["T12", "carries", "the", "last", "ribs:", "right"]
    assert [float(words[6]), float(words[8])] == pytest.approx([91.0, 91.0], abs=8)


def test_without_a_body_there_is_no_column(trunk: Any) -> None:
    empty = Column((), (), None)
    assert locate(trunk, []) == empty
    assert empty.last_rib() is None


def test_without_a_centre_line_no_body_is_looked_for(trunk: Any) -> None:
    column = ColumnNet([body_at("L1")])
    assert locate_vertebrae(trunk, Localiser(np.zeros((0, 3))), column) == Column((), (), None)
    assert column.lines == []


def test_a_wrong_centre_line_is_replaced_by_that_of_the_bodies(trunk: Any) -> None:
    column = ColumnNet([body_at(name) for name in NAMES])
    found = locate_vertebrae(trunk, Localiser(straight(x=6.0)), column)
    assert len(column.lines) == 2
    np.testing.assert_allclose(column.lines[1], [(0.0, 0.0, Z[name]) for name in NAMES])
    assert named(found) == ["T10", "T11", "T12", "L1", "L2", "L3"]


def test_a_centre_line_that_is_nearly_right_is_kept(trunk: Any) -> None:
    column = ColumnNet([body_at(name) for name in NAMES])
    locate_vertebrae(trunk, Localiser(straight(x=2.0, y=-2.0)), column)
    assert len(column.lines) == 1


def test_asking_again_ends(trunk: Any) -> Any:
    """A network that never finds bodies on its input line is run at most three times."""

    class Drifting(ColumnNet):
        def __call__(self, scan: Any, /) -> dict[str, Any]:
            super().__call__(scan)
            return {"bodies": self.bodies, "axis_mm": scan["line"] + [10.0, 0.0, 0.0]}

    column = Drifting([body_at(name) for name in NAMES])
    assert len(locate_vertebrae(trunk, Localiser(straight()), column).vertebrae) == 6
    assert len(column.lines) == 3


# --- what goes into the decision ----------------------------------------------------------------------------------


@pytest.fixture
def without_bones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is seen beside any body."""
    nothing = BodyLandmarks(None, None, False, False, None)
    monkeypatch.setattr(levels, "trace_landmarks", lambda hu, affine, bodies, scale: [nothing] * len(bodies))


def test_without_any_witness_no_name_is_certain(trunk: Any, without_bones: Any) -> None:
    column = locate(trunk, [body_at(name) for name in NAMES])
    assert all(v.certainty < 0.85 for v in column.vertebrae)


def test_bodies_above_the_named_levels_get_no_name(trunk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve bodies from L1 up, of which T9 and what lies below it have names."""
    order = ["L1", *(f"T{n}" for n in range(12, 1, -1))]
    z = np.cumsum([-100.0, *(PITCH_MM[(b, a)][0] for a, b in pairwise(order))])
    bodies = [body_at("L1", centre_mm=(0.0, 0.0, float(at))) for at in z]
    long = BodyLandmarks(lateral_bone("right", 185.0), lateral_bone("left", 185.0), True, True, None)
    seen = {"L1": BARE, "T12": LAST_RIBS}
    monkeypatch.setattr(levels, "trace_landmarks", lambda *_: [seen.get(name, long) for name in order])
    column = locate(trunk, bodies)
    assert named(column) == ["T9", "T10", "T11", "T12", "L1"]
    assert [p[2] for p in column.above] == pytest.approx(list(z[:4:-1]))
    assert column.last_rib() == "T12 carries the last ribs: right 98 mm, left 105 mm"


def test_a_cut_body_may_lie_off_its_distance(trunk: Any) -> None:
    """Of L3 half is in view: its centre is that of the half, 7 mm too high."""
    z = float(Z["L3"]) + 7.0
    cut = body_at("L3", centre_mm=(0.0, 0.0, z), inferior_seen=0.0, complete=False)
    column = locate(trunk, [cut, *(body_at(name) for name in NAMES[1:])])
    assert named(column) == ["T10", "T11", "T12", "L1", "L2", "L3"]
    l3 = column.vertebra(VertebraLevel.L3)
    assert l3 is not None
    assert not l3.complete


def test_a_second_name_is_reported_if_it_has_any_weight(trunk: Any, without_bones: Any) -> None:
    column = locate(trunk, [body_at(name) for name in NAMES])
    assert any(v.runner_up is not None for v in column.vertebrae)
    assert all(v.runner_up is not v.level for v in column.vertebrae)


# --- the sentence -------------------------------------------------------------------------------------------------


def test_ribs_of_a_higher_level_are_not_called_the_last_ones() -> None:
    """T12 without any rib, below a T11 that has two."""
    t11 = vertebra(VertebraLevel.T12, level=VertebraLevel.T11)
    t12 = vertebra(VertebraLevel.T12, landmarks=BARE)
    column = Column((t11, t12, vertebra(VertebraLevel.L1)), (), None)
    assert column.last_rib() == "No rib was seen at T12: right none, left none"


@pytest.mark.parametrize(("seen", "posterior", "counted"), [(True, 0.9, True), (True, 0.4, False), (False, 0.9, False)])
def test_bodies_counted_from_t1_are_reported(seen: bool, posterior: float, counted: bool) -> None:
    naming = replace(name_column([]), first_ribbed=9, first_ribbed_posterior=posterior)
    t13 = vertebra(VertebraLevel.T12, level=VertebraLevel.T13)
    column = Column((t13, vertebra(VertebraLevel.L1)), (), naming, seen)
    sentence = column.last_rib()
    assert sentence is not None
    assert sentence.endswith("; counted from T1: 13 ribbed bodies") is counted


def test_without_a_thoracic_level_nothing_is_said_of_ribs() -> None:
    assert Column((vertebra(VertebraLevel.L1), vertebra(VertebraLevel.L2)), (), None).last_rib() is None
