"""Properties of header handling for any text: ages, dates, numbers, and the rescale of stored values."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from osteo_monai.imaging import read_ct
from osteo_monai.imaging.acquisition import (
    OLDEST_YEARS,
    PLACEHOLDER_DAYS,
    clean_text,
    contrast_note,
    date_of,
    kernel_is_sharp,
    number,
    real_day,
    resolve_age,
    sex_of,
)
from osteo_monai.imaging.dicom import _as_stored

ANY_TEXT = st.text(max_size=60)
DAYS = st.dates(date(1901, 1, 2), date(2100, 1, 1))


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_age_is_unknown_or_plausible_and_never_repeated(age: str, born: str, seen: str) -> None:
    years, findings = resolve_age(age, born, seen)
    assert years is None or 0 <= years <= OLDEST_YEARS
    for finding in findings:
        for text in (age.strip(), born.strip()):
            assert len(text) < 6 or text not in finding.message


@given(st.integers(1, 120), st.sampled_from(["Y", ""]))
def test_whole_years_are_read_as_they_are(years: int, unit: str) -> None:
    assert resolve_age(f"{years:03d}{unit}", "", "") == (years, [])


@given(st.integers(1, 999), st.sampled_from("DWM"))
def test_ages_of_infants_are_fractions_of_years(count: int, unit: str) -> None:
    expected = count * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12}[unit]
    years, _ = resolve_age(f"{count:03d}{unit}", "", "")
    assert years == round(expected, 2)


@given(DAYS, DAYS)
def test_age_by_dates_is_the_number_of_birthdays(born: date, seen: date) -> None:
    assume(not {born, seen} & PLACEHOLDER_DAYS)
    years, _ = resolve_age("", born.strftime("%Y%m%d"), seen.strftime("%Y%m%d"))
    if born >= seen:
        assert years is None
        return
    birthdays = sum((born.month, born.day) <= (seen.month, seen.day) if y == seen.year else True
                    for y in range(born.year + 1, seen.year + 1))  # fmt: skip
    assert years == (birthdays if birthdays <= OLDEST_YEARS else None)


@given(DAYS, st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d101500", "%Y-%m-%dT10:15"]))
def test_dates_are_read_in_every_form(day: date, form: str) -> None:
    text = day.strftime(form)
    assert date_of(text) == day
    assert real_day(text) == (None if day in PLACEHOLDER_DAYS else day)


@given(ANY_TEXT)
def test_any_text_is_handled(text: str) -> None:
    day = date_of(text)
    assert day is None or 1800 <= day.year <= 2200
    assert kernel_is_sharp(text) in (True, False, None)
    assert sex_of(text) is None or text.strip().upper()[:1] in "FM"
    cleaned = clean_text(text)
    assert cleaned.isprintable()
    assert clean_text(cleaned) == cleaned
    note = contrast_note(text, "", None, ())
    assert note is None or note == f"agent: {text}"


@given(st.one_of(st.none(), st.floats(), st.text(max_size=20), st.lists(st.floats(), max_size=3)))
def test_numbers_are_finite_or_missing(value: object) -> None:
    result = number(value)
    assert result is None or np.isfinite(result)


@given(st.integers(-(2**20), 2**20), st.sampled_from([8, 12, 16]), st.booleans())
def test_padding_values_are_converted_as_stored(value: int, bits: int, signed: bool) -> None:
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    stored = _as_stored(value, bits, signed)
    assert (stored - value) % (1 << bits) == 0
    assert (-(1 << (bits - 1)) if signed else 0) <= stored < (1 << (bits - 1 if signed else bits))
    if bits != 12:
        assert stored == np.array(value).astype(kind)


@given(st.floats(0.9, 1.1).map(lambda v: round(v, 4)), st.integers(-1100, -950))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rescale_is_applied_to_stored_values(
    make_series: Callable[..., Path], canonical_hu: NDArray[np.int16], slope: float, intercept: int
) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    scan = read_ct(make_series(change))
    np.testing.assert_allclose(scan.hu, (canonical_hu + 1024.0) * slope + intercept, atol=1e-3)
