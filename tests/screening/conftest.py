"""A small synthetic trunk with four bodies, and stand-ins for the two bundles that know where they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.imaging.volume import Acquisition, CTVolume

SPACING = 2.0
SHAPE = (120, 100, 90)
ORIGIN = np.array([-120.0, -120.0, -100.0])
PITCH_MM = 36.0
"""Centre to centre of neighbouring bodies: 26 mm of bone and a disc of 10 mm."""
LEVELS = (VertebraLevel.T12, VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3)
TRABECULAR_HU = {VertebraLevel.T12: 170.0, VertebraLevel.L1: 160.0, VertebraLevel.L2: 150.0, VertebraLevel.L3: 140.0}


@dataclass(frozen=True)
class FakeVertebra:
    level: VertebraLevel
    certainty: float
    runner_up: VertebraLevel | None
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]
    complete: bool


def vertebra(place: VertebraLevel, **changes: Any) -> FakeVertebra:
    """Return the true vertebra at ``place``: T12 at z = 44 mm, the others each 36 mm below."""
    z = 44.0 - PITCH_MM * LEVELS.index(place)
    truth = FakeVertebra(place, 0.99, None, (0, 0, z), (0, 0, z + PITCH_MM / 2), (0, 0, z - PITCH_MM / 2), True)
    return replace(truth, **changes)


def grid(affine: NDArray[np.float64] | None = None, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.float64], ...]:
    index = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    matrix = phantom_affine() if affine is None else affine
    x, y, z = (matrix[a, a] * i + matrix[a, 3] for a, i in enumerate(index))
    return x, y, z


def phantom_affine() -> NDArray[np.float64]:
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    return affine


def inside_body(level: VertebraLevel, shrink: float = 0.0, grown: tuple[NDArray[np.float64], ...] | None = None):
    """Return the mask of an elliptic cylinder of 44 x 34 x 26 mm, smaller by ``shrink`` mm on all sides."""
    x, y, z = grid() if grown is None else grown
    zc = vertebra(level).centre_mm[2]
    section = (x / (22.0 - shrink)) ** 2 + (y / (17.0 - shrink)) ** 2 <= 1.0
    return section & (np.abs(z - zc) <= 13.0 - shrink)


@pytest.fixture(scope="session")
def phantom_hu() -> NDArray[np.float32]:
    """Air, a fat rim, soft tissue, an aorta of 45 HU in fat, and four bodies with a cortex of 450 HU."""
    x, y, z = grid()
    hu = np.full(SHAPE, -1000.0, dtype=np.float32)
    trunk = (x / 110.0) ** 2 + ((y + 10.0) / 85.0) ** 2 + 0 * z
    hu[trunk <= 1.0] = -100.0
    hu[trunk <= 0.75] = 50.0
    hu[((x + 8.0) ** 2 + (y - 36.0) ** 2 + 0 * z) <= 17.0**2] = -100.0
    hu[((x + 8.0) ** 2 + (y - 36.0) ** 2 + 0 * z) <= 11.0**2] = 45.0
    for level in LEVELS:
        hu[inside_body(level)] = 450.0
        hu[inside_body(level, 2.5)] = TRABECULAR_HU[level]
    hu += np.random.default_rng(0).normal(0.0, 5.0, SHAPE).astype(np.float32)
    return hu


@pytest.fixture(scope="session")
def phantom_mask() -> NDArray[np.bool_]:
    return np.any([inside_body(level) for level in LEVELS], axis=0)


FULL_HEADER = Acquisition(kvp=120.0, kernel="STANDARD", slice_thickness_mm=2.0, age_years=60.0, sex=Sex.FEMALE)


@pytest.fixture
def make_volume(phantom_hu: NDArray[np.float32]) -> Callable[..., CTVolume]:
    """Return a function that makes a volume of the phantom with other HU or another header."""

    def make(
        hu: NDArray[np.float32] | None = None, affine: NDArray[np.float64] | None = None, **header: Any
    ) -> CTVolume:
        values = phantom_hu if hu is None else hu
        matrix = phantom_affine() if affine is None else affine
        return CTVolume(values, matrix, matrix, values.shape, acquisition=replace(FULL_HEADER, **header))

    return make


class FakeLocaliser:
    """Answers with the vertebrae it was given, whatever the image."""

    name, version, weights_sha256 = "fake_localiser", "0.0.1", "0" * 64

    def __init__(self, vertebrae: list[FakeVertebra]) -> None:
        self.vertebrae = vertebrae
        self.calls = 0

    def __call__(self, image: Any) -> dict[str, Any]:
        self.calls += 1
        assert image.ndim == 4
        assert image.affine.shape == (4, 4)
        return {"vertebrae": self.vertebrae}


class FakeSegmenter:
    """Answers with the part of a mask of the whole phantom that its slab covers, found by the affine it is given."""

    name, version, weights_sha256 = "fake_segmenter", "0.0.1", "1" * 64

    def __init__(self, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> None:
        self.mask, self.affine = mask, affine
        self.slices: list[int] = []

    def __call__(self, image: Any) -> dict[str, Any]:
        first = round(float((image.affine[2, 3] - self.affine[2, 3]) / self.affine[2, 2]))
        count = image.shape[3]
        self.slices.append(count)
        return {"pred": torch.from_numpy(self.mask[None, :, :, first : first + count].astype(np.uint8))}


@pytest.fixture
def make_models(phantom_mask: NDArray[np.bool_]):
    """Return a function that makes the two stand-ins; the truth where nothing else is given."""
    from osteo_monai.screening.pipeline import ScreeningModels

    def make(vertebrae: list[FakeVertebra] | None = None, mask: NDArray[np.bool_] | None = None) -> ScreeningModels:
        located = [vertebra(level) for level in LEVELS] if vertebrae is None else vertebrae
        return ScreeningModels(
            FakeLocaliser(located), FakeSegmenter(phantom_mask if mask is None else mask, phantom_affine())
        )

    return make
