"""Fixtures of all tests: the folder of real images and the CUDA device; tests that need them are skipped without."""

import os
from pathlib import Path

import pytest

REAL_DATA_VARIABLE = "OSTEO_REAL_DATA"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images, from the environment variable OSTEO_REAL_DATA; skip if it is not set.

    A variable that does not name a folder is a failure: it was set to run these tests.
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
    """Skip tests that are marked ``gpu`` on machines without CUDA; import torch only for these."""
    if request.node.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
