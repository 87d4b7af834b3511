"""Make a virtual chest CT, screen it, and train for a minute: the first five minutes with this package.

    python tools/demo.py [FOLDER]

Prints one line per step; the output of the programs goes to FOLDER/demo.log. Existing steps are made again.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "vertebral_body_segmentation_ct"
LAST_LINES = 15
"""Lines of the log that are shown when a step fails."""

TRAINING = {
    "initial_weights": "models/model.pt",  # those that are published
    "learning_rate": 0.0001,
    "epochs": 3,
    "epoch_length": 8,
    "batch_size": 4,
    "validation_items": 8,
    "num_workers": 0,
}


def step(title: str, command: list[str], log: Path, folder: Path = ROOT) -> None:
    """Run a program with its output in the log and print its title and time; end this program if it fails."""
    print(f"{title:<50}", end="", flush=True)
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        print(f"\n=== {title}: {' '.join(command)}", file=file, flush=True)
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, check=False).returncode
    print(f"{time.monotonic() - started:5.0f} s" if code == 0 else "failed")
    if code:
        print(*log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:], f"Log: {log}", sep="\n")
        sys.exit(code)


def verdict(result: Path) -> str:
    """Return what a screening found, from its ``result.json``."""
    facts = json.loads(result.read_text(encoding="utf-8"))
    density = facts["density"]
    if density is None:
        return f"{facts['verdict']}: {' '.join(f['message'] for f in facts['findings'] if f['severity'] == 'refusal')}"
    low, high = round(density["interval_low"]), round(density["interval_high"])
    return f"{density['mg_cm3']:.1f} mg/cm3 {density['standard']} (90 % interval {low} to {high}), {facts['status']}"


def dice_curve(database: Path) -> str:
    """Return the validation Dice of the last run in an MLflow database, epoch by epoch."""
    query = (
        "SELECT value FROM metrics WHERE key = 'val_mean_dice' AND run_uuid = "
        "(SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT 1) ORDER BY step"
    )
    with closing(sqlite3.connect(database)) as connection:
        values = [value for (value,) in connection.execute(query)]
    return "val_mean_dice " + ", ".join(f"{value:.3f}" for value in values)


def main(folder: Path) -> None:
    """Run all steps below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    scan, result, training, log = (folder / name for name in ("chest_ct", "result", "training", "demo.log"))
    for path in (scan, result, training):
        shutil.rmtree(path, ignore_errors=True)
    log.unlink(missing_ok=True)
    database = folder / "mlflow.db"
    python = [sys.executable, "-m"]
    step("1/3 Make a virtual chest CT (DICOM)", [*python, "osteo_monai", "virtual", "ct", "-o", str(scan)], log)
    step("2/3 Screen it", [*python, "osteo_monai", "screen", str(scan / "dicom"), "-o", str(result)], log)
    print(f"    {verdict(result / 'result.json')}")
    settings = [word for name, value in TRAINING.items() for word in (f"--{name}", str(value))]
    output = ["--output_dir", f"$'{training}'", "--tracking_uri", f"sqlite:///{database}"]
    train = [
        *python,
        "monai.bundle",
        "run",
        "--meta_file",
        "configs/metadata.json",
        "--config_file",
        "configs/train.json",
    ]
    step("3/3 Train the segmentation network further", [*train, *output, *settings], log, BUNDLE)
    print(f"    {dice_curve(database)}")
    print(f"\nReport:      {result / 'report.html'} (result.json and labels.nii.gz beside it)")
    print(f"Runs:        {Path(sys.executable).parent / 'mlflow'} ui --backend-store-uri sqlite:///{database}")
    print("Python API:  import osteo_monai; help(osteo_monai); first lines: docs/first_steps.md")
    print(f"Log:         {log}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "demo").resolve())
