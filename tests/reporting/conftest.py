"""A simple CT with a curved column of known geometry, and one result of each verdict."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, Sex, VertebraLevel
from osteo_monai.screening.images import ClassActivation, ReportImages
from osteo_monai.screening.result import (
    AcquisitionFacts,
    CalibrationUsed,
    Density,
    HUStatistics,
    LevelMeasurement,
    LocatedLevel,
    ModelUsed,
    Opinion,
    ScreeningResult,
)

LEVELS = (VertebraLevel.T12, VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3)
SPACING = (1.5, 1.0, 2.5)
SHAPE = (100, 140, 80)
CENTRES = {
    # voxel indices: from top to bottom the column bends 15 voxels (22 mm) to the right
    VertebraLevel.T12: (45, 80, 65),
    VertebraLevel.L1: (50, 82, 51),
    VertebraLevel.L2: (55, 84, 37),
    VertebraLevel.L3: (60, 82, 23),
}


class ResultWithThresholds(ScreeningResult):
    """Result of format 1.4, which records the cut-offs; redundant as soon as all results are of this format."""

    thresholds: DensityThresholds | None = None


@pytest.fixture
def images() -> ReportImages:
    """100 x 140 x 80 voxels of 1.5 x 1.0 x 2.5 mm; bodies are boxes of 21 x 31 x 9 voxels, regions of 13 x 19 x 5."""
    hu = np.full(SHAPE, -1000, dtype=np.float32)
    hu[10:90, 10:130, :] = 40
    bodies = np.zeros(SHAPE, dtype=np.uint8)
    regions = np.zeros(SHAPE, dtype=bool)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-75.0, -70.0, 100.0)
    levels = []
    for level, (x, y, z) in CENTRES.items():
        hu[x - 10 : x + 11, y - 15 : y + 16, z - 4 : z + 5] = 300
        if level in (VertebraLevel.L1, VertebraLevel.L2):
            bodies[x - 10 : x + 11, y - 15 : y + 16, z - 4 : z + 5] = level.label
            regions[x - 6 : x + 7, y - 9 : y + 10, z - 2 : z + 3] = True
        certainty = 0.995 if level is VertebraLevel.L1 else 0.8
        centre = affine[:3, :3] @ np.array([x, y, z]) + affine[:3, 3]
        levels.append(
            LocatedLevel(
                level=level,
                certainty=certainty,
                runner_up=VertebraLevel.T11 if level is VertebraLevel.T12 else None,
                centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
            )
        )
    return ReportImages(hu, affine, bodies, regions, tuple(levels))


@pytest.fixture
def make_result(images: ReportImages) -> Callable[..., ScreeningResult]:
    """Make a measured result of a density, age, sex and standard; every field can be overridden."""

    def make(
        mg_cm3: float = 96.4,
        age: float | None = 64.0,
        sex: Sex | None = Sex.FEMALE,
        standard: MineralStandard = MineralStandard.K2HPO4,
        **changes: Any,
    ) -> ScreeningResult:
        thresholds = DensityThresholds()
        comparable = standard is thresholds.standard
        density = Density(mg_cm3=mg_cm3, interval_low=mg_cm3 - 12, interval_high=mg_cm3 + 12, standard=standard)
        measured = [
            LevelMeasurement(
                level=found.level,
                certainty=found.certainty,
                slice_index=CENTRES[found.level][2],
                instance_number=200 + k,
                centre_mm=found.centre_mm,
                body_volume_cm3=35.6 + k,
                height_mm=25.5,
                region_name="trabecular_core 1.0",
                region_voxels=1235,
                region_area_mm2=370.5,
                region_volume_cm3=4.63,
                hu=HUStatistics(mean=131.2 + k, median=128.7, sd=41.3, p10=-3.25, p90=188.8),
                density=density,
            )
            for k, found in enumerate(images.levels[1:3])
        ]
        fields: dict[str, Any] = {
            "study": "study_017",
            "verdict": "accepted",
            "findings": (),
            "levels_found": images.levels,
            "levels": tuple(measured),
            "density": density,
            "status": thresholds.status(mg_cm3, standard) if comparable else None,
            "distance_to_thresholds": {
                "osteoporosis_below": mg_cm3 - thresholds.osteoporosis_below,
                "normal_above": mg_cm3 - thresholds.normal_above,
            }
            if comparable
            else None,
            "thresholds_source": thresholds.source,
            "thresholds": thresholds,
            "calibration": CalibrationUsed(
                method="physics",
                slope=0.7312,
                intercept=-4.25,
                standard=standard,
                relative_sd=0.08,
                absolute_sd=3.5,
                note="120 kVp, no scanner line",
            ),
            "acquisition": AcquisitionFacts(
                kvp=120.0,
                kernel="B",
                slice_thickness_mm=2.5,
                manufacturer="Philips",
                model="Ingenuity Core 128",
                contrast=None,
                series_description="CHEST 2.5",
                age_years=age,
                sex=sex,
                shape=SHAPE,
                spacing_mm=SPACING,
            ),
            "models": (
                ModelUsed(bundle="vertebra_localization_ct", version="0.1.0", weights_sha256="ab" * 32),
                ModelUsed(bundle="vertebral_body_segmentation_ct", version="0.2.0", weights_sha256="cd" * 32),
            ),
            "seconds": {"reading": 1.25, "segmenting": 6.5},
        }
        return ResultWithThresholds(**(fields | changes))

    return make


@pytest.fixture
def with_opinions() -> Callable[..., ScreeningResult]:
    """Add the four opinions that a study can have, with fixed numbers, and the finding on them."""

    def add(result: ScreeningResult, *names: str, **changes: Any) -> ScreeningResult:
        assert result.density is not None
        regression = Density(mg_cm3=104.2, interval_low=95.1, interval_high=113.3, standard=MineralStandard.K2HPO4)
        levels = {VertebraLevel.L1: regression.model_copy(update={"mg_cm3": 106.0}), VertebraLevel.L2: regression}
        bundle = {"trained_on": "Virtual patients made by osteo_monai.virtual"}
        every = (
            Opinion(name="hu_line", status=result.status, density=result.density),
            Opinion(name="hu_rule", status=BoneStatus.OSTEOPENIA, l1_hu=131.2, note="Pickhardt et al. 2013."),
            Opinion(
                name="density_regression",
                status=BoneStatus.OSTEOPENIA,
                density=regression,
                level_densities=levels,
                bundle="bone_density_regression_ct",
                **bundle,
            ),
            Opinion(
                name="classifier",
                status=BoneStatus.OSTEOPENIA,
                probabilities=dict(zip(BoneStatus, (0.031, 0.902, 0.067), strict=True)),
                bundle="osteoporosis_classification_ct",
                **bundle,
            ),
        )
        comparison = Finding(
            code="opinions_agree", severity=Severity.INFO, message="The methods agree: all say osteopenia."
        )
        update = {
            "opinions": tuple(o for o in every if not names or o.name in names),
            "findings": (*result.findings, comparison),
        }
        return result.model_copy(update=update | changes)

    return add


@pytest.fixture
def activation() -> ClassActivation:
    """Two slices of 64 x 64 pixels with a body in the middle; the map is high in its right front corner and outside."""
    slices = np.zeros((2, 64, 64), dtype=np.float32)
    slices[:, 16:48, 20:44] = 0.5
    heat = np.zeros((64, 64), dtype=np.float32)
    heat[40:48, 36:44] = 0.5
    heat[56:, 56:] = 0.5
    return ClassActivation(slices, heat, (VertebraLevel.L1, VertebraLevel.L2), BoneStatus.OSTEOPENIA)


@pytest.fixture
def refused(make_result: Callable[..., ScreeningResult]) -> ScreeningResult:
    """A refused result with numbers (against the rules), which the report must not show."""
    return make_result(
        mg_cm3=87.65,
        verdict="refused",
        findings=(
            Finding(code="kernel_unknown", severity=Severity.INFO, message="The kernel is not stated."),
            Finding(code="contrast", severity=Severity.REFUSAL, message="The aorta is enhanced by contrast agent."),
        ),
        status=BoneStatus.OSTEOPENIA,
    )
