"""Further cases of the kinds N, H and G: other sizes of the error, other places, NIfTI in place of DICOM."""

import copy
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.hostile.case import (
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
from benchmarks.hostile.values import (
    MIXED,
    ORDER,
    PEOPLE_DIFFER,
    SCALE,
    SCALE_SAID,
    SIZE,
    TILT,
    on_header,
    on_study,
    on_values,
    pixels_times,
)

OWN_VALUES = Register("own")


def case(number: str, words: str, run: Callable[[Work], Outcome]) -> None:
    """Register one case."""
    OWN_VALUES.case(number, words)(run)


for factor in (0.75, 0.9, 1.1, 1.3):
    case(
        f"N1 x {factor}",
        f"HU above 0 x {factor}",
        on_values(lambda hu, f=factor: np.where(hu > 0, hu * f, hu), refused=SCALE, named=SCALE_SAID),
    )
case(
    "N1 offset",
    "20 HU added above 0 HU",
    on_values(lambda hu: np.where(hu > 0, hu + 20, hu), refused=SCALE, named=SCALE_SAID),
)
case(
    "N1 root",
    "HU above 0 to the power 0.9",
    on_values(lambda hu: np.where(hu > 0, np.abs(hu) ** 0.9, hu), refused=SCALE, named=SCALE_SAID),
)
for slope in ("0.5", "0.9", "1.05", "1.2", "2"):
    case(
        f"N4 {slope}",
        f"slope {slope}, intercept kept",
        on_study(
            lambda _, s, v=slope: change(s, RescaleSlope=v),
            refused=(*SCALE, "not_hounsfield_units"),
            named=("hu_scale_off",),
        ),
    )
for intercept in ("-1049", "-1074", "-924", "-1000", "0", "-2024"):
    case(
        f"N6 {intercept}",
        f"intercept {intercept}, all slices",
        on_study(
            lambda _, s, v=intercept: change(s, RescaleIntercept=v),
            refused=(*SCALE, "not_hounsfield_units"),
            named=("hu_scale_off",),
        ),
    )
case(
    "N7 half",
    "intercept +50 in the lower half",
    on_study(lambda _, s: change(s, RescaleIntercept=lambda i: "-974" if i > 37 else "-1024"), refused=MIXED),
)
case(
    "N7 one",
    "intercept -1 in one slice at L1",
    on_study(lambda w, s: change([s[nearest(s, w.levels_mm[0])]], RescaleIntercept="-1"), refused=(*MIXED, *ORDER)),
)
case(
    "N7 pixels",
    "50 HU added to the pixels of every second slice",
    on_study(lambda _, s: map_hu(s[::2], lambda hu: hu + 50), refused=(*MIXED, *ORDER)),
)
case(
    "N8 pixels",
    "HU x 1.1 in the pixels of the slices of L1 and L2",
    on_study(
        lambda w, s: map_hu(
            [s[i] for i in range(nearest(s, w.levels_mm[0]) - 5, nearest(s, w.levels_mm[1]) + 5)],
            lambda hu: (hu + 1024) * 1.1 - 1024,
        ),
        refused=(*MIXED, *ORDER),
    ),
)
case(
    "N10 400",
    "clipped to -1024..400 HU",
    on_values(lambda hu: np.clip(hu, -1024, 400), refused=("values_clipped",), named=("values_clipped",)),
)
case(
    "N10 bone",
    "clipped to -450..1050 HU (bone window)",
    on_values(lambda hu: np.clip(hu, -450, 1050), right=True, named=("values_clipped", "no_air")),
)
case(
    "N11 brain",
    "clipped to 0..80 HU",
    on_values(lambda hu: np.clip(hu, 0, 80), refused=("values_clipped", "not_hounsfield_units", "hu_scale_wrong")),
)
case(
    "N12 5",
    "steps of 5 HU",
    on_values(lambda hu: np.round(hu / 5) * 5, right=True, named=("coarse_values",), refused=("coarse_values",)),
)
case(
    "N12 window",
    "8 bits of the window -160..240 HU, rescale right",
    on_values(
        lambda hu: np.round((np.clip(hu, -160, 240) + 160) / 400 * 255) / 255 * 400 - 160,
        refused=("values_clipped", "coarse_values", "not_hounsfield_units"),
    ),
)
case(
    "N12 window bone",
    "8 bits of the window -1000..1000 HU, rescale right",
    on_values(
        lambda hu: np.round((np.clip(hu, -1000, 1000) + 1000) / 2000 * 255) / 255 * 2000 - 1000,
        refused=("coarse_values",),
        named=("coarse_values",),
    ),
)
case(
    "N12 no rescale",
    "8 bits of the window -160..240 HU read as HU",
    on_values(
        lambda hu: np.round((np.clip(hu, -160, 240) + 160) / 400 * 255),
        refused=("values_clipped", "not_hounsfield_units", *SCALE),
    ),
)


def reverse(first: int, count: int) -> Callable[[Work, Slices], None]:
    """Return an alteration that reverses the pixels of a block that starts this many slices below L1."""

    def alter(work: Work, slices: Slices) -> None:
        begin = max(0, nearest(slices, work.levels_mm[0]) + first)
        pixels = [ds.PixelData for ds in slices[begin : begin + count]]
        for ds, content in zip(slices[begin : begin + count], reversed(pixels), strict=True):
            ds.PixelData = content

    return alter


for count in (3, 5, 9, 30):
    case(
        f"N13 {count}",
        f"pixels of {count} slices at L1 in reverse order",
        on_study(reverse(-count // 2, count), refused=ORDER),
    )
case("N13 pair", "two neighbouring slices at L1 exchanged", on_study(reverse(0, 2), refused=ORDER, right=True))


@OWN_VALUES.case("N13 blocks", "two blocks of six slices exchanged (L1 and L2)")
def exchanged(work: Work) -> Outcome:
    """The order inside the blocks is kept."""
    slices = work.study
    a, b = (nearest(slices, z) - 3 for z in work.levels_mm[:2])
    for i in range(6):
        slices[a + i].PixelData, slices[b + i].PixelData = slices[b + i].PixelData, slices[a + i].PixelData
    return work.evaluate(work.save(slices), refused=ORDER)


def in_part(of_plane: Callable[[Any], Any], count: int = 9) -> Callable[[Work, Slices], None]:
    """Return an alteration of the stored pixels of some slices around L1."""

    def alter(work: Work, slices: Slices) -> None:
        middle = nearest(slices, work.levels_mm[0])
        for ds in slices[middle - count // 2 : middle + count // 2 + 1]:
            ds.PixelData = of_plane(stored(ds)).astype("<u2").tobytes()

    return alter


case("N14 flipped", "9 slices at L1 turned by 180 degrees", on_study(in_part(lambda p: p[::-1, ::-1]), refused=ORDER))
case("N14 front back", "9 slices at L1 mirrored front to back", on_study(in_part(lambda p: p[::-1]), refused=ORDER))
case("N14 side", "9 slices at L1 mirrored left to right", on_study(in_part(lambda p: p[:, ::-1]), refused=ORDER))
case(
    "N14 shifted",
    "9 slices at L1 shifted by 20 pixels (30 mm)",
    on_study(in_part(lambda p: np.roll(p, 20, 1)), refused=ORDER),
)
case(
    "N14 empty",
    "3 slices at L1 empty (air)",
    on_study(in_part(lambda p: p * 0 + 24, 3), refused=(*ORDER, "blank_slices"), named=("blank_slices",)),
)
case(
    "N14 half",
    "the lower half of the pixels of one slice at L1 is air",
    on_study(in_part(lambda p: np.where(np.arange(256)[:, None] < 128, p, 0), 1), refused=ORDER),
)
case(
    "N14 bytes",
    "100 bytes inserted into the pixels of a slice at L1 (all later pixels are shifted)",
    on_study(in_part(lambda p: np.roll(p.reshape(-1), 50).reshape(p.shape), 1), refused=ORDER, right=True),
)


@OWN_VALUES.case("N14 one", "one slice at L1 is that of another person")
def one_foreign(work: Work) -> Outcome:
    """A single slice."""
    middle = nearest(work.study, work.levels_mm[0])
    work.study[middle].PixelData = work.other[middle].PixelData
    return work.evaluate(work.save(work.study), refused=ORDER)


@OWN_VALUES.case("N14 below", "all slices below L1 are those of another person")
def lower_part(work: Work) -> Outcome:
    """Two people, one stack."""
    middle = nearest(work.study, work.levels_mm[0]) + 4
    for one, other in zip(work.study[middle:], work.other[middle:], strict=False):
        one.PixelData = other.PixelData
    return work.evaluate(work.save(work.study), refused=ORDER)


@OWN_VALUES.case("N15 noise", "5 slices at L1 hold one slice's pixels with noise of 1 HU")
def nearly_repeated(work: Work) -> Outcome:
    """Copies that are not equal byte by byte, as after lossy compression."""
    middle = nearest(work.study, work.levels_mm[0])
    draw = np.random.default_rng(4)
    plane = stored(work.study[middle])
    for i in range(middle - 2, middle + 3):
        work.study[i].PixelData = (plane + draw.integers(0, 2, plane.shape)).astype("<u2").tobytes()
    return work.evaluate(work.save(work.study), refused=ORDER)


@OWN_VALUES.case("N15 far", "one slice at L1 holds the pixels of a slice 60 mm above")
def far_copy(work: Work) -> Outcome:
    """A copy from elsewhere."""
    middle = nearest(work.study, work.levels_mm[0])
    work.study[middle].PixelData = work.study[middle - 15].PixelData
    return work.evaluate(work.save(work.study), refused=ORDER)


def on_nifti(
    of_volume: Callable[[Work, Any], Any], of_affine: Callable[[Any], Any] = lambda a: a, **accepted: Any
) -> Any:
    """Return a case that alters HU (x, y, z from below) and affine and screens the NIfTI file."""

    def run(work: Work) -> Outcome:
        hu, affine = nifti_of(work.study)
        path = work.nifti(np.asarray(of_volume(work, hu)), of_affine(affine))
        return work.evaluate(path, **accepted)

    return run


def planes(of_index: Callable[[int, int], int]) -> Callable[[Work, Any], Any]:
    """Return a reordering of the slices: index in the stack from below, and that of L1."""

    def alter(work: Work, hu: Any) -> Any:
        count = hu.shape[2]
        at = count - 1 - nearest(work.study, work.levels_mm[0])
        return hu[:, :, [of_index(k, at) for k in range(count)]]

    return alter


case(
    "NIfTI N7",
    "NIfTI, 50 HU more in every second slice",
    on_nifti(lambda _, hu: (hu + 50 * (np.arange(hu.shape[2]) % 2)).astype(np.int16), refused=(*MIXED, *ORDER)),
)
case("NIfTI N10", "NIfTI, clipped at 250 HU", on_nifti(lambda _, hu: hu.clip(-1024, 250), refused=("values_clipped",)))
case(
    "NIfTI N12",
    "NIfTI, steps of 16 HU",
    on_nifti(lambda _, hu: hu // 16 * 16, refused=("coarse_values",), named=("coarse_values",)),
)
case(
    "NIfTI N13",
    "NIfTI, 17 slices around L1 in reverse order",
    on_nifti(planes(lambda k, at: 2 * at - k if abs(k - at) <= 8 else k), refused=ORDER),
)
case(
    "NIfTI N15",
    "NIfTI, 7 slices at L1 hold one slice's pixels",
    on_nifti(planes(lambda k, at: at if abs(k - at) <= 3 else k), refused=ORDER),
)
case("NIfTI N6", "NIfTI, 50 HU added", on_nifti(lambda _, hu: hu + 50, refused=SCALE))
case("NIfTI N5", "NIfTI, HU x 1.1", on_nifti(lambda _, hu: (hu * 1.1).astype(np.int16), refused=SCALE))
case(
    "NIfTI air 0",
    "NIfTI, 1024 added, air clipped at 0",
    on_nifti(lambda _, hu: (hu + 1024).clip(0), refused=(*SCALE, "not_hounsfield_units")),
)
case(
    "NIfTI G7",
    "NIfTI, columns shifted as under a 15 degree tilt",
    on_nifti(
        lambda _, hu: np.stack([np.roll(hu[:, :, k], round(0.7 * (k - 37)), 1) for k in range(hu.shape[2])], 2),
        refused=TILT,
        named=TILT,
        right=True,
        sizes=True,
    ),
)
case(
    "NIfTI 1 mm",
    "NIfTI, affine of 1 x 1 x 1 mm",
    on_nifti(lambda _, hu: hu, lambda a: np.diag([-1.0, -1, 1, 1]), refused=SIZE, named=SIZE),
)
case(
    "NIfTI front",
    "NIfTI, front and back exchanged",
    on_nifti(
        lambda _, hu: hu[:, ::-1],
        refused=(
            "body_not_found",
            "levels_not_covered",
            "level_uncertain",
            "upside_down",
            "orientation_contradiction",
            *ORDER,
        ),
    ),
)


@OWN_VALUES.case("NIfTI inter", "NIfTI, scl_inter 50")
def intercept_of_nifti(work: Work) -> Outcome:
    """An offset in the header."""
    path = work.nifti()
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([1.0, 50.0], "<f4").tobytes()
    path.write_bytes(content)
    return work.evaluate(path, refused=SCALE)


for degrees in (5, 10, -20):

    def tilted(work: Work, slices: Slices, degrees: int = degrees) -> None:
        """Shift rows slice by slice."""
        for ds in slices:
            z = float(ds.ImagePositionPatient[2])
            rows = round(np.tan(np.radians(degrees)) * (z - work.levels_mm[0]) / 1.52)
            ds.PixelData = np.roll(stored(ds), rows, 0).tobytes()

    case(
        f"G7 {degrees}",
        f"rows shifted as under a tilt of {degrees} degrees",
        on_study(tilted, refused=TILT, named=TILT, right=True, sizes=True),
    )
for factor in (0.5, 0.75, 1.25, 1.5, 2.0):
    case(
        f"G1 x {factor}",
        f"pixel spacing x {factor}",
        on_study(pixels_times(factor), refused=SIZE, named=SIZE, limit=PEOPLE_DIFFER if factor in (0.75, 1.25) else ""),
    )
    case(
        f"G3 x {factor}",
        f"z positions x {factor}, thickness too",
        on_study(
            lambda _, s, f=factor: (move(s, lambda z: f * z), change(s, SliceThickness=str(4 * f))),
            refused=(*SIZE, "slice_too_thick"),
            named=SIZE,
            limit=PEOPLE_DIFFER if factor in (0.75, 1.25) else "",
        ),
    )
case(
    "G1 rows",
    "pixel spacing of the rows x 1.3, of the columns kept",
    on_study(
        lambda _, s: change(s, PixelSpacing=[1.976, 1.52]),
        refused=SIZE,
        named=(*SIZE, "pixels_not_square", "field_of_view_differs"),
    ),
)
case(
    "G1 one",
    "pixel spacing of one slice x 1.1",
    on_header(lambda s: change([s[30]], PixelSpacing=[1.672] * 2), refused=("mixed_spacing",)),
)


MARKS = (
    "MonoPlus 50",
    "sMono 190keV",
    "VMI 65",
    "Virtual Unenhanced",
    "Water (Iodine)",
    "Z effective",
    "Rho/Z",
    "CaSupp 50",
    "Electron density",
    "MonoE40 Spectral",
    "LungPBV",
    "uric acid",
    "Monochromatic 70",
    "VNC_Liver_3.0",
    "DE_Iodine",
    "虚拟平扫",
    "carte d'iode",
    "Monoénergétique 55",
)
OWN_VALUES.many(
    "H1",
    {t: on_header(lambda s, t=t: change(s, SeriesDescription=t), refused=("not_plain_ct",)) for t in MARKS},
    "series description '{}'",
)
PLAIN = (
    "Thorax 2.0 B30f",
    "Abdomen monophasisch",
    "Monitoring",
    "Premonitoring",
    "CT Colonography VC",
    "Calcium score CaSc 3.0",
    "WATER phantom",
    "TNC",
    "Economic protocol",
    "Chest w/o iodine contrast",
    "Harmonic",
)
OWN_VALUES.many(
    "H1 plain",
    {t: on_header(lambda s, t=t: change(s, SeriesDescription=t)) for t in PLAIN},
    "series description '{}': no finding is right",
)
case(
    "H1 protocol",
    "protocol 'Abdomen VMI 50keV'",
    on_header(lambda s: change(s, ProtocolName="Abdomen VMI 50keV"), refused=("not_plain_ct",)),
)
case(
    "H1 part",
    "'VNC' in the description of the last 20 slices",
    on_header(lambda s: change(s[55:], SeriesDescription="VNC"), refused=("not_plain_ct",), said="20 of 75"),
)
case(
    "H3 one",
    "image type VNC in one slice",
    on_header(lambda s: change([s[40]], ImageType=["DERIVED", "PRIMARY", "AXIAL", "VNC"]), refused=("not_plain_ct",)),
)
case("KVP one", "80 kV in one slice", on_header(lambda s: change([s[40]], KVP="80"), refused=("mixed_acquisition",)))
case(
    "KVP first",
    "120 kV in the first slice only",
    on_header(lambda s: change(s[1:], KVP=None), named=("kvp_unknown", "kvp_partly_stated")),
)
case(
    "thickness one",
    "thickness 8 mm in one slice",
    on_header(lambda s: change([s[40]], SliceThickness="8"), named=("mixed_thickness",)),
)
case(
    "H4 route",
    "contrast route IV only",
    on_header(lambda s: change(s, ContrastBolusRoute="IV"), named=("contrast_flagged",)),
)
case("H4 none", "contrast agent 'NONE'", on_header(lambda s: change(s, ContrastBolusAgent="NONE")))
case(
    "H4 study",
    "study description 'CT Abdomen mit KM'",
    on_header(lambda s: change(s, StudyDescription="CT Abdomen mit KM"), named=("contrast_flagged",)),
)
case(
    "H4 without",
    "series description 'Abdomen sans injection'",
    on_header(lambda s: change(s, SeriesDescription="Abdomen sans injection")),
)
case(
    "H7 first",
    "only the first slice is of the other person",
    on_header(lambda s: change(s[:1], PatientID="OTHER"), refused=("several_patients",)),
)
case(
    "H7 sex",
    "another sex in the last slice",
    on_header(lambda s: change(s[-1:], PatientSex="F"), refused=("mixed_sex", "several_patients")),
)
case(
    "H7 name",
    "another patient name in half of the slices",
    on_header(lambda s: change(s[:37], PatientName="OTHER"), refused=("mixed_patient_name", "several_patients")),
)
case(
    "H7 birth",
    "another birth date in half of the slices",
    on_header(
        lambda s: (change(s, PatientBirthDate="19510101"), change(s[:37], PatientBirthDate="19610101")),
        refused=("mixed_birth_date", "several_patients"),
    ),
)
case(
    "H7 age",
    "age 012Y in half of the slices",
    on_header(lambda s: change(s[:37], PatientAge="012Y"), refused=("mixed_age", "several_patients")),
)
case(
    "H7 written",
    "the same identifier with a blank in half of the slices",
    on_header(lambda s: change(s[:37], PatientID="virtual_1 ")),
)
case(
    "study one",
    "another study UID in one slice",
    on_header(lambda s: change([s[40]], StudyInstanceUID="1.2.3"), refused=("several_studies", "missing_slice")),
)
case(
    "bits",
    "12 bits stored in half of the slices, 16 in the others",
    on_header(lambda s: change(s[:37], BitsStored=16, HighBit=15), named=("mixed_bits_stored",)),
)
case(
    "inverted",
    "MONOCHROME1 in one slice",
    on_header(lambda s: change([s[40]], PhotometricInterpretation="MONOCHROME1"), refused=("monochrome1",)),
)
case(
    "padding",
    "padding value 1064 (40 HU) declared",
    on_header(lambda s: [ds.add_new(0x00280120, "US", 1064) for ds in s], named=("padding_in_tissue_range",)),
)
case(
    "type part",
    "rescale type US in the last slice",
    on_header(lambda s: change(s[-1:], RescaleType="US"), refused=("rescale_not_hu",)),
)


@OWN_VALUES.case("N16 names", "two people without PatientID, other names, one study and series UID, other positions")
def stacked(work: Work) -> Outcome:
    """The second person's slices continue the stack of the first."""
    change(work.study, PatientID=None)
    below = copy.deepcopy(work.other[:30])
    bottom = float(work.study[-1].ImagePositionPatient[2])
    for n, ds in enumerate(below):
        ds.ImagePositionPatient = [*work.study[0].ImagePositionPatient[:2], round(bottom - 4 * (n + 1), 4)]
    uids = {k: work.study[0].get(k) for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    change(below, PatientID=None, PatientName="OTHER", **uids)
    return work.header(
        work.save([*work.study, *below]), refused=("mixed_patient_name", "several_patients", "mixed_sex")
    )


@OWN_VALUES.case("NIfTI sheared", "NIfTI with a sheared affine (10 degrees)")
def sheared_affine(work: Work) -> Outcome:
    """As dcm2niix writes a tilted gantry with -i."""
    hu, affine = nifti_of(work.study)
    affine = affine.copy()
    affine[1, 2] = np.tan(np.radians(10)) * affine[2, 2]
    return work.evaluate(work.nifti(hu, affine), refused=("gantry_tilt",))


@OWN_VALUES.case("NIfTI qform", "NIfTI, zooms of the header differ from the sform (no qform)")
def zooms(work: Work) -> Outcome:
    """Only the sform counts; pixdim x 1.3 contradicts it."""
    hu, affine = nifti_of(work.study)
    path = work.nifti(hu, affine)
    image: Any = nib.load(path)
    content = bytearray(path.read_bytes())
    pixdim = np.frombuffer(bytes(content[76:108]), "<f4").copy()
    pixdim[1:4] *= 1.3
    content[76:108] = pixdim.tobytes()
    content[252:254] = b"\0\0"
    path.write_bytes(content)
    del image
    return work.evaluate(
        path, right=True, refused=("orientation_contradiction",), named=("sform_qform_differ", "zooms_differ")
    )
