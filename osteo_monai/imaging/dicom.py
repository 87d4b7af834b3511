"""Read a CT series from DICOM files into a checked volume.

The readers of MONAI, ITK and SimpleITK silently accept a missing slice, a tilted gantry or an absent rescale; this one
refuses them.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Severity
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.acquisition import real_day, resolve_age, sex_of, station_code
from osteo_monai.imaging.decoding import PixelDecoder
from osteo_monai.imaging.dicom_agreement import check_patient
from osteo_monai.imaging.dicom_choice import choose, group
from osteo_monai.imaging.dicom_frames import decode_frames, rescale_of
from osteo_monai.imaging.dicom_headers import (
    Frame,
    Instance,
    burned_in,
    looks_like_dicom,
    read_instance,
)
from osteo_monai.imaging.dicom_series import Grid, Series
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.orientation import axis_map, canonical_affine
from osteo_monai.imaging.plausibility import (
    PADDING_HU,
    UNDECLARED_PADDING_BELOW_HU,
    blank_slices,
    check_values,
)
from osteo_monai.imaging.resampling import upright_volume
from osteo_monai.imaging.slice_content import SliceContent
from osteo_monai.imaging.volume import Acquisition, CTVolume, SourceFrame
from osteo_monai.utils.text import share_words

PADDING_BELOW_HU = -500.0
"""A declared padding value above this lies in the range of tissue and is not used."""


def read_dicom(files: Sequence[Path], source: str, keep_doubts: bool = False) -> CTVolume:
    """Read the best CT series among ``files``.

    Args:
        files: DICOM files of one study, in any order; other files are ignored.
        source: name of the input, kept in the volume.
        keep_doubts: see :func:`osteo_monai.imaging.read_ct`.

    Returns:
        A volume in HU, RAS+.

    Raises:
        UnusableInputError: no file can be read as DICOM, or the pixel data are damaged.
        ScanRefusedError: images were read, but none of the series can be measured.
    """
    with PixelDecoder() as decoder:
        return _read(files, source, keep_doubts, decoder)


def _read(files: Sequence[Path], source: str, keep_doubts: bool, decoder: PixelDecoder) -> CTVolume:
    instances, damaged = _read_headers(files, decoder)
    series = group(_ct_images(instances))
    chosen, notes = choose(series)
    notes += _ignored(instances, chosen)
    if damaged:
        notes.append(warning("damaged_files", f"{damaged} files could not be read and were ignored."))
    grid = chosen.grid
    if chosen.refusals or grid is None or (chosen.doubts and not keep_doubts):
        raise ScanRefusedError(*chosen.refusals, *chosen.doubts, *notes)
    acquisition, more = _acquisition(chosen)
    notes += [*chosen.doubts, *chosen.notes, *more, *burned_in(f.instance for f in chosen.frames)]
    hu, valid, more = _assemble(grid, decoder)
    volume = CTVolume(
        hu=hu,
        affine=canonical_affine(grid.affine, _shape(grid)),
        original_affine=grid.affine,
        original_shape=_shape(grid),
        valid=valid,
        acquisition=acquisition,
        findings=(*notes, *more),
        source=source,
        instance_numbers=_instance_numbers(grid),
        frames=tuple(_source_frame(frame) for frame in grid.frames),
    )
    return upright_volume(volume)


def read_dicom_acquisition(files: Sequence[Path]) -> Acquisition:
    """Return the acquisition facts of the series that :func:`read_dicom` would read, from the headers.

    Slices are read only where several series could be chosen.

    Raises:
        UnusableInputError: no file can be read as DICOM.
        ScanRefusedError: there is no CT among them, or the headers show that it cannot be measured.
    """
    chosen, _ = choose(group(_ct_images(_read_headers(files)[0])))
    if chosen.refusals or chosen.doubts:
        raise ScanRefusedError(*chosen.refusals, *chosen.doubts)
    return _acquisition(chosen)[0]


def _read_headers(files: Sequence[Path], decoder: PixelDecoder | None = None) -> tuple[list[Instance], int]:
    """Read all headers; return them and the number of files that are damaged."""
    instances: list[Instance] = []
    reasons: Counter[str] = Counter()
    with pydicom.config.disable_value_validation():
        for path in files:
            if not looks_like_dicom(path):
                if path.suffix.lower() in {".dcm", ".dicom", ".ima"}:
                    reasons["The file has no DICOM preamble: it is not DICOM, or damaged."] += 1
                continue
            try:
                instances.append(read_instance(path))
                if decoder is not None:
                    decoder.prepare(instances[-1].transfer_syntax)
            except UnusableInputError as error:
                reasons[str(error)] += 1
    if not instances:
        if reasons:
            reason, count = reasons.most_common(1)[0]
            raise UnusableInputError(reason if count == 1 else f"{reason} ({count} files)")
        raise UnusableInputError("No DICOM file was found.")
    return instances, sum(reasons.values())


def _ct_images(instances: Sequence[Instance]) -> list[Instance]:
    """Return the CT images of a single study, or refuse."""
    images = [i for i in instances if i.is_ct]
    if not images:
        kinds = Counter(i.kind for i in instances)
        listed = "; ".join(f"{count} x {kind}" for kind, count in kinds.most_common(4))
        raise ScanRefusedError(refusal("not_ct", f"No CT image series was found, only: {listed}."))
    studies = {i.study for i in images}
    if len(studies) > 1:
        message = f"The images must belong to one study, got {len(studies)} studies."
        raise ScanRefusedError(refusal("several_studies", message))
    if patients := check_patient(images):
        raise ScanRefusedError(*patients)
    return images


def _ignored(instances: Sequence[Instance], chosen: Series) -> list[Finding]:
    """Return findings on the objects that are no CT images, a warning if they belong to the chosen series."""
    kinds = Counter(i.kind for i in instances if not i.is_ct)
    if not kinds:
        return []
    lost = sum(not i.is_ct and i.series != "" and i.series == chosen.instance.series for i in instances)
    if lost:
        message = f"{lost} files of the chosen series are not marked as CT images and were ignored."
        return [warning("slices_ignored", message)]
    listed = "; ".join(f"{count} x {kind}" for kind, count in kinds.most_common(4))
    more = f" and {len(kinds) - 4} more kinds" if len(kinds) > 4 else ""
    return [info("other_objects", f"These objects beside the CT images were ignored: {listed}{more}.")]


def _shape(grid: Grid) -> tuple[int, int, int]:
    header = grid.frames[0].instance.header
    return int(header.Columns), int(header.Rows), len(grid.frames)


def _assemble(grid: Grid, decoder: PixelDecoder) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, list[Finding]]:
    """Decode the slices into canonical order; return HU, valid voxels and findings."""
    columns, rows, count = _shape(grid)
    mapping = axis_map(grid.affine)
    flip_column, flip_row, flip_slice = (direction < 0 for direction in mapping[:, 1])
    cut = (slice(None, None, -1 if flip_row else 1), slice(None, None, -1 if flip_column else 1))
    stack = np.empty((count, rows, columns), dtype=np.float32)
    padding, content = _Padding(stack.shape), SliceContent(stack.shape)
    scales = [(1.0, 0.0)] * count
    lows, highs = np.empty(count, np.float32), np.empty(count, np.float32)
    for position, stored in decode_frames(grid.frames, decoder):
        frame = grid.frames[position]
        k = count - 1 - position if flip_slice else position
        if stored.ndim != 2:
            raise UnusableInputError(f"A slice must have one value per pixel, got an array of shape {stored.shape}.")
        slope, intercept = rescale_of(frame)
        plane = stack[k]
        plane[...] = stored[cut]
        if slope != 1:
            plane *= np.float32(slope)
        if intercept != 0:
            plane += np.float32(intercept)
        padding.mask(k, plane, stored[cut], frame)
        lows[k], highs[k] = plane.min(), plane.max()
        scales[k] = slope, intercept
        content.add(k, plane)
    order = np.empty(3, dtype=int)  # canonical axis -> axis of (column, row, slice)
    order[mapping[:, 0].astype(int)] = np.arange(3)
    hu = stack.transpose(2, 1, 0).transpose(order)
    valid = None if padding.voxels is None else ~padding.voxels.transpose(2, 1, 0).transpose(order)
    refusals, others = check_values(hu, valid, declared_ct=True)
    blank_refusals, blank_notes = blank_slices(lows, highs)
    rescale = content.rescale_findings(scales)
    for found in (refusals, blank_refusals, _refusals(rescale), content.findings(stack.__getitem__, grid.axial)):
        if found:
            raise ScanRefusedError(*found)
    return hu, valid, [*padding.notes(), *others, *blank_notes, *rescale]


def _refusals(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.severity is Severity.REFUSAL]


class _Padding:
    """Padding of a stack of slices, declared in the header or far below the HU of air.

    Attributes:
        voxels: bool (slices, rows, columns), True where padded; ``None`` while there is no padding.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.voxels: NDArray[np.bool_] | None = None
        self._shape = shape
        self._undeclared = self._tissue_like = False

    def mask(self, k: int, plane: NDArray[np.float32], stored: NDArray[np.integer], frame: Frame) -> None:
        """Set padding of slice ``k`` to air in place; ``plane`` in HU and ``stored`` values are (rows, columns)."""
        mask = self._declared(stored, frame)
        if float(plane.min()) < UNDECLARED_PADDING_BELOW_HU:
            below = plane < UNDECLARED_PADDING_BELOW_HU
            self._undeclared |= bool((below if mask is None else below & ~mask).any())
            mask = below if mask is None else mask | below
        if mask is None or not mask.any():
            return
        if self.voxels is None:
            self.voxels = np.zeros(self._shape, dtype=bool)
        self.voxels[k] = mask
        plane[mask] = PADDING_HU

    def _declared(self, stored: NDArray[np.integer], frame: Frame) -> NDArray[np.bool_] | None:
        bounds = _padding_bounds(frame)
        if bounds is None:
            return None
        slope, intercept = rescale_of(frame)
        if bounds[1] * slope + intercept > PADDING_BELOW_HU:
            self._tissue_like = True
            return None
        return np.asarray((stored >= bounds[0]) & (stored <= bounds[1]))

    def notes(self) -> list[Finding]:
        """Return findings on the padding."""
        notes = []
        if self.voxels is not None:
            share = f"{share_words(float(self.voxels.mean()), 1)} of the voxels are scanner padding and are ignored"
            if self._undeclared:
                notes.append(info("undeclared_padding", f"{share}; some of it is not declared in the header."))
            else:
                notes.append(info("padding", f"{share}."))
        if self._tissue_like:
            message = "The padding value in the header is in the HU range of tissue and was not used."
            notes.append(warning("padding_in_tissue_range", message))
        return notes


def _padding_bounds(frame: Frame) -> tuple[int, int] | None:
    """Return the lowest and highest stored padding value after the sign conversion; ``None`` if undeclared.

    The value representation is often wrong: 63536 in signed 16-bit data means -2000.
    """
    value = frame.number("PixelPaddingValue")
    if value is None:
        return None
    limit = frame.number("PixelPaddingRangeLimit")
    bits = int(frame.number("BitsAllocated") or 16)
    signed = frame.number("PixelRepresentation") == 1
    low, high = sorted(_as_stored(int(v), bits, signed) for v in (value, value if limit is None else limit))
    return low, high


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _instance_numbers(grid: Grid) -> tuple[int, ...] | None:
    """Return the InstanceNumber of every canonical axial slice; ``None`` if absent or if the slices are not axial."""
    if not grid.axial:
        return None
    multiframe = any(f.instance.frames > 1 for f in grid.frames)
    numbers = [f.index + 1 if multiframe else f.number("InstanceNumber") for f in grid.frames]
    if any(n is None for n in numbers):
        return None
    whole = tuple(int(n) for n in numbers if n is not None)
    return whole[::-1] if axis_map(grid.affine)[2, 1] < 0 else whole


def _source_frame(frame: Frame) -> SourceFrame:
    instance = frame.instance
    return SourceFrame(instance.path, instance.sop_instance, frame.index + 1 if instance.frames > 1 else 0)


def _only(values: Counter[str]) -> str | None:
    return next(iter(values)) or None if len(values) == 1 else None


def _acquisition(series: Series) -> tuple[Acquisition, list[Finding]]:
    """Return the acquisition facts of a series and the findings about them."""
    agreed = series.agreed
    study_date = agreed("StudyDate") or agreed("SeriesDate") or agreed("AcquisitionDate")
    kvp = series.agreed_number("KVP")
    age, notes = resolve_age(agreed("PatientAge"), agreed("PatientBirthDate"), study_date)
    acquisition = Acquisition(
        kvp=kvp if kvp and kvp > 0 else None,
        kernel=series.kernel,
        slice_thickness_mm=series.thickness_mm,
        manufacturer=agreed("Manufacturer") or None,
        model=agreed("ManufacturerModelName") or None,
        station=station_code(agreed("StationName")),
        contrast=series.contrast,
        series_description=agreed("SeriesDescription") or None,
        study_instance_uid=series.instance.study or None,
        series_instance_uid=series.instance.series or None,
        frame_of_reference_uid=_only(series.stated("FrameOfReferenceUID")),
        age_years=age,
        sex=sex_of(agreed("PatientSex")),
        acquired=real_day(study_date),
    )
    return acquisition, notes
