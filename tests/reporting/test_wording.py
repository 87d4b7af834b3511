"""Text of numbers: a printed density never contradicts its class, a certainty is never rounded up to 100 %."""

import pytest

from osteo_monai.domain import DensityThresholds
from osteo_monai.reporting.wording import (
    HIGHEST_NAMED,
    bodies_above_words,
    density_words,
    ordinal,
    percentile_words,
)
from osteo_monai.screening.ct.spines import NAMED_LEVELS
from osteo_monai.utils.text import percent_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (96.44, "96.4"),
        (80.0, "80.0"),
        (79.97, "79.97"),
        (79.9, "79.9"),
        (79.996, "79.996"),
        (80.04, "80.04"),
        (120.0, "120.0"),
        (120.04, "120.04"),
        (119.96, "119.96"),
        (79.99999, "79.99999"),
    ],
)
def test_density_stays_on_its_side_of_the_thresholds(value: float, text: str) -> None:
    assert density_words(value, DensityThresholds()) == text
    assert DensityThresholds().status(float(text), DensityThresholds().standard) == DensityThresholds().status(
        value, DensityThresholds().standard
    )


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, ">99 %"), (0.999, ">99 %"), (0.99, "99 %"), (0.29, "29 %"), (0.589, "58 %"), (0.0, "0 %")],
)
def test_percent(probability: float, text: str) -> None:
    assert percent_words(probability) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (50, "50th"),
    ],
)
def test_ordinal(number: int, text: str) -> None:
    assert ordinal(number) == text


@pytest.mark.parametrize(
    ("percentile", "text"),
    [(0.4, "below the 1st"), (1.0, "1st"), (33.6, "34th"), (99.0, "99th"), (99.7, "above the 99th")],
)
def test_percentile(percentile: float, text: str) -> None:
    assert percentile_words(percentile) == text


def test_bodies_above_are_counted() -> None:
    assert bodies_above_words(0) == ""
    assert bodies_above_words(1) == "1 body above T9 was found and is not named."
    assert bodies_above_words(8) == "8 bodies above T9 were found and are not named."
    assert bodies_above_words(8, named=False) == "8 bodies were found, and none can be named."
    assert bodies_above_words(1, named=False) == "1 body was found, and none can be named."
    assert bodies_above_words(0, named=False) == ""


def test_the_highest_name_is_that_of_screening() -> None:
    assert NAMED_LEVELS[0] is HIGHEST_NAMED


def test_density_without_thresholds_has_one_decimal() -> None:
    assert density_words(79.97, None) == "80.0"
