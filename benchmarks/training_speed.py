"""Times of the parts of a training step of each bundle, and of the items that its generator makes.

    python benchmarks/training_speed.py
    python benchmarks/training_speed.py --bundles osteoporosis_classification_ct --overlay pan2024 --batch-size 4
    python benchmarks/training_speed.py --steps 2 --items 2 --tiny --output training_speed.json

Takes data set, loader, augmentation, network, loss and optimiser from the configs of the bundle. Bundles that train on
a manifest get scans of boxes and radiographs of bands, which are in memory after the first read as in training. Data
are loaded by the process itself, so that its CPU time has all parts. Prints medians of wall and CPU time, and writes
them as JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.engines.utils import default_prepare_batch
from PIL import Image
from rich.progress import Progress

from osteo_monai.tracking import environment_facts
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.column_dataset import RandColumnViewd, paint_column
from osteo_monai.virtual.datasets import VirtualSliceDataset, VirtualVolumeDataset

BUNDLES = Path(__file__).parents[1] / "bundles"
NAMES = sorted(file.parents[1].name for file in BUNDLES.glob("*/configs/train.json"))
PARTS = ("data", "augmentation", "forward", "backward")
"""Load and transform a batch; change it on the device; network and loss; gradients and the step of the optimiser."""
VIRTUAL: Mapping[str, Mapping[str, Any]] = {
    "vertebral_body_segmentation_ct": {},
    "vertebra_localization_ct": {"people": 8, "views": 1, "batch_size": 4},
    "vertebral_column_ct": {"people": 16},
}
SUBJECTS = 48

Times = dict[str, list[tuple[float, float]]]
"""Wall and CPU seconds of each part."""


def write_manifests(folder: Path, subjects: int) -> dict[str, Path]:
    """Write a manifest of scans and one of radiographs; return them by the ending of a bundle's name."""
    rng = np.random.default_rng(0)
    records: dict[str, list[dict[str, Any]]] = {"ct": [], "xray": []}
    for number in range(subjects):
        bmd, name = (150.0, 100.0, 60.0)[number % 3], f"subject_{number}"
        records["ct"].append(_scan(folder, name, bmd, rng))
        facts = {"subject_id": name, "t_score": (-3.0, -1.0)[number % 2], "age": 60, "sex": "F"}
        for view, size in (("chest_frontal", (400, 400)), ("lumbar_ap", (400, 300))):
            pixels = rng.normal(20000, 1000, size)
            pixels[:, 100 : 200 + 60 * (number % 2)] += 20000
            Image.fromarray(pixels.astype(np.uint16)).save(folder / f"{name}_{view}.png")
            records["xray"].append({"image": f"{name}_{view}.png", "view": view, **facts})
    files = {}
    for kind, items in records.items():
        content = {"name": kind, "description": "boxes and bands", "virtual": True}
        files[kind] = folder / f"{kind}.json"
        write_json(files[kind], {**content, "training": items})
    return files


def _scan(folder: Path, name: str, bmd: float, rng: np.random.Generator) -> dict[str, Any]:
    labels = np.zeros((40, 44, 40), np.uint8)
    labels[8:32, 12:34, 22:38], labels[8:32, 12:34, 2:18] = 20, 21
    hu = np.where(labels > 0, bmd / 0.75, 50.0) + rng.normal(0, 10, labels.shape)
    hu[0] = -1000
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), folder / f"{name}_labels.nii.gz")
    density = {"level_bmd_mg_cm3": {"L1": bmd, "L2": bmd}, "bmd_mg_cm3": bmd, "bmd_standard": "K2HPO4"}
    files = {"image": f"{name}.nii.gz", "segmentation": f"{name}_labels.nii.gz"}
    return {**files, **density, "subject_id": name, "kvp": 120, "age": 60}


def read_config(
    name: str, overlay: Sequence[str], changes: Mapping[str, Any], manifests: Mapping[str, Path], work: Path
) -> ConfigParser:
    """Read the training of a bundle with the changes of the arguments."""
    config = ConfigParser()
    configs = BUNDLES / name / "configs"
    config.read_config([configs / f"{part}.json" for part in ("train", *overlay)])
    config.read_meta(configs / "metadata.json")
    own: dict[str, Any] = {"output_dir": str(work / name), "track": False, "num_workers": 0, **VIRTUAL.get(name, {})}
    if name not in VIRTUAL:
        kind = "xray" if name.endswith("xray") else "ct"
        own |= {"data_source": str(manifests[kind]), "check_images": False}
    for key, value in (own | dict(changes)).items():
        if key.split("#")[0] in config.get() or key in own:
            config[key] = value
    return config


def _clock(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader again and again."""
    while True:
        yield from loader


def measure(config: ConfigParser, steps: int, advance: Callable[[], None]) -> tuple[Times, int, list[int]]:
    """Time the parts of training steps, after two that are not counted; return times, items and shape of a batch."""
    device = config.get_parsed_content("device")
    names = ("network", "loss", "optimizer", "train#inferer", "train#dataloader")
    network, loss, optimiser, inferer, loader = (config.get_parsed_content(name) for name in names)
    given = "prepare_batch" in config["train"]["trainer"]
    prepare = config.get_parsed_content("train#trainer#prepare_batch") if given else default_prepare_batch
    times: Times = {part: [] for part in PARTS}
    network.train()
    batches = endless(loader)
    shape: list[int] = []
    for step in range(steps + 2):
        at = [_clock(device)]
        batch = next(batches)
        at.append(_clock(device))
        image, label = prepare(batch, device, False)
        at.append(_clock(device))
        value = loss(inferer(image, network), label)
        at.append(_clock(device))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        at.append(_clock(device))
        shape = list(image.shape)
        if step >= 2:
            for part, first, last in zip(PARTS, at[:-1], at[1:], strict=True):
                times[part].append((last[0] - first[0], last[1] - first[1]))
        advance()
    return times, sum(p.numel() for p in network.parameters()), shape


def medians(times: Times, part: str) -> dict[str, float]:
    """Return the median wall and CPU time of a part in ms."""
    wall, cpu = (round(1000 * float(np.median([pair[which] for pair in times[part]])), 1) for which in (0, 1))
    return {"wall": wall, "cpu": cpu}


def generators(folder: Path) -> dict[str, tuple[Callable[[int], Any], int]]:
    """Return for each kind of item a function of its index, and the number of training items that it gives.

    Painted volumes are kept below ``folder``.
    """
    found: dict[str, tuple[Callable[[int], Any], int]] = {}
    for views in (1, 2, 4):
        slices = VirtualSliceDataset(10**6, 5, 192, 1.5, views=views)
        found[f"segmentation slice 192 x 192, {views} of a subject"] = slices.__getitem__, views
        volumes = VirtualVolumeDataset(10**6, 20250910, (80, 64, 96), 4.0, views=views)
        found[f"localisation volume 80 x 64 x 96, {views} of a subject"] = volumes.__getitem__, views
    kept = VirtualVolumeDataset(10**6, 20250910, (80, 64, 96), 4.0, people=4, folder=folder)
    for person in range(kept.people):
        kept[person]
    found["localisation volume of a kept subject (each epoch)"] = kept.__getitem__, 1
    found["column painted (once a subject)"] = lambda index: paint_column(3, index), 1
    column: dict[Any, Any] = paint_column(3, 0)
    view = RandColumnViewd(seed=1)
    found["column viewed (each epoch)"] = lambda index: view({**column, "index": index}), 1
    return found


def generator_seconds(items: int, folder: Path, advance: Callable[[], None]) -> dict[str, float]:
    """Return the mean CPU seconds of a training item of each kind."""
    seconds = {}
    for name, (make, views) in generators(folder).items():
        make(0)
        before = time.process_time()
        for index in range(1, items + 1):
            make(index)
        seconds[name] = round((time.process_time() - before) / (items * views), 4)
        advance()
    return seconds


def step_times(name: str, arguments: argparse.Namespace, folder: Path, advance: Callable[[], None]) -> dict[str, Any]:
    """Return the record of one bundle."""
    changes: dict[str, Any] = {}
    if arguments.batch_size:
        changes["batch_size"] = arguments.batch_size
    if arguments.float32:
        changes["amp"] = False
    if arguments.tiny:
        changes |= {"batch_size": 2, "image_size": 64, "volume_size": [32, 32, 32]}
    config = read_config(name, arguments.overlay, changes, {k: folder / f"{k}.json" for k in ("ct", "xray")}, folder)
    times, weights, shape = measure(config, arguments.steps, advance)
    parts = {part: medians(times, part) for part in PARTS}
    total = sum(part["cpu"] for part in parts.values())
    return {
        "weights": weights,
        "input": shape,
        "bfloat16": config.get_parsed_content("amp"),
        "median_ms": parts,
        "share_of_cpu": {part: round(value["cpu"] / total, 3) for part, value in parts.items()},
        "items_per_cpu_second": round(1000 * shape[0] / total, 2),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="*", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--overlay", nargs="*", default=[], help="configs on top of train.json")
    parser.add_argument("--steps", type=int, default=8, help="measured steps, after two that are not")
    parser.add_argument("--items", type=int, default=12, help="measured items of each generator; 0 for none")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--float32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--tiny", action="store_true", help="small images and batches, to try the benchmark")
    parser.add_argument("--output", type=Path, help="JSON file; default benchmarks/results/training_speed_<date>.json")
    arguments = parser.parse_args(words)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name, Progress(transient=True) as bar:
        folder = Path(name)
        write_manifests(folder, SUBJECTS)
        count = len(arguments.bundles) * (arguments.steps + 2) + (9 if arguments.items else 0)
        task = bar.add_task("Measuring", total=count)
        records = {}
        for bundle in arguments.bundles:
            bar.update(task, description=bundle)
            records[bundle] = step_times(bundle, arguments, folder, lambda: bar.advance(task))
        seconds = generator_seconds(arguments.items, folder, lambda: bar.advance(task)) if arguments.items else {}
    result = {
        "threads": torch.get_num_threads(),
        "overlay": arguments.overlay,
        "steps": arguments.steps,
        "bundles": records,
        "generator_cpu_seconds_per_item": seconds,
        "environment": environment_facts(),
    }
    print(json.dumps(result, indent=1))
    stamp = time.strftime("%Y-%m-%d_%H%M")
    write_json(arguments.output or Path(__file__).parent / "results" / f"training_speed_{stamp}.json", result, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
