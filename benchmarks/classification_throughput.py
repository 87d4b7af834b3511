"""Times of the parts of a training step of a classifier, and of one prediction, in ms.

    python benchmarks/classification_throughput.py --people 64 --steps 10
    python benchmarks/classification_throughput.py --overlay pan2024 --batch-size 4
    python benchmarks/classification_throughput.py --bundle osteoporosis_classification_chest_xray --overlay li2026

Takes network, loss, optimiser, augmentation and loader from the bundle's configs, on images of noise, so that it needs
no data. Prints the medians, wall and CPU, and writes them as JSON.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import Dataset

from osteo_monai.tracking import environment_facts
from osteo_monai.utils.files import write_json

BUNDLES = Path(__file__).parents[1] / "bundles"
PARTS = ("loading", "augmentation", "forward", "backward", "optimiser")


Times = dict[str, list[tuple[float, float]]]
"""Wall and CPU seconds of each part."""


def read_config(arguments: argparse.Namespace) -> ConfigParser:
    """Read the configs of the bundle with the changes of the arguments."""
    config = ConfigParser()
    configs = BUNDLES / arguments.bundle / "configs"
    config.read_config([configs / f"{name}.json" for name in ("train", *arguments.overlay)])
    config.read_meta(configs / "metadata.json")
    if arguments.batch_size:
        config["batch_size"] = arguments.batch_size
    if arguments.depth:
        config["network_def"]["depth"] = arguments.depth
    if arguments.float32:
        config["amp"] = False
    return config


def noise_items(config: ConfigParser, count: int) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the shape of an input and items of noise, as the data set of the bundle has them."""
    if config.get("patch_size") is not None:  # a bundle for radiographs
        size = config["patch_size"]
        shape = [config["grid"][0] * config["grid"][1], *([size, size] if isinstance(size, int) else size)]
        return shape, [{"image": torch.randn(shape), "target": float(row % 2)} for row in range(count)]
    shape = [config.get_parsed_content("network_def#in_channels"), config["size"], config["size"]]
    return shape, [
        {
            "image": (100 + 50 * torch.randn(shape)).half(),
            "mask": torch.ones(shape, dtype=torch.uint8),
            "label": row % 3,
            "status": row % 3,
            "row": row,
        }
        for row in range(count)
    ]


class Stopwatch:
    """Wall and CPU time on a device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def __call__(self) -> tuple[float, float]:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader again and again."""
    while True:
        yield from loader


def measure(config: ConfigParser, steps: int) -> tuple[Times, torch.nn.Module]:
    """Time the parts of training steps (two more are not counted) and of single predictions."""
    device = config.get_parsed_content("device")
    network, loss, optimiser, inferer, augment, loader = (
        config.get_parsed_content(name)
        for name in ("network", "loss", "optimizer", "train#inferer", "augmentation", "train#dataloader")
    )
    clock = Stopwatch(device)
    times: Times = {part: [] for part in (*PARTS, "answer")}
    network.train()
    batches = endless(loader)
    for step in range(steps + 2):
        at = [clock()]
        batch = next(batches)
        at.append(clock())
        image, label = augment(batch, device)
        at.append(clock())
        value = loss(inferer(image, network), label)
        at.append(clock())
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        at.append(clock())
        optimiser.step()
        at.append(clock())
        if step >= 2:
            for part, first, last in zip(PARTS, at[:-1], at[1:], strict=True):
                times[part].append((last[0] - first[0], last[1] - first[1]))
    network.eval()
    for step in range(steps + 1):
        with torch.inference_mode():
            first = clock()
            inferer(image[:1], network)
            last = clock()
        if step:
            times["answer"].append((last[0] - first[0], last[1] - first[1]))
    return times, network


def medians(times: Times, part: str) -> dict[str, float]:
    """Return the median wall and CPU time of a part in ms."""
    ordered = [sorted(pair[which] for pair in times[part]) for which in (0, 1)]
    wall, cpu = (round(1000 * values[len(values) // 2], 2) for values in ordered)
    return {"wall": wall, "cpu": cpu}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="osteoporosis_classification_ct")
    parser.add_argument("--overlay", nargs="*", default=[], help="configs on top of train.json")
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="measured steps, after two that are not")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--depth", help="instead of that of the config")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--output", type=Path, help="JSON file; default benchmarks/results/<name>_<date>.json")
    arguments = parser.parse_args()
    config = read_config(arguments)
    torch.manual_seed(0)
    shape, people = noise_items(config, arguments.people)
    config["train"]["subjects"] = people
    config["train"]["dataset"] = Dataset(people)
    times, network = measure(config, arguments.steps)
    parts = {part: medians(times, part) for part in PARTS}
    result = {
        "bundle": arguments.bundle,
        "overlay": arguments.overlay,
        "network": {key: value for key, value in config["network_def"].items() if not str(value).startswith("@")},
        "weights": sum(p.numel() for p in network.parameters()),
        "input": [config["batch_size"], *shape],
        "bfloat16": config.get_parsed_content("amp"),
        "threads": torch.get_num_threads(),
        "median_ms": parts,
        "environment": environment_facts(),
        "one_answer_ms": medians(times, "answer"),
        "people_per_second": round(1000 * config["batch_size"] / sum(part["wall"] for part in parts.values()), 1),
    }
    print(json.dumps(result, indent=1))
    stamp = time.strftime("%Y-%m-%d_%H%M")
    target = arguments.output or Path(__file__).parent / "results" / f"classification_throughput_{stamp}.json"
    write_json(target, result, indent=1)


if __name__ == "__main__":
    main()
