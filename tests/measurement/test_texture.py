"""Texture of plates and of noise, whose values follow from counting faces or from a formula."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging import CTVolume
from osteo_monai.measurement import UNITS, level_texture, texture_rows
from osteo_monai.measurement.texture import (
    COOCCURRENCE_NAMES,
    _Cubes,
    _cubes,
    cooccurrence,
    first_order,
    microarchitecture,
)
from osteo_monai.utils.optional import MissingExtraError

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
Grid = tuple[float, float, float]


def scan(hu: NDArray[np.float32], spacing: Grid) -> CTVolume:
    affine = np.diag([*spacing, 1.0])
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    return CTVolume(hu=hu, affine=affine, original_affine=affine, original_shape=shape)


def middle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    region = np.zeros(shape, dtype=bool)
    region[tuple(slice(n // 4, 3 * n // 4) for n in shape)] = True
    return region


def plates(spacing: Grid, axis: int, size_mm: float = 48.0) -> NDArray[np.float32]:
    """Return plates of 300 HU, 4 mm thick and 4 mm apart, normal to an axis."""
    shape = [int(size_mm / s) for s in spacing]
    place = np.arange(shape[axis]) * spacing[axis] + 1e-6
    line = np.where((place // 4) % 2 == 0, 300.0, 0.0).astype(np.float32)
    hu = np.moveaxis(np.broadcast_to(line, [*np.delete(shape, axis), shape[axis]]), -1, axis)
    return np.ascontiguousarray(hu)


def cubes_of(hu: NDArray[np.float32], spacing: Grid, edge: float) -> _Cubes:
    cubes = _cubes(scan(hu, spacing), middle(hu.shape), edge)
    assert cubes is not None
    return cubes


@pytest.mark.parametrize("spacing", [(0.5, 1.0, 2.0), (0.4, 0.4, 2.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plates_have_equal_values_on_every_grid_and_axis(spacing: Grid, axis: int) -> None:
    # one face per 4 mm along one axis of three, so Tb.N = 0.25 / 3 per mm. On the grid of the scan ITK's filter gives
    # 5 times that, or a fifth, for plates normal to z or x at 0.4 x 0.4 x 2 mm.
    values = microarchitecture(cubes_of(plates(spacing, axis), spacing, min(spacing)))
    assert values["bv_tv"] == pytest.approx(0.5, abs=0.07)  # half levels between cubes count
    assert values["tb_n"] == pytest.approx(0.25 / 3, rel=0.03)
    assert values["tb_th"] == pytest.approx(6.0, rel=0.14)  # 0.5 / Tb.N: 1.5 times the true thickness
    assert values["tb_sp"] == pytest.approx((1 - values["bv_tv"]) / values["tb_n"], rel=1e-6)


def test_empty_and_solid_regions_have_no_thickness() -> None:
    empty = np.zeros((30, 30, 30), dtype=np.float32)
    assert microarchitecture(cubes_of(empty, (1.0, 1.0, 1.0), 1.0)) == {"bv_tv": 0.0, "tb_n": 0.0}
    solid = microarchitecture(cubes_of(empty + 300, (1.0, 1.0, 1.0), 1.0))
    assert (solid["bv_tv"], solid["tb_n"], "tb_th" in solid) == (1.0, 0.0, False)


def test_texture_of_flat_and_noisy_regions() -> None:
    flat = np.full((30, 30, 16), 100, dtype=np.float32)
    noise = np.random.default_rng(0).normal(100, 60, flat.shape).astype(np.float32)
    still, noisy = (cubes_of(hu, (1.0, 1.0, 1.0), 1.0) for hu in (flat, noise))
    assert first_order(still)["first_order_entropy"] == pytest.approx(0.0)
    values = first_order(noisy)
    assert values["first_order_mean"] == pytest.approx(100, abs=3)
    assert values["first_order_sd"] == pytest.approx(60, abs=3)
    # entropy of a normal distribution in bins of 31.25 HU: log2(60 sqrt(2 pi e) / 31.25) = 2.99 bit
    assert values["first_order_entropy"] == pytest.approx(2.99, abs=0.1)
    glcm, noisy_glcm = cooccurrence(still), cooccurrence(noisy)
    assert tuple(glcm) == tuple(f"glcm_{name}" for name in COOCCURRENCE_NAMES)
    assert glcm["glcm_energy"] == pytest.approx(1.0)
    assert glcm["glcm_entropy"] == pytest.approx(0.0, abs=1e-6)
    assert not [name for name in UNITS if "correlation" in name]  # ITK's values exceed 1
    assert noisy_glcm["glcm_entropy"] > 2.0
    assert noisy_glcm["glcm_inertia"] > glcm["glcm_inertia"] == pytest.approx(0.0, abs=1e-6)


def test_groups_follow_from_the_voxel_size() -> None:
    noise = np.random.default_rng(1).normal(100, 60, (60, 60, 40)).astype(np.float32)
    regions = {L1: middle(noise.shape), L2: np.zeros(noise.shape, dtype=bool)}
    body, coarse, fine = (
        level_texture(scan(noise, spacing), regions)
        for spacing in ((0.7, 0.7, 1.5), (1.2, 1.2, 2.0), (0.24, 0.24, 0.5))
    )
    assert [result.level for result in body] == [L1, L2]
    assert set(body[0].not_computed) == {"microarchitecture"}
    assert "at most 0.25 mm in plane and 0.5 mm between slices, got 0.7 and 1.5 mm" in str(body[0].not_computed)
    assert set(body[0].features) == {name for name in UNITS if name.startswith(("first_order", "glcm"))}
    assert set(coarse[0].not_computed) == {"first_order", "glcm", "microarchitecture"}
    assert coarse[0].features == {}
    assert {"bv_tv", "tb_n", "tb_th", "tb_sp"} <= set(fine[0].features)
    assert "at least 100 cubes of 1 mm" in body[1].not_computed["glcm"]
    rows = texture_rows(body)
    assert {"level": "L1", "feature": "first_order_mean", "unit": "HU"}.items() <= rows[0].items()
    assert any(row["note"] for row in rows if row["level"] == "L2")


def test_regions_of_another_shape_are_refused() -> None:
    volume = scan(np.zeros((8, 8, 8), dtype=np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(
        ValueError, match=r"region of L1 must have the shape of the volume \(8, 8, 8\), got \(8, 8, 7\)"
    ):
        level_texture(volume, {L1: np.zeros((8, 8, 7), dtype=bool)})


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    cubes = cubes_of(np.zeros((30, 30, 30), dtype=np.float32), (1.0, 1.0, 1.0), 1.0)
    with pytest.raises(MissingExtraError, match=r"pip install 'osteo-monai\[texture\]'"):
        cooccurrence(cubes)
