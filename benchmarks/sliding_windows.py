"""Segmentation of virtual slices at several fields of view: crops, sliding windows and padding against the whole plane.

    python benchmarks/sliding_windows.py [--people N] [--fields MM,MM,...] [--output FILE.json]

The same virtual people, whom no training used, are imaged at each field of view with pixels of 1.5 mm. Dice is against
the virtual truth, averaged over the slices with a body. For each crop the voxels of the mask are counted that change
when the plane is padded with air on both sides. On other slices, all with loops of bowel with contrast agent beside the
column, parts of the mask are counted that touch no body. Prints Markdown and writes JSON.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from rich.console import Console
from rich.progress import track
from scipy import ndimage
from torch import Tensor

from osteo_monai import load_bundle
from osteo_monai.inferers import AxialSliceInferer
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.datasets import VirtualSliceDataset

RESULTS = Path(__file__).parent / "results"
BUNDLE = Path(__file__).parents[1] / "bundles" / "vertebral_body_segmentation_ct"
FIELDS_MM = (250, 350, 500, 700)
PADDINGS = (64, 256, 50)
"""Pixels of air on each side; 50 is no multiple of the blocks of 64 pixels."""
SEED = 90017
LOOPS_SEED, LOOPS_FIELD_MM = 90018, 350
FALSE_PART_CM2 = 0.5
"""A part of the mask of at least this area that touches no body is counted."""

CROPS: Mapping[str, Mapping[str, Any]] = {
    "plane": {},
    "blocks": {"crop": "blocks"},
    "body": {"crop": "body"},
    "blocks, window 192, overlap 0.25": {"crop": "blocks", "roi_size": (192, 192), "overlap": 0.25},
    "blocks, window 192, overlap 0.5": {"crop": "blocks", "roi_size": (192, 192), "overlap": 0.5},
    "blocks, window 256, overlap 0.5": {"crop": "blocks", "roi_size": (256, 256), "overlap": 0.5},
    "blocks, window 512": {"crop": "blocks", "roi_size": (512, 512)},
}
"""Arguments of ``AxialSliceInferer``."""
MONAI_512 = "MONAI's window 512 on the plane"


def masks(images: Tensor, network: torch.nn.Module, arguments: Mapping[str, Any]) -> Tensor:
    """Return the masks (N, 1, X, Y) of slices."""
    with torch.inference_mode():
        return AxialSliceInferer(batch_size=2, output="label", **arguments)(images, network) > 0


def monai_masks(images: Tensor, network: torch.nn.Module, size: int) -> Tensor:
    """Return the masks of MONAI's inferer, which pads a plane to the window."""
    with torch.inference_mode():
        answer: Any = SlidingWindowInferer((size, size), sw_batch_size=2, mode="gaussian")(images, network)
    return torch.as_tensor(answer) > 0


def dice(a: Tensor, b: Tensor) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def truth_dice(mask: Tensor, truth: Tensor) -> float:
    """Return the mean Dice over the slices with a body."""
    values = [dice(m, t) for m, t in zip(mask, truth, strict=True) if t.any()]
    return sum(values) / len(values)


def changed(images: Tensor, found: Tensor, network: torch.nn.Module, arguments: Mapping[str, Any], pad: int) -> int:
    """Return the number of voxels of the masks ``found`` that change when the plane is padded with air."""
    padded = masks(torch.nn.functional.pad(images, (pad, pad, pad, pad)), network, arguments)
    x, y = images.shape[2:]
    return int((padded[..., pad : pad + x, pad : pad + y] != found).sum())


def measure(field_mm: int, people: int, network: torch.nn.Module, window: tuple[float, float]) -> dict[str, Any]:
    """Return Dice and changed voxels at one field of view."""
    slices = VirtualSliceDataset(people, SEED, size=round(field_mm / 1.5))
    items = [slices[i] for i in range(people)]
    truth = torch.stack([item["label"] for item in items]) > 0
    hu = torch.stack([item["image"] for item in items])
    images = ((hu - window[0]) / (window[1] - window[0])).clamp(0, 1)
    found = {name: masks(images, network, arguments) for name, arguments in CROPS.items()}
    found[MONAI_512] = monai_masks(images, network, 512)
    return {
        "field_mm": field_mm,
        "pixels": images.shape[-1],
        "truth_voxels": int(truth.sum()),
        "dice_truth": {name: round(truth_dice(mask, truth), 4) for name, mask in found.items()},
        "dice_blocks": {name: round(dice(mask, found["blocks"]), 4) for name, mask in found.items()},
        "changed": {
            crop: {str(pad): changed(images, found[crop], network, CROPS[crop], pad) for pad in PADDINGS}
            for crop in ("plane", "blocks", "body")
        },
    }


def false_parts(people: int, network: torch.nn.Module, window: tuple[float, float]) -> dict[str, Any]:
    """Return how many slices with loops of bowel have a part of the mask that touches no body."""
    slices = VirtualSliceDataset(people, LOOPS_SEED, size=round(LOOPS_FIELD_MM / 1.5), loops=1.0)
    least = FALSE_PART_CM2 * 100 / 1.5**2
    found, area = 0, 0.0
    for i in range(people):
        item: Any = slices[i]
        image = ((item["image"][None] - window[0]) / (window[1] - window[0])).clamp(0, 1)
        mask, truth = masks(image, network, {"crop": "blocks"})[0, 0].numpy(), item["label"][0].numpy() > 0
        parts, count = ndimage.label(mask)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        apart = [n for part, n in enumerate(sizes, 1) if n >= least and not truth[parts == part].any()]
        found += bool(apart)
        area += float(sum(apart)) * 1.5**2 / 100
    return {"slices": people, "with_false_parts": found, "false_cm2_per_slice": round(area / people, 2)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown of all rows."""
    fields = " | ".join(f"{row['field_mm']} mm" for row in rows)
    lines = [f"| Dice against the truth (and the blocks) | {fields} |", "|---" * (len(rows) + 1) + "|"]
    for name in rows[0]["dice_truth"]:
        cells = " | ".join(f"{row['dice_truth'][name]:.3f} ({row['dice_blocks'][name]:.3f})" for row in rows)
        lines.append(f"| {name} | {cells} |")
    lines += ["", f"| voxels changed by padding | {fields} |", "|---" * (len(rows) + 1) + "|"]
    for crop in rows[0]["changed"]:
        for pad in rows[0]["changed"][crop]:
            cells = " | ".join(str(row["changed"][crop][pad]) for row in rows)
            lines.append(f"| {crop}, {pad} pixels on each side | {cells} |")
    voxels = " | ".join(str(row["truth_voxels"]) for row in rows)
    return "\n".join([*lines, f"| voxels of the truth | {voxels} |"])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--people", type=int, default=16, help="virtual people (default: 16)")
    parser.add_argument("--loops", type=int, default=100, help="slices with loops of bowel (default: 100)")
    parser.add_argument("--fields", default=",".join(map(str, FIELDS_MM)), help="fields of view in mm")
    parser.add_argument("--output", type=Path, help="JSON file; default: a dated one in benchmarks/results")
    options = parser.parse_args(arguments)
    options.fields = [int(text) for text in options.fields.split(",")]
    if min(options.people, options.loops) < 1 or min(options.fields) < 100:
        parser.error("--people and --loops must be at least 1 and --fields at least 100 mm")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    bundle = load_bundle(BUNDLE)
    network = bundle.setting("network_def").eval()
    window = tuple(bundle.setting("window"))
    shown = track(options.fields, "Fields of view", console=Console(stderr=True), transient=True)
    rows = [measure(field, options.people, network, window) for field in shown]
    print(table(rows))
    loops = false_parts(options.loops, network, window)
    print(f"\nSlices with loops of bowel: {loops['slices']}, with false parts: {loops['with_false_parts']}")
    now = datetime.now(UTC)
    output = options.output or RESULTS / f"sliding_windows_{now:%Y-%m-%d_%H%M}.json"
    report = {"people": options.people, "weights_sha256": bundle.weights_sha256, "rows": rows, "loops": loops}
    write_json(output, report)
    print(f"written to {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
