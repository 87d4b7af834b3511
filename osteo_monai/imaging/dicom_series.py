"""Which CT series of a study can be measured, and which of those is the best; geometry and headers alone decide."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import contrast_note, kernel_is_sharp, number
from osteo_monai.imaging.dicom_headers import (
    LOSSLESS_SYNTAXES,
    LOSSY_SYNTAXES,
    MAYBE_LOSSY_SYNTAXES,
    Frame,
    Instance,
)
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.orientation import (
    MAX_RESAMPLED_OBLIQUITY_DEG,
    MAX_SHEAR_DEG,
    axis_codes,
    obliquity_deg,
    shear_deg,
)
from osteo_monai.imaging.plausibility import MAX_VOXELS

MIN_SLICES = 3
"""Fewer positions cannot show whether they are evenly spaced."""

GRID_TOLERANCE = 0.05
GRID_TOLERANCE_MM = 0.06
"""Slices are evenly spaced if none is off the regular grid by more than 5 % of a step; 0.06 mm are always allowed,
because positions are often written with one decimal."""

DUPLICATE_MM = 0.01
"""Slices closer than this share a position."""

MAX_SLICE_MM = 5.0
"""Thicker slices mix end plates and discs into the trabecular region."""

PIXEL_MM = (0.1, 5.0)
"""Plausible pixel spacing of a clinical CT in mm; outside it the unit or the entry is wrong."""

COVERAGE_SHARE = 0.8
"""A series that covers this much of the longest one counts as covering the same."""

MAX_LOSSY_RATIO = 10.0
"""Highest ratio of lossy compression at which a median HU is given, with a warning. JPEG 2000 and JPEG of 12 bits at
10:1 move the median of trabecular bone by at most 1.5 HU in slices of 512 x 512 (virtual and real) and by 3 HU in
cropped and coarse ones, at 20:1 by 2 and 8 HU (``benchmarks/lossy_compression.py``, 2026-11-28). What the networks make
of such slices was not tried, so that the limit lies below what the values alone would bear. Bytes allocated by bytes
compressed."""

MAX_LOSSY_RATIO_8_BITS = 5.0
"""The same where 8 bits or fewer are stored, whose steps of several HU come on top: at 5:1 up to 4 HU in slices of
512 x 512 and 7 HU in cropped ones, at 10:1 up to 4 and 17 HU (same benchmark)."""

_NOT_PLAIN = frozenset(
    {"MIP", "MINIP", "MNIP", "MAXIP", "MAXIMUM", "MINIMUM", "VRT", "SSD", "CURVED", "CPR", "SUBTRACT", "SUBTRACTION"}
    | {"MONO", "MONOE", "MONOENERGETIC", "MONOCHROMATIC", "VMI", "VNC", "VUE", "GSI"}
    | {"IODINE", "MATERIAL", "ZEFF", "RHO", "PERFUSION"}
)
"""Words in the image type of pictures whose values are not the attenuation at the tube voltage."""

_NOT_PLAIN_TEXT = re.compile(
    r"\bMONO(?=\b|E\b|[ _-]?ENERG|CHROM)\w*|\bVM[IC]\b|\bVNC\b|\bVUE\b|VIRTUAL[ _-]?NON|\d\s?KEV\b|(?<![A-Z])KEV\b"
    r"|IODINE[ _-]MAP|CALCIUM[ _-]SUPP",
    re.IGNORECASE,
)
"""The same where a description or an image type says it in words, whether the series calls itself derived or not."""


@dataclass(frozen=True)
class Grid:
    """Where the slices of a series lie.

    Attributes:
        frames: in the order of the third axis.
        affine: (4, 4) from (column, row, slice) to RAS+ mm.
        spacing_mm: distance of neighbouring slices.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    spacing_mm: float

    @property
    def axial(self) -> bool:
        """Whether the slice axis runs along the body."""
        return axis_codes(self.affine)[2] in "SI"


@dataclass
class Series:
    """The frames that belong together, what is wrong with them, and their grid where they have one.

    ``refusals`` say why the series cannot be read, ``doubts`` (refusals as well) why the values of one that can be read
    are no measurement.
    """

    frames: list[Frame]
    refusals: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    grid: Grid | None = None

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def instance(self) -> Instance:
        return self.first.instance

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """Image type (or frame type) in capitals, empty where the header has none."""
        return _image_type(self.first)

    @property
    def localizer(self) -> bool:
        return any("LOCALIZER" in v or "SCOUT" in v for v in self.image_type)

    @property
    def derived(self) -> bool:
        return self.image_type[:1] == ("DERIVED",)

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The reconstruction kernels of all frames, a sharp one first."""
        found = dict.fromkeys(f.text("ConvolutionKernel") for f in self.frames)
        return tuple(sorted((k for k in found if k), key=lambda k: not kernel_is_sharp(k)))

    @property
    def kernel(self) -> str | None:
        return self.kernels[0] if self.kernels else None

    @property
    def thickness_mm(self) -> float | None:
        value = self.first.number("SliceThickness")
        return value if value and value > 0 else None

    @cached_property
    def contrast(self) -> str | None:
        """What the header of any frame says of contrast agent."""
        said = dict.fromkeys(_contrast_entries(f) for f in self.frames)
        notes = (contrast_note(agent, route, volume, texts) for agent, route, volume, texts in said)
        return next((note for note in notes if note), None)

    @property
    def coverage_mm(self) -> float:
        return self.grid.spacing_mm * (len(self.grid.frames) - 1) if self.grid else 0.0

    def label(self) -> str:
        """The series in words, for a finding."""
        name = self.first.text("SeriesDescription")
        parts = [f"'{name}'" if name else "without description", f"{len(self.frames)} images"]
        if self.grid:
            parts.append(f"{self.grid.spacing_mm:.2g} mm apart")
        if self.kernel:
            parts.append(f"kernel {self.kernel}")
        return ", ".join(parts)


DESCRIPTION_KEYWORDS = ("SeriesDescription", "ProtocolName", "StudyDescription", "BodyPartExamined")


def _image_type(frame: Frame) -> tuple[str, ...]:
    value = frame.get("FrameType") or frame.get("ImageType") or ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(v).upper().strip() for v in values)


def _contrast_entries(frame: Frame) -> tuple[str, str, float | None, tuple[str, ...]]:
    agent = frame.text("ContrastBolusAgent")
    for item in frame.get("ContrastBolusAgentSequence") or ():
        agent = agent or str(item.get("CodeMeaning") or "")
    texts = tuple(frame.text(k) for k in DESCRIPTION_KEYWORDS)
    return agent, frame.text("ContrastBolusRoute"), frame.number("ContrastBolusVolume"), texts


def group(instances: Sequence[Instance]) -> list[Series]:
    """Sort CT instances into series, localizer images apart, and check each one.

    Instances without a SeriesInstanceUID are taken as one series per folder.
    """
    found: defaultdict[tuple[str, bool], list[Frame]] = defaultdict(list)
    for instance in instances:
        key = instance.series or str(instance.path.parent)
        for index in range(min(instance.frames, MAX_VOXELS)):
            frame = Frame(instance, index)
            found[key, Series([frame]).localizer].append(frame)
            if index == 0 and not plausible_size(instance):
                break  # a frame count from a damaged header must not cost memory
    return [part for frames in found.values() for part in _tell_apart(_checked(frames))]


def _checked(frames: list[Frame]) -> Series:
    series = Series(frames)
    _check(series)
    return series


def _tell_apart(series: Series) -> list[Series]:
    """Return the scans that share one SeriesInstanceUID: kernels or phases at the same places, each a whole stack."""
    if not any(f.code == "duplicate_positions" for f in series.refusals):
        return [series]
    for keyword, word in (("ConvolutionKernel", "kernel"), ("AcquisitionNumber", "acquisition number")):
        parts: defaultdict[str, list[Frame]] = defaultdict(list)
        for frame in series.frames:
            parts[frame.text(keyword)].append(frame)
        found = [_checked(frames) for frames in parts.values()] if len(parts) > 1 else []
        if any(part.grid is not None and not part.refusals for part in found):
            message = f"One series held {len(parts)} scans at the same places; they were told apart by {word}."
            for part in found:
                part.notes.append(info("series_told_apart", message))
            return found
    return [series]


def plausible_size(instance: Instance) -> bool:
    """Whether Rows x Columns x frames of one file are present and within the cap."""
    header = instance.header
    rows, columns = (header.get(k) or 0 for k in ("Rows", "Columns"))
    return bool(rows > 0 and columns > 0 and 0 < rows * columns * instance.frames <= MAX_VOXELS)


def choose(series: Sequence[Series]) -> Series:
    """Return the series to measure: the best of the usable ones, or the best of the others to be refused by name."""
    longest = max((s.coverage_mm for s in series if not s.refusals and not s.doubts), default=0.0)
    return min(series, key=lambda s: _rank(s, longest))


def choice_note(chosen: Series, series: Sequence[Series]) -> Finding | None:
    """Tell which of several series was taken and what the others are; ``None`` if there was only one."""
    others = [s for s in series if s is not chosen]
    if not others:
        return None
    said = []
    for other in others[:6]:
        reasons = [f.code.replace("_", " ") for f in (*other.refusals, *other.doubts)][:2]
        if not reasons:
            reasons = ["derived"] if other.derived else ["sharp kernel"] if kernel_is_sharp(other.kernel) else []
        said.append(other.label() + (f" ({', '.join(reasons)})" if reasons else ""))
    more = f" and {len(others) - 6} more" if len(others) > 6 else ""
    message = f"Of {len(series)} CT series this one was read: {chosen.label()}. Not read: {'; '.join(said)}{more}."
    return info("series_chosen", message)


def _rank(series: Series, longest: float) -> tuple[float, ...]:
    """Order of preference, smallest first."""
    thickness = series.thickness_mm or (series.grid.spacing_mm if series.grid else 99.0)
    # 1 to 3 mm is best, thinner costs noise and memory and gains a mean nothing, thicker blurs the end plates
    thickness_class = 0 if 1.0 <= thickness <= 3.0 else 1 if thickness < 1.0 else 2 if thickness <= MAX_SLICE_MM else 3
    sharp = kernel_is_sharp(series.kernel)
    return (
        len(series.refusals) > 0,
        len(series.doubts) > 0,
        series.localizer,
        series.derived,
        not (series.grid is not None and series.grid.axial),
        series.coverage_mm < COVERAGE_SHARE * longest,
        1 if sharp else 0,
        series.contrast is not None,
        thickness_class,
        thickness,
        -series.coverage_mm,
        -len(series.frames),
    )


def _check(series: Series) -> None:
    """Fill in refusals, doubts, notes and grid."""
    _drop_copies(series)
    refusals = series.refusals
    refusals += _check_kind(series)
    refusals += _check_scale(series)
    series.doubts += _check_content(series)
    if any(not plausible_size(f.instance) for f in series.frames):
        refusals.append(refusal("bad_size", f"Rows, columns or frames are absent or above {MAX_VOXELS} voxels."))
        return
    sizes = Counter((int(f.instance.header.Rows), int(f.instance.header.Columns)) for f in series.frames)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {r} x {c}" for (r, c), count in sizes.most_common())
        refusals.append(refusal("mixed_sizes", f"The images of the series differ in size: {listed}."))
        return
    (rows, columns), count = sizes.most_common(1)[0]
    if rows * columns * count > MAX_VOXELS:
        refusals.append(refusal("too_large", f"{count} images of {rows} x {columns} exceed {MAX_VOXELS} voxels."))
        return
    if not series.localizer:
        _judge_compression(series)
        refusals += _check_geometry(series)
        _note(series)


def _drop_copies(series: Series) -> None:
    """Keep one of several byte-identical files of the same instance."""
    seen: dict[str, Instance] = {}
    copies: set[int] = set()
    for frame in series.frames:
        instance = frame.instance
        known = seen.setdefault(instance.sop_instance, instance) if instance.sop_instance else instance
        if known is not instance and id(instance) not in copies:
            same_size = known.path.stat().st_size == instance.path.stat().st_size
            if same_size and known.path.read_bytes() == instance.path.read_bytes():
                copies.add(id(instance))
    if copies:
        series.frames = [f for f in series.frames if id(f.instance) not in copies]
        series.notes.append(
            info("duplicate_files", f"{len(copies)} files are exact copies of others and were left out.")
        )


def _check_kind(series: Series) -> list[Finding]:
    """Refuse pictures that are no plain grey-scale slices, and encodings that are not known."""
    found = []
    if series.localizer:
        found.append(refusal("localizer", "The images are localizers (scouts), not a CT volume."))
    photometric = {f.instance.header.get("PhotometricInterpretation") or "" for f in series.frames}
    if "MONOCHROME1" in photometric:
        found.append(refusal("monochrome1", "The images are stored inverted (MONOCHROME1), which no CT in HU is."))
    elif photometric != {"MONOCHROME2"} or any(
        (f.instance.header.get("SamplesPerPixel") or 1) != 1 for f in series.frames
    ):
        found.append(refusal("not_greyscale", "The images are not plain grey-scale images (MONOCHROME2)."))
    if {f.instance.transfer_syntax for f in series.frames} - LOSSLESS_SYNTAXES - MAYBE_LOSSY_SYNTAXES - LOSSY_SYNTAXES:
        found.append(refusal("transfer_syntax", "The images are in a transfer syntax that is not accepted."))
    return found


def _check_content(series: Series) -> list[Finding]:
    """Return the refusals of images whose values are not the attenuation at one tube voltage."""
    found = []
    types = {v for f in series.frames for v in _image_type(f)}
    texts = {f.text("SeriesDescription").upper() for f in series.frames}
    words = {w for v in (types | texts if series.derived else types) for w in re.findall(r"[A-Z]+", v)} & _NOT_PLAIN
    words |= {m.group().strip() for v in types | texts for m in _NOT_PLAIN_TEXT.finditer(v.replace("_", " "))}
    if words:
        message = (
            f"The images are processed ({', '.join(sorted(words))}): their values are not the attenuation measured."
        )
        found.append(refusal("not_plain_ct", message))
    if len({f.number("KVP") for f in series.frames} - {None}) > 1:
        found.append(refusal("mixed_acquisition", "The images of the series were made at different tube voltages."))
    return found


def _judge_compression(series: Series) -> None:
    """Warn of lossy compression, or doubt the values where it is stronger than the benchmark allows."""
    instances = list({id(f.instance): f.instance for f in series.frames}.values())
    syntaxes = {i.transfer_syntax for i in instances}
    stated = [i.header.get("LossyImageCompression") for i in instances]
    lossy = "01" in stated or syntaxes & LOSSY_SYNTAXES
    if not lossy and (not syntaxes & MAYBE_LOSSY_SYNTAXES or all(value == "00" for value in stated)):
        return
    ratio = _compression_ratio(instances)
    few_bits = min(number(i.header.get("BitsStored")) or 16 for i in instances) <= 8
    limit = MAX_LOSSY_RATIO_8_BITS if few_bits else MAX_LOSSY_RATIO
    what = "The images were compressed with loss" if lossy else "The images may have been compressed with loss"
    if ratio is None:
        message = f"{what}, and nothing says how strongly: their HU may not be the original."
        series.notes.append(warning("lossy_compression", message))
    elif ratio <= limit:
        message = f"{what} ({ratio:.1f}:1): their HU are not the original, but medians hold up to {limit:g}:1."
        series.notes.append(warning("lossy_compression", message))
    else:
        message = f"{what} ({ratio:.1f}:1, above {limit:g}:1): their HU are not the original."
        series.doubts.append(refusal("lossy_compression", message))


def _compression_ratio(instances: Sequence[Instance]) -> float | None:
    """Return the ratio that the headers state (the highest) or that the size of the files gives (the median).

    The larger of both counts: a stated ratio may be that of an earlier step. ``None`` where neither is known.
    """
    stated = []
    for instance in instances:
        value = instance.header.get("LossyImageCompressionRatio")
        values = [value] if value is None or isinstance(value, (str, float, int)) else list(value)
        stated += [r for v in values if (r := number(v)) is not None and r >= 1]
    sizes = []
    for instance in instances:
        if instance.transfer_syntax in LOSSY_SYNTAXES | MAYBE_LOSSY_SYNTAXES and plausible_size(instance):
            pixels = int(instance.header.Rows) * int(instance.header.Columns) * instance.frames
            whole = pixels * math.ceil((number(instance.header.get("BitsAllocated")) or 16) / 8)
            sizes.append(whole / instance.path.stat().st_size)
    known = [*([max(stated)] if stated else []), *([float(np.median(sizes))] if sizes else [])]
    return max(known, default=None)


def _check_scale(series: Series) -> list[Finding]:
    """Refuse a series whose stored values are not turned into HU by a stated rescale."""
    if any(f.get("ModalityLUTSequence") is not None for f in series.frames):
        return [refusal("modality_lut", "The values go through a look-up table instead of a rescale to HU.")]
    scales = [(f.number("RescaleSlope"), f.number("RescaleIntercept")) for f in series.frames]
    missing = sum(slope is None or intercept is None for slope, intercept in scales)
    if missing:
        message = f"Rescale slope or intercept is missing in {missing} of {len(scales)} images: HU cannot be known."
        return [refusal("missing_rescale", message)]
    if any(slope is not None and slope <= 0 for slope, _ in scales):
        return [refusal("zero_rescale_slope", "The rescale slope is zero or negative: HU cannot be known.")]
    kinds = {f.text("RescaleType").upper() for f in series.frames} - {"", "HU"}
    if kinds:
        message = f"The rescale type is '{sorted(kinds)[0]}', not HU: the values are not Hounsfield units."
        return [refusal("rescale_not_hu", message)]
    return []


def _check_geometry(series: Series) -> list[Finding]:
    """Refuse slices that do not form one regular, upright stack; otherwise set the grid."""
    frames = series.frames
    count = len(frames)
    orientations = [f.numbers("ImageOrientationPatient", 6) for f in frames]
    positions = [f.numbers("ImagePositionPatient", 3) for f in frames]
    spacings = [f.numbers("PixelSpacing", 2) for f in frames]
    if any(v is None for v in (*orientations, *positions, *spacings)):
        return [refusal("missing_geometry", "Position, orientation or pixel spacing is missing in some images.")]
    cosines = np.array(orientations, dtype=float)
    points = np.array(positions, dtype=float)
    pixels = np.array(spacings, dtype=float)
    if pixels.min() < PIXEL_MM[0] or pixels.max() > PIXEL_MM[1]:
        message = f"The pixel spacing of {pixels.min():.4g} to {pixels.max():.4g} mm is not that of a CT."
        return [refusal("implausible_spacing", message)]
    if np.ptp(pixels, axis=0).max() > 1e-3:
        return [refusal("mixed_spacing", "The images of the series differ in pixel spacing.")]
    if np.ptp(cosines, axis=0).max() > 1e-3:
        return [refusal("mixed_orientation", "The images of the series are oriented differently.")]
    row, column = cosines[0, :3], cosines[0, 3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(row @ column) > 1e-2:
        return [refusal("bad_orientation", "The orientation in the header is not a pair of perpendicular directions.")]
    if count < MIN_SLICES:
        what = "a single image" if count == 1 else f"only {count} images"
        message = f"The series is {what}; at least {MIN_SLICES} slices are needed to know how they lie."
        return [refusal("single_slice" if count == 1 else "too_few_slices", message)]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    along = points @ normal
    order = np.argsort(along, kind="stable")
    uneven = _check_spacing(along[order])
    if uneven:
        return [uneven]
    points = points[order]
    step = (points[-1] - points[0]) / (count - 1)
    tilt = math.degrees(math.acos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > MAX_SHEAR_DEG:
        return [refusal("gantry_tilt", f"The gantry was tilted by {tilt:.1f} degrees: the slices are sheared.")]
    off_line = np.abs(points - points[0] - np.outer(np.arange(count), step)).max()
    if off_line > 2 * max(GRID_TOLERANCE * float(np.linalg.norm(step)), GRID_TOLERANCE_MM):
        return [refusal("uneven_spacing", f"The slices are shifted against each other by {off_line:.2f} mm.")]
    affine = np.eye(4)
    affine[:3, 0] = row / lengths[0] * pixels[0, 1]
    affine[:3, 1] = column / lengths[1] * pixels[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = points[0]
    affine[:2] *= -1  # DICOM's x and y grow to the left and to the back
    oblique = obliquity_deg(affine)
    if oblique > MAX_RESAMPLED_OBLIQUITY_DEG:
        most = f"at most {MAX_RESAMPLED_OBLIQUITY_DEG:g} can be read"
        message = f"The slices lie {oblique:.1f} degrees oblique to the body; {most}."
        return [refusal("oblique", message)]
    if shear_deg(affine) > 2 * MAX_SHEAR_DEG:
        return [refusal("bad_orientation", "The orientation in the header is not a pair of perpendicular directions.")]
    series.grid = Grid(tuple(frames[i] for i in order), affine, float(np.linalg.norm(step)))
    tilt_in_header = max(abs(f.number("GantryDetectorTilt") or 0.0) for f in frames)
    if tilt_in_header > MAX_SHEAR_DEG:
        message = f"The header states a gantry tilt of {tilt_in_header:.1f} degrees, which the positions do not show."
        series.doubts.append(refusal("gantry_tilt", message))
    return []


def _check_spacing(along: NDArray[np.float64]) -> Finding | None:
    """Judge the positions (mm, ascending) of the slices along their normal."""
    steps = np.diff(along)
    duplicates = int(np.count_nonzero(steps < DUPLICATE_MM))
    if duplicates:
        message = f"{duplicates} slices share the position of another one: several scans are mixed in this series."
        return refusal("duplicate_positions", message)
    usual = float(np.median(steps))
    tolerance = max(GRID_TOLERANCE * usual, GRID_TOLERANCE_MM)
    index = np.arange(along.size)
    if np.abs(along - np.polyval(np.polyfit(index, along, 1), index)).max() <= tolerance:
        return None
    multiples = steps[np.abs(steps - usual) > 2 * tolerance] / usual
    if multiples.size and multiples.min() > 1.5 and np.abs(multiples - np.round(multiples)).max() < 0.1:
        lost = int(np.sum(np.round(multiples) - 1))
        message = f"Inside the series {lost} slices are missing (steps of {steps.max():.2f} among {usual:.2f} mm)."
        return refusal("missing_slice", message)
    if 0 < multiples.size <= max(1, 0.05 * steps.size) and multiples.min() > 1:
        message = f"There is a gap of {steps.max():.2f} mm between slices that are otherwise {usual:.2f} mm apart."
        return refusal("slice_gap", message)
    message = f"The slices are unevenly spaced, {steps.min():.2f} to {steps.max():.2f} mm apart."
    return refusal("uneven_spacing", message)


def _note(series: Series) -> None:
    """Add what does not stop a measurement but must be known."""
    notes = series.notes
    if any(f.instance.recovered for f in series.frames):
        message = "Identifiers (UIDs) are empty in the images; the files of one folder were taken as one series."
        notes.append(warning("recovered_identifiers", message))
    if series.derived:
        notes.append(warning("derived_series", "The series is derived (reformatted or processed), not original."))
    if not series.first.text("Manufacturer"):
        notes.append(warning("missing_manufacturer", "The header does not name the scanner's manufacturer."))
    if len(series.kernels) > 1:
        message = f"The images were reconstructed with {len(series.kernels)} different kernels."
        notes.append(warning("mixed_kernels", message))
    if kernel_is_sharp(series.kernel):
        message = f"The kernel '{series.kernel}' is sharp: more noise, and edges are exaggerated."
        notes.append(warning("sharp_kernel", message))
    if series.grid is None:
        return
    references = len({str(f.get("FrameOfReferenceUID") or "") for f in series.frames})
    if references > 1:
        message = f"The images name {references} frames of reference, but their positions form one regular stack."
        notes.append(warning("mixed_frame_of_reference", message))
    spacing, thickness = series.grid.spacing_mm, series.thickness_mm
    if not series.grid.axial:
        notes.append(info("not_axial", "The slices were not acquired axially; they were reordered, not resampled."))
    if max(spacing, thickness or 0.0) > MAX_SLICE_MM + 1e-3:
        message = f"The slices are {max(spacing, thickness or 0.0):.2g} mm thick or apart, above {MAX_SLICE_MM:g} mm."
        notes.append(warning("slice_too_thick", message))
    if thickness is not None and spacing < 0.95 * thickness:
        message = f"The slices overlap: {thickness:.3g} mm thick, {spacing:.3g} mm apart."
        notes.append(warning("overlapping_slices", message))
    if thickness is not None and spacing > 1.5 * thickness:
        message = f"The slices do not touch: {thickness:.3g} mm thick, {spacing:.3g} mm apart."
        notes.append(warning("slices_apart", message))
