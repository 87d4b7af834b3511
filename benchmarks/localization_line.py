"""Error of the centre line of checkpoints of vertebra_localization_ct, and differences between them by scan.

    python benchmarks/localization_line.py a=RUN_A/checkpoints/model.pt b=RUN_B/checkpoints/model.pt --real FOLDER
    python benchmarks/localization_line.py a=A.pt b=B.pt --spacing 6 --size 48 48 64 --people 40

Screening uses the centre line only. Its error at a body is the distance in x and y from the line to the centre of the
body, at the height of the centre, at most CAP_MM, which also counts for a body that the line does not reach. The error
of a scan is the mean over its bodies. Virtual people have true centres; real scans (FOLDER as for real_ct.py) have
those of the shipped bundles. Differences have a bootstrap interval of scans.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from rich.progress import track

from osteo_monai import load_bundle
from osteo_monai.imaging import read_ct
from osteo_monai.metrics import true_centres
from osteo_monai.screening.ct.levels import as_image, locate_vertebrae
from osteo_monai.tracking import environment_facts
from osteo_monai.utils.files import write_json
from osteo_monai.utils.inputs import read_input
from osteo_monai.virtual.datasets import VirtualVolumeDataset

NAME = "vertebra_localization_ct"
BUNDLE = Path(__file__).parents[1] / "bundles" / NAME
CAP_MM = 40.0
"""Error of a body without line: about the width of a body."""
SEED = 9001
"""Of virtual people: that of ``evaluate.json``, which no training used."""

Localise = Callable[[Any], Mapping[str, Any]]
Errors = dict[str, list[float]]
"""Error in mm of each scan, by checkpoint."""


def bundle_of(checkpoint: Path, spacing: float, folder: Path) -> Localise:
    """Return the inference of the bundle with other weights and voxels of ``spacing`` mm."""
    own = folder / NAME
    shutil.copytree(BUNDLE / "configs", own / "configs")
    (own / "models").mkdir()
    shutil.copy(checkpoint, own / "models" / "model.pt")
    write_json(own / "configs" / "spacing.json", {"spacing_mm": spacing})
    return load_bundle(own, overlays=["spacing"], trust=True)


def line_errors(line: NDArray[np.float64], centres: NDArray[np.float64], margin_mm: float) -> NDArray[np.float64]:
    """Return the error (n,) in mm at the centres (n, 3) of bodies of a line (m, 3), at most ``CAP_MM``.

    A line reaches ``margin_mm`` beyond its ends.
    """
    if len(line) == 0:
        return np.full(len(centres), CAP_MM)
    line = line[np.argsort(line[:, 2])]
    x, y = (np.interp(centres[:, 2], line[:, 2], line[:, axis]) for axis in (0, 1))
    error = np.hypot(x - centres[:, 0], y - centres[:, 1])
    reached = (centres[:, 2] >= line[0, 2] - margin_mm) & (centres[:, 2] <= line[-1, 2] + margin_mm)
    return np.asarray(np.where(reached, np.minimum(error, CAP_MM), CAP_MM))


def score(networks: Mapping[str, Localise], image: Any, centres: NDArray[np.float64], margin: float) -> list[float]:
    """Return the error of one scan for each network."""
    lines = (np.asarray(localise(image)["line"], float).reshape(-1, 3) for localise in networks.values())
    return [float(line_errors(line, centres, margin).mean()) for line in lines]


def virtual_errors(networks: Mapping[str, Localise], people: int, size: Sequence[int], spacing: float) -> Errors:
    """Return the errors of virtual people with a body in view."""
    data = VirtualVolumeDataset(people, SEED, (size[0], size[1], size[2]), spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    rows = []
    for index in track(range(people), description="Virtual people"):
        item = data[index]
        centres = true_centres(item["label"].numpy(), affine)
        if centres:
            image = MetaTensor(item["image"], affine=torch.from_numpy(affine))
            rows.append(score(networks, image, np.array(list(centres.values())), spacing))
    return by_network(networks, rows)


def by_network(networks: Mapping[str, Localise], rows: Sequence[Sequence[float]]) -> Errors:
    """Return the columns of a table of errors with a row a scan."""
    return {name: [row[column] for row in rows] for column, name in enumerate(networks)}


def real_errors(networks: Mapping[str, Localise], folder: Path, spacing: float) -> tuple[list[str], Errors]:
    """Return the names of scans in which the shipped bundles find bodies, and their errors."""
    shipped = load_bundle(NAME), load_bundle("vertebral_column_ct")
    names, rows = [], []
    entries = [name for name in json.loads(read_input(folder / "truth.json")) if not name.startswith("_")]
    for name in track(entries, description="Real scans"):
        files = sorted((folder / name).glob("*.nii*"))
        volume = read_ct(files[0] if len(files) == 1 else folder / name, declared_ct=True)
        found = locate_vertebrae(volume, *shipped)
        centres = np.array([*(v.centre_mm for v in found.vertebrae), *found.above]).reshape(-1, 3)
        if len(centres):
            names.append(name)
            rows.append(score(networks, as_image(volume.hu, volume.affine), centres, spacing))
    return names, by_network(networks, rows)


def summary(errors: Errors) -> dict[str, Any]:
    """Return the mean and median by checkpoint, and paired differences with a 95 % interval."""
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {
        name: {"mean_mm": round(float(np.mean(v)), 2), "median_mm": round(float(np.median(v)), 2), "scans": len(v)}
        for name, v in errors.items()
    }
    for one, other in itertools.combinations(errors, 2):
        change = np.subtract(errors[other], errors[one])
        means = change[rng.integers(0, len(change), (5000, len(change)))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        values = [round(float(v), 2) for v in (change.mean(), low, high)]
        result[f"{other} - {one}"] = dict(zip(("mean_mm", "low", "high"), values, strict=True))
    return result


def main(words: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--spacing", type=float, default=4.0, help="mm of a voxel of the network's input")
    parser.add_argument("--size", type=int, nargs=3, default=(80, 64, 96), help="voxels of a virtual volume")
    parser.add_argument("--people", type=int, default=100, help="virtual people")
    parser.add_argument("--real", type=Path, help="folder of real scans")
    parser.add_argument("--output", type=Path, help="JSON file; default in benchmarks/results")
    arguments = parser.parse_args(words)
    files = dict(word.partition("=")[::2] for word in arguments.checkpoints)
    with tempfile.TemporaryDirectory() as folder:
        networks = {name: bundle_of(Path(file), arguments.spacing, Path(folder, name)) for name, file in files.items()}
        errors = virtual_errors(networks, arguments.people, arguments.size, arguments.spacing)
        result: dict[str, Any] = {"spacing_mm": arguments.spacing, "virtual": summary(errors)}
        if arguments.real is not None:
            names, errors = real_errors(networks, arguments.real, arguments.spacing)
            each = {name: [round(v, 1) for v in values] for name, values in errors.items()}
            result["real"] = {**summary(errors), "scans": names, "mm_of_each": each}
    result["environment"] = environment_facts()
    print(json.dumps(result, indent=1))
    stamp = time.strftime("%Y-%m-%d_%H%M")
    write_json(arguments.output or Path(__file__).parent / "results" / f"localization_line_{stamp}.json", result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
