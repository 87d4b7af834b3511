"""Checks of a DICOM CT series: encoding, HU scale, content, compression and geometry.

Each check returns or adds findings; refusals mean that the series cannot be read, doubts that its values are no
measurement.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import kernel_is_sharp, number, rescale_unit
from osteo_monai.imaging.dicom_agreement import check_agreement
from osteo_monai.imaging.dicom_headers import (
    LOSSLESS_SYNTAXES,
    LOSSY_SYNTAXES,
    MAYBE_LOSSY_SYNTAXES,
    UNCOMPRESSED_SYNTAXES,
    Frame,
    Instance,
)
from osteo_monai.imaging.dicom_series import MAX_SLICE_MM, MIN_SLICES, Grid, Series, image_type
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.header_words import dual_energy_words, processed_words
from osteo_monai.imaging.limits import input_limits
from osteo_monai.imaging.orientation import (
    MAX_RESAMPLED_OBLIQUITY_DEG,
    MAX_SHEAR_DEG,
    obliquity_deg,
    shear_deg,
)
from osteo_monai.utils.inputs import same_content

GRID_TOLERANCE = 0.05
GRID_TOLERANCE_MM = 0.06
"""Slices are evenly spaced if none is off the regular grid by more than 5 % of a step; 0.06 mm are always allowed,
because positions are often written with one decimal."""

DUPLICATE_MM = 0.01
"""Slices closer than this share a position."""

PIXEL_MM = (0.1, 5.0)
"""Plausible pixel spacing of a clinical CT in mm; outside it the unit or the entry is wrong."""

MAX_LOSSY_RATIO = 10.0
"""Highest ratio of lossy compression at which a median HU is reported, with a warning. JPEG 2000 and JPEG of 12 bits at
10:1 move the median of trabecular bone by at most 1.5 HU in slices of 512 x 512 (virtual and real) and by 3 HU in
cropped and coarse ones, at 20:1 by 2 and 8 HU (``benchmarks/lossy_compression.py``, 2026-11-28). The networks
were not tested on such slices, so the limit is stricter than the values require. Bytes allocated by bytes
compressed."""

MAX_LOSSY_RATIO_8_BITS = 5.0
"""The same where 8 bits or fewer are stored, whose steps of several HU come on top: at 5:1 up to 4 HU in slices of
512 x 512 and 7 HU in cropped ones, at 10:1 up to 4 and 17 HU (same benchmark)."""

DIAMETER_TOLERANCE = 0.05
"""Largest relative difference of the width of the images and their stated reconstruction diameter without a warning; in
ten real series of three vendors they agree within 0.1 % (measured 2026-11-29)."""


def check_series(series: Series) -> None:
    """Set refusals, doubts, notes and grid of a series."""
    _drop_copies(series)
    refusals = series.refusals
    refusals += _check_kind(series)
    refusals += _check_scale(series)
    check_agreement(series)
    series.doubts += _check_content(series)
    if any(not plausible_size(f.instance) for f in series.frames):
        message = (
            f"Rows, columns or frames are absent, more than the file holds, or above {input_limits().voxels} voxels."
        )
        refusals.append(refusal("bad_size", message))
        return
    sizes = Counter((int(f.instance.header.Rows), int(f.instance.header.Columns)) for f in series.frames)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {r} x {c}" for (r, c), count in sizes.most_common())
        refusals.append(refusal("mixed_sizes", f"The images of the series differ in size: {listed}."))
        return
    (rows, columns), count = sizes.most_common(1)[0]
    most = input_limits().voxels
    if rows * columns * count > most:
        refusals.append(refusal("too_large", f"{count} images of {rows} x {columns} exceed {most} voxels."))
        return
    if not series.localizer:
        _check_compression(series)
        refusals += _check_geometry(series)
        _note(series)


def _drop_copies(series: Series) -> None:
    """Keep one of several byte-identical files of the same instance."""
    seen: dict[str, Instance] = {}
    copies: set[int] = set()
    for frame in series.frames:
        instance = frame.instance
        first = seen.setdefault(instance.sop_instance, instance) if instance.sop_instance else instance
        if first is not instance and id(instance) not in copies and same_content(first.path, instance.path):
            copies.add(id(instance))
    if copies:
        series.frames = [f for f in series.frames if id(f.instance) not in copies]
        series.notes.append(
            info("duplicate_files", f"{len(copies)} files are exact copies of others and were ignored.")
        )


def _check_kind(series: Series) -> list[Finding]:
    """Refuse images that are no plain grey-scale slices, and unsupported encodings."""
    findings = []
    if series.localizer:
        findings.append(refusal("localizer", "The images are localizers (scouts), not a CT volume."))
    count = len(series.frames)
    photometric = series.stated("PhotometricInterpretation")
    grey = sum((number(f.instance.header.get("SamplesPerPixel")) or 1) == 1 for f in series.frames)
    if inverted := photometric["MONOCHROME1"]:
        message = f"{inverted} of {count} images are stored inverted (MONOCHROME1), unlike CT in HU."
        findings.append(refusal("monochrome1", message))
    elif other := max(count - photometric["MONOCHROME2"], count - grey):
        message = f"{other} of {count} images are not plain grey-scale images (MONOCHROME2)."
        findings.append(refusal("not_greyscale", message))
    if {f.instance.transfer_syntax for f in series.frames} - LOSSLESS_SYNTAXES - MAYBE_LOSSY_SYNTAXES - LOSSY_SYNTAXES:
        findings.append(refusal("transfer_syntax", "The images are in a transfer syntax that is not accepted."))
    return findings


def _check_content(series: Series) -> list[Finding]:
    """Return the refusal of images whose values are not the attenuation measured; note a dual-energy acquisition."""
    marks: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = Counter(
        (image_type(f), (f.text("SeriesDescription"), f.text("ProtocolName"))) for f in series.frames
    )
    words: set[str] = set()
    dual: set[str] = set()
    count = 0
    for (types, texts), frames in marks.items():
        found = processed_words(types, texts, series.derived)
        words |= found
        dual |= dual_energy_words(types, texts)
        count += frames if found else 0
    if words:
        which = "The" if count == len(series.frames) else f"{count} of {len(series.frames)}"
        listed = ", ".join(sorted(words))
        message = f"{which} images are processed ({listed}): their values are not the attenuation measured."
        return [refusal("not_plain_ct", message)]
    if dual:
        listed = ", ".join(sorted(dual))
        message = f"The images are of a dual-energy acquisition ({listed}): the tube voltage may not describe their HU."
        series.notes.append(warning("dual_energy", message))
    return []


def _check_compression(series: Series) -> None:
    """Warn of lossy compression, or doubt the values if it exceeds the limit of the benchmark."""
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
        message = f"{what} at an unknown ratio: their HU may not be the original."
        series.notes.append(warning("lossy_compression", message))
    elif ratio <= limit:
        message = f"{what} ({ratio:.1f}:1): their HU are not the original, but medians hold up to {limit:g}:1."
        series.notes.append(warning("lossy_compression", message))
    else:
        message = f"{what} ({ratio:.1f}:1, above {limit:g}:1): their HU are not the original."
        series.doubts.append(refusal("lossy_compression", message))


def _compression_ratio(instances: Sequence[Instance]) -> float | None:
    """Return the compression ratio: the stated one (highest) or that of the file sizes (median), the larger of both.

    A stated ratio may be that of an earlier step. ``None`` if neither is known.
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
    ratios = [*([max(stated)] if stated else []), *([float(np.median(sizes))] if sizes else [])]
    return max(ratios, default=None)


def _check_scale(series: Series) -> list[Finding]:
    """Refuse a series without a rescale from stored values to HU."""
    if any(f.get("ModalityLUTSequence") is not None for f in series.frames):
        return [refusal("modality_lut", "The values are mapped by a look-up table instead of a rescale to HU.")]
    scales = [(f.number("RescaleSlope"), f.number("RescaleIntercept")) for f in series.frames]
    missing = sum(slope is None or intercept is None for slope, intercept in scales)
    if missing:
        message = f"Rescale slope or intercept is missing in {missing} of {len(scales)} images: HU are unknown."
        return [refusal("missing_rescale", message)]
    wrong = sum(slope is not None and slope <= 0 for slope, _ in scales)
    if wrong:
        message = f"The rescale slope is zero or negative in {wrong} of {len(scales)} images: HU are unknown."
        return [refusal("zero_rescale_slope", message)]
    kinds = {f.text("RescaleType").upper() for f in series.frames} - {"", "HU"}
    if kinds:
        count = sum(f.text("RescaleType").upper() in kinds for f in series.frames)
        message = (
            f"The rescale type is {rescale_unit(sorted(kinds)[0])}, not HU, in {count} of {len(series.frames)} images: "
            "the values are not Hounsfield units."
        )
        return [refusal("rescale_not_hu", message)]
    return []


def _check_geometry(series: Series) -> list[Finding]:
    """Refuse slices that do not form one regular, upright stack; otherwise set the grid."""
    frames = series.frames
    orientations = [f.numbers("ImageOrientationPatient", 6) for f in frames]
    positions = [f.numbers("ImagePositionPatient", 3) for f in frames]
    spacings = [f.numbers("PixelSpacing", 2) for f in frames]
    if any(v is None for v in (*orientations, *positions, *spacings)):
        return [refusal("missing_geometry", "Position, orientation or pixel spacing is missing in some images.")]
    cosines, points, pixels = (np.array(v, dtype=float) for v in (orientations, positions, spacings))
    problem = _check_planes(pixels, cosines)
    if problem is None:
        problem, grid = _build_grid(frames, pixels[0], cosines[0], points)
        series.grid = grid
    if problem is not None:
        return [problem]
    stated_tilt = max(abs(f.number("GantryDetectorTilt") or 0.0) for f in frames)
    if stated_tilt > MAX_SHEAR_DEG:
        message = f"The header states a gantry tilt of {stated_tilt:.1f} degrees, which the positions do not show."
        series.doubts.append(refusal("gantry_tilt", message))
    return []


def _check_planes(pixels: NDArray[np.float64], cosines: NDArray[np.float64]) -> Finding | None:
    """Check pixel spacings (n, 2) in mm and orientations (n, 6) of the images, and their number."""
    if pixels.min() < PIXEL_MM[0] or pixels.max() > PIXEL_MM[1]:
        message = f"The pixel spacing of {pixels.min():.4g} to {pixels.max():.4g} mm is not that of a CT."
        return refusal("implausible_spacing", message)
    for code, words, values in (
        ("mixed_spacing", "pixel spacing", pixels),
        ("mixed_orientation", "orientation", cosines),
    ):
        if np.ptp(values, axis=0).max() > 1e-3:
            counts = np.unique(np.round(values, 3), axis=0, return_counts=True)[1]
            others = max(1, len(values) - int(counts.max()))
            message = f"The images of the series differ in {words}: {others} of {len(values)} from the others."
            return refusal(code, message)
    row, column = cosines[0, :3], cosines[0, 3:]
    if max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1)) > 1e-2 or abs(row @ column) > 1e-2:
        return refusal("bad_orientation", _NOT_PERPENDICULAR)
    count = len(pixels)
    if count < MIN_SLICES:
        number_of = "a single image" if count == 1 else f"only {count} images"
        message = f"The series has {number_of}; at least {MIN_SLICES} slices are required."
        return refusal("single_slice" if count == 1 else "too_few_slices", message)
    return None


def _build_grid(
    frames: Sequence[Frame], pixel: NDArray[np.float64], cosines: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[Finding | None, Grid | None]:
    """Return the grid of slices at positions (n, 3) in mm, or the reason why they form none."""
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    along = points @ normal
    order = np.argsort(along, kind="stable")
    if uneven := _check_spacing(along[order]):
        return uneven, None
    points = points[order]
    count = len(points)
    step = (points[-1] - points[0]) / (count - 1)
    length = float(np.linalg.norm(step))
    tilt = math.degrees(math.acos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > MAX_SHEAR_DEG:
        return refusal("gantry_tilt", f"The gantry was tilted by {tilt:.1f} degrees: the slices are sheared."), None
    off_line = np.abs(points - points[0] - np.outer(np.arange(count), step)).max()
    if off_line > 2 * max(GRID_TOLERANCE * length, GRID_TOLERANCE_MM):
        return refusal("uneven_spacing", f"The slices are shifted against each other by {off_line:.2f} mm."), None
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * pixel[1]
    affine[:3, 1] = column / np.linalg.norm(column) * pixel[0]
    affine[:3, 2] = step
    affine[:3, 3] = points[0]
    affine[:2] *= -1  # in DICOM x and y grow to the left and to the back
    oblique = obliquity_deg(affine)
    if oblique > MAX_RESAMPLED_OBLIQUITY_DEG:
        message = (
            f"The slices are oblique to the body by {oblique:.1f} degrees; "
            f"at most {MAX_RESAMPLED_OBLIQUITY_DEG:g} are supported."
        )
        return refusal("oblique", message), None
    if shear_deg(affine) > 2 * MAX_SHEAR_DEG:
        return refusal("bad_orientation", _NOT_PERPENDICULAR), None
    return None, Grid(tuple(frames[i] for i in order), affine, length)


_NOT_PERPENDICULAR = "The orientation in the header is not a pair of perpendicular directions."


def _check_spacing(along: NDArray[np.float64]) -> Finding | None:
    """Check the positions (mm, ascending) of the slices along their normal."""
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
    """Add warnings that do not prevent a measurement."""
    notes = series.notes
    if any(f.instance.recovered for f in series.frames):
        message = "Identifiers (UIDs) are empty in the images; the files of one folder were taken as one series."
        notes.append(warning("recovered_identifiers", message))
    if series.derived:
        notes.append(warning("derived_series", "The series is derived (reformatted or processed), not original."))
    if not series.stated("Manufacturer") - Counter({"": len(series.frames)}):
        notes.append(warning("missing_manufacturer", "The header does not name the scanner's manufacturer."))
    if kernel_is_sharp(series.kernel):
        message = f"The kernel '{series.kernel}' is sharp: more noise, and edges are exaggerated."
        notes.append(warning("sharp_kernel", message))
    if series.grid is not None:
        notes += _grid_notes(series, series.grid)


def _grid_notes(series: Series, grid: Grid) -> list[Finding]:
    notes = []
    references = len({str(f.get("FrameOfReferenceUID") or "") for f in series.frames})
    if references > 1:
        message = f"The images name {references} frames of reference, but their positions form one regular stack."
        notes.append(warning("mixed_frame_of_reference", message))
    if not grid.axial:
        notes.append(info("not_axial", "The slices were not acquired axially; they were reordered, not resampled."))
    if differs := _diameter_note(series, grid):
        notes.append(differs)
    spacing, thickness = grid.spacing_mm, series.thickness_mm
    largest = max(spacing, thickness or 0.0)
    if largest > MAX_SLICE_MM + 1e-3:
        message = f"The slices are {largest:.2g} mm thick or apart, above {MAX_SLICE_MM:g} mm."
        notes.append(warning("slice_too_thick", message))
    if thickness is not None and spacing < 0.95 * thickness:
        message = f"The slices overlap: {thickness:.3g} mm thick, {spacing:.3g} mm apart."
        notes.append(warning("overlapping_slices", message))
    if thickness is not None and spacing > 1.5 * thickness:
        message = f"The slices do not touch: {thickness:.3g} mm thick, {spacing:.3g} mm apart."
        notes.append(warning("slices_apart", message))
    return notes


def _diameter_note(series: Series, grid: Grid) -> Finding | None:
    """Warn if the width of original images contradicts their reconstruction diameter."""
    diameter = series.agreed_number("ReconstructionDiameter")
    header = grid.frames[0].instance.header
    width = max(
        int(header.Columns) * np.linalg.norm(grid.affine[:3, 0]), int(header.Rows) * np.linalg.norm(grid.affine[:3, 1])
    )
    if series.derived or not diameter or diameter <= 0 or abs(width / diameter - 1) <= DIAMETER_TOLERANCE:
        return None
    message = f"The images are {width:.0f} mm wide, but their reconstruction diameter is {diameter:.0f} mm."
    return warning("field_of_view_differs", message)


_LEAST_FRAME_BYTES = 32
"""Of a compressed frame: its item header and the markers of its codestream."""


def plausible_size(instance: Instance) -> bool:
    """Whether Rows x Columns x frames of one file are present, within the limit, and not far above its bytes."""
    header, frames = instance.header, instance.frames
    rows, columns = (header.get(k) or 0 for k in ("Rows", "Columns"))
    if not (rows > 0 and columns > 0 and 0 < rows * columns * frames <= input_limits().voxels):
        return False
    if frames == 1:
        return True
    stated = frames * _LEAST_FRAME_BYTES
    if instance.transfer_syntax in UNCOMPRESSED_SYNTAXES:
        stated = rows * columns * frames * int(number(header.get("BitsAllocated")) or 8) // 16  # half may be cut off
    return bool(stated <= instance.path.stat().st_size)
