"""Facts of the person and of each radiograph."""

from osteo_monai.reporting.wording import TIMES, VIEW_NAMES, missing_words
from osteo_monai.screening.result import PersonFacts, RadiographAcquisition, RadiographRisk

__all__ = ["acquisition"]


def acquisition(reading: RadiographRisk) -> list[tuple[str, str]]:
    """Return name and value of each fact; of several radiographs only view, file and size."""
    several = len(reading.radiographs) > 1
    rows = _person(reading.person)
    for radiograph in reading.radiographs:
        facts = _radiograph(radiograph)
        rows += facts[:3] if several else facts
    return rows


def _person(person: PersonFacts) -> list[tuple[str, str]]:
    def fact(name: str, value: float | None, unit: str) -> tuple[str, str]:
        source = " (given)" if name.lower() in person.given else ""
        return name, "unknown" if value is None else f"{value:g} {unit}{source}"

    sex = {"F": "female", "M": "male", None: "unknown"}[person.sex]
    return [
        fact("Age", None if person.age_years is None else float(int(person.age_years)), "years"),
        ("Sex", sex + (" (given)" if "sex" in person.given else "")),
        fact("Height", person.height_cm, "cm"),
        fact("Weight", person.weight_kg, "kg"),
    ]


def _radiograph(reading: RadiographAcquisition) -> list[tuple[str, str]]:
    position = f", {reading.view_position}" if reading.view == "chest_frontal" and reading.view_position else ""
    spacing = None if reading.spacing_mm is None else f" {TIMES} ".join(f"{s:.3g}" for s in reading.spacing_mm) + " mm"
    rows = [
        ("Radiograph", VIEW_NAMES[reading.view] + position),
        ("File", f"{reading.source} ({reading.source_format})"),
        ("Pixels", f"{reading.rows} {TIMES} {reading.columns}"),
        ("Pixel size", missing_words(spacing)),
        ("Tube voltage", missing_words(None if reading.kvp is None else f"{reading.kvp:g} kVp")),
        ("Device", missing_words(" ".join(name for name in (reading.manufacturer, reading.model) if name))),
    ]
    for name, value in (("Exposure index", reading.exposure_index), ("Deviation index", reading.deviation_index)):
        if value is not None:
            rows.append((name, f"{value:g}"))
    return rows
