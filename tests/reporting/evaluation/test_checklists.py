"""Checklists of reporting guidelines: what the files state is filled in, other items are for the authors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.cli import run
from osteo_monai.data import write_predictions
from osteo_monai.reporting.evaluation import EvaluationOptions, Missing, evaluate


def predictions(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = [
        {
            "subject_id": f"p{number}",
            "osteoporosis": number % 3 == 0,
            "probability_osteoporosis": round(float(rng.uniform(0.1, 0.5) + 0.3 * (number % 3 == 0)), 3),
            "sex": "FM"[number % 2],
        }
        for number in range(90)
    ]
    write_predictions(folder / "net.csv", rows)
    return folder / "net.csv"


def manifest(folder: Path) -> Path:
    records = [
        {
            "subject_id": f"p{n}", "image": f"{n}.nii.gz", "age": 50 + n % 30, "sex": "FM"[n % 2],
            "centre": "BC"[n % 2], "acquired": f"2021-0{1 + n % 9}-01",
        }
        for n in range(90)
    ]  # fmt: skip
    head = {"name": "cohort", "description": "Chest CT.", "virtual": False, "licence": "CC BY 4.0", "source": "Clinic"}
    path = folder / "manifest.json"
    path.write_text(json.dumps(head | {"test": records}))
    return path


def found(folder: Path, **more: Any) -> dict[str, dict[str, Any]]:
    tables = evaluate(EvaluationOptions((predictions(folder),), resamples=100, checklist=True, **more)).tables
    return {name: {str(row["item"]): row["found"] for row in tables[name].rows} for name in ("tripod_ai", "stard_ai")}


def test_items_are_complete_and_state_what_is_known(tmp_path: Path) -> None:
    tables = found(tmp_path, manifest=manifest(tmp_path))
    tripod, stard = tables["tripod_ai"], tables["stard_ai"]
    # published numbers: 40 items in 48 rows and 27 in 52
    parts = {"15": "abcd", "16": "abc", "17": "ab", "26": "ab", "40": "ab"}
    assert list(stard) == [f"{n}{p}" for n in range(1, 41) for p in parts.get(str(n), ("",))]
    parts = {"3": "abc", "5": "ab", "6": "abc", "8": "abc", "9": "abc", "12": "abcdefg", "18": "abcdef", "20": "abc"}
    parts |= {"23": "ab", "27": "abc"}
    assert list(tripod) == [f"{n}{p}" for n in range(1, 28) for p in parts.get(str(n), ("",))]
    assert (len(stard), len(tripod)) == (48, 52)
    assert "90 subjects, 90 images, 30 with osteoporosis" in tripod["21"] == tripod["20a"] == stard["24"]
    assert tripod["5b"] == "Acquired from 2021-01-01 to 2021-09-01 (90 of 90 images)."
    assert tripod["6a"] == "2 centres: B and C."
    assert "osteo_monai" in tripod["18f"]
    assert tripod["18e"] == "Licence of the data: CC BY 4.0."
    assert tripod["20b"] == "90 subjects: age 64.5 (SD 8.7) years, 45 women of 90."
    assert tripod["14"].startswith("By sex with tests")
    assert all(isinstance(tripod[item], Missing) for item in ("17", "18a", "26"))


def test_without_a_manifest_its_items_are_for_the_authors(tmp_path: Path) -> None:
    tripod = found(tmp_path)["tripod_ai"]
    assert all(isinstance(tripod[item], Missing) for item in ("5a", "5b", "6a", "18e"))
    assert not isinstance(tripod["21"], Missing)


def test_checklists_are_written_on_request_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(predictions(tmp_path)), "--no-track", "--resamples", "100"]
    assert run([*words, "-o", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "tables" / "stard_ai.csv").exists()
    assert run([*words, "-o", str(tmp_path / "out"), "--checklist", "--manifest", str(manifest(tmp_path))]) == 0
    assert "STARD-AI (2025)" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "tables" / "tripod_ai.csv").exists()
    assert run([*words, "-o", str(tmp_path / "no"), "--manifest", str(manifest(tmp_path))]) == 2
    assert "--manifest must be given with checklist only" in capsys.readouterr().err
