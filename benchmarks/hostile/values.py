"""Wrong numbers of 0.1.0: values (N), headers (H) and geometry (G) of ``break.md``."""

import json
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.hostile.case import (
    NAMED,
    REFUSED,
    WRONG,
    Outcome,
    Register,
    Slices,
    Work,
    change,
    map_hu,
    move,
    nearest,
    nifti_of,
    stored,
)

BREAK = Register("break")
SCALE = ("hu_scale_wrong", "hu_scale_broken")
SCALE_SAID = (*SCALE, "hu_scale_off")
MIXED = ("mixed_rescale", "hu_scale_mixed")
ORDER = ("slices_out_of_place", "slice_order", "repeated_slices")


def on_study(alter: Callable[[Work, Slices], Any], **accepted: Any) -> Callable[[Work], Outcome]:
    """Return a case that alters the slices in place and screens them."""

    def run(work: Work) -> Outcome:
        slices = work.study
        alter(work, slices)
        return work.evaluate(work.save(slices), **accepted)

    return run


def on_header(alter: Callable[[Slices], Any], **accepted: Any) -> Callable[[Work], Outcome]:
    """Return a case that alters header entries and reads and checks the study."""

    def run(work: Work) -> Outcome:
        slices = work.study
        alter(slices)
        return work.header(work.save(slices), **accepted)

    return run


def on_values(of_hu: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], **accepted: Any) -> Any:
    """Return a case that maps the HU of all slices."""
    return on_study(lambda _, slices: map_hu(slices, of_hu), **accepted)


def near_levels(work: Work, slices: Slices, mm: float = 17.0) -> list[int]:
    """Return the indices of the slices within some mm of the first measured body, or of the others."""
    return [
        n
        for n, ds in enumerate(slices)
        if min(abs(float(ds.ImagePositionPatient[2]) - z) for z in work.levels_mm) <= mm
    ]


def case(number: str, words: str, before: str, run: Callable[[Work], Outcome]) -> None:
    """Register one case of the report."""
    BREAK.case(number, words, before)(run)


case(
    "N1",
    "HU above 0 x 1.15",
    "114.8 (+15.0), accepted, nothing said",
    on_values(lambda hu: np.where(hu > 0, hu * 1.15, hu), refused=SCALE, named=SCALE_SAID),
)


@BREAK.case("N2", "NIfTI, HU above 0 halved", "50.0 (-49.8), kvp_unknown only")
def halved_nifti(work: Work) -> Outcome:
    """A script that normalises or windows halves the values above 0."""
    hu = nifti_of(work.study)[0].astype(float)
    return work.evaluate(work.nifti(np.where(hu > 0, hu * 0.5, hu).astype(np.int16)), refused=SCALE)


@BREAK.case("N3", "real CT, HU above 0 halved", "38.1 (-41.8), no word on the scale")
def halved_real(work: Work) -> Outcome:
    """The same with the real CT that has L1 and L2."""
    return on_real(work, lambda hu: np.where(hu > 0, hu * 0.5, hu), refused=SCALE)


def on_real(work: Work, of_hu: Callable[[Any], Any], scale: float = 1.0, **accepted: Any) -> Outcome:
    """Screen the real CT with mapped values or scaled x and y spacing."""
    if work.real is None:
        return Outcome("not run", "no real data (OSTEO_REAL_DATA)")
    image: Any = nib.load(work.real / "ct_totalsegmentator_example" / "full" / "example_ct.nii.gz")
    affine = image.affine @ np.diag([scale, scale, 1, 1])
    path = work.folder / "real.nii"
    nib.save(nib.Nifti1Image(np.round(of_hu(np.asarray(image.dataobj, float))).astype(np.int16), affine), path)
    return work.evaluate(path, **accepted)


case(
    "N4",
    "slope 0.8, intercept kept",
    "-67.6 mg/cm3 printed and classed",
    on_study(lambda _, s: change(s, RescaleSlope="0.8"), refused=SCALE),
)
case(
    "N5",
    "slope 1.1",
    "183.7 (+83.9), blamed on contrast agent",
    on_study(lambda _, s: change(s, RescaleSlope="1.1"), refused=SCALE),
)
case(
    "N6 +25",
    "intercept +25, all slices",
    "118.0 (+18.2), air_off_range",
    on_study(lambda _, s: change(s, RescaleIntercept="-999"), refused=SCALE, named=SCALE_SAID),
)
case(
    "N6 +50",
    "intercept +50, all slices",
    "136.0 (+36.2), normal",
    on_study(lambda _, s: change(s, RescaleIntercept="-974"), refused=SCALE),
)
case(
    "N7",
    "intercept +50 in every second slice",
    "114.8 (+15.0), the mixture not reported",
    on_study(lambda _, s: change(s, RescaleIntercept=lambda i: "-974" if i % 2 else "-1024"), refused=MIXED),
)


@BREAK.case("N8", "slope 1.1 in the slices of L1 and L2 only", "183.7 (+83.9), the mixture not reported")
def slope_in_part(work: Work) -> Outcome:
    """Two slopes in one series."""
    slices = work.study
    for n in near_levels(work, slices):
        slices[n].RescaleSlope = "1.1"
    return work.evaluate(work.save(slices), refused=MIXED)


@BREAK.case("N9", "NIfTI, scl_slope 1.1", "109.6 (+9.8), air_off_range")
def nifti_slope(work: Work) -> Outcome:
    """A slope in the NIfTI header."""
    path = work.nifti()
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([1.1, 0.0], "<f4").tobytes()
    path.write_bytes(content)
    return work.evaluate(path, refused=SCALE, named=SCALE_SAID)


case(
    "N10",
    "clipped to -1024..250 HU",
    "97.5 from L1 only, a false fracture",
    on_values(lambda hu: np.clip(hu, -1024, 250), refused=("values_clipped",), named=("values_clipped",)),
)
case(
    "N11",
    "clipped to -160..240 HU",
    "106.1 (+6.3), bodies +63 %",
    on_values(lambda hu: np.clip(hu, -160, 240), refused=("values_clipped", "not_hounsfield_units")),
)


@BREAK.case("N12", "8 bit, 16 HU a step, rescale right", "L2 92.1 (-4.0), nothing said")
def eight_bits(work: Work) -> Outcome:
    """Eight bits are stored."""
    slices = work.study
    for ds in slices:
        few = (stored(ds) // 16).clip(0, 255).astype("u1")
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleSlope = 8, 8, 7, "16"
        ds.PixelData = few.tobytes()
        ds["PixelData"].VR = "OB"
    return work.evaluate(work.save(slices), refused=("coarse_values",), named=("coarse_values",))


@BREAK.case("N13", "pixels of 17 slices around L1 and L2 in reverse order", "L1 and L2 swapped, nothing said")
def reversed_block(work: Work) -> Outcome:
    """A block of slices lies in reverse."""
    slices = work.study
    first = max(0, nearest(slices, work.levels_mm[0]) - 4)
    pixels = [ds.PixelData for ds in slices]
    for i in range(first, first + 17):
        slices[i].PixelData = pixels[2 * first + 16 - i]
    return work.evaluate(work.save(slices), refused=ORDER)


@BREAK.case("N14", "9 slices around L1 are those of another person", "95.7 from L2 only, a false fracture")
def foreign_pixels(work: Work) -> Outcome:
    """Pixels of two people in one series."""
    slices = work.study
    middle = nearest(slices, work.levels_mm[0])
    for i in range(middle - 4, middle + 5):
        slices[i].PixelData = work.other[i].PixelData
    return work.evaluate(work.save(slices), refused=ORDER)


@BREAK.case("N15", "7 slices at L1 hold one slice's pixels", "97.5 (-2.3), the copies not reported")
def repeated_pixels(work: Work) -> Outcome:
    """One slice seven times."""
    slices = work.study
    middle = nearest(slices, work.levels_mm[0])
    for i in range(middle - 3, middle + 4):
        slices[i].PixelData = slices[middle].PixelData
    return work.evaluate(work.save(slices), refused=ORDER)


@BREAK.case("N16", "two people, one StudyInstanceUID, two series", "61.9: the other's density under this study")
def two_people(work: Work) -> Outcome:
    """The files of both people lie in one folder: each is a study of its own, or the study is refused."""
    uid = work.study[0].StudyInstanceUID
    change(work.other, StudyInstanceUID=uid, PatientID="OTHER", PatientSex="F", PatientAge="030Y")
    path = work.save([*work.study[:30], *work.other])
    ran = work.command("screen", path, "-o", work.folder / "out", "--levels", "L4")
    found = sorted(p.name for p in (work.folder / "out").glob("*/result.json"))
    single = work.header(path, refused=("several_patients", "several_studies"))
    two = len(list((work.folder / "out").glob("*/result.json"))) == 2
    kind = NAMED if two and single.kind == REFUSED else WRONG
    return Outcome(kind, f"{len(found)} studies, exit {ran.code}; the reader only: {single.sentence}")


KINDS = (
    "Monoenergetic Plus 40 keV",
    "MONO 70keV",
    "VNC Abdomen",
    "Iodine map",
    "Calcium suppression 25",
    "VUE 5mm",
    "Mono E=50",
)
BREAK.many(
    "H1",
    {
        text: on_header(
            lambda s, t=text: change(s, SeriesDescription=t, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]),
            refused=("not_plain_ct",),
        )
        for text in KINDS
    },
    "series description '{}', type ORIGINAL",
    "read as plain CT, nothing said",
)
TYPES = {
    "VIRTUAL_NON_CONTRAST": "ORIGINAL",
    "70KEV": "ORIGINAL",
    "VUE": "DERIVED",
    "GSI": "DERIVED",
    "CALCIUM_SUPPRESSED": "DERIVED",
    "VNC": "DERIVED",
    "VMI40KEV": "DERIVED",
}
BREAK.many(
    "H2",
    {
        word: on_header(
            lambda s, w=word, o=first: change(s, ImageType=[o, "PRIMARY", "AXIAL", w]), refused=("not_plain_ct",)
        )
        for word, first in TYPES.items()
    },
    "image type with {}",
    "at most derived_series",
)
case(
    "H2 DE_MIXED",
    "image type DERIVED with DE_MIXED (weighted mean of both tubes)",
    "at most derived_series",
    on_header(lambda s: change(s, ImageType=["DERIVED", "PRIMARY", "AXIAL", "DE_MIXED"]), named=("dual_energy",)),
)
case(
    "H3",
    "DERIVED and VNC in all slices but the first eleven",
    "nothing",
    on_header(
        lambda s: change(s[11:], ImageType=["DERIVED", "PRIMARY", "AXIAL", "VNC"]),
        refused=("not_plain_ct",),
        said="of 75",
    ),
)
case(
    "H4",
    "contrast agent in all slices but the first",
    "no contrast_flagged",
    on_header(lambda s: change(s[1:], ContrastBolusAgent="ULTRAVIST 370"), named=("contrast_flagged",)),
)
case(
    "H5 protocol",
    "protocol 'Abdomen PV 70s'",
    "no contrast_flagged",
    on_header(lambda s: change(s, ProtocolName="Abdomen PV 70s"), named=("contrast_flagged",)),
)
case(
    "H5 dose",
    "contrast flow rate and total dose only",
    "no contrast_flagged",
    on_header(lambda s: change(s, ContrastFlowRate="3", ContrastBolusTotalDose="80"), named=("contrast_flagged",)),
)
case(
    "H5 language",
    "series description 'TAP injecté 2mm'",
    "no contrast_flagged",
    on_header(lambda s: change(s, SeriesDescription="TAP injecté 2mm"), named=("contrast_flagged",)),
)
case(
    "H6",
    "kernel LUNG from slice 5 on, B before",
    "nothing",
    on_header(lambda s: change(s[5:], ConvolutionKernel="LUNG"), named=("sharp_kernel", "mixed_kernels")),
)
case(
    "H7",
    "another identifier, sex and age from slice 2 on",
    "nothing",
    on_header(
        lambda s: change(s[1:], PatientID="SECOND", PatientAge="012Y", PatientSex="F"),
        refused=("several_patients", "several_studies"),
    ),
)


@BREAK.case("H8", "NIfTI whose JSON states RescaleType MGML, ImageType VNC", "read as HU, nothing said")
def sidecar(work: Work) -> Outcome:
    """The facts beside a NIfTI file contradict HU."""
    path = work.nifti()
    facts = {"RescaleType": "MGML", "ImageType": ["DERIVED", "VNC"], "SeriesDescription": "VNC", "KVP": 120}
    path.with_suffix(".json").write_text(json.dumps(facts))
    return work.header(path, refused=("rescale_not_hu", "not_plain_ct"))


for position in ("FFS", "HFP"):
    # no contradiction: image orientation is relative to the patient; 5 of 9 real series are FFS with this orientation
    case(
        f"H9 {position}",
        f"PatientPosition {position}, orientation 1 0 0 0 1 0",
        "nothing (rightly)",
        on_header(lambda s, p=position: change(s, PatientPosition=p)),
    )
case(
    "H9 diameter",
    "reconstruction diameter 250 against 389 mm",
    "nothing",
    on_header(lambda s: change(s, ReconstructionDiameter="250"), named=("field_of_view_differs",)),
)


SIZE = ("size_off_range", "pitch_off_range", "body_shape_off_range", "implausible_spacing")


PEOPLE_DIFFER = "people differ by as much, docs/value_checks.md"


def pixels_times(factor: float) -> Callable[[Work, Slices], Any]:
    """Return an alteration that multiplies the pixel spacing."""
    return lambda _, slices: change(slices, PixelSpacing=[round(1.52 * factor, 4)] * 2, ReconstructionDiameter=None)


case(
    "G1",
    "pixel spacing x 0.85",
    "99.7; volume -26 %, nothing said",
    on_study(pixels_times(0.85), refused=SIZE, named=SIZE, limit=PEOPLE_DIFFER),
)
case(
    "G1 diameter",
    "pixel spacing x 0.85, reconstruction diameter kept",
    "nothing said",
    on_study(lambda _, s: change(s, PixelSpacing=[1.292] * 2), refused=SIZE, named=(*SIZE, "field_of_view_differs")),
)
case("G2", "pixel spacing x 1.3", "100.7; volume +67 %", on_study(pixels_times(1.3), refused=SIZE, named=SIZE))
case(
    "G3",
    "z positions x 1.15, thickness kept",
    "volume +14 %, nothing said",
    on_study(
        lambda _, s: move(s, lambda z: 1.15 * z), refused=SIZE, named=(*SIZE, "slices_apart"), limit=PEOPLE_DIFFER
    ),
)
case(
    "G4",
    "z positions x 0.85",
    "overlapping_slices, level_offset",
    on_study(lambda _, s: move(s, lambda z: 0.85 * z), refused=SIZE, named=(*SIZE, "overlapping_slices")),
)


@BREAK.case("G5", "NIfTI, whole affine x 1.15", "100.6; volume +54 %")
def larger(work: Work) -> Outcome:
    """Every spacing is wrong by the same factor."""
    affine = np.diag([1.15, 1.15, 1.15, 1.0]) @ nifti_of(work.study)[1]
    return work.evaluate(work.nifti(affine=affine), refused=SIZE, named=SIZE, limit=PEOPLE_DIFFER)


@BREAK.case("G6", "NIfTI, sform z x 0.8, qform right", "sform_qform_differ; volume and height -20 %")
def forms(work: Work) -> Outcome:
    """The two forms of the header differ."""
    hu, affine = nifti_of(work.study)
    image = nib.Nifti1Image(hu, np.diag([1, 1, 0.8, 1.0]) @ affine)
    image.header.set_zooms((*(abs(affine[i, i]) for i in range(3)),))
    image.set_qform(affine, 1)
    image.set_sform(np.diag([1, 1, 0.8, 1.0]) @ affine, 1)
    nib.save(image, work.folder / "ct.nii")
    wrong = ("sform_qform_differ", "orientation_contradiction", *SIZE)
    return work.evaluate(work.folder / "ct.nii", refused=wrong, named=("sform_qform_differ",))


def sheared(work: Work, degrees: float = 20) -> Slices:
    """Return slices whose rows are shifted as under a tilted gantry; the header does not state it."""
    slices = work.study
    for ds in slices:
        z = float(ds.ImagePositionPatient[2])
        rows = round(np.tan(np.radians(degrees)) * (z - work.levels_mm[0]) / float(ds.PixelSpacing[0]))
        ds.PixelData = np.roll(stored(ds), rows, 0).tobytes()
    return slices


TILT = ("gantry_tilt", *ORDER)


@BREAK.case("G7", "rows shifted as under a 20 degree tilt, nothing in the header", "100.0, nothing said")
def tilted(work: Work) -> Outcome:
    """Sheared pixels in DICOM: a shear along the body keeps densities, volumes and heights."""
    return work.evaluate(work.save(sheared(work)), refused=TILT, named=TILT, right=True, sizes=True)


@BREAK.case("G8", "NIfTI, left and right exchanged in the pixels", "100.0, kvp_unknown (the levels are right)")
def mirrored(work: Work) -> Outcome:
    """Density and levels do not depend on the side; the side of the liver does not decide (situs inversus exists)."""
    return work.evaluate(work.nifti(nifti_of(work.study)[0][::-1]), right=True, named=("mirrored",))


@BREAK.case("G9", "real CT, pixel spacing x 1.15", "82.8 from L1 only, a false fracture")
def real_larger(work: Work) -> Outcome:
    """The spacing of the real CT is wrong."""
    return on_real(work, lambda hu: hu, scale=1.15, refused=SIZE, named=SIZE, limit=PEOPLE_DIFFER)
