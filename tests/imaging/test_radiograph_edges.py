"""Pictures that are no projection: even areas with sharp edges, and noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.datasets import load_sample_images

from osteo_monai.domain import View
from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging.radiograph import RadiographFacts, StoredRadiograph, check_radiograph
from osteo_monai.imaging.radiograph.edges import check_edges, edge_measures
from osteo_monai.imaging.radiograph.lumbar import fit_lumbar_view
from osteo_monai.transforms import LoadRadiographd
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.radiograph import project, usual_protocol

Grey = NDArray[np.float32]


def ellipse(seed: int) -> Grey:
    """A drawn ellipse on a gradient, smoothed, with noise; the pattern of both lumbar views fits it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:400, :340] / 400
    shape = ((x - 0.42) / (0.20 + 0.03 * seed)) ** 2 + ((y - 0.5) / 0.6) ** 2 < 1
    drawing = ndimage.gaussian_filter(0.3 + 0.4 * shape + 0.2 * x, 5) + rng.normal(0, 0.02, x.shape)
    return np.asarray(np.clip(drawing, 0, 1), np.float32)


def polygons(seed: int) -> Grey:
    """Filled grey polygons, as in a plan or a user interface."""
    rng = np.random.default_rng(seed)
    page = Image.new("L", (400, 500), 120)
    draw = ImageDraw.Draw(page)
    for _ in range(12):
        points = rng.uniform(0, 500, (4, 2))
        draw.polygon([(float(a), float(b)) for a, b in points], fill=int(rng.integers(40, 220)))
    return np.asarray(np.asarray(page) / 255 + rng.normal(0, 0.004, (500, 400)), np.float32)


def noise(seed: int) -> Grey:
    cloud = np.random.default_rng(seed).normal(0.5, 0.15, (400, 400))
    return np.asarray(np.clip(cloud, 0, 1), np.float32)


@pytest.mark.parametrize("make", [ellipse, polygons, noise])
@pytest.mark.parametrize("seed", [0, 1])
def test_drawings_and_noise_have_not_the_edges_of_a_projection(make: Callable[[int], Grey], seed: int) -> None:
    assert [f.code for f in check_edges(make(seed))] == ["not_a_projection"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("view", [View.LUMBAR_AP, View.LUMBAR_LATERAL])
def test_a_drawing_that_the_pattern_of_a_view_fits_is_refused(seed: int, view: View) -> None:
    pixels = ellipse(seed)
    fit = fit_lumbar_view(pixels, view)
    assert (fit.recognised, fit.defect) == (True, None)
    with pytest.raises(ScanRefusedError) as caught:
        check_radiograph(StoredRadiograph(pixels, None, RadiographFacts("PNG", 8)), view)
    assert "not_a_projection" in {f.code for f in caught.value.findings}


def test_a_photograph_of_buildings_has_the_edges_of_no_radiograph() -> None:
    pixels = np.asarray(load_sample_images().images[0], np.float32).mean(axis=2) / 255
    measures = edge_measures(pixels)
    assert measures is not None
    assert measures[0] > 7.0  # the limit is above: some photographs pass


@pytest.mark.parametrize("view", ["chest_frontal", "lumbar_ap", "lumbar_lateral"])
@pytest.mark.parametrize("changed", ["as it is", "inverted", "noisy", "steeper"])
def test_radiographs_pass(view: str, changed: str) -> None:
    pixels = project(Anatomy(draw_person(4)), usual_protocol(view, 512), 4).pixels
    changes = {
        "as it is": pixels,
        "inverted": 1 - pixels,
        "noisy": pixels + np.random.default_rng(0).normal(0, 0.02, pixels.shape),
        "steeper": np.clip(1.25 * (pixels - 0.5) + 0.5, 0, 1),
    }
    assert check_edges(np.asarray(changes[changed], np.float32)) == []


def test_a_constant_picture_has_no_measure() -> None:
    assert edge_measures(np.full((300, 300), 0.5, np.float32)) is None


def test_the_reader_of_the_bundles_refuses_it_too(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(255 * ellipse(0), np.uint8)).save(tmp_path / "drawing.png")
    load = LoadRadiographd("image", view="lumbar_ap")
    with pytest.raises(ScanRefusedError, match="no radiograph"):
        load({"image": tmp_path / "drawing.png"})
