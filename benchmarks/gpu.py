"""Speed of networks and screening on a GPU (or CPU): slices, localisation, a training step, warm studies per second.

    python benchmarks/gpu.py                              # all parts on the GPU, or on the CPU if there is none
    python benchmarks/gpu.py --parts slices --precisions float32 bfloat16 float16 --channels-last --compile inductor
    python benchmarks/gpu.py --parts studies --study CT   # CT: a DICOM folder or NIfTI file; else a virtual one is made
    python benchmarks/gpu.py --tiny --device cpu          # small sizes, to try the script

Slices are segmented by a loop over single slices, MONAI's ``SliceInferer`` and ``AxialSliceInferer``, with the volume
on the device and on the host. Their answers are compared with the loop in float32. For each network the floating-point
operations and the bytes of its layers give the least possible time (roofline) at the measured speed of matrix products
and of copies. Times are medians after warm-up, with the device synchronised. Prints Markdown and writes JSON.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import SliceInferer
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from osteo_monai import load_bundle
from osteo_monai.inferers import AxialSliceInferer, autocast
from osteo_monai.networks import on_device
from osteo_monai.tracking import environment_facts
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
BUNDLES = Path(__file__).parents[1] / "bundles"
SEGMENTATION = "vertebral_body_segmentation_ct"
LOCALISATION = "vertebra_localization_ct"
PARTS = ("slices", "localisation", "training", "studies")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs."""

    plane: int = 320
    slices: int = 128
    batch: int = 16
    trunk: tuple[int, int, int] = (96, 80, 128)
    training_batch: int = 8
    training_plane: int = 192
    matrix: int = 8192
    copy_bytes: int = 2**30
    repeats: int = 5


TINY = Sizes(64, 3, 2, (32, 32, 32), 2, 64, 256, 2**20, 2)


@dataclass(frozen=True)
class Setup:
    """How a network is run."""

    device: torch.device
    precision: str
    channels_last: bool = False
    compile_backend: str = ""

    def context(self) -> torch.autocast:
        dtype = "float16" if self.precision == "float16" else "bfloat16"
        return autocast(self.device, self.precision != "float32", dtype)

    def place(self, network: nn.Module) -> nn.Module:
        if self.compile_backend:
            torch.compiler.reset()  # the compiled forms of other setups
        return on_device(network, self.device, self.channels_last, self.compile_backend)


@dataclass(frozen=True)
class Row:
    """One measured time.

    Attributes:
        seconds: median of the repeats.
        per_second: slices, volumes, images or studies per second.
        peak_gib: largest memory of the GPU; None on a CPU.
        bound_seconds: least possible time by operations and bytes; None where a part is more than its network.
        difference: largest difference of a probability from the loop over slices in float32.
    """

    part: str
    name: str
    precision: str
    seconds: float
    per_second: float
    peak_gib: float | None = None
    bound_seconds: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Limits:
    """Measured limits of a device: operations per second of matrix products by precision, and bytes per second."""

    operations: Mapping[str, float]
    bytes_per_second: float

    def least_seconds(self, operations: float, moved: float, precision: str) -> float:
        return max(operations / self.operations[precision], moved / self.bytes_per_second)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, float | None]:
    """Return the median seconds after one warm-up, and the peak memory of the GPU in GiB."""
    work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return statistics.median(seconds), peak


def measure_limits(device: torch.device, precisions: Sequence[str], sizes: Sizes) -> Limits:
    """Measure matrix products and copies on a device."""
    operations = {}
    for precision in precisions:
        matrix = torch.randn(sizes.matrix, sizes.matrix, device=device, dtype=getattr(torch, precision))
        seconds, _ = timed(lambda m=matrix: m @ m, device, sizes.repeats)  # type: ignore[misc]
        operations[precision] = 2 * sizes.matrix**3 / seconds
    source = torch.ones(sizes.copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    seconds, _ = timed(lambda: target.copy_(source), device, sizes.repeats)
    return Limits(operations, 2 * sizes.copy_bytes / seconds)


@contextmanager
def counted_bytes(network: nn.Module) -> Iterator[list[int]]:
    """Count the bytes that the layers of a network read and write in float32, as if none were fused."""
    count = [0]

    def add(layer: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [t for t in (*inputs, output, *layer.parameters()) if isinstance(t, Tensor)]
        count[0] += sum(4 * t.numel() for t in tensors)

    hooks = [m.register_forward_hook(add) for m in network.modules() if not list(m.children())]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def work_of(network: nn.Module, image: Tensor, precision: str) -> tuple[float, float]:
    """Return the operations and bytes of one call of a network, before it is compiled."""
    with torch.inference_mode(), counted_bytes(network) as moved, FlopCounterMode(display=False) as operations:
        network(image)
    return float(operations.get_total_flops()), moved[0] * (1.0 if precision == "float32" else 0.5)


def bench_slices(setup: Setup, sizes: Sizes, limits: Limits) -> Iterator[Row]:
    """Segment the slices of a volume by each inferer."""
    volume = torch.rand(1, 1, sizes.plane, sizes.plane, sizes.slices, generator=torch.Generator().manual_seed(0))
    bundle = load_bundle(BUNDLES / SEGMENTATION, setup.device)
    plain = bundle.setting("network_def").eval()
    image = torch.rand(1, 1, sizes.plane, sizes.plane, device=setup.device)
    operations, moved = work_of(plain, image, setup.precision)
    bound = sizes.slices * limits.least_seconds(operations, moved, setup.precision)
    on_gpu = volume.to(setup.device)

    def loop(network: nn.Module) -> Tensor:
        return torch.stack([network(on_gpu[..., z]).float().sigmoid() for z in range(sizes.slices)], -1)

    with torch.inference_mode():
        reference = loop(plain).cpu()
        network = setup.place(plain)
        amp = {"amp": setup.precision != "float32", "amp_dtype": _dtype(setup.precision)}
        ours = AxialSliceInferer(sizes.batch, output="probability", sw_device=setup.device, **amp)
        hosted = AxialSliceInferer(sizes.batch, output="probability", sw_device=setup.device, device="cpu", **amp)
        monai = SliceInferer(roi_size=(sizes.plane, sizes.plane), sw_batch_size=sizes.batch, spatial_dim=2)

        def monai_slices() -> Tensor:
            with setup.context():
                answer: Any = monai(on_gpu, network)
            return torch.as_tensor(answer).float().sigmoid()

        def looped() -> Tensor:
            with setup.context():
                return loop(network)

        ways: Mapping[str, Callable[[], Tensor]] = {
            "loop over single slices": looped,
            "MONAI SliceInferer": monai_slices,
            "AxialSliceInferer": lambda: ours(on_gpu, network),
            "AxialSliceInferer, volume on the host": lambda: hosted(volume, network),
        }
        for name, work in ways.items():
            difference = float((work().cpu() - reference).abs().max())
            seconds, peak = timed(work, setup.device, sizes.repeats)
            yield Row("slices", name, _label(setup), seconds, sizes.slices / seconds, peak, bound, difference)


def bench_localisation(setup: Setup, sizes: Sizes, limits: Limits) -> Iterator[Row]:
    """Run the localisation network on one trunk of 4 mm voxels."""
    bundle = load_bundle(BUNDLES / LOCALISATION, setup.device)
    network = bundle.setting("network_def").eval()
    image = torch.rand(1, 1, *sizes.trunk, device=setup.device)
    bound = limits.least_seconds(*work_of(network, image, setup.precision), setup.precision)
    placed = setup.place(network)

    def work() -> Tensor:
        with torch.inference_mode(), setup.context():
            return torch.as_tensor(placed(image))

    seconds, peak = timed(work, setup.device, sizes.repeats)
    yield Row("localisation", "network", _label(setup), seconds, 1 / seconds, peak, bound)


def bench_training(setup: Setup, sizes: Sizes, limits: Limits) -> Iterator[Row]:
    """Train the segmentation network on noise, with loss and optimizer of its ``train.json``."""
    config = ConfigParser()
    configs = BUNDLES / SEGMENTATION / "configs"
    config.read_config(configs / "train.json")
    config.read_meta(configs / "metadata.json")
    config.update({"device": setup.device, "channels_last": setup.channels_last})
    config["compile_backend"] = setup.compile_backend
    network, loss = config.get_parsed_content("network"), config.get_parsed_content("loss")
    optimizer: torch.optim.Optimizer = config.get_parsed_content("optimizer")
    scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "float16")
    shape = (sizes.training_batch, 1, sizes.training_plane, sizes.training_plane)
    image, label = torch.rand(shape), (torch.rand(shape) > 0.9).float()
    if setup.device.type == "cuda":
        image, label = image.pin_memory(), label.pin_memory()

    def step() -> None:
        x, y = (t.to(setup.device, non_blocking=True) for t in (image, label))
        optimizer.zero_grad(set_to_none=True)
        with setup.context():
            value = loss(network(x).float(), y)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()

    seconds, peak = timed(step, setup.device, sizes.repeats)
    yield Row("training", "step", _label(setup), seconds, sizes.training_batch / seconds, peak)


def bench_studies(device: torch.device, study: Path, sizes: Sizes) -> Iterator[Row]:
    """Screen one study in memory, with loaded models and the settings of the bundles, until the result."""
    from osteo_monai.imaging import read_ct
    from osteo_monai.screening import load_models
    from osteo_monai.screening.ct.pipeline import screen_volume

    volume, models = read_ct(study), load_models(str(device))
    stages: list[Mapping[str, float]] = []

    def work() -> None:
        result, _ = screen_volume(volume, models)
        stages.append(result.seconds)

    seconds, peak = timed(work, device, sizes.repeats)
    yield Row("studies", "read study to result", "bundle", seconds, 1 / seconds, peak)
    for stage in stages[-1]:
        median = statistics.median(run[stage] for run in stages[1:])
        yield Row("studies", f"stage: {stage}", "bundle", median, 1 / max(median, 1e-9))


def _dtype(precision: str) -> Any:
    return "float16" if precision == "float16" else "bfloat16"


def _label(setup: Setup) -> str:
    last = ", channels last" if setup.channels_last else ""
    return setup.precision + last + (f", {setup.compile_backend}" if setup.compile_backend else "")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| part | way | precision | ms | per second | least ms (share reached) | peak GiB | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bound = row.bound_seconds
        share = "" if bound is None else f"{1000 * bound:.2f} ({bound / row.seconds:.0%})"
        peak = "" if row.peak_gib is None else f"{row.peak_gib:.2f}"
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        cells = (f"{1000 * row.seconds:.2f}", f"{row.per_second:.2f}", share, peak, difference)
        lines.append(f"| {row.part} | {row.name} | {row.precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


def virtual_study(folder: Path) -> Path:
    """Make one virtual study in another process; return its DICOM folder."""
    command = [sys.executable, "-m", "osteo_monai", "virtual", "ct", "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "dicom"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    available = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=torch.device(available))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=("float32", "bfloat16"))
    parser.add_argument("--channels-last", action="store_true", help="measure each precision in this order, too")
    parser.add_argument("--compile", default="", metavar="BACKEND", help="measure the compiled networks, too")
    parser.add_argument("--study", type=Path, help="DICOM folder or NIfTI file for the part studies")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--output", type=Path, help="JSON file; default: a dated one in benchmarks/results")
    return parser.parse_args(arguments)


def setups(options: argparse.Namespace) -> list[Setup]:
    """Return the ways in which each network is run."""
    plain = [Setup(options.device, precision) for precision in options.precisions]
    last = [Setup(s.device, s.precision, True) for s in plain] if options.channels_last else []
    fast = [Setup(s.device, s.precision, s.channels_last, options.compile) for s in plain + last]
    return plain + last + (fast if options.compile else [])


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    sizes = TINY if options.tiny else Sizes()
    limits = measure_limits(options.device, options.precisions, sizes)
    rows: list[Row] = []
    parts = {"slices": bench_slices, "localisation": bench_localisation, "training": bench_training}
    work = [(parts[part], setup) for part in options.parts if part in parts for setup in setups(options)]
    for bench, setup in track(work, "Networks", console=Console(stderr=True), transient=True):
        rows += bench(setup, sizes, limits)
    if "studies" in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            study = options.study or virtual_study(Path(scratch) / "virtual")
            rows += bench_studies(options.device, study, sizes)
    print(table(rows))
    now = datetime.now(UTC)
    record = {
        "environment": environment_facts(),
        "device": str(options.device),
        "limits": asdict(limits),
        "sizes": asdict(sizes),
        "rows": [asdict(row) for row in rows],
    }
    output = options.output or RESULTS / f"gpu_{now:%Y-%m-%d_%H%M}.json"
    write_json(output, record)
    print(f"written to {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
