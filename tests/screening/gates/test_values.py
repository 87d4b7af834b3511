"""Gates of the values by content, on a drawn trunk: each error of the scale is found, and a healthy trunk passes."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Severity
from osteo_monai.measurement.calibration import TissueSample, fit_scale
from osteo_monai.measurement.scan_tissues import ScanTissues
from osteo_monai.measurement.value_pattern import value_pattern
from osteo_monai.screening.ct.values import value_facts
from osteo_monai.screening.gates import run_gates
from osteo_monai.screening.gates.values import VALUE_GATES, WRONG_VALUES, ValueFacts

Image = NDArray[np.float32]
SPACING = (3.0, 3.0, 4.0)


def trunk(seed: int = 0, fat: float = -102.0, muscle: float = 46.0, slices: int = 40) -> Image:
    """Return whole HU of an elliptic trunk (128 x 96) with fat, muscle, spine and noise in air."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(128) - 64, np.arange(96) - 48, indexing="ij")
    radius = np.hypot(x / 50.0, y / 34.0)
    plane = np.where(radius < 1.1, fat, -1000.0)
    between = fat + (muscle - fat) * (0.85 - radius) / 0.3
    plane = np.where(radius < 0.85, between, plane)
    plane = np.where(radius < 0.55, muscle, plane)
    spine = np.hypot(x, y + 6.0)
    plane = np.where(spine < 8.0, 150.0, plane)
    plane = np.where((spine >= 7.0) & (spine < 8.5), 900.0, plane)
    volume = np.repeat(plane[:, :, None], slices, axis=2) + rng.normal(0.0, 14.0, (128, 96, slices))
    return np.rint(volume).clip(-1024, 3071).astype(np.float32)


def findings(hu: Image, kvp: float | None = 120.0) -> list[Finding]:
    return run_gates(VALUE_GATES, value_facts(hu.astype(np.float32), SPACING, None, kvp))


def above_zero(hu: Image, factor: float) -> Image:
    return np.where(hu > 0, hu * factor, hu).astype(np.float32)


def some(hu: Image, change: Callable[[Image], Image], slices: slice) -> Image:
    changed = hu.copy()
    changed[:, :, slices] = change(changed[:, :, slices])
    return changed


@pytest.mark.parametrize(("fat", "muscle"), [(-102.0, 46.0), (-85.0, 30.0), (-118.0, 62.0), (-95.0, 75.0)])
def test_a_usual_trunk_has_no_finding(fat: float, muscle: float) -> None:
    assert findings(trunk(fat=fat, muscle=muscle)) == []
    assert findings(trunk(fat=fat, muscle=muscle), kvp=None) == []


REFUSED: dict[str, tuple[Callable[[Image], Image], str]] = {
    "slope 0.8": (lambda hu: 0.8 * (hu + 1024) - 1024, "hu_scale_wrong"),
    "slope 1.1": (lambda hu: 1.1 * (hu + 1024) - 1024, "hu_scale_wrong"),
    "HU times 1.1": (lambda hu: 1.1 * hu, "hu_scale_wrong"),
    "HU times 0.8": (lambda hu: 0.8 * hu, "hu_scale_wrong"),
    "HU halved": (lambda hu: 0.5 * hu, "hu_scale_wrong"),
    "HU doubled": (lambda hu: 2.0 * hu, "hu_scale_wrong"),
    "offset 50": (lambda hu: hu + 50, "hu_scale_wrong"),
    "offset -50": (lambda hu: hu - 50, "hu_scale_wrong"),
    "offset 100": (lambda hu: hu + 100, "hu_scale_wrong"),
    "above 0 times 1.15": (lambda hu: above_zero(hu, 1.15), "hu_scale_broken"),
    "above 0 times 1.15, whole": (lambda hu: np.trunc(above_zero(hu, 1.15)), "hu_scale_broken"),
    "above 0 halved": (lambda hu: above_zero(hu, 0.5), "hu_scale_broken"),
    "clipped at 250": (lambda hu: hu.clip(-1024, 250), "values_clipped"),
    "soft-tissue window": (lambda hu: hu.clip(-160, 240), "values_clipped"),
    "eight bits": (lambda hu: np.floor((hu + 1024) / 16) * 16 - 1024, "coarse_values"),
    "offset in every second slice": (lambda hu: some(hu, lambda s: s + 50, slice(0, None, 2)), "hu_scale_mixed"),
    "slope in some slices": (lambda hu: some(hu, lambda s: 1.1 * (s + 1024) - 1024, slice(8, 13)), "hu_scale_mixed"),
    "offset 25 in some slices": (lambda hu: some(hu, lambda s: s + 25, slice(8, 13)), "hu_scale_mixed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_by_their_cause(name: str) -> None:
    change, code = REFUSED[name]
    found = findings(change(trunk()).astype(np.float32))
    assert code in [f.code for f in found if f.severity is Severity.REFUSAL]
    assert code in WRONG_VALUES


def test_an_offset_of_25_is_named_with_its_effect() -> None:
    (found,) = findings(trunk() + 25)
    assert found.code == "hu_scale_off"
    assert "changes a density of 100 mg/cm3 by +1" in found.message


def test_continuous_values_with_another_scale_above_0_are_refused() -> None:
    rng = np.random.default_rng(3)
    hu = trunk() + rng.uniform(-0.5, 0.5, (128, 96, 40)).astype(np.float32)
    assert findings(hu) == []
    assert [f.code for f in findings(above_zero(hu, 1.15))] == ["hu_scale_broken"]


def test_a_clip_above_bone_only_warns() -> None:
    (found,) = findings(np.minimum(trunk(), 620))
    assert (found.code, found.severity) == ("values_clipped", Severity.WARNING)


def test_tissues_that_fit_no_scale_are_named() -> None:
    air, fat, lean, blood = (TissueSample(hu, 5000.0) for hu in (-1000.0, -190.0, 46.0, 45.0))
    tissues = ScanTissues(air, fat, lean, np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64))
    facts = ValueFacts(None, tissues, fit_scale(dict(tissues.samples(), blood=blood), 120.0))
    (found,) = run_gates(VALUE_GATES, facts)
    assert found.code == "tissues_disagree"
    assert "fat is 88 HU below its usual value" in found.message


def test_a_trunk_without_air_has_no_finding() -> None:
    assert findings(trunk()[35:93, 25:71]) == []


@pytest.mark.parametrize("factor", [0.5, 1.15])
def test_whole_values_above_0_that_were_scaled_and_truncated_show_their_scale(factor: float) -> None:
    hu = np.rint(np.random.default_rng(5).normal(0.0, 80.0, (100, 100, 60))).astype(np.float32)
    assert abs(value_pattern(hu).above_zero - 1.0) < 0.1
    assert value_pattern(np.trunc(above_zero(hu, factor))).above_zero == pytest.approx(factor, rel=0.1)
