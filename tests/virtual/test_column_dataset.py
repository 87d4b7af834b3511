"""Virtual columns: what is painted is what the labels say, and each view of it keeps them true."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging.straightening import STEP_MM, WINDOW, window_offsets
from osteo_monai.virtual import column_dataset
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.column_dataset import (
    CENTRE_SD_MM,
    DISC_SD_MM,
    NO_ROLE,
    ROLES,
    SIZE,
    STUB_MM,
    PaintColumnd,
    RandColumnViewd,
    paint_column,
)
from osteo_monai.virtual.person import Variant, draw_person

L = VertebraLevel
SEED, PEOPLE, SLICES = 5, (0, 1, 3), 80
BODIES = [level.label for level in L if level is not L.SACRUM]


def painted(seed: int, index: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return what ``paint_column`` gives, and the labels that it painted and did not give."""
    canvases: list[Canvas] = []

    class Recorded(Canvas):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            canvases.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_dataset, "Canvas", Recorded)
        column = paint_column(seed, index)
    return column, canvases[0].label.numpy()


def roles_by_level(column: dict[str, Any], labels: NDArray[np.uint8]) -> dict[VertebraLevel, float]:
    """Return the role of each body whose centre is in the image, by the level painted there."""
    names = {level.label: level for level in L}
    found = {}
    for x, y, z, *_, role in column["bodies"].tolist():
        if 0 <= z <= SIZE[2] - 1:
            found[names[int(labels[round(x), round(y), round(z)])]] = role
    return found


@pytest.fixture(scope="module")
def columns() -> list[tuple[dict[str, Any], NDArray[np.uint8]]]:
    return [painted(SEED, index) for index in PEOPLE]


# --- painting -------------------------------------------------------------------------------------------------------


def test_shapes_types_and_ranges(columns: list[tuple[dict[str, Any], NDArray[np.uint8]]]) -> None:
    for column, _ in columns:
        image, line, bodies, profile = (column[key] for key in ("image", "line", "bodies", "profile"))
        assert (image.shape, image.dtype) == (SIZE, torch.int16)
        assert (line.shape, line.dtype) == ((SIZE[2], 2), torch.float32)
        assert (bodies.shape[1], bodies.dtype) == (7, torch.float32)
        assert profile.shape == (SIZE[2],)
        assert (image.min(), image.max() > 500) == (-1000, True)
        assert (profile.min(), profile.max()) == (0, 1)
        assert set(bodies[:, 6].tolist()) <= {NO_ROLE, *range(len(ROLES))}


def test_a_column_follows_from_seed_and_index(columns: list[tuple[dict[str, Any], NDArray[np.uint8]]]) -> None:
    again, other = paint_column(SEED, PEOPLE[1]), paint_column(SEED + 1, PEOPLE[1])
    for key, value in columns[1][0].items():
        assert torch.equal(again[key], value)
    assert not torch.equal(other["image"], again["image"])
    assert not torch.equal(columns[0][0]["image"], again["image"])
    assert PaintColumnd(seed=SEED)({"index": PEOPLE[1], "people": SEED})["bodies"].equal(again["bodies"])


def test_centres_lie_in_the_middle_of_painted_bodies(columns: list[tuple[dict[str, Any], NDArray[np.uint8]]]) -> None:
    for column, labels in columns:
        seen = []
        for x, y, z, low, high, *_ in column["bodies"].tolist():
            if low < 0 or high > SIZE[2] - 1:
                continue
            label = labels[round(x), round(y), round(z)]
            middle = np.argwhere(labels == label).mean(0)
            assert np.abs(middle - [x, y, z]).max() * STEP_MM < 4.0  # x, y and z; wedges and osteophytes have weight
            seen.append(label)
        assert len(seen) >= 5
        assert set(seen) <= set(BODIES)
        assert len(set(seen)) == len(seen)


def test_end_plates_and_discs_lie_where_they_are_painted(
    columns: list[tuple[dict[str, Any], NDArray[np.uint8]]],
) -> None:
    for column, labels in columns:
        for x, y, z, low, high, disc, _ in column["bodies"].tolist():
            assert disc < low < z < high
            if disc < 1 or high > SIZE[2] - 2:
                continue
            near = labels[round(x) - 3 : round(x) + 4, round(y) - 3 : round(y) + 4]
            inside = (near == labels[round(x), round(y), round(z)]).mean((0, 1)) > 0.25  # cement and screws are none
            ends = np.flatnonzero(inside)[[0, -1]]
            # along z about the centre's x and y; bodies lean, and end plates are concave
            assert (low, high) == pytest.approx(ends, abs=6.0 / STEP_MM)
            at = column["profile"].numpy()
            assert at[round(z)] > 0.75
            assert at[round(disc)] < 0.5


def test_neighbours_join_at_the_disc(columns: list[tuple[dict[str, Any], NDArray[np.uint8]]]) -> None:
    for column, _ in columns:
        rows = column["bodies"].numpy()
        rows = rows[np.argsort(rows[:, 2])]
        upper_plate, disc, lower_plate = rows[:-1, 4], rows[1:, 5], rows[1:, 3]
        assert (upper_plate < disc).all()
        assert (disc < lower_plate).all()


def test_the_line_runs_through_the_bodies(columns: list[tuple[dict[str, Any], NDArray[np.uint8]]]) -> None:
    for column, _ in columns:
        for x, y, z, low, high, *_ in column["bodies"].tolist():
            if low >= 0 and high <= SIZE[2] - 1:
                assert column["line"][round(z)].tolist() == pytest.approx([x, y], abs=4.0 / STEP_MM)


def test_a_vertebra_that_the_image_cuts_keeps_its_visible_disc(
    columns: list[tuple[dict[str, Any], NDArray[np.uint8]]],
) -> None:
    """Wherever the profile falls to nothing between two bodies in view, a disc is labelled."""
    for column, labels in columns:
        discs = column["bodies"][:, 5].numpy()
        centred = np.isin(labels, BODIES)
        line = np.rint(column["line"].numpy()).astype(int)
        on_axis = centred[line[:, 0], line[:, 1], np.arange(SIZE[2])]
        ends = np.flatnonzero(~on_axis[1:] & on_axis[:-1])  # where a body ends upwards
        starts = np.flatnonzero(on_axis[1:] & ~on_axis[:-1]) + 1
        for end in ends:
            above = starts[starts > end]
            if len(above):
                middle = 0.5 * (end + above[0])
                assert np.abs(discs - middle).min() < 6.0 / STEP_MM


# --- roles ----------------------------------------------------------------------------------------------------------


def with_person(patch: pytest.MonkeyPatch, *variants: Variant) -> None:
    """Replace every person by one man with these variants."""
    man = Anatomy(draw_person(3, age_years=50.0, mean_density=120.0, variants=frozenset(variants)))
    patch.setattr(column_dataset, "_random_person", lambda rng: man)


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ((), {L.T11: "ribbed", L.T12: "last_ribbed", L.L1: "lumbar", L.L4: "lumbar", L.L5: "last_lumbar"}),
        ((Variant.ELEVEN_RIBS,), {L.T10: "ribbed", L.T11: "last_ribbed", L.T12: "lumbar", L.L1: "lumbar"}),
        ((Variant.THIRTEEN_RIBS,), {L.T12: "ribbed", L.T13: "last_ribbed", L.L1: "lumbar"}),
        ((Variant.LUMBARISED,), {L.L5: "lumbar", L.L6: "last_lumbar"}),
        ((Variant.SACRALISED,), {L.L3: "lumbar", L.L4: "last_lumbar"}),
    ],
)
def test_roles_follow_the_anatomy(variants: tuple[Variant, ...], expected: dict[VertebraLevel, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with_person(patch, *variants)
        patch.setattr(Anatomy, "rib_reach", lambda self, level: (100.0, 95.0))
        seen: dict[VertebraLevel, float] = {}
        for index in range(40):
            seen |= roles_by_level(*painted(SEED, index))
            if set(expected) <= set(seen):
                break
    assert {level: ROLES[int(seen[level])] for level in expected} == expected


@pytest.mark.parametrize(
    ("reach", "role"),
    [((STUB_MM - 1, 20.0), NO_ROLE), ((20.0, STUB_MM + 1), ROLES.index("last_ribbed"))],
)
def test_a_stub_has_no_role(reach: tuple[float, float], role: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with_person(patch)
        patch.setattr(Anatomy, "rib_reach", lambda self, level: reach if level is L.T12 else (100.0, 100.0))
        seen: dict[VertebraLevel, float] = {}
        for index in range(40):
            seen |= roles_by_level(*painted(SEED, index))
            if {L.T12, L.T11} <= set(seen):
                break
    assert seen[L.T12] == role
    assert seen[L.T11] == ROLES.index("ribbed")


# --- views ----------------------------------------------------------------------------------------------------------


def by_hand(half_bright: bool = False) -> dict[Hashable, Any]:
    """A column whose image is a bright tube about a leaning line, and whose profile says which slice is which.

    Bodies of 10 slices about 10, 24, 38 ...; ``half_bright`` adds 300 HU to what lies to the right of the line.
    """
    z = np.arange(SIZE[2])
    line = np.stack([38 + 0.04 * z, 40 - 0.03 * z], 1)
    x, y = np.arange(SIZE[0])[:, None, None], np.arange(SIZE[1])[None, :, None]
    tube = 2000 * np.exp(-((x - line[:, 0]) ** 2 + (y - line[:, 1]) ** 2) / (2 * 2.5**2))
    if half_bright:
        tube = tube + 300.0 * (x > line[:, 0] + 8)
    centres = np.arange(10.0, 120.0, 14.0)
    bodies = np.array([[38 + 0.04 * c, 40 - 0.03 * c, c, c - 5, c + 5, c - 7, i % 4] for i, c in enumerate(centres)])
    return {
        "image": torch.from_numpy(np.broadcast_to(tube, SIZE).round().astype(np.int16).copy()),
        "line": torch.from_numpy(line.astype(np.float32)),
        "bodies": torch.from_numpy(bodies.astype(np.float32)),
        "profile": torch.from_numpy((z / SIZE[2]).astype(np.float32)),
        "index": 0,
    }


@pytest.fixture(scope="module")
def views() -> list[dict[Hashable, Any]]:
    column = by_hand(half_bright=True)
    return [RandColumnViewd(slices=SLICES, seed=seed)(column) for seed in range(40)]


def first_slice(view: dict[Hashable, Any]) -> int:
    return round(float(view["label"][2, 0]) * SIZE[2])


def test_views_have_shape_and_type(views: list[dict[Hashable, Any]]) -> None:
    for view in views:
        assert (view["image"].shape, view["image"].dtype) == ((1, *WINDOW, SLICES), torch.float32)
        assert (view["label"].shape, view["label"].dtype) == ((6, SLICES), torch.float32)
        assert set(view) == {"image", "label"}
    starts = {first_slice(view) for view in views}
    assert min(starts) >= 0
    assert max(starts) <= SIZE[2] - SLICES
    assert len(starts) > 15


def test_offsets_point_from_the_window_to_the_tube(views: list[dict[Hashable, Any]]) -> None:
    """In mirrored views too. What is bright about the window's centre lies where the label says."""
    x, y = window_offsets()
    for view in views:
        hu, label = view["image"][0].numpy(), view["label"].numpy()
        expected = 10.0 * label[4:]
        weight = np.clip(hu - 900.0, 0.0, None)
        total = weight.sum((0, 1))
        at_x = (weight * x[:, None, None]).sum((0, 1)) / total
        at_y = (weight * y[None, :, None]).sum((0, 1)) / total
        assert np.abs(at_x - expected[0]).max() < 1.5
        assert np.abs(at_y - expected[1]).max() < 1.5
    assert max(np.abs(view["label"][4:].numpy()).max() for view in views) > 0.5  # the line is off, sometimes by far


def test_half_of_the_views_are_mirrored(views: list[dict[Hashable, Any]]) -> None:
    right = [float(v["image"][0, 40:46].mean() - v["image"][0, 10:16].mean()) > 0 for v in views]
    assert 0.25 < np.mean(right) < 0.75


def test_some_views_are_of_a_small_field(views: list[dict[Hashable, Any]]) -> None:
    blank = [bool((view["image"][0, [0, -1]] == -1000).all()) for view in views]
    assert 0.02 < np.mean(blank) < 0.5


def test_label_rows(views: list[dict[Hashable, Any]]) -> None:
    """Each row against its own formula; bodies that the crop cuts have no centre, but discs and a role."""
    bodies = by_hand()["bodies"].numpy()
    cut = 0
    for view in views:
        label, first = view["label"].numpy(), first_slice(view)
        at = np.arange(SLICES) + first
        heat, discs, roles = np.zeros(SLICES), np.zeros(SLICES), np.full(SLICES, NO_ROLE)
        for _, _, z, low, high, disc, role in bodies:
            roles[(low <= at) & (at <= high)] = role
            discs = np.maximum(discs, np.exp(-0.5 * ((at - disc) * STEP_MM / DISC_SD_MM) ** 2))
            if first <= low and high <= first + SLICES - 1:
                heat = np.maximum(heat, np.exp(-0.5 * ((at - z) * STEP_MM / CENTRE_SD_MM) ** 2))
            elif first <= z <= first + SLICES - 1:
                cut += 1
                assert label[0, round(z) - first] < 0.1
        np.testing.assert_allclose(label[0], heat, atol=1e-6)
        np.testing.assert_allclose(label[1], discs, atol=1e-6)
        np.testing.assert_array_equal(label[3], roles)
        np.testing.assert_allclose(label[2], at / SIZE[2], atol=1e-6)
    assert cut > 5


def test_a_fixed_seed_fixes_the_view_of_each_person() -> None:
    column = by_hand()
    view = RandColumnViewd(slices=SLICES, seed=3)
    first, again, other = view(column), view(column), view({**column, "index": 1})
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["image"], other["image"])


def test_without_a_seed_each_view_is_new_and_follows_from_the_random_state() -> None:
    column, view = by_hand(), RandColumnViewd(slices=SLICES)
    one, two = view.set_random_state(4)(column), view(column)  # type: ignore[operator]
    assert not torch.equal(one["image"], two["image"])
    repeated = RandColumnViewd(slices=SLICES).set_random_state(4)(column)  # type: ignore[operator]
    assert torch.equal(one["image"], repeated["image"])
    assert torch.equal(one["label"], repeated["label"])


def test_a_view_does_not_change_the_painted_column() -> None:
    column, same = by_hand(), by_hand()
    RandColumnViewd(slices=SLICES, seed=0)(column)
    for key in ("image", "line", "bodies", "profile"):
        assert torch.equal(column[key], same[key])


def test_the_whole_length_may_be_viewed() -> None:
    assert RandColumnViewd(slices=SIZE[2], seed=1)(by_hand())["label"].shape == (6, SIZE[2])
