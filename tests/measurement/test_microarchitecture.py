"""Apparent microarchitecture of plates, whose numbers follow from counting their faces."""

import numpy as np
import pytest

from osteo_monai.measurement.microarchitecture import TEXTURE_NAMES, microarchitecture, texture


def test_plates_give_the_same_numbers_on_every_grid_and_axis() -> None:
    # Plates 4 mm thick, 4 mm apart: one face per 4 mm along one axis of three, so Tb.N = 0.25 / 3 per mm. ITK's filter
    # alone gives 5 times that, or a fifth, for plates normal to z or x at 0.4 x 0.4 x 2 mm.
    for spacing in ((0.5, 1.0, 2.0), (0.4, 0.4, 2.0), (1.0, 1.0, 1.0)):
        shape = [int(48 / s) for s in spacing]
        region = np.zeros(shape, dtype=bool)
        region[tuple(slice(n // 4, 3 * n // 4) for n in shape)] = True
        for axis in range(3):
            place = np.arange(shape[axis]) * spacing[axis] + 1e-6
            line = np.where((place // 4) % 2 == 0, 300.0, 0.0).astype(np.float32)
            hu = np.moveaxis(np.broadcast_to(line, [*np.delete(shape, axis), shape[axis]]), -1, axis)
            found = microarchitecture(np.ascontiguousarray(hu), np.diag([*spacing, 1.0]), region)
            assert found.bv_tv == pytest.approx(0.5, abs=0.07), (spacing, axis)  # half levels between cubes count
            assert found.tb_n == pytest.approx(0.25 / 3, rel=0.03), (spacing, axis)
            assert found.tb_th == pytest.approx(6.0, rel=0.14), (spacing, axis)  # 0.5 / Tb.N: 1.5 times the truth
            assert found.tb_th == pytest.approx(found.bv_tv / found.tb_n, rel=1e-6)
            assert found.tb_sp == pytest.approx((1 - found.bv_tv) / found.tb_n, rel=1e-6)
            assert found.voxel_mm == min(spacing)
            assert found.threshold_hu == 150.0

    # In the same process, because the first use of ITK costs seconds.
    shape = (30, 30, 12)
    region = np.zeros(shape, dtype=bool)
    region[8:22, 8:22, 3:9] = True
    affine = np.diag([0.7, 0.7, 1.5, 1.0])
    empty = microarchitecture(np.zeros(shape, dtype=np.float32), affine, region)
    assert (empty.bv_tv, empty.tb_n, empty.tb_th, empty.tb_sp) == (0.0, 0.0, None, None)
    full = microarchitecture(np.full(shape, 300, dtype=np.float32), affine, region)
    assert (full.bv_tv, full.tb_n, full.tb_th) == (1.0, 0.0, None)

    flat = texture(np.full(shape, 100, dtype=np.float32), affine, region)
    noisy = texture(np.random.default_rng(0).normal(100, 60, shape).astype(np.float32), affine, region)
    assert tuple(flat) == TEXTURE_NAMES
    assert flat["energy"] == pytest.approx(1.0)
    assert flat["entropy"] == pytest.approx(0.0, abs=1e-6)
    assert noisy["entropy"] > 2.0
    assert noisy["inertia"] > flat["inertia"] == pytest.approx(0.0, abs=1e-6)

    with pytest.raises(ValueError, match="region must have the shape of hu"):
        microarchitecture(np.zeros(shape, dtype=np.float32), affine, region[:-1])
    with pytest.raises(ValueError, match="region must hold at least one voxel"):
        texture(np.zeros(shape, dtype=np.float32), affine, np.zeros(shape, dtype=bool))
    with pytest.raises(ValueError, match="voxel_mm must be positive"):
        microarchitecture(np.zeros(shape, dtype=np.float32), affine, region, voxel_mm=0.0)
