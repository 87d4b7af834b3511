"""A small synthetic trunk with four bodies, and fakes of the three bundles that return their true positions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.imaging.volume import Acquisition, CTVolume
from osteo_monai.measurement.landmarks import BodyLandmarks, LateralBone, Side
from osteo_monai.screening import ScreeningModels
from osteo_monai.screening.ct import levels
from osteo_monai.screening.ct.levels import Vertebra
from osteo_monai.screening.ct.naming import BodyName, MissedBody, Naming
from osteo_monai.transforms.column_decoding import FoundBody

SPACING = 2.0
SHAPE = (120, 100, 90)
ORIGIN = np.array([-120.0, -120.0, -100.0])
PITCH_MM = 36.0
"""Centre to centre of neighbouring bodies: 26 mm of bone and a disc of 10 mm."""
LEVELS = (VertebraLevel.T12, VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3)
TRABECULAR_HU = {VertebraLevel.T12: 170.0, VertebraLevel.L1: 160.0, VertebraLevel.L2: 150.0, VertebraLevel.L3: 140.0}

MakeVolume = Callable[..., CTVolume]
"""Makes a volume of the phantom with other HU or another header."""


def lateral_bone(side: Side, length_mm: float) -> LateralBone:
    """Return a rib or process that was followed to its end."""
    return LateralBone(side, length_mm + 18.0, 0.4 * length_mm, length_mm, 3.0, 8.0, False, False, 1.0)


BARE = BodyLandmarks(None, None, True, True, None)
LAST_RIBS = BodyLandmarks(lateral_bone("right", 98.0), lateral_bone("left", 105.0), True, True, None)


def vertebra(place: VertebraLevel, **changes: Any) -> Vertebra:
    """Return the true vertebra at ``place``: T12 at z = 44 mm, the others each 36 mm below."""
    z = 44.0 - PITCH_MM * LEVELS.index(place)
    centre, top, bottom = (0.0, 0.0, z), (0.0, 0.0, z + PITCH_MM / 2), (0.0, 0.0, z - PITCH_MM / 2)
    landmarks = LAST_RIBS if place is VertebraLevel.T12 else BARE
    true = Vertebra(place, centre, top, bottom, 0.99, None, 0.9, 0.9, complete=True, landmarks=landmarks)
    return replace(true, **changes)


def grid(affine: NDArray[np.float64] | None = None, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.float64], ...]:
    index = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    matrix = phantom_affine() if affine is None else affine
    x, y, z = (matrix[a, a] * i + matrix[a, 3] for a, i in enumerate(index))
    return x, y, z


def phantom_affine() -> NDArray[np.float64]:
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    return affine


def inside_body(level: VertebraLevel, shrink: float = 0.0) -> NDArray[np.bool_]:
    """Return the mask of an elliptic cylinder of 44 x 34 x 26 mm, smaller by ``shrink`` mm on all sides."""
    x, y, z = grid()
    zc = vertebra(level).centre_mm[2]
    section = (x / (22.0 - shrink)) ** 2 + (y / (17.0 - shrink)) ** 2 <= 1.0
    return np.asarray(section & (np.abs(z - zc) <= 13.0 - shrink))


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
    return np.asarray(np.any([inside_body(level) for level in LEVELS], axis=0))


FULL_HEADER = Acquisition(kvp=120.0, kernel="STANDARD", slice_thickness_mm=2.0, age_years=60.0, sex=Sex.FEMALE)


@pytest.fixture
def make_volume(phantom_hu: NDArray[np.float32]) -> MakeVolume:
    """Return a function that makes a volume of the phantom with other HU or another header."""

    def make(
        hu: NDArray[np.float32] | None = None, affine: NDArray[np.float64] | None = None, **header: Any
    ) -> CTVolume:
        values = phantom_hu if hu is None else hu
        matrix = phantom_affine() if affine is None else affine
        return CTVolume(values, matrix, matrix, values.shape, acquisition=replace(FULL_HEADER, **header))

    return make


class FakeBundle:
    """What fakes of bundles for CT have in common."""

    name, version, weights_sha256, trained_on = "fake", "0.0.1", "0" * 64, "no data"
    pinned = False

    def setting(self, name: str) -> Any:
        raise KeyError(name)

    def class_activation(self, scan: Mapping[str, Any], layer: str, output: int) -> tuple[Any, Any]:
        raise NotImplementedError


class FakeLocaliser(FakeBundle):
    """Returns the centre line of the phantom for any image."""

    name = "fake_localiser"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Any, /) -> dict[str, Any]:
        self.calls += 1
        assert image.ndim == 4
        assert image.affine.shape == (4, 4)
        z = np.arange(-100.0, 80.0, 10.0)
        return {"line": np.stack([0 * z, 0 * z, z], axis=1)}


class FakeColumn(FakeBundle):
    """Returns the given bodies from the lowest up, and the line of its input."""

    name, weights_sha256 = "fake_column", "2" * 64

    def __init__(self, vertebrae: Sequence[Vertebra]) -> None:
        self.vertebrae = sorted(vertebrae, key=lambda v: v.centre_mm[2])

    def __call__(self, scan: Any, /) -> dict[str, Any]:
        assert scan["image"].ndim == 4
        return {"bodies": [found_body(v) for v in self.vertebrae], "axis_mm": scan["line"]}


def found_body(v: Vertebra, role: tuple[float, float, float, float] = (-1.4,) * 4) -> FoundBody:
    """Return the body that the column network would find there, without a name."""
    return FoundBody(
        0.95, v.centre_mm, v.superior_mm, v.inferior_mm, v.superior_seen, v.inferior_seen, role, v.complete
    )


class FakeSegmenter(FakeBundle):
    """Returns the part of a mask of the whole phantom that its slab covers, by the affine of its input."""

    name, weights_sha256 = "fake_segmenter", "1" * 64

    def __init__(self, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> None:
        self.mask, self.affine = mask, affine
        self.slices: list[int] = []

    def __call__(self, image: Any, /) -> dict[str, Any]:
        first = round(float((image.affine[2, 3] - self.affine[2, 3]) / self.affine[2, 2]))
        count = image.shape[3]
        self.slices.append(count)
        return {"pred": torch.from_numpy(self.mask[None, :, :, first : first + count].astype(np.uint8))}


@dataclass(frozen=True)
class FakeModels(ScreeningModels):
    """Fakes of the three bundles, typed as such."""

    localisation: FakeLocaliser
    column: FakeColumn
    segmentation: FakeSegmenter


MakeModels = Callable[..., FakeModels]
"""Makes fakes of the bundles."""


def given_names(vertebrae: Sequence[Vertebra], above: int, missed: Sequence[MissedBody], **changes: Any) -> Naming:
    """Return the decision that gives the bodies, from the lowest up, their names; the highest ``above`` get none."""
    names = []
    for n, v in enumerate(vertebrae):
        unnamed = n >= len(vertebrae) - above
        level = None if unnamed else v.level
        other = v.runner_up if v.runner_up is not None and not unnamed else None
        names.append(
            BodyName("above" if unnamed else "named", level, v.certainty, other, 1.0 - v.certainty, {}, 0.0, 0.0)
        )
    fields: dict[str, Any] = {"lumbar_count": {5: 1.0}, "ribbed_count": {12: 1.0}, "scale": 1.0} | changes
    return Naming(tuple(names), missed=tuple(missed), doubles=(), **fields)


@pytest.fixture
def make_models(phantom_mask: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch) -> MakeModels:
    """Return a function that makes the three fakes; by default they return the truth.

    Landmarks and names are given as well, in place of the two steps that compute them (see test_levels.py).
    """

    def make(
        vertebrae: Sequence[Vertebra] | None = None,
        mask: NDArray[np.bool_] | None = None,
        above: int = 0,
        missed: Sequence[MissedBody] = (),
        **naming: Any,
    ) -> FakeModels:
        column = FakeColumn([vertebra(level) for level in LEVELS] if vertebrae is None else vertebrae)
        given = column.vertebrae
        monkeypatch.setattr(levels, "trace_landmarks", lambda *_: [v.landmarks for v in given])
        monkeypatch.setattr(levels, "name_column", lambda *_: given_names(given, above, missed, **naming))
        segmenter = FakeSegmenter(phantom_mask if mask is None else mask, phantom_affine())
        return FakeModels(FakeLocaliser(), column, segmenter)

    return make


@pytest.fixture
def nifti(phantom_hu: NDArray[np.float32], tmp_path: Path) -> Path:
    """Write the phantom as an LPS NIfTI, so that flips are at work, and return its path."""
    import nibabel as nib

    flipped = phantom_hu[::-1, ::-1].astype(np.int16)
    affine = phantom_affine()
    affine[0, 0] = affine[1, 1] = -2.0
    affine[:2, 3] += (np.array(phantom_hu.shape[:2]) - 1) * 2.0
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(flipped, affine), path)
    return path
