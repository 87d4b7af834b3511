"""Comparison of what must be the same on every image of a CT series, and of the patient over the images of a study.

Each fact has its own finding. Facts of the patient are compared but never quoted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import AGES_APART_YEARS, age_in_years, real_day, sex_of
from osteo_monai.imaging.dicom_headers import Frame, Instance
from osteo_monai.imaging.dicom_series import Series, image_type, stated_values
from osteo_monai.imaging.findings import refusal, warning
from osteo_monai.imaging.header_words import plain


@dataclass(frozen=True)
class _Fact:
    """A header entry that all images of a series share.

    Attributes:
        name: in the codes of the findings: ``mixed_NAME`` and ``NAME_partly_stated``.
        keyword: of DICOM.
        words: in messages.
        unit: of the quoted values; ``None`` if they are free text, which is not quoted.
        partly: whether a value that some images lack is reported.
    """

    name: str
    keyword: str
    words: str
    unit: str | None = ""
    partly: bool = True


_FACTS = (
    _Fact("thickness", "SliceThickness", "slice thickness", " mm"),
    _Fact("kernels", "ConvolutionKernel", "reconstruction kernel"),
    _Fact("scanner", "ManufacturerModelName", "scanner model", None),
    _Fact("manufacturer", "Manufacturer", "manufacturer", None),
    _Fact("patient_position", "PatientPosition", "patient position"),
    _Fact("bits_allocated", "BitsAllocated", "number of bits allocated"),
    _Fact("bits_stored", "BitsStored", "number of bits stored"),
    _Fact("high_bit", "HighBit", "high bit"),
    _Fact("sign", "PixelRepresentation", "pixel representation"),
)
"""Differences of these are warnings: each image is decoded by its own entries, and its content is compared with that of
its neighbours (:mod:`osteo_monai.imaging.slice_content`)."""


def check_agreement(series: Series) -> None:
    """Add the findings on facts that differ between the images of a series, or that only some of them state."""
    for fact in _FACTS:
        series.notes += _compared(series, fact)
    if partly := _partly(_Fact("kvp", "KVP", "tube voltage", " kV"), series.stated("KVP")):
        series.notes.append(partly)
    series.doubts += _mixed_voltage(series)
    series.refusals += _mixed_name(series)
    types = Counter(" ".join(plain(v) for v in image_type(f)[:3]) for f in series.frames)
    fact = _Fact("image_type", "ImageType", "image type", None)
    series.notes += [f for f in (_mixed(fact, types), _partly(fact, types)) if f is not None]
    given = len(series.frames) - series.contrast_notes[""]
    if 0 < given < len(series.frames):
        message = f"A contrast agent is stated in {given} of {len(series.frames)} images of the series only."
        series.notes.append(warning("mixed_contrast", message))


def _compared(series: Series, fact: _Fact) -> list[Finding]:
    values = series.stated(fact.keyword)
    return [f for f in (_mixed(fact, values), _partly(fact, values) if fact.partly else None) if f is not None]


def _mixed(fact: _Fact, values: Counter[str]) -> Finding | None:
    """Return a warning if several values are stated."""
    stated = Counter({v: n for v, n in values.items() if v})
    if len(stated) < 2:
        return None
    return warning(f"mixed_{fact.name}", f"The {fact.words} differs between the images: {_listed(stated, fact.unit)}.")


def _partly(fact: _Fact, values: Counter[str]) -> Finding | None:
    """Return a warning if some images lack the entry."""
    count = values.total() - values[""]
    if count in (0, values.total()):
        return None
    consequence = "" if 2 * count >= values.total() else " and counts as unknown"
    message = f"The {fact.words} is stated in {count} of {values.total()} images only{consequence}."
    return warning(f"{fact.name}_partly_stated", message)


def _listed(stated: Counter[str], unit: str | None) -> str:
    """Return the values with the number of images of each, or only these numbers if values are not quoted."""
    common = stated.most_common(3)
    more = f" and {len(stated) - 3} more values" if len(stated) > 3 else ""
    if unit is None:
        return f"{len(stated)} values, in {', '.join(str(n) for _, n in common)} images{more}"
    return ", ".join(f"{value}{unit} in {count}" for value, count in common) + f" images{more}"


def _mixed_voltage(series: Series) -> list[Finding]:
    stated = Counter({v: n for v, n in series.stated("KVP").items() if v})
    if len(stated) < 2:
        return []
    message = f"The tube voltage differs between the images of the series: {_listed(stated, ' kV')}."
    return [refusal("mixed_acquisition", message)]


def _mixed_name(series: Series) -> list[Finding]:
    """Refuse a series with several patient names; capitals, spaces and carets do not count."""
    names: Counter[str] = Counter()
    for name, count in series.stated("PatientName").items():
        names["".join(c for c in plain(name) if c.isalnum())] += count
    return _differs("mixed_patient_name", "patient name", names)


def check_patient(images: Sequence[Instance]) -> list[Finding]:
    """Refuse images of one study whose identifier, sex, birth date or age are those of several patients."""
    findings = []
    patients = max(len({i.study_key for i in images}), len({i.patient for i in images} - {""}))
    if patients > 1:
        message = f"The images must belong to one patient, got {patients} patients in one study."
        findings.append(refusal("several_patients", message))
    readers: tuple[tuple[str, str, str, Callable[[str], str]], ...] = (
        ("mixed_sex", "PatientSex", "sex", lambda text: str(sex_of(text) or "")),
        ("mixed_birth_date", "PatientBirthDate", "birth date", lambda text: str(real_day(text) or "")),
    )
    for code, keyword, words, read in readers:
        values: Counter[str] = Counter()
        for text, count in _stated(images, keyword).items():
            values[read(text)] += count
        findings += _differs(code, words, values)
    ages: Counter[float] = Counter()
    for text, count in _stated(images, "PatientAge").items():
        if (age := age_in_years(text, "", "")) is not None:
            ages[age] += count
    if ages and max(ages) - min(ages) > AGES_APART_YEARS:
        findings += _differs("mixed_age", "age", Counter({str(age): count for age, count in ages.items()}))
    return findings


def _stated(images: Sequence[Instance], keyword: str) -> Counter[str]:
    return stated_values([Frame(image, 0) for image in images], keyword)


def _differs(code: str, words: str, values: Counter[str]) -> list[Finding]:
    """Refuse several values, without quoting them."""
    stated = Counter({v: n for v, n in values.items() if v})
    if len(stated) < 2:
        return []
    others = stated.total() - stated.most_common(1)[0][1]
    message = (
        f"The images must be of one patient: {others} of {values.total()} images state another {words} than the others."
    )
    return [refusal(code, message)]
