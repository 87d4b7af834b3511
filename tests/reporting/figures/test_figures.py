"""Figures: position, side and scale of what is drawn, and the texts."""

import base64
import io
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.domain import DensityThresholds, MineralStandard, Sex, VertebraLevel
from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.figures import (
    activation_picture,
    axial_picture,
    axial_slice,
    column_picture,
    density_picture,
)
from osteo_monai.screening.images import ClassActivation, ReportImages
from osteo_monai.screening.result import Density

SVG = "{http://www.w3.org/2000/svg}"
AXIAL_SCALE = 352 / 125  # drawing units per mm


def root(picture: Picture) -> ElementTree.Element:
    prefix = "data:image/svg+xml;base64,"
    assert picture.data_uri.startswith(prefix)
    return ElementTree.fromstring(base64.b64decode(picture.data_uri[len(prefix) :]))


def texts(picture: Picture) -> list[str]:
    return [element.text or "" for element in root(picture).iter(f"{SVG}text")]


def pixels(picture: Picture) -> list[NDArray[np.uint8]]:
    found = []
    for element in root(picture).iter(f"{SVG}image"):
        prefix, data = element.attrib["href"].split(",")
        assert prefix == "data:image/png;base64"
        found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


def outlines(picture: Picture, dashed: bool) -> list[NDArray[np.float64]]:
    """Points (n, 2) of each coloured contour."""
    found = []
    for element in root(picture).iter(f"{SVG}path"):
        if "stroke-opacity" in element.attrib or ("stroke-dasharray" in element.attrib) is not dashed:
            continue
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", element.attrib["d"])]
        found.append(np.array(numbers).reshape(-1, 2))
    return found


def size(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.ptp(points, axis=0))


def blob(hu_at: tuple[slice, slice, slice], images: ReportImages) -> ReportImages:
    """The same geometry with nothing but one bright block in air."""
    hu = np.full(images.hu.shape, -1000, dtype=np.float32)
    hu[hu_at] = 1000
    return replace(images, hu=hu)


def test_axial_contours_have_the_size_of_the_masks(images: ReportImages) -> None:
    picture = axial_picture(images, VertebraLevel.L1, 51, "instance 200")
    (body,), (region,) = outlines(picture, dashed=False), outlines(picture, dashed=True)
    # 21 x 31 and 13 x 19 voxels of 1.5 x 1.0 mm; coordinates are written to 0.1
    assert size(body) == pytest.approx(np.array([31.5, 31.0]) * AXIAL_SCALE, abs=0.2)
    assert size(region) == pytest.approx(np.array([19.5, 19.0]) * AXIAL_SCALE, abs=0.2)
    # the body is in the middle from side to side and 14 mm in front of the middle
    middle = (body.min(axis=0) + body.max(axis=0)) / 2
    assert middle == pytest.approx([176, 138 - 14 * AXIAL_SCALE], abs=0.2)
    assert {"L1", "slice 51, instance 200", "R", "L", "A", "P", "20 mm", "W 400 L 40"} <= set(texts(picture))
    assert "L1" in picture.alt
    assert "Outlined: vertebral body and trabecular region." in picture.alt


def test_axial_scale_bar_is_20_mm(images: ReportImages) -> None:
    lines = [e.attrib for e in root(axial_picture(images, VertebraLevel.L2, 37)).iter(f"{SVG}line")]
    longest = max(float(line["x2"]) - float(line["x1"]) for line in lines)
    assert longest == pytest.approx(20 * AXIAL_SCALE, abs=0.2)


def test_axial_contour_lies_on_the_edge_in_the_image(images: ReportImages) -> None:
    """A bright body in air: the contour must run where the picture's grey is half-way."""
    x, y, z = 50, 82, 51
    picture = axial_picture(
        blob((slice(x - 10, x + 11), slice(y - 15, y + 16), slice(None)), images), VertebraLevel.L1, z
    )
    (grey,), (body,) = pixels(picture), outlines(picture, dashed=False)
    image = next(root(picture).iter(f"{SVG}image")).attrib
    per_unit = grey.shape[1] / float(image["width"])
    bright = np.argwhere(grey > 127)
    low = bright.min(axis=0)[::-1] / per_unit + [float(image["x"]), float(image["y"])]
    high = (bright.max(axis=0)[::-1] + 1) / per_unit + [float(image["x"]), float(image["y"])]
    # half a voxel of 1.5 mm is 2.1 units: the cut in a 1,400-HU step of grey is not half-way of the HU
    assert body.min(axis=0) == pytest.approx(low, abs=2.1)
    assert body.max(axis=0) == pytest.approx(high, abs=2.1)


def test_axial_display_is_radiological(images: ReportImages) -> None:
    # x grows to the patient's right, which shows at the left
    right = axial_picture(blob((slice(75, 85), slice(40, 120), slice(None)), images), VertebraLevel.L1, 51)
    (grey,) = pixels(right)
    assert grey[:, : grey.shape[1] // 2].mean() > 10 * grey[:, grey.shape[1] // 2 :].mean()
    front = axial_picture(blob((slice(30, 70), slice(105, 118), slice(None)), images), VertebraLevel.L1, 51)
    (grey,) = pixels(front)
    assert grey[: grey.shape[0] // 2].mean() > 10 * grey[grey.shape[0] // 2 :].mean()


def test_axial_picture_of_the_volumes_edge_is_padded_not_shifted(images: ReportImages) -> None:
    edge = replace(images, hu=images.hu[40:], bodies=images.bodies[40:], regions=None, levels=())  # type: ignore[index]
    picture = axial_picture(edge, VertebraLevel.L1, 51)
    (body,) = outlines(picture, dashed=False)
    assert (body[:, 0].min() + body[:, 0].max()) / 2 == pytest.approx(176, abs=0.2)
    image = next(root(picture).iter(f"{SVG}image")).attrib
    assert float(image["x"]) + float(image["width"]) < 352  # the patient's left is missing


def test_axial_errors_name_what_is_wrong(images: ReportImages) -> None:
    with pytest.raises(ValueError, match="slice_index must be within 0-79, got 80"):
        axial_picture(images, VertebraLevel.L1, 80)
    with pytest.raises(ValueError, match="L5 has neither"):
        axial_picture(images, VertebraLevel.L5, 40)


def test_axial_slice_from_centre_or_body(images: ReportImages) -> None:
    assert axial_slice(images, VertebraLevel.L2) == 37
    assert axial_slice(replace(images, levels=()), VertebraLevel.L2) == 37
    assert axial_slice(images, VertebraLevel.L5) is None
    moved = images.levels[2].model_copy(update={"centre_mm": (0.0, 0.0, 5000.0)})
    assert axial_slice(replace(images, levels=(moved,)), VertebraLevel.L2) is None


def test_named_regions_are_told_apart(images: ReportImages) -> None:
    assert images.bodies is not None
    regions = np.where(np.asarray(images.regions), images.bodies, 0)
    picture = axial_picture(replace(images, regions=regions), VertebraLevel.L1, 51)
    (region,) = outlines(picture, dashed=True)
    assert size(region) == pytest.approx(np.array([19.5, 19.0]) * AXIAL_SCALE, abs=0.2)
    other = axial_picture(replace(images, regions=np.where(regions == 20, 21, regions)), VertebraLevel.L1, 51)
    assert outlines(other, dashed=True) == []


def test_column_views_have_the_right_proportions(images: ReportImages) -> None:
    contours = outlines(column_picture(images, [VertebraLevel.L1]), dashed=False)
    assert len(contours) == 4  # two bodies in two views
    by_shape = sorted(contours, key=lambda points: points[:, 0].min())
    scale = size(by_shape[0])[1] / 22.5  # 9 voxels of 2.5 mm high
    for points, wide in zip(by_shape, (31.0, 31.0, 31.5, 31.5), strict=True):
        # across: 31 voxels of 1 mm sagittal, 21 of 1.5 mm coronal
        assert size(points) == pytest.approx(np.array([wide, 22.5]) * scale, abs=0.3)


def test_column_views_follow_a_bent_column(images: ReportImages) -> None:
    sagittal, _ = pixels(column_picture(images, []))
    straight, _ = pixels(column_picture(replace(images, levels=()), []))
    # 300 HU shows as 182, soft tissue as 87; four bodies of 22.5 mm in a view of 3 x 35 + 2 x 32 mm
    assert (sagittal > 150).any(axis=1).mean() == pytest.approx(90 / 169, abs=0.02)
    # the straight view meets three of them and only grazes L3
    assert (straight > 150).any(axis=1).sum() / straight.shape[0] < 0.45


def test_column_display_is_radiological(images: ReportImages) -> None:
    picture = column_picture(blob((slice(70, 90), slice(100, 130), slice(60, 80)), images), [])
    text = texts(picture)
    assert [text.count(letter) for letter in ("A", "P", "R", "L", "S", "I")] == [2, 2, 2, 2, 4, 4]  # with halos
    sagittal, _ = pixels(column_picture(blob((slice(None), slice(100, 130), slice(60, 80)), images), []))
    rows, columns = np.argwhere(sagittal > 128).mean(axis=0) / sagittal.shape
    assert rows < 0.5  # superior is up
    assert columns < 0.5  # anterior at the left
    _, coronal = pixels(column_picture(blob((slice(70, 90), slice(None), slice(60, 80)), images), []))
    rows, columns = np.argwhere(coronal > 128).mean(axis=0) / coronal.shape
    assert rows < 0.5
    assert columns < 0.5  # the patient's right at the left


def test_column_names_levels_with_certainty_in_order(images: ReportImages) -> None:
    picture = column_picture(images, [VertebraLevel.L1, VertebraLevel.L2], [51, 37])
    text = texts(picture)
    assert [w for w in text if w in ("T12", "L1", "L2", "L3")] == ["T12", "L1", "L2", "L3"]
    assert text.count(">99 %") == 1
    assert text.count("80 %") == 3
    assert "or T11" in text
    assert "T12 80 %, L1 >99 %, L2 80 %, L3 80 %" in picture.alt


def test_names_of_close_levels_do_not_overlap(images: ReportImages) -> None:
    first = images.levels[0]
    near = tuple(
        first.model_copy(
            update={"level": level, "centre_mm": (first.centre_mm[0], first.centre_mm[1], first.centre_mm[2] - k)}
        )
        for k, level in enumerate((VertebraLevel.T12, VertebraLevel.L1, VertebraLevel.L2))
    )
    drawn = root(column_picture(replace(images, levels=near), []))
    heights = [float(e.attrib["y"]) for e in drawn.iter(f"{SVG}text") if e.text in ("T12", "L1", "L2")]
    assert min(np.diff(heights)) >= 15


def test_column_without_levels_says_so(images: ReportImages) -> None:
    picture = column_picture(ReportImages(images.hu, images.affine), [])
    assert "No vertebral level was found." in picture.alt
    assert "no level found" in texts(picture)
    assert len(pixels(picture)) == 2


def test_column_tells_bodies_above_the_named_ones_once(images: ReportImages) -> None:
    picture = column_picture(images, [], above=7)
    drawn = root(picture)
    (above,) = (e for e in drawn.iter(f"{SVG}text") if "above" in (e.text or ""))
    assert above.text == "above T9: 7"
    highest = next(e for e in drawn.iter(f"{SVG}text") if e.text == "T12")
    assert float(highest.attrib["y"]) - float(above.attrib["y"]) >= 15
    assert "7 bodies above T9 were found and are not named." in picture.alt
    assert not any("above" in word for word in texts(column_picture(images, [])))


def test_column_of_bodies_without_names(images: ReportImages) -> None:
    picture = column_picture(ReportImages(images.hu, images.affine), [], above=1)
    assert "1 body was found, and none can be named." in picture.alt
    assert "no level named" in texts(picture)
    assert "no level found" not in texts(picture)


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 40, 1), (3, 90, 200), (600, 20, 3)])
def test_pictures_of_odd_volumes(shape: tuple[int, int, int]) -> None:
    hu = np.full(shape, np.nan, dtype=np.float32)
    picture = column_picture(ReportImages(hu, np.diag([0.7, 0.7, 5.0, 1.0])), [])
    assert len(pixels(picture)) == 2


def test_metal_and_padding_do_not_ring(images: ReportImages) -> None:
    hu = np.full(images.hu.shape, 40, dtype=np.float32)
    hu[50] = 30000
    hu[70:] = -30000
    (grey,) = pixels(axial_picture(replace(images, hu=hu), VertebraLevel.L1, 51))
    assert set(np.unique(grey)) >= {0, 255}
    assert (grey[:, -100:] == 128).all()  # soft tissue away from both is at mid-grey, L 40


def density_of(value: float, standard: MineralStandard = MineralStandard.K2HPO4) -> Density:
    return Density(mg_cm3=value, interval_low=value - 10, interval_high=value + 10, standard=standard)


def test_density_plot_places_the_measured_point() -> None:
    picture = density_picture(density_of(120.0), DensityThresholds(), 54.0, Sex.MALE)
    drawn = root(picture)
    (circle,) = drawn.iter(f"{SVG}circle")
    cuts = [e for e in drawn.iter(f"{SVG}line") if e.attrib.get("stroke-dasharray") == "6 3"]
    assert float(circle.attrib["cy"]) == pytest.approx(float(cuts[1].attrib["y1"]), abs=0.1)  # on the line of 120
    left, right = float(cuts[0].attrib["x1"]), float(cuts[0].attrib["x2"])
    assert float(circle.attrib["cx"]) == pytest.approx(left + (right - left) * (54 - 18) / (90 - 18), abs=0.1)
    assert {"normal", "osteopenia", "osteoporosis", "80", "120", "measured 120.0"} <= set(texts(picture))
    assert "120.0 mg/cm³ K2HPO4, 90 % interval 110.0 to 130.0, at age 54" in picture.alt
    assert any("men, mean" in w for w in texts(picture))
    assert not any("women" in w for w in texts(picture))


@pytest.mark.parametrize(("age", "sex"), [(None, Sex.MALE), (54.0, None), (None, None)])
def test_density_plot_of_unknown_age_or_sex_shows_both(age: float | None, sex: Sex | None) -> None:
    picture = density_picture(density_of(100.0), DensityThresholds(), age, sex)
    text = " | ".join(texts(picture))
    assert "women, mean by decade" in text
    assert "| men, mean by decade" in text
    assert ("age unknown" in text) is (age is None)
    assert len(list(root(picture).iter(f"{SVG}circle"))) == (0 if age is None else 1)
    assert "Both sexes are shown" in picture.caption


def test_density_plot_bands_are_the_thresholds_in_use() -> None:
    picture = density_picture(density_of(60.0), DensityThresholds(50.0, 110.0, source="x"), 70.0, Sex.FEMALE)
    assert {"50", "110"} <= set(texts(picture))
    assert "measured 60.0" in texts(picture)


def test_density_of_another_standard_is_not_compared() -> None:
    picture = density_picture(density_of(100.0, MineralStandard.HYDROXYAPATITE), DensityThresholds(), 54.0, Sex.MALE)
    assert "no comparison is drawn" in picture.caption
    assert not {"osteoporosis", "osteopenia"} & set(texts(picture))
    assert not any("mean by decade" in w for w in texts(picture))
    assert any("hydroxyapatite" in w for w in texts(picture))


@pytest.mark.parametrize(("value", "age"), [(-20.0, 12.0), (420.0, 101.0)])
def test_density_plot_keeps_outliers_in_view(value: float, age: float) -> None:
    drawn = root(density_picture(density_of(value), DensityThresholds(), age, Sex.MALE))
    (circle,) = drawn.iter(f"{SVG}circle")
    width, height = (float(n) for n in drawn.attrib["viewBox"].split()[2:])
    assert 0 < float(circle.attrib["cx"]) < width
    assert 0 < float(circle.attrib["cy"]) < height


@pytest.mark.parametrize("age", [20.0, 54.0, 88.0, None])
@pytest.mark.parametrize("other", [70.0, 101.0, 140.0])
def test_regression_is_drawn_beside_the_line(age: float | None, other: float) -> None:
    picture = density_picture(density_of(100.0), DensityThresholds(), age, Sex.FEMALE, density_of(other))
    drawn = root(picture)
    (circle,) = drawn.iter(f"{SVG}circle")
    (diamond,) = drawn.iter(f"{SVG}path")
    x, y = (float(n) for n in diamond.attrib["d"][1:].split("l")[0].split())
    assert x - float(circle.attrib["cx"]) == pytest.approx(14, abs=0.2)
    across = [e for e in drawn.iter(f"{SVG}line") if e.attrib.get("stroke-dasharray") == "8 4"]
    assert len(across) == (1 if age is None else 0)  # with unknown age it belongs to no age
    assert (y + 7 < float(circle.attrib["cy"])) is (other > 100)  # y is the diamond's upper end
    said = [e for e in drawn.iter(f"{SVG}text") if e.text and e.text.startswith(("HU line 100.0", "regression "))]
    heights = sorted({float(e.attrib["y"]) for e in said})
    assert len(heights) == 2
    assert heights[1] - heights[0] >= 14.9
    assert f"by regression {other:.1f}" in picture.alt
    assert "diamond: density regression" in picture.caption


def test_regression_in_another_standard_is_not_drawn() -> None:
    other = density_of(90.0, MineralStandard.HYDROXYAPATITE)
    without_regression = density_picture(density_of(100.0), DensityThresholds(), 54.0, Sex.MALE)
    assert density_picture(density_of(100.0), DensityThresholds(), 54.0, Sex.MALE, other) == without_regression


def colours(picture: Picture) -> list[NDArray[np.int_]]:
    """The embedded pictures as (rows, columns, 3)."""
    embedded = [e.attrib["href"].split(",", 1)[1] for e in root(picture).iter(f"{SVG}image")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int) for data in embedded]


def test_activation_is_drawn_radiologically_beside_each_slice(activation: ClassActivation) -> None:
    picture = activation_picture(activation)
    seen, looked, *others = colours(picture)
    assert len(others) == 2
    assert {"L1, network input", "L2, Grad-CAM"} <= set(texts(picture))
    # warm at the patient's right (RAS+: high x, 40 to 48) and front (high y, 36 to 44): upper left
    at = len(looked) / 64
    warm, cool, outside = (
        looked[round((63 - y) * at), round((63 - x) * at)] for x, y in ((44, 40), (20, 24), (60, 60))
    )
    assert warm.argmin() == 2  # yellow: 0.35 of mid-grey and 0.65 of the warmest colour
    assert warm == pytest.approx(0.35 * 127.5 + 0.65 * np.array([255, 233, 69]), abs=3)
    assert (cool == cool[0]).all()  # nothing there
    assert outside.max() == 0  # the network was shown nothing
    assert "50 % of it is on the bodies" in picture.caption
    assert np.ptp(seen, axis=2).max() == 0  # what the network saw is grey
    assert seen[len(seen) // 2, len(seen) // 2, 0] == pytest.approx(128, abs=2)
    assert "not where the bone is diseased" in picture.caption
    assert "osteopenia" in picture.alt


def test_activation_of_nothing_leaves_the_slices_grey(activation: ClassActivation) -> None:
    picture = activation_picture(replace(activation, heat=np.zeros_like(activation.heat)))
    seen, looked, *_ = colours(picture)
    assert (seen == looked).all()
    assert "Nothing in the bodies supports this class" in picture.caption


def test_activation_of_unequal_shape_is_refused(activation: ClassActivation) -> None:
    with pytest.raises(
        ValueError, match=r"slices must be \(2, X, Y\) and heat \(X, Y\), got \(2, 64, 64\) and \(8, 8\)"
    ):
        replace(activation, heat=activation.heat[:8, :8])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hu": np.zeros((4, 4), dtype=np.float32)}, r"hu must be a volume of shape \(X, Y, Z\), got shape \(4, 4\)"),
        ({"affine": np.eye(3)}, r"affine must have shape \(4, 4\), got \(3, 3\)"),
        ({"bodies": np.zeros((4, 4, 5), dtype=np.uint8)}, r"bodies must have the shape of hu \(4, 4, 4\)"),
        ({"regions": np.zeros((4, 4, 5), dtype=bool)}, r"regions must have the shape of hu \(4, 4, 4\)"),
    ],
)
def test_images_of_unequal_shape_are_refused(changes: dict[str, NDArray[Any]], message: str) -> None:
    good = ReportImages(np.zeros((4, 4, 4), dtype=np.float32), np.eye(4))
    with pytest.raises(ValueError, match=message):
        replace(good, **changes)  # type: ignore[arg-type]


def test_index_undoes_an_oblique_affine() -> None:
    angle = np.deg2rad(7)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle) * 2, -np.sin(angle) * 3], [np.sin(angle) * 2, np.cos(angle) * 3]]
    affine[:3, 3] = (10, -20, 30)
    images = ReportImages(np.zeros((4, 4, 4), dtype=np.float32), affine)
    x, y, z = affine[:3, :3] @ [1.5, 2.0, 3.0] + affine[:3, 3]
    assert images.index((x, y, z)) == pytest.approx([1.5, 2.0, 3.0])
    assert images.spacing == pytest.approx((2.0, 3.0, 1.0))
