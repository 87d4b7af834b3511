"""Share of heat maps on bone."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.errors import UnusableInputError
from osteo_monai.statistics.heat_shares import heat_shares


def _table(file: Any, rows: Any) -> Any:
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)))
        table.writeheader()
        table.writerows(rows)
    return file


def test_heat_on_bone_is_averaged_by_cohort_and_empty_maps_are_counted(tmp_path: Path) -> Any:
    def row(subject: Any, cohort: Any, heat: Any, attention: Any, area: Any) -> Any:
        shares = {"heat_on_bone": heat, "attention_on_bone": attention, "bone_area": area}
        return {"subject_id": subject, "cohort": cohort, "probability_osteoporosis": 0.5, **shares}

    people = [row("a", "test", 0.5, 0.2, 0.25), row("b", "test", 0.3, 0.4, 0.2), row("c", "test", "", 0.3, 0.3)]
    file = _table(tmp_path / "p.csv", [*people, row("d", "external_1", 0.6, 0.3, 0.3)])
    heat, attention, away, _ = heat_shares(file)
    assert (heat["cohort"], heat["map"], heat["images"], heat["empty"]) == ("test", "heat", 2, 1)
    assert [heat["on_bone"], heat["bone_area"]] == pytest.approx([0.4, 0.225])
    assert heat["gain"] == pytest.approx((2.0 + 1.5) / 2)
    half = 1.96 * math.sqrt(0.02) / math.sqrt(2)  # the SD of 0.5 and 0.3 is the root of 0.02
    assert [heat["low"], heat["high"]] == pytest.approx([0.4 - half, 0.4 + half])
    assert [attention["images"], attention["on_bone"]] == pytest.approx([3, 0.3])
    assert (away["cohort"], away["on_bone"], math.isnan(away["low"])) == ("external_1", 0.6, True)
    bare = [{"subject_id": "a", "probability_osteoporosis": 0.5}]
    with pytest.raises(UnusableInputError, match="evaluate the bundle with --heat_maps True"):
        heat_shares(_table(tmp_path / "bare.csv", bare))


@pytest.mark.parametrize("value", ["half", "1.5"])
def test_shares_must_be_numbers_between_0_and_1(tmp_path: Path, value: str) -> None:
    row = {"subject_id": "a", "probability_osteoporosis": 0.5, "heat_on_bone": value, "bone_area": 0.3}
    with pytest.raises(UnusableInputError, match="heat_on_bone must be numbers between 0 and 1 in each row of 'p.csv'"):
        heat_shares(_table(tmp_path / "p.csv", [row]))
