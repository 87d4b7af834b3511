"""Header facts of a CT."""

from osteo_monai.reporting.wording import TIMES, missing_words
from osteo_monai.screening.result import ScreeningResult

__all__ = ["acquisition"]


def acquisition(result: ScreeningResult) -> list[tuple[str, str]]:
    """Return name and value of each header fact; empty when the header was not read."""
    facts = result.acquisition
    if facts is None:
        return []
    age = "unknown" if facts.age_years is None else f"{int(facts.age_years)} years"
    shape = "unknown" if facts.shape is None else f" {TIMES} ".join(str(n) for n in facts.shape)
    voxel = "unknown" if facts.spacing_mm is None else f" {TIMES} ".join(f"{s:.3g}" for s in facts.spacing_mm) + " mm"
    return [
        ("Age", age),
        ("Sex", {"F": "female", "M": "male", None: "unknown"}[facts.sex]),
        ("Tube voltage", _with_unit(facts.kvp, "kVp")),
        ("Kernel", missing_words(facts.kernel)),
        ("Slice thickness", _with_unit(facts.slice_thickness_mm, "mm")),
        ("Contrast agent", missing_words(facts.contrast)),
        ("Scanner", missing_words(" ".join(name for name in (facts.manufacturer, facts.model) if name))),
        ("Series", missing_words(facts.series_description)),
        ("Matrix", shape),
        ("Voxel", voxel),
    ]


def _with_unit(value: float | None, unit: str) -> str:
    return missing_words(None if value is None else f"{value:g} {unit}")
