"""Drift of the HU of a scanner over time."""

import csv
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from osteo_monai.cli.app import run
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.summary import SUMMARY_COLUMNS
from osteo_monai.site_calibration import Drift, check_drift, read_summaries


def summary(
    path: Path,
    n: int,
    per_year: float = 0.0,
    step: float = 0.0,
    model: str = "Brilliance 64",
    seed: int = 0,
    **more: str,
) -> Path:
    """Write a table of n scans within two years whose air and fat drift, or jump after the first half."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, SUMMARY_COLUMNS)
        writer.writeheader()
        for i in range(n):
            years = 2.0 * i / max(n - 1, 1)
            error = per_year * years + step * (i >= n / 2)
            row = {
                "study": f"s{i}",
                "modality": "ct",
                "manufacturer": "Philips",
                "model": model,
                "kvp": "120.0",
                "acquired": (date(2024, 1, 1) + timedelta(days=365.25 * years)).isoformat(),
                "air_hu": f"{-1000.0 + error + rng.normal(0, 1.0):.1f}",
                "fat_hu": f"{-105.0 + error + rng.normal(0, 7.0):.1f}",
                "aorta_hu": f"{45.0 if i % 3 else 160.0 + rng.normal(0, 4.0):.1f}",
            }
            writer.writerow(row | more)
    return path


def verdicts(*paths: Path) -> dict[tuple[str, str], Drift]:
    return {(d.scanner, d.tissue): d for d in check_drift(read_summaries(paths)[0])}


NAME = "Philips Brilliance 64, 120 kVp"


def test_a_stable_scanner(tmp_path: Path) -> None:
    found = verdicts(summary(tmp_path / "a.csv", 200))
    air = found[NAME, "air"]
    assert air.verdict == "stable"
    assert air.per_year.low < 0 < air.per_year.high
    assert found[NAME, "fat"].verdict == "undecided"  # persons differ by 7 HU
    assert len(found[NAME, "aorta"].days) == 133  # native ones


@pytest.mark.parametrize("per_year", [-1.5, 1.5])
def test_a_drift_is_measured(tmp_path: Path, per_year: float) -> None:
    air = verdicts(summary(tmp_path / "a.csv", 200, per_year))[NAME, "air"]
    assert air.verdict == "drift"
    assert air.per_year.value == pytest.approx(per_year, abs=0.4)
    assert air.per_year.low <= per_year <= air.per_year.high


def test_a_step_is_found(tmp_path: Path) -> None:
    air = verdicts(summary(tmp_path / "a.csv", 100, step=6.0))[NAME, "air"]
    assert air.verdict == "drift"
    assert air.outside >= 40
    assert air.limits[0] < -1000 < air.limits[1]


def test_false_alarms_are_rare(tmp_path: Path) -> None:
    alarms = [
        d.verdict == "drift"
        for seed in range(60)
        for d in verdicts(summary(tmp_path / "a.csv", 120, seed=seed)).values()
        if d.tissue != "aorta"
    ]
    assert np.mean(alarms) <= 0.05


def test_scanners_and_voltages_are_separate(tmp_path: Path) -> None:
    found = verdicts(
        summary(tmp_path / "a.csv", 60),
        summary(tmp_path / "b.csv", 60, -2.0, model="iCT"),
        summary(tmp_path / "c.csv", 60, kvp="100.0"),
        summary(tmp_path / "d.csv", 30, station="CT2"),
    )
    assert {scanner for scanner, _ in found} == {
        NAME,
        "Philips Brilliance 64, 100 kVp",
        "Philips iCT, 120 kVp",
        "Philips Brilliance 64 CT2, 120 kVp",
    }
    assert [s for (s, tissue), d in found.items() if tissue == "air" and d.verdict == "drift"] == [
        "Philips iCT, 120 kVp"
    ]


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    first = summary(tmp_path / "a.csv", 40)
    _, left_out = read_summaries([first, first])
    assert left_out == {"already read from another table": 40}
    _, left_out = read_summaries([summary(tmp_path / "b.csv", 4, manufacturer="")])
    assert left_out == {"scanner unknown": 4}
    _, left_out = read_summaries([summary(tmp_path / "c.csv", 4, acquired="")])
    assert left_out == {"day unknown": 4}
    _, left_out = read_summaries([summary(tmp_path / "d.csv", 4, modality="radiograph")])
    assert left_out == {"no CT": 4}


def test_too_few_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match=r"at least 20 scans over 90 days .* got at most 12 scans"):
        verdicts(summary(tmp_path / "a.csv", 12))


def test_the_command_gives_verdict_chart_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stable, drifting = summary(tmp_path / "a.csv", 80), summary(tmp_path / "b.csv", 80, -2.0, model="iCT")
    assert run(["calibrate", "check", str(stable), "-o", str(tmp_path / "one")]) == 0
    assert "No drift found." in capsys.readouterr().out
    assert run(["calibrate", "check", str(stable), str(drifting), "-o", str(tmp_path / "two")]) == 3
    printed = capsys.readouterr().out
    assert "Drift of Philips iCT, 120 kVp" in printed
    assert "air stable" in printed
    for name in ("drift.csv", "drift.png", "drift.svg"):
        assert (tmp_path / "two" / name).stat().st_size > 200
    old = tmp_path / "old.csv"
    old.write_text("study,modality\na,ct\n")
    assert run(["calibrate", "check", str(old), "-o", str(tmp_path / "three")]) == 2
    assert "no column air_hu" in capsys.readouterr().err
