"""One man in noise-free scans, made once, for every test here; and one thread, so that tests do not slow each other."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.person import Variant, draw_person

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def grow() -> Callable[..., Anatomy]:
    """Return a function that grows the body of a 55-year-old from a seed and variants; each body once."""

    @cache
    def grown(seed: int = 5, *variants: Variant, sex: Sex = Sex.MALE, density: float = 120.0) -> Anatomy:
        return Anatomy(draw_person(seed, sex=sex, age_years=55.0, mean_density=density, variants=frozenset(variants)))

    return grown


@pytest.fixture(scope="session")
def scan_bodies() -> Callable[..., VirtualCT]:
    """Return a function that scans some levels of a body closely: 96 mm in plane, thin slices, no noise, no table."""

    def scanned(anatomy: Anatomy, low: VertebraLevel = L2, high: VertebraLevel = L1, **protocol: object) -> VirtualCT:
        bottom, top = anatomy.vertebra(low).centre, anatomy.vertebra(high).centre
        fields: dict[str, Any] = {
            "pixel": 1.0,
            "matrix": (96, 96),
            "slice_step": 1.5,
            "slice_thickness": 0.1,
            "noise_hu": 0.0,
        }
        centre = 0.5 * (bottom + top) - anatomy.trunk_centre
        return acquire(
            anatomy,
            CTProtocol(**{**fields, "table": False, **protocol}),
            z_range=(float(bottom[2]) - 26, float(top[2]) + 26),
            centre_xy=(float(centre[0]), float(centre[1])),
        )

    return scanned


@pytest.fixture(scope="session")
def man(grow: Callable[..., Anatomy]) -> Anatomy:
    """A man of 55 with 120 mg/cm3."""
    return grow()


@pytest.fixture(scope="session")
def clean(man: Anatomy, scan_bodies: Callable[..., VirtualCT]) -> VirtualCT:
    """L1 and L2 of that man at 120 kVp."""
    return scan_bodies(man)
