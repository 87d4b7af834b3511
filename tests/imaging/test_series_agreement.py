"""Facts that every image of a series shares, and the patient of a study: each difference has its own finding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from osteo_monai.domain import Finding, Severity, Sex
from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging import read_ct

Change = Callable[[Dataset, int], Any]
SeriesMaker = Callable[..., Path]


def later(first: int = 8, **values: Any) -> Change:
    """Change header entries from slice ``first`` of 12 on."""

    def change(ds: Dataset, k: int) -> None:
        if k >= first:
            for keyword, value in values.items():
                setattr(ds, keyword, value)

    return change


def only_in(slices: tuple[int, ...], **values: Any) -> Change:
    """Set header entries in some slices and empty them in the others."""

    def change(ds: Dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value if k in slices else None)

    return change


def read(folder: Path) -> list[Finding]:
    try:
        return list(read_ct(folder, keep_doubts=True).findings)
    except ScanRefusedError as error:
        return list(error.findings)


@pytest.mark.parametrize(
    ("code", "severity", "change"),
    [
        pytest.param("mixed_thickness", "warning", later(SliceThickness=3), id="thickness"),
        pytest.param("mixed_kernels", "warning", later(ConvolutionKernel="A"), id="kernel"),
        pytest.param("mixed_scanner", "warning", later(ManufacturerModelName="Ingenuity"), id="scanner"),
        pytest.param("mixed_manufacturer", "warning", later(Manufacturer="Other"), id="manufacturer"),
        pytest.param("mixed_patient_position", "warning", later(PatientPosition="FFS"), id="patient-position"),
        pytest.param("mixed_bits_stored", "warning", later(BitsStored=15, HighBit=14), id="bits-stored"),
        pytest.param("mixed_high_bit", "warning", later(BitsStored=15, HighBit=14), id="high-bit"),
        pytest.param("mixed_image_type", "warning", later(ImageType=["DERIVED", "PRIMARY", "AXIAL"]), id="image-type"),
        pytest.param("mixed_contrast", "warning", later(ContrastBolusAgent="Iomeron"), id="contrast"),
        pytest.param("mixed_acquisition", "refusal", later(KVP=100), id="tube-voltage"),
        pytest.param("mixed_patient_name", "refusal", later(PatientName="Another^Name"), id="name"),
        pytest.param("mixed_sex", "refusal", later(PatientSex="M"), id="sex"),
        pytest.param("mixed_birth_date", "refusal", later(PatientBirthDate="19700203"), id="birth-date"),
        pytest.param("mixed_age", "refusal", later(PatientAge="012Y"), id="age"),
        pytest.param("several_patients", "refusal", later(PatientID="OTHER"), id="identifier"),
        pytest.param("not_plain_ct", "refusal", later(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "VNC"]), id="VNC"),
        pytest.param("not_plain_ct", "refusal", later(SeriesDescription="MonoE 50 keV"), id="keV"),
        pytest.param("monochrome1", "refusal", later(PhotometricInterpretation="MONOCHROME1"), id="inverted"),
        pytest.param("rescale_not_hu", "refusal", later(RescaleType="US"), id="rescale-type"),
        pytest.param("mixed_spacing", "refusal", later(PixelSpacing=[0.8, 0.8]), id="pixel-spacing"),
        pytest.param("mixed_orientation", "refusal", later(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]), id="turned"),
    ],
)
def test_a_difference_is_named_with_the_number_of_images(
    make_series: SeriesMaker, code: str, severity: str, change: Change
) -> None:
    def with_birth_date(ds: Dataset, k: int) -> None:
        ds.PatientBirthDate = "19640102"
        ds.PatientPosition = "HFS"
        change(ds, k)

    found = {f.code: f for f in read(make_series(with_birth_date))}
    assert found[code].severity == severity
    if code != "several_patients":
        assert "4" in found[code].message.replace("MonoE", "")
    for secret in ("Another", "19700203", "OTHER", "Verysecret"):
        assert secret not in found[code].message


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("KVP", 120, "kvp_partly_stated"),
        ("ConvolutionKernel", "B", "kernels_partly_stated"),
        ("SliceThickness", 2.5, "thickness_partly_stated"),
        ("ManufacturerModelName", "Brilliance 64", "scanner_partly_stated"),
    ],
)
def test_what_one_image_states_is_not_the_value_of_the_series(
    make_series: SeriesMaker, keyword: str, value: Any, code: str
) -> None:
    volume = read_ct(make_series(only_in((5,), **{keyword: value})))
    found = {f.code: f.message for f in volume.findings}
    assert "in 1 of 12 images only and counts as unknown" in found[code]
    facts = volume.acquisition
    unknown = {
        "KVP": facts.kvp,
        "ConvolutionKernel": facts.kernel,
        "SliceThickness": facts.slice_thickness_mm,
        "ManufacturerModelName": facts.model,
    }
    assert unknown[keyword] is None


def test_what_most_images_state_is_the_value_of_the_series(make_series: SeriesMaker) -> None:
    volume = read_ct(make_series(only_in(tuple(range(1, 12)), KVP=120, PatientSex="F", PatientAge="055Y")))
    assert [f.code for f in volume.findings] == ["kvp_partly_stated"]
    facts = volume.acquisition
    assert (facts.kvp, facts.sex, facts.age_years) == (120, Sex.FEMALE, 55)


def test_age_and_sex_of_a_single_image_are_not_those_of_the_patient(make_series: SeriesMaker) -> None:
    facts = read_ct(make_series(only_in((3,), PatientSex="M", PatientAge="012Y"))).acquisition
    assert (facts.sex, facts.age_years) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        later(PatientName="VERYSECRET NAMEOFPERSON"),
        later(PatientAge="056Y"),
        later(PatientSex="O"),
        later(PatientName="", PatientAge="", PatientSex=""),
        later(SliceThickness="2.500000"),
        later(InstanceNumber=7, AcquisitionNumber=3),
    ],
    ids=["name in other letters", "birthday", "sex unknown", "emptied", "number with zeros", "numbers of images"],
)
def test_what_is_no_difference(make_series: SeriesMaker, change: Change) -> None:
    assert read(make_series(change)) == []


def test_two_people_in_two_series_of_one_study_are_refused(make_series: SeriesMaker) -> None:
    """As anonymisers leave it: one study, one identifier, another sex."""

    def other(ds: Dataset, k: int) -> None:
        ds.PatientSex, ds.PatientAge = "M", "030Y"

    make_series(uid="1.2.826.0.1.11")
    folder = make_series(other, uid="1.2.826.0.1.12")
    found = read(folder)
    assert [f.code for f in found] == ["mixed_sex", "mixed_age"]
    assert "12 of 24 images" in found[0].message


def test_other_objects_of_the_chosen_series_may_be_lost_slices(make_series: SeriesMaker) -> None:
    folder = make_series(lambda ds, k: setattr(ds, "SOPClassUID", "1.2.3.4") if k == 11 else None)
    found = {f.code: f for f in read(folder)}
    assert found["slices_ignored"].severity is Severity.WARNING
    assert "1 file" in found["slices_ignored"].message


@pytest.mark.parametrize(("diameter", "warned"), [(36.0, False), (35.0, False), (30.0, True), (45.0, True), (0, False)])
def test_pixel_spacing_is_compared_with_the_reconstruction_diameter(
    make_series: SeriesMaker, diameter: float, warned: bool
) -> None:
    """The phantom is 40 rows of 0.9 mm high and 32 columns of 0.8 mm wide."""
    found = {f.code for f in read(make_series(later(0, ReconstructionDiameter=diameter)))}
    assert ("field_of_view_differs" in found) is warned


@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP"])
def test_a_patient_position_does_not_contradict_the_orientation(make_series: SeriesMaker, position: str) -> None:
    """Orientation is relative to the patient: four of ten real series are FFS with the usual orientation."""
    assert read(make_series(later(0, PatientPosition=position))) == []


def rescaled(slices: tuple[int, ...], slope: float, intercept: float, convert: bool) -> Change:
    """Write slices with another rescale, with the same HU if ``convert``, else the same stored values."""

    def change(ds: Dataset, k: int) -> None:
        if k in slices:
            if convert:
                hu = np.frombuffer(ds.PixelData, "<i2").astype(float) - 1024
                ds.PixelData = np.round((hu - intercept) / slope).astype("<i2").tobytes()
            ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    return change


EVERY_SECOND, BLOCK, ONE = tuple(range(1, 12, 2)), (4, 5, 6, 7), (6,)


@pytest.mark.parametrize("slices", [EVERY_SECOND, BLOCK, ONE], ids=["every-second", "block", "one"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -974), (1.1, -1024), (1.02, -1024), (1, -1)])
def test_a_rescale_that_changes_the_tissue_is_refused(
    make_series: SeriesMaker, slices: tuple[int, ...], slope: float, intercept: float
) -> None:
    found = read(make_series(rescaled(slices, slope, intercept, convert=False)))
    assert [f.code for f in found] == ["mixed_rescale"]
    assert found[0].severity is Severity.REFUSAL
    assert f"{min(len(slices), 12 - len(slices))} of 12" in found[0].message


@pytest.mark.parametrize("slices", [EVERY_SECOND, BLOCK, ONE], ids=["every-second", "block", "one"])
def test_a_rescale_of_each_slice_that_keeps_the_tissue_warns(
    make_series: SeriesMaker, canonical_hu: NDArray[np.int16], slices: tuple[int, ...]
) -> None:
    volume = read_ct(make_series(rescaled(slices, 0.5, -1000, convert=True)))
    assert [(f.code, f.severity) for f in volume.findings] == [("mixed_rescale", Severity.WARNING)]
    np.testing.assert_array_equal(volume.hu, canonical_hu)


@pytest.mark.parametrize(
    ("chosen", "other"),
    [("NONCONTRAST 2mm", "CECT 2mm"), ("Abdomen sans injection", "Abdomen 2.0"), ("Abdomen 2.0", "TAP injecté")],
    ids=["native-and-enhanced", "native-and-unknown", "unknown-and-enhanced"],
)
@pytest.mark.parametrize("first", [True, False])
def test_native_is_preferred_to_unknown_and_unknown_to_enhanced(
    make_series: SeriesMaker, chosen: str, other: str, first: bool
) -> None:
    def described(text: str) -> Change:
        return later(0, SeriesDescription=text, SpecificCharacterSet="ISO_IR 192")

    make_series(described(chosen), uid=f"1.2.826.0.1.1{1 if first else 2}")
    folder = make_series(described(other), uid=f"1.2.826.0.1.1{2 if first else 1}")
    assert read_ct(folder).acquisition.series_description == chosen
