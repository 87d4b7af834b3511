"""Cold start of ``osteo-monai screen``: what its process does not import, and that the answer does not depend on it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from osteo_monai import View, make_radiograph
from osteo_monai.cli.logs import LogScope
from osteo_monai.utils.monai_import import UNUSED_PACKAGES

NOT_IMPORTED = sorted({*UNUSED_PACKAGES, "scipy.stats", "SimpleITK", "sympy"})
"""Slow packages that no screening of a radiograph uses."""

AS_COMMAND = "from osteo_monai.cli import main as start"
WITH_ALL_OF_MONAI = "import monai\nfrom osteo_monai.cli import main as start"


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # the picture, which has no age, sex, height and weight for the combined model
    return make_radiograph(tmp_path_factory.mktemp("radiograph"), view=View.CHEST_FRONTAL, seed=3).with_suffix(".png")


def screened(study: Path, output: Path, start: str) -> tuple[dict[str, Any], set[str]]:
    """Return the result without its times, and the slow packages that the process imported."""
    words = ["osteo-monai", "screen", str(study), "-o", str(output), "--device", "cpu", "--allow-unvalidated"]
    program = (
        f"import sys\nsys.argv = {words!r}\n{start}\n"
        "try:\n    start()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print('LOADED', *(set({NOT_IMPORTED!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    result.pop("seconds")
    return result, set(done.stdout.rpartition("LOADED")[2].split())


def test_a_radiograph_imports_no_training_packages_and_has_the_same_result(radiograph: Path, tmp_path: Path) -> None:
    lean, loaded = screened(radiograph, tmp_path / "lean", AS_COMMAND)
    whole, all_loaded = screened(radiograph, tmp_path / "whole", WITH_ALL_OF_MONAI)
    assert loaded == set()
    assert {"mlflow", "ignite"} <= all_loaded
    assert lean["radiograph"]["risk"]["score"] > 0
    assert lean == whole
    assert (tmp_path / "lean/heat_map.png").read_bytes() == (tmp_path / "whole/heat_map.png").read_bytes()


SCREEN = """
from osteo_monai.cli.screening_run import Screener
from osteo_monai.screening import ScreeningOptions
load = Screener("cpu", ScreeningOptions(), None).load_screening
"""
SEGMENT = """
from pathlib import Path
from osteo_monai.cohort.segment import _Load
load = _Load(Path(), (), "cpu", False, None)
"""
NODE = """
from osteo_monai.cli.node_screening import PROCESSOR
from osteo_monai.node.processing import LoadByName
load = LoadByName(PROCESSOR, {})
"""


def python(program: str) -> str:
    """Return what a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("loader", [SCREEN, SEGMENT, NODE])
def test_a_worker_imports_no_training_packages(loader: str) -> None:
    dumped = python(f"import pickle\n{loader}\nprint(pickle.dumps(load).hex())")
    loaded = python(
        f"import pickle, sys\nwork = pickle.loads(bytes.fromhex('{dumped}'))()\n"
        f"print('monai' in sys.modules, *(set({NOT_IMPORTED!r}) & set(sys.modules)))"
    )
    assert loaded == "True"


def test_packages_can_be_imported_afterwards() -> None:
    program = (
        "import gc, sys\nfrom osteo_monai.utils.monai_import import import_monai_for_inference as start\n"
        "start()\nassert gc.isenabled()\nassert 'mlflow' not in sys.modules\n"
        "import scipy.optimize, sklearn.metrics\nassert sklearn.metrics.roc_auc_score([0, 1], [0.1, 0.9]) == 1\n"
        "from monai.utils import optional_import\nassert not optional_import('mlflow')[0].__name__.startswith('_')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("before", "after"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_has_a_policy(before: dict[str, str], after: str) -> None:
    program = (
        "import os\nfrom osteo_monai.utils.monai_import import import_monai_for_inference as start\n"
        "start()\nprint(os.environ['OMP_WAIT_POLICY'])"
    )
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | before, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == after


def test_a_call_from_another_program_leaves_monai_whole() -> None:
    assert not LogScope().own_process
