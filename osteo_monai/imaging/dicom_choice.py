"""Grouping of DICOM CT images into series, and choice of the series to measure."""

from collections import defaultdict
from collections.abc import Sequence

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import kernel_is_sharp
from osteo_monai.imaging.dicom_checks import check_series, plausible_size
from osteo_monai.imaging.dicom_contrast import LESS_SHARE, compare_enhancement
from osteo_monai.imaging.dicom_headers import Frame, Instance
from osteo_monai.imaging.dicom_series import MAX_SLICE_MM, Series
from osteo_monai.imaging.findings import info, warning
from osteo_monai.utils.text import share_words

COVERAGE_SHARE = 0.8
"""Share of the longest series from which on the coverage counts as equal."""
CONTRAST_AT = 7
"""Place of the words on contrast agent in the sort key of a series."""
MAX_COMPARED = 6
"""Series whose pixels are compared with those of the first one."""
TOO_THICK = 3
"""Class of slices above ``MAX_SLICE_MM``."""


def group(instances: Sequence[Instance]) -> list[Series]:
    """Group CT instances into checked series, localizer images separately.

    Instances without a SeriesInstanceUID form one series per folder.
    """
    groups: defaultdict[tuple[str, bool], list[Frame]] = defaultdict(list)
    for instance in instances:
        key = instance.series or str(instance.path.parent)
        # the frame count of a damaged header must not cost memory
        for index in range(instance.frames if plausible_size(instance) else 1):
            frame = Frame(instance, index)
            groups[key, Series([frame]).localizer].append(frame)
    return [part for frames in groups.values() for part in _separate(_checked(frames))]


def _checked(frames: list[Frame]) -> Series:
    series = Series(frames)
    check_series(series)
    return series


def _separate(series: Series) -> list[Series]:
    """Return the scans that share one SeriesInstanceUID: kernels or phases at equal positions, each a whole stack."""
    if not any(f.code == "duplicate_positions" for f in series.refusals):
        return [series]
    for keyword, criterion in (("ConvolutionKernel", "kernel"), ("AcquisitionNumber", "acquisition number")):
        parts: defaultdict[str, list[Frame]] = defaultdict(list)
        for frame in series.frames:
            parts[frame.text(keyword)].append(frame)
        scans = [_checked(frames) for frames in parts.values()] if len(parts) > 1 else []
        if any(part.grid is not None and not part.refusals for part in scans):
            message = f"One series held {len(parts)} scans at equal positions; they were separated by {criterion}."
            for part in scans:
                part.notes.append(info("series_told_apart", message))
            return scans
    return [series]


def choose(series: Sequence[Series]) -> tuple[Series, list[Finding]]:
    """Choose the series to measure: the best usable one, else the best of the others, to report its refusals.

    Contrast agent is compared by the pixels, and by the words of the header only where the pixels cannot be compared.

    Returns:
        The series, and findings on the choice if there were several.
    """
    longest = max((s.coverage_mm for s in series if not s.refusals and not s.doubts), default=0.0)
    ranked = sorted(series, key=lambda s: _rank(s, longest))
    if len(ranked) == 1:
        return ranked[0], []
    chosen, reason, by_pixels = _less_enhanced(ranked, longest)
    others = [s for s in series if s is not chosen]
    return chosen, [_choice_note(chosen, others, reason), *by_pixels]


def _less_enhanced(ranked: Sequence[Series], longest: float) -> tuple[Series, str, list[Finding]]:
    """Return the first series, or the one beside it that has clearly less contrast agent, and the reason."""
    first = ranked[0]
    rank = _rank(first, longest)[:CONTRAST_AT]
    if any(rank[:3]):  # cannot be measured
        return first, "", []
    # words on contrast agent and the thickness may differ, nothing else
    same = [s for s in ranked[1:] if _rank(s, longest)[:CONTRAST_AT] == rank]
    rivals = [s for s in same if _thickness_class(_thickness(s)) < TOO_THICK][:MAX_COMPARED]
    seen = [(s, compared) for s in rivals if (compared := compare_enhancement(first, s)) is not None]
    less = [(s, compared) for s, compared in seen if compared.second_is_less]
    if not less:
        more = [s for s, compared in seen if compared.first_is_less]
        return first, f" Its pixels have less contrast agent than those of {_names(more)}." if more else "", []
    # the next in the order of the header that has about as little as the least
    least = min(compared.second for _, compared in less)
    chosen, compared = next((s, c) for s, c in less if c.second <= least + LESS_SHARE)
    reason = (
        f"{share_words(compared.second, 1)} of its soft tissue is denser than native tissue, "
        f"{share_words(compared.first, 1)} of that of "
        f"{_names([first])}"
    )
    if chosen.contrast_rank == first.contrast_rank:
        return chosen, f" It was chosen by contrast agent in the pixels: {reason}.", []
    message = f"The words on contrast agent in the headers are contradicted by the pixels, which decided: {reason}."
    return chosen, "", [warning("contrast_words_contradicted", message)]


def _names(series: Sequence[Series]) -> str:
    numbers = [s.first.number("SeriesNumber") for s in series]
    return " and ".join("a series without number" if n is None else f"series number {n:g}" for n in numbers)


def _choice_note(chosen: Series, others: Sequence[Series], reason: str) -> Finding:
    """Return a finding on the chosen series and the others."""
    descriptions = []
    for other in others[:6]:
        reasons = [f.code.replace("_", " ") for f in (*other.refusals, *other.doubts)][:2]
        if not reasons:
            reasons = ["derived"] if other.derived else ["sharp kernel"] if kernel_is_sharp(other.kernel) else []
        descriptions.append(other.label() + (f" ({', '.join(reasons)})" if reasons else ""))
    more = f" and {len(others) - 6} more" if len(others) > 6 else ""
    message = (
        f"Of {len(others) + 1} CT series this one was read: {chosen.label()}.{reason} Not read: "
        f"{'; '.join(descriptions)}{more}."
    )
    return info("series_chosen", message)


def _rank(series: Series, longest: float) -> tuple[float, ...]:
    """Return the sort key of a series, smallest for the best."""
    thickness = _thickness(series)
    sharp = kernel_is_sharp(series.kernel)
    return (
        len(series.refusals) > 0,
        len(series.doubts) > 0,
        series.localizer,
        series.derived,
        not (series.grid is not None and series.grid.axial),
        series.coverage_mm < COVERAGE_SHARE * longest,
        1 if sharp else 0,
        series.contrast_rank,
        _thickness_class(thickness),
        thickness,
        -series.coverage_mm,
        -len(series.frames),
    )


def _thickness(series: Series) -> float:
    return series.thickness_mm or (series.grid.spacing_mm if series.grid else 99.0)


def _thickness_class(mm: float) -> int:
    """Return 0 for 1 to 3 mm: thinner slices cost noise and memory without benefit, thicker ones blur end plates."""
    return 0 if 1.0 <= mm <= 3.0 else 1 if mm < 1.0 else 2 if mm <= MAX_SLICE_MM else TOO_THICK
