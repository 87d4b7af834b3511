"""Air, fat and lean tissue of a whole scan, found by their modes and not by HU windows, so that a wrong scale is seen.

The scan is sampled on blocks of about 3 mm. Air is separated from the person by the threshold of Otsu, fat and lean
tissue are the two modes of even blocks inside whose distance is 9 to 24 % of that of air and tissue (14 % in people).
All distances are relative to that of air and tissue, which an offset does not change and a gain scales alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement.calibration import TissueSample
from osteo_monai.measurement.scan_blocks import MIN_BLOCKS, person_in, sampled_slices, scan_blocks, split_air

MAX_SLICES = 24
"""Slices in which tissues are sampled."""
PAIR_DISTANCE = (0.085, 0.24)
"""Distance from fat to lean tissue by that from air to tissue; 0.12 to 0.19 with contrast agent at 80 to 140 kVp."""
SINGLE_REACH, SINGLE_SHARE = 0.06, 0.65
"""Least share of the values this near to a single mode. In a noisy scan fat and lean tissue have one broad mode between
them (0.55 in a virtual low-dose CT, which was refused); 0.79 and 0.86 in the two real scans with a single mode."""
EVEN = 0.03
"""Largest SD of even blocks, by the distance of air and tissue: 30 HU."""
AIR_SHARE = 0.4
"""Least share of the outside that is air: clothes and table are in it too."""
AIR_PEAK = 0.25
"""Air is the lowest mode outside that is this high beside the highest; lung at the border of a crop is above it."""
AIR_SD = 0.017
"""Largest SD of blocks of air, by the distance of air and tissue: 8 to 16 HU in real scans, 19 HU in lung."""
REACH = 0.025
"""Blocks this near to a mode are its tissue."""
PLAIN_CONTRAST_HU = 1046.0
"""Distance of air and tissue that is assumed in a crop without air."""
LEAN_BELOW = 0.047
"""Muscle is at most this much below the mode of lean tissue, by the distance of air and tissue; mixed fat is lower."""
SHELL_MM = (4.0, 30.0)
"""Depth of subcutaneous fat below the skin."""
DEEP_MM = (6.0, 70.0)
"""Depth of the muscles of the back below the skin."""


@dataclass(frozen=True)
class ScanTissues:
    """Tissues of a whole scan; ``None`` if not found.

    Attributes:
        changes: (pairs, 3) median change of HU of air, fat and lean tissue from one sampled slice to the next; NaN
            where too little of a tissue is in both.
        slices: (pairs, 2) indices of the slices compared.
    """

    air: TissueSample | None
    fat: TissueSample | None
    lean: TissueSample | None
    changes: NDArray[np.float64]
    slices: NDArray[np.int64]

    def samples(self) -> dict[str, TissueSample]:
        """Return the tissues by the keys of ``TISSUES``; lean tissue of the back as muscle."""
        named = {"air": self.air, "adipose": self.fat, "muscle": self.lean}
        return {name: sample for name, sample in named.items() if sample is not None}


def scan_tissues(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], valid: NDArray[np.bool_] | None = None
) -> ScanTissues:
    """Sample the tissues of a scan.

    Args:
        hu: (X, Y, Z) in RAS+, axial slices.
        spacing_mm: of the voxels.
        valid: (X, Y, Z), False where padded.
    """
    index = sampled_slices(hu.shape[2])
    blocks, good, size = scan_blocks(hu, spacing_mm, valid, index)
    if min(blocks.shape[:2]) < 8:
        return _none()
    split = split_air(blocks[good])
    low, contrast = split if split is not None else (-np.inf, PLAIN_CONTRAST_HU)
    shown = np.unique(np.linspace(0, len(index) - 1, min(MAX_SLICES, len(index))).astype(int))
    part, ok = blocks[:, :, shown], good[:, :, shown]
    person, depth, away = person_in(part > low, size)
    even = ok & (_roughness(part) <= EVEN * contrast)
    inside = person & even & (depth >= SHELL_MM[0])
    modes = _modes(part[inside], contrast)
    air = fat = lean = None
    area = size[0] * size[1]
    if split is not None:
        floor = float(part[ok].min()) + 0.5
        outside = ok & (away >= 8.0) & (part < low) & (part > floor)
        air = _air(part[outside], contrast, area)
    if modes[0] is not None:
        shell = inside & (depth <= SHELL_MM[1])
        fat = _near(part, shell, modes[0], REACH * contrast, area) or _near(
            part, inside, modes[0], REACH * contrast, area
        )
    if modes[1] is not None:
        back = inside & (depth >= DEEP_MM[0]) & (depth <= DEEP_MM[1]) & _posterior(person)
        lean = _lean(part, back, modes[1], contrast, area) or _near(part, inside, modes[1], REACH * contrast, area)
    centres = [s.hu if s is not None else np.nan for s in (air, fat, lean)]
    return ScanTissues(air, fat, lean, _changes(blocks, good, centres, contrast), np.stack([index[:-1], index[1:]], 1))


def _none() -> ScanTissues:
    return ScanTissues(None, None, None, np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64))


def _posterior(person: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the back half of the person in each slice; y points to the front."""
    back = np.zeros(person.shape, dtype=bool)
    for k in range(person.shape[2]):
        rows = np.flatnonzero(person[:, :, k].any(axis=0))
        if rows.size:
            back[:, : (rows[0] + rows[-1]) // 2, k] = True
    return back


def _roughness(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the SD of 3 x 3 blocks in each slice."""
    mean = ndimage.uniform_filter(blocks, (3, 3, 1))
    square = ndimage.uniform_filter((blocks - mean) ** 2, (3, 3, 1))
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def _peaks(
    counts: NDArray[np.float64], height: float | None = None, prominence: float | None = None
) -> NDArray[np.intp]:
    """Return the indices of the local maxima."""
    from scipy.signal import find_peaks  # late: it imports scipy.stats, which radiographs do not need

    return np.asarray(find_peaks(counts, height=height, prominence=prominence)[0])


def _modes(values: NDArray[np.float32], contrast: float) -> tuple[float | None, float | None]:
    """Return the modes of fat and lean tissue; a single mode is lean tissue if it is that of most values."""
    if values.size < MIN_BLOCKS:
        return None, None
    step = 0.002 * contrast
    low, high = np.percentile(values, [0.5, 99.5])
    edges = np.arange(low - 20 * step, high + 21 * step, step)
    counts = ndimage.gaussian_filter1d(np.histogram(values, bins=edges)[0].astype(np.float64), 3.0)
    peaks = _peaks(counts, prominence=0.04 * counts.max())
    at, height = edges[peaks] + 0.5 * step, counts[peaks]
    pairs = [
        (min(height[i], height[j]), float(at[i]), float(at[j]))
        for i in range(len(peaks))
        for j in range(i + 1, len(peaks))
        if PAIR_DISTANCE[0] <= (at[j] - at[i]) / contrast <= PAIR_DISTANCE[1]
    ]
    if pairs:
        return max(pairs)[1:]
    if not len(peaks):
        return None, None
    mode = float(at[int(np.argmax(height))])
    return None, mode if np.mean(np.abs(values - mode) <= SINGLE_REACH * contrast) >= SINGLE_SHARE else None


def _near(
    part: NDArray[np.float32], where: NDArray[np.bool_], mode: float, reach: float, area_mm2: float
) -> TissueSample | None:
    """Return the blocks near a mode, around their own median so that a mode of another place does not matter.

    ``None`` if the median is farther than ``reach`` from the mode: it is then a mixture with another tissue.
    """
    values, first = part[where], mode
    for _ in range(3):
        near = values[np.abs(values - mode) <= 1.6 * reach]
        if near.size < MIN_BLOCKS:
            return None
        mode = float(np.median(near))
    if abs(mode - first) > reach:
        return None
    return _sample(values[np.abs(values - mode) <= 1.6 * reach], area_mm2)


def _lean(
    part: NDArray[np.float32], back: NDArray[np.bool_], mode: float, contrast: float, area_mm2: float
) -> TissueSample | None:
    """Return the muscle of the back: the most frequent value there, near the mode of lean tissue."""
    values = part[back]
    values = values[(values >= mode - LEAN_BELOW * contrast) & (values <= mode + 0.07 * contrast)]
    if values.size < MIN_BLOCKS:
        return None
    step = 0.002 * contrast
    counts, edges = np.histogram(values, bins=np.arange(values.min() - 15 * step, values.max() + 16 * step, step))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 4.0)
    # liver, spleen and kidney with contrast agent are denser than muscle
    peaks = _peaks(smooth, height=0.25 * smooth.max(), prominence=0.05 * smooth.max())
    top = float(edges[peaks[0] if peaks.size else smooth.argmax()]) + 0.5 * step
    return _sample(values[np.abs(values - top) <= REACH * contrast], area_mm2)


def _air(values: NDArray[np.float32], contrast: float, area_mm2: float) -> TissueSample | None:
    """Return the lowest mode outside the person; ``None`` if it is lung or a constant fill."""
    if values.size < MIN_BLOCKS:
        return None
    step = 0.004 * contrast
    counts, edges = np.histogram(values, bins=np.arange(values.min() - 5 * step, values.max() + 6 * step, step))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 2.0)
    peaks = _peaks(smooth, height=AIR_PEAK * smooth.max())
    top = float(edges[peaks[0] if peaks.size else smooth.argmax()]) + 0.5 * step
    near = values[np.abs(values - top) <= 0.04 * contrast]
    even = 1.0 < float(near.std()) < AIR_SD * contrast
    return _sample(near, area_mm2) if even and near.size > AIR_SHARE * values.size else None


def _sample(values: NDArray[np.float32], area_mm2: float) -> TissueSample | None:
    if values.size < MIN_BLOCKS:
        return None
    return TissueSample(float(np.median(values)), values.size * area_mm2, float(values.std()))


def _changes(
    blocks: NDArray[np.float32], good: NDArray[np.bool_], centres: list[float], contrast: float
) -> NDArray[np.float64]:
    """Return the median change of each tissue from slice to slice, where the first or the second one shows it."""
    reach = (0.06, 0.045, 0.06)
    found = np.full((blocks.shape[2] - 1, 3), np.nan)
    even = good & (_roughness(blocks) <= 2 * EVEN * contrast)
    for k in range(len(found)):
        both = even[:, :, k] & even[:, :, k + 1]
        one, other = blocks[:, :, k][both], blocks[:, :, k + 1][both]
        for t, centre in enumerate(centres):
            of_one, of_other = (np.abs(v - centre) <= reach[t] * contrast for v in (one, other))
            # the tissue of one slice in the other one, either way: the smaller change is not anatomy
            ways = [np.median((other - one)[m]) for m in (of_one, of_other) if np.count_nonzero(m) >= MIN_BLOCKS / 2]
            if len(ways) == 2 and ways[0] * ways[1] < 0:  # noise: what was selected by it is nearer to the mean beside
                found[k, t] = np.mean(ways)
            elif ways:
                found[k, t] = min(ways, key=abs)
    return found
