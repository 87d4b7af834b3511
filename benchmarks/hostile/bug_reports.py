"""The cases of ``bugs.md``, which come from public bug reports."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from benchmarks.hostile.case import (
    NAMED,
    NO_RIGHTS,
    REFUSED,
    RIGHT,
    Outcome,
    Register,
    Slices,
    Work,
    change,
    expect,
    load,
    nifti_of,
    rows_of,
    small,
    stored,
)
from benchmarks.hostile.folders import batch, last_line, rows
from benchmarks.hostile.tables import built, evaluated, people, refused
from osteo_monai import make_ct, make_radiograph
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.header_words import contrast_in_text
from osteo_monai.screening import ScreeningOptions, find_screenable, screen

BUGS = Register("bugs")


@BUGS.case("1", "all people have one StudyInstanceUID, two folders", "one of two measured, accepted")
def one_study_uid(work: Work) -> Outcome:
    """pydicom/deid#19, RSNA/anonymizer#18."""
    for number, name in enumerate(("patA", "patB")):
        small(work.folder / "in" / name / "CT", number, StudyInstanceUID="1.2.3.4")
    return rows(work, batch(work, 2), 2)


@BUGS.case("1 no PatientID", "the same, PatientID removed, sex differs", "")
def one_study_uid_no_id(work: Work) -> Outcome:
    """An anonymiser that removes PatientID too."""
    for number, name in enumerate(("patA", "patB")):
        facts: dict[str, Any] = {
            "StudyInstanceUID": "1.2.3.4",
            "PatientID": None,
            "PatientName": None,
            "PatientSex": "FM"[number],
        }
        small(work.folder / "in" / name / "CT", number, **facts)
    return rows(work, batch(work, 2), 2)


@BUGS.case("1b", "radiographs of two people under one StudyInstanceUID", "fused as one study")
def radiographs_of_two(work: Work) -> Outcome:
    """AP of one and lateral of the other."""
    for number, name in enumerate(("patA", "patB")):
        made = make_radiograph(work.folder / f"made{number}", seed=number, rows=256)
        ds = pydicom.dcmread(made)
        ds.StudyInstanceUID, ds.PatientID, ds.PatientSex = "1.2.3.4", f"P{number}", "FM"[number]
        (work.folder / "in" / name).mkdir(parents=True)
        ds.save_as(work.folder / "in" / name / "film.dcm")
    found = find_screenable(work.folder / "in")
    return expect(len(found) == 2, RIGHT, f"{len(found)} studies of {[len(s.files) for s in found]} files")


@BUGS.case("2", "a study folder that is a symbolic link", "left out silently")
def linked(work: Work) -> Outcome:
    """FCP-INDI/C-PAC#1678 and others."""
    small(work.folder / "in" / "patY", 0)
    small(work.folder / "elsewhere" / "patX", 1)
    (work.folder / "in" / "patX").symlink_to(work.folder / "elsewhere" / "patX")
    (work.folder / "in" / "loop").symlink_to(work.folder / "in")
    return rows(work, batch(work, 2), 2)


@BUGS.case("2b", "a folder without permission", "left out silently")
def no_permission(work: Work) -> Outcome:
    """Run without the right of an administrator to read everything."""
    for number, name in enumerate(("a", "b", "c")):
        small(work.folder / "in" / name, number)
    (work.folder / "in" / "b").chmod(0)
    ran = work.shell(f"{NO_RIGHTS} $OSTEO screen in -o out")
    (work.folder / "in" / "b").chmod(0o700)
    return rows(work, ran, 2, "cannot be opened")


NATIVE = (
    "NONCONTRAST",
    "noncontrast",
    "W/OUT CONTRAST",
    "PRE CONTRAST",
    "PRECONTRAST",
    "zonder contrast",
    "CONTRAST: NONE",
    "sans injection",
    "ohne KM",
    "unenhanced",
)
ENHANCED = (
    "CECT ABDOMEN",
    "Chest CE",
    "CT Abd WO/W",
    "CTPA",
    "DELAYED",
    "PORTO VENOSA",
    "ADDOME CON MDC",
    "TDM TAP injecté",
    "avec injection",
    "胸部增强",
    "造影",
    "med kontrast",
    "+KM",
)
NEITHER = ("LOW CONTRAST RESOLUTION", "Abdomen 2mm", "contrast phantom", "STAGE IV LUNG CA", "CT Abdomen")


@BUGS.case("3", "a native series and CECT of one study, agent tag empty", "the contrast series was read")
def native_first(work: Work) -> Outcome:
    """notmatthancock/pylidc#35."""
    other = copy.deepcopy(work.study)
    change(work.study, SeriesDescription="NONCONTRAST 2mm", SeriesNumber="2")
    change(other, SeriesDescription="CECT 2mm", SeriesNumber="3", SeriesInstanceUID="1.2.3.9")
    volume = read_ct(work.save([*other, *work.study]), keep_doubts=True)
    said = next((f.message for f in volume.findings if f.code == "series_chosen"), "")
    return expect("this one was read: number 2" in said, RIGHT, said)


for label, texts, true in (("native", NATIVE, False), ("enhanced", ENHANCED, True), ("neither", NEITHER, None)):

    @BUGS.case(f"4 {label}", f"{len(texts)} descriptions, {label}", "most of them misread")
    def descriptions(work: Work, texts: tuple[str, ...] = texts, true: bool | None = true) -> Outcome:
        """Other languages, negations."""
        wrong = [text for text in texts if contrast_in_text(text) is not true]
        return expect(not wrong, RIGHT, f"wrong: {', '.join(wrong) or 'none'}")


@BUGS.case("5", "series description 'MonoE 55 keV [HU]', ORIGINAL", "95.7 for 75.0, accepted")
def mono(work: Work) -> Outcome:
    """didymo/OnkoDICOM#172."""
    change(work.study, SeriesDescription="MonoE 55 keV [HU]")
    return work.header(work.save(work.study), refused=("not_plain_ct",))


@BUGS.case("6", "two runs begin at once in a new SQLite store", "one dies")
def two_runs(work: Work) -> Outcome:
    """daizutabi/hydraflow#245, mlflow/mlflow#19943."""
    code = (
        "import sys,time; from osteo_monai.tracking import log_finished_run, sqlite_uri, unique_run_name\n"
        "from pathlib import Path\n"
        "Path(sys.argv[1]).touch()\n"
        "while len(list(Path('.').glob('ready*'))) < 2: time.sleep(0.01)\n"
        "log_finished_run(sqlite_uri(Path('race/mlflow.db')), 'exp', unique_run_name('b'), {}, {'m': 1.0})\n"
    )
    (work.folder / "run.py").write_text(code)
    python = "${OSTEO% -m *}"
    ran = work.shell(f"{python} run.py ready1 & one=$!; {python} run.py ready2; b=$?; wait $one; echo codes $? $b", 300)
    return expect("codes 0 0" in ran.text, RIGHT, " ".join(ran.text.split())[-120:])


@BUGS.case("7", "dcm2niix: scan.nii.gz with unequal distances beside scan_Eq_1.nii.gz", "both accepted, two people")
def equalised(work: Work) -> Outcome:
    """rordenlab/dcm2niix#341."""
    (work.folder / "in").mkdir()
    hu, affine = nifti_of(work.study)
    nib.save(nib.Nifti1Image(np.delete(hu, 60, 2), affine), work.folder / "in" / "scan.nii.gz")
    nib.save(nib.Nifti1Image(hu[:, :, :20], affine), work.folder / "in" / "scan_Eq_1.nii.gz")
    (work.folder / "in" / "scan.json").write_text(json.dumps({"Modality": "CT", "ConvolutionKernel": "B"}))
    ran = batch(work, 1)
    listed = (
        (work.folder / "out" / "not_read.csv").read_text()
        if (work.folder / "out" / "not_read.csv").exists()
        else ran.text
    )
    ok = "dcm2niix" in listed + ran.text and len(list((work.folder / "out").rglob("result.json"))) == 1
    return expect(ok, NAMED, next((x for x in (listed + ran.text).splitlines() if "dcm2niix" in x), last_line(ran)))


@BUGS.case("8", "an 80 kVp scan as NIfTI without KVP", "95.7 for 75.0, opinions_agree")
def voltage_unknown(work: Work) -> Outcome:
    """rordenlab/dcm2niix#785: the interval must hold the truth."""
    slices = load(make_ct(work.folder / "made", seed=1, mean_density=75.0, kvp=80, matrix=128))
    hu, affine = nifti_of(slices)
    result = screen(work.nifti(hu, affine), work.models, ScreeningOptions(), device="cpu").result
    codes = {f.code: f.message for f in result.findings}
    if result.density is None:
        return expect("kvp_contradicted" in codes, REFUSED, str(codes))
    low, high = result.density.interval_low, result.density.interval_high
    ok = low <= 75 <= high and {"kvp_unknown", "kvp_contradicted"} & set(codes)
    said = codes.get("kvp_contradicted") or codes.get("kvp_unknown", "")
    return expect(bool(ok), NAMED, f"{result.density.mg_cm3:.1f} ({low:.0f} to {high:.0f}) for 75.0; {said}")


def bare(work: Work, folder: Path) -> Path:
    """Write slices without preamble and file meta, as implicit little endian."""
    folder.mkdir(parents=True)
    for n, ds in enumerate(work.study[:6]):
        ds.file_meta, ds.preamble = FileMetaDataset(), None
        ds.save_as(folder / f"IM{n}", implicit_vr=True, little_endian=True, enforce_file_format=False)
    return folder


@BUGS.case("9", "DICOM without preamble as the only input", "'No DICOM file was found.'")
def no_preamble(work: Work) -> Outcome:
    """pydicom/pydicom#2231 and others."""
    ran = work.command("screen", bare(work, work.folder / "in"), "-o", work.folder / "out")
    return expect(ran.code == 2 and "DICOM without file header" in ran.text + read_rows(work), NAMED, last_line(ran))


@BUGS.case("9 beside", "the same beside a study", "'Nothing in the folder is DICOM or NIfTI'")
def no_preamble_beside(work: Work) -> Outcome:
    """It is counted with its reason."""
    bare(work, work.folder / "in" / "bare")
    small(work.folder / "in" / "a", 0)
    small(work.folder / "in" / "b", 1)
    ran = batch(work, 2)
    return expect(
        "DICOM without file header" in read_rows(work) and len(rows_of(work.folder / "out")) == 2, NAMED, last_line(ran)
    )


def read_rows(work: Work) -> str:
    """Return the table of entries that were not read."""
    path = work.folder / "out" / "not_read.csv"
    return path.read_text() if path.exists() else ""


@BUGS.case("10", "two acquisitions in one series", "refused duplicate_positions")
def two_passes(work: Work) -> Outcome:
    """Slicer/Slicer#4801 and others."""
    second = copy.deepcopy(work.study[:40])
    change(second, AcquisitionNumber="2")
    for n, ds in enumerate(second):
        ds.SOPInstanceUID = f"1.2.3.{n + 1}"
        ds.PixelData = np.clip(stored(ds) + 3, 0, 4095).astype("<u2").tobytes()
    return work.header(work.save([*work.study, *second]), named=("series_told_apart",))


@BUGS.case("11", "one slice lost far from the levels", "whole study refused")
def slice_lost(work: Work) -> Outcome:
    """DIAGNijmegen/rse-panimg#7: valid; the part below the gap is not used."""
    return work.header(work.save([*work.study[:3], *work.study[4:]]), refused=("missing_slice",))


@BUGS.case("12", "ct.nii.gz and masks in segmentations/ beside it", "each mask is a study")
def masks(work: Work) -> Outcome:
    """An output folder of TotalSegmentator."""
    (work.folder / "in" / "segmentations").mkdir(parents=True)
    hu, affine = nifti_of(work.study)
    nib.save(nib.Nifti1Image(hu[:, :, :30], affine), work.folder / "in" / "ct.nii.gz")
    for name, part in (("vertebrae_L1", hu > 100), ("liver", hu > 60), ("rib", hu > 200)):
        nib.save(
            nib.Nifti1Image(part.astype(np.uint8), affine), work.folder / "in" / "segmentations" / f"{name}.nii.gz"
        )
    ran = batch(work, 1)
    names = rows_of(work.folder / "out")
    listed = read_rows(work)
    ok = not [n for n in names if "segmentations" in n]
    return expect(ok, NAMED, f"rows {names}; {listed.splitlines()[1] if listed else last_line(ran)}")


@BUGS.case("14", "NRRD and MHA beside a study", "'neither DICOM nor NIfTI'")
def other_formats(work: Work) -> Outcome:
    """They are named."""
    small(work.folder / "in" / "a", 0)
    (work.folder / "in" / "b.nrrd").write_bytes(b"NRRD0005\n")
    (work.folder / "in" / "c.mha").write_bytes(b"ObjectType = Image\n")
    ran = batch(work, 1)
    listed = read_rows(work) + ran.text
    return expect("NRRD" in listed and "MetaImage" in listed, NAMED, last_line(ran))


@BUGS.case("15", "a table as .xlsx", "refused in the documented installation")
def excel(work: Work) -> Outcome:
    """The extra is named where it is missing."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["subject_id", "age"], ["S000", 61]):
        book.active.append(row)
    (work.folder / "scans").mkdir()
    book.save(work.folder / "table.xlsx")
    built(work, [], count=1)
    ran = work.command(
        "manifest", "build", work.folder / "table.xlsx", "--images", work.folder / "scans", "-o", work.folder / "x.json"
    )
    return expect(ran.code == 0, RIGHT, last_line(ran))


@BUGS.case("16", "identifiers 1, 2 in the table, folders 001, 002", "'no CT image found: 2'")
def leading_zeros(work: Work) -> Outcome:
    """A near miss is named."""
    for name in ("001", "002"):
        (work.folder / "scans").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), work.folder / "scans" / f"{name}.nii.gz")
    ran = built(work, ["1,61", "2,62"], "subject_id,age", 0)
    return expect("001" in ran.text or "zeros" in ran.text, NAMED, " ".join(ran.text.split())[:300])


@BUGS.case("16 case", "identifier pat_03, folder Pat_03", "'no CT image found'")
def capitals(work: Work) -> Outcome:
    """Capitals differ."""
    (work.folder / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), work.folder / "scans" / "Pat_03.nii.gz")
    ran = built(work, ["pat_03,61"], "subject_id,age", 0)
    return expect("Pat_03" in ran.text or ran.code == 0, NAMED, " ".join(ran.text.split())[:300])


@BUGS.case("20 cp1252", "a table in cp1252", "refused well")
def windows_text(work: Work) -> Outcome:
    """An Excel CSV."""
    (work.folder / "model.csv").write_bytes("subject_id,age\nMüller,50\n".encode("cp1252"))
    return refused(
        work.command("evaluate", work.folder / "model.csv", "-o", work.folder / "out", "--no-track"), "UTF-8"
    )


@BUGS.case("20 UTF-16", "a table in UTF-16", "refused well")
def utf16(work: Work) -> Outcome:
    """Unicode text of Excel."""
    (work.folder / "model.csv").write_bytes("subject_id,age\nS1,50\n".encode("utf-16"))
    return refused(
        work.command("evaluate", work.folder / "model.csv", "-o", work.folder / "out", "--no-track"), "UTF-8"
    )


@BUGS.case("21", "a decimal comma in a comma table", "'must be a number'")
def decimal_comma(work: Work) -> Outcome:
    """The cell is quoted."""
    lines = people()
    lines[3] = lines[3].replace(lines[3].split(",")[1], '"90,5"', 1)
    return refused(evaluated(work, lines), "decimal point")


@BUGS.case("22", "1.090 as thousands", "right")
def thousands(work: Work) -> Outcome:
    """It looks like g/cm3."""
    return refused(built(work, ["S000,61,F,1.090,K2HPO4"], count=1), "g/cm")


@BUGS.case("23", "height 1,65", "right")
def height(work: Work) -> Outcome:
    """Metres."""
    ran = built(work, ['S000,61,F,"1,65"'], "subject_id,age,sex,height_cm", 1)
    return refused(ran, "height")


def enhanced(slices: Slices, kvp: float = 100, times: int = 1, frame_type: str = "NONE") -> Dataset:
    """Return one Enhanced CT object with the values in functional groups."""
    first = slices[0]
    ds = Dataset()
    ds.file_meta, ds.preamble = FileMetaDataset(), bytes(128)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedCTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.UID("1.2.3.77")
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
        "PatientName",
        "PatientSex",
        "PatientAge",
        "Modality",
        "Manufacturer",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ):
        setattr(ds, keyword, first.get(keyword))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", frame_type]
    exposure, reconstruction, rescale, measures, orientation, kind = (Dataset() for _ in range(6))
    exposure.KVP, reconstruction.ConvolutionKernel = kvp, "B30f"
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, 4
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", frame_type]
    shared = Dataset()
    shared.CTXRayDetailsSequence = Sequence([exposure])
    shared.CTReconstructionSequence = Sequence([reconstruction])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.CTImageFrameTypeSequence = Sequence([kind])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for _ in range(times):
        for one in slices:
            group, position = Dataset(), Dataset()
            position.ImagePositionPatient = one.ImagePositionPatient
            group.PlanePositionSequence = Sequence([position])
            frames.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.NumberOfFrames = len(frames)
    ds.PixelData = b"".join(one.PixelData for one in slices) * times
    return ds


@BUGS.case("24", "Enhanced CT, values in functional groups", "right")
def multiframe(work: Work) -> Outcome:
    """mercure-imaging/mercure#49."""
    volume = read_ct(work.save([enhanced(work.study)]), keep_doubts=True)
    facts = volume.acquisition
    ok = facts.kvp == 100 and facts.kernel == "B30f" and volume.hu.shape[2] == len(work.study)
    return expect(ok, RIGHT, f"{facts.kvp} kV, kernel {facts.kernel}, {volume.hu.shape}")


@BUGS.case("25", "Enhanced CT, two time points", "refused well")
def time_points(work: Work) -> Outcome:
    """Positions are repeated."""
    return work.header(work.save([enhanced(work.study, times=2)]), refused=("duplicate_positions", "repeated_slices"))


@BUGS.case("26", "Enhanced CT, MONOENERGETIC", "refused well")
def multiframe_mono(work: Work) -> Outcome:
    """By the frame type."""
    path = work.save([enhanced(work.study, frame_type="MONOENERGETIC")])
    return work.header(path, refused=("not_plain_ct",))


@BUGS.case("27", "macOS ._ files and Thumbs.db beside slices", "right")
def companions(work: Work) -> Outcome:
    """They are ignored."""
    path = work.save(work.study)
    (path / "._IM0001.dcm").write_bytes(b"\0\5\x16\7" + bytes(100))
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    return work.header(path)


@BUGS.case("28", "an empty file among the slices", "refused well")
def empty_file(work: Work) -> Outcome:
    """The slice is missing."""
    path = work.save(work.study)
    (path / "IM0030.dcm").write_bytes(b"")
    return work.header(path, refused=("missing_slice",))


def turned(slices: Slices) -> Slices:
    """Return the slices of a prone person: both image axes point the other way, pixels too."""
    for ds in slices:
        ds.PixelData = stored(ds)[::-1, ::-1].tobytes()
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        last = (ds.Rows - 1) * float(ds.PixelSpacing[0])
        ds.ImagePositionPatient = [round(x + last, 4), round(y + last, 4), z]
        ds.ImageOrientationPatient, ds.PatientPosition = [-1, 0, 0, 0, -1, 0], "HFP"
    return slices


@BUGS.case("29", "prone, with its orientation", "right")
def prone(work: Work) -> Outcome:
    """The geometry is handled."""
    return work.evaluate(work.save(turned(work.study)), right=True)


@BUGS.case("30", "a sagittal reformat as the only series", "right (derived_series, not_axial)")
def sagittal(work: Work) -> Outcome:
    """Slices along x."""
    hu, affine = nifti_of(work.study)
    slices = []
    for k in range(0, hu.shape[0], 1):
        ds = copy.deepcopy(work.study[0])
        plane = hu[k].T[::-1]  # rows from the top, columns to the back
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing, ds.SliceThickness = [float(affine[2, 2]), float(-affine[1, 1])], "1.52"
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        top = affine[2, 3] + affine[2, 2] * (hu.shape[2] - 1)
        ds.ImagePositionPatient = [round(-(affine[0, 3] + affine[0, 0] * k), 4), float(-affine[1, 3]), float(top)]
        ds.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
        ds.SOPInstanceUID, ds.InstanceNumber, ds.ReconstructionDiameter = f"1.2.3.{k + 1}", k + 1, None
        ds.PixelData = (plane.astype(np.int32) + 1024).clip(0, 4095).astype("<u2").tobytes()
        slices.append(ds)
    return work.evaluate(work.save(slices), right=True, named=("derived_series",))


@BUGS.case("31", "Latin-1 and GB18030 headers", "right")
def charsets(work: Work) -> Outcome:
    """Each is decoded."""
    change(work.study, SpecificCharacterSet="GB18030", PatientName="张三", SeriesDescription="胸部平扫")
    return work.header(work.save(work.study))


@BUGS.case("32", "ages 045Y, 018M, 000Y", "right")
def ages(work: Work) -> Outcome:
    """45, 1.5, unknown."""
    found = []
    for age in ("045Y", "018M", "000Y"):
        change(work.study, PatientAge=age)
        shutil.rmtree(work.folder / "study", ignore_errors=True)
        found.append(read_ct(work.save(work.study), keep_doubts=True).acquisition.age_years)
    return expect(found == [45.0, 1.5, None], RIGHT, str(found))


@BUGS.case("33", "UIDs blanked, two people in two folders", "right")
def blanked(work: Work) -> Outcome:
    """Folders keep them apart."""
    for number, name in enumerate(("a", "b")):
        small(work.folder / "in" / name, number, StudyInstanceUID="", SeriesInstanceUID="")
    return rows(work, batch(work, 2), 2)


@BUGS.case("34", "another study UID in every file", "refused well")
def made_anew(work: Work) -> Outcome:
    """One study of many identifiers."""
    change(work.study, StudyInstanceUID=lambda n: f"1.2.3.{n + 1}")
    return work.header(work.save(work.study), refused=("several_studies",))


@BUGS.case("35", "another frame of reference in every file", "refused mixed_frame_of_reference")
def frames_of_reference(work: Work) -> Outcome:
    """The positions form one stack."""
    change(work.study, FrameOfReferenceUID=lambda n: f"1.2.3.{n + 1}")
    return work.header(work.save(work.study), named=("mixed_frame_of_reference",))


@BUGS.case("36", "one study and series UID, two people in two folders", "none measured, one row")
def one_series_uid(work: Work) -> Outcome:
    """As 1, with the series UID too."""
    for number, name in enumerate(("patA", "patB")):
        small(work.folder / "in" / name, number, StudyInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3.5")
    return rows(work, batch(work, 2), 2)
