"""Property tests: the same examples in each run, and no files in the working tree."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
