"""Screening without models: writes a result after a time. Also a program whose batch tests may kill."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.batch import Cluster, Limits, Workers
from osteo_monai.screening import ScreeningResult, Study, screen_folder
from osteo_monai.screening.earlier import earlier_result, remove_temporary
from osteo_monai.utils.files import write_text


@dataclass(frozen=True)
class LoadScreening:
    """Loads what writes a result after a time."""

    seconds: float

    def __call__(self) -> Callable[[Study, Path], ScreeningResult]:
        def screen_one(study: Study, folder: Path) -> ScreeningResult:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".0123abcd.partial").mkdir(exist_ok=True)
            time.sleep(self.seconds)
            write_text(folder / "visible.txt", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            result = ScreeningResult(study=folder.name, verdict="accepted", findings=(), run=key(study))
            result.write(folder / "result.json")
            (folder / ".0123abcd.partial").rmdir()
            return result

        return screen_one


def key(study: Study) -> str:
    """Return the run key of a study."""
    return f"key of {study.path.name}"


def main() -> None:
    """Screen a batch: OUTPUT STUDIES WORKERS SECONDS CLUSTER GPUS."""
    output, studies, workers, seconds, address, gpus = sys.argv[1:]
    Path(output).mkdir(exist_ok=True)
    remove_temporary(Path(output))
    screen_folder(
        [Study("ct", Path("in") / f"s{number:03}") for number in range(int(studies))],
        Path("in"),
        Path(output),
        LoadScreening(float(seconds)),
        earlier=lambda study, folder: earlier_result(folder, key(study)),
        key=key,
        workers=Workers(int(workers), Limits(seconds=60), Cluster(address, float(gpus)) if address else None),
    )
