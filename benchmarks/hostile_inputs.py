"""Try every failing case of the two reports on 0.1.0 again, and further ones of the same kinds.

One clean virtual CT (seed 1, 100 mg/cm3, every second slice, 4 mm) is altered for each case, a second person (seed 7)
is the source of foreign pixels. Prints case, outcome and sentence; an outcome is ``refused`` by an expected code,
``named`` by an expected finding, ``right value``, or ``STILL WRONG``.

    python -m benchmarks.hostile_inputs [--only N1 L4] [--output RESULTS.json] [--document docs/hostile_inputs.md]

Cases with a real CT need OSTEO_REAL_DATA. Header and tables cases take a second each, screened ones about ten.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.hostile.bug_reports import BUGS
from benchmarks.hostile.case import WRONG, Case, Outcome, Work, fresh, load, thin
from benchmarks.hostile.folders import FOLDERS
from benchmarks.hostile.own import OWN
from benchmarks.hostile.tables import TABLES
from benchmarks.hostile.values import BREAK
from osteo_monai import make_ct
from osteo_monai.screening import load_models, screen
from osteo_monai.utils.files import write_json, write_text

CASES: tuple[Case, ...] = (*BREAK.cases, *FOLDERS.cases, *TABLES.cases, *BUGS.cases, *OWN.cases)


def sound(folder: Path) -> Work:
    """Return the sound study with its own result."""
    study = thin(load(make_ct(folder / "one", seed=1, mean_density=100.0, matrix=256)))
    other = thin(load(make_ct(folder / "other", seed=7, mean_density=60.0, matrix=256)))
    models = load_models("cpu")
    real = os.environ.get("OSTEO_REAL_DATA")
    work = Work(folder, study, other, models, 0.0, (), (), (), Path(real) if real else None)
    result = screen(work.save(copy.deepcopy(study), "sound"), models, device="cpu").result
    if result.density is None or result.verdict != "accepted":
        raise SystemExit(f"the sound study must be accepted, got {[f.message for f in result.findings]}")
    return Work(
        folder,
        study,
        other,
        models,
        result.density.mg_cm3,
        tuple(level.density.mg_cm3 for level in result.levels),
        tuple(level.centre_mm[2] for level in result.levels),
        tuple((level.body_volume_cm3, level.height_mm) for level in result.levels),
        work.real,
    )


def run_case(case: Case, base: Work, folder: Path) -> tuple[Outcome, float]:
    """Return outcome and seconds of one case; any exception means that it is still wrong."""
    begin = time.monotonic()
    facts = {
        **vars(base),
        "folder": fresh(folder),
        "study": copy.deepcopy(base.study),
        "other": copy.deepcopy(base.other),
    }
    try:
        outcome = case.run(Work(**facts))
    except Exception as error:  # noqa: BLE001  # any class is what this script looks for
        outcome = Outcome(WRONG, f"{type(error).__name__}: {error}")
    return outcome, time.monotonic() - begin


def run_cases(cases: Sequence[Case], folder: Path) -> list[dict[str, Any]]:
    """Run all cases and print one line each."""
    base = sound(folder)
    print(f"sound: {base.density:.1f} mg/cm3, levels {[round(d, 1) for d in base.level_densities]}", flush=True)
    done = []
    for case in cases:
        outcome, seconds = run_case(case, base, folder / "case")
        print(f"{case.source} {case.number}: {outcome.kind} ({seconds:.1f} s) {outcome.sentence[:400]}", flush=True)
        facts = {"source": case.source, "case": case.number, "input": case.words, "0.1.0": case.before}
        sentence = outcome.sentence.replace(f"{folder}/case", "CASE")
        done.append({**facts, "now": outcome.kind, "sentence": sentence, "s": round(seconds, 1)})
    return done


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the cases as a Markdown table."""
    lines = ["| case | input | 0.1.0 | now | sentence |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row["case"], row["input"], row["0.1.0"], row["now"], row["sentence"][:200])
        lines.append("| " + " | ".join(" ".join(str(c).replace("|", "/").split()) for c in cells) + " |")
    return "\n".join(lines)


def document(rows: Sequence[dict[str, Any]], date: str) -> str:
    """Return the text of docs/hostile_inputs.md."""
    counts = Counter(row["now"] for row in rows)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    parts = [
        "# Hostile and common wrong input\n\n"
        f"`python -m benchmarks.hostile_inputs`, {date}: {len(rows)} cases, {listed}.\n\n"
        "One clean virtual CT (seed 1, 100 mg/cm3, every second slice, 4 mm) is altered for each case. *refused*: by a "
        "code that names the cause; *named*: a finding names the cause; *refused otherwise*: refused, the cause is not "
        "named; *right value*: within 3 mg/cm3 of the clean study, or the expected rows; *known limit*: not detected, "
        "since people differ by as much (value_checks.md). Cases of the reports keep their numbers; sentences are cut "
        "at 200 characters.\n"
    ]
    titles = {"break": "Cases of the report on 0.1.0", "bugs": "Cases from public bug reports", "own": "Further cases"}
    for source, title in titles.items():
        of_source = [row for row in rows if row["source"] == source]
        if of_source:
            parts.append(f"## {title}\n\n{table(of_source)}\n")
    return "\n".join(parts)


def main() -> None:
    """Run the benchmark; exit code 1 if a case is still wrong."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="cases whose number starts with one of these")
    parser.add_argument("--source", choices=("break", "bugs", "own"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--document", type=Path)
    given = parser.parse_args()
    chosen = [
        case for case in CASES
        if (not given.only or case.number.startswith(tuple(given.only))) and given.source in (None, case.source)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = run_cases(chosen, Path(folder))
    wrong = [row["case"] for row in rows if row["now"] == WRONG]
    print(json.dumps(Counter(row["now"] for row in rows)), "still wrong:", ", ".join(wrong) or "none")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    if given.output is not None:
        write_json(given.output, {"date": date, "cases": rows}, indent=1)
    if given.document is not None:
        write_text(given.document, document(rows, date))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
