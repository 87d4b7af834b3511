"""The node against Orthanc in a private network namespace; skipped visibly where one of the programs is missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("pacs_round_trip.py")
NAMESPACE = [
    "unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
    "bash", "-c", 'ip link set lo up && exec "$@"', "_",
]  # fmt: skip
PROGRAMS = ("Orthanc", "unshare", "ip", "echoscu", "openssl")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or not Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").is_file():
        pytest.skip(f"needs Orthanc with its DICOMweb plugin and dcmtk, missing: {missing or 'the plugin'}")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("needs private network namespaces, which this machine does not allow")
    folder = tmp_path_factory.mktemp("pacs")
    words = [*NAMESPACE, sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    read: dict[str, object] = json.loads((folder / "facts.json").read_text())
    return read


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ct in the pacs", [0] * 6),
        ("echo from the pacs", True),
        ("forwarded", True),
        ("result is in the pacs", True),
        ("committed", True),
        ("series by QIDO", 2),
        ("series by C-FIND", 2),
        ("result by WADO is identical", [True]),
        ("objects by C-MOVE", 7),
        ("sent again", True),
        ("results after sending again", 1),
        ("jobs after sending again", {"done": 1}),
        ("node rejects a wrong calling AE", True),
        ("node rejects a wrong called AE", True),
        ("pacs rejects a wrong AE", True),
        ("study while the pacs is down", [0] * 6),
        ("delivery waits", True),
        ("result after the pacs is back", True),
        ("exit code of the node", 0),
        ("followed study has a result by STOW-RS", True),
        ("jobs of the follower", {"done": 2}),
        ("echo with a client certificate", 0),
        ("result of screen", True),
        ("identifiers", []),
    ],
)
def test_round_trip(facts: dict[str, object], name: str, expected: object) -> None:
    assert facts[name] == expected


@pytest.mark.parametrize("name", ["echo without a certificate", "echo without TLS"])
def test_tls_is_required(facts: dict[str, object], name: str) -> None:
    assert facts[name] != 0


def test_screen_refuses_the_made_up_study(facts: dict[str, object]) -> None:
    assert facts["exit code of screen"] in (2, 3)
