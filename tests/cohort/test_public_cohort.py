"""A public data set through all commands: import, validate, describe, segment, measure, evaluate."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai import cli
from osteo_monai.cohort import segment
from osteo_monai.data import read_manifest

from ..data import public_trees as trees
from ..screening.conftest import LEVELS, MakeModels, inside_body, phantom_affine
from .conftest import read_csv
from .test_overlap import whole_vertebra

DENSITIES = {4: 60.0, 12: 75.0, 20: 95.0, 29: 110.0, 32: 130.0, 38: 150.0}
"""mg/cm3 by number of the scan; HU of the scans rise in the same order."""


@pytest.fixture
def folder(tmp_path: Path, phantom_hu: NDArray[np.float32]) -> Path:
    """Write six scans of the phantom as VerSe has them: whole vertebrae, PIR, no tube voltage."""
    labels = np.zeros(phantom_hu.shape, np.uint8)
    for level in LEVELS:
        labels[whole_vertebra(level)] = level.label
    inside = np.any([inside_body(level) for level in LEVELS], axis=0)
    for number, density in DENSITIES.items():
        base = f"sub-verse{number:03d}"
        tree = tmp_path / "tree" / ("dataset-verse19training" if number < 20 else "dataset-verse19test")
        hu = phantom_hu + np.where(inside, density - 100.0, 0.0)
        trees.save(hu.astype(np.int16), tree / "rawdata" / base / f"{base}_ct.nii.gz", "PIR", phantom_affine())
        mask = tree / "derivatives" / base / f"{base}_seg-vert_msk.nii.gz"
        trees.save(labels.astype(np.float64), mask, "PIR", phantom_affine())
    rows = "".join(f'{n},{n},ce-no,F,"L1, L2",{v}\n' for n, v in DENSITIES.items())
    header = "verse_ID,subject_ID,Contrast Enhancement,Sex,BMD_assessment,Phantom Calibration BMD [mg/cc]\n"
    (tmp_path / "table.csv").write_text(header + rows, encoding="utf-8")
    return tmp_path


def test_verse_from_import_to_evaluation(
    folder: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment, "load_models", lambda device, opinions, trust: make_models())
    first, second, out = folder / "verse.json", folder / "segmented.json", folder / "out"
    table = str(folder / "table.csv")
    assert cli.run(["manifest", "import", "verse", str(folder / "tree"), "-o", str(first), "--table", table]) == 0
    assert cli.run(["manifest", "validate", str(first)]) == 0
    assert cli.run(["manifest", "describe", str(first)]) == 0
    assert cli.run(["manifest", "segment", str(first), "-o", str(second)]) == 0
    said = capsys.readouterr().out
    assert "Labels: 6 of whole vertebrae." in said
    assert "Share of L1 in its vertebra: 1.000 +- 0.000 (n = 6), in others: 0.000" in said
    assert "6 records segmented, 0 excluded" in said

    assert cli.run(["measure", str(second), "-o", str(out)]) == 0
    rows = {row["subject_id"]: row for row in read_csv(out / "hu_l1_pickhardt.csv")}
    assert list(rows) == ["verse004", "verse012", "verse020", "verse029", "verse032", "verse038"]
    assert [row["bone_status"] for row in rows.values()] == ["osteoporosis"] * 2 + ["osteopenia"] * 2 + ["normal"] * 2
    hu = [float(row["hu_l1"]) for row in rows.values()]
    assert hu == pytest.approx([60.0 + density for density in DENSITIES.values()], abs=1.5)
    # without a tube voltage no density is measured, and the reason is given
    excluded = read_csv(out / "excluded.csv")
    assert [row["reason"] for row in excluded] == ["Tube voltage is missing from both manifest and file."] * 6

    words = ["evaluate", str(out / "hu_l1_pickhardt.csv"), "-o", str(folder / "evaluation"), "--no-track"]
    assert cli.run([*words, "--resamples", "100"]) == 0
    assert "Report:" in capsys.readouterr().out


def test_an_assumed_tube_voltage_gives_a_density_and_is_marked(
    folder: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment, "load_models", lambda device, opinions, trust: make_models())
    first, second = folder / "verse.json", folder / "segmented.json"
    words = ["manifest", "import", "verse", str(folder / "tree"), "-o", str(first), "--kvp"]
    assert cli.run([*words, "20"]) == 2
    assert "--kvp must be from 40 to 200, got 20" in capsys.readouterr().err
    assert cli.run([*words, "120"]) == 0
    manifest = read_manifest(first)
    assert "120 kV is assumed" in manifest.header.description
    assert all(r.kvp == 120.0 and dict(r.extra or {})["kvp_assumed"] for _, _, r in manifest.records())
    assert cli.run(["manifest", "segment", str(first), "-o", str(second), "--levels", "L1,L2"]) == 0
    assert cli.run(["measure", str(second), "-o", str(folder / "out")]) == 0
    assert len(read_csv(folder / "out" / "hu_line_bmd.csv")) == 6
