"""Results of a measurement: HU statistics, the calibration and a density."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from osteo_monai.domain import MineralStandard


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HUStatistics(_Value):
    """Robust statistics of the trabecular region, in HU."""

    mean: float
    median: float
    sd: float
    p10: float
    p90: float

    @property
    def representative(self) -> float:
        """HU for the density: the median.

        The mean follows the mixture of marrow and bone, and for a symmetric distribution both agree. But a rim of
        cortex, an osteophyte or a bone island raises the mean (by 14 HU at L1 of one real body CT) and not the median;
        a density that is too high hides osteoporosis.
        """
        return self.median


class CalibrationUsed(_Value):
    """Calibration of HU to mg/cm3: density = slope * HU + intercept."""

    method: Literal["physics", "registry", "phantom", "internal", "user", "site"]
    slope: float
    intercept: float
    standard: MineralStandard
    relative_sd: float
    """Relative standard deviation of one density, from which the interval follows."""
    absolute_sd: float = 0.0
    """Standard deviation in mg/cm3 that does not shrink with the density (offset of the HU scale, marrow fat)."""
    note: str
    slope_sd: float = 0.0
    """Standard deviation in mg/cm3 per HU that grows with the distance from ``centre_hu``: the uncertain slope of a
    fitted line."""
    centre_hu: float = 0.0
    verified: bool = True
    """False for a line whose primary source was not checked."""


class Density(_Value):
    """A volumetric density with its 90 % interval and mineral standard."""

    mg_cm3: float
    interval_low: float
    interval_high: float
    standard: MineralStandard
