"""Radiographs are read right way up with bone bright, or refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from osteo_monai.domain import Sex, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.radiograph import Layout, find_radiographs, read_radiograph
from osteo_monai.imaging.radiograph.content import check_values, find_box
from osteo_monai.imaging.radiograph.dicom import window

DX, CR, DX_RAW, SC = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1", "7"
NAME = "Verysecret^Nameofperson"


def chest(rows: int = 540, columns: int = 600) -> NDArray[np.float32]:
    """A chest of a few ellipses, 0..1, heart at the viewer's right."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    y, x = y / rows, x / columns

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
        return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)

    picture = 0.62 + 0.1 * y
    lungs = (ellipse(0.30, 0.45, 0.17, 0.36) | ellipse(0.70, 0.45, 0.17, 0.36)) & (y < 0.74)
    picture[lungs] = 0.2
    picture[np.abs(x - 0.5) < 0.07] = 0.85
    picture[ellipse(0.58, 0.6, 0.16, 0.16)] = 0.8
    picture[(y > 0.74) & (np.abs(x - 0.5) < 0.42)] = 0.88
    picture += 0.05 * np.sin(60 * y) * lungs  # ribs
    picture[:, :12] *= 0.3
    noise = np.random.default_rng(0).normal(0, 0.01, picture.shape)
    return np.asarray(np.clip(ndimage.gaussian_filter(picture, 4) + noise, 0, 1), np.float32)


def dataset(stored: NDArray[Any], **changes: Any) -> Dataset:
    """A PA chest by header; ``changes`` replace elements, ``None`` removes one."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = DX, "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.4", "DX"
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = NAME, "ID-987", "F", "061Y"
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CHEST", "PA", ["L", "F"]
    ds.ImagerPixelSpacing = [0.2, 0.3]
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    for key, value in changes.items():
        if value is None:
            delattr(ds, key)
        else:
            setattr(ds, key, value)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def write(stored: NDArray[Any], name: str = "image.dcm", **changes: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pydicom.config.disable_value_validation():
            dataset(stored, **changes).save_as(path, enforce_file_format=True)
        return path

    return write


def stored_chest() -> NDArray[np.uint16]:
    return np.asarray(chest() * 4095, np.uint16)


def codes(error: pytest.ExceptionInfo[ScanRefusedError]) -> list[str]:
    return [f.code for f in error.value.findings if f.severity == "refusal"]


def found(radiograph: Any) -> set[str]:
    return {f.code for f in radiograph.findings}


def save_png(path: Path, picture: NDArray[np.float32]) -> Path:
    Image.fromarray(np.asarray(picture * 65535, np.uint16)).save(path)
    return path


# --- values -----------------------------------------------------------------------------------------------------------


def test_windows_by_hand() -> None:
    x = np.array([0, 50, 100, 150, 200])
    # PS3.3 C.11.2.1.2: centre 100, width 101 -> (x - 99.5) / 100 + 0.5
    np.testing.assert_allclose(window(x, 100, 101), [0, 0.005, 0.505, 1, 1], atol=1e-6)
    np.testing.assert_allclose(window(x, 100, 100, "LINEAR_EXACT"), [0, 0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(window(x, 100, 200, "SIGMOID")[1:4], [1 / (1 + np.e), 0.5, np.e / (1 + np.e)], atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i2"])
def test_grey_scale_and_depth(write: Writer, photometric: str, kind: str) -> None:
    top = {"u1": 255, "u2": 4095, "i2": 4095}[kind]
    truth = chest()
    shown = truth if photometric == "MONOCHROME2" else 1 - truth
    stored = np.rint(shown * top - (2000 if kind == "i2" else 0)).astype(kind)
    centre = 0.5 * top + 0.5 - (2000 if kind == "i2" else 0)
    path = write(stored, PhotometricInterpretation=photometric, WindowCenter=centre, WindowWidth=top + 1)
    radiograph = read_radiograph(path, "chest_frontal")
    assert np.abs(radiograph.pixels - truth).max() < 0.004
    assert not found(radiograph) & {"inverted", "turned", "mirrored"}


def test_modality_lut_then_voi_lut(write: Writer) -> None:
    def table(values: NDArray[np.uint16]) -> pydicom.Sequence:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(values), 0, 16])
        item.add_new("LUTData", "OW", values.tobytes())
        return pydicom.Sequence([item])

    stored = np.rint(chest() * 255).astype(np.uint16)
    first = np.arange(0, 256, dtype=np.uint16) * 2  # twice
    second = np.rint(np.linspace(0, 1, 511) ** 2 * 65535).astype(np.uint16)  # squared
    path = write(stored, BitsStored=8, HighBit=7, ModalityLUTSequence=table(first), VOILUTSequence=table(second))
    radiograph = read_radiograph(path, check=False)
    np.testing.assert_allclose(radiograph.pixels, (stored / 255.0) ** 2, atol=2e-3)


def test_rescale_moves_values_into_the_window(write: Writer) -> None:
    stored = np.rint(chest() * 1000).astype(np.uint16)
    path = write(stored, RescaleSlope=2, RescaleIntercept=-500, WindowCenter=500.5, WindowWidth=2001)
    np.testing.assert_allclose(read_radiograph(path, check=False).pixels, stored / 1000, atol=2e-3)


def test_padding_is_black_and_out_of_the_window(write: Writer) -> None:
    stored = stored_chest()
    stored[:, -100:] = 65535
    radiograph = read_radiograph(write(stored, PixelPaddingValue=65535), check=False)
    assert radiograph.pixels[:, -100:].max() == 0
    assert np.median(radiograph.pixels[:, :-100]) > 0.4
    assert "padding" in found(radiograph)


def test_a_window_that_blots_the_picture_out_is_not_believed(write: Writer) -> None:
    radiograph = read_radiograph(write(stored_chest(), WindowCenter=40, WindowWidth=80), "chest_frontal")
    assert "window_ignored" in found(radiograph)
    assert np.ptp(np.percentile(radiograph.pixels, (5, 95))) > 0.2


# --- header -----------------------------------------------------------------------------------------------------------


def test_facts_without_the_patient(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    radiograph = read_radiograph(write(stored_chest(), DeviationIndex="-4.0", KVP="125", Manufacturer="Maker"))
    facts = radiograph.facts
    assert (radiograph.view, facts.age_years, facts.sex, facts.kvp) == (View.CHEST_FRONTAL, 61, Sex.FEMALE, 125)
    assert radiograph.spacing_mm == (0.2, 0.3)
    assert facts.spacing_at_patient is False
    message = next(f.message for f in radiograph.findings if f.code == "underexposed")
    assert "2.5 times less" in message  # 10 ** 0.4
    captured = capsys.readouterr()
    for word in ("Verysecret", "987"):
        assert word not in repr(radiograph) + captured.out + captured.err


@pytest.mark.parametrize(
    ("size", "weight", "expected"),
    [
        ("1.72", "70.5", (172.0, 70.5)),
        (None, None, (None, None)),
        ("", "", (None, None)),
        ("0", "0", (None, None)),
        ("172", "70500", (None, None)),  # cm, g
        ("3", "0.07", (None, None)),
        ("1.555", "400", (155.5, 400.0)),
        ("-1.7", "nan", (None, None)),
    ],
)
def test_height_and_weight(
    write: Writer, size: str | None, weight: str | None, expected: tuple[float | None, float | None]
) -> None:
    given = {"PatientSize": size, "PatientWeight": weight}
    path = write(stored_chest(), **{k: v for k, v in given.items() if v is not None})
    facts = read_radiograph(path, check=False).facts
    assert (facts.height_cm, facts.weight_kg) == expected


def test_a_height_with_a_comma_is_absent_and_no_damage(write: Writer) -> None:
    path = write(stored_chest(), PatientSize="1.7254")
    path.write_bytes(path.read_bytes().replace(b"1.7254", b"1,7254"))
    assert read_radiograph(path, check=False).facts.height_cm is None


@pytest.mark.parametrize(
    ("orientation", "change"),
    [
        (["L", "F"], lambda p: p),
        (["R", "F"], lambda p: p[:, ::-1]),
        (["R", "H"], lambda p: p[::-1, ::-1]),
        (["F", "R"], lambda p: np.rot90(p)),
        (["H", "L"], lambda p: np.rot90(p, 3)),
        (["F", "L"], lambda p: p.T),
        (["H", "R"], lambda p: p.T[::-1, ::-1]),
        (["L", "H"], lambda p: p[::-1]),
    ],
)
def test_patient_orientation(write: Writer, orientation: list[str], change: Callable[[Any], Any]) -> None:
    """``change`` lays the chest so that ``orientation`` describes it."""
    stored = np.ascontiguousarray(change(stored_chest()))
    radiograph = read_radiograph(
        write(stored, PatientOrientation=orientation, WindowCenter=2048, WindowWidth=4096), check=False
    )
    assert radiograph.pixels.shape == (540, 600)
    np.testing.assert_allclose(radiograph.pixels, chest(), atol=1e-3)
    assert radiograph.spacing_mm == ((0.3, 0.2) if stored.shape == (600, 540) else (0.2, 0.3))


@pytest.mark.parametrize(
    ("changes", "view", "code"),
    [
        ({"SOPClassUID": DX_RAW}, None, "for_processing"),
        ({"PresentationIntentType": "FOR PROCESSING"}, None, "for_processing"),
        ({"NumberOfFrames": 2}, None, "several_frames"),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, None, "not_a_radiograph"),
        ({"Modality": "MG"}, None, "not_a_radiograph"),
        ({"BodyPartExamined": "HAND"}, "chest_frontal", "other_body_part"),
        ({"ViewPosition": "LL"}, "chest_frontal", "other_view"),
        ({"BodyPartExamined": "LSPINE", "ViewPosition": "AP"}, "chest_frontal", "other_view"),
        ({"HighBit": 12}, None, "unusual_bits"),
        ({"Rows": 60000, "Columns": 60000}, None, "bad_size"),
    ],
)
def test_refused_by_header(write: Writer, changes: dict[str, Any], view: str | None, code: str) -> None:
    with pytest.raises(ScanRefusedError) as error:
        read_radiograph(write(stored_chest(), **changes), view)
    assert codes(error) == [code]


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({"BodyPartExamined": "LSPINE", "ViewPosition": "LL"}, View.LUMBAR_LATERAL),
        ({"BodyPartExamined": "", "ViewPosition": "", "SeriesDescription": "LWS a.p."}, View.LUMBAR_AP),
        ({"BodyPartExamined": "", "ViewPosition": "", "StudyDescription": "Thorax seitlich"}, View.CHEST_LATERAL),
        ({"ViewPosition": "", "SeriesDescription": "AP portable"}, View.CHEST_FRONTAL),
    ],
)
def test_view_by_header(write: Writer, changes: dict[str, Any], view: View) -> None:
    assert read_radiograph(write(stored_chest(), **changes), check=False).view == view


def test_the_frontal_view_of_a_study_is_taken(write: Writer) -> None:
    lateral = np.full((600, 500), 7, np.uint16)
    write(lateral, "study/a.dcm", ViewPosition="LL", SOPInstanceUID="1.2.3.9")
    path = write(stored_chest(), "study/b.dcm")
    radiograph = read_radiograph(path.parent)
    assert radiograph.view is View.CHEST_FRONTAL
    assert "not read: chest lateral" in next(f.message for f in radiograph.findings if f.code == "view_chosen")
    write(stored_chest(), "study/c.dcm", StudyInstanceUID="9.9", SOPInstanceUID="1.2.3.10")
    with pytest.raises(ScanRefusedError, match="belong to one study"):
        read_radiograph(path.parent)


def test_secondary_capture_is_read_with_a_warning(write: Writer) -> None:
    rgb = np.repeat(np.asarray(chest() * 255, np.uint8)[..., None], 3, axis=2)
    changes = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Modality": "OT"}
    path = write(rgb, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", **changes)
    assert "secondary_capture" in found(read_radiograph(path, "chest_frontal"))
    rgb[..., 0] = 0
    with pytest.raises(ScanRefusedError, match="coloured"):
        read_radiograph(write(rgb, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", **changes))


def test_damaged_files_in_one_sentence(write: Writer, tmp_path: Path) -> None:
    path = write(stored_chest())
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UnusableInputError, match=r"^'image.dcm': The pixel data are damaged .*\.$"):
        read_radiograph(path)
    broken = save_png(tmp_path / "a.png", chest())
    broken.write_bytes(broken.read_bytes()[:3000])
    with pytest.raises(UnusableInputError, match=r"^The picture is damaged .*\.$"):
        read_radiograph(broken)
    (tmp_path / "text.txt").write_text("no image")
    with pytest.raises(UnusableInputError, match="neither DICOM nor PNG nor JPEG"):
        read_radiograph(tmp_path / "text.txt")
    with pytest.raises(UnusableInputError, match="no file or folder"):
        read_radiograph(tmp_path / "absent")


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_pictures_of_all_kinds(tmp_path: Path, mode: str) -> None:
    truth = chest()
    if mode == "I;16":
        path = save_png(tmp_path / "a.png", truth)
    else:
        path = tmp_path / "a.png"
        Image.fromarray(np.asarray(truth * 255, np.uint8)).convert(mode).save(path)
    radiograph = read_radiograph(path, "chest_frontal")
    assert np.abs(radiograph.pixels - truth).max() < 0.005
    assert radiograph.facts.source_format == "PNG"


def test_jpeg_is_turned_by_its_exif_entry(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    lying = np.ascontiguousarray(np.rot90(np.asarray(chest() * 255, np.uint8)))
    Image.fromarray(lying).save(tmp_path / "a.jpg", exif=exif, quality=95)
    radiograph = read_radiograph(tmp_path / "a.jpg", "chest_frontal")
    assert "turned" not in found(radiograph)
    assert np.abs(radiograph.pixels - chest()).mean() < 0.02


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(chest() * 4095, np.uint16)).save(tmp_path / "a.png")
    radiograph = read_radiograph(tmp_path / "a.png", check=False)
    assert radiograph.facts.bits == 12
    assert radiograph.pixels.max() > 0.85


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (np.tile(np.linspace(0, 1, 600, dtype=np.float32), (600, 1)), "not_a_chest"),
        (np.full((600, 600), 0.5, np.float32), "constant_image"),
        (chest()[:200, :200], "too_small"),
        (0.08 * chest() + 0.4, "no_contrast"),
        (np.clip(chest() * 4 - 1.2, 0, 1), "grey_values_cut"),
        (np.round(chest() * 4) / 4, "few_grey_levels"),
    ],
)
def test_pictures_refused_by_content(tmp_path: Path, picture: NDArray[np.float32], code: str) -> None:
    with pytest.raises(ScanRefusedError) as error:
        read_radiograph(save_png(tmp_path / "a.png", picture), "chest_frontal")
    assert codes(error) == [code]
    assert str(error.value).count(".") >= 1


def test_unknown_view_is_told_and_a_declared_chest_without_lungs_is_refused(tmp_path: Path, write: Writer) -> None:
    ramp = np.tile(np.linspace(0, 1, 600, dtype=np.float32), (600, 1))
    radiograph = read_radiograph(save_png(tmp_path / "a.png", ramp))
    assert radiograph.view is View.UNKNOWN
    assert "view_unknown" in found(radiograph)
    file = write(np.asarray(ramp * 4095, np.uint16))
    for view in ("chest_frontal", None):  # the header is no evidence
        with pytest.raises(ScanRefusedError) as error:
            read_radiograph(file, view)
        assert codes(error) == ["not_a_chest"]


# --- how it lies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_a_chest_is_brought_upright(tmp_path: Path, turns: int, inverted: bool) -> None:
    truth = chest()
    picture = np.rot90(1 - truth if inverted else truth, turns)
    radiograph = read_radiograph(save_png(tmp_path / "a.png", picture), "chest_frontal")
    assert ("turned" in found(radiograph)) == (turns > 0)
    assert ("inverted" in found(radiograph)) == inverted
    assert np.abs(radiograph.pixels - truth).max() < 0.01


def test_a_mirrored_chest_is_mirrored_back_and_told(tmp_path: Path) -> None:
    radiograph = read_radiograph(save_png(tmp_path / "a.png", chest()[:, ::-1]), "chest_frontal")
    assert "situs inversus" in next(f.message for f in radiograph.findings if f.code == "mirrored")
    assert np.abs(radiograph.pixels - chest()).max() < 0.01


def test_borders_are_cut_and_masks_follow(tmp_path: Path) -> None:
    framed = np.pad(chest(), ((50, 70), (90, 40)))
    assert find_box(framed) == (50, 590, 90, 690)
    radiograph = read_radiograph(save_png(tmp_path / "a.png", np.rot90(framed)), "chest_frontal")
    assert {"borders_removed", "turned"} <= found(radiograph)
    mask = radiograph.layout.apply(np.asarray(np.rot90(framed) * 65535, np.uint16) > 50000)
    np.testing.assert_array_equal(mask, radiograph.pixels > 50000.5 / 65535)
    with pytest.raises(ValueError, match=r"stored grid \(730, 660\)"):
        radiograph.layout.apply(np.zeros((660, 730)))


def test_layouts_compose() -> None:
    array = np.arange(12).reshape(3, 4)
    start = Layout((3, 4), (0, 3, 0, 4))
    for first in [(t, m) for t in range(4) for m in (False, True)]:
        for second in [(t, m) for t in range(4) for m in (False, True)]:
            once = start.then(*first).apply(array)
            twice = Layout(once.shape, (0, once.shape[0], 0, once.shape[1]), *second).apply(once)
            np.testing.assert_array_equal(start.then(*first).then(*second).apply(array), twice)


def test_exposure_limits_by_hand() -> None:
    ramp = np.tile(np.linspace(0.1, 0.9, 500, dtype=np.float32), (500, 1))
    for share, expected in [(0.10, []), (0.25, ["grey_values_cut"]), (0.45, ["grey_values_cut"])]:
        picture = ramp.copy()
        picture[: round(500 * share)] = 1.0
        findings = check_values(picture)
        assert [f.code for f in findings] == expected
        if expected:
            assert findings[0].severity == ("warning" if share < 0.35 else "refusal")


# --- many -------------------------------------------------------------------------------------------------------------


def test_find_radiographs(write: Writer, tmp_path: Path) -> None:
    small = np.zeros((8, 8), np.uint16)
    one = write(small, "tree/one/a.dcm").parent
    write(small, "tree/one/b.dcm", SOPInstanceUID="1.2.3.8")
    mixed = [write(small, f"tree/mixed/{n}.dcm", StudyInstanceUID=f"1.{n}") for n in "12"]
    picture = save_png(tmp_path / "tree/p.png", np.zeros((8, 8), np.float32))
    (tmp_path / "tree/notes.txt").write_text("no image")
    assert find_radiographs(tmp_path / "tree") == sorted([one, *mixed, picture])
    assert find_radiographs(picture) == [picture]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableInputError, match="Nothing in the folder"):
        find_radiographs(tmp_path / "empty")


def test_real_radiographs(real_data: Path) -> None:
    """Every tenth of 51 real ones is recognised as it comes; the white lungs of one patient may hide the chest."""
    files = sorted((real_data / "cxr_frontal" / "images").iterdir())[::10]
    recognised = 0
    for path in files:
        try:
            radiograph = read_radiograph(path, "chest_frontal")
        except ScanRefusedError:
            continue
        recognised += 1
        assert not found(radiograph) & {"turned", "inverted", "mirrored"}, path.name
    assert recognised >= len(files) - 1
