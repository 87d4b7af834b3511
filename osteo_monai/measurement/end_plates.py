"""The two end plates at a disc, as planes of any tilt, with sub-slice accuracy.

An outline may continue over a disc that osteophytes bridge, and one of whole slices ends up to a slice early or late.
End plates are bright and parallel over the whole section, so the mean profile of HU across a disc is sharpest along the
normal of the disc: this tilt is searched, and the two peaks are the end plates. Averaging over a section of 4 cm2 gives
their position to a millimetre in slices of up to 3 mm, and to half a slice in thicker ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RADIUS_MM = 12.0
"""Section over which a profile is averaged; bodies of adults are at least 28 mm wide and deep. Project custom."""
REACH_MM = 16.0
"""Extent of the profile along the normal from the middle of the disc. Project custom."""
STEP_MM = 0.5
TILT_DEGREES = 20.0
"""Largest tilt of a disc against the axis of its neighbours; wedge-shaped discs of scoliosis reach 15. Project
custom."""
PEAK_RANGE_MM = (1.5, 9.0)
"""Distance of an end plate from the middle of its disc: discs of adults are 3 to 14 mm high, the plate 1 mm thick."""
LEAST_CONTRAST_HU = 30.0
"""Least rise of a plate's peak above the middle of the disc. Discs have 70 to 100 HU, plates 170 to 500."""
_TILT_PENALTY = 2.0
"""Penalty of a tilt, times its squared tangent, so that noise does not tilt a plane."""


@dataclass(frozen=True)
class EndPlates:
    """The end plates at one disc.

    Attributes:
        normal: (3,) unit vector upwards, RAS+.
        upper_mm, lower_mm: (3,) points of the plates above and below the disc, RAS+ mm.
        disc_hu, disc_sd: mean and SD of HU in the middle of the disc.
        contrast_hu: height of the weaker plate above the disc.
    """

    normal: NDArray[np.float64]
    upper_mm: NDArray[np.float64]
    lower_mm: NDArray[np.float64]
    disc_hu: float
    disc_sd: float
    contrast_hu: float

    @property
    def disc_mm(self) -> NDArray[np.float64]:
        """The middle between the plates."""
        return 0.5 * (self.upper_mm + self.lower_mm)


def find_end_plates(
    hu: NDArray[np.float32], affine: NDArray[np.float64], disc_mm: NDArray[np.float64], axis: NDArray[np.float64]
) -> EndPlates | None:
    """Find the end plates above and below a disc.

    Args:
        hu: (X, Y, Z) in HU.
        affine: (4, 4) voxel index to RAS+ mm.
        disc_mm: (3,) RAS+ mm, the middle of the disc to about 4 mm.
        axis: (3,) upwards along the column there.

    Returns:
        ``None`` if two plates are not visible, as at the end of the scan or in a fused disc.
    """
    up = np.asarray(axis, float) / np.linalg.norm(axis)
    front = np.array([0.0, 1.0, 0.0]) - up[1] * up
    front /= np.linalg.norm(front)
    right = np.cross(front, up)
    u, v, columns, w = _section(hu, affine, np.asarray(disc_mm, float), np.stack([right, front, up]))
    if columns is None:
        return None
    slopes = np.tan(np.radians(np.arange(-TILT_DEGREES, TILT_DEGREES + 1, 4.0)))
    steepest = float(slopes[-1])
    best, tilt = -np.inf, (0.0, 0.0)
    sharpest = tilt
    for refine in (1.0, 0.35):
        steps = slopes if refine == 1.0 else slopes[np.abs(slopes) < 0.22] * refine
        for t in [(tilt[0] + a, tilt[1] + b) for a in steps for b in steps]:
            steep = t[0] ** 2 + t[1] ** 2
            if steep > steepest**2:
                continue
            score = _sharpness(_profile(columns, w, u, v, t), w) * (1.0 - _TILT_PENALTY * steep)
            if score > best:
                best, sharpest = score, t
        tilt = sharpest
    peaks = _peaks(_profile(columns, w, u, v, tilt), w)
    if peaks is None:
        return None
    low, high, floor, contrast = peaks
    noise = float(columns[:, np.abs(w - 0.5 * (low + high)) <= 1.0].std())
    normal = up - tilt[0] * right - tilt[1] * front
    normal /= np.linalg.norm(normal)
    disc = np.asarray(disc_mm, float)
    return EndPlates(normal, disc + high * up, disc + low * up, floor, noise, contrast)


def _section(
    hu: NDArray[np.float32], affine: NDArray[np.float64], centre: NDArray[np.float64], axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Sample columns along the axis; return u (n,), v (n,), HU (n, w) or ``None`` outside of the scan, and w."""
    side = np.arange(-RADIUS_MM, RADIUS_MM + 1.0, 2.0)
    u, v = (a.ravel() for a in np.meshgrid(side, side, indexing="ij"))
    inside = u**2 + v**2 <= RADIUS_MM**2
    u, v = u[inside], v[inside]
    far = REACH_MM + RADIUS_MM * float(np.tan(np.radians(TILT_DEGREES)))
    w = np.arange(-far, far + STEP_MM, STEP_MM)
    points = centre + u[:, None, None] * axes[0] + v[:, None, None] * axes[1] + w[None, :, None] * axes[2]
    inverse = np.linalg.inv(np.asarray(affine, float))
    index = points.reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]
    outside = ((index < -0.5) | (index > np.array(hu.shape) - 0.5)).any(axis=1).reshape(len(u), len(w))
    if outside[:, np.abs(w) < PEAK_RANGE_MM[1]].mean() > 0.1:
        return u, v, None, w
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - 1, 0, np.array(hu.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 2, 1, hu.shape)
    box = hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    sampled = ndimage.map_coordinates(box.astype(np.float32), (index - low).T, order=1, mode="nearest")
    return u, v, sampled.reshape(len(u), len(w)).astype(np.float64), w


def _profile(
    columns: NDArray[np.float64],
    w: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    tilt: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the mean HU at each distance from the plane w = tilt[0] u + tilt[1] v."""
    shift = (tilt[0] * u + tilt[1] * v) / STEP_MM
    index = np.clip(np.arange(len(w)) + shift[:, None], 0, len(w) - 1)
    below = np.minimum(np.floor(index).astype(int), len(w) - 2)
    share = index - below
    rows = np.arange(len(u))[:, None]
    return np.asarray((columns[rows, below] * (1 - share) + columns[rows, below + 1] * share).mean(axis=0))


def _sharpness(profile: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    """Return the sharpness of the profile near the disc."""
    fine = ndimage.gaussian_filter1d(profile, 1.0 / STEP_MM) - ndimage.gaussian_filter1d(profile, 5.0 / STEP_MM)
    return float((fine[np.abs(w) <= PEAK_RANGE_MM[1] + 2.0] ** 2).sum())


def _peaks(profile: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """Return the places of the plates below and above the disc, the disc's HU, and the weaker contrast."""
    from scipy.signal import find_peaks  # late: it imports scipy.stats, which radiographs do not need

    smooth = ndimage.gaussian_filter1d(profile, 0.7 / STEP_MM)
    near = np.abs(w) <= 4.0
    middle = float(w[near][smooth[near].argmin()])
    floor = float(smooth[near].min())
    places = []
    for side in (-1.0, 1.0):
        distance = side * (w - middle)
        inside = (distance >= PEAK_RANGE_MM[0]) & (distance <= PEAK_RANGE_MM[1])
        tops, _ = find_peaks(np.where(inside | (distance > 0), smooth, floor))
        tops = [t for t in tops if inside[t] and smooth[t] - floor >= LEAST_CONTRAST_HU]
        if not tops:
            return None
        top = max(tops, key=lambda t: smooth[t] - 4.0 * float(distance[t]))
        places.append((float(w[top]), float(smooth[top] - floor)))
    return places[0][0], places[1][0], floor, min(places[0][1], places[1][1])
