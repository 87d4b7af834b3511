"""Speed of a screening beside other networks, on the same cores in one run.

    python benchmarks/speed.py [--study CT] [--picture PNG] [--before TREE] [--parts cold stages networks batch]
                               [--batches 1 10] [--workers 1 2] [--price 0.05]

- ``cold``: processor seconds of the whole command, ``--help``, one radiograph, one CT.
- ``stages``: a further study in one process, by stage, and the share of the networks.
- ``networks``: a network of the size of TotalSegmentator's on one patch, and MONAI's ``SliceInferer`` beside ours.
- ``batch``: many studies in worker processes: studies per hour, memory, cost of 1,000 studies.

``--before`` names the root of another source tree: ``cold`` and ``stages`` alternate between both. Processor seconds
(user and system) are compared, since the wall time of a shared machine depends on others; the load is recorded.
Prints tables and writes JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
PARTS = ("cold", "stages", "networks", "batch")

PATCH, SPACING_MM, STEP = 128, 1.5, 0.5
"""Patch, voxel size and step of nnU-Net's ``3d_fullres`` configuration as TotalSegmentator uses it."""
MODELS = 5
"""Networks of TotalSegmentator's task ``total`` at 1.5 mm; its ``vertebrae`` are one of them."""
CLASSES = 27
H200_BYTES_PER_SECOND, H200_BFLOAT16 = 4.8e12, 989e12
"""Memory bandwidth and dense bfloat16 operations per second of an NVIDIA H200 (data sheet)."""

Json = dict[str, Any]


def cpu_seconds() -> float:
    return time.process_time()


# --- whole commands -----------------------------------------------------------------------------------------------


def environment(tree: Path, threads: int) -> dict[str, str]:
    """Return the environment of a child that imports ``tree`` and keeps its compiled modules, as an installation."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI")}
    cache = Path(tempfile.gettempdir()) / "osteo_monai_speed"
    numbers = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return kept | numbers | {"PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(cache)}


def run_command(words: Sequence[str], tree: Path, threads: int) -> Json:
    """Run a Python command in ``tree``; return processor and wall seconds and its standard output."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree, threads), capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(words)} ended with code {done.returncode}: {done.stderr[-400:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(used, 2), "wall_seconds": round(time.perf_counter() - started, 2), "text": done.stdout}


def cold(trees: Mapping[str, Path], study: Path, picture: Path | None, threads: int, repeats: int) -> list[Json]:
    """Time whole commands, the trees by turns; keep the least processor time of each."""
    cases: dict[str, list[str]] = {"--help": ["--help"], "one CT": ["screen", str(study)]}
    if picture is not None:
        cases["one radiograph"] = ["screen", str(picture), "--allow-unvalidated"]
    rows = []
    for case, words in cases.items():
        best: dict[str, Json] = {}
        for _ in range(repeats + 1):  # the first run of each compiles its modules and reads its files
            for name, tree in trees.items():
                with tempfile.TemporaryDirectory() as scratch:
                    more = ["-o", scratch, "--overwrite"] if words[0] == "screen" else []
                    run = run_command(["-m", "osteo_monai", *words, *more], tree, threads)
                if name not in best or run["cpu_seconds"] < best[name]["cpu_seconds"]:
                    best[name] = run
        wall = {f"{name}_wall": best[name]["wall_seconds"] for name in trees}
        rows.append({"command": case} | {name: best[name]["cpu_seconds"] for name in trees} | wall)
    return rows


# --- stages of a study (in a child, which imports the tree that is measured) ---------------------------------------


@contextmanager
def network_seconds() -> Iterator[list[float]]:
    """Add up the processor seconds of the outermost modules of torch that are called, of the threads that call them."""
    from torch.nn.modules import module as modules

    total, here, lock = [0.0], threading.local(), threading.Lock()

    def begin(*_: Any) -> None:
        here.depth = getattr(here, "depth", 0) + 1
        if here.depth == 1:
            here.started = time.thread_time()

    def end(*_: Any) -> None:
        here.depth -= 1
        if here.depth == 0:
            with lock:
                total[0] += time.thread_time() - here.started

    hooks = [modules.register_module_forward_pre_hook(begin), modules.register_module_forward_hook(end)]
    try:
        yield total
    finally:
        for hook in hooks:
            hook.remove()


def child(study: Path, count: int, threads: int) -> Json:
    """Screen a study ``count`` times with models that are loaded once."""
    marks: list[tuple[str, float]] = [("importing", cpu_seconds())]
    try:
        from osteo_monai.utils.monai_import import import_monai_for_inference

        import_monai_for_inference()
    except ImportError:  # an earlier tree
        import monai  # noqa: F401
    import torch

    from osteo_monai.screening import Study, load_models
    from osteo_monai.screening_files import screen_to_folder

    torch.set_num_threads(threads)
    marks.append(("loading the models", cpu_seconds()))
    models = load_models("cpu")
    start = cpu_seconds() - marks[0][1]
    studies, memory = [], []

    def on_stage(name: str) -> None:
        marks.append((name, cpu_seconds()))

    for _ in range(count):
        marks.clear()
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as output, network_seconds() as networks:
            result = screen_to_folder(Study("ct", study), Path(output), models=models, on_stage=on_stage)
        on_stage("end")
        stages = {name: round(then - now, 3) for (name, now), (_, then) in pairwise(marks)}
        wall, cpu = round(time.perf_counter() - begun, 2), round(sum(stages.values()), 2)
        by_wall = dict(result.seconds)
        studies.append(
            {"stages": stages, "cpu_seconds": cpu, "networks": round(networks[0], 3), "wall_seconds": wall,
             "wall_stages": by_wall}
        )  # fmt: skip
        memory.append(resident_mib())
    return {"start": round(start, 2), "studies": studies, "memory_mib": memory, "verdict": result.verdict}


def resident_mib() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss >> 20)


def stages(trees: Mapping[str, Path], study: Path, threads: int, repeats: int) -> list[Json]:
    """Return the stages of a further study in one process of each tree, that with the least processor time."""
    rows = []
    for name, tree in trees.items():
        words = [__file__, "--child", str(study), "--count", str(repeats + 1), "--threads", str(threads)]
        answer = json.loads(run_command(words, tree, threads)["text"].splitlines()[-1])
        warm = min(answer["studies"][1:], key=lambda one: one["cpu_seconds"])
        fastest = min(one["wall_seconds"] for one in answer["studies"][1:])
        peak = max(answer["memory_mib"])
        rows.append({"tree": name, "start": answer["start"], "peak_mib": peak, **warm, "least_wall_seconds": fastest})
    return rows


# --- networks -----------------------------------------------------------------------------------------------------


def least(work: Callable[[], Any], repeats: int) -> float:
    """Return the least processor seconds of some calls."""
    seconds = []
    for _ in range(repeats):
        started = cpu_seconds()
        work()
        seconds.append(cpu_seconds() - started)
    return min(seconds)


def patches(extent_mm: Sequence[float]) -> int:
    """Return the patches that nnU-Net's sliding window needs for a field of view."""
    from monai.data.utils import dense_patch_slices

    size = [max(PATCH, round(mm / SPACING_MM)) for mm in extent_mm]
    return len(dense_patch_slices(size, [PATCH] * 3, [int(PATCH * STEP)] * 3))


def large_network() -> Any:
    """Return nnU-Net's ``3d_fullres`` network for a patch of 128 voxels: six levels, 32 to 320 channels."""
    from monai.networks.nets import DynUNet

    strides, kernels = [1, 2, 2, 2, 2, 2], [3] * 6
    filters = [32, 64, 128, 256, 320, 320]
    return DynUNet(3, 1, CLASSES, kernels, strides, strides[1:], filters=filters).eval()


def networks(extent_mm: Sequence[float], threads: int) -> Json:
    """Time the networks on one patch and on slices, and compute the roofline of a GPU."""
    import torch
    from monai.inferers import SliceInferer

    from benchmarks.gpu import work_of
    from osteo_monai import load_bundle
    from osteo_monai.inferers import AxialSliceInferer, autocast, bfloat16_is_fast

    torch.set_num_threads(threads)
    ours = load_bundle(ROOT / "bundles" / "vertebral_body_segmentation_ct").setting("network_def").eval()
    large, patch = large_network(), torch.rand(1, 1, PATCH, PATCH, PATCH)
    fast = bfloat16_is_fast("cpu")
    plane, count = 320, 12
    volume = torch.rand(1, 1, plane, plane, count, generator=torch.Generator().manual_seed(0))

    def under(enabled: bool, call: Callable[[], Any]) -> Callable[[], Any]:
        def work() -> None:
            with torch.inference_mode(), autocast(torch.device("cpu"), enabled):
                call()

        return work

    by_ours = AxialSliceInferer(2, output="probability", amp=fast)
    by_monai = {
        n: SliceInferer(roi_size=(plane, plane), sw_batch_size=n, spatial_dim=2, progress=False) for n in (1, 2, 16)
    }
    per_patch = {"float32": least(under(False, lambda: large(patch)), 1)}
    if fast:
        per_patch["bfloat16"] = least(under(True, lambda: large(patch)), 1)
    slices = {"AxialSliceInferer, 2 slices a call": least(under(False, lambda: by_ours(volume, ours)), 4) / count}
    for n, inferer in by_monai.items():
        name = f"MONAI SliceInferer, {n} slices a call"
        slices[name] = least(under(fast, lambda i=inferer: i(volume, ours)), 4) / count  # type: ignore[misc]
    needed = patches(extent_mm)
    operations, moved = work_of(ours, torch.rand(1, 1, 512, 512), "bfloat16")
    return {
        "large_parameters": sum(p.numel() for p in large.parameters()),
        "our_parameters": sum(p.numel() for p in ours.parameters()),
        "extent_mm": [round(mm) for mm in extent_mm],
        "patches": needed,
        "seconds_a_patch": {k: round(v, 2) for k, v in per_patch.items()},
        "seconds_one_model": round(needed * min(per_patch.values()), 1),
        "seconds_a_slice": {k: round(v, 4) for k, v in slices.items()},
        "slice_512_gflop": round(operations / 1e9, 1),
        "slice_512_mib_bfloat16": round(moved / 2**20, 1),
        "h200_slices_per_second": {
            "by bandwidth, no layer fused": round(H200_BYTES_PER_SECOND / moved),
            "by operations": round(H200_BFLOAT16 / operations),
        },
    }


# --- batches ------------------------------------------------------------------------------------------------------


def batches(study: Path, sizes: Sequence[int], workers: Sequence[int], price: float) -> list[Json]:
    """Screen a study many times in worker processes of one thread each."""
    rows = []
    for size in sizes:
        for count in (n for n in workers if n <= size):
            shares = [len(range(n, size, count)) for n in range(count)]
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            running = [
                subprocess.Popen(
                    [sys.executable, __file__, "--child", str(study), "--count", str(share), "--threads", "1"],
                    cwd=ROOT, env=environment(ROOT, 1), stdout=subprocess.PIPE, text=True,
                )
                for share in shares
            ]  # fmt: skip
            answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
            wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rows.append(
                {
                    "studies": size,
                    "workers": count,
                    "wall_seconds": round(wall, 1),
                    "cpu_seconds": round(used, 1),
                    "cpu_seconds_a_study": round(used / size, 2),
                    "per_hour_measured": round(3600 * size / wall),
                    "per_hour_free_cores": round(3600 * count * size / used),
                    "memory_mib": sum(max(a["memory_mib"]) for a in answers),
                    "growth_mib": max(a["memory_mib"][-1] - a["memory_mib"][0] for a in answers),
                    "cost_1000": round(1000 * used / size / 3600 * price, 3),
                }
            )
    return rows


# --- command ------------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="CT; a virtual one of 512 x 512 x 150 is made if not given")
    parser.add_argument("--small", type=Path, help="CT of the batches; that of --study if not given")
    parser.add_argument("--picture", type=Path, help="chest radiograph as PNG or JPEG")
    parser.add_argument("--before", type=Path, help="root of another source tree")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--price", type=float, default=0.05, help="price of a core hour")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file; default: a dated one in benchmarks/results")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(options: argparse.Namespace, study: Path) -> Json:
    """Run the parts, and print each when it is done."""
    from osteo_monai.imaging import read_ct

    before = {} if options.before is None else {"before": options.before.resolve()}
    trees = before | {"now": ROOT}
    record: Json = {}

    def networks_of_study() -> Json:
        volume = read_ct(study)
        return networks([n * s for n, s in zip(volume.hu.shape, volume.spacing, strict=True)], options.threads)

    work: dict[str, Callable[[], Any]] = {
        "cold": lambda: cold(trees, study, options.picture, options.threads, options.repeats),
        "stages": lambda: stages(trees, study, options.threads, options.repeats),
        "networks": networks_of_study,
        "batch": lambda: batches(options.small or study, options.batches, options.workers, options.price),
    }
    for part in options.parts:
        record[part] = work[part]()
        print(f"{part}: {json.dumps(record[part], indent=1)}", flush=True)
    return record


def main() -> None:
    options = parse()
    if options.child is not None:
        print(json.dumps(child(options.child, options.count, options.threads)))
        return
    sys.path.insert(0, str(ROOT))
    from osteo_monai.tracking import environment_facts
    from osteo_monai.utils.files import write_json

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        study = options.study
        if study is None:
            run_command(["-m", "osteo_monai", "virtual", "ct", "-o", f"{scratch}/ct"], ROOT, options.threads)
            study = Path(scratch) / "ct" / "dicom"
        record = measure(options, study.resolve())
    facts = {"environment": environment_facts(), "threads": options.threads, "price_a_core_hour": options.price}
    loads = {"load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
    path = options.output or RESULTS / f"speed_{datetime.now(UTC):%Y-%m-%d_%H%M}.json"
    write_json(path, facts | loads | record, indent=1)
    print(f"Written: {path.name}")


if __name__ == "__main__":
    main()
