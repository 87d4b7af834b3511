"""Tissues around a body in a drawn torso whose HU and places are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement import body_frame
from osteo_monai.measurement.tissues import dense_volume_cm3, find_aorta, metal_volume_mm3, surroundings

SPACING = (1.2, 1.2, 2.5)
AORTA = (-14.0, 33.0)  # left and in front of the body's centre; the anterior wall lies at 17


class Torso:
    """An elliptic trunk of fat with a muscular wall, a lumbar body with an arch, erectors, aorta, cava and a table."""

    def __init__(
        self,
        blood: float = 45.0,
        noise: float = 12.0,
        spacing: tuple[float, float, float] = SPACING,
        half_width: float = 160.0,
    ) -> None:
        shape = [int(2 * half_width / spacing[0]), int(300 / spacing[1]), int(60 / spacing[2])]
        x, y, z = (s * (np.arange(n) - (n - 1) / 2) for n, s in zip(shape, spacing, strict=True))
        y = y + 30.0  # the spine lies behind the middle
        self.affine = np.diag([*spacing, 1.0])
        self.affine[:3, 3] = x[0], y[0], z[0]
        x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
        trunk = (x / 150) ** 2 + ((y - 30) / 105) ** 2 + 0 * z
        hu = np.full(shape, -1000.0)
        hu[trunk <= 1] = -104
        hu[(trunk <= 0.62) & (trunk > 0.5)] = 48  # abdominal wall
        hu[(abs(x) > 8) & (abs(x) < 62) & (y < -30) & (y > -72) & (trunk < 0.8)] = 48  # erectors
        self.body = ((x / 23) ** 2 + (y / 17) ** 2 <= 1) & (abs(z) <= 14)
        column = ((x / 23) ** 2 + (y / 17) ** 2 <= 1) & (abs(z) > 14)
        hu[self.body] = 140
        hu[column] = 80
        hu[(abs(x) < 12) & (y < -20) & (y > -34) & (abs(z) < 30)] = 400
        hu[((x - 16) ** 2 + (y - 30) ** 2 < 11**2) & (abs(z) < 99)] = 40  # cava
        hu[((x - AORTA[0]) ** 2 + (y - AORTA[1]) ** 2 < 10**2) & (abs(z) < 99)] = blood
        hu[(abs(x) < 120) & (y < -85) & (y > -90) & (abs(z) < 99)] = -200  # table
        self.hu = (hu + np.random.default_rng(0).normal(0, noise, shape)).astype(np.float32)


@pytest.fixture(scope="module")
def native() -> Torso:
    return Torso()


def test_tissues_are_read_where_they_are(native: Torso) -> None:
    found = surroundings(native.hu, native.affine, native.body)
    assert found.air is not None
    assert found.air.hu == pytest.approx(-1000, abs=3)
    assert found.subcutaneous_fat is not None
    assert found.subcutaneous_fat.hu == pytest.approx(-104, abs=3)
    assert found.visceral_fat is not None
    assert found.visceral_fat.hu == pytest.approx(-104, abs=3)
    assert found.muscle is not None
    assert found.muscle.hu == pytest.approx(48, abs=3)
    assert found.fat is found.subcutaneous_fat
    assert min(t.area_mm2 for t in found.calibration_samples().values()) >= 100
    samples = found.calibration_samples()
    assert set(samples) == {"air", "adipose", "muscle", "blood"}
    assert all(0 < t.sd < 15 for t in samples.values())  # noise of 12 HU, less in a block
    assert not samples["muscle"].enhanced
    assert samples["blood"].centre_mm is not None
    assert samples["blood"].centre_mm[:2] == pytest.approx(AORTA, abs=3.0)
    assert samples["muscle"].centre_mm is not None
    assert samples["muscle"].centre_mm[1] < -30.0


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_fat_in_muscle_does_not_lower_its_hu(share: float) -> None:
    """Strands of fat lower the median by 5 HU and more."""
    torso = Torso(noise=12.0, spacing=(1.0, 1.0, 2.0))
    field = np.random.default_rng(3).normal(size=torso.hu.shape)
    field = ndimage.gaussian_filter(field, (3.0, 3.0, 1.5))
    muscle = (torso.hu > 0) & (torso.hu < 96) & ~torso.body
    fatty = muscle & (field > np.quantile(field, 1 - share))
    torso.hu[fatty] -= 30.0
    found = surroundings(torso.hu, torso.affine, torso.body)
    assert found.muscle is not None
    assert found.muscle.hu == pytest.approx(48.0, abs=4.0)


def test_thin_layer_of_fat_is_not_sampled() -> None:
    """Partial volume with muscle and skin raised it to -70 HU in a real scan of a thin person."""
    torso = Torso()
    x, y, _ = np.meshgrid(*(np.arange(n) for n in torso.hu.shape), indexing="ij", sparse=True)
    x, y = x * SPACING[0] + torso.affine[0, 3], y * SPACING[1] + torso.affine[1, 3]
    trunk = (x / 150) ** 2 + ((y - 30) / 105) ** 2
    lean = np.broadcast_to((trunk < 0.89) | ((trunk > 0.98) & (trunk <= 1)), torso.hu.shape)
    torso.hu[lean & (torso.hu < -50)] += 152.0
    found = surroundings(torso.hu, torso.affine, torso.body)
    assert found.fat is None
    assert "adipose" not in found.calibration_samples()


def test_cortex_of_the_arch_is_read_where_it_is_resolved() -> None:
    for spacing, present in (((0.8, 0.8, 2.0), True), (SPACING, False), ((0.8, 0.8, 5.0), False)):
        torso = Torso(spacing=spacing)
        world = np.indices(torso.hu.shape).reshape(3, -1).T @ torso.affine[:3, :3].T + torso.affine[:3, 3]
        x, y = world[:, 0].reshape(torso.hu.shape), world[:, 1].reshape(torso.hu.shape)
        torso.hu[(abs(x) < 12) & (y < -22) & (y > -32)] = 1180.0
        found = surroundings(torso.hu, torso.affine, torso.body)
        assert (found.cortical_bone is not None) is present
        if found.cortical_bone is not None:
            assert found.cortical_bone.hu == pytest.approx(1180.0, abs=5.0)
            assert "cortical_bone" not in found.calibration_samples()


@pytest.mark.parametrize(("blood", "enhanced"), [(45.0, False), (150.0, True), (320.0, True)])
def test_aorta_is_found_with_and_without_contrast(blood: float, enhanced: bool) -> None:
    torso = Torso(blood)
    aorta = find_aorta(torso.hu, torso.affine, torso.body)
    assert aorta is not None
    assert aorta.hu == pytest.approx(blood, abs=6)
    assert aorta.centre_mm[:2] == pytest.approx(AORTA, abs=3.0)
    assert aorta.enhanced is enhanced
    assert aorta.enhancement_hu == pytest.approx(blood - 45, abs=6)
    assert aorta.certainty > 0.5
    samples = surroundings(torso.hu, torso.affine, torso.body).calibration_samples()
    assert ("blood" in samples) is not enhanced
    assert samples["muscle"].enhanced is enhanced


def test_noise_of_a_sharp_kernel_shifts_nothing() -> None:
    torso = Torso(noise=60.0, spacing=(0.8, 0.8, 1.0))
    found = surroundings(torso.hu, torso.affine, torso.body)
    assert found.muscle is not None
    assert found.muscle.hu == pytest.approx(48, abs=5)
    assert found.subcutaneous_fat is not None
    assert found.subcutaneous_fat.hu == pytest.approx(-104, abs=5)
    assert found.aorta is not None
    assert found.aorta.hu == pytest.approx(45, abs=8)


def test_scale_that_is_off_is_seen_and_not_cut_away(native: Torso) -> None:
    found = surroundings(native.hu + 45, native.affine, native.body)
    assert found.air is not None
    assert found.air.hu == pytest.approx(-955, abs=3)
    assert found.fat is not None
    assert found.fat.hu == pytest.approx(-59, abs=3)


def test_constant_padding_is_not_air(native: Torso) -> None:
    hu = native.hu.copy()
    outside = hu < -800
    hu[outside] = -1024
    assert surroundings(hu, native.affine, native.body).air is None
    valid = ~outside
    assert surroundings(native.hu, native.affine, native.body, valid=valid).air is None


def test_crop_within_the_person_has_neither_air_nor_skin(native: Torso) -> None:
    x, y, _ = np.argwhere(native.body).mean(axis=0).astype(int)
    part = (slice(x - 40, x + 40), slice(y - 40, y + 48), slice(None))
    affine = native.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([x - 40, y - 40, 0])
    found = surroundings(native.hu[part], affine, native.body[part])
    assert found.air is None
    assert found.subcutaneous_fat is None
    assert found.aorta is not None  # 33 mm in front: still in the crop
    assert found.aorta.hu == pytest.approx(45, abs=6)


def test_no_vessel_gives_no_aorta(native: Torso) -> None:
    hu = native.hu.copy()
    world = np.indices(hu.shape).reshape(3, -1).T @ native.affine[:3, :3].T + native.affine[:3, 3]
    front = (world[:, 1] > 18).reshape(hu.shape) & (hu > -150)
    hu[front] = -104
    assert find_aorta(hu, native.affine, native.body) is None


def test_metal_is_counted_and_a_noisy_voxel_is_not(native: Torso) -> None:
    assert metal_volume_mm3(native.hu, native.affine, native.body) == 0.0
    hu = native.hu.copy()
    x, y, z = np.argwhere(native.body).mean(axis=0).astype(int)
    hu[x, y, z] = 9000
    assert metal_volume_mm3(hu, native.affine, native.body) == 0.0
    hu[x + 5 : x + 9, y - 30 : y - 10, z : z + 2] = 9000  # a screw of 4 x 20 x 2 voxels, from behind
    assert metal_volume_mm3(hu, native.affine, native.body) == pytest.approx(160 * 1.2 * 1.2 * 2.5)
    far = native.hu.copy()
    far[2:8, 2:8, :] = 9000
    assert metal_volume_mm3(far, native.affine, native.body) == 0.0


def test_dense_thing_in_the_same_slices_but_away_from_the_body_is_no_metal(native: Torso) -> None:
    """In the corner of the box about the body, as a tablet in the bowel: nearer than 25 mm along each axis, but not in
    total.
    """
    index = np.argwhere(native.body)
    corner = index[:, 0].max() + int(20 / 1.2), index[:, 1].max() + int(20 / 1.2), int(index[:, 2].mean())
    hu = native.hu.copy()
    hu[corner[0] : corner[0] + 3, corner[1] : corner[1] + 3, corner[2]] = 9000
    assert metal_volume_mm3(hu, native.affine, native.body) == 0.0
    beside = index[:, 0].max() + int(10 / 1.2), int(index[:, 1].mean()), int(index[:, 2].mean())
    hu[beside[0] : beside[0] + 3, beside[1] : beside[1] + 3, beside[2]] = 9000
    assert metal_volume_mm3(hu, native.affine, native.body) == pytest.approx(9 * 1.2 * 1.2 * 2.5)


def test_cement_is_told_by_its_volume(native: Torso) -> None:
    assert dense_volume_cm3(native.hu, native.affine, native.body) == 0.0
    hu = native.hu.copy()
    world = np.indices(hu.shape).reshape(3, -1).T @ native.affine[:3, :3].T + native.affine[:3, 3]
    ball = (np.linalg.norm(world - [4.0, 0.0, 0.0], axis=1) <= 8.0).reshape(hu.shape)
    hu[ball] = 1200
    frame = body_frame(native.body, native.affine)
    assert dense_volume_cm3(hu, native.affine, native.body, frame=frame) == pytest.approx(2.14, rel=0.2)  # 4/3 pi 0.8^3
    shell = native.hu.copy()  # dense cortex is no cement
    points = np.argwhere(native.body)
    places: NDArray[np.float64] = points.astype(np.float64) @ native.affine[:3, :3].T + native.affine[:3, 3]
    rim = frame.distance_at(places) < 2.0
    shell[tuple(points[rim].T)] = 900
    assert dense_volume_cm3(shell, native.affine, native.body, frame=frame) == 0.0


def test_arrays_that_do_not_fit_raise(native: Torso) -> None:
    with pytest.raises(ValueError, match="body must have the shape of hu"):
        surroundings(native.hu, native.affine, native.body[:-1])
    with pytest.raises(ValueError, match="valid must have the shape of hu"):
        surroundings(native.hu, native.affine, native.body, valid=native.body[:-1])
    with pytest.raises(ValueError, match="at least one voxel"):
        metal_volume_mm3(native.hu, native.affine, np.zeros_like(native.body))
    with pytest.raises(ValueError, match="body must have the shape of hu"):
        dense_volume_cm3(native.hu, native.affine, native.body[:-1])
