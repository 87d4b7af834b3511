from typing import Any

import pytest

from osteo_monai.imaging import kernel_is_sharp
from osteo_monai.imaging.acquisition import clean_text, date_of, real_day, resolve_age


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("B31f", False),
        ("Br38f 3", False),
        ("Bl57d", True),
        ("B70s", True),
        ("I26f/2", False),
        ("STANDARD", False),
        ("LUNG", True),
        ("BONEPLUS", True),
        ("B", False),
        ("YB", True),
        ("FC08", False),
        ("FC18-H", False),
        ("FC52", True),
        ("FC30", True),
        ("Body Sharp", True),
        ("Body Standard", False),
        ("something new", None),
        ("", None),
        (None, None),
    ],
)
def test_kernels(kernel: str | None, sharp: bool | None) -> None:
    assert kernel_is_sharp(kernel) is sharp


def test_clean_text() -> None:
    assert clean_text(["a", "b"]) == "a b"
    assert clean_text("x\x1b]0;evil\x07\ny") == "x ]0;evil y"
    assert len(clean_text("a" * 500)) == 80
    assert clean_text(None) == ""


@pytest.mark.parametrize(
    ("age", "born", "seen", "years", "codes"),
    [
        ("055Y", "", "20200601", 55, []),
        ("55", "", "", 55, []),
        ("", "", "20200601", None, []),
        # placeholders, one at a time
        ("000Y", "", "20200601", None, ["age_implausible"]),
        ("0", "", "", None, ["age_implausible"]),
        ("0Y", "", "", None, ["age_implausible"]),
        ("000D", "", "", None, ["age_implausible"]),
        ("999Y", "", "", None, ["age_implausible"]),
        ("121Y", "", "", None, ["age_implausible"]),
        ("ANON", "", "", None, ["age_implausible"]),
        ("d41d8cd98f00b204", "", "", None, ["age_implausible"]),
        ("-12Y", "", "", None, ["age_implausible"]),
        # birth dates that cannot be
        ("", "20200601", "20200601", None, ["age_implausible"]),
        ("", "20200602", "20200601", None, ["age_implausible"]),
        ("", "19000101", "20050601", None, ["age_implausible"]),
        ("", "20000101", "20200601", None, ["age_implausible"]),
        ("", "18500101", "20200601", None, ["age_implausible"]),
        ("", "00010101", "20200601", None, ["age_implausible"]),
        ("", "9f86d081884c7d65", "20200601", None, ["age_implausible"]),
        # nothing is said of a birth date that no study date stands against
        ("", "19600601", "", None, []),
        ("", "19600601", "20000101", None, []),
        # a believable entry wins over one that cannot be
        ("070Y", "20200601", "20200601", 70, []),
        ("070Y", "19000101", "20200601", 70, []),
        ("000Y", "19600601", "20200601", 60, ["age_implausible"]),
        # both are believable
        ("059Y", "19600601", "20200601", 59, []),
        ("070Y", "19600601", "20200601", 70, ["age_contradiction"]),
        # children stay children
        ("003D", "", "", 0.01, []),
        ("006W", "", "", 0.11, []),
        ("018M", "", "", 1.5, []),
        ("001D", "20200531", "20200601", 0.0, []),
        ("", "20191001", "20200601", 0, []),
        ("", "20100601", "20200601", 10, []),
    ],
)
def test_ages_that_cannot_be_are_unknown(age: str, born: str, seen: str, years: float | None, codes: list[Any]) -> None:
    resolved, findings = resolve_age(age, born, seen)
    assert resolved == years
    assert [f.code for f in findings] == codes
    for finding in findings:
        assert not {age, born} - {""} & set(finding.message.split())


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("20200601", "2020-06-01"),
        ("2020-06-01", "2020-06-01"),
        ("2020-06-01T10:30:00", "2020-06-01"),
        ("20200601103000.000000", "2020-06-01"),
        (" 20200601 ", "2020-06-01"),
        ("20200631", None),
        ("2020-0601", None),
        ("a2020b06c01", None),
        ("20200601ab12", None),
        ("11111111", None),
        ("99991231", None),
        ("", None),
    ],
)
def test_days(text: str, iso: str | None) -> None:
    day = date_of(text)
    assert (None if day is None else day.isoformat()) == iso


def test_a_day_that_stands_for_none_is_not_known() -> None:
    assert date_of("20000101") is not None
    assert real_day("20000101") is None
    assert real_day("20000102") is not None
