"""What every test may ask for: the folder of real images and a CUDA device, each skipped visibly when absent."""

import os
from pathlib import Path

import pytest

REAL_DATA_VARIABLE = "OSTEO_REAL_DATA"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images, from the environment variable OSTEO_REAL_DATA; skips where it is not set.

    A variable that points nowhere fails instead: whoever set it wanted these tests to run.
    """
    value = os.environ.get(REAL_DATA_VARIABLE)
    if not value:
        pytest.skip(f"needs real images: set {REAL_DATA_VARIABLE} to their folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{REAL_DATA_VARIABLE} must name a folder, got {value!r}")
    return folder


@pytest.fixture(autouse=True)
def _skip_without_cuda(request: pytest.FixtureRequest) -> None:
    """Skip tests that are marked ``gpu`` on machines without CUDA (torch is imported for those alone)."""
    if request.node.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
