"""``osteo-monai sample-size``: numbers of subjects of a diagnostic study."""

from typing import Annotated

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.output import show

__all__ = ["area", "areas", "calibration", "rate", "rates"]

_Level = Annotated[float, typer.Option(metavar="VALUE", help="Confidence level; 1 minus the level of a test.")]
_Width = Annotated[float, typer.Option(metavar="VALUE", help="Width of the interval, from bound to bound.")]
_Power = Annotated[float, typer.Option(metavar="VALUE", help="Power of the test.")]
_Prevalence = Annotated[
    float | None,
    typer.Option(
        metavar="VALUE", help="Share of the condition, for the size of a whole cohort.", show_default="none stated"
    ),
]
_Ratio = Annotated[
    float, typer.Option(metavar="VALUE", help="Subjects without the condition for each subject with it.")
]


def _check(**values: float | None) -> OptionChecks:
    """Return the checks of options that must be shares."""
    checks = OptionChecks()
    for name, value in values.items():
        with checks.collect():
            if value is not None and not 0 < value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0 and below 1, got {value:g}")
    return checks


def rate(
    expected: Annotated[float, typer.Option(metavar="VALUE", help="Expected sensitivity or specificity.")],
    width: _Width,
    prevalence: _Prevalence = None,
    of: Annotated[
        str, typer.Option(metavar="NAME", help="Rate that is estimated: sensitivity or specificity.")
    ] = "sensitivity",
    level: _Level = 0.95,
) -> None:
    """Compute the subjects for an interval of a sensitivity or specificity of a stated width (Wilson's interval)."""
    from osteo_monai.statistics.sample_size import size_for_rate, with_prevalence

    checks = _check(expected=expected, width=width, prevalence=prevalence, level=level)
    with checks.collect():
        if of not in ("sensitivity", "specificity"):
            raise ValueError(f"--of must be sensitivity or specificity, got '{of}'")
    checks.finish()
    with_condition = of == "sensitivity"
    size = size_for_rate(expected, width, level)
    show(f"{size} subjects {'with' if with_condition else 'without'} the condition")
    if prevalence is not None:
        cohort = with_prevalence(*((size, 0) if with_condition else (0, size)), prevalence)
        show(_cohort(cohort, prevalence))


def _cohort(subjects: int, prevalence: float) -> str:
    return f"{subjects} subjects in a cohort with a prevalence of {prevalence:g}, in which this number is expected"


def _both_classes(sizes: tuple[int, int], prevalence: float | None) -> None:
    from osteo_monai.statistics.sample_size import with_prevalence

    show(f"{sizes[0]} subjects with and {sizes[1]} without the condition")
    if prevalence is not None:
        show(_cohort(with_prevalence(*sizes, prevalence), prevalence))


def area(
    expected: Annotated[float, typer.Option(metavar="VALUE", help="Expected area under the ROC curve.")],
    width: _Width,
    ratio: _Ratio = 1.0,
    prevalence: _Prevalence = None,
    level: _Level = 0.95,
) -> None:
    """Compute the subjects for an interval of an area under the ROC curve of a stated width (Hanley and McNeil)."""
    from osteo_monai.statistics.sample_size import size_for_area

    checks = _check(expected=expected, width=width, prevalence=prevalence, level=level)
    checks.finish()
    with checks.collect(area="--expected", ratio="--ratio"):
        sizes = size_for_area(expected, width, ratio, level)
    checks.finish()
    _both_classes(sizes, prevalence)


def areas(
    first: Annotated[float, typer.Option(metavar="VALUE", help="Expected area of one model.")],
    second: Annotated[float, typer.Option(metavar="VALUE", help="Expected area of the other model.")],
    correlation: Annotated[
        float, typer.Option(metavar="VALUE", help="Correlation of both estimated areas; 0 for different subjects.")
    ] = 0.0,
    ratio: _Ratio = 1.0,
    prevalence: _Prevalence = None,
    power: _Power = 0.8,
    level: _Level = 0.95,
) -> None:
    """Compute the subjects to show a difference of two areas of the same subjects (Hanley and McNeil)."""
    from osteo_monai.statistics.sample_size import size_for_area_difference

    checks = _check(first=first, second=second, prevalence=prevalence, power=power, level=level)
    checks.finish()
    with checks.collect(correlation="--correlation", area="--first and --second", ratio="--ratio"):
        sizes = size_for_area_difference(first, second, correlation, ratio=ratio, power=power, level=level)
    checks.finish()
    _both_classes(sizes, prevalence)


def rates(
    only_first: Annotated[
        float, typer.Option(metavar="VALUE", help="Share of subjects that only the first test classifies correctly.")
    ],
    only_second: Annotated[
        float, typer.Option(metavar="VALUE", help="Share of subjects that only the second test classifies correctly.")
    ],
    margin: Annotated[
        float,
        typer.Option(metavar="VALUE", help="Largest acceptable inferiority of the first test; 0 to show a difference."),
    ] = 0.0,
    power: _Power = 0.8,
    level: _Level = 0.95,
) -> None:
    """Compute the subjects to compare the sensitivity (or specificity) of two tests in the same subjects.

    Without a margin for McNemar's exact test, with a margin for non-inferiority of the first test. The subjects are
    those with the condition for a sensitivity, those without for a specificity.
    """
    from osteo_monai.statistics.sample_size import size_for_paired_rates

    checks = _check(power=power, level=level)
    checks.finish()
    with checks.collect(margin="--margin"):
        size = size_for_paired_rates(only_first, only_second, margin=margin, power=power, level=level)
    checks.finish()
    aim = f"to show that the first is worse by less than {margin:g}" if margin else "to show a difference"
    show(f"{size} subjects {aim}")


def calibration(
    prevalence: Annotated[float, typer.Option(metavar="VALUE", help="Expected share of events.")],
    slope_width: Annotated[
        float, typer.Option(metavar="VALUE", help="Width of the interval of the slope, from bound to bound.")
    ] = 0.4,
    ratio_width: Annotated[
        float, typer.Option(metavar="VALUE", help="Width of the interval of observed to expected, at a ratio of 1.")
    ] = 0.4,
    expected_area: Annotated[
        float, typer.Option(metavar="VALUE", help="Expected area under the ROC curve of the model.")
    ] = 0.8,
    level: _Level = 0.95,
) -> None:
    """Compute the subjects to validate the calibration of a model (Riley 2021)."""
    from osteo_monai.statistics.sample_size import size_for_calibration

    checks = _check(prevalence=prevalence, level=level, expected_area=expected_area)
    checks.finish()
    with checks.collect(area="--expected-area", widths="--slope-width and --ratio-width"):
        size = size_for_calibration(prevalence, slope_width, ratio_width, area=expected_area, level=level)
    checks.finish()
    show(f"{size} subjects, {round(size * prevalence)} of them with an event expected")
