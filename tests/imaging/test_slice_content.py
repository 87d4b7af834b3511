"""Slices in the wrong place are found by their pixels, in DICOM and NIfTI."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging import read_ct

SLICES = 41
"""No multiple of 5, by which `make_series` shuffles the files."""
Volume = NDArray[np.int16]


def trunk(seed: int, noise: float = 15.0, size: int = 96) -> Volume:
    """HU of shape (slices, rows, columns): a trunk of organs that come and go along the body, with noise.

    Another ``seed`` is another person.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    hu = np.full((SLICES, size, size), -1000.0)
    wide = random.uniform(0.34, 0.42)
    organs = random.uniform([0.3, 0.3, 0, 0.05, 4], [0.7, 0.7, SLICES, 0.12, 9], (30, 5))
    values = random.choice([-90.0, -60.0, 40.0, 60.0, 90.0, 150.0], 30)
    for k in range(SLICES):
        radius = ((x - 0.5) / wide) ** 2 + ((y - 0.5) / (0.28 + 0.04 * np.sin(k / 9 + seed))) ** 2
        hu[k][radius < 1] = -100
        hu[k][radius < 0.8] = 45
        for (cx, cy, ck, r, length), value in zip(organs, values, strict=True):
            extent = r**2 * (1 - ((k - ck) / length) ** 2)
            hu[k][(x - cx) ** 2 + (y - cy) ** 2 < extent] = value
    return np.asarray(np.round(hu + random.normal(0, noise, hu.shape)).clip(-1024), dtype=np.int16)


def reversed_run(first: int, count: int) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[first : first + count] = hu[first : first + count][::-1].copy()
        return hu

    return change


def foreign(first: int, count: int) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[first : first + count] = trunk(8)[first : first + count]
        return hu

    return change


def repeated(first: int, count: int) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[first : first + count] = hu[first]
        return hu

    return change


def nearly_repeated(first: int, count: int) -> Callable[[Volume], Volume]:
    """One slice several times, each time with noise of its own as after lossy compression."""

    def change(hu: Volume) -> Volume:
        noise = np.random.default_rng(3).normal(0, 2, (count, *hu.shape[1:]))
        hu[first : first + count] = np.round(hu[first] + noise)
        return hu

    return change


def exchanged(one: int, other: int) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[[one, other]] = hu[[other, one]]
        return hu

    return change


def shifted(k: int, rows: int) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[k] = np.roll(hu[k], rows, 0)
        return hu

    return change


def scaled(first: int, count: int, factor: float) -> Callable[[Volume], Volume]:
    def change(hu: Volume) -> Volume:
        hu[first : first + count] = (hu[first : first + count] + 1024.0) * factor - 1024
        return hu

    return change


WRONG = [
    pytest.param("slice_order", 2, reversed_run(20, 2), id="two-neighbours"),
    pytest.param("slice_order", 5, reversed_run(12, 5), id="five-in-reverse"),
    pytest.param("slice_order", 17, reversed_run(12, 17), id="seventeen-in-reverse"),
    pytest.param("slice_order", 12, reversed_run(0, 12), id="reverse-at-the-lower-end"),
    pytest.param("slice_order", 12, reversed_run(29, 12), id="reverse-at-the-upper-end"),
    pytest.param("slices_out_of_place", 1, foreign(20, 1), id="a-slice-of-another-person"),
    pytest.param("slices_out_of_place", 3, foreign(10, 3), id="three-slices-of-another-person"),
    pytest.param("slices_out_of_place", 9, foreign(14, 9), id="nine-slices-of-another-person"),
    pytest.param("slices_out_of_place", 2, exchanged(10, 22), id="two-far-apart-exchanged"),
    pytest.param("slices_out_of_place", 1, shifted(20, 12), id="a-slice-shifted-by-an-eighth"),
    pytest.param("slices_out_of_place", 3, scaled(18, 3, 1.15), id="three-slices-on-another-scale"),
    pytest.param("repeated_slices", 6, repeated(15, 7), id="seven-with-one-slice"),
    pytest.param("repeated_slices", 1, repeated(30, 2), id="two-with-one-slice"),
    pytest.param("repeated_slices", 4, nearly_repeated(18, 5), id="five-with-one-slice-and-noise"),
]


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(path)
    (finding,) = caught.value.findings
    return finding.code, finding.message


@pytest.mark.parametrize(("code", "count", "change"), WRONG)
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_pixels_that_do_not_fit_their_positions(
    make_series: Callable[..., Path],
    make_nifti: Callable[..., Path],
    kind: str,
    code: str,
    count: int,
    change: Callable[[Volume], Volume],
) -> None:
    hu = change(trunk(1))
    path = (
        make_series(hu=hu) if kind == "dicom" else make_nifti(np.ascontiguousarray(hu.transpose(2, 1, 0)[::-1, ::-1]))
    )
    found, message = refusal(path)
    assert found == code
    assert str(count) in message.split(" slices")[0].split()


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("noise", [2.0, 15.0, 60.0, 120.0])
def test_whole_stacks_are_read(make_series: Callable[..., Path], seed: int, noise: float) -> None:
    assert read_ct(make_series(hu=trunk(seed, noise))).findings == ()


@pytest.mark.parametrize("step", [2, 3])
def test_thinned_stacks_are_read(make_series: Callable[..., Path], step: int) -> None:
    assert read_ct(make_series(hu=trunk(3)[::step])).findings == ()


def test_a_phantom_under_a_part_of_the_body_is_no_foreign_slice(make_series: Callable[..., Path]) -> None:
    hu = trunk(4)
    hu[12:24, 88:94, 20:76] = 200  # begins and ends abruptly
    assert read_ct(make_series(hu=hu)).findings == ()


def test_bodies_of_a_phantom_that_repeat_in_an_equal_surrounding_are_in_order(make_series: Callable[..., Path]) -> None:
    random = np.random.default_rng(2)
    hu = np.full((61, 96, 96), -1000.0)
    hu[:, 20:76, 14:82] = 40
    for first in (8, 24, 40):
        hu[first : first + 10, 40:60, 36:60] = 400  # two plates and what is between them
        hu[first + 1 : first + 9, 43:57, 39:57] = 150
    hu += random.normal(0, 5, hu.shape)
    assert read_ct(make_series(hu=hu.round().astype(np.int16))).findings == ()


def test_air_beyond_both_ends_is_no_reason(make_series: Callable[..., Path]) -> None:
    hu = trunk(5)
    air = np.random.default_rng(0).normal(-1000, 5, hu[:3].shape)
    hu[:3] = hu[-3:] = air.astype(np.int16)
    hu[-3:] += 1
    assert read_ct(make_series(hu=hu)).findings == ()


def test_the_halves_of_sagittal_slices_mirror_each_other(make_series: Callable[..., Path]) -> None:
    half = trunk(6)[: SLICES // 2 + 1]
    noise = np.random.default_rng(0).normal(0, 5, half.shape).astype(np.int16)
    hu = np.concatenate([half[::-1], half + noise])

    def sagittal(ds: Any, k: int) -> None:
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [2.5 * k, 0, 0]

    assert {f.code for f in read_ct(make_series(sagittal, hu=hu)).findings} == {"not_axial"}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"RescaleType": "MGML"}, "rescale_not_hu"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VNC"]}, "not_plain_ct"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\AXIAL\\70KEV"}, "not_plain_ct"),
        ({"SeriesDescription": "VNC"}, "not_plain_ct"),
        ({"ProtocolName": "MonoE 50 keV"}, "not_plain_ct"),
    ],
)
def test_a_sidecar_of_other_values_than_hu_is_refused(
    make_nifti: Callable[..., Path], facts: dict[str, Any], code: str
) -> None:
    path = make_nifti()
    (path.parent / "scan.json").write_text(json.dumps({"Modality": "CT", "KVP": 120, **facts}))
    assert refusal(path)[0] == code


def test_a_sidecar_as_converters_write_it_is_read(make_nifti: Callable[..., Path]) -> None:
    path = make_nifti()
    facts = {
        "Modality": "CT",
        "KVP": 120,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesDescription": "DE_MIXED",
        "ContrastFlowRate": 3,
    }
    (path.parent / "scan.json").write_text(json.dumps(facts))
    volume = read_ct(path)
    assert [f.code for f in volume.findings] == ["dual_energy"]
    assert volume.acquisition.contrast == "rate: 3 ml/s"
