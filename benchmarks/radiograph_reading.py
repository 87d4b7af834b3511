"""Counts of what the reader of radiographs makes of pictures without a header: chests however they lie, and others.

    python benchmarks/radiograph_reading.py --real FOLDER [--chests FOLDER ...] [--lumbar FOLDER] [--made 20]

``--real`` is the folder of real images (``cxr_frontal`` in it, CT and MR beside it), ``--chests`` and ``--lumbar`` are
virtual cohorts; where these are not given, ``--made`` people are made. Each real chest and some virtual ones are shown
as they are, turned, mirrored, inverted and in all combinations; everything else as it is. Virtual and real pictures are
counted apart. Prints two tables and writes ``benchmarks/results/radiograph_reading_DATE.json``.
"""

import argparse
import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage
from sklearn.datasets import load_sample_images

from osteo_monai.domain import View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.imaging.radiograph import RadiographFacts, StoredRadiograph, check_radiograph, read_radiograph
from osteo_monai.imaging.radiograph.image import orient
from osteo_monai.imaging.radiograph.pictures import read_picture
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.radiograph import draw_protocol, project, project_ct, usual_protocol

Grey = NDArray[np.float32]
RESULTS = Path(__file__).parent / "results"
SIDE = 400
"""Shorter side of a picture that is not read as it is; enough for the check, which looks at 32 pixels a side."""
ROWS = {View.CHEST_FRONTAL: 320, View.LUMBAR_AP: 480, View.LUMBAR_LATERAL: 512}
"""Of the radiographs that are made here: the narrow ones have some 300 columns."""
WINDOWS = {"soft": (40.0, 400.0), "wide": (300.0, 1500.0), "lung": (-600.0, 1500.0)}
"""Centre and width in HU of the windows that CT slices are shown in."""
SLICES = 4
"""Slices of each volume in each direction and window."""
PROJECTIONS = 8
"""Projections of each CT and view."""
LAID = 12
"""Virtual chests that are shown in all ways; the others as they are."""
FIRST_SEED = 881_000
"""Of the virtual people that are made here."""


@dataclass(frozen=True)
class Picture:
    """A picture without a header, bone bright and upright if it is a chest."""

    group: str
    name: str
    pixels: Grey


def resized(pixels: Grey, aspect: float = 1.0, side: int = SIDE) -> Grey:
    """Bring the shorter side to ``side`` pixels; ``aspect`` is the height of a pixel over its width."""
    rows, columns = pixels.shape[0] * aspect, pixels.shape[1]
    factor = side / min(rows, columns)
    image = Image.fromarray(np.asarray(pixels, np.float32))
    return np.asarray(image.resize((round(columns * factor), round(rows * factor)), Image.Resampling.BOX), np.float32)


def real_chests(folder: Path) -> Iterator[Picture]:
    """Frontal chest radiographs as they were published."""
    for path in sorted((folder / "cxr_frontal" / "images").iterdir()):
        yield Picture("chest", path.name, read_picture(path).pixels)


def shown(hu: NDArray[np.float32], window: str, aspect: float) -> Grey:
    """A slice in a display window, with pixels as high as wide."""
    centre, width = WINDOWS[window]
    return np.clip(resized((hu - centre) / width + 0.5, aspect), 0, 1)


def ct_slices(name: str, ct: CTVolume) -> Iterator[Picture]:
    """Axial, coronal and sagittal slices through a volume in the usual display windows."""
    spacing = ct.spacing
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        across, along = (n for n in range(3) if n != axis)
        size = ct.hu.shape[axis]
        for k in np.linspace(0.15 * size, 0.85 * size, SLICES).astype(int):
            plane_hu = np.take(ct.hu, k, axis)[::-1, ::-1].T  # the person's right at the left, head or front on top
            for window in WINDOWS:
                pixels = shown(plane_hu, window, spacing[along] / spacing[across])
                yield Picture(f"CT {plane}", f"{name} {k} {window}", pixels)


def projections(name: str, ct: CTVolume, view: View) -> Iterator[Picture]:
    """Yield radiographs of a CT with random positioning and exposure."""
    for seed in range(PROJECTIONS):
        protocol = draw_protocol(usual_protocol(view, ROWS[view]), np.random.default_rng([seed, 4]))
        made = project_ct(ct, protocol, seed=seed)
        yield Picture(f"CT projected as {view.replace('_', ' ')}", f"{name} {seed}", made.pixels)


def real_volumes(folder: Path) -> Iterator[tuple[str, CTVolume]]:
    """Yield every readable CT volume of any body part."""
    paths = [folder / "ct_chest_above_l1", folder / "ct_100kvp_thorax"]
    paths += sorted((folder / "ct_totalsegmentator_example").rglob("*ct*.nii.gz"))
    paths += [folder / "ct_totalsegmentator_example" / "dicom_jpeg2000_t11_t12"]
    paths += sorted((folder / "ct_tptbox_l3").glob("*_ct.nii.gz"))
    for path in paths:
        try:
            yield "/".join(path.relative_to(folder).parts), read_ct(path, declared_ct=True)
        except (ScanRefusedError, UnusableInputError) as error:
            Console().print(f"{path.name}: {error}")


def single_slices(folder: Path) -> Iterator[Picture]:
    """Yield single slices of CT and MR, displayed from the 1st to the 99th percentile."""
    seen = set()
    for path in sorted([*(folder / "not_ct" / "mr_brain").iterdir(), *(folder / "dicom_odd" / "files").iterdir()]):
        try:
            dataset = pydicom.dcmread(path)
            pixels = np.asarray(dataset.pixel_array, np.float32)
        except Exception:  # noqa: BLE001 - the folder has damaged files, on which pydicom raises any type
            continue
        if dataset.get("Modality") not in ("CT", "MR") or pixels.ndim != 2 or pixels.tobytes() in seen:
            continue
        seen.add(pixels.tobytes())
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip(resized((pixels - low) / max(high - low, 1)), 0, 1)
        yield Picture(f"{dataset.Modality} slice", path.name, pixels)


def other_pictures() -> Iterator[Picture]:
    """Yield noise, text, drawings and photographs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for n in range(40):
        noise = rng.normal(size=(SIDE, SIDE))
        power = (0.0, 1.0, 1.6, 2.2)[n % 4]
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))) + 0.5 / SIDE
        cloud = np.fft.ifft2(np.fft.fft2(noise) * frequency**-power).real
        cloud = 0.5 + 0.2 * (cloud - cloud.mean()) / cloud.std()
        yield Picture("noise", f"noise {power} {n}", np.clip(cloud, 0, 1).astype(np.float32))
    for n in range(16):
        page = Image.new("L", (SIDE, round(SIDE * (1.0, 1.41)[n % 2])), 235)
        draw = ImageDraw.Draw(page)
        size = (11, 18, 30, 60)[n // 4]
        lines = "\n".join(" ".join("bone" * int(k) for k in rng.integers(1, 4, 90 // size)) for _ in range(900 // size))
        draw.text((30, 30), lines, fill=20, font=ImageFont.load_default(size))
        pixels = ndimage.gaussian_filter(np.asarray(page, np.float32) / 255, 1) + rng.normal(0, 0.02, page.size[::-1])
        yield Picture("text", f"text {n}", np.clip(pixels, 0, 1).astype(np.float32))
    for n in range(24):
        cx, cy, rx, ry = rng.uniform((0.3, 0.3, 0.1, 0.1), (0.7, 0.7, 0.5, 0.5))
        drawing = 0.3 + 0.4 * (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1) + 0.2 * (x * np.cos(n) + y * np.sin(n))
        drawing = ndimage.gaussian_filter(drawing, 5) + rng.normal(0, 0.02, drawing.shape)
        yield Picture("drawing", f"ellipse {n}", np.clip(drawing, 0, 1).astype(np.float32))
    photographs = [np.asarray(image, np.float32) for image in load_sample_images().images]
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photographs.append(np.asarray(Image.open(portrait), np.float32))
    for n, photograph in enumerate(photographs):
        grey = photograph.mean(axis=2) / 255
        yield Picture("photograph", f"photograph {n}", resized(grey))
        for part in range(12):
            share = rng.uniform(0.4, 0.8)
            rows, columns = (round(share * s) for s in grey.shape)
            top, left = (int(rng.integers(0, s - r)) for s, r in zip(grey.shape, (rows, columns), strict=True))
            yield Picture("photograph", f"{n} part {part}", resized(grey[top : top + rows, left : left + columns]))


def made_pictures(view: View, count: int) -> Iterator[Picture]:
    """Radiographs of virtual people."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        protocol = draw_protocol(usual_protocol(view, ROWS[view]), np.random.default_rng([seed, 4]))
        made = project(Anatomy(draw_person(seed)), protocol, seed)
        yield Picture(_words(view), f"virtual {seed}", made.pixels)


def cohort_pictures(folder: Path, view: View, most: int) -> Iterator[Picture]:
    """Radiographs of ``view`` in a virtual cohort, evenly from all of it; small ones are enlarged."""
    truths = [t for t in sorted(folder.glob("*/*_truth.json")) if _view_of(t) == view]
    for truth in truths[:: max(1, len(truths) // most)][:most]:
        stem = truth.name.removesuffix("_truth.json")
        path = next(p for p in (truth.with_name(f"{stem}.png"), truth.with_name(f"{stem}.dcm")) if p.exists())
        pixels = read_radiograph(path, check=False).pixels
        name = f"{folder.name}/{path.parent.name}/{path.name}"
        yield Picture(_words(view), name, pixels if min(pixels.shape) >= SIDE else resized(pixels))


def _view_of(truth: Path) -> str:
    return str(json.loads(truth.read_text(encoding="utf-8"))["protocol"]["view"])


def _words(view: View) -> str:
    return view.split("_")[0] if view is View.CHEST_FRONTAL else view.replace("_", " ")


def pictures(
    real: Path | None, chests: list[Path], lumbar: Path | None, made: int, most: int
) -> Iterator[tuple[str, Picture]]:
    """All pictures, each with its origin: real, real CT, virtual or other."""
    if real is not None:
        yield from (("real", p) for p in real_chests(real))
        for name, ct in real_volumes(real):
            yield from (("real", p) for p in ct_slices(name, ct))
            if "full/" in name:
                for view in (View.LUMBAR_AP, View.LUMBAR_LATERAL):
                    yield from (("real", p) for p in projections(name, ct, view))
            if name == "ct_chest_above_l1":
                yield from (("real", p) for p in projections(name, ct, View.CHEST_FRONTAL))
        yield from (("real", p) for p in single_slices(real))
    yield from (("other", p) for p in other_pictures())
    for folder in chests:
        yield from (("virtual", p) for p in cohort_pictures(folder, View.CHEST_FRONTAL, most))
    if not chests:
        yield from (("virtual", p) for p in made_pictures(View.CHEST_FRONTAL, made))
    for view in (View.LUMBAR_AP, View.LUMBAR_LATERAL):
        found = cohort_pictures(lumbar, view, most) if lumbar else made_pictures(view, made)
        yield from (("virtual", p) for p in found)


def read(pixels: Grey, wanted: View) -> tuple[View, int, bool, bool] | str:
    """Return view, turns, mirrored and inverted that the reader found, or the code of its refusal."""
    stored = StoredRadiograph(pixels, None, RadiographFacts("PNG", 16))
    try:
        radiograph = check_radiograph(stored, wanted)
    except ScanRefusedError as error:
        return next(f.code for f in error.findings if f.severity == "refusal")
    inverted = any(f.code == "inverted" for f in radiograph.findings)
    return radiograph.view, radiograph.layout.quarter_turns, radiograph.layout.mirrored, inverted


def lay(picture: Picture) -> Iterator[tuple[str, Picture, int, bool, bool]]:
    """All 16 ways in which a chest can come: turned, mirrored, inverted."""
    small = picture.pixels if min(picture.pixels.shape) <= SIDE else resized(picture.pixels)
    for turns in range(4):
        for mirrored in (False, True):
            for inverted in (False, True):
                changes = [*(["turned"] * (turns > 0)), *(["mirrored"] * mirrored), *(["inverted"] * inverted)]
                whole = picture.pixels if not changes else small
                pixels = np.ascontiguousarray(orient(1 - whole if inverted else whole, turns, mirrored))
                yield " ".join(changes) or "as it is", replace(picture, pixels=pixels), turns, mirrored, inverted


def outcome_of(answer: tuple[View, int, bool, bool] | str, turns: int, mirrored: bool, inverted: bool) -> str:
    """Say how a chest that lay so came out."""
    if isinstance(answer, str):
        return "refused"
    _, found_turns, found_mirrored, found_inverted = answer
    # undo both on a square that has no symmetry
    square = np.arange(4).reshape(2, 2)
    upright = orient(orient(square, turns, mirrored), found_turns, found_mirrored)
    if found_inverted != inverted:
        return "wrong grey"
    if np.array_equal(upright, square):
        return "right"
    return "left for right" if np.array_equal(upright, square[:, ::-1]) else "wrongly turned"


OUTCOMES = ("right", "left for right", "wrongly turned", "wrong grey", "refused")


def main() -> None:
    """Run the benchmark, print its tables and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of real images")
    parser.add_argument("--chests", type=Path, nargs="*", default=[], help="cohorts of virtual chest radiographs")
    parser.add_argument("--lumbar", type=Path, help="cohort of virtual lumbar radiographs")
    parser.add_argument("--made", type=int, default=20, help="virtual people made for a view without a cohort")
    parser.add_argument("--most", type=int, default=200, help="pictures taken of each cohort and view")
    arguments = parser.parse_args()
    chests: defaultdict[str, Counter[str]] = defaultdict(Counter)
    others: defaultdict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    everything = pictures(arguments.real, arguments.chests, arguments.lumbar, arguments.made, arguments.most)
    for origin, picture in track(everything, "Reading pictures", total=None):
        is_chest = picture.group == "chest"
        if is_chest:
            shown_before = sum(chests[f"{origin}: as it is"].values())
            for way, laid, turns, mirrored, inverted in lay(picture):
                if way != "as it is" and origin == "virtual" and shown_before >= LAID:
                    break
                outcome = outcome_of(read(laid.pixels, View.CHEST_FRONTAL), turns, mirrored, inverted)
                chests[f"{origin}: {way}"][outcome] += 1
                if way == "as it is" and outcome != "right" and origin == "real":
                    wrong.append(f"{picture.name}: {outcome}")
        answer = read(picture.pixels, View.UNKNOWN)
        called = "refused" if isinstance(answer, str) else str(answer[0])
        if not is_chest and called == View.CHEST_FRONTAL and origin == "real":
            wrong.append(f"{picture.group}, {picture.name}: taken as a chest")
        others[f"{origin}: {picture.group}"].update(["pictures", f"called {called}"])
    report(chests, others, wrong, arguments)


def report(
    chests: dict[str, Counter[str]], others: dict[str, Counter[str]], wrong: list[str], arguments: argparse.Namespace
) -> None:
    """Print and write the counts."""
    table = Table("chest radiographs", *OUTCOMES)
    for way, counts in chests.items():
        table.add_row(way, *(str(counts[outcome]) for outcome in OUTCOMES))
    names = [f"called {n}" for n in (View.CHEST_FRONTAL, View.UNKNOWN, "refused")]
    second = Table("no view requested", "pictures", *names)
    for group, counts in others.items():
        second.add_row(group, *(str(counts[str(column.header)]) for column in second.columns[1:]))
    for shown_table in (table, second):
        Console().print(shown_table)
    for line in wrong:
        print(line)
    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": psutil.cpu_count()},
        "cohorts": [p.name for p in (*arguments.chests, *([arguments.lumbar] if arguments.lumbar else []))],
        "note": "The 51 real chests and the slices are a development set: the reader's limits were chosen seeing them.",
        "chests": {way: dict(counts) for way, counts in chests.items()},
        "no_view_asked_for": {group: dict(counts) for group, counts in others.items()},
        "real_wrong": wrong,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"radiograph_reading_{now:%Y-%m-%d_%H%M}.json"
    write_json(path, record, indent=1)
    print(f"Written: benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
