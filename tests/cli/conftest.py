"""Studies, results and a screening without networks, for tests of the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import BoneStatus, Finding, MineralStandard, Severity, VertebraLevel
from osteo_monai.screening.result import Density, HUStatistics, LevelMeasurement, ScreeningResult

Call = tuple[Path, Path, dict[str, Any]]


@pytest.fixture
def nifti(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes an empty NIfTI volume below the temporary folder."""

    def write(name: str = "ct.nii.gz") -> Path:
        import nibabel as nib

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
        return path

    return write


@pytest.fixture
def ct(nifti: Callable[[str], Path]) -> Path:
    """Return the path of one CT."""
    return nifti("ct.nii.gz")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return the path of one radiograph."""
    from PIL import Image

    path = tmp_path / "spine.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no network."""
    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.load_models", lambda device: None)


def measured(study: str, count: int, **fields: Any) -> ScreeningResult:
    """Return a measured result of L1 (``count`` 1), or of L1 and L2."""
    density = Density(mg_cm3=82.1, interval_low=70.0, interval_high=94.0, standard=MineralStandard.K2HPO4)
    levels = tuple(
        LevelMeasurement(
            level=level,
            certainty=0.97,
            slice_index=40,
            instance_number=None,
            centre_mm=(0.0, 0.0, 0.0),
            body_volume_cm3=30.0,
            height_mm=26.0,
            region_name="trabecular_core 1.0",
            region_voxels=900,
            region_area_mm2=300.0,
            region_volume_cm3=4.0,
            hu=HUStatistics(mean=110.0, median=109.0, sd=30.0, p10=70.0, p90=150.0),
            density=density,
        )
        for level in (VertebraLevel.L1, VertebraLevel.L2)[:count]
    )
    values: dict[str, Any] = {"findings": (), "levels": levels, "density": density, "status": BoneStatus.OSTEOPENIA}
    return ScreeningResult(study=study, verdict="accepted_with_warnings", **(values | fields))


def refused(study: str, verdict: str = "refused") -> ScreeningResult:
    """Return a result without numbers, and with a reason if the verdict needs one."""
    reason = Finding(code="x", severity=Severity.REFUSAL, message="The field of view is too small.")
    findings = (reason,) if verdict in ("refused", "unusable") else ()
    return ScreeningResult.model_validate({"study": study, "verdict": verdict, "findings": findings})


@pytest.fixture
def screening(monkeypatch: pytest.MonkeyPatch) -> "Screening":
    """Return a screening that answers what a test requests, and keeps its calls."""
    return Screening(monkeypatch)


class Screening:
    """Replaces the screening of CT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[str], ScreeningResult] = lambda study: measured(study, 2)

        def screen(path: Path, output: Path, **options: Any) -> ScreeningResult:
            self.calls.append((path, output, options))
            result = self.answer(path.name)
            output.mkdir(parents=True, exist_ok=True)
            result.write(output / "result.json")
            return result

        monkeypatch.setattr("osteo_monai.screening.ct.pipeline.screen", screen)
