"""HU statistics of a region."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.measurement.values import HUStatistics


def hu_statistics(hu: NDArray[np.float32], mask: NDArray[np.bool_]) -> HUStatistics:
    """Return mean, median, standard deviation (n - 1), 10th and 90th percentile of ``hu`` where ``mask`` is True.

    Arrays of one shape. Raises ``ValueError`` if the shapes differ, fewer than two voxels are left or one of them is
    not finite.
    """
    if hu.shape != mask.shape:
        raise ValueError(f"mask must have the shape of hu {hu.shape}, got {mask.shape}")
    values = np.asarray(hu[np.asarray(mask, dtype=bool)], dtype=np.float64)
    if values.size < 2:
        raise ValueError(f"mask must hold at least two voxels, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError("hu must be finite within mask, got NaN or infinity")
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return HUStatistics(
        mean=float(values.mean()),
        median=float(median),
        sd=float(values.std(ddof=1)),
        p10=float(p10),
        p90=float(p90),
    )
