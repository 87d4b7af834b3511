"""Where a step of training a classifier goes, in milliseconds, and how long one answer takes.

    python benchmarks/classification_throughput.py --people 64 --steps 10
    python benchmarks/classification_throughput.py --overlay pan2024 --batch-size 4
    python benchmarks/classification_throughput.py --bundle osteoporosis_classification_chest_xray --overlay li2026

Takes network, loss, optimiser, augmentation and loader from the bundle's configs, on images of noise, so that it needs
no data. Prints the medians, wall and CPU, and writes them as JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import Dataset

from osteo_monai.tracking import environment_facts

BUNDLES = Path(__file__).parents[1] / "bundles"
PARTS = ("loading", "augmentation", "forward", "backward", "optimiser")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="osteoporosis_classification_ct")
    parser.add_argument("--overlay", nargs="*", default=[], help="configs on top of common.json and train.json")
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="that are measured, after two that are not")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--depth", help="instead of the config's")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--output", type=Path, help="JSON file; default benchmarks/results/<name>_<date>.json")
    arguments = parser.parse_args()

    config = ConfigParser()
    configs = BUNDLES / arguments.bundle / "configs"
    config.read_config([configs / f"{name}.json" for name in ("common", "train", *arguments.overlay)])
    config.read_meta(configs / "metadata.json")
    if arguments.batch_size:
        config["batch_size"] = arguments.batch_size
    if arguments.depth:
        config["network_def"]["depth"] = arguments.depth
    if arguments.float32:
        config["amp"] = False
    torch.manual_seed(0)
    if "patch_size" in config.config:  # a bundle for radiographs
        size = config["patch_size"]
        shape = [config["grid"][0] * config["grid"][1], *([size, size] if isinstance(size, int) else size)]
        people = [{"image": torch.randn(shape), "target": float(row % 2)} for row in range(arguments.people)]
    else:
        shape = [config["network_def"]["in_channels"], config["size"], config["size"]]
        people = [
            {
                "image": (100 + 50 * torch.randn(shape)).half(),
                "mask": torch.ones(shape, dtype=torch.uint8),
                "label": row % 3,
                "status": row % 3,
                "row": row,
            }
            for row in range(arguments.people)
        ]
    config["train"]["subjects"] = people
    config["train"]["dataset"] = Dataset(people)
    device = config.get_parsed_content("device")
    network, loss, optimiser, inferer, augment, loader = (
        config.get_parsed_content(name)
        for name in ("network", "loss", "optimizer", "train#inferer", "augmentation", "train#dataloader")
    )
    network.train()
    times: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}

    def clock() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    batches = iter(loader)
    for step in range(arguments.steps + 2):
        at = [clock()]
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
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
    for step in range(arguments.steps + 1):
        with torch.inference_mode():
            first = clock()
            inferer(image[:1], network)
            last = clock()
        if step:
            times.setdefault("answer", []).append((last[0] - first[0], last[1] - first[1]))

    def milliseconds(part: str, which: int) -> float:
        ordered = sorted(pair[which] for pair in times[part])
        return round(1000 * ordered[len(ordered) // 2], 2)

    result = {
        "bundle": arguments.bundle,
        "overlay": arguments.overlay,
        "network": {key: value for key, value in config["network_def"].items() if not str(value).startswith("@")},
        "weights": sum(p.numel() for p in network.parameters()),
        "input": [config["batch_size"], *shape],
        "bfloat16": config.get_parsed_content("amp"),
        "threads": torch.get_num_threads(),
        "median_ms": {part: {"wall": milliseconds(part, 0), "cpu": milliseconds(part, 1)} for part in PARTS},
        "environment": environment_facts(),
    }
    step_ms = sum(part["wall"] for part in result["median_ms"].values())
    result["one_answer_ms"] = {"wall": milliseconds("answer", 0), "cpu": milliseconds("answer", 1)}
    result["people_per_second"] = round(1000 * config["batch_size"] / step_ms, 1)
    print(json.dumps(result, indent=1))
    stamp = time.strftime("%Y-%m-%d_%H%M")
    target = arguments.output or Path(__file__).parent / "results" / f"classification_throughput_{stamp}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
