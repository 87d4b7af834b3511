"""Find words that this project does not use in code, messages and documents, and say what to write instead.

    python tools/plain_english.py [FILE ...]

Without arguments all files under version control are checked. Exit code 1 when a word is found.
"""

import re
import subprocess
import sys
from pathlib import Path

INSTEAD = {
    r"\btold\b": "reported, recorded",
    r"\btells?\b": "reports, shows",
    r"\balone\b": "only",
    r"\bstands? (in|at|for|beside|on|neither|twice)\b": "is, appears",
    r"\b(nobody|somebody|everybody)\b": "no one, a user; usually drop it",
    r"\bjudge[ds]?\b": "evaluate, classify",
    r"\basked\b": "requested",
    r"\bknows?\b": "has, was trained on",
    r"\b(a word for|in words|without a word)\b": "text, silently",
    r"\b(whoever|whatever)\b": "any",
    r"\bside by side\b": "in parallel",
    r"\b(house|rooms?)\b": "package, module",
    r"\bgoes? on\b": "continues",
    r"\bso (many|much|often)\b": "that many, a number",
    r"\b(believed|vouches)\b": "used, declared",
    r"\bspeaks? (of|for)\b": "mentions, supports",
    r"\b(passed over|passes over)\b": "skipped",
    r"\bhonest\b": "valid",
    r"\b(bro(ke|ken) off|breaks? off)\b": "stopped",
    r"\b(by heart|untaught|taught)\b": "overfit, not trained on",
    r"\bgoes? before\b": "overrides",
    r"\b(product's word|the word of)\b": "primary output, value of",
    r"\bforeign (text|error|code)\b": "third-party",
    r"\bwhat (came|comes) of\b": "results",
    r"\bthe door\b": "entry point",
}
SUFFIXES = {".py", ".md", ".json", ".j2", ".toml", ".yml", ".yaml", ".cff", ".css", ".csv", ".txt"}
NAMES = {"Makefile", "run"}
EXEMPT = ("tools/plain_english.py", "LICENSE", "constraints.txt", "benchmarks/results/", "data_manifests/evidence/")
"""This list itself, licences, and quoted results and publications."""


def tracked_files() -> list[str]:
    """List the files under version control that hold text of ours."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [f for f in listed if (Path(f).suffix in SUFFIXES or Path(f).name in NAMES) and Path(f).is_file()]


def findings(file: str) -> list[str]:
    """List one line of output for each word found in a file."""
    if any(part in file for part in EXEMPT):
        return []
    found = []
    for number, line in enumerate(Path(file).read_text(encoding="utf-8").splitlines(), 1):
        for pattern, instead in INSTEAD.items():
            if match := re.search(pattern, line, re.IGNORECASE):
                found.append(f"{file}:{number}: {match.group()!r}: write {instead}")
    return found


def main(files: list[str]) -> int:
    lines = [line for file in files or tracked_files() for line in findings(file)]
    print(*lines, f"{len(lines)} words to replace", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
