"""Segmentations overlay the source images in every orientation that is accepted."""

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from osteo_monai.dicom_results import DicomOptions, FurtherFiles, Outputs, write_dicom_results
from osteo_monai.domain import VertebraLevel

from .conftest import CREATED, GRIDS, L1, L2, Grid, MakeCase, inside

SEGMENTS = ["L1 body", "L1 region", "L2 body", "L2 region"]


def in_patient(frame: Dataset, shared: Dataset, shape: tuple[int, int]) -> tuple[NDArray[np.float64], ...]:
    """Return x, y and z (RAS+ mm) of each pixel (rows, columns) of a frame, by its functional groups."""
    position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    r, c = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    lps = [position[a] + directions[a] * column_mm * c + directions[a + 3] * row_mm * r for a in range(3)]
    return -lps[0], -lps[1], lps[2]


def agreement(path: Path) -> dict[str, float]:
    """Return Dice of each segment of an object with the true shape in patient coordinates, slices left out included."""
    ds = pydicom.dcmread(path)
    binary = ds.SegmentationType == "BINARY"
    pixels = np.atleast_3d(ds.pixel_array.reshape(-1, ds.Rows, ds.Columns))
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in ds.SegmentSequence if s.SegmentNumber}
    both, of_file, of_truth = (dict.fromkeys(labels.values(), 0) for _ in range(3))
    for frame, plane in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        places = in_patient(frame, ds.SharedFunctionalGroupsSequence[0], plane.shape)
        numbers = [int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] if binary else list(labels)
        for number in numbers:
            label = labels[number]
            level, part = label.split()
            truth = inside(VertebraLevel(level), part, *places)
            mask = plane == (1 if binary else number)
            both[label] += int((mask & truth).sum())
            of_file[label] += int(mask.sum())
            of_truth[label] += int(truth.sum())
    return {label: 2 * both[label] / (of_file[label] + of_truth[label]) for label in labels.values()}


def true_voxels(grid: Grid, label: str) -> int:
    """Return the number of voxels of a segment on the whole grid of the source."""
    level, part = label.split()
    columns, rows, slices = grid.size
    c, r, k = np.meshgrid(np.arange(columns), np.arange(rows), np.arange(slices), indexing="ij")
    x, y, z = (
        grid.affine[a, 0] * c + grid.affine[a, 1] * r + grid.affine[a, 2] * k + grid.affine[a, 3] for a in range(3)
    )
    return int(inside(VertebraLevel(level), part, -x, -y, z).sum())


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("label_map", [False, True], ids=["binary", "label map"])
def test_masks_lie_where_the_bodies_are(make_case: MakeCase, tmp_path: Path, name: str, label_map: bool) -> None:
    case = make_case(GRIDS[name])
    written = write_dicom_results(case.screening, case.files, tmp_path / "out", DicomOptions(label_map=label_map))
    objects = [w.path for w in written if "66." in w.sop_class_uid]
    found = {label: dice for path in objects for label, dice in agreement(path).items()}
    assert sorted(found) == SEGMENTS
    least = 0.9 if name == "oblique" else 1.0  # the nearest voxel of a resampled mask moves its edge
    assert all(dice >= least for dice in found.values()), found
    for path in objects:
        ds = pydicom.dcmread(path)
        source = pydicom.dcmread(case.files[0])
        assert source.FrameOfReferenceUID == ds.FrameOfReferenceUID
        assert (ds.Rows, ds.Columns) == (source.Rows, source.Columns)
        if name != "oblique" and not label_map:
            counts = {int(s.SegmentNumber): 0 for s in ds.SegmentSequence}
            for frame, plane in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
                counts[int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] += int(plane.sum())
            assert list(counts.values()) == [true_voxels(GRIDS[name], s.SegmentLabel) for s in ds.SegmentSequence]


def test_each_frame_names_the_image_at_its_place(make_case: MakeCase, tmp_path: Path) -> None:
    """Viewers match a frame to an image by the reference, or by the position: both must lead to the same image."""
    case = make_case(GRIDS["feet first"])
    written = write_dicom_results(case.screening, case.files, tmp_path / "out")
    places = {d.SOPInstanceUID: d.ImagePositionPatient for d in map(pydicom.dcmread, case.files)}
    ds = pydicom.dcmread(written[0].path)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == places[uid]
    assert len(ds.PerFrameFunctionalGroupsSequence) < 2 * len(case.files)
    listed = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(listed) < len(case.files)  # the slab only


def test_a_multi_frame_source(make_case: MakeCase, tmp_path: Path) -> None:
    def convert(slices: Sequence[Dataset]) -> Dataset:
        shuffled = [slices[(7 * k) % len(slices)] for k in range(len(slices))]
        return LegacyConvertedEnhancedCTImage(shuffled, "1.2.9", 7, "1.2.9.1", 1)

    case = make_case(convert=convert)
    written = write_dicom_results(case.screening, case.files, tmp_path / "out")
    found = agreement(written[0].path)
    assert found == dict.fromkeys(SEGMENTS, 1.0)
    source = pydicom.dcmread(case.files[0])
    places = [g.PlanePositionSequence[0].ImagePositionPatient for g in source.PerFrameFunctionalGroupsSequence]
    for frame in pydicom.dcmread(written[0].path).PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == places[item.ReferencedFrameNumber - 1]


@pytest.mark.parametrize("kind", ["each its own", "none"])
def test_frames_of_reference_that_are_not_one(make_case: MakeCase, tmp_path: Path, kind: str) -> None:
    def change(ds: Dataset, k: int) -> None:
        if kind == "none":
            del ds.FrameOfReferenceUID
        else:
            ds.FrameOfReferenceUID = f"1.2.3.4.{k + 1}"

    case = make_case(change=change)
    written = write_dicom_results(case.screening, case.files, tmp_path / "out")
    assert agreement(written[0].path) == dict.fromkeys(SEGMENTS, 1.0)
    assert pydicom.dcmread(written[0].path).FrameOfReferenceUID.startswith("2.25.")
    assert case.screening.result.source is not None
    assert case.screening.result.source.frame_of_reference_uid is None


def test_a_source_without_slice_thickness(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case(change=lambda ds, k: ds.__delattr__("SliceThickness"))
    written = write_dicom_results(case.screening, case.files, tmp_path / "out")
    measures = pydicom.dcmread(written[0].path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(measures.SliceThickness), float(measures.SpacingBetweenSlices)) == (2.5, 2.5)


def test_highdicom_reads_the_segments(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    written = write_dicom_results(case.screening, case.files, tmp_path / "out")
    seg = hd.seg.segread(written[0].path)
    descriptions = [seg.get_segment_description(n) for n in seg.segment_numbers]
    assert [d.segment_label for d in descriptions] == SEGMENTS
    assert [d.segmented_property_type.value for d in descriptions] == ["66794005"] * 2 + ["14293000"] * 2
    identification = descriptions[0].algorithm_identification
    assert identification is not None
    assert (identification.name, identification.version) == ("vertebral_body_segmentation_ct", "0.2.0")
    assert "ab" * 32 in str(identification.parameters)


@pytest.mark.parametrize("name", ["axial", "axial from the head", "sagittal", "oblique"])
def test_files_for_3d_slicer(make_case: MakeCase, tmp_path: Path, name: str) -> None:
    case = make_case(GRIDS[name])
    FurtherFiles(Outputs(slicer=True), case.files)(case.screening, tmp_path / "out")
    for part in ("body", "region"):
        file = tmp_path / "out" / {"body": "bodies.seg.nrrd", "region": "regions.seg.nrrd"}[part]
        image = SimpleITK.ReadImage(str(file))
        keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        assert [keys["Segment0_Name"], keys["Segment1_Name"]] == [f"L1 {part}", f"L2 {part}"]
        assert "SCT^66794005^L1 vertebra" in keys["Segment0_Tags"]
        labels = SimpleITK.GetArrayFromImage(image)
        k, j, i = np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij")
        axes = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        x, y, z = (axes[a, 0] * i + axes[a, 1] * j + axes[a, 2] * k + image.GetOrigin()[a] for a in range(3))
        for value, level in enumerate((L1, L2), start=1):
            truth = inside(level, part, -x, -y, z)
            dice = 2 * ((labels == value) & truth).sum() / ((labels == value).sum() + truth.sum())
            assert dice >= (0.9 if name == "oblique" else 1.0)
        low_i, high_i, _, _, low_k, high_k = (int(v) for v in keys["Segment0_Extent"].split())
        filled = np.argwhere(labels == 1)
        assert (low_i, high_i) == (filled[:, 2].min(), filled[:, 2].max())
        assert (low_k, high_k) == (filled[:, 0].min(), filled[:, 0].max())


def test_size_limits(make_case: MakeCase, tmp_path: Path) -> None:
    """Viewers choke on large objects: no frame without a voxel is written, and a report is below 200 KB."""
    case = make_case()
    written = write_dicom_results(case.screening, case.files, tmp_path / "out", DicomOptions(created=CREATED))
    sizes = {w.path.name: w.path.stat().st_size for w in written}
    ds = pydicom.dcmread(written[0].path)
    assert ds.pixel_array.any(axis=(1, 2)).all()
    assert sizes["seg.dcm"] < len(ds.PixelData) + 100_000
    assert sizes["sr.dcm"] < 200_000
