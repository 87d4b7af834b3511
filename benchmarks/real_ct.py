"""The product on real CT scans whose levels a reader has named: verdicts, names, places, outlines, HU.

    python benchmarks/real_ct.py FOLDER [--only NAME ...] [--images FOLDER] [--output FILE.json] [--keep FOLDER]

FOLDER holds ``truth.json`` and the scans it names; docs/real_ct.md describes both, and every column of the table.
``--images`` names a folder of further images as this project's contributors have them (``NEGATIVES``, ``EXAMPLE``):
scans that must not be measured, and one CT with body masks. Missing folders are skipped and reported.

Prints one Markdown table and the sums, and writes both as JSON. Nothing of a header is printed. Exit code 1 if a wrong
level was measured, or an image that must not be.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from osteo_monai.domain import LEVEL_LABELS, SCREENED_LEVELS, Severity, VertebraLevel
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
SAME_BODY_MM = 15.0
"""Bodies nearer than this along z are the same one: half the distance of two lumbar bodies."""
GOOD_CENTRE_MM = 5.0
"""A centre nearer than this to the reader's is right; the reader's own error is 3 mm."""
ALIASES: Mapping[str, tuple[str, ...]] = {
    "contrast": ("contrast",),
    "levels_not_covered": ("levels_not_covered", "level_cut"),
    "level_uncertain": ("level_uncertain", "body_missed", "pitch_off_range", "levels_not_consecutive"),
}
"""Words in ``expect`` for several finding codes, by the prefixes of the codes."""
DAMAGE_CODES = ("fracture", "possible_fracture", "level_cut", "metal", "cement_or_sclerosis")
"""Findings that say something of a body which a reader can check."""
TOTALSEGMENTATOR = {31: "L1", 30: "L2", 29: "L3", 28: "L4", 27: "L5"} | {44 - n: f"T{n}" for n in range(1, 13)}
VERSE = {label: str(level) for level, label in LEVEL_LABELS.items()}

COLUMNS = (
    "scan", "verdict", "as expected", "centres (z error, mm)", "names", "certainty L1, L2", "wrong measured",
    "false codes", "outline in own / other vertebra", "HU - reader's", "warnings and refusals", "s",
)  # fmt: skip
"""Heads of the table."""

NEGATIVES: Mapping[str, tuple[str, ...]] = {
    "ct_chest_above_l1": ("refused:levels_not_covered",),
    "ct_100kvp_thorax": ("refused:levels_not_covered",),
    "ct_totalsegmentator_example/dicom_jpeg2000_t11_t12": ("refused:levels_not_covered",),
    "ct_totalsegmentator_example/contrast_crop_t12/ct_cropped.nii.gz": ("refused:levels_not_covered",),
    "ct_totalsegmentator_example/cardiac_crop/ct_cropped.nii.gz": ("refused:levels_not_covered",),
    "ct_totalsegmentator_example/partial_l2_cut/example_ct_sm.nii.gz": (
        "refused:levels_not_covered", "refused:level_uncertain", "measured:L1 only",
    ),
    "ct_tptbox_l3/sub-ct_label-22_ct.nii.gz": ("refused:levels_not_covered", "refused:level_uncertain"),
    "not_ct/mr_brain": ("unusable", "refused:not_ct"),
    "not_ct/seg_named_like_ct": ("unusable", "refused:not_ct"),
}  # fmt: skip
"""Images below ``--images`` that show no whole L1 and L2, and what a right program may answer."""
EXAMPLE = "ct_totalsegmentator_example/full"
EXAMPLE_CT, EXAMPLE_MASK = "example_ct.nii.gz", "derived_body_mask_L1is1_L2is2.nii.gz"


@dataclass(frozen=True)
class TrueLevel:
    """One body that a reader named."""

    z_mm: float
    whole: bool = True
    hu_median: float | None = None


@dataclass(frozen=True)
class Mask:
    """A label map of vertebrae on any grid, and which integers are which levels."""

    data: NDArray[np.integer[Any]]
    affine: NDArray[np.float64]
    names: Mapping[int, str]

    def at(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the label at points (n, 3) in RAS+ mm; -1 outside the grid."""
        inverse = np.linalg.inv(self.affine)
        index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        inside = ((index >= 0) & (index < self.data.shape)).all(axis=1)
        labels = np.full(len(points), -1, dtype=np.int64)
        labels[inside] = self.data[tuple(index[inside].T)]
        return labels


@dataclass(frozen=True)
class Truth:
    """What is known of one scan."""

    expect: tuple[str, ...]
    levels: Mapping[str, TrueLevel] = field(default_factory=dict)
    true_findings: frozenset[str] = frozenset()
    mask: Mask | None = None


@dataclass(frozen=True)
class Outline:
    """How the outline of one level lies in a mask of whole vertebrae."""

    volume_cm3: float
    own: float
    other: float


@dataclass(frozen=True)
class Row:
    """What the product made of one scan.

    Attributes:
        met: ``yes``, ``no`` (always where a wrong level was measured), or ``late`` if the expected reason is
            reported, but not first.
        centre_errors_mm: z of the found body nearest to each whole true one, minus the true z; absent if none is near.
        names_right, names_wrong: of the true bodies that were found; the wrong ones as "true called found".
        wrong_measured: levels measured at a place where the truth has another level.
        false_codes: findings of damage on bodies that are sound and whole.
        hu_difference: measured median minus the reader's, by level.
    """

    scan: str
    verdict: str
    codes: tuple[str, ...]
    met: str
    centre_errors_mm: Mapping[str, float]
    not_found: tuple[str, ...]
    names_right: int
    names_wrong: tuple[str, ...]
    certainty: Mapping[str, float]
    wrong_measured: tuple[str, ...]
    false_codes: tuple[str, ...]
    outlines: Mapping[str, Outline]
    hu_difference: Mapping[str, float]
    seconds: float


def read_truth(entry: Mapping[str, Any], folder: Path) -> Truth:
    """Read one entry of ``truth.json``."""
    levels = {
        name: TrueLevel(float(v["z_mm"]), bool(v.get("whole", True)), v.get("hu_median"))
        for name, v in entry.get("levels", {}).items()
    }
    text = entry.get("silver_masks") or entry.get("expert_masks")
    mask = read_mask(folder / text.partition(":")[0].strip(), mask_names(text)) if text else None
    # truth files write another adverb after the levels
    expect = tuple(re.sub(r"^(measured:.+) \w+$", r"\1 only", text) for text in entry["expect"])
    return Truth(expect, levels, frozenset(entry.get("true_findings", ())), mask)


def mask_names(text: str) -> dict[int, str]:
    """Return which label is which level; VerSe's numbers unless the text says that 31 is L1, as TotalSegmentator's."""
    return TOTALSEGMENTATOR if re.search(r"\b31 L1\b", text) else VERSE


def read_mask(path: Path, names: Mapping[int, str]) -> Mask:
    """Read a label map from NIfTI."""
    image: Any = nib.load(path)
    return Mask(np.asarray(image.dataobj).astype(np.int64), np.asarray(image.affine, dtype=np.float64), names)


def scan_path(path: Path) -> Path:
    """Return what is read of an entry: its one NIfTI file if it holds one, else the folder or file itself."""
    volumes = sorted(path.glob("*.nii*")) if path.is_dir() else []
    return volumes[0] if len(volumes) == 1 else path


def verdict(result: ScreeningResult, wanted: Sequence[VertebraLevel] = SCREENED_LEVELS) -> str:
    """Return a result as in ``expect``: ``measured``, ``measured:L1 only``, ``refused:CODE``, ``unusable``.

    Of a refused study the first refusal counts, which is what a user reads.
    """
    if result.verdict == "unusable":
        return "unusable"
    if result.verdict == "refused":
        return f"refused:{refusals(result)[0]}"
    measured = [str(m.level) for m in result.levels]
    return "measured" if set(measured) == {str(v) for v in wanted} else f"measured:{' and '.join(measured)} only"


def refusals(result: ScreeningResult) -> list[str]:
    """Return the codes of the refusals in their order."""
    return [f.code for f in result.findings if f.severity is Severity.REFUSAL]


def matches(said: str, allowed: str) -> bool:
    """Return whether ``expect`` allows a verdict.

    ``refused:WORD`` allows every finding code that begins with WORD, or with one of the beginnings in ``ALIASES``;
    ``measured`` also allows a whole L1 that was excluded for its bone (L2 only).
    """
    if allowed == "measured" and said == "measured:L2 only":
        return True
    kind, _, word = allowed.partition(":")
    said_kind, _, code = said.partition(":")
    if kind != "refused" or said_kind != "refused":
        return said == allowed
    return code.startswith(ALIASES.get(word, (word,)))


def expectation_met(result: ScreeningResult, expect: Iterable[str]) -> str:
    """Return ``yes``, ``late`` (the expected refusal is reported, after another one) or ``no``."""
    expect = tuple(expect)
    if any(matches(verdict(result), allowed) for allowed in expect):
        return "yes"
    if result.verdict != "refused":
        return "no"
    return "late" if any(matches(f"refused:{c}", a) for c in refusals(result) for a in expect) else "no"


def compare_places(
    found: Mapping[str, tuple[float, float, float]], truth: Truth
) -> tuple[dict[str, float], list[str], int, list[str]]:
    """Compare found bodies with true ones.

    Returns:
        Centre errors in mm by true level, whole bodies that nothing was found at, the number of right names, and the
        wrong ones.
    """
    if not truth.levels and truth.mask is not None:
        return ({}, [], *_names_in_mask(found, truth.mask))
    errors: dict[str, float] = {}
    missing, wrong, right = [], [], 0
    for level, true in truth.levels.items():
        name, off = min(((n, c[2] - true.z_mm) for n, c in found.items()), key=lambda p: abs(p[1]), default=("", 1e9))
        if abs(off) >= SAME_BODY_MM:
            missing += [level] if true.whole else []
            continue
        right += name == level
        wrong += [] if name == level else [f"{level} called {name}"]
        if true.whole:
            errors[level] = round(off, 1)
    return errors, missing, right, wrong


def _names_in_mask(found: Mapping[str, tuple[float, float, float]], mask: Mask) -> tuple[int, list[str]]:
    labels = mask.at(np.array(list(found.values()), dtype=float).reshape(-1, 3))
    true = [mask.names.get(int(label)) for label in labels]
    wrong = [f"{t} called {name}" for t, name in zip(true, found, strict=True) if t is not None and t != name]
    return sum(t == name for t, name in zip(true, found, strict=True)), wrong


def wrongly_measured(measured: Mapping[str, tuple[float, float, float]], truth: Truth) -> list[str]:
    """Return the measured levels that lie where the truth has another level, or none within reach."""
    wrong = []
    for name, centre in measured.items():
        if truth.levels:
            nearest = min(truth.levels, key=lambda level: abs(truth.levels[level].z_mm - centre[2]))
            if abs(truth.levels[nearest].z_mm - centre[2]) >= SAME_BODY_MM:
                nearest = "nothing named"
        elif truth.mask is not None:
            nearest = truth.mask.names.get(int(truth.mask.at(np.array([centre]))[0]), "nothing named")
        else:
            continue
        wrong += [] if nearest == name else [f"{name} is {nearest}"]
    return wrong


def false_codes(result: ScreeningResult, truth: Truth) -> list[str]:
    """Return the findings of damage on bodies that are sound and whole by the truth."""
    cut = {level for level, true in truth.levels.items() if not true.whole}
    named_codes = []
    for finding in result.findings:
        named = set(re.findall(r"\b[TL]\d{1,2}\b", finding.message))
        if finding.code not in DAMAGE_CODES or finding.code in truth.true_findings:
            continue
        if finding.code == "level_cut" and (named & cut or not named & set(truth.levels)):
            continue
        named_codes.append(f"{finding.code} {'/'.join(sorted(named))}".strip())
    return named_codes


def outlines(labels_path: Path, mask: Mask) -> dict[str, Outline]:
    """Return for each outlined level that the masks hold which share lies inside its own vertebra and inside others."""
    if not labels_path.exists():
        return {}
    written = read_mask(labels_path, VERSE)
    voxel_cm3 = abs(float(np.linalg.det(written.affine[:3, :3]))) / 1000.0
    shares = {}
    held = {mask.names.get(int(v)) for v in np.unique(mask.data)}
    for label in np.unique(written.data[written.data > 0]):
        if VERSE[int(label)] not in held:
            continue
        index = np.argwhere(written.data == label)
        there = mask.at(index @ written.affine[:3, :3].T + written.affine[:3, 3])
        names = [mask.names.get(int(v), "other") for v in there if v > 0]
        own = sum(n == VERSE[int(label)] for n in names)
        shares[VERSE[int(label)]] = Outline(
            round(len(index) * voxel_cm3, 1), round(own / len(index), 3), round((len(names) - own) / len(index), 3)
        )
    return shares


def evaluate_result(name: str, result: ScreeningResult, truth: Truth, labels_path: Path, seconds: float) -> Row:
    """Compare one result with the truth."""
    found = {str(v.level): v.centre_mm for v in result.levels_found}
    errors, missing, right, wrong = compare_places(found, truth)
    if not result.levels_found:
        missing = []
    measured = {str(m.level): m.centre_mm for m in result.levels}
    mistaken = wrongly_measured(measured, truth)
    return Row(
        scan=name,
        verdict=verdict(result),
        codes=tuple(dict.fromkeys(f.code for f in result.findings if f.severity is not Severity.INFO)),
        met="no" if mistaken else expectation_met(result, truth.expect),
        centre_errors_mm=errors,
        not_found=tuple(missing),
        names_right=right,
        names_wrong=tuple(wrong),
        certainty={str(v.level): round(v.certainty, 3) for v in result.levels_found if v.level in SCREENED_LEVELS},
        wrong_measured=tuple(mistaken),
        false_codes=tuple(false_codes(result, truth)),
        outlines=outlines(labels_path, truth.mask) if truth.mask is not None else {},
        hu_difference={
            str(m.level): round(m.hu.median - float(true.hu_median), 1)
            for m in result.levels
            if (true := truth.levels.get(str(m.level))) is not None and true.hu_median is not None
        },
        seconds=round(seconds, 1),
    )


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return Dice's overlap of two masks; 0 where both are empty."""
    both = int(a.sum() + b.sum())
    return 2.0 * int((a & b).sum()) / both if both else 0.0


def body_overlap(labels: NDArray[Any], truth: NDArray[Any], affine: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return Dice of L1 and L2 over the whole body and over the middle third of its height.

    Args:
        labels: (X, Y, Z) in VerSe's numbers.
        truth: (X, Y, Z) on the same grid, 1 in L1 and 2 in L2.
        affine: of both, to RAS+ mm; the middle third is that of z.
    """
    overlap = {}
    for value, level in ((1, VertebraLevel.L1), (2, VertebraLevel.L2)):
        a, b = labels == level.label, truth == value
        z = np.indices(b.shape).reshape(3, -1).T @ affine[2, :3] + affine[2, 3]
        low, high = (float(f(z[b.ravel()])) for f in (np.min, np.max))
        middle = ((z >= low + (high - low) / 3) & (z <= high - (high - low) / 3)).reshape(b.shape)
        overlap[str(level)] = {
            "whole": round(dice(a, b), 3),
            "middle_third": round(dice(a & middle, b & middle), 3),
        }
    return overlap


def sums(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures over all scans."""
    errors = [abs(e) for row in rows for e in row.centre_errors_mm.values()]
    hu = [abs(d) for row in rows for d in row.hu_difference.values()]
    shares = [o for row in rows for o in row.outlines.values()]
    missing = sum(len(row.not_found) for row in rows)
    named = sum(row.names_right + len(row.names_wrong) for row in rows)
    return {
        "scans": len(rows),
        "expectation_met": sum(row.met == "yes" for row in rows),
        "expected_reason_not_first": sum(row.met == "late" for row in rows),
        "measured": sum(row.verdict.startswith("measured") for row in rows),
        "wrong_level_measured": sum(bool(row.wrong_measured) for row in rows),
        "names_right": sum(row.names_right for row in rows),
        "names_judged": named,
        "scans_with_a_wrong_name": sum(bool(row.names_wrong) for row in rows),
        "centres_within_5_mm": sum(e <= GOOD_CENTRE_MM for e in errors),
        "centres_judged": len(errors) + missing,
        "centre_error_median_mm": round(float(np.median(errors)), 1) if errors else None,
        "centre_error_worst_mm": max(errors, default=None),
        "false_codes": sum(len(row.false_codes) for row in rows),
        "outline_own_share_least": min((o.own for o in shares), default=None),
        "outline_other_share_most": max((o.other for o in shares), default=None),
        "hu_difference_median": round(float(np.median(hu)), 1) if hu else None,
        "hu_difference_worst": max(hu, default=None),
    }


def markdown(rows: Sequence[Row]) -> str:
    """Return the table of all scans."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        named = row.names_right + len(row.names_wrong)
        cells = (
            row.scan, row.verdict, row.met,
            ", ".join([f"{k} {v:+.0f}" for k, v in row.centre_errors_mm.items()] + [f"{k} -" for k in row.not_found]),
            f"{row.names_right}/{named}" + "".join(f"; {w}" for w in row.names_wrong) if named else "",
            ", ".join(f"{v:.2f}" for _, v in sorted(row.certainty.items())),
            ", ".join(row.wrong_measured), ", ".join(row.false_codes),
            ", ".join(f"{k} {o.own:.0%} / {o.other:.0%}" for k, o in row.outlines.items()),
            ", ".join(f"{k} {v:+.0f}" for k, v in row.hu_difference.items()),
            ", ".join(row.codes), f"{row.seconds:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


class Product:
    """The product, its models loaded once."""

    def __init__(self, folder: Path, device: str) -> None:
        from osteo_monai.screening import load_models

        self.folder, self.models = folder, load_models(device)

    def __call__(self, name: str, path: Path, truth: Truth) -> tuple[Row, ScreeningResult, Path]:
        """Screen one scan, and return its row, its result and the folder with its files."""
        from osteo_monai.screening import Study
        from osteo_monai.screening_files import screen_to_folder

        output = self.folder / name.replace("/", "_")
        result = screen_to_folder(Study("ct", path), output, models=self.models, name=name)
        row = evaluate_result(name, result, truth, output / "labels.nii.gz", sum(result.seconds.values()))
        return row, result, output


def screen_truth(product: Product, folder: Path, only: Sequence[str], console: Console) -> list[Row]:
    """Screen every scan that ``truth.json`` names."""
    entries = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    names = [n for n in entries if not n.startswith("_") and (not only or n in only)]
    missing = [n for n in names if not (folder / str(entries[n].get("input", n))).exists()]
    if missing:
        raise FileNotFoundError(f"truth.json names scans that are not in its folder: {', '.join(missing)}")
    rows = []
    for name in track(names, "scans with truth", console=console):
        path = scan_path(folder / str(entries[name].get("input", name)))
        rows.append(product(name, path, read_truth(entries[name], folder))[0])
    return rows


def screen_negatives(product: Product, images: Path, only: Sequence[str], console: Console) -> list[Row]:
    """Screen the images that must not be measured."""
    there = [n for n in NEGATIVES if (images / n).exists() and (not only or n in only)]
    for name in sorted(set(NEGATIVES) - set(there)) if not only else ():
        console.print(f"absent and skipped: {name}")
    return [
        product(name, images / name, Truth(NEGATIVES[name]))[0]
        for name in track(there, "images that must not be measured", console=console)
    ]


def screen_example(product: Product, images: Path) -> dict[str, Any] | None:
    """Screen the CT with body masks; ``None`` where it is absent."""
    folder = images / EXAMPLE
    if not (folder / EXAMPLE_CT).exists():
        return None
    row, _, output = product(EXAMPLE, folder / EXAMPLE_CT, Truth(("measured",)))
    report: dict[str, Any] = {"verdict": row.verdict, "codes": row.codes, "certainty": row.certainty}
    if (output / "labels.nii.gz").exists():
        truth = read_mask(folder / EXAMPLE_MASK, {})
        report["dice"] = body_overlap(read_mask(output / "labels.nii.gz", VERSE).data, truth.data, truth.affine)
    return report


def run(arguments: argparse.Namespace, scratch: Path, console: Console) -> dict[str, Any]:
    """Screen everything, and return the report."""
    product = Product(scratch, arguments.device)
    rows = screen_truth(product, arguments.folder, arguments.only, console)
    report: dict[str, Any] = {
        "models": {
            m.name: {"version": m.version, "weights_sha256": m.weights_sha256}
            for m in (product.models.localisation, product.models.segmentation)
        },
        "sums": sums(rows),
        "scans": [asdict(row) for row in rows],
    }
    print(markdown(rows))
    if arguments.images is not None:
        negatives = screen_negatives(product, arguments.images, arguments.only, console)
        print("\n" + markdown(negatives))
        report["negatives"] = [asdict(row) for row in negatives]
        report["sums"]["negatives_as_expected"] = sum(row.met == "yes" for row in negatives)
        report["sums"]["negatives"] = len(negatives)
        report["sums"]["negatives_measured"] = sum(
            row.verdict.startswith("measured") and row.met != "yes" for row in negatives
        )
        if not arguments.only or EXAMPLE in arguments.only:
            report["example"] = screen_example(product, arguments.images)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with truth.json")
    parser.add_argument("--only", nargs="+", default=[], help="names of scans")
    parser.add_argument("--images", type=Path, help="folder with the images that must not be measured")
    parser.add_argument("--keep", type=Path, help="folder for results and reports; they are dropped without it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / f"real_ct_{datetime.now(UTC):%Y-%m-%d_%H%M}.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = run(options, options.keep or Path(scratch), console)
    print("\n" + "\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in report["sums"].items()))
    if report.get("example"):
        print(f"- example: {json.dumps(report['example'])}")
    write_json(options.output, report, indent=1)
    console.print(f"written to {options.output}")
    return 1 if report["sums"]["wrong_level_measured"] or report["sums"].get("negatives_measured") else 0


if __name__ == "__main__":
    sys.exit(main())
