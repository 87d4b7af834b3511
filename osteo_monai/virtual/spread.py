"""Differences of tissues between people."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_FAT = ("adipose", "visceral_fat", "mediastinum")
_BLOOD = ("aorta", "cava", "heart")


class TissueSpread(BaseModel):
    """SD of the tissues between people, HU at 120 kVp about the mean of :mod:`osteo_monai.virtual.ct`.

    Sources of the defaults; of each only the abstract or an excerpt was read. Fat: visceral fat of 45 men has an SD of
    8.6 HU (CT body fat indices of a young Midwestern population), and the 95 % interval of abdominal fat is -123 to
    -89 HU (PubMed 37296765). Muscle: psoas 42 +- 8.4 HU in 150 patients (Rollins), 48.4 +- 5.5 HU in young adults (doi
    10.22540/JFSF-07-038). Fatty muscle: paravertebral muscle has 34.5 HU where psoas has 42 (Rollins). Blood: quartiles
    of the descending aorta 39 and 50 HU without anaemia, 25 and 37 HU with it (researchsquare rs-1420003); it contains
    hematocrit and hydration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fat: float = Field(default=9.0, ge=0, le=30)
    muscle: float = Field(default=7.0, ge=0, le=30)
    blood: float = Field(default=9.0, ge=0, le=30)
    fatty_muscle: float = Field(default=0.25, ge=0, le=1)
    """Share of people whose muscle is lower by up to ``fatty_muscle_hu``, drawn uniformly."""
    fatty_muscle_hu: float = Field(default=25.0, ge=0, le=60)

    def shifts(self, seed: int) -> dict[str, float]:
        """Return the HU by which each tissue of one person differs from the mean."""
        rng = np.random.default_rng([seed, 5])
        fat, muscle, blood = (rng.normal(0.0, 1.0, 3) * [self.fat, self.muscle, self.blood]).tolist()
        if rng.random() < self.fatty_muscle:
            muscle -= float(rng.uniform(0.0, self.fatty_muscle_hu))
        return {**dict.fromkeys(_FAT, fat), "muscle": muscle, **dict.fromkeys(_BLOOD, blood)}
