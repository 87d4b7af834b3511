"""The values that a measurement yields: HU statistics, the calibration that was used, and a density."""

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
        """The HU that the density is computed from: the median.

        The mean is what mixing of marrow and bone obeys, and for a symmetric distribution both agree. But a rim of
        cortex, an osteophyte or a bone island pulls the mean up (by 14 HU at L1 of our one real body CT) and leaves
        the median where it was; a density that is too high is the error that hides osteoporosis.
        """
        return self.median


class CalibrationUsed(_Value):
    """How HU became mg/cm3: density = slope * HU + intercept."""

    method: Literal["physics", "registry", "phantom", "internal", "user"]
    slope: float
    intercept: float
    standard: MineralStandard
    relative_sd: float
    """Relative standard deviation of one density, from which the interval follows."""
    absolute_sd: float = 0.0
    """Standard deviation in mg/cm3 that does not shrink with the density (offset of the HU scale, marrow fat)."""
    note: str


class Density(_Value):
    """A volumetric density with its 90 % interval; the standard is always named."""

    mg_cm3: float
    interval_low: float
    interval_high: float
    standard: MineralStandard
