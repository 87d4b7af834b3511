"""The benchmark of density on public sets: comparison of results with references, tables, and one real run."""

import csv
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai.data import Header, Manifest, Record, read_predictions
from osteo_monai.domain import Finding, Severity, VertebraLevel
from osteo_monai.measurement.values import Density
from osteo_monai.screening.result import LocatedLevel, ScreeningResult

from .verse_tree import write_verse

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "public_density.py"
SPINE = {"T12": (0.0, 0.0, 35.0), "L1": (0.0, 0.0, 0.0), "L2": (0.0, 0.0, -35.0)}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_density", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["public_density"] = module
    spec.loader.exec_module(module)
    return module


def record(subject: str = "p", **more: Any) -> Record:
    fields = {"image": f"{subject}.nii.gz", "subject_id": subject, "bmd_mg_cm3": 100.0, "bmd_standard": "K2HPO4"}
    return Record.model_validate(fields | more)


def result(density: float | None, *codes: str, found: dict[str, tuple[float, float, float]] | None = None) -> Any:
    findings = [Finding(code=c, severity=Severity.REFUSAL, message=f"{c}.") for c in codes]
    value = None
    if density is not None:
        value = Density(mg_cm3=density, interval_low=density - 15, interval_high=density + 15, standard="K2HPO4")
    return ScreeningResult(
        study="s",
        verdict="refused" if codes else "accepted",
        findings=tuple(findings),
        levels_found=tuple(
            LocatedLevel(level=VertebraLevel(name), certainty=0.9, runner_up=None, centre_mm=centre)
            for name, centre in (SPINE if found is None else found).items()
        ),
        density=value,
    )


def compared(bench: ModuleType, tmp_path: Path, record: Record, result: Any) -> Any:
    return bench.compare("test", record, tmp_path, result, tmp_path / "screened")


def manifest(records: Sequence[Record]) -> Manifest:
    header = Header(name="VerSe 2019", description="d", virtual=False)
    return Manifest(header=header, splits={"test": tuple(records)})


def cells(table: Any, **wanted: Any) -> Any:
    (row,) = [row for row in table.rows if all(row.get(k) == v for k, v in wanted.items())]
    return row


def test_refused_records_are_counted_with_their_reasons(bench: ModuleType, tmp_path: Path) -> None:
    cases = [
        compared(bench, tmp_path, record("a"), result(90)),
        compared(bench, tmp_path, record("b"), result(None, "metal", "level_cut")),
        compared(bench, tmp_path, record("c"), result(None, "metal", "level_cut")),
        compared(bench, tmp_path, record("d", bmd_standard="hydroxyapatite"), result(90)),
    ]
    table = bench.count_table(cases)
    assert cells(table, outcome="all")["records"] == 4
    assert cells(table, outcome="measured")["records"] == 1
    assert cells(table, outcome="no density: metal; level_cut")["share"].value == 0.5
    assert cells(table, outcome="no density: reference in hydroxyapatite, density in K2HPO4")["records"] == 1
    bench.write_rows(cases, tmp_path)
    assert len((tmp_path / "excluded.csv").read_text().splitlines()) == 4
    rows, _ = bench.prediction_rows(cases, manifest([c.record for c in cases]), tmp_path, {}, {})
    assert [row["subject_id"] for row in rows] == ["a", "b", "c"]  # refused ones stay, without a prediction
    bench.write_predictions(tmp_path / "t.csv", rows)
    (read,) = read_predictions([tmp_path / "t.csv"])
    assert (len(read), read.unanswered, read.cohort) == (1, 2, "external_verse_2019")


def test_published_values_and_t_scores_join_by_subject(bench: ModuleType, tmp_path: Path) -> None:
    records = [record("a", t_score=-2.5, extra={"qct": 98}), record("b", t_score=-1.0, bmd_mg_cm3=120.0), record("c")]
    cases = [compared(bench, tmp_path, r, result(95 + n)) for n, r in enumerate(records)]
    (tmp_path / "appendix.csv").write_text("verse_ID;vBMD [mg/cc]\na;101.5\nb;\nz;80\n")
    options = bench.argparse.Namespace(
        published=[f"{tmp_path / 'appendix.csv'}:verse_ID:vBMD [mg/cc]:phantomless"], published_field=["qct"]
    )
    published = bench.published_values(options, cases)
    assert published == {"phantomless": {"a": 101.5, "z": 80.0}, "qct": {"a": 98.0}}
    densities, dxa = bench.prediction_rows(cases, manifest(records), tmp_path, {}, published)
    by_model = {(row["model"], row["subject_id"]): row.get("predicted_bmd_mg_cm3") for row in densities}
    assert by_model["phantomless", "a"] == 101.5
    assert by_model["phantomless", "b"] is None
    assert by_model["osteo_monai", "c"] == 97
    assert {row["subject_id"]: row["osteoporosis"] for row in dxa} == {"a": True, "b": False}
    assert all("bmd_mg_cm3" not in row for row in dxa)
    beside = bench.beside_table(densities)
    ours, theirs = [row for row in beside.rows if row["other"] == "phantomless"]
    assert (ours["n"], ours["bias"].value, theirs["bias"].value) == (1, pytest.approx(-5), pytest.approx(1.5))


def test_densities_at_labelled_levels_join_by_image(bench: ModuleType, tmp_path: Path) -> None:
    """Paths of the segmented manifest are relative to another folder."""
    records = [record("a", image="../scans/a.nii.gz"), record("b", image="../scans/b.nii.gz")]
    cases = [compared(bench, tmp_path / "out", r, result(95)) for r in records]
    by_label = {str(tmp_path / "scans" / "b.nii.gz"): {"predicted_bmd_mg_cm3": "88.5"}}
    rows, _ = bench.prediction_rows(cases, manifest(records), tmp_path / "out", by_label, {})
    found = {row["subject_id"]: row.get("predicted_bmd_mg_cm3") for row in rows if row["model"] == bench.BY_LABEL}
    assert found == {"a": None, "b": "88.5"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.csv:id", "--published must be TABLE:SUBJECT:VALUE"),
        ("{}/t.csv:id:v", "v must be a number, got 'high'"),
        ("{}/u.csv:id:v", "id must be unique"),
        ("{}/w.csv:id:v", "must have subjects of the manifest, got none"),
    ],
)
def test_wrong_published_tables_are_one_sentence(bench: ModuleType, tmp_path: Path, text: str, said: str) -> None:
    for name, rows in (("t", "a,high"), ("u", "a,1\na,2"), ("w", "z,1")):
        (tmp_path / f"{name}.csv").write_text(f"id,v\n{rows}\n")
    options = bench.argparse.Namespace(published=[text.format(tmp_path)], published_field=[])
    with pytest.raises(bench.UnusableInputError, match=said):
        bench.published_values(options, [compared(bench, tmp_path, record("a"), result(90))])


def test_names_are_compared_with_centroids_by_scanner(bench: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({name: list(centre) for name, centre in SPINE.items()}))
    off = {"T12": SPINE["L1"], "L1": SPINE["L2"]}
    cases = [
        compared(bench, tmp_path, record("a", centroids="c.json", scanner="A"), result(90)),
        compared(bench, tmp_path, record("b", centroids="c.json", scanner="B"), result(90, found=off)),
        compared(bench, tmp_path, record("c", centroids="c.json", scanner="B"), result(None, "metal", found={})),
        compared(bench, tmp_path, record("d", scanner="B"), result(90)),
    ]
    table = bench.naming_table(cases)
    every = cells(table, subgroup="all", levels="all")
    assert (every["scans"], every["bodies"], every["rate"].value) == (3, 9, pytest.approx(3 / 9))
    assert (every["distance"], every["all_right"].events, every["spurious"]) == (pytest.approx(70 / 5), 1, 0)
    assert cells(table, subgroup="scanner A", levels="all")["rate"].value == 1.0
    of_b = [row for row in table.rows if row["subgroup"] == "scanner B"]
    assert [row["bodies"] for row in of_b] == [6, 6, 3]  # the last: scans with a located column
    assert [row["levels"] for row in table.rows[:3]] == ["all", "T9 to L6", "T9 to L6, scans with a located column"]


def test_outlines_by_the_kind_of_the_label(bench: ModuleType, tmp_path: Path) -> None:
    body = np.zeros((20, 20, 20), np.uint8)
    body[5:15, 10:18, 8:14] = 20
    vertebra = body.copy()
    vertebra[8:12, 2:10, 8:14] = 20  # the arch
    outline = np.zeros_like(body)
    outline[5:15, 10:18, 8:14] = 20
    outline[5:15, 10:18, 14] = 20  # one slice in the disc
    vertebra[:, :, 14:] = np.where(outline[:, :, 14:] > 0, 19, 0)
    for name, array in (("body", body), ("vertebra", vertebra), ("screened/labels", outline)):
        (tmp_path / "screened").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / f"{name}.nii.gz")
    cases = [
        compared(bench, tmp_path, record(label=f"{kind}.nii.gz", label_kind=kind), result(90))
        for kind in ("body", "vertebra")
    ]
    assert cases[0].overlaps[0].dice == pytest.approx(2 * 480 / (480 + 560))
    whole = cases[1].overlaps[0]
    assert (whole.dice, whole.inside, whole.in_other) == (None, pytest.approx(480 / 560), pytest.approx(80 / 560))
    row = cells(bench.outline_table(cases), level="L1")
    assert (row["dice_n"], row["dice"]) == (1, cases[0].overlaps[0].dice)
    assert (row["inside_n"], row["inside"]) == (1, whole.inside)
    nib.save(nib.Nifti1Image(body, np.diag([1.0, 1.0, 2.1, 1.0])), tmp_path / "body.nii.gz")
    moved = compared(bench, tmp_path, cases[0].record, result(90))
    assert "grid of the image" in moved.reasons["outline"]


@pytest.mark.slow
def test_virtual_patients_in_the_layout_of_verse(bench: ModuleType, tmp_path: Path) -> None:
    path = write_verse(tmp_path / "verse", (2001, 2002), matrix=384)
    output = tmp_path / "out"
    words = [str(path), "-o", str(output), "--published-field", "published_mg_cm3"]
    assert bench.main([*words, "--kvp", "120", "--by-label"]) == 0
    summary = json.loads((output / "summary.json").read_text())
    assert summary["virtual"]
    assert summary["tables"]["naming"]["rows"][0]["bodies"] >= 6
    with (output / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] != "published_mg_cm3"]
    errors = [float(r["predicted_bmd_mg_cm3"]) - float(r["bmd_mg_cm3"]) for r in rows if r["predicted_bmd_mg_cm3"]]
    assert {row["model"] for row in rows} == {bench.MODEL, bench.BY_LABEL}
    assert len(errors) >= 3
    assert max(map(abs, errors)) < 15
    report = (output / "report.html").read_text()
    assert "Virtual patients" in report
    assert "120 kV" in report
    times = [path.stat().st_mtime_ns for path in sorted((output / "screened").rglob("result.json"))]
    assert bench.main([*words, "--kvp", "120"]) == 0
    assert times == [path.stat().st_mtime_ns for path in sorted((output / "screened").rglob("result.json"))]


def test_wrong_arguments_are_one_sentence(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = {"image": "f.png", "subject_id": "a", "view": "chest_frontal"}
    (tmp_path / "f.png").write_bytes(b"")
    head = {"name": "n", "description": "d", "virtual": False}
    (tmp_path / "m.json").write_text(json.dumps(head | {"test": [film]}))
    for words, said in (
        ([str(tmp_path / "none.json")], "the file does not exist"),
        ([str(tmp_path / "m.json"), "--kvp", "1200"], "--kvp must be between 40 and 200 kV, got 1200"),
        ([str(tmp_path / "m.json")], "must have CT records in the chosen splits, got none"),
    ):
        assert bench.main([*words, "-o", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
