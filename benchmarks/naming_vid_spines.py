"""Names of vertebral bodies on recorded spines: how often right, and whether the certainty holds.

    python benchmarks/naming_vid_spines.py FOLDER [--fit] [--output FILE.json]

FOLDER holds ``centres.csv.gz``, ``detections.csv.gz`` and ``scans.csv.gz`` with key points of real CT scans (columns:
scan_id, vertebra, x_mm, y_mm, z_mm in LPS; person_id, flags, one_per_person; kind, p_thoracic, p_lumbar). One scan of
each person takes part. Persons are halved by a hash of ``person_id``: ``--fit`` chooses constants of the model on the
first half and prints them, everything else is evaluated on the second half only.

Places are real, of two kinds: checked centres, or the detections of a network with its real misses and false ones.
Votes of anatomy are simulated (``Votes``), for there are no images; where detections are named, what the network says
of thorax and loins serves as the only vote, and no simulated one is added.
"""

import argparse
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement.landmarks import Role
from osteo_monai.screening.ct.naming import BodyEvidence, Naming, NamingModel, name_column
from osteo_monai.screening.ct.spines import NAMED_LEVELS
from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
MATCH_MM = 15.0
"""A detection nearer to a checked centre than this is that body (as the data's own description counts)."""
UNSURE = ("last name differs", "ends at", "over 1.6 times", "same points")
"""Flags of scans whose names are not certain or that miss a body's point; they take no part."""
VOTED: tuple[Role, ...] = ("ribbed", "last_ribbed", "lumbar", "last_lumbar")
"""Roles with simulated votes; the others follow from these (``BodyEvidence``)."""
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
DETECTOR_FOUND = 0.97
"""Share of the network's detections that are bodies: 583 of 19,700 are not."""
SEGMENT_TRUST = 1.5
"""Exponent of the network's thorax and loin probabilities, chosen by --fit."""


@dataclass(frozen=True)
class Votes:
    """How the votes of an anatomical tracer are simulated, with the error rates stated.

    Attributes:
        rib_ambiguous: chance that the last rib is ambiguous: the last ribbed body and its two neighbours get no vote.
        rib_high: chance that the last rib is taken one body too high (a short rib missed), on both sides.
        rib_low: chance that it is taken one body too low (a process taken for a rib).
        sacrum_ambiguous: chance that the sacrum is in view and not recognised.
        sacrum_wrong: chance that the body above the last lumbar one is taken for the last.
        body_silent: chance that one body by itself gets no vote.
        last_rib_at, rib_at: what is seen at the side of a body is one number with SD 1 about 0 for a process, about
            these for the last rib and the others; the votes are its exact log-likelihoods.
        sacrum_at: the same for what is seen below a body: 0, or this for the sacrum.
        bound: votes lie within this of the best one.
        first_seen: whether the bodies of neck and upper thorax have votes on the first rib, in scans that show C7 and
            T1.
        first_high, first_low: chance that the first rib is taken one body too high or too low.
        first_at: what is seen at these bodies is a number with SD 1 about 0 for the first ribbed one, and about plus or
            minus this for those above and below.
    """

    rib_ambiguous: float = 0.10
    rib_high: float = 0.035
    rib_low: float = 0.015
    sacrum_ambiguous: float = 0.10
    sacrum_wrong: float = 0.02
    body_silent: float = 0.10
    last_rib_at: float = 2.5
    rib_at: float = 4.5
    sacrum_at: float = 3.0
    bound: float = 4.0
    first_seen: bool = False
    first_high: float = 0.015
    first_low: float = 0.03
    first_at: float = 2.5


NO_VOTES = Votes(rib_ambiguous=1.0, sacrum_ambiguous=1.0, body_silent=1.0)
DOUBLED = Votes(rib_high=0.07, rib_low=0.03, sacrum_wrong=0.04)


@dataclass(frozen=True)
class Spine:
    """One scan: its checked centres, lowest first, and its detections (RAS+ mm)."""

    person: str
    levels: tuple[str, ...]
    centres: NDArray[np.float64]
    detections: NDArray[np.float64]
    segments: NDArray[np.float64]
    """(d, 2) probabilities of thorax and loins of each detection."""

    @property
    def variant(self) -> str:
        """``L6``, ``no T12`` or ``usual``."""
        if "L6" in self.levels:
            return "L6"
        return "no T12" if "T11" in self.levels and "L1" in self.levels and "T12" not in self.levels else "usual"


@dataclass(frozen=True)
class Case:
    """What is named, and the truth: the level of each body, ``None`` for a false detection."""

    bodies: tuple[BodyEvidence, ...]
    truth: tuple[str | None, ...]
    present: frozenset[str]
    variant: str
    bottom_mm: float | None = None


@dataclass(frozen=True)
class Window:
    """A part of the column, as a scan shows it; ``None`` is the end of the recorded column."""

    highest: str | None = None
    lowest: str | None = None


def read_spines(folder: Path) -> list[Spine]:
    """Read one scan of each person whose names are certain."""
    scans = pd.read_csv(folder / "scans.csv.gz")
    flags = scans["flags"].fillna("")
    scans = scans[(scans["one_per_person"] == 1) & ~flags.str.contains("|".join(UNSURE))]
    centres = dict(tuple(pd.read_csv(folder / "centres.csv.gz").groupby("scan_id")))
    found = pd.read_csv(folder / "detections.csv.gz")
    detections = dict(tuple(found[found["kind"] == "body"].groupby("scan_id")))
    spines = []
    for scan, person in zip(scans["scan_id"], scans["person_id"], strict=True):
        rows = centres[scan].sort_values("z_mm")
        rows = rows[~rows["vertebra"].isin(["C1", "C2"])]
        seen = detections.get(scan, found.iloc[:0]).sort_values("z_mm")
        levels = tuple(str(name) for name in rows["vertebra"])
        spines.append(
            Spine(str(person), levels, _ras(rows), _ras(seen), seen[["p_thoracic", "p_lumbar"]].to_numpy(float))
        )
    return spines


def _ras(rows: pd.DataFrame) -> NDArray[np.float64]:
    return np.asarray(rows[["x_mm", "y_mm", "z_mm"]].to_numpy(float) * (-1.0, -1.0, 1.0))


def in_first_half(person: str) -> bool:
    """Say whether a person belongs to the half that constants are fitted on."""
    return zlib.crc32(person.encode()) % 2 == 0


def rng_of(person: str, seed: int) -> np.random.Generator:
    """Return the generator of one person's votes, the same in every run."""
    return np.random.default_rng([zlib.crc32(person.encode()), seed])


def simulate_roles(levels: Sequence[str], votes: Votes, rng: np.random.Generator) -> list[dict[Role, float]]:
    """Draw what an anatomical tracer would say of each body, lowest first."""
    ribbed = [i for i, name in enumerate(levels) if name.startswith("T")]
    last_rib = min(ribbed, default=len(levels))
    shift = int(rng.choice([0, 1, -1], p=[1 - votes.rib_high - votes.rib_low, votes.rib_high, votes.rib_low]))
    reported = last_rib + shift
    rib_hidden = rng.random() < votes.rib_ambiguous
    sacrum_seen = levels[0] in ("L5", "L6") and rng.random() >= votes.sacrum_ambiguous
    last_lumbar = int(rng.random() < votes.sacrum_wrong)
    result: list[dict[Role, float]] = []
    for i, name in enumerate(levels):
        silent = rng.random() < votes.body_silent
        noise = rng.normal(size=2)
        if silent or (rib_hidden and abs(i - last_rib) <= 1):
            result.append({})
            continue
        side = 0.0 if i < reported or name.startswith("C") else votes.last_rib_at if i == reported else votes.rib_at
        below = votes.sacrum_at if i == last_lumbar else 0.0
        result.append(_likelihoods(side + noise[0], below + noise[1] if sacrum_seen else None, votes))
    return result


def add_first_rib(
    levels: Sequence[str], roles: Sequence[dict[Role, float]], votes: Votes, rng: np.random.Generator
) -> list[dict[Role, float]]:
    """Replace the votes of the bodies about T1 by votes on the first rib."""
    errors = [1 - votes.first_high - votes.first_low, votes.first_high, votes.first_low]
    reported = levels.index("T1") + int(rng.choice([0, 1, -1], p=errors))
    result = list(roles)
    for i in range(max(0, reported - 3), len(levels)):
        seen = votes.first_at * float(np.clip(i - reported, -1, 1)) + float(rng.normal())
        at: dict[Role, float] = {"ribbed": -votes.first_at, "first_ribbed": 0.0, "cervical": votes.first_at}
        values = {role: max(-0.5 * (seen - mean) ** 2, -votes.bound) for role, mean in at.items()}
        result[i] = {**values, "last_ribbed": values["ribbed"], "lumbar": -votes.bound, "last_lumbar": -votes.bound}
    return result


def _likelihoods(side: float, below: float | None, votes: Votes) -> dict[Role, float]:
    """Return the log-likelihoods of the roles, given what is seen at the side and, if anything, below."""
    sides = np.array([votes.rib_at, votes.last_rib_at, 0.0, 0.0])
    values = -0.5 * (side - sides) ** 2
    if below is not None:
        values -= 0.5 * (below - np.array([0.0, 0.0, 0.0, votes.sacrum_at])) ** 2
    values = np.maximum(values - values.max(), -votes.bound)
    return dict(zip(VOTED, values.tolist(), strict=True))


def centre_cases(spines: Iterable[Spine], window: Window, votes: Votes, seed: int = 0) -> list[Case]:
    """Return the checked centres within a window, with simulated votes; columns without the window are left out."""
    cases = []
    for spine in spines:
        low = 0 if window.lowest is None else _where(spine, window.lowest)
        high = len(spine.levels) - 1 if window.highest is None else _where(spine, window.highest)
        if low is None or high is None or "L1" not in spine.levels[low : high + 1]:
            continue
        rng = rng_of(spine.person, seed)
        roles = simulate_roles(spine.levels[low:], votes, rng)  # a tracer has no information from below the scan
        if votes.first_seen:
            if not {"T1", "C7"} <= set(spine.levels[low : high + 1]):
                continue
            roles = add_first_rib(spine.levels[low:], roles, votes, rng)
        levels, centres = spine.levels[low : high + 1], spine.centres[low : high + 1]
        placed = centres + rng.normal(0.0, 0.7, centres.shape)  # a detector's scatter
        placed = placed[np.argsort(placed[:, 2])]
        bodies = tuple(BodyEvidence((x, y, z), roles=r) for (x, y, z), r in zip(placed.tolist(), roles, strict=False))
        cases.append(Case(bodies, levels, frozenset(levels), spine.variant))
    return cases


def _where(spine: Spine, level: str) -> int | None:
    return spine.levels.index(level) if level in spine.levels else None


def detection_cases(spines: Iterable[Spine], trust: float) -> list[Case]:
    """Return the network's detections with its votes for thorax and loins."""
    cases = []
    for spine in spines:
        if "L1" not in spine.levels or not len(spine.detections):
            continue
        distance = np.linalg.norm(spine.detections[:, None] - spine.centres[None], axis=2)
        truth: list[str | None] = [None] * len(spine.detections)
        for column, level in enumerate(spine.levels):
            nearest = int(distance[:, column].argmin())
            if distance[nearest, column] < MATCH_MM:
                truth[nearest] = level
        bodies = []
        for place, (thorax, loins) in zip(spine.detections.tolist(), spine.segments, strict=True):
            up, down = (trust * float(np.log(np.clip(p, 0.02, 0.98))) for p in (thorax, loins))
            roles = dict(zip(VOTED, (up, up, down, down), strict=True))
            bodies.append(BodyEvidence(tuple(place), found=DETECTOR_FOUND, roles=roles))
        cases.append(Case(tuple(bodies), tuple(truth), frozenset(spine.levels), spine.variant))
    return cases


def expected(level: str) -> str:
    """Return the answer that is right for a body."""
    return level if level in NAMED_LEVELS else "above"


def answer(naming: Naming, i: int) -> str:
    """Return the answer for a detection: a level, ``above`` or ``spurious``."""
    body = naming.bodies[i]
    return str(body.level) if body.level is not None else body.kind


def l1_right(case: Case, naming: Naming) -> bool:
    """Say whether the true L1, and nothing else, is called L1."""
    called = [case.truth[i] for i in range(len(case.truth)) if answer(naming, i) == "L1"]
    return called == (["L1"] if "L1" in case.truth else [])


def all_right(case: Case, naming: Naming) -> bool:
    """Say whether every true body has its name and no false one has the name of a true body."""
    for i, level in enumerate(case.truth):
        said = answer(naming, i)
        if said != expected(level) if level is not None else said in case.present:
            return False
    return True


def run(cases: Iterable[Case], model: NamingModel) -> list[tuple[Case, Naming, float]]:
    """Name every case; also return the seconds of each."""
    results = []
    for case in cases:
        started = time.perf_counter()
        naming = name_column(case.bodies, case.bottom_mm, model)
        results.append((case, naming, time.perf_counter() - started))
    return results


def reliability(pairs: Sequence[tuple[float, bool]]) -> list[dict[str, float]]:
    """Return how often answers of each certainty are right."""
    certainty, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])
    rows = []
    for low, high in pairwise(BINS):
        inside = (certainty >= low) & ((certainty < high) | (high == 1.0))
        if inside.any():
            rows.append(
                {"from": low, "to": high, "answers": int(inside.sum()),
                 "mean_certainty": round(float(certainty[inside].mean()), 4),
                 "share_right": round(float(right[inside].mean()), 4)}
            )  # fmt: skip
    return rows


def l1_pairs(results: Sequence[tuple[Case, Naming, float]]) -> list[tuple[float, bool]]:
    """Return certainty and rightness of every body that is called L1."""
    pairs = []
    for case, naming, _ in results:
        i = naming.index(VertebraLevel.L1)
        if i is not None:
            pairs.append((naming.bodies[i].posterior, case.truth[i] == "L1"))
    return pairs


def summary(results: Sequence[tuple[Case, Naming, float]]) -> dict[str, Any]:
    """Return shares right, by variant, and the reliability of L1's certainty."""
    row: dict[str, Any] = {"scans": len(results)}
    for name in ("all", "usual", "L6", "no T12"):
        part = [(case, naming) for case, naming, _ in results if name in ("all", case.variant)]
        if part:
            row[name] = {
                "scans": len(part),
                "l1_right": round(float(np.mean([l1_right(*p) for p in part])), 4),
                "all_right": round(float(np.mean([all_right(*p) for p in part])), 4),
            }
    pairs = l1_pairs(results)
    sure = [right for certainty, right in pairs if certainty >= 0.95]
    row["l1_called_95"] = {
        "share_of_scans": round(len(sure) / len(results), 4),
        "right": round(float(np.mean(sure)), 4) if sure else None,
        "wrong": int(len(sure) - sum(sure)),
    }
    row["l1_reliability"] = reliability(pairs)
    row["missed_told"] = sum(len(naming.missed) for _, naming, _ in results)
    row["median_ms"] = round(1e3 * float(np.median([s for *_, s in results])), 1)
    row["slowest_ms"] = round(1e3 * max(s for *_, s in results), 1)
    return row


CONDITIONS: dict[str, tuple[Window, Votes]] = {
    "whole column": (Window(), Votes()),
    "whole column, first rib": (Window(), Votes(first_seen=True)),
    "C7-L2, first rib": (Window("C7", "L2"), Votes(first_seen=True)),
    "C7-L2": (Window("C7", "L2"), Votes()),
    "chest T6-L2": (Window("T6", "L2"), Votes()),
    "T10-L2": (Window("T10", "L2"), Votes()),
    "T9-L3": (Window("T9", "L3"), Votes()),
    "L1 and below": (Window("L1", None), Votes()),
    "whole, errors doubled": (Window(), DOUBLED),
    "T9-L3, errors doubled": (Window("T9", "L3"), DOUBLED),
    "T6-L2, no votes": (Window("T6", "L2"), NO_VOTES),
}


def loss(spines: Sequence[Spine], model: NamingModel, trust: float) -> float:
    """Return the mean negative log-probability of the true L1 over conditions with votes (nats)."""
    values = []
    sets = [centre_cases(spines, *CONDITIONS[n]) for n in ("whole column", "chest T6-L2", "T9-L3", "L1 and below")]
    for cases in [*sets, detection_cases(spines, trust)]:
        for case, naming, _ in run(cases, model):
            if "L1" in case.truth:
                p = naming.bodies[case.truth.index("L1")].posteriors.get(VertebraLevel.L1, 0.0)
                values.append(-np.log(max(p, 1e-4)))
    return float(np.mean(values))


def fit(spines: Sequence[Spine], console: Console) -> tuple[NamingModel, float]:
    """Choose constants one after another on a sample of the first half."""
    model, trust = NamingModel(), SEGMENT_TRUST
    best = loss(spines, model, trust)
    grid: dict[str, tuple[float, ...]] = {
        "role_trust": (0.6, 0.8, 1.0, 1.3),
        "centre_sd_mm": (0.5, 1.0, 1.5),
        "ribs_one_high": (0.02, 0.03, 0.05),
        "ribs_one_low": (0.01, 0.02, 0.03),
        "role_noise": (0.02, 0.05, 0.1),
    }
    for name, values in grid.items():
        for value in values:
            tried = replace(model, **{name: value})
            now = loss(spines, tried, trust)
            console.print(f"{name} {value}: {now:.4f}")
            if now < best:
                best, model = now, tried
    for value in (0.7, 1.0, 1.5, 2.0):
        now = loss(spines, model, value)
        console.print(f"segment trust {value}: {now:.4f}")
        if now < best:
            best, trust = now, value
    return model, trust


def show(rows: dict[str, dict[str, Any]], console: Console) -> None:
    """Print one line for each condition, and the reliability of all with votes together."""
    table = Table(
        "condition", "scans", "L1 right", "all right", "L6: L1 right", "called >= 95 %", "of these right", "ms"
    )
    for name, row in rows.items():
        sure, six = row["l1_called_95"], row.get("L6")
        table.add_row(
            name, str(row["scans"]), f"{row['all']['l1_right']:.1%}", f"{row['all']['all_right']:.1%}",
            f"{six['l1_right']:.0%} of {six['scans']}" if six else "-", f"{sure['share_of_scans']:.1%}",
            "-" if sure["right"] is None else f"{sure['right']:.2%} ({sure['wrong']} wrong)", str(row["median_ms"]),
        )  # fmt: skip
    console.print(table)
    console.print("right: the detection called L1 is the recorded L1 and no other is called so")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fit", action="store_true", help="choose constants on the first half, and stop")
    parser.add_argument("--output", type=Path, default=RESULTS / f"naming_vid_spines_{datetime.now(UTC):%Y-%m-%d}.json")
    options = parser.parse_args(arguments)
    console = Console()
    spines = read_spines(options.folder)
    first = [s for s in spines if in_first_half(s.person)]
    second = [s for s in spines if not in_first_half(s.person)]
    if options.fit:
        console.print(fit(first[::4], console))
        return
    makers: dict[str, Callable[[], list[Case]]] = {
        name: (lambda window=window, votes=votes: centre_cases(second, window, votes))  # type: ignore[misc]
        for name, (window, votes) in CONDITIONS.items()
    }
    makers["detections, segment votes"] = lambda: detection_cases(second, SEGMENT_TRUST)
    rows, pairs = {}, []
    for name, make in track(makers.items(), "naming", console=console):
        results = run(make(), NamingModel())
        rows[name] = summary(results)
        if CONDITIONS.get(name, (None, Votes()))[1] == Votes():
            pairs += l1_pairs(results)
    show(rows, console)
    pooled = reliability(pairs)
    table = Table("certainty of L1", "answers", "mean certainty", "right", title="votes at their stated error rates")
    for r in pooled:
        table.add_row(
            f"{r['from']}-{r['to']}", str(r["answers"]), f"{r['mean_certainty']:.3f}", f"{r['share_right']:.3f}"
        )
    console.print(table)
    report = {
        "what": "names of vertebral bodies on recorded spines; second half of the persons; votes simulated",
        "persons": len(second),
        "model": asdict(NamingModel()),
        "votes": asdict(Votes()),
        "segment_trust": SEGMENT_TRUST,
        "conditions": rows,
        "l1_reliability_pooled": pooled,
    }
    write_json(options.output, report)
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    main()
