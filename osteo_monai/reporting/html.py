"""The picture report: one self-contained HTML file written from a result, readable on screen and on A4."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from osteo_monai.domain import (
    SCREENED_LEVELS,
    BoneStatus,
    DensityThresholds,
    Severity,
    VertebraLevel,
)
from osteo_monai.norms import NORM_AGES, NORM_NAME, NORM_SOURCE, NORM_STANDARD, DensityNorm, density_norm
from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.figures import (
    activation_picture,
    axial_picture,
    axial_slice,
    column_picture,
    density_picture,
)
from osteo_monai.reporting.radiograph import VERDICTS as _RADIOGRAPH_VERDICTS
from osteo_monai.reporting.radiograph import risk_context
from osteo_monai.reporting.wording import (
    HIGHEST_NAMED,
    MINUS,
    TIMES,
    bodies_above_words,
    density_words,
    missing_words,
    percent_words,
    percentile_words,
)
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import (
    CalibrationUsed,
    Density,
    LevelMeasurement,
    Opinion,
    OpinionName,
    ScreeningResult,
)

_VERDICTS = {
    "accepted": ("Accepted", "All quality checks were passed."),
    "accepted_with_warnings": ("Accepted with warnings", "A density is given; read the warnings before using it."),
    "refused": ("Refused", "No bone density is given for this study."),
    "unusable": ("Unusable input", "The input could not be read, so nothing was measured."),
}

_SEVERITIES = (
    (Severity.REFUSAL, "Reasons for refusal"),
    (Severity.WARNING, "Warnings"),
    (Severity.INFO, "For information"),
)

_CALIBRATIONS = {
    "physics": "computed from X-ray physics at the tube voltage (an estimate: this scanner was not measured)",
    "registry": "line of this scanner from the calibration registry",
    "phantom": "reference rods in this scan",
    "internal": "tissues in this scan (air, fat, blood, muscle, bone)",
    "user": "line given by the user",
}


_OPINIONS: dict[OpinionName, tuple[str, str, str]] = {
    "hu_line": ("HU line", "median HU of the trabecular regions and a line to mg/cm³ (see below)", "no training"),
    "density_regression": (
        "Density regression",
        "a DenseNet sees five slices of each body and its surroundings, and adapts the line to the scan",
        "unknown",
    ),
    "classifier": ("Classifier", "a ResNet sees the middle slices of both bodies, masked (Pan 2024)", "unknown"),
    "hu_rule": (
        "HU rule of L1",
        "mean HU of L1 against cut-offs; the same HU as the line, so no opinion of its own",
        "no training; published against DXA",
    ),
}
"""Name, how it is made, and what it was trained on where the result does not say."""

_COMPARISONS = ("opinions_differ", "opinions_borderline", "opinions_agree")


def write_report(result: ScreeningResult, images: ReportImages | RadiographImages | None, path: Path) -> None:
    """Write the report of one study to ``path`` as a single HTML file (UTF-8) that refers to nothing outside itself.

    The report of a refused or unusable study gives the reason first and no density, HU or risk, whatever the result
    holds; it still shows the pictures that exist.

    Args:
        result: what to tell.
        images: what to draw, of the result's modality; ``None`` where the input could not be read. Levels missing from
            it are taken from ``result.levels_found``.
        path: file to write; its folder must exist.

    Raises:
        ValueError: if the images are of the other modality.
        OSError: if ``path`` cannot be written.
    """
    wanted = RadiographImages if result.modality == "radiograph" else ReportImages
    if images is not None and not isinstance(images, wanted):
        raise ValueError(f"images must be {wanted.__name__} for a {result.modality}, got {type(images).__name__}")
    if result.modality == "radiograph":
        assert images is None or isinstance(images, RadiographImages)
        words = _shared(result, _RADIOGRAPH_VERDICTS) | risk_context(result, images)
        page = _template("radiograph.html.j2").render(words)
    else:
        assert images is None or isinstance(images, ReportImages)
        page = _template("ct.html.j2").render(_shared(result, _VERDICTS) | _context(result, images))
    path.write_text(page, encoding="utf-8")


@lru_cache(maxsize=2)
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("osteo_monai.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _shared(result: ScreeningResult, verdicts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """What every report tells: verdict, findings, models and times."""
    title, sentence = verdicts[result.verdict]
    return {
        "result": result,
        "verdict": {"key": result.verdict, "title": title, "sentence": sentence},
        "findings": [
            (heading, [f for f in result.findings if f.severity is severity], severity.value)
            for severity, heading in _SEVERITIES
            if any(f.severity is severity for f in result.findings)
        ],
        "seconds": _seconds(result),
    }


def _context(result: ScreeningResult, images: ReportImages | None) -> dict[str, Any]:
    measured = result.verdict in ("accepted", "accepted_with_warnings")
    density = result.density if measured else None
    levels = result.levels if measured else ()
    thresholds = _thresholds(result)
    axial, column = _pictures(result, images, levels)
    return {
        "summary": None if density is None else _summary(result, density, thresholds),
        "axial": axial,
        "outlined": images is not None and images.bodies is not None,
        "column": column,
        "level_names": [str(m.level) for m in levels],
        "level_rows": _level_rows(result, levels, thresholds),
        "density_picture": None if density is None else _density_picture(result, density, thresholds),
        "opinions": _opinions(result, images, thresholds) if measured and result.opinions else None,
        "last_rib": next((f.message for f in result.findings if f.code == "last_rib"), None),
        "above": bodies_above_words(result.bodies_above, bool(result.levels_found)),
        "alone": _alone(levels),
        "found_rows": _found_rows(result),
        "methods": _methods(result, thresholds) if measured else [],
        "acquisition": _acquisition(result),
    }


def _alone(levels: Sequence[LevelMeasurement]) -> str:
    """Return ``L1 alone`` where one level was measured, else nothing."""
    return f"{levels[0].level} alone" if len(levels) == 1 else ""


def _found_rows(result: ScreeningResult) -> list[tuple[str, str, str, str]]:
    """Rows (name, certainty, runner-up, centre) from the top down; one for all bodies above the named ones."""
    rows = [
        (str(found.level), percent_words(found.certainty), str(found.runner_up or "none"), _point(found.centre_mm))
        for found in result.levels_found
    ]
    if rows and result.bodies_above:
        many = "1 body" if result.bodies_above == 1 else f"{result.bodies_above} bodies"
        rows.insert(0, (f"above {HIGHEST_NAMED}", "not named", "none", many))
    return rows


def _pictures(
    result: ScreeningResult, images: ReportImages | None, levels: tuple[LevelMeasurement, ...]
) -> tuple[list[Picture], Picture | None]:
    """Axial pictures of the measured levels (or of L1 and L2 where they can be seen) and the column views."""
    if images is None:
        return [], None
    if not images.levels and result.levels_found:
        images = ReportImages(images.hu, images.affine, images.bodies, images.regions, result.levels_found)
    wanted: list[tuple[VertebraLevel, int, str]] = []
    if levels:
        for one in levels:
            number = "" if one.instance_number is None else f"instance {one.instance_number}"
            wanted.append((one.level, one.slice_index, number))
    else:
        for level in SCREENED_LEVELS:
            k = axial_slice(images, level)
            if k is not None:
                wanted.append((level, k, ""))
    axial = [axial_picture(images, level, k, number) for level, k, number in wanted]
    names, slices = [level for level, _, _ in wanted], [k for _, k, _ in wanted]
    return axial, column_picture(images, names, slices, result.bodies_above)


def _thresholds(result: ScreeningResult) -> DensityThresholds:
    """The thresholds that were applied, recovered from the result: density minus distance; Pan's where none were."""
    default = DensityThresholds()
    low, high, standard = default.osteoporosis_below, default.normal_above, default.standard
    if result.density is not None:
        if result.distance_to_thresholds is not None:
            # the difference of two floats seldom hits a round number exactly
            low, high = (
                round(result.density.mg_cm3 - result.distance_to_thresholds[key], 6)
                for key in ("osteoporosis_below", "normal_above")
            )
        if result.status is not None:  # a class is only ever derived within one standard
            standard = result.density.standard
    return DensityThresholds(low, high, standard, result.thresholds_source or default.source)


def _summary(result: ScreeningResult, density: Density, thresholds: DensityThresholds) -> dict[str, Any]:
    """The head of a measured report, in words."""
    names = [str(m.level) for m in result.levels]
    of_levels = f"mean of {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else _alone(result.levels)
    return {
        "density": density_words(density.mg_cm3, thresholds),
        "interval": f"{density.interval_low:.1f} to {density.interval_high:.1f}",
        "standard": density.standard,
        "of_levels": of_levels,
        "status": result.status,
        "status_note": _status_note(result.status, density, thresholds),
        "distances": _distances(density, thresholds),
        "percentile": _percentile(result, density),
    }


def _status_note(status: BoneStatus | None, density: Density, thresholds: DensityThresholds) -> str:
    if status is None:
        return "No class is given."
    ends = {thresholds.status(value, density.standard) for value in (density.interval_low, density.interval_high)} - {
        status
    }
    if not ends:
        return "The whole 90 % interval lies in this class."
    others = " and ".join(sorted(ends))
    return f"The 90 % interval reaches into {others}: the class is not certain."


def _distances(density: Density, thresholds: DensityThresholds) -> list[str]:
    if density.standard is not thresholds.standard:
        return []
    words = []
    for cut in (thresholds.osteoporosis_below, thresholds.normal_above):
        distance = density.mg_cm3 - cut
        size = f"{abs(distance):.1f}" if abs(distance) >= 0.05 or distance == 0 else f"{abs(distance):.2g}"
        if abs(distance) < 1e-6:
            words.append(f"exactly at {cut:g}")
        else:
            words.append(f"{size} {'above' if distance > 0 else 'below'} {cut:g}")
    return words


def _percentile(result: ScreeningResult, density: Density) -> tuple[str, str]:
    """Percentile against the reference group and how it was had, or what is missing for it."""
    age = result.acquisition.age_years if result.acquisition else None
    sex = result.acquisition.sex if result.acquisition else None
    missing = [word for word, value in (("age", age), ("sex", sex)) if value is None]
    if age is None or sex is None:
        return "not given", f"{' and '.join(missing).capitalize()} unknown: no percentile is given."
    norm = density_norm(age, sex)
    if norm is None:
        low, high = NORM_AGES
        return "not given", f"No norm for age {int(age)}: {NORM_NAME} is used from {low:.0f} to below {high:.0f} years."
    if density.standard is not NORM_STANDARD:
        return "not given", f"The density is in {density.standard}, {NORM_NAME} in {NORM_STANDARD}."
    middle, lowest, highest = (
        percentile_words(norm.percentile(value, density.standard))
        for value in (density.mg_cm3, density.interval_low, density.interval_high)
    )
    return middle, f"90 % interval {lowest} to {highest}. {_norm_words(norm)}"


def _norm_words(norm: DensityNorm) -> str:
    return (
        f"Percentile of {norm.group} in {NORM_NAME} ({norm.mean:.1f} ± {norm.sd:.1f} mg/cm³, "
        f"n = {norm.subjects}, normal approximation)."
    )


def _density_picture(result: ScreeningResult, density: Density, thresholds: DensityThresholds) -> Picture:
    facts = result.acquisition
    regression = next((o.density for o in result.opinions if o.name == "density_regression"), None)
    return density_picture(
        density, thresholds, facts.age_years if facts else None, facts.sex if facts else None, regression
    )


def _opinions(result: ScreeningResult, images: ReportImages | None, thresholds: DensityThresholds) -> dict[str, Any]:
    """The table of opinions, those that take no part last, and the picture of where the classifier looked."""
    by_name = {o.name: o for o in result.opinions}
    here = sum(name != "hu_rule" for name in by_name)
    rows = []
    for name, (title, made, trained) in _OPINIONS.items():
        if name in by_name:
            one = by_name[name]
            rows.append(
                {
                    "title": title,
                    "status": str(one.status or "none").capitalize(),
                    "detail": _chances(one),
                    "density": _opinion_density(one, thresholds),
                    "made": made,
                    "note": one.note,
                    "trained": one.trained_on or trained,
                }
            )
        else:
            reason = result.opinions_absent.get(name, "It took no part.")
            rows.append({"title": title, "absent": reason})
    activation = images.activation if images is not None and "classifier" in by_name else None
    return {
        "heading": f"{('No', 'One', 'Two', 'Three')[here]} opinion{'' if here == 1 else 's'}",
        "rows": rows,
        "finding": next((f for f in result.findings if f.code in _COMPARISONS), None),
        "trained": any(o.bundle for o in result.opinions),
        "picture": None if activation is None else activation_picture(activation),
    }


def _chances(opinion: Opinion) -> str:
    if opinion.probabilities is None:
        return ""
    words = ", ".join(f"{status} {percent_words(p)}" for status, p in opinion.probabilities.items())
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


def _opinion_density(opinion: Opinion, thresholds: DensityThresholds) -> list[str]:
    """Density with its interval and levels, or the HU of the rule, line by line."""
    found = opinion.density
    if found is not None:
        return [
            f"{density_words(found.mg_cm3, thresholds)} mg/cm³ {found.standard}",
            f"90 % interval {found.interval_low:.1f} to {found.interval_high:.1f}",
            ", ".join(
                f"{level} {density_words(one.mg_cm3, thresholds)}" for level, one in opinion.level_densities.items()
            ),
        ]
    return ["none" if opinion.l1_hu is None else f"L1 {_signed(opinion.l1_hu)} HU"]


def _level_rows(
    result: ScreeningResult, levels: tuple[LevelMeasurement, ...], thresholds: DensityThresholds
) -> list[tuple[str, list[str], bool]]:
    """Rows (quantity, one value per level, whether a new group of rows begins)."""
    if not levels:
        return []
    runner_up = {found.level: found.runner_up for found in result.levels_found}
    groups: list[list[tuple[str, list[str]]]] = [
        [
            (
                "Density (mg/cm³, with its standard)",
                [f"{density_words(m.density.mg_cm3, thresholds)} {m.density.standard}" for m in levels],
            ),
            ("90 % interval", [f"{m.density.interval_low:.1f} to {m.density.interval_high:.1f}" for m in levels]),
        ],
        [
            ("Mean HU", [_signed(m.hu.mean) for m in levels]),
            ("Median HU", [_signed(m.hu.median) for m in levels]),
            ("Standard deviation HU", [_signed(m.hu.sd) for m in levels]),
            ("10th to 90th percentile HU", [f"{_signed(m.hu.p10)} to {_signed(m.hu.p90)}" for m in levels]),
        ],
        [
            ("Trabecular region, rule", [m.region_name for m in levels]),
            ("Region, voxels", [f"{m.region_voxels}" for m in levels]),
            ("Region, volume (cm³)", [f"{m.region_volume_cm3:.2f}" for m in levels]),
            ("Region, area on the centre slice (mm²)", [f"{m.region_area_mm2:.0f}" for m in levels]),
        ],
        [
            ("Body, volume (cm³)", [f"{m.body_volume_cm3:.1f}" for m in levels]),
            ("Body, height (mm)", [f"{m.height_mm:.1f}" for m in levels]),
        ],
        [
            (
                "Certainty of the name (runner-up)",
                [percent_words(m.certainty) + (f" ({up})" if (up := runner_up.get(m.level)) else "") for m in levels],
            ),
            ("Centre slice (lowest slice is 0)", [f"{m.slice_index}" for m in levels]),
            ("DICOM InstanceNumber", [missing_words(m.instance_number) for m in levels]),
            ("Centre (mm; right, anterior, superior)", [_point(m.centre_mm) for m in levels]),
        ],
    ]
    return [(name, values, not k) for group in groups for k, (name, values) in enumerate(group)]


def _methods(result: ScreeningResult, thresholds: DensityThresholds) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if result.calibration is not None:
        rows += _calibration(result.calibration)
    low, high = thresholds.osteoporosis_below, thresholds.normal_above
    rows.append(
        (
            "Classes",
            f"{BoneStatus.NORMAL} above {high:g}, {BoneStatus.OSTEOPENIA} {low:g} to {high:g} (both included), "
            f"{BoneStatus.OSTEOPOROSIS} below {low:g} mg/cm³ {thresholds.standard}, mean of the levels",
        )
    )
    rows.append(("Thresholds from", thresholds.source))
    rows.append(
        ("Not to be mixed with", "areal density by DXA: the WHO definitions do not apply to a volumetric density")
    )
    rows.append(("Age and sex norms", NORM_SOURCE))
    return rows


def _calibration(used: CalibrationUsed) -> list[tuple[str, str]]:
    sign = "+" if used.intercept >= 0 else MINUS
    line = f"density = {used.slope:.4g} {TIMES} HU {sign} {abs(used.intercept):.4g} mg/cm³ {used.standard}"
    spread = f"{100 * used.relative_sd:.1f} %"
    if used.absolute_sd:
        spread += f" and {used.absolute_sd:.1f} mg/cm³"
    rows = [
        ("Calibration", f"{used.method}: {_CALIBRATIONS[used.method]}"),
        ("Calibration line", f"{line}, from the median HU of the region"),
        ("Its standard deviation", spread),
    ]
    if used.note:
        rows.append(("Calibration note", used.note))
    return rows


def _acquisition(result: ScreeningResult) -> list[tuple[str, str]]:
    facts = result.acquisition
    if facts is None:
        return []
    return [
        ("Age", "unknown" if facts.age_years is None else f"{int(facts.age_years)} years"),
        ("Sex", {"F": "female", "M": "male", None: "unknown"}[facts.sex]),
        ("Tube voltage", "not stated" if facts.kvp is None else f"{facts.kvp:g} kVp"),
        ("Kernel", missing_words(facts.kernel)),
        ("Slice thickness", "not stated" if facts.slice_thickness_mm is None else f"{facts.slice_thickness_mm:g} mm"),
        ("Contrast agent", missing_words(facts.contrast)),
        ("Scanner", " ".join(word for word in (facts.manufacturer, facts.model) if word) or "not stated"),
        ("Series", missing_words(facts.series_description)),
        ("Matrix", "not known" if facts.shape is None else f" {TIMES} ".join(str(n) for n in facts.shape)),
        (
            "Voxel",
            "not known"
            if facts.spacing_mm is None
            else f" {TIMES} ".join(f"{s:.3g}" for s in facts.spacing_mm) + " mm",
        ),
    ]


def _seconds(result: ScreeningResult) -> list[tuple[str, str]]:
    stages = {stage: seconds for stage, seconds in result.seconds.items() if stage != "total"}
    rows = [(stage.replace("_", " "), f"{seconds:.1f} s") for stage, seconds in stages.items()]
    if result.seconds:
        rows.append(("total", f"{result.seconds.get('total', sum(stages.values())):.1f} s"))
    return rows


def _point(point: tuple[float, float, float]) -> str:
    return ", ".join(_signed(value) for value in point)


def _signed(value: float) -> str:
    """One decimal with a true minus sign, and no minus before zero."""
    words = f"{value:.1f}"
    return words.replace("-", "") if float(words) == 0 else words.replace("-", MINUS)
