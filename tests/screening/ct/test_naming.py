"""Names as one decision over the column: right where anatomy anchors them, open where nothing does."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement.landmarks import ROLES, Role
from osteo_monai.screening.ct import naming
from osteo_monai.screening.ct.naming import BodyEvidence, Naming, NamingModel, name_column
from osteo_monai.screening.ct.spines import PITCH_MM, spine_tables

L = VertebraLevel
USUAL = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8", "T7", "T6")
SIX_LUMBAR = ("L6", *USUAL)
FOUR_LUMBAR = USUAL[1:]
THIRTEEN_RIBS = (*USUAL[:5], "T13", *USUAL[5:])
ELEVEN_RIBS = (*USUAL[:5], *USUAL[6:])
TOP = ("T5", "T4", "T3", "T2", "T1", "C7", "C6", "C5")


def column(levels: Sequence[str], scale: float = 1.0, seed: int = 0) -> list[BodyEvidence]:
    """Return bodies without votes at usual distances with a scatter of 1.5 mm, on a bent column."""
    rng = np.random.default_rng(seed)
    steps = [scale * PITCH_MM[(upper, lower)][0] + rng.normal(0, 1.5) for lower, upper in pairwise(levels)]
    along = np.concatenate([[0.0], np.cumsum(steps)])
    tilt = 0.2
    return [BodyEvidence((3.0, float(-s * np.sin(tilt)), float(s * np.cos(tilt)) - 400.0)) for s in along]


LOWER_ROLES: tuple[Role, ...] = ("ribbed", "last_ribbed", "lumbar", "last_lumbar")


def voted(levels: Sequence[str], sacrum: bool = True, strength: float = 3.0, **options: float) -> list[BodyEvidence]:
    """Return bodies whose anatomy was seen as it is, but for the first rib."""
    last_rib = next((name for name in levels if name.startswith("T")), None)
    bodies = []
    for i, (name, body) in enumerate(zip(levels, column(levels, **options), strict=True)):  # type: ignore[arg-type]
        roles: dict[Role, float] = dict.fromkeys(LOWER_ROLES, -strength)
        if name.startswith("T"):
            roles["last_ribbed" if name == last_rib else "ribbed"] = 0.0
            if name == "T13":
                roles |= {"supernumerary": 0.0, "long_process": -strength}
        else:
            roles["last_lumbar" if sacrum and i == 0 else "lumbar"] = 0.0
            if not sacrum:
                roles["last_lumbar"] = 0.0
        bodies.append(replace(body, roles=roles))
    return bodies


def with_first_rib(bodies: list[BodyEvidence], at: int, strength: float = 3.0) -> list[BodyEvidence]:
    """Return the bodies with signs of the upper end of the thorax: the first rib at number ``at``."""
    result = list(bodies)
    for i in range(at - 3, len(bodies)):
        roles: dict[Role, float] = dict.fromkeys(ROLES, -strength)
        roles["ribbed" if i < at else "first_ribbed" if i == at else "cervical"] = 0.0
        result[i] = replace(result[i], roles=roles)
    return result


def said(naming: Naming) -> list[str]:
    return [str(body.level) if body.level else body.kind for body in naming.bodies]


def right(levels: Sequence[str]) -> list[str]:
    return [name if name in ("T13", "T12", "T11", "T10", "T9") or name.startswith("L") else "above" for name in levels]


@pytest.mark.parametrize("scale", [0.88, 1.0, 1.12])
def test_names_a_usual_column(scale: float) -> None:
    naming = name_column(voted(USUAL, scale=scale))
    assert said(naming) == right(USUAL)
    assert all(body.posterior > 0.95 for body in naming.bodies)
    assert naming.scale == pytest.approx(scale, abs=0.025)
    assert naming.lumbar_count[5] > 0.98
    assert not naming.missed
    assert not naming.doubles


@pytest.mark.parametrize("first", range(7))
def test_only_distances_never_make_a_name_certain(first: int) -> None:
    for seed in range(5):
        naming = name_column(column(USUAL[first : first + 6], seed=seed))
        assert max(max(body.posteriors.values()) for body in naming.bodies) < 0.9


def test_the_last_rib_suffices_to_name_a_chest() -> None:
    levels = USUAL[3:]
    naming = name_column(voted(levels, sacrum=False))
    assert said(naming) == right(levels)
    assert naming.bodies[0].posterior > 0.95
    assert naming.bodies[1].posterior > 0.95
    # the sacrum was not seen, so the number of lumbar bodies is unknown
    assert naming.lumbar_count[6] == pytest.approx(naming.lumbar_count[4], abs=0.06)


def test_the_sacrum_does_not_determine_the_number_of_lumbar_bodies() -> None:
    naming = name_column(voted(USUAL[:5]))
    assert said(naming) == right(USUAL[:5])
    assert 0.7 < naming.bodies[4].posterior < 0.97


@pytest.mark.parametrize(("levels", "count", "share"), [(SIX_LUMBAR, 6, 0.5), (FOUR_LUMBAR, 4, 0.35)])
def test_another_number_of_lumbar_bodies_is_reported_not_forced(
    levels: Sequence[str], count: int, share: float
) -> None:
    """Expected of 2 to 3 % before anything is seen; one reading of the ribs is as likely as four lumbar bodies."""
    naming = name_column(voted(levels, strength=4.0))
    assert naming.lumbar_count[count] > share
    assert naming.bodies[levels.index("L1")].level is L.L1
    # a skipped rib, or a process taken for one, gives the same votes: no name is certain
    assert naming.lumbar_count[5] > 0.02
    l1 = naming.bodies[levels.index("L1")]
    assert {l1.level, l1.runner_up} == {L.L1, L.T12 if count == 6 else L.L2}
    assert l1.posterior < 0.95


def test_thirteen_ribs_are_reported_if_the_neck_is_in_view() -> None:
    naming = name_column(voted((*THIRTEEN_RIBS, *TOP), strength=4.0))
    assert naming.ribbed_count[13] > 0.5
    assert said(naming)[5] == "T13"
    assert said(naming)[4] == "L1"


@pytest.mark.parametrize("spine", [THIRTEEN_RIBS, USUAL, ELEVEN_RIBS])
def test_ribs_are_counted_from_the_first_one_without_the_sacrum(spine: Sequence[str]) -> None:
    levels = (*spine[3:], *TOP)  # from L2 up
    bodies = voted(levels, sacrum=False, strength=4.0)
    ribs = sum(name.startswith("T") for name in levels)
    without, counted = name_column(bodies), name_column(with_first_rib(bodies, levels.index("T1"), 4.0))
    assert said(counted) == right(levels)
    assert counted.ribbed_count[ribs] > max(without.ribbed_count[ribs], 0.45)
    assert counted.first_ribbed == levels.index("T1")
    assert counted.first_ribbed_posterior > 0.75


@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_first_rib_never_makes_a_wrong_name_certain(off: int) -> None:
    levels = (*USUAL[3:], *TOP)
    bodies = voted(levels, sacrum=False)
    naming = name_column(with_first_rib(bodies, levels.index("T1") + off))
    assert all(
        body.posterior < 0.85
        for body, name in zip(naming.bodies, right(levels), strict=True)
        if body.level is not None and body.level != name
    )


def test_eleven_ribs_keep_l1_below_the_last_rib() -> None:
    """A first rib that was not found gives the same votes, so that eleven pairs are not certain."""
    naming = name_column(voted((*ELEVEN_RIBS, *TOP), strength=4.0))
    assert naming.ribbed_count[11] > 0.4
    assert said(naming)[4:6] == ["L1", "T11"]


def test_a_supernumerary_level_is_never_invented() -> None:
    for seed in range(12):
        for levels in (USUAL, USUAL[3:], USUAL[:8], USUAL[4:11]):
            for bodies in (column(levels, seed=seed), voted(levels, sacrum=levels[0] == "L5", seed=seed)):
                names = said(name_column(bodies))
                assert "T13" not in names
                assert "L6" not in names


def test_a_missed_body_is_reported_and_counted() -> None:
    bodies = voted(USUAL)
    hidden = bodies.pop(3)
    naming = name_column(bodies)
    assert said(naming) == [name for name in right(USUAL) if name != "L2"]
    (missed,) = naming.missed
    assert missed.level is L.L2
    assert missed.below == 2
    assert missed.probability > 0.95
    assert np.linalg.norm(np.subtract(missed.position_mm, hidden.centre_mm)) < 4.0


def test_a_double_is_reported_and_left_out() -> None:
    bodies = voted(USUAL)
    x, y, z = bodies[4].centre_mm
    bodies.insert(5, BodyEvidence((x, y, z + 8.0), found=0.6))
    naming = name_column(bodies)
    assert said(naming) == [*right(USUAL[:5]), "spurious", *right(USUAL[5:])]
    assert naming.bodies[5].level is None
    assert naming.doubles == (5,)


def test_one_outlying_distance_does_not_break_the_column() -> None:
    bodies = voted(USUAL)
    x, y, z = bodies[4].centre_mm
    bodies[4] = replace(bodies[4], centre_mm=(x, y, z - 7.0))  # a collapsed or misplaced body
    assert said(name_column(bodies)) == right(USUAL)


def test_a_body_cut_by_the_scan_may_lie_off() -> None:
    bodies = voted(USUAL[3:], sacrum=False)
    x, y, z = bodies[0].centre_mm
    cut = replace(bodies[0], centre_mm=(x, y, z + 9.0), cut_below=True)
    naming = name_column([cut, *bodies[1:]])
    assert said(naming)[:2] == ["L2", "L1"]
    whole = name_column([replace(cut, cut_below=False), *bodies[1:]])
    assert naming.bodies[0].posterior > whole.bodies[0].posterior


def test_the_sacrum_found_as_a_body_is_no_lumbar_one() -> None:
    bodies = voted(USUAL)
    x, y, z = bodies[0].centre_mm
    naming = name_column([BodyEvidence((x, y, z - 31.0)), *bodies])
    assert said(naming) == ["sacrum", *right(USUAL)]


def test_space_below_the_lowest_body_shows_that_it_is_the_last() -> None:
    bodies = column(USUAL[:7])
    low = bodies[0].centre_mm[2]
    open_end, space = name_column(bodies), name_column(bodies, bottom_mm=low - 120.0)
    no_space = name_column(bodies, bottom_mm=low - 20.0)
    assert space.bodies[0].posteriors[L.L5] > open_end.bodies[0].posteriors[L.L5]
    assert no_space.bodies[0].posteriors[L.L5] == pytest.approx(open_end.bodies[0].posteriors[L.L5], abs=0.01)


def test_a_wrong_last_rib_loses_against_sacrum_and_count() -> None:
    """The tracer skips a short rib: six bodies without ribs. L1 must not be called T12 with certainty."""
    bodies = voted(USUAL)
    roles = [dict(body.roles) for body in bodies]
    roles[5], roles[6] = roles[4], roles[5]
    naming = name_column([replace(b, roles=r) for b, r in zip(bodies, roles, strict=True)])
    assert naming.bodies[4].posteriors[L.L1] > 0.2
    assert max(naming.bodies[4].posteriors.values()) < 0.9


def test_networks_vote_once_for_all_bodies() -> None:
    levels = USUAL[3:9]
    bodies = [
        replace(b, names={L(n): 0.0 if n == name else -8.0 for n in USUAL[:10]})
        for name, b in zip(levels, column(levels), strict=True)
    ]
    silent, heard = name_column(column(levels)), name_column(bodies)
    assert heard.bodies[1].posteriors[L.L1] > silent.bodies[1].posteriors[L.L1]
    assert heard.bodies[1].posterior < 0.95


def test_posteriors_are_probabilities() -> None:
    naming = name_column(column(USUAL, seed=3))
    for body in naming.bodies:
        assert sum(body.posteriors.values()) + body.above + body.spurious == pytest.approx(1.0, abs=1e-4)
        assert body.runner_up_posterior <= 1.0 - body.posterior + 1e-9
    assert sum(naming.lumbar_count.values()) == pytest.approx(1.0)
    assert sum(naming.ribbed_count.values()) == pytest.approx(1.0)


def test_place_and_direction_of_the_patient_do_not_matter() -> None:
    bodies = voted(USUAL[2:9], sacrum=False, seed=5)
    moved = [replace(b, centre_mm=(b.centre_mm[0] + 300.0, -b.centre_mm[1], b.centre_mm[2] + 900.0)) for b in bodies]
    here, there = name_column(bodies), name_column(moved)
    assert [b.posterior for b in here.bodies] == pytest.approx([b.posterior for b in there.bodies])


def test_nothing_and_next_to_nothing() -> None:
    empty = name_column([])
    assert empty.bodies == ()
    assert empty.lumbar_count[5] > 0.8
    one = name_column([BodyEvidence((0.0, 0.0, 0.0))])
    assert max(one.bodies[0].posteriors.values()) < 0.1
    assert name_column([BodyEvidence((0.0, 0.0, 0.0), found=0.05)]).bodies[0].kind == "spurious"
    assert empty.index(L.L1) is None


def test_bodies_far_apart_are_no_neighbours() -> None:
    bodies = voted(USUAL)
    naming = name_column([*bodies, BodyEvidence((0.0, 0.0, bodies[-1].centre_mm[2] + 400.0))])
    assert said(naming)[-1] == "spurious"
    assert said(naming)[:-1] == right(USUAL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: name_column(column(USUAL)[::-1]), "sorted from the lowest up"),
        (lambda: name_column([BodyEvidence((0.0, 0.0, float(z))) for z in range(61)]), "at most 60"),
        (lambda: BodyEvidence((0.0, 0.0, 0.0), roles={"rib": 1.0}), "roles must be among"),  # type: ignore[dict-item]
        (lambda: BodyEvidence((0.0, 0.0, float("nan"))), "must be finite"),
        (
            lambda: BodyEvidence((0.0, 0.0, 0.0), roles={"ribbed": float("inf")}),
            "roles and names must be finite numbers",
        ),
        (lambda: BodyEvidence((0.0, 0.0, 0.0), found=1.2), "probability"),
    ],
)
def test_arguments_that_cannot_be_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_tables_of_spines_are_computed_once_and_few_pairs_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = voted((*USUAL, *TOP))
    name_column(bodies)
    misses = spine_tables.cache_info().misses
    pairs: list[tuple[int, int]] = []
    edge = naming._Column._edge

    def counted(column: naming._Column, i: int, j: int) -> naming._Edge | None:
        pairs.append((i, j))
        return edge(column, i, j)

    monkeypatch.setattr(naming._Column, "_edge", counted)
    name_column(bodies)
    assert spine_tables.cache_info().misses == misses
    # each body with the three above it at most
    assert len(pairs) == 3 * len(bodies) - 6


def test_certainty_holds_on_recorded_spines(real_data: Path) -> None:
    """Real places of bodies, simulated votes at stated error rates: a sample of what the benchmark does in full."""
    spec = importlib.util.spec_from_file_location(
        "naming_vid_spines", Path(__file__).parents[3] / "benchmarks" / "naming_vid_spines.py"
    )
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules["naming_vid_spines"] = benchmark
    spec.loader.exec_module(benchmark)
    spines = [s for s in benchmark.read_spines(real_data / "vid_spines") if not benchmark.in_first_half(s.person)][::3]
    pairs = []
    for name in ("whole column", "T9-L3"):
        cases = benchmark.centre_cases(spines, *benchmark.CONDITIONS[name])
        pairs += benchmark.l1_pairs(benchmark.run(cases, NamingModel()))
    sure = [right for certainty, right in pairs if certainty >= 0.95]
    assert len(sure) > 0.25 * len(pairs)
    assert np.mean(sure) >= 0.96
    # over all answers, certainty and share right agree
    assert np.mean([c for c, _ in pairs]) == pytest.approx(np.mean([r for _, r in pairs]), abs=0.06)
