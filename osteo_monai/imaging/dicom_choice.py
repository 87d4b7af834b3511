"""Grouping of DICOM CT images into series, and choice of the series to measure."""

from collections import defaultdict
from collections.abc import Sequence

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import kernel_is_sharp
from osteo_monai.imaging.dicom_checks import check_series, plausible_size
from osteo_monai.imaging.dicom_headers import Frame, Instance
from osteo_monai.imaging.dicom_series import MAX_SLICE_MM, Series
from osteo_monai.imaging.findings import info

COVERAGE_SHARE = 0.8
"""Share of the longest series from which on the coverage counts as equal."""


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


def choose(series: Sequence[Series]) -> Series:
    """Return the series to measure: the best usable one, else the best of the others, to report its refusals."""
    longest = max((s.coverage_mm for s in series if not s.refusals and not s.doubts), default=0.0)
    return min(series, key=lambda s: _rank(s, longest))


def choice_note(chosen: Series, series: Sequence[Series]) -> Finding | None:
    """Return a finding on the chosen series and the others; ``None`` if there was only one."""
    others = [s for s in series if s is not chosen]
    if not others:
        return None
    descriptions = []
    for other in others[:6]:
        reasons = [f.code.replace("_", " ") for f in (*other.refusals, *other.doubts)][:2]
        if not reasons:
            reasons = ["derived"] if other.derived else ["sharp kernel"] if kernel_is_sharp(other.kernel) else []
        descriptions.append(other.label() + (f" ({', '.join(reasons)})" if reasons else ""))
    more = f" and {len(others) - 6} more" if len(others) > 6 else ""
    message = (
        f"Of {len(series)} CT series this one was read: {chosen.label()}. Not read: {'; '.join(descriptions)}{more}."
    )
    return info("series_chosen", message)


def _rank(series: Series, longest: float) -> tuple[float, ...]:
    """Return the sort key of a series, smallest for the best."""
    thickness = series.thickness_mm or (series.grid.spacing_mm if series.grid else 99.0)
    # 1 to 3 mm is best: thinner slices cost noise and memory without benefit for a mean, thicker ones blur end plates
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
        series.contrast_rank,
        thickness_class,
        thickness,
        -series.coverage_mm,
        -len(series.frames),
    )
