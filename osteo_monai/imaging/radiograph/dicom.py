"""Read a radiograph from DICOM: CR, DX for presentation, and secondary capture with a warning."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.tag import Tag

from osteo_monai.domain import Finding, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.acquisition import age_in_years, clean_text, number, real_day, sex_of
from osteo_monai.imaging.decoding import PixelFile, decode_file
from osteo_monai.imaging.dicom_headers import (
    LOSSY_SYNTAXES,
    MAYBE_LOSSY_SYNTAXES,
    Frame,
    Instance,
    burned_in,
    looks_like_dicom,
    read_instance,
    unusable_if_damaged,
)
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.limits import input_limits
from osteo_monai.imaging.radiograph.image import VIRTUAL_MANUFACTURER, RadiographFacts, StoredRadiograph
from osteo_monai.imaging.radiograph.pictures import COLOURED, MAX_COLOURED_SHARE
from osteo_monai.utils.text import share_words

_CR, _DX, _DX_RAW = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "1.1", "1.1.1"))
_SECONDARY = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("7", "7.2", "7.3", "7.4"))
_MODALITIES = frozenset({"CR", "DX", "RG"})

PLAUSIBLE_SPACING_MM = (0.03, 2.0)
"""Detectors have 0.1 to 0.2 mm; a picture reduced to 256 pixels has up to 1.7 mm."""

PLAUSIBLE_SIZE_M, PLAUSIBLE_WEIGHT_KG = (0.3, 2.5), (1.0, 400.0)
"""Limits of a data manifest. Values outside, such as a height in cm, a weight in g, or the 0 of an empty entry, are not
used."""

DEVIATION_LIMIT = 3.0
"""A deviation index beyond +-3 is half or twice the target exposure (AAPM TG-116: consider repeating)."""

MAX_CLIPPED_BY_WINDOW = 0.6
"""Share of black and white pixels above which a display window does not fit the image; the project's choice."""

_KEYWORDS = (
    "ViewPosition ViewCodeSequence PatientOrientation BodyPartExamined AnatomicRegionSequence SeriesDescription "
    "StudyDescription ProtocolName AcquisitionDeviceProcessingDescription PixelSpacing ImagerPixelSpacing "
    "EstimatedRadiographicMagnificationFactor KVP ExposureIndex DeviationIndex PresentationIntentType "
    "Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit "
    "PixelRepresentation RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter WindowWidth VOILUTFunction "
    "VOILUTSequence "
    "PixelPaddingValue PixelPaddingRangeLimit LossyImageCompression Manufacturer ManufacturerModelName "
    "PatientAge PatientSex PatientSize PatientWeight PatientBirthDate StudyDate "
    "AcquisitionDate ContentDate ImageLaterality Laterality ConversionType"
)
_TAGS: list[Any] = [Tag(keyword) for keyword in _KEYWORDS.split()]

_LATERAL = re.compile(r"\bLAT|\bLL\b|\bRL\b|SEITLICH|PROFIL|\bSEITE", re.IGNORECASE)
_FRONTAL = re.compile(r"\bP\.?A\.?\b|\bA\.?P\.?\b|POSTERO|ANTERO|FRONTAL|DORSO-?VENTR|VENTRO-?DORS", re.IGNORECASE)
_CHEST = re.compile(r"CHEST|THORA[XC]|LUNG|TORAX|TORACE|POUMON|\bCXR\b", re.IGNORECASE)
_BODY_PARTS = re.compile(
    r"ABDOMEN|ANKLE|ARM|BREAST|CALCANEUS|CERVICAL|CHEST|CLAVICLE|COCCYX|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD"
    r"|HIP|HUMERUS|JAW|KNEE|LEG|LUMBAR|NECK|PATELLA|PELVIS|RIBS?|SACRUM|SCAPULA|SHOULDER|SKULL|SPINE|STERNUM|THIGH|THORAX"
    r"|THORACIC|TIBIA|TOE|TRUNK|WHOLE|BODY|WRIST|LEFT|RIGHT",
    re.IGNORECASE,
)
_LUMBAR = re.compile(r"LUMB|L[\s_-]?SPINE|\bLWS\b|LOMB|LENDEN", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """Header of one image file of a study."""

    instance: Instance
    header: Dataset
    view: View
    elsewhere: str
    refusals: tuple[Finding, ...]

    def rank(self, wanted: View) -> tuple[Any, ...]:
        """Return the sort key, smallest for the best: usable, of the wanted view, PA before AP, most pixels."""
        order = [View.CHEST_FRONTAL, View.LUMBAR_AP, View.UNKNOWN, View.LUMBAR_LATERAL, View.CHEST_LATERAL]
        if wanted is not View.UNKNOWN:
            order = [wanted, View.UNKNOWN, *(v for v in order if v not in (wanted, View.UNKNOWN))]
        size = int(self.header.get("Rows") or 0) * int(self.header.get("Columns") or 0)
        return (
            len(self.refusals) > 0,
            order.index(self.view),
            bool(self.elsewhere),
            self.instance.sop_class in _SECONDARY,
            clean_text(self.header.get("ViewPosition")).upper() != "PA",
            -size,
        )


def read_dicom_radiograph(files: Sequence[Path], wanted: View) -> StoredRadiograph:
    """Read the radiograph among ``files`` that suits ``wanted`` best (``UNKNOWN``: a frontal chest first).

    Raises:
        UnusableInputError: no file can be read as DICOM, or the pixel data are damaged.
        ScanRefusedError: no radiograph, several studies, raw detector data, several frames, colour.
    """
    candidates, others, damaged = _candidates(files)
    if not candidates:
        kinds = Counter(i.kind for i in others)
        listed = "; ".join(f"{count} x {kind}" for kind, count in kinds.most_common(4))
        raise ScanRefusedError(refusal("not_a_radiograph", f"No radiograph was found, only: {listed}."))
    if len({c.instance.study for c in candidates}) > 1:
        message = "The radiographs must belong to one study, got several."
        raise ScanRefusedError(refusal("several_studies", message))
    chosen = min(candidates, key=lambda c: c.rank(wanted))
    if chosen.refusals:
        raise ScanRefusedError(*chosen.refusals)
    findings = []
    if damaged:
        findings.append(warning("damaged_files", f"{damaged} files could not be read and were ignored."))
    if len(candidates) > 1:
        listed = ", ".join(c.elsewhere or c.view.replace("_", " ") for c in candidates if c is not chosen)
        message = (
            f"Of {len(candidates)} radiographs one was read ({chosen.view.replace('_', ' ')}); not read: {listed}."
        )
        findings.append(info("view_chosen", message))
    return _read(chosen, findings)


def _candidates(files: Sequence[Path]) -> tuple[list[Candidate], list[Instance], int]:
    candidates: list[Candidate] = []
    others: list[Instance] = []
    reasons: Counter[str] = Counter()
    with pydicom.config.disable_value_validation():
        for path in files:
            if not looks_like_dicom(path):
                continue
            try:
                instance = read_instance(path)
                if _is_radiograph(instance):
                    candidates.append(_candidate(instance))
                else:
                    others.append(instance)
            except UnusableInputError as error:
                reasons[str(error)] += 1
    if not candidates and not others:
        reason = next(iter(reasons), "No DICOM file was found.")
        raise UnusableInputError(reason)
    return candidates, others, sum(reasons.values())


def _is_radiograph(instance: Instance) -> bool:
    if instance.sop_class in (_CR, _DX, _DX_RAW):
        return instance.modality in _MODALITIES
    return instance.sop_class in _SECONDARY and instance.modality in _MODALITIES | {"", "OT", "SC"}


def _candidate(instance: Instance) -> Candidate:
    with unusable_if_damaged("A DICOM header is damaged"):
        header = pydicom.dcmread(instance.path, stop_before_pixels=True, specific_tags=_TAGS)
        for keyword in (
            "PatientSize",
            "PatientWeight",
        ):  # typed by hand, such as "1,72"; not a reason to refuse the image
            try:
                header.get(keyword)
            except ValueError:
                delattr(header, keyword)
        for element in header.iterall():
            element.value  # noqa: B018
        view, elsewhere = _view(header)
        return Candidate(instance, header, view, elsewhere, tuple(_refusals(instance, header)))


def _refusals(instance: Instance, header: Dataset) -> list[Finding]:
    refusals = []
    if instance.sop_class == _DX_RAW or clean_text(header.get("PresentationIntentType")).upper() == "FOR PROCESSING":
        message = "The image must be for presentation, got raw detector data (for processing)."
        refusals.append(refusal("for_processing", message))
    if instance.frames != 1:
        refusals.append(refusal("several_frames", f"The file must have one frame, got {instance.frames}."))
    rows, columns = (int(header.get(k) or 0) for k in ("Rows", "Columns"))
    most = input_limits().pixels
    if not 0 < rows * columns <= most:
        refusals.append(refusal("bad_size", f"Rows and columns are absent or above {most} pixels."))
    photometric = str(header.get("PhotometricInterpretation") or "")
    if photometric.startswith("MONOCHROME"):
        bits, high = header.get("BitsStored") or 0, header.get("HighBit")
        if not 8 <= bits <= 16 or (high is not None and high != bits - 1):
            message = f"The pixels must use 8 to 16 bits from bit 0, got {bits} bits up to bit {high}."
            refusals.append(refusal("unusual_bits", message))
    elif instance.sop_class not in _SECONDARY:
        refusals.append(refusal("not_greyscale", "The image is not a plain grey-scale image (MONOCHROME1 or 2)."))
    return refusals


def _view(header: Dataset) -> tuple[View, str]:
    """Return the view in the header, and the body part if it is another one."""
    codes = [i for k in ("ViewCodeSequence", "AnatomicRegionSequence") for i in header.get(k) or ()]
    meanings = [clean_text(i.get("CodeMeaning")) for i in codes]
    part = clean_text(header.get("BodyPartExamined"))
    free = [clean_text(header.get(k)) for k in ("SeriesDescription", "ProtocolName", "StudyDescription")]
    free.append(clean_text(header.get("AcquisitionDeviceProcessingDescription")))
    position = clean_text(header.get("ViewPosition")).upper()
    # standard attributes first, free text only if they are empty
    frontal = lateral = False
    for text in (position, " ".join(meanings), *free):
        frontal, lateral = bool(_FRONTAL.search(text)), bool(_LATERAL.search(text))
        if frontal != lateral:
            break
    if position in ("LLD", "RLD"):  # lying on a side, seen from the front
        frontal, lateral = True, False
    for text in (part, " ".join(meanings), *free):
        chest, lumbar = bool(_CHEST.search(text)), bool(_LUMBAR.search(text))
        if chest != lumbar:
            break
        if text == part and part and not re.search(r"SPINE|TRUNK|ABDOMEN", part, re.IGNORECASE):
            return View.UNKNOWN, _body_part(part)
    if chest == lumbar or frontal == lateral:
        return View.UNKNOWN, ""
    if chest:
        return (View.CHEST_FRONTAL if frontal else View.CHEST_LATERAL), ""
    return (View.LUMBAR_AP if frontal else View.LUMBAR_LATERAL), ""


def _body_part(text: str) -> str:
    """Return a body part of the header in lower case; a text that is no usual one may be a name and is not repeated."""
    found = _BODY_PARTS.findall(text)
    return " ".join(found).lower() if found else "not a usual one" if text else ""


def _read(chosen: Candidate, findings: list[Finding]) -> StoredRadiograph:
    instance, header = chosen.instance, chosen.header
    secondary = instance.sop_class in _SECONDARY
    if secondary:
        message = "The image is a secondary capture: its acquisition and processing are unknown."
        findings.append(warning("secondary_capture", message))
    if instance.transfer_syntax in LOSSY_SYNTAXES | MAYBE_LOSSY_SYNTAXES or header.get("LossyImageCompression") == "01":
        findings.append(info("lossy_compression", "The image was compressed with loss."))
    findings += burned_in([instance])
    deviation = number(header.get("DeviationIndex"))
    if deviation is not None and abs(deviation) > DEVIATION_LIMIT:
        code, word = ("underexposed", "less") if deviation < 0 else ("overexposed", "more")
        message = f"The detector exposure was {10 ** (abs(deviation) / 10):.1f} times {word} than the target."
        findings.append(warning(code, f"{message[:-1]} (deviation index {deviation:.1f})."))
    pixels, bits = _pixels(instance, findings)
    spacing, at_patient = _spacing(header)
    turns, mirrored = _orientation(header, chosen.view)
    size = _within(number(header.get("PatientSize")), PLAUSIBLE_SIZE_M)
    facts = RadiographFacts(
        source_format="DICOM",
        bits=bits,
        virtual=clean_text(header.get("Manufacturer")) == VIRTUAL_MANUFACTURER,
        age_years=age_in_years(
            clean_text(header.get("PatientAge")),
            clean_text(header.get("PatientBirthDate")),
            clean_text(header.get("StudyDate")),
        ),
        sex=sex_of(clean_text(header.get("PatientSex"))),
        height_cm=None if size is None else round(100 * size, 1),
        weight_kg=_within(number(header.get("PatientWeight")), PLAUSIBLE_WEIGHT_KG),
        acquired=_day(header),
        laterality=_side(header),
        modality=instance.modality or None,
        view_position=clean_text(header.get("ViewPosition")).upper() or None,
        body_part=_body_part(clean_text(header.get("BodyPartExamined"))) or None,
        manufacturer=clean_text(header.get("Manufacturer")) or None,
        model=clean_text(header.get("ManufacturerModelName")) or None,
        kvp=number(header.get("KVP")) or None,
        exposure_index=number(header.get("ExposureIndex")),
        deviation_index=deviation,
        spacing_at_patient=at_patient,
    )
    return StoredRadiograph(pixels, spacing, facts, chosen.view, chosen.elsewhere, turns, mirrored, findings)


def _day(header: Dataset) -> date | None:
    """Return the day of the acquisition, that of the study if it is not stated."""
    texts = [clean_text(header.get(keyword)) for keyword in ("AcquisitionDate", "StudyDate", "ContentDate")]
    return next((day for text in texts if (day := real_day(text)) is not None), None)


def _side(header: Dataset) -> str | None:
    """Return the side of the image, ``L`` or ``R``; that of ViewPosition LL or RL for a lateral one."""
    sides = [clean_text(header.get(keyword)).upper() for keyword in ("ImageLaterality", "Laterality")]
    sides.append({"LL": "L", "RL": "R"}.get(clean_text(header.get("ViewPosition")).upper(), ""))
    return next((side for side in sides if side in ("L", "R")), None)


def _within(value: float | None, limits: tuple[float, float]) -> float | None:
    """Return ``value`` if it is within ``limits``, else ``None``."""
    return value if value is not None and limits[0] <= value <= limits[1] else None


def _pixels(instance: Instance, findings: list[Finding]) -> tuple[NDArray[np.float32], int]:
    """Decode the pixels and apply modality and VOI LUT; return values 0 to 1, dense bright, and the bits stored."""
    stored = decode_file(PixelFile.of(instance))
    with unusable_if_damaged("The pixel data of an image are damaged or cannot be converted"):
        dataset = pydicom.dcmread(instance.path, stop_before_pixels=True, specific_tags=_TAGS)
        if stored.ndim == 3:
            return _grey(stored, dataset)
        padded = _padding(instance, stored)
        values = np.asarray(apply_modality_lut(stored, dataset))
        valid = ~padded if padded is not None and padded.any() and not padded.all() else None
        shown = _window(values, dataset, valid, findings)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        shown = 1 - shown
    if valid is not None:
        shown[~valid] = 0
        share = share_words(1 - float(valid.mean()), 1)
        findings.append(info("padding", f"{share} of the image is padding and was set to black."))
    return shown, int(dataset.get("BitsStored") or 16)


def _grey(stored: NDArray[Any], dataset: Dataset) -> tuple[NDArray[np.float32], int]:
    bits = int(dataset.get("BitsStored") or 8)
    colours = stored.astype(np.float32) / ((1 << bits) - 1)
    if (np.ptp(colours, axis=2) > COLOURED).mean() > MAX_COLOURED_SHARE:
        raise ScanRefusedError(refusal("coloured", "The image is coloured and so not a radiograph."))
    return colours.mean(axis=2, dtype=np.float32), bits


def _padding(instance: Instance, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return the pixels between the padding value and its limit, after the sign conversion; ``None`` if undeclared."""
    frame = Frame(instance, 0)
    first = frame.number("PixelPaddingValue")
    if first is None:
        return None
    last = frame.number("PixelPaddingRangeLimit")
    ends = np.array([int(v) % (1 << 16) for v in (first, first if last is None else last)], np.uint16)
    if stored.dtype.itemsize == 1:
        ends = ends.astype(np.uint8)
    ends = ends.view(stored.dtype.newbyteorder("="))
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()))


def _window(
    values: NDArray[Any], dataset: Dataset, valid: NDArray[np.bool_] | None, findings: list[Finding]
) -> NDArray[np.float32]:
    """Map values to 0..1 by the VOI LUT or window of the header (DICOM PS3.3 C.11.2), else by their spread."""
    inside = (values if valid is None else values[valid]).ravel()
    inside = inside[:: max(1, inside.size // 400_000)]
    low, high = np.percentile(inside, (0.2, 99.8))
    plain = np.asarray(np.clip((values.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1), np.float32)
    if low == high:
        return plain
    tables: Any = dataset.get("VOILUTSequence") or ()
    centres, widths = (np.atleast_1d(np.asarray(dataset.get(k) or [], float)) for k in ("WindowCenter", "WindowWidth"))
    if len(tables) and number(tables[0].get("LUTDescriptor", [0])[0]) is not None and tables[0].get("LUTData"):
        mapped = apply_voi(np.rint(values).astype(np.int64), dataset, 0).astype(np.float32)
        bottom, top = _table_ends(tables[0].LUTData, dataset)
        shown = np.asarray((mapped - bottom) / max(top - bottom, 1), np.float32)
    elif centres.size and widths.size and np.isfinite([centres[0], widths[0]]).all() and widths[0] > 0:
        shown = window(values, float(centres[0]), float(widths[0]), clean_text(dataset.get("VOILUTFunction")).upper())
    else:
        findings.append(info("no_window", "The header has no display window; the full range of the image was used."))
        return plain
    seen = shown if valid is None else shown[valid]
    clipped = float(((seen <= 0.002) | (seen >= 0.998)).mean())
    plainly = plain if valid is None else plain[valid]
    if clipped > MAX_CLIPPED_BY_WINDOW > float(((plainly <= 0.002) | (plainly >= 0.998)).mean()):
        message = f"The display window in the header clips {share_words(clipped)} of the image and was not used."
        findings.append(warning("window_ignored", message))
        return plain
    return np.asarray(np.clip(shown, 0, 1), np.float32)


def _table_ends(data: Any, dataset: Dataset) -> tuple[int, int]:
    """Return the lowest and highest value of a look-up table, whose entries come as numbers or as 16-bit words."""
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")
    table = np.asarray(data)
    return int(table.min()), int(table.max())


def window(values: NDArray[Any], centre: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    """Map values to 0..1 by a display window; ``function`` is LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1.2-3)."""
    x = values.astype(np.float32)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -60, 60))), np.float32)
    if function != "LINEAR_EXACT":  # the linear function counts whole values, so its ends lie half a value inwards
        centre, width = centre - 0.5, max(width - 1, 1e-3)
    return np.asarray(np.clip((x - centre) / width + 0.5, 0, 1), np.float32)


def _spacing(header: Dataset) -> tuple[tuple[float, float] | None, bool | None]:
    for keyword, at_patient in (("PixelSpacing", True), ("ImagerPixelSpacing", False)):
        values = [number(v) for v in header.get(keyword) or ()]
        if len(values) != 2 or any(v is None for v in values):
            continue
        rows, columns = (float(v) for v in values if v is not None)
        if all(PLAUSIBLE_SPACING_MM[0] <= v <= PLAUSIBLE_SPACING_MM[1] for v in (rows, columns)):
            imager = [number(v) for v in header.get("ImagerPixelSpacing") or ()]
            # equal entries mean that the spacing was not calibrated to the patient
            return (rows, columns), at_patient and imager != [rows, columns]
    return None, None


def _orientation(header: Dataset, view: View) -> tuple[int, bool]:
    """Return quarter turns and mirroring to display a frontal view upright, by PatientOrientation (PS3.3
    C.7.6.1.1.1).
    """
    if view not in (View.CHEST_FRONTAL, View.LUMBAR_AP, View.UNKNOWN):
        return 0, False
    directions = [clean_text(v).upper()[:1] for v in header.get("PatientOrientation") or ()]
    if len(directions) != 2:
        return 0, False
    wanted = np.array([["R", "L"], ["H", "F"]])  # directions at the left, right, top and bottom
    opposite = {"L": "R", "R": "L", "H": "F", "F": "H"}
    if {*directions, *(opposite.get(d, "") for d in directions)} != {"L", "R", "H", "F"}:
        return 0, False
    along, down = directions
    for turns in range(4):
        for mirrored in (False, True):
            right, bottom = (opposite[along] if mirrored else along), down
            for _ in range(turns):  # a turn counter-clockwise brings what was at the right to the top
                right, bottom = bottom, opposite[right]
            if (right, bottom) == (wanted[0, 1], wanted[1, 1]):
                return turns, mirrored
    return 0, False
