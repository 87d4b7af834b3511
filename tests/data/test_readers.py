"""All readers of predictions tables in this package accept the same files and refuse the same files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from osteo_monai.data import read_prediction_rows, read_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.experiments import cross_validate
from osteo_monai.reporting.evaluation import EvaluationOptions, evaluate
from osteo_monai.risk import calibrate_table, fit_risk, read_people
from osteo_monai.statistics.fusion import fuse_views
from osteo_monai.statistics.heat_shares import heat_shares
from osteo_monai.statistics.meta_analysis.studies import count_predictions

PEOPLE = 60


def _plain() -> str:
    """Make out-of-fold predictions with two decimals that increase with the risk, not perfectly."""
    lines = ["subject_id,cohort,fold,osteoporosis,probability_osteoporosis,virtual,heat_on_bone,bone_area"]
    for n in range(PEOPLE):
        osteoporosis = int(n % 10 < n / 6)
        lines.append(f"p{n},validation,{n % 2},{osteoporosis},{(n + 1) / (PEOPLE + 2):.2f},1,0.6,0.3")
    return "\n".join(lines) + "\n"


def _words(text: str) -> str:
    """Write flags as words, the header in capitals, and a comment before it."""
    header, *rows = text.splitlines()
    changed = []
    for row in rows:
        cells = row.split(",")
        cells[3] = {"0": "no", "1": "Yes"}[cells[3]]
        cells[5] = "TRUE"
        changed.append(",".join(cells))
    return "\n".join(["# made by hand", header.upper(), *changed]) + "\n"


VARIANTS: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "capitals, comment, words": _words,
    "Windows line ends": lambda text: text.replace("\n", "\r\n"),
}


def _results(path: Path) -> dict[str, object]:
    """Read a table with each reader; return what it means to each of them."""
    manifest = path.with_name("manifest.json")
    records = [{"image": f"{n}.png", "subject_id": f"p{n}"} for n in range(PEOPLE)]
    flags = [row["osteoporosis"] for row in read_prediction_rows(path)]
    for record, flag in zip(records, flags, strict=True):
        record["t_score"] = -3.0 if flag == "1" else -1.0  # type: ignore[assignment]
    manifest.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, "training": records}))
    (predictions,) = read_predictions([path])
    calibration = fit_risk(path)
    calibrate_table(calibration, path, path.with_name("calibrated.csv"))
    fused = path.with_name("fused.csv")
    fuse_views([path, path], fused)
    counted = count_predictions(path)
    return {
        "predictions": (predictions.truth.tolist(), predictions.scores["osteoporosis"].tolist(), predictions.virtual),
        "calibration": calibration.model_dump(exclude={"source_sha256"}),
        "calibrated": read_prediction_rows(path.with_name("calibrated.csv")),
        "people": read_people(manifest, path).people,
        "fused": read_prediction_rows(fused),
        "heat": heat_shares(path),
        "counts": ({name: cells.tolist() for name, cells in counted.counts.items()}, counted.remarks),
    }


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_all_readers_accept_the_same_files(tmp_path: Path, change: Callable[[str], str]) -> None:
    tables = [tmp_path / "plain" / "model.csv", tmp_path / "variant" / "model.csv"]
    for table, text in zip(tables, (_plain(), change(_plain())), strict=True):
        table.parent.mkdir()
        table.write_text(text, encoding="utf-8", newline="")
    plain, variant = map(_results, tables)
    assert plain == variant
    assert plain["calibration"]["people"] == PEOPLE  # type: ignore[index]


def _cross_validated(path: Path) -> Path:
    """Cross-validate with trainings and evaluations that leave ``path`` as the table of each fold."""

    def run(folder: Path, configs: object, settings: dict[str, str], trust: bool = False) -> None:
        output = Path(settings["output_dir"])
        (output / "checkpoints").mkdir(parents=True, exist_ok=True)
        (output / "checkpoints" / "checkpoint_epoch=1.pt").touch()
        (output / "predictions.csv").write_bytes(path.read_bytes())

    bundle = Path(__file__).parents[2] / "bundles" / "osteoporosis_classification_chest_xray"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("osteo_monai.experiments.cross_validation.run_bundle", run)
        manifest = str(path.with_name("manifest.json"))
        return cross_validate(bundle, path.with_name("folds"), manifest, folds=2, settings={"epochs": 1})


READERS: dict[str, Callable[[Path], object]] = {
    "read_predictions": lambda path: read_predictions([path]),
    "read_prediction_rows": read_prediction_rows,
    "fit_risk": fit_risk,
    "calibrate_table": lambda path: calibrate_table(None, path, path.with_name("out.csv")),  # type: ignore[arg-type]
    "read_people": lambda path: read_people(path.with_name("manifest.json"), path),
    "fuse_views": lambda path: fuse_views([path, path], path.with_name("out.csv")),
    "heat_shares": heat_shares,
    "count_predictions": count_predictions,
    "evaluate": lambda path: evaluate(EvaluationOptions((path,))),
    "cross_validate": _cross_validated,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (",0.97,", ",1.97,", "line 61: probability_osteoporosis must be a number between 0 and 1, got '1.97'"),
        ("validation", "valid", "cohort must be training, validation, test or external_<centre>, got 'valid'"),
        ("p3,", ",", "line 5: subject_id is empty"),
        ("subject_id", "subject", "no column subject_id"),
    ],
    ids=["probability", "cohort", "subject", "column"],
)
def test_all_readers_refuse_the_same_files(
    tmp_path: Path, reader: Callable[[Path], object], old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "model.csv"
    assert old in _plain()
    path.write_text(_plain().replace(old, new))
    manifest = {"name": "n", "description": "d", "virtual": True, "test": [{"image": "a", "subject_id": "p0"}]}
    path.with_name("a").touch()
    path.with_name("manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnusableInputError) as caught:
        reader(path)
    assert sentence in str(caught.value)


def test_imports_are_light() -> None:
    heavy = "{'matplotlib', 'monai', 'openpyxl', 'pandas', 'sklearn', 'torch', 'xgboost'}"
    code = f"import sys, osteo_monai.data, osteo_monai.risk; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
