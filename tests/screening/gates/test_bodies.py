"""Gates of the segmented bodies."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import Severity, VertebraLevel
from osteo_monai.screening.gates import run_gates
from osteo_monai.screening.gates.bodies import (
    BODY_GATES,
    OUTLINE_GATES,
    BodyFacts,
    HeightFacts,
    OutlineFacts,
    body_not_found,
    body_not_measurable,
    body_shape,
    body_volume,
    cement,
    disc_disagreement,
    height_loss,
    inside_volume,
    level_offset,
    metal,
    region_placed,
    region_size,
    section_of_neighbours,
)

from .helpers import check

L1 = VertebraLevel.L1


def cube() -> NDArray[np.bool_]:
    body = np.zeros((10, 10, 10), bool)
    body[4:6, 4:6, 4:6] = True
    return body


def outline(**changes: Any) -> OutlineFacts:
    """Return a sound outline, some facts changed."""
    sound: dict[str, Any] = {
        "level": L1,
        "body": cube(),
        "valid": None,
        "volume_cm3": 36.0,
        "offset_mm": 0.0,
        "step_mm": 33.0,
        "disc_offsets_mm": (0.0, 0.0),
    }
    return OutlineFacts(**sound | changes)


def body(**changes: Any) -> BodyFacts:
    """Return a sound body, some facts changed."""
    sound: dict[str, Any] = {
        "level": L1,
        "width_mm": 45.0,
        "depth_mm": 33.0,
        "height_mm": 26.0,
        "section_mm2": 1200.0,
        "neighbour_sections_mm2": (1150.0, 1300.0),
        "metal_mm3": 0.0,
        "dense_cm3": 0.1,
        "region_voxels": 900,
        "region_cm3": 8.0,
        "no_region": None,
    }
    return BodyFacts(**sound | changes)


def test_a_sound_body_passes_all_gates() -> None:
    assert run_gates(OUTLINE_GATES, outline()) == []
    assert run_gates(BODY_GATES, body()) == []


@pytest.mark.parametrize("corner", [(0, 4, 4), (9, 4, 4), (4, 0, 4), (4, 9, 4), (4, 4, 0), (4, 4, 9)])
def test_body_at_any_border_is_refused(corner: tuple[int, int, int]) -> None:
    mask = cube()
    mask[corner] = True
    check(inside_volume(outline(body=mask)), "level_cut", Severity.REFUSAL)


def test_body_over_padded_voxels_is_refused() -> None:
    valid = np.ones((10, 10, 10), bool)
    assert inside_volume(outline(valid=valid)) is None
    valid[5, 5, 5] = False
    check(inside_volume(outline(valid=valid)), "level_cut", Severity.REFUSAL)


@pytest.mark.parametrize("volume", [3.0, 120.0])
def test_volume_off_range_is_refused(volume: float) -> None:
    check(body_volume(outline(volume_cm3=volume)), "body_volume_off_range", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("offset_mm", "fires"), [(0.0, False), (8.2, False), (-8.2, False), (8.3, True), (-12.0, True)]
)
def test_a_body_a_quarter_of_its_height_off_is_refused(offset_mm: float, fires: bool) -> None:
    finding = level_offset(outline(offset_mm=offset_mm))
    assert (finding is not None) is fires
    if finding is not None:
        assert f"{abs(offset_mm):.0f} mm" in check(finding, "level_offset", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("offsets", "fires"),
    [
        ((None, None), False),
        ((7.0, -7.0), False),
        ((7.5, 0.0), True),
        ((0.0, -7.5), True),
        ((None, -9.0), True),
        ((0.5, None), False),
        ((), False),
    ],
)
def test_discs_of_two_networks(offsets: tuple[float | None, ...], fires: bool) -> None:
    finding = disc_disagreement(outline(disc_offsets_mm=offsets))
    assert (finding is not None) is fires
    if finding is not None:
        check(finding, "disc_disagreement", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("section", "beside", "fires"),
    [
        (12.0, (), False),
        (12.0, (11.0, 13.0), False),
        (7.3, (12.0,), False),
        (7.1, (12.0,), True),
        (17.9, (12.0,), False),
        (18.1, (12.0,), True),
        (17.0, (10.0, 10.4, 17.0), True),  # one of the neighbours leaks as well
    ],
)
def test_section_of_neighbours(section: float, beside: tuple[float, ...], fires: bool) -> None:
    finding = section_of_neighbours(
        body(section_mm2=100.0 * section, neighbour_sections_mm2=tuple(100.0 * b for b in beside))
    )
    assert (finding is not None) is fires
    if finding is not None:
        assert f"{section:.1f} cm2" in check(finding, "outline_unlike_neighbours", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("width", "depth", "height"), [(45, 33, 8), (45, 33, 60), (80, 30, 26), (25, 40, 26), (45, 0, 26)]
)
def test_shape_off_range_is_refused(width: float, depth: float, height: float) -> None:
    facts = body(width_mm=width, depth_mm=depth, height_mm=height)
    check(body_shape(facts), "body_shape_off_range", Severity.REFUSAL)


def test_metal_is_refused() -> None:
    check(metal(body(metal_mm3=500.0)), "metal", Severity.REFUSAL)


def test_cement_is_refused() -> None:
    check(cement(body(dense_cm3=2.0)), "cement_or_sclerosis", Severity.REFUSAL)


@pytest.mark.parametrize(("voxels", "volume"), [(20, 5.0), (500, 0.1), (0, 0.0)])
def test_too_few_trabecular_voxels_are_refused(voxels: int, volume: float) -> None:
    finding = region_size(body(region_voxels=voxels, region_cm3=volume))
    check(finding, "too_few_trabecular_voxels", Severity.REFUSAL)


def test_a_body_without_region_has_one_reason() -> None:
    facts = body(no_region="Too little is left.", region_voxels=0, region_cm3=0.0, dense_cm3=3.0)
    check(region_placed(facts), "too_few_trabecular_voxels", Severity.REFUSAL)
    assert len(run_gates(BODY_GATES, facts)) == 1


def test_outline_without_voxels_or_shape_is_refused() -> None:
    check(body_not_found(L1), "body_not_found", Severity.REFUSAL)
    check(body_not_measurable(L1, "it is hollow"), "body_not_measurable", Severity.REFUSAL)


@pytest.mark.parametrize(
    ("loss", "spacing", "code"),
    [
        # a body of 25 mm: slices of 1 mm can cause 8 %, of 2.5 mm 10 %, of 5 mm 16 %
        (None, 1.0, None),
        (0.20, 1.0, None),
        (0.27, 1.0, None),
        (0.30, 1.0, "possible_fracture"),
        (0.35, 1.0, "fracture"),
        (0.35, 2.5, "possible_fracture"),
        (0.39, 2.5, "fracture"),
        (0.30, 5.0, None),
        (0.35, 5.0, None),
        (0.40, 5.0, "possible_fracture"),
        (0.45, 5.0, "fracture"),
    ],
)
def test_height_loss_counts_beyond_its_uncertainty(loss: float | None, spacing: float, code: str | None) -> None:
    finding = height_loss(HeightFacts(L1, loss, 25.0, spacing))
    assert (finding and finding.code) == code
    if finding is not None:
        assert f"{loss:.0%}".replace("%", " %") in check(finding, finding.code, Severity.WARNING)


def test_margin_of_a_height_loss() -> None:
    # 1.28 * 2 * sqrt(5^2 / 12 + 0.7^2) / 25
    assert HeightFacts(L1, 0.3, 25.0, 5.0).margin == pytest.approx(0.1642, abs=1e-4)
    assert HeightFacts(L1, 0.3, 25.0, 1e-6).margin == pytest.approx(1.28 * 2 * 0.7 / 25.0)
    assert HeightFacts(L1, 0.3, 12.5, 5.0).margin == pytest.approx(2 * HeightFacts(L1, 0.3, 25.0, 5.0).margin)
