"""Repeated scans from tables to limits of change, and follow-up against them, by the command line."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai import cli
from osteo_monai.data import Header, Manifest, Record, write_manifest
from osteo_monai.data.repeats import CONDITIONS, MEAN, read_measured_scans
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.repeatability import (
    PUBLISHED,
    GivenLimit,
    Verdict,
    changes,
    precisions,
    read_limits,
    write_repeatability,
)

ALIKE = {"kvp": "120", "contrast_phase": "native", "scanner": "A", "calibration": "physics", "standard": "K2HPO4"}


def table(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def scan(subject: str, day: str, density: float, **more: Any) -> dict[str, Any]:
    return {"subject_id": subject, "acquired": day, **ALIKE, "predicted_bmd_mg_cm3": density, **more}


def repeats(people: int, sd: float, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(people):
        true = rng.normal(110, 30)
        for k in range(2):
            l1, l2 = rng.normal(true + 4, sd), rng.normal(true - 4, sd)
            levels = {"predicted_bmd_L1_mg_cm3": l1, "predicted_bmd_L2_mg_cm3": l2}
            rows.append(scan(f"p{n}", f"2024-01-{1 + 7 * k:02d}", (l1 + l2) / 2, image=f"{n}/{k}.nii", **levels))
    return rows


def test_precision_of_simulated_pairs_by_level_and_mean(tmp_path: Path) -> None:
    path = table(tmp_path / "line.csv", repeats(400, 4.0))
    found = {p.level: p for p in precisions(read_measured_scans([path]).scans)}
    assert list(found) == [MEAN, "L1", "L2"]
    assert {p.method for p in found.values()} == {"line"}
    assert {p.found.df for p in found.values()} == {400}
    for level, true in ((MEAN, 4.0 / np.sqrt(2)), ("L1", 4.0), ("L2", 4.0)):
        assert true in found[level].found.rms_sd
        assert found[level].found.lsc.value == pytest.approx(2.772 * true, rel=0.1)


def test_methods_are_separate(tmp_path: Path) -> None:
    rows = [row | {"model": model} for model, sd in (("a", 1.0), ("b", 8.0)) for row in repeats(60, sd)]
    found = precisions(read_measured_scans([table(tmp_path / "both.csv", rows)]).scans)
    means = {p.method: p.found.rms_sd.value for p in found if p.level == MEAN}
    assert means["b"] > 5 * means["a"]


def test_scans_under_different_conditions_are_no_repeats(tmp_path: Path) -> None:
    rows = repeats(20, 2.0)
    for row in rows[1:12:2]:  # the second scan of six people, with contrast agent
        row |= {"contrast_phase": "portal_venous", "predicted_bmd_mg_cm3": row["predicted_bmd_mg_cm3"] + 25}
    found = [p for p in precisions(read_measured_scans([table(tmp_path / "t.csv", rows)]).scans) if p.level == MEAN]
    same, anything = found
    assert (same.conditions, same.found.df) == ("same", 14)
    assert (anything.conditions, anything.found.df, dict(anything.differing)) == ("any", 20, {"contrast_phase": 6})
    assert anything.found.rms_sd.value > 3 * same.found.rms_sd.value


def test_a_scan_years_later_is_no_repeat(tmp_path: Path) -> None:
    rows = [scan("a", "2020-01-01", 120), scan("a", "2020-01-09", 122), scan("a", "2024-01-01", 90)]
    rows += [scan("b", "2020-01-01", 100), scan("b", "2023-01-01", 70)]
    scans = read_measured_scans([table(tmp_path / "t.csv", rows)])
    (found,) = precisions(scans.scans)
    assert (found.found.subjects, found.found.df) == (1, 1)
    assert found.found.rms_sd.value == pytest.approx(np.sqrt(2))
    assert precisions(scans.scans, within_days=5000)[0].found.df == 3
    with pytest.raises(UnusableInputError, match="two scans by one method within 3 days"):
        write_repeatability(scans, tmp_path / "out", within_days=3)


def test_summary_of_a_screening_with_its_manifest(tmp_path: Path) -> None:
    """Rows of summary.csv have no subject; the manifest has it, by the path of the image."""
    rows = []
    records = []
    for number, (subject, density) in enumerate([("a", 100.0), ("a", 104.0), ("b", 80.0), ("b", 78.0)]):
        day = f"2024-02-{1 + number:02d}"
        image = f"scans/{subject}/ct{number}.nii.gz"
        records.append(Record(image=image, subject_id=subject, acquired=day, scanner="A", contrast_phase="native"))
        cells = {"study": f"{subject}__ct{number}.nii.gz", "folder": f"{subject}__ct{number}.nii.gz", "kvp": 120.0}
        cells |= {"verdict": "accepted", "calibration": "physics", "standard": "K2HPO4", "levels": "L1 L2"}
        cells |= {"refusals": ""}
        rows.append(cells | {"density_mg_cm3": density, "L1_mg_cm3": density + 1, "L2_mg_cm3": density - 1})
    rows.append(rows[0] | {"study": "b__ct3.nii.gz", "folder": "b__ct3.nii.gz", "density_mg_cm3": "", "L1_mg_cm3": "",
                           "L2_mg_cm3": "", "refusals": "metal"})  # fmt: skip
    manifest = tmp_path / "manifest.json"
    header = Header(name="n", description="d", virtual=True)
    write_manifest(Manifest(header=header, splits={"test": tuple(records)}), manifest)
    read = read_measured_scans([table(tmp_path / "summary.csv", rows)], manifest)
    assert dict(read.unmeasured) == {"metal": 1}
    assert all(s.virtual and s.conditions["scanner"] == "A" and s.acquired for s in read.scans)
    found = {p.level: p.found for p in precisions(read.scans)}
    assert set(found) == {MEAN, "L1", "L2"}
    assert found[MEAN].rms_sd.value == pytest.approx(np.sqrt((8 + 2) / 2))
    with pytest.raises(UnusableInputError, match="a column subject_id must be present, or a manifest be given"):
        read_measured_scans([tmp_path / "summary.csv"])


def test_the_same_image_twice_is_refused(tmp_path: Path) -> None:
    rows = [scan("a", "2024-01-01", 100, image="x.nii"), scan("a", "2024-01-02", 100, image="x.nii")]
    with pytest.raises(UnusableInputError, match="must have another image than 't.csv', line 2"):
        read_measured_scans([table(tmp_path / "t.csv", rows)])


def test_wrong_cells_are_named_by_line_and_never_by_subject(tmp_path: Path) -> None:
    rows = [scan("secret", "31.12.2024", 100), scan("", "2024-01-01", 100), scan("secret", "2024-01-01", 5000)]
    with pytest.raises(UnusableInputError) as caught:
        read_measured_scans([table(tmp_path / "t.csv", rows)])
    text = str(caught.value)
    assert "line 2: acquired must be a day such as 2021-07-31, got '31.12.2024'" in text
    assert "line 3: subject_id is empty" in text
    assert "line 4: predicted_bmd_mg_cm3 must be a density in mg/cm3, got '5000'" in text
    assert "secret" not in text
    with pytest.raises(UnusableInputError, match="a column predicted_bmd_mg_cm3 .* must be present"):
        read_measured_scans([table(tmp_path / "u.csv", [{"subject_id": "a", "hu_l1": 100}])])
    with pytest.raises(UnusableInputError, match="at least one row with a density"):
        read_measured_scans([table(tmp_path / "v.csv", [scan("a", "2024-01-01", 100) | {"predicted_bmd_mg_cm3": ""}])])


# --- follow-up ----------------------------------------------------------------------------------------------------


def one_change(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], limit: Any = PUBLISHED) -> Any:
    (change,) = changes(read_measured_scans([table(tmp_path / "t.csv", [first, second])]).scans, limit)
    return change


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(108.01, Verdict.INCREASE), (107.99, Verdict.NO_CHANGE), (92.01, Verdict.NO_CHANGE), (92.0, Verdict.DECREASE)],
)
def test_a_change_of_the_limit_or_more_counts(tmp_path: Path, after: float, verdict: Verdict) -> None:
    change = one_change(tmp_path, scan("a", "2020-01-01", 100), scan("a", "2022-01-01", after), GivenLimit(8.0))
    assert change.verdict is verdict
    assert change.difference == pytest.approx(after - 100)
    assert change.years == pytest.approx(2.0, abs=0.01)
    assert "a" not in change.sentence.split()


def test_the_published_limit_is_relative_to_the_mean(tmp_path: Path) -> None:
    change = one_change(tmp_path, scan("a", "2020-01-01", 100), scan("a", "2022-01-01", 90))
    assert change.lsc == pytest.approx(2.7718 * 0.047 * 95, rel=1e-4)
    assert change.verdict is Verdict.NO_CHANGE
    assert "10.1186/s41747-024-00483-9" in PUBLISHED.source
    low = one_change(tmp_path, scan("a", "2020-01-01", -5), scan("a", "2022-01-01", 3))
    assert low.verdict is Verdict.NOT_COMPARED


@pytest.mark.parametrize("condition", CONDITIONS)
def test_scans_under_different_conditions_are_not_compared(tmp_path: Path, condition: str) -> None:
    second = scan("a", "2022-01-01", 40) | {condition: "100"}
    change = one_change(tmp_path, scan("a", "2020-01-01", 100), second)
    assert change.verdict is Verdict.NOT_COMPARED
    assert "must be the same" in change.reason
    unknown = one_change(tmp_path, scan("a", "2020-01-01", 100), second | {condition: ""})
    assert unknown.verdict is Verdict.DECREASE
    assert len(unknown.assumed) == 1
    assert "did not change" in unknown.sentence


def test_equal_tube_voltages_may_be_written_differently(tmp_path: Path) -> None:
    change = one_change(tmp_path, scan("a", "2020-01-01", 100), scan("a", "2022-01-01", 99) | {"kvp": "120.0"})
    assert change.verdict is Verdict.NO_CHANGE


def test_each_scan_is_compared_with_the_first_and_the_previous_one(tmp_path: Path) -> None:
    rows = [scan("a", day, d) for day, d in (("2022-01-01", 96), ("2020-01-01", 100), ("2024-01-01", 88))]
    found = changes(read_measured_scans([table(tmp_path / "t.csv", rows)]).scans, GivenLimit(9.0))
    pairs = [(c.first.year, c.second.year, c.verdict) for c in found]
    decrease, none = Verdict.DECREASE, Verdict.NO_CHANGE
    assert pairs == [(2020, 2022, none), (2020, 2024, decrease), (2022, 2024, none)]


def test_follow_up_needs_days_and_pairs(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="acquired must be a day .* got 1 rows without"):
        one_change(tmp_path, scan("a", "2020-01-01", 100), scan("a", "", 100))
    with pytest.raises(UnusableInputError, match="at least one subject must have two scans"):
        one_change(tmp_path, scan("a", "2020-01-01", 100), scan("b", "2021-01-01", 100))
    same_day = one_change(tmp_path, scan("a", "2020-01-01", 100), scan("a", "2020-01-01", 50))
    assert same_day.reason == "The scans must be of different days."


def test_commands_from_repeats_to_follow_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = table(tmp_path / "line.csv", repeats(30, 3.0))
    out = tmp_path / "out"
    assert cli.run(["repeatability", str(line), "-o", str(out), "--virtual"]) == 0
    printed = capsys.readouterr().out
    assert "mean by line: RMS SD" in printed
    assert "30 subjects, 30 degrees of freedom" in printed
    content = json.loads((out / "repeatability.json").read_text())
    assert content["virtual_patients"]
    assert [entry["level"] for entry in content["precision"]] == [MEAN, "L1", "L2"]
    report = (out / "report.html").read_text()
    assert "Virtual patients" in report
    assert "data:image/svg+xml" in report
    assert (out / "figures" / "repeats_1.png").is_file()
    limit = read_limits(out / "repeatability.json").mg_cm3("line", MEAN, 100)
    rows = [scan("p1", "2020-01-01", 100, model="line"), scan("p1", "2023-01-01", 100 - limit - 0.1, model="line")]
    person = table(tmp_path / "person.csv", rows)
    words = ["follow-up", str(person), "-o", str(tmp_path / "fu"), "--precision", str(out / "repeatability.json")]
    assert cli.run(words) == 0
    printed = capsys.readouterr().out
    assert f"decrease exceeds the least significant change of {limit:.1f} mg/cm3." in printed
    assert "p1" not in printed
    assert "decrease exceeds" in (tmp_path / "fu" / "follow_up.csv").read_text()
    assert "Research use only" in (tmp_path / "fu" / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "got"),
    [("no", "not JSON"), ("{}", "another JSON file"),
     ('{"schema": "osteo_monai repeatability 1", "precision": [{"method": "a"}]}', "missing or out of range"),
     ('{"schema": "osteo_monai repeatability 1", "precision": []}', "under the same conditions, got none")],
)  # fmt: skip
def test_another_file_is_no_precision(tmp_path: Path, content: str, got: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UnusableInputError, match=got):
        read_limits(path)


def test_options_that_are_wrong_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(tmp_path / "t.csv", [scan("a", "2020-01-01", 100), scan("a", "2022-01-01", 99)])
    for words, said in (
        (["follow-up", "--lsc", "-3"], "--lsc must be a positive number in mg/cm3, got -3"),
        (["follow-up", "--lsc", "3", "--precision", str(rows)], "--lsc must not be given together with --precision"),
        (["repeatability", "--level", "95"], "--level must be between 0 and 1, got 95"),
        (["repeatability"], "at least one subject must have two scans by one method within 31 days, got none"),
    ):
        assert cli.run([words[0], str(rows), "-o", str(tmp_path / "out"), *words[1:]]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
