"""``osteo-monai sample-size``: the numbers are those of the functions, wrong values are named by their options."""

import pytest

from osteo_monai.cli import run
from osteo_monai.statistics.sample_size import size_for_area, size_for_calibration, size_for_paired_rates, size_for_rate

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, words: str) -> str:
    assert run(["sample-size", *words.split()]) == 0
    return capsys.readouterr().out


def test_numbers_are_those_of_the_functions(capsys: Capture) -> None:
    text = said(capsys, "rate --expected 0.9 --width 0.1 --prevalence 0.25")
    assert text.splitlines() == [
        f"{size_for_rate(0.9, 0.1)} subjects with the condition",
        "564 subjects in a cohort with a prevalence of 0.25, in which this number is expected",
    ]
    assert "188 subjects in a cohort" in said(
        capsys, "rate --expected 0.9 --width 0.1 --prevalence 0.25 --of specificity"
    )
    with_it, without = size_for_area(0.9, 0.1, 3)
    assert f"{with_it} subjects with and {without} without" in said(capsys, "area --expected 0.9 --width 0.1 --ratio 3")
    assert f"{size_for_paired_rates(0.1, 0.03)} subjects to show a difference" in said(
        capsys, "rates --only-first 0.1 --only-second 0.03"
    )
    assert f"{size_for_calibration(0.3, 0.4, 0.4)} subjects, 163 of them" in said(
        capsys, "calibration --prevalence 0.3"
    )
    # the table of Hanley and McNeil 1983 has other variances; more correlation needs fewer subjects
    few, many = (
        int(said(capsys, f"areas --first 0.85 --second 0.8 --correlation {r}").split()[0]) for r in ("0.6", "0.2")
    )
    assert few < many


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("area --expected 0.4 --width 0.1", "--expected must be above 0.5, got 0.4"),
        ("rate --expected 2 --width 0.1", "--expected must be above 0 and below 1, got 2"),
        ("rate --expected 0.9 --width 0.1 --of recall", "--of must be sensitivity or specificity, got 'recall'"),
        ("areas --first 0.8 --second 0.8", "the areas must differ, got 0.8 twice"),
        ("areas --first 0.8 --second 0.9 --correlation 2", "--correlation must be at least -1 and below 1, got 2"),
        ("rates --only-first 0.7 --only-second 0.7", "must add up to more than 0 and at most 1"),
        ("calibration --prevalence 0.3 --slope-width 0", "--slope-width and --ratio-width must be above 0"),
    ],
)
def test_wrong_values_are_named(capsys: Capture, words: str, sentence: str) -> None:
    assert run(["sample-size", *words.split()]) == 2
    assert sentence in capsys.readouterr().err
