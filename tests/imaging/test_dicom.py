import io
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from osteo_monai.domain import Severity, Sex
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.acquisition import station_code

Change = Callable[[Dataset, int], Any]


def refusals(folder: Path) -> set[str]:
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(folder)
    return {f.code for f in caught.value.findings if f.severity is Severity.REFUSAL}


def findings(folder: Path) -> dict[str, Severity]:
    return {f.code: f.severity for f in read_ct(folder).findings}


def setting(**values: Any) -> Change:
    def change(ds: Dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


def deleting(*keywords: str) -> Change:
    def change(ds: Dataset, k: int) -> None:
        for keyword in keywords:
            delattr(ds, keyword)

    return change


def _kernels(first: str, later: str) -> Change:
    return lambda ds, k: setattr(ds, "ConvolutionKernel", later if k > 5 else first)


def at(position: Callable[[int], tuple[float, float, float]]) -> Change:
    def change(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = list(position(k))

    return change


# --- a good series ------------------------------------------------------------------------------------------------


def test_good_series(make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]) -> None:
    scan = read_ct(make_series())
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    assert scan.hu.dtype == np.float32
    assert all(stride > 0 for stride in scan.hu.strides)  # torch takes no negative stride
    # column 31 lies at x = -12 + 31 * 0.8 = 12.8 mm to the left, row 39 at y = -17 + 39 * 0.9 = 18.1 mm to the back
    np.testing.assert_allclose(
        scan.affine, np.array([[0.8, 0, 0, -12.8], [0, 0.9, 0, -18.1], [0, 0, 2.5, -100], [0, 0, 0, 1]]), atol=1e-9
    )
    np.testing.assert_allclose(scan.spacing, (0.8, 0.9, 2.5))
    assert scan.original_shape == (32, 40, 12)
    assert scan.instance_numbers == tuple(range(100, 88, -1))
    assert scan.findings == ()
    assert scan.valid is None
    facts = scan.acquisition
    assert (facts.kvp, facts.kernel, facts.slice_thickness_mm, facts.contrast) == (120, "B", 2.5, None)
    assert (facts.age_years, facts.sex, facts.manufacturer, facts.station) == (
        55,
        Sex.FEMALE,
        "Philips",
        station_code("CT1"),
    )


def test_subfolders_and_strangers_are_searched_and_passed_over(
    make_series: Callable[..., Any], tmp_path: Path, canonical_hu: NDArray[np.int16]
) -> None:
    folder = make_series()
    (folder / "deep" / "er").mkdir(parents=True)
    for path in list(folder.iterdir())[:5]:
        if path.is_file():
            shutil.move(path, folder / "deep" / "er" / path.name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    np.testing.assert_array_equal(read_ct(folder).hu, canonical_hu)


@pytest.mark.parametrize(
    ("orientation", "position"),
    [
        # feet first or head first, supine or prone: patient-based entries do not depend on the position of the patient
        ([-1, 0, 0, 0, -1, 0], lambda k: (12.8, 18.1, -100 + 2.5 * k)),
        ([1, 0, 0, 0, 1, 0], lambda k: (-12, -17, -100 + 2.5 * (11 - k))),
        ([0, 1, 0, -1, 0, 0], lambda k: (18.1, -12, -100 + 2.5 * k)),  # on the side
        ([0, 1, 0, 0, 0, -1], lambda k: (-100 + 2.5 * k, -12, 18.1)),  # sagittal
        ([1, 0, 0, 0, 0, -1], lambda k: (-12, -100 + 2.5 * k, 18.1)),  # coronal
    ],
)
def test_every_orientation_keeps_each_value_at_its_place(
    make_series: Callable[..., Any], phantom_hu: NDArray[np.int16], orientation: list[int], position: Callable[..., Any]
) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.ImageOrientationPatient, ds.ImagePositionPatient = orientation, list(position(k))

    scan = read_ct(make_series(change))
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    for k, j, i in [(0, 6, 21), (3, 28, 15), (11, 39, 0), (5, 0, 31)]:
        lps = np.array(position(k)) + i * 0.8 * row + j * 0.9 * column
        ras = lps * [-1, -1, 1]
        index = np.linalg.solve(scan.affine, [*ras, 1])[:3]
        np.testing.assert_allclose(index, np.round(index), atol=1e-6)
        x, y, z = np.round(index).astype(int)
        assert scan.hu[x, y, z] == phantom_hu[k, j, i]
    assert (scan.affine[:3, :3].diagonal() > 0).all()
    assert all(stride > 0 for stride in scan.hu.strides)
    axial = abs(np.cross(row, column)[2]) == 1
    assert (scan.instance_numbers is None) is not axial


def test_feet_first_series_numbers_its_slices_from_below(make_series: Callable[..., Any]) -> None:
    scan = read_ct(make_series(at(lambda k: (-12, -17, -100 - 2.5 * k))))
    assert scan.instance_numbers == tuple(range(89, 101))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_byte_orders_and_signs(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16], signed: bool, syntax: UID
) -> None:
    def change(ds: Dataset, k: int) -> None:
        values = np.frombuffer(ds.PixelData, "<i2").astype(np.int32)
        kind = "i2" if signed else "u2"
        ds.PixelRepresentation = int(signed)
        ds.PixelData = values.astype((">" if syntax == ExplicitVRBigEndian else "<") + kind).tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = syntax

    np.testing.assert_array_equal(read_ct(make_series(change)).hu, canonical_hu)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [True, False])
def test_lossless_codecs_are_bit_exact(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16], syntax: UID, signed: bool
) -> None:
    def change(ds: Dataset, k: int) -> None:
        if signed:  # stored as HU itself, so that negative numbers go through the codec
            ds.PixelData = (np.frombuffer(ds.PixelData, "<i2") - 1024).astype("<i2").tobytes()
            ds.RescaleIntercept = 0
        else:
            ds.PixelRepresentation = 0
        ds.compress(syntax, generate_instance_uid=False)

    np.testing.assert_array_equal(read_ct(make_series(change)).hu, canonical_hu)


def test_twelve_bit_data_with_dirty_high_bits(make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]) -> None:
    def change(ds: Dataset, k: int) -> None:
        stored = np.frombuffer(ds.PixelData, "<u2") | 0x5000  # an overlay hidden in unused bits
        ds.PixelData, ds.PixelRepresentation = stored.astype("<u2").tobytes(), 0
        ds.BitsStored, ds.HighBit = 12, 11

    np.testing.assert_array_equal(read_ct(make_series(change)).hu, canonical_hu)


def test_slope_is_applied_and_may_differ_between_slices(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]
) -> None:
    def change(ds: Dataset, k: int) -> None:
        if k % 2:  # the same HU written with half the step
            ds.PixelData = (np.frombuffer(ds.PixelData, "<i2") * 2).astype("<i2").tobytes()
            ds.RescaleSlope = 0.5

    np.testing.assert_array_equal(read_ct(make_series(change)).hu, canonical_hu)


def test_legacy_converted_multi_frame(
    make_series: Callable[..., Any], tmp_path: Path, canonical_hu: NDArray[np.int16]
) -> None:
    singles = [pydicom.dcmread(p) for p in sorted(make_series().iterdir())]
    singles.sort(key=lambda ds: ds.InstanceNumber)
    converted = LegacyConvertedEnhancedCTImage(singles, "1.2.9", 7, "1.2.9.1", 1)
    folder = tmp_path / "multi"
    folder.mkdir()
    converted.save_as(folder / "one.dcm")
    for path in (folder, folder / "one.dcm"):
        scan = read_ct(path)
        np.testing.assert_array_equal(scan.hu, canonical_hu)
        np.testing.assert_allclose(scan.affine[:3, 3], [-12.8, -18.1, -100])
        assert (scan.acquisition.kvp, scan.acquisition.kernel, scan.acquisition.age_years) == (120, "B", 55)


# --- refusals -----------------------------------------------------------------------------------------------------


def _mixed_size(ds: Dataset, k: int) -> None:
    if k == 4:
        ds.Rows, ds.Columns = ds.Columns, ds.Rows


def _tilted(ds: Dataset, k: int) -> None:
    angle = np.deg2rad(12)
    ds.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))]


def _turned(degrees: float) -> Change:
    """Turn the slices within their plane; they stay stacked along their normal."""
    c, s = float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))
    return setting(ImageOrientationPatient=[c, s, 0, -s, c, 0])


def _values(function: Callable[[Any], Any]) -> Change:
    def change(ds: Dataset, k: int) -> None:
        hu = np.frombuffer(ds.PixelData, "<i2").astype(np.int32) - 1024
        ds.PixelData = (np.asarray(function(hu)) + 1024).astype("<i2").tobytes()

    return change


@pytest.mark.parametrize(
    ("code", "change"),
    [
        pytest.param("missing_slice", lambda ds, k: k != 6, id="one-slice-missing"),
        pytest.param("missing_slice", lambda ds, k: k not in (1, 7, 8), id="three-slices-missing"),
        pytest.param("slice_gap", at(lambda k: (-12, -17, 2.5 * k + (3.6 if k > 5 else 0))), id="a-gap"),
        pytest.param("uneven_spacing", at(lambda k: (-12, -17, 2.5 * k + 0.1 * k * k)), id="growing-steps"),
        pytest.param("duplicate_positions", at(lambda k: (-12, -17, 2.5 * (k // 2))), id="two-scans-in-one"),
        pytest.param("uneven_spacing", at(lambda k: (-12 + 5 * (k == 5), -17, 2.5 * k)), id="one-slice-moved-sideways"),
        pytest.param("gantry_tilt", _tilted, id="tilted-geometry"),
        pytest.param("gantry_tilt", setting(GantryDetectorTilt=-15), id="tilt-in-the-header"),
        pytest.param("oblique", _turned(35), id="turned-by-35-degrees"),
        pytest.param("missing_rescale", deleting("RescaleSlope", "RescaleIntercept"), id="no-rescale"),
        pytest.param("missing_rescale", deleting("RescaleIntercept"), id="no-intercept"),
        pytest.param(
            "missing_rescale", lambda ds, k: delattr(ds, "RescaleSlope") if k == 3 else None, id="no-slope-in-one-slice"
        ),
        pytest.param("zero_rescale_slope", setting(RescaleSlope=0), id="slope-zero"),
        pytest.param("rescale_not_hu", setting(RescaleType="US"), id="rescale-type-US"),
        pytest.param("not_ct", setting(Modality="MR", SOPClassUID=MRImageStorage), id="MR"),
        pytest.param("not_ct", setting(Modality="SEG"), id="SEG-in-CT-class"),
        pytest.param("not_ct", setting(SOPClassUID=SegmentationStorage), id="SEG-class"),
        pytest.param("not_ct", setting(SOPClassUID=SecondaryCaptureImageStorage), id="secondary-capture"),
        pytest.param("constant_volume", _values(np.zeros_like), id="constant"),
        pytest.param("not_hounsfield_units", _values(lambda hu: hu + 1024), id="never-rescaled"),
        pytest.param("not_hounsfield_units", _values(lambda hu: hu - 1400), id="shifted"),
        pytest.param("not_hounsfield_units", _values(lambda hu: np.clip((hu + 1000) // 5, 0, 255)), id="bytes"),
        pytest.param("not_hounsfield_units", _values(lambda hu: hu // 100), id="scaled-down"),
        pytest.param("single_slice", lambda ds, k: k == 0, id="one-slice"),
        pytest.param("too_few_slices", lambda ds, k: k < 2, id="two-slices"),
        pytest.param("mixed_sizes", _mixed_size, id="sizes"),
        pytest.param(
            "mixed_spacing", lambda ds, k: setattr(ds, "PixelSpacing", [0.9, 0.8 + 0.1 * (k > 5)]), id="pixel-spacings"
        ),
        pytest.param(
            "mixed_orientation",
            lambda ds, k: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 1 - 2 * (k == 3), 0]),
            id="orientations",
        ),
        pytest.param("mixed_acquisition", lambda ds, k: setattr(ds, "KVP", 120 if k else 80), id="tube-voltages"),
        pytest.param("missing_geometry", deleting("ImagePositionPatient"), id="no-positions"),
        pytest.param("missing_geometry", deleting("PixelSpacing"), id="no-pixel-spacing"),
        pytest.param("implausible_spacing", setting(PixelSpacing=[0, 0]), id="pixel-spacing-zero"),
        pytest.param("implausible_spacing", setting(PixelSpacing=[0.0009, 0.0008]), id="pixel-spacing-in-m"),
        pytest.param("bad_orientation", setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), id="parallel-cosines"),
        pytest.param("monochrome1", setting(PhotometricInterpretation="MONOCHROME1"), id="MONOCHROME1"),
        pytest.param("not_greyscale", setting(PhotometricInterpretation="PALETTE COLOR"), id="palette"),
        pytest.param(
            "lossy_compression",
            setting(LossyImageCompression="01", LossyImageCompressionRatio=[3, 10.5]),
            id="stated-lossy-beyond-the-limit",
        ),
        pytest.param(
            "not_plain_ct",
            lambda ds, k: setattr(ds, "ImageType", ["DERIVED", "PRIMARY", "AXIAL", *(["VNC"] if k > 3 else [])]),
            id="virtual-non-contrast-in-later-slices",
        ),
        pytest.param("not_plain_ct", setting(SeriesDescription="MonoE 55 keV [HU]"), id="keV-in-the-description"),
        pytest.param("not_plain_ct", setting(SeriesDescription="Abdomen VNC 2.0"), id="VNC-in-the-description"),
        pytest.param(
            "not_plain_ct", setting(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "70KEV"]), id="keV-in-the-image-type"
        ),
        pytest.param("several_patients", lambda ds, k: setattr(ds, "PatientID", f"{k // 6}"), id="two-patients"),
        pytest.param("localizer", setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), id="scout"),
        pytest.param("not_plain_ct", setting(ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"]), id="MIP"),
        pytest.param(
            "not_plain_ct", setting(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "DE_MONOENERGETIC"]), id="monoenergetic"
        ),
        pytest.param("modality_lut", setting(ModalityLUTSequence=[Dataset()]), id="look-up-table"),
        pytest.param("too_large", setting(Rows=30000, Columns=15000), id="too-many-voxels"),
        pytest.param("bad_size", setting(Rows=65535, Columns=65535), id="absurd-size"),
        pytest.param(
            "several_studies", lambda ds, k: setattr(ds, "StudyInstanceUID", f"1.2.{k // 6}"), id="two-studies"
        ),
        pytest.param(
            "blank_slices",
            lambda ds, k: setattr(ds, "PixelData", bytes(len(ds.PixelData))) if k == 5 else None,
            id="empty-slice-inside",
        ),
    ],
)
def test_refused(make_series: Callable[..., Any], code: str, change: Callable[..., Any]) -> None:
    assert refusals(make_series(change)) == {code}


def _compressed(ds: Dataset, syntax: UID, stream: bytes) -> None:
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax


def _jpeg_2000(ratio: float) -> Change:
    def change(ds: Dataset, k: int) -> None:
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        stream = encode_array(stored, bits_stored=12, photometric_interpretation=2, compression_ratios=[ratio])
        _compressed(ds, JPEG2000, stream)

    return change


@pytest.fixture
def large_hu(phantom_hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """The phantom with pixels five times as small: its slices compress as those of scanners do."""
    return phantom_hu.repeat(5, axis=1).repeat(5, axis=2)


def test_lossy_jpeg_2000_is_read_with_a_warning_up_to_the_limit(
    make_series: Callable[..., Any], large_hu: NDArray[np.int16]
) -> None:
    scan = read_ct(make_series(_jpeg_2000(2), hu=large_hu))
    finding = {f.code: f for f in scan.findings}["lossy_compression"]
    assert finding.severity is Severity.WARNING
    ratio = re.search(r"\((\d+\.\d):1\)", finding.message)
    assert ratio is not None
    assert 2 < float(ratio.group(1)) < 10
    bone = large_hu.transpose(2, 1, 0)[::-1, ::-1, :] > 160
    assert abs(np.median(scan.hu[bone]) - 180) < 10


def test_a_ratio_that_only_the_size_of_the_files_tells_refuses_too(
    make_series: Callable[..., Any], large_hu: NDArray[np.int16]
) -> None:
    folder = make_series(_jpeg_2000(25), hu=large_hu)
    assert refusals(folder) == {"lossy_compression"}
    # a stated ratio below that of the files is not used
    assert refusals(make_series(_both(_jpeg_2000(25), setting(LossyImageCompressionRatio=4)), hu=large_hu)) == {
        "lossy_compression"
    }


def _both(*changes: Change) -> Change:
    def change(ds: Dataset, k: int) -> None:
        for one in changes:
            one(ds, k)

    return change


def test_eight_bits_bear_less_compression(make_series: Callable[..., Any], phantom_hu: NDArray[np.int16]) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.RescaleSlope, ds.RescaleIntercept = 8, -1024
        noise = np.random.default_rng(k).integers(0, 16, phantom_hu[k].shape)  # quantised slices would be equal
        stored = ((phantom_hu[k] + 1024 + noise) // 8).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, "JPEG", quality=95)
        _compressed(ds, JPEGBaseline8Bit, buffer.getvalue())
        ds.LossyImageCompressionRatio = 4.5

    assert findings(make_series(change))["lossy_compression"] is Severity.WARNING
    stronger = _both(change, setting(LossyImageCompressionRatio=5.5))
    assert refusals(make_series(stronger)) == {"lossy_compression"}


def test_near_lossless_jpeg_ls_is_read_with_a_warning(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]
) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.PixelRepresentation = 0
        ds.compress(JPEGLSNearLossless, jls_error=2, generate_instance_uid=False)

    scan = read_ct(make_series(change))
    assert {f.code: f.severity for f in scan.findings} == {"lossy_compression": Severity.WARNING}
    assert 0 < np.abs(scan.hu - canonical_hu).max() <= 2


@pytest.mark.parametrize("ratio", [None, "", 0, "0.17"])
def test_a_lossy_mark_without_a_ratio_warns(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16], ratio: int | str | None
) -> None:
    scan = read_ct(make_series(setting(LossyImageCompression="01", LossyImageCompressionRatio=ratio)))
    assert {f.code: f.severity for f in scan.findings} == {"lossy_compression": Severity.WARNING}
    assert "at an unknown ratio" in scan.findings[0].message
    np.testing.assert_array_equal(scan.hu, canonical_hu)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("lossy_compression", setting(LossyImageCompression="01", LossyImageCompressionRatio=12)),
        ("not_plain_ct", setting(SeriesDescription="40 keV")),
        ("mixed_acquisition", lambda ds, k: setattr(ds, "KVP", 120 if k else 80)),
        ("gantry_tilt", setting(GantryDetectorTilt=-15)),
    ],
)
def test_doubtful_values_can_be_kept_with_their_refusal(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16], code: str, change: Callable[..., Any]
) -> None:
    """For a caller that looks for a better reason first; without asking, the scan is refused."""
    folder = make_series(change)
    assert refusals(folder) == {code}
    scan = read_ct(folder, keep_doubts=True)
    assert [(f.code, f.severity) for f in scan.findings] == [(code, Severity.REFUSAL)]
    np.testing.assert_array_equal(scan.hu, canonical_hu)


def test_what_cannot_be_read_is_not_kept(make_series: Callable[..., Any]) -> None:
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(make_series(_both(_tilted, setting(SeriesDescription="40 keV"))), keep_doubts=True)
    assert [f.code for f in caught.value.findings] == ["gantry_tilt", "not_plain_ct"]


@pytest.mark.parametrize("description", ["Monophasic 2.0", "Kevin protocol", "ABDOMEN 2.0 MPR", "Kevlar vest 70"])
def test_words_that_only_look_like_dual_energy_are_no_reason(make_series: Callable[..., Any], description: str) -> None:
    assert findings(make_series(setting(SeriesDescription=description))) == {}


def test_irreversible_syntax_with_stated_losslessness_is_read(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]
) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = JPEG2000  # as some archives label a reversible stream
        ds.LossyImageCompression = "00"

    np.testing.assert_array_equal(read_ct(make_series(change)).hu, canonical_hu)


def test_position_rounding_is_no_uneven_spacing(make_series: Callable[..., Any]) -> None:
    scan = read_ct(make_series(at(lambda k: (-12, -17, round(0.75 * k, 1)))))
    assert scan.spacing[2] == pytest.approx(0.75, abs=0.02)


def test_small_obliquity_is_kept_in_the_affine(make_series: Callable[..., Any]) -> None:
    angle = np.deg2rad(2)
    cosines = [float(np.cos(angle)), float(np.sin(angle)), 0, float(-np.sin(angle)), float(np.cos(angle)), 0]
    scan = read_ct(make_series(setting(ImageOrientationPatient=cosines)))
    np.testing.assert_allclose(scan.affine[:2, 0], [0.8 * cosines[0], 0.8 * cosines[1]])


# --- warnings and facts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "severity", "change"),
    [
        pytest.param("overlapping_slices", "warning", setting(SliceThickness=5), id="thick-and-near"),
        pytest.param("slices_apart", "warning", setting(SliceThickness=1), id="thin-and-far"),
        pytest.param("slice_too_thick", "warning", setting(SliceThickness=6), id="thick"),
        pytest.param("slice_too_thick", "warning", at(lambda k: (-12, -17, 6.0 * k)), id="far"),
        pytest.param("sharp_kernel", "warning", setting(ConvolutionKernel=["Br64f", "3"]), id="sharp"),
        pytest.param("sharp_kernel", "warning", _kernels("B", "LUNG"), id="sharp-in-later-slices"),
        pytest.param("mixed_kernels", "warning", _kernels("B", "A"), id="two-kernels"),
        pytest.param(
            "mixed_frame_of_reference",
            "warning",
            lambda ds, k: setattr(ds, "FrameOfReferenceUID", f"1.2.{k}"),
            id="a-frame-of-reference-for-each-slice",
        ),
        pytest.param("missing_manufacturer", "warning", deleting("Manufacturer"), id="maker"),
        pytest.param("derived_series", "warning", setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"]), id="derived"),
        pytest.param(
            "not_axial",
            "info",
            setting(ImageOrientationPatient=[0, 0, 1, 1, 0, 0], ImagePositionPatient=None),
            id="sagittal",
        ),
        pytest.param("padding_in_tissue_range", "warning", setting(PixelPaddingValue=1074), id="padding-in-tissue"),
    ],
)
def test_told(make_series: Callable[..., Any], code: str, severity: str, change: Callable[..., Any]) -> None:
    def with_position(ds: Dataset, k: int) -> None:
        change(ds, k)
        if ds.ImagePositionPatient is None:
            ds.ImagePositionPatient = [0, 2.5 * k, 0]

    assert findings(make_series(with_position))[code] == severity


@pytest.mark.parametrize("representation", ["US", "SS"])
def test_padding_is_compared_after_the_sign_conversion(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16], representation: str
) -> None:
    def change(ds: Dataset, k: int) -> None:
        stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
        stored[:3, :] = -2000
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", representation, 63536 if representation == "US" else -2000)

    scan = read_ct(make_series(change))
    assert {f.code for f in scan.findings} == {"padding"}
    assert scan.valid is not None
    # rows 0 to 2 are in front, which is the end of the canonical second axis
    assert not scan.valid[:, -3:, :].any()
    assert scan.valid[:, :-3, :].all()
    assert (scan.hu[:, -3:, :] == -1024).all()
    np.testing.assert_array_equal(scan.hu[:, :-3], canonical_hu[:, :-3])


def test_undeclared_padding_is_masked_too(make_series: Callable[..., Any]) -> None:
    def change(ds: Dataset, k: int) -> None:
        stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
        stored[0, :] = -2000
        ds.PixelData = stored.tobytes()

    scan = read_ct(make_series(change))
    assert "undeclared_padding" in {f.code for f in scan.findings}
    assert scan.hu.min() >= -1024
    assert scan.valid is not None
    assert np.count_nonzero(~scan.valid) == 32 * 12


def test_empty_identifiers_are_recovered_and_flagged(
    make_series: Callable[..., Any], canonical_hu: NDArray[np.int16]
) -> None:
    scan = read_ct(make_series(setting(SOPClassUID="", SOPInstanceUID="", StudyInstanceUID="", SeriesInstanceUID="")))
    assert {f.code for f in scan.findings} == {"recovered_identifiers"}
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    assert scan.acquisition.study_instance_uid is None


def test_exact_copies_are_left_out_and_others_are_not(make_series: Callable[..., Any]) -> None:
    folder = make_series()
    path = next(iter(folder.iterdir()))
    shutil.copy(path, folder / "copy")
    assert findings(folder) == {"duplicate_files": "info"}
    ds = pydicom.dcmread(path)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(folder / "copy")
    assert refusals(folder) == {"duplicate_positions"}


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")  # from writing the wrong age
@pytest.mark.parametrize(
    ("values", "age"),
    [
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "", "PatientBirthDate": "19600602"}, 59),  # the day before the birthday
        ({"PatientAge": "", "PatientBirthDate": "19600601"}, 60),
        ({"PatientAge": "XYZ", "PatientBirthDate": ""}, None),
        ({"PatientAge": "000Y"}, None),
        ({"PatientAge": "", "PatientBirthDate": "20300101"}, None),
        ({"PatientAge": "000Y", "PatientBirthDate": "19600601"}, 60),
    ],
)
def test_age(make_series: Callable[..., Any], values: dict[str, str], age: float | None) -> None:
    assert read_ct(make_series(setting(**values))).acquisition.age_years == age


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_hash_in_place_of_age_date_or_sex_is_unknown_and_not_repeated(make_series: Callable[..., Any]) -> None:
    secret = "3b19600601c0ffee"
    scan = read_ct(make_series(setting(PatientAge=secret, PatientBirthDate=secret, PatientSex=secret)))
    assert (scan.acquisition.age_years, scan.acquisition.sex) == (None, None)
    assert [(f.code, f.severity) for f in scan.findings] == [("age_implausible", Severity.INFO)]
    assert secret not in scan.findings[0].message


def test_contrast_in_any_slice_counts(make_series: Callable[..., Any]) -> None:
    scan = read_ct(make_series(lambda ds, k: setattr(ds, "ContrastBolusAgent", "ULTRAVIST" if k == 7 else "")))
    assert scan.acquisition.contrast == "agent: ULTRAVIST"


@pytest.mark.parametrize(
    ("values", "contrast"),
    [
        ({"ContrastBolusAgent": "APPLIED"}, "agent: APPLIED"),
        ({"ContrastBolusAgent": "", "ContrastBolusRoute": "Oral & IV"}, "route: Oral & IV"),
        ({"ContrastBolusAgent": "NONE"}, None),
        ({"SeriesDescription": "CT ABD WITHOUT IV CONTRAST"}, None),
        ({"SeriesDescription": "TH CT CHEST WO C"}, None),
        ({"SeriesDescription": "CT ABD W/O AND WITH CONTRAST"}, "description: CT ABD W/O AND WITH CONTRAST"),
        ({"SeriesDescription": "portal venous 2.0"}, "description: portal venous 2.0"),
        ({"ProtocolName": "FDG_TK_KM"}, "description: FDG_TK_KM"),
        ({"ContrastBolusVolume": 80}, "volume: 80 ml"),
    ],
)
def test_contrast(make_series: Callable[..., Any], values: dict[str, Any], contrast: str | None) -> None:
    assert read_ct(make_series(setting(**values))).acquisition.contrast == contrast


def test_text_is_cleaned_and_unknown_facts_stay_unknown(make_series: Callable[..., Any]) -> None:
    folder = make_series(setting(SeriesDescription="a\x1b[31m\r\nb", KVP=None, PatientSex="O", ConvolutionKernel=""))
    facts = read_ct(folder).acquisition
    assert facts.series_description == "a [31m b"
    assert (facts.kvp, facts.sex, facts.kernel) == (None, None, None)


# --- the choice among several series ------------------------------------------------------------------------------


def test_the_right_series_is_chosen_and_told(make_series: Callable[..., Any], phantom_hu: NDArray[np.int16]) -> None:
    make_series(setting(ConvolutionKernel="L", SeriesDescription="lung"), uid="1.2.826.0.1.11")
    make_series(setting(SeriesDescription="soft"), uid="1.2.826.0.1.12")
    make_series(setting(SliceThickness=5, SeriesDescription="thick"), uid="1.2.826.0.1.13")
    make_series(
        setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesDescription="scout"), uid="1.2.826.0.1.14"
    )
    make_series(setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"], SeriesDescription="mpr"), uid="1.2.826.0.1.15")
    make_series(setting(ContrastBolusAgent="Iomeron", SeriesDescription="venous"), uid="1.2.826.0.1.16")
    make_series(setting(SeriesDescription="short"), hu=phantom_hu[:5], uid="1.2.826.0.1.17")
    folder = make_series(setting(Modality="SEG", SeriesDescription="seg"), uid="1.2.826.0.1.18")
    scan = read_ct(folder)
    assert scan.acquisition.series_description == "soft"
    assert [f.code for f in scan.findings] == ["series_chosen", "other_objects"]
    assert "12 x CT Image Storage, modality SEG" in scan.findings[1].message
    message = scan.findings[0].message
    assert "Of 7 CT series" in message
    assert "number 2, 12 images, 2.5 mm apart, kernel L (sharp kernel)" in message
    assert "localizer" in message


def test_a_broken_series_gives_way_to_a_whole_one(make_series: Callable[..., Any]) -> None:
    make_series(lambda ds, k: k != 5, uid="1.2.826.0.1.11")
    folder = make_series(setting(SeriesDescription="whole", ConvolutionKernel="L"), uid="1.2.826.0.1.12")
    scan = read_ct(folder)
    assert scan.acquisition.series_description == "whole"
    assert "missing slice" in scan.findings[0].message


def test_a_sharp_series_that_shows_more_is_preferred_to_a_short_soft_one(
    make_series: Callable[..., Any], phantom_hu: NDArray[np.int16]
) -> None:
    make_series(setting(SeriesDescription="short"), hu=phantom_hu[:5], uid="1.2.826.0.1.11")
    folder = make_series(setting(SeriesDescription="long", ConvolutionKernel="L"), uid="1.2.826.0.1.12")
    assert read_ct(folder).acquisition.series_description == "long"


@pytest.mark.parametrize(
    ("keyword", "values"), [("ConvolutionKernel", ("B", "L")), ("AcquisitionNumber", (1, 2))], ids=["kernel", "phase"]
)
def test_scans_at_the_same_places_in_one_series_are_told_apart(
    make_series: Callable[..., Any],
    phantom_hu: NDArray[np.int16],
    canonical_hu: NDArray[np.int16],
    keyword: str,
    values: tuple[Any, ...],
) -> None:
    """Two kernels or phases under one SeriesInstanceUID: the first is read whole, not a mixture, and a finding reports
    it.
    """

    def slices(value: Any, offset: int) -> Change:
        def change(ds: Dataset, k: int) -> None:
            setattr(ds, keyword, value)
            ds.RescaleIntercept = -1024 + offset
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{offset}.{k}")
            ds.SeriesInstanceUID = "1.2.3.99"

        return change

    make_series(slices(values[0], 0), uid="1.2.826.0.1.1")
    folder = make_series(slices(values[1], 40), uid="1.2.826.0.1.2")
    scan = read_ct(folder)
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    assert [f.code for f in scan.findings] == ["series_chosen", "series_told_apart"]


def test_two_halves_of_a_series_are_not_merged(make_series: Callable[..., Any]) -> None:
    folder = make_series(lambda ds, k: setattr(ds, "SeriesInstanceUID", "1.2.7" if k < 9 else "1.2.8"))
    scan = read_ct(folder)
    assert scan.hu.shape[2] == 9
    assert scan.findings[0].code == "series_chosen"


# --- damaged data -------------------------------------------------------------------------------------------------


def unusable(path: Path) -> str:
    with pytest.raises(UnusableInputError) as caught:
        read_ct(path)
    return str(caught.value)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "no file or folder" in unusable(tmp_path / "absent")
    assert "No DICOM file" in unusable(tmp_path)
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    assert "neither DICOM nor NIfTI" in unusable(tmp_path / "x.png")
    (tmp_path / "x.dcm").write_bytes(os.urandom(500))
    assert "preamble" in unusable(tmp_path / "x.dcm")


def test_a_file_cut_in_its_pixels_is_named_damaged(make_series: Callable[..., Any]) -> None:
    folder = make_series()
    path = next(iter(folder.iterdir()))
    path.write_bytes(path.read_bytes()[:-300])
    assert "damaged" in unusable(folder)


def test_a_file_cut_in_its_header_is_left_out_and_told(make_series: Callable[..., Any]) -> None:
    folder = make_series()
    last = next(p for p in folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 100)
    last.write_bytes(last.read_bytes()[:400])
    assert findings(folder) == {"damaged_files": "warning"}


def test_a_damaged_file_inside_is_a_missing_slice_with_its_cause(make_series: Callable[..., Any]) -> None:
    folder = make_series()
    inner = next(p for p in folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 95)
    inner.write_bytes(inner.read_bytes()[:400])
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(folder)
    assert [f.code for f in caught.value.findings] == ["missing_slice", "damaged_files"]


def test_deflated_files_are_refused_before_they_inflate(make_series: Callable[..., Any]) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    assert "deflated" in unusable(make_series(change))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_mutated_codestreams_are_refused_or_change_their_slice_only(
    make_series: Callable[..., Any], syntax: UID
) -> None:
    generator = np.random.default_rng(7)

    def change(ds: Dataset, k: int) -> None:
        ds.PixelRepresentation = 0
        ds.compress(syntax, generate_instance_uid=False)

    folder = make_series(change)
    paths = sorted(folder.iterdir())
    sound = read_ct(folder)
    refused = 0
    for _ in range(40):
        path = paths[generator.integers(len(paths))]
        whole = path.read_bytes()
        data = bytearray(whole)
        start = data.find(b"\xe0\x7f\x10\x00")
        for at_byte in generator.integers(start, len(data), 6):
            data[at_byte] = generator.integers(256)
        path.write_bytes(bytes(data))
        try:
            damaged = read_ct(folder)
        except (UnusableInputError, ScanRefusedError):  # any other type fails this test
            refused += 1
        else:  # codestreams have no checksum: one slice may hold other values, and nothing else may change
            assert damaged.hu.shape == sound.hu.shape
            assert np.array_equal(damaged.affine, sound.affine)
            assert np.count_nonzero((damaged.hu != sound.hu).any(axis=(0, 1))) <= 1
            assert np.isfinite(damaged.hu).all()
        path.write_bytes(whole)
    assert refused > 0
    assert np.array_equal(read_ct(folder).hu, sound.hu)


def test_a_codestream_that_claims_another_size_is_not_decoded(make_series: Callable[..., Any]) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.PixelRepresentation = 0
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.PixelData = ds.PixelData.replace(struct.pack(">2I", 32, 40), struct.pack(">2I", 65535, 65535), 1)

    assert "(65535, 65535)" in unusable(make_series(change))


def test_deep_nesting_is_an_unusable_input(make_series: Callable[..., Any]) -> None:
    folder = make_series()
    path = next(iter(folder.iterdir()))
    # written by hand: 5000 undefined-length sequences, each the only item of the one before
    body = b"\x18\x00\x12\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    meta_end = path.read_bytes().find(b"\x08\x00\x08\x00")
    path.write_bytes(path.read_bytes()[:meta_end] + body)
    for other in folder.iterdir():
        if other != path:
            other.unlink()
    assert "damaged" in unusable(folder)


def test_no_patient_name_in_any_message(
    make_series: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    broken: list[Change] = [
        lambda ds, k: k != 6,
        setting(RescaleType="US"),
        setting(Modality="MR"),
        lambda ds, k: ds.__delattr__("PixelData"),
        setting(SeriesInstanceUID="no uid"),
    ]
    said = []
    for number, change in enumerate(broken):
        try:
            scan = read_ct(make_series(change, name=f"scan{number}"))
            said += [repr(scan.acquisition), *(f.message for f in scan.findings)]
        except (ScanRefusedError, UnusableInputError) as error:
            said.append(str(error))
    out = capfd.readouterr()
    text = " ".join([*said, out.out, out.err, caplog.text, *(str(w.message) for w in recwarn)])
    assert "Verysecret" not in text
    assert "987654321" not in text
