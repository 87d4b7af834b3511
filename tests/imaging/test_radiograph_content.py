"""Chests and what only looks like one: virtual radiographs and drawings without a header, small and quick to make."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import View
from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging.radiograph import RadiographFacts, StoredRadiograph, check_radiograph
from osteo_monai.imaging.radiograph.chest import fit_chest
from osteo_monai.imaging.radiograph.image import orient
from osteo_monai.imaging.radiograph.lumbar import fit_lumbar
from osteo_monai.imaging.radiograph.pattern import correlate, draw_bank, reduce
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.radiograph import project, usual_protocol

Grey = NDArray[np.float32]


@cache
def virtual(view: str, seed: int = 3) -> Grey:
    return project(Anatomy(draw_person(seed)), usual_protocol(view, 512), seed).pixels


def picture(pixels: Grey) -> StoredRadiograph:
    return StoredRadiograph(np.ascontiguousarray(pixels, np.float32), None, RadiographFacts("PNG", 16))


def drawn_chest(wall: float) -> Grey:
    """Two lungs of 0.2 beside and above something bright, in a chest wall of the brightness ``wall``."""
    y, x = np.mgrid[:400, :400] / 400
    side = np.abs(x - 0.5)
    top = 0.12 + 0.3 * np.clip(side - 0.15, 0, 1)
    inside = np.where((side < 0.33) & (y > top), 0.2, wall)
    drawing = np.where((y > 0.75) | ((side < 0.08) & (y < 0.8)), 0.9, inside)
    return np.asarray(ndimage.gaussian_filter(np.where(y < top, 0.5, drawing), 5), np.float32)


@pytest.mark.parametrize(("turns", "inverted"), [(0, False), (0, True), (1, False), (2, True), (3, False)])
def test_a_virtual_chest_is_recognised_however_it_lies(turns: int, inverted: bool) -> None:
    truth = virtual("chest_frontal")
    read = check_radiograph(picture(np.rot90(1 - truth if inverted else truth, turns)), View.CHEST_FRONTAL)
    codes = {f.code for f in read.findings}
    assert ("turned" in codes, "inverted" in codes, "mirrored" in codes) == (turns > 0, inverted, False)
    assert read.layout.quarter_turns == -turns % 4


@pytest.mark.parametrize("view", ["lumbar_ap", "lumbar_lateral"])
@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_lumbar_spine_is_no_chest(view: str, turns: int, inverted: bool) -> None:
    pixels = virtual(view)
    pixels = np.rot90(1 - pixels if inverted else pixels, turns)
    with pytest.raises(ScanRefusedError, match="not recognised as a frontal chest"):
        check_radiograph(picture(pixels), View.CHEST_FRONTAL)
    read = check_radiograph(picture(pixels))
    assert read.view is View.UNKNOWN
    assert "view_unknown" in {f.code for f in read.findings}


def test_the_patterns_tell_chest_and_lumbar_spine_apart() -> None:
    fits = {view: fit_chest(virtual(view)) for view in ("chest_frontal", "lumbar_ap")}
    assert fits["chest_frontal"].lead > fits["lumbar_ap"].lead + 0.05
    assert (fits["chest_frontal"].recognised, fits["lumbar_ap"].recognised) == (True, False)
    assert fit_lumbar(reduce(virtual("lumbar_ap"))) > fit_lumbar(reduce(virtual("chest_frontal")))


LUMBAR = [View.LUMBAR_AP, View.LUMBAR_LATERAL]


def refusal_of(pixels: Grey, view: View) -> str | None:
    try:
        assert check_radiograph(picture(pixels), view).view is view
    except ScanRefusedError as error:
        return error.findings[-1].code
    return None


@pytest.mark.parametrize("view", LUMBAR)
@pytest.mark.parametrize("seed", [3, 8])
def test_a_virtual_lumbar_spine_is_recognised_and_its_orientation_checked(view: View, seed: int) -> None:
    pixels = virtual(str(view), seed)
    assert refusal_of(pixels, view) is None
    assert refusal_of(pixels[:, ::-1], view) is None  # left and right are not compared
    assert refusal_of(np.rot90(pixels), view) == "not_upright"
    assert refusal_of(np.rot90(pixels, 3), view) == "not_upright"
    assert refusal_of(1 - pixels, view) == "not_upright"


def test_a_lumbar_spine_upside_down_is_a_warning() -> None:
    read = check_radiograph(picture(np.rot90(virtual("lumbar_ap"), 2)), View.LUMBAR_AP)
    assert "orientation_uncertain" in {f.code for f in read.findings}
    upright = check_radiograph(picture(virtual("lumbar_ap")), View.LUMBAR_AP)
    assert "orientation_uncertain" not in {f.code for f in upright.findings}


@pytest.mark.parametrize("view", LUMBAR)
def test_a_chest_called_lumbar_is_refused(view: View) -> None:
    assert refusal_of(virtual("chest_frontal"), view) == "other_view"


@pytest.mark.parametrize("view", LUMBAR)
@pytest.mark.parametrize("shown", ["noise", "clouds"])
def test_what_has_no_column_is_no_lumbar_spine(view: View, shown: str) -> None:
    noise = np.random.default_rng(1).random((400, 320)).astype(np.float32)
    clouds = ndimage.gaussian_filter(noise, 20)
    pixels = {"noise": noise, "clouds": (clouds - clouds.min()) / np.ptp(clouds)}[shown]
    assert refusal_of(pixels, view) == "not_a_lumbar_spine"


@pytest.mark.parametrize(("wall", "recognised"), [(0.10, False), (0.15, False), (0.25, True), (0.60, True)])
def test_what_is_darker_beside_the_lungs_is_no_chest(wall: float, recognised: bool) -> None:
    drawn = fit_chest(drawn_chest(wall))
    assert drawn.fit > 0.7
    assert drawn.recognised == recognised


def test_fit_does_not_depend_on_exposure() -> None:
    chest = virtual("chest_frontal")
    assert fit_chest(chest**2 * 0.7 + 0.1).fit == pytest.approx(fit_chest(chest).fit, abs=0.03)


def test_a_pattern_finds_itself_in_every_orientation() -> None:
    def corner(u: Grey, v: Grey) -> tuple[Grey, Grey]:
        value = ((u < 0) & (v < 0.5)).astype(np.float32)
        return value, np.where((np.abs(u) < 1) & (v > 0) & (v < 1), 1, 0).astype(np.float32)

    bank = draw_bank(corner, [(15.5, -0.5, 32.0, 32.0)])
    grey = np.zeros((64, 64), np.float32)
    grey[:32, :32] = 1  # what the pattern shows, so that it fits where the picture lies as it is
    for turns in range(4):
        for mirrored in (False, True):
            fits = correlate(bank, reduce(orient(grey, turns, mirrored)), 0.5)[0]
            # two of eight orientations look alike: a corner is symmetric about its diagonal
            assert (fits > 0.99).sum() == 2
            assert (fits < -0.2).sum() == 6


def test_a_pattern_that_is_mostly_outside_or_too_small_does_not_count() -> None:
    def stripe(u: Grey, v: Grey) -> tuple[Grey, Grey]:
        inside = (np.abs(u) < 1) & (v > 0) & (v < 1)
        return (np.abs(u) < 0.3).astype(np.float32), inside.astype(np.float32)

    bank = draw_bank(stripe, [(15.5, 2.0, 14.0, 28.0), (15.5, 2.0, 30.0, 28.0), (15.5, 10.0, 6.0, 8.0)])
    grey = np.zeros((64, 32), np.float32)  # the middle 16 columns of the square
    grey[:, 11:20] = 1
    fits = correlate(bank, reduce(grey), 0.5)[:, 0]
    assert fits[0] > 0.8
    assert fits[1] == fits[2] == 0  # half outside; a quarter of the height
