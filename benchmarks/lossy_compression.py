"""Effect of lossy compression on the trabecular median HU of vertebral bodies, on virtual and on real CT.

    python benchmarks/lossy_compression.py --real FOLDER [--people 8] [--ratios 5 10 15 20 30 40]

Each axial slice that holds a measured region is compressed and decoded again, and the median HU of the unchanged region
is taken before and after: values are compared only, not the results of a network. Regions: of
virtual people and of bodies with a mask of the body the program's own trabecular region; of whole vertebrae what lies
deeper than 5 mm. ``--real`` is the folder of real images; scans that were stored with loss are not used. Volumes that
were cropped or resampled to 1.5 or 3 mm are counted apart: with little air and detail in every pixel they lose more
at one ratio than slices of 512 x 512 of a scanner.

Codecs: JPEG 2000 irreversible (OpenJPEG, the 9/7 transform, 12 bits); JPEG of 8 bits (Pillow) on HU from -1024 to 1016
in steps of 8, as the stand-in for JPEG baseline; and the lossy step of JPEG of 12 bits (8 x 8 cosine transform, the
luminance table of ITU-T T.81 Annex K, scaled) with the size estimated from the entropy of the coefficients, because no
free encoder writes it. A ratio is bytes allocated (2 a pixel; 1 for 8 bits) by bytes compressed, which is what
LossyImageCompressionRatio says in the one real series at hand; a header that counts the 12 bits stored states three
quarters of it. Prints a table and writes ``benchmarks/results/lossy_compression_DATE.json``.
"""

import argparse
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import decode, encode_array
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage
from scipy.fft import dctn, idctn

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging import read_ct, read_label_map
from osteo_monai.measurement.region import trabecular_region
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, acquire
from osteo_monai.virtual.person import draw_person

RESULTS = Path(__file__).parent / "results"
OFFSET = 1024
"""Added to HU before storing: 12 bits then hold -1024 to 3071 HU, as scanners write them."""
DEEP_MM = 5.0
"""Depth below the surface of a whole vertebra from which its bone counts as trabecular."""
FIRST_SEED = 774_100
"""Of the virtual people."""
_EXAMPLE = "ct_totalsegmentator_example"
REAL: tuple[tuple[str, str, Sequence[int], bool, str | None], ...] = (
    (
        f"{_EXAMPLE}/full/example_ct.nii.gz", f"{_EXAMPLE}/full/totalseg.nii.gz", range(27, 33), False,
        f"{_EXAMPLE}/full/totalseg_vertebrae_body.nii.gz",
    ),
    (
        "ct_tptbox_l3/sub-ct_label-22_ct.nii.gz",
        "ct_tptbox_l3/derived_body_mask_L2is21_L3is22_L4is23.nii.gz", (22,), False, None,
    ),
    (
        f"{_EXAMPLE}/contrast_crop_t12/ct_cropped.nii.gz",
        f"{_EXAMPLE}/contrast_crop_t12/vertebrae_T12.nii.gz", (1,), True, None,
    ),
    (
        f"{_EXAMPLE}/dicom_jpeg2000_t11_t12", f"{_EXAMPLE}/example_seg_dicom.nii.gz", (32, 33), True, None,
    ),
    ("ct_real_dev/lidc0001", "ct_real_dev/lidc0001_silver_vertebrae.nii.gz", range(29, 44), True, None),
)  # fmt: skip
"""Scan, label map, labels used, whether these are whole vertebrae (silver), and a map whose 1 marks bodies."""
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=float,
)  # fmt: skip
"""ITU-T T.81, table K.1."""

Slice = NDArray[np.float64]
Codec = Callable[[Slice, float], tuple[Slice, float]]
"""Slice (rows, columns) in HU and ratio wanted to slice in HU and ratio reached."""


@dataclass(frozen=True)
class Case:
    """One scan with the regions to be measured in it."""

    name: str
    kind: str
    hu: NDArray[np.float32]
    regions: dict[str, NDArray[np.bool_]]


def jpeg2000(hu: Slice, ratio: float) -> tuple[Slice, float]:
    """Compress irreversibly with OpenJPEG, whose own ratio counts the 12 bits stored."""
    stored = np.ascontiguousarray(np.clip(np.rint(hu) + OFFSET, 0, 4095).astype(np.uint16))
    stream = encode_array(
        stored, bits_stored=12, photometric_interpretation=2, compression_ratios=[ratio * 12 / 16], use_mct=False
    )
    return decode(io.BytesIO(stream)).astype(float) - OFFSET, stored.size * 2 / len(stream)


def jpeg_8_bits(hu: Slice, ratio: float) -> tuple[Slice, float]:
    """Compress with Pillow at the best quality that is as small as wanted."""
    stored = Image.fromarray(np.clip(np.rint((hu + OFFSET) / 8), 0, 255).astype(np.uint8))
    for quality in range(100, 0, -1):
        buffer = io.BytesIO()
        stored.save(buffer, "JPEG", quality=quality)
        if hu.size >= ratio * len(buffer.getvalue()):
            break
    return np.asarray(Image.open(buffer), dtype=float) * 8 - OFFSET, hu.size / len(buffer.getvalue())


def jpeg_12_bits(hu: Slice, ratio: float) -> tuple[Slice, float]:
    """Quantise blocks of 8 x 8 with the finest scale of the table that is as small as wanted."""
    rows, columns = hu.shape
    padded = np.pad(np.clip(np.rint(hu), -1024, 3071) - 1024, ((0, -rows % 8), (0, -columns % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8).swapaxes(1, 2)
    spectrum = dctn(blocks, axes=(2, 3), norm="ortho")
    low, high = 0.02, 50.0
    for _ in range(10):
        middle = float(np.sqrt(low * high))
        bits = _entropy_bits(np.rint(spectrum / np.maximum(LUMINANCE * middle, 1.0)))
        low, high = (middle, high) if hu.size * 16 < ratio * bits else (low, middle)
    table = np.maximum(LUMINANCE * high, 1.0)
    quantised = np.rint(spectrum / table)
    decoded = idctn(quantised * table, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(padded.shape)
    return np.rint(decoded[:rows, :columns]) + 1024, hu.size * 16 / _entropy_bits(quantised)


def _entropy_bits(coefficients: NDArray[np.float64]) -> float:
    """Bits of an ideal code with a table for each of the 64 coefficients (rows, columns, 8, 8)."""
    total = 0.0
    for place in coefficients.reshape(-1, 64).T:
        counts = np.unique(place, return_counts=True)[1]
        total -= float((counts * np.log2(counts / counts.sum())).sum())
    return max(total, 1.0)


CODECS: dict[str, Codec] = {"jpeg2000": jpeg2000, "jpeg 12 bits": jpeg_12_bits, "jpeg 8 bits": jpeg_8_bits}


def virtual_cases(people: int) -> Iterator[Case]:
    """Virtual people over the range of densities, every second one with the noise of a low dose, one sharp kernel."""
    for n in range(people):
        density = float(np.linspace(50, 180, people)[n])
        anatomy = Anatomy(draw_person(FIRST_SEED + n, mean_density=density))
        centres = [anatomy.vertebra(level).centre[2] for level in (VertebraLevel.L1, VertebraLevel.L2)]
        protocol = CTProtocol(noise_hu=12.0 if n % 2 else 30.0, kernel="sharp" if n == 1 else "soft")
        scan = acquire(anatomy, protocol, z_range=(min(centres) - 25, max(centres) + 25), seed=n)
        regions = {}
        for level in (VertebraLevel.L1, VertebraLevel.L2):
            regions[str(level)] = trabecular_region(scan.labels == level.label, scan.hu, scan.affine).mask
        yield Case(f"virtual {FIRST_SEED + n}", "virtual", scan.hu, regions)


def real_cases(folder: Path) -> Iterator[Case]:
    """The real scans that were stored without loss and have a mask."""
    for image, labels, wanted, silver, bodies in REAL:
        scan = read_ct(folder / image)
        levels, affine = read_label_map(folder / labels)
        if levels.shape != scan.hu.shape or not np.allclose(affine, scan.affine, atol=0.1):
            raise ValueError(f"{labels} does not lie on the grid of {image}")
        inside = np.ones(levels.shape, dtype=bool) if bodies is None else read_label_map(folder / bodies)[0] == 1
        regions = {}
        for label in wanted:
            mask = (levels == label) & inside
            region = deep_part(mask, scan.spacing) if silver else trabecular_region(mask, scan.hu, scan.affine).mask
            if np.count_nonzero(region) >= 50:
                regions[str(label)] = region
        whole = min(scan.hu.shape[:2]) >= 512
        yield Case(image, "real" if whole else "real, cropped or coarse", scan.hu, regions)


def deep_part(vertebra: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the largest part (X, Y, Z) of a vertebra deeper than ``DEEP_MM`` below its surface or the scan's end."""
    inside = ndimage.distance_transform_edt(np.pad(vertebra, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    deep = inside > DEEP_MM
    parts, count = ndimage.label(deep)
    if count == 0:
        return np.asarray(deep, dtype=bool)
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])), dtype=bool)


def measure(case: Case, codec: str, ratio: float) -> list[dict[str, Any]]:
    """Compress the slices of a case and return a row for each region."""
    used = np.flatnonzero(np.any(list(case.regions.values()), axis=(0, 1, 2)))
    after = case.hu.copy()
    reached = []
    for k in used:
        plane, got = CODECS[codec](case.hu[:, :, k].T.astype(float), ratio)
        after[:, :, k] = plane.T
        reached.append(got)
    rows = []
    for name, region in case.regions.items():
        before, now = case.hu[region], after[region]
        rows.append(
            {
                "case": case.name, "kind": case.kind, "region": name, "codec": codec, "ratio": ratio,
                "ratio_reached": round(float(np.mean(reached)), 2), "voxels": int(region.sum()),
                "median_hu": round(float(np.median(before)), 2),
                "median_change_hu": round(float(np.median(now) - np.median(before)), 3),
                "mean_change_hu": round(float(now.mean() - before.mean()), 3),
                "sd_ratio": round(float(now.std() / before.std()), 4),
                "rms_error_hu": round(float(np.sqrt(np.mean((now - before) ** 2))), 2),
            }
        )  # fmt: skip
    return rows


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each codec, ratio and kind: the spread of the change of the median."""
    groups: defaultdict[tuple[str, float, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["codec"], row["ratio"], row["kind"]].append(row)
    found = []
    for (codec, ratio, kind), members in groups.items():
        changes = np.array([m["median_change_hu"] for m in members])
        found.append(
            {
                "codec": codec, "ratio": ratio, "kind": kind, "regions": len(members),
                "ratio_reached": round(float(np.mean([m["ratio_reached"] for m in members])), 1),
                "mean_change_hu": round(float(changes.mean()), 2),
                "largest_change_hu": round(float(np.abs(changes).max()), 2),
                "sd_ratio": round(float(np.mean([m["sd_ratio"] for m in members])), 3),
                "rms_error_hu": round(float(np.mean([m["rms_error_hu"] for m in members])), 1),
            }
        )  # fmt: skip
    return found


def main() -> None:
    """Run the benchmark, print its table and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of real images (default: virtual ones only)")
    parser.add_argument("--people", type=int, default=8, help="virtual people")
    parser.add_argument("--ratios", type=float, nargs="+", default=[5, 10, 15, 20, 30, 40])
    arguments = parser.parse_args()
    cases = [*virtual_cases(arguments.people), *(real_cases(arguments.real) if arguments.real else ())]
    rows = []
    for case in track(cases, "Compressing"):
        for codec in CODECS:
            for ratio in arguments.ratios:
                rows += measure(case, codec, ratio)
    summary = summarise(rows)
    columns = list(summary[0])
    table = Table(*columns)
    for row in summary:
        table.add_row(*(str(row[c]) for c in columns))
    Console().print(table)
    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("pylibjpeg-openjpeg", "pillow", "scipy", "numpy")},
        "people": arguments.people,
        "first_seed": FIRST_SEED,
        "summary": summary,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"lossy_compression_{now:%Y-%m-%d}.json"
    write_json(path, record, indent=1)
    print(f"Written: benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
