"""Shape of a vertebral body: volume, heights, wedge and section, in its own axes and so independent of tilt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.measurement.frame import ALIGNED_STEP_MM, BodyFrame, body_frame

MIDSAGITTAL_HALF_WIDTH_MM = 5.0
"""Heights are means over this distance to both sides of the mid-sagittal plane, as radiographs measure them."""
POSTERIOR_BAND, MIDDLE_BAND, ANTERIOR_BAND = (0.10, 0.25), (0.42, 0.58), (0.75, 0.90)
"""Shares of the depth, from the back, in which the three heights are measured: near the walls, but inside their
rounded edges."""

MIN_LENGTH_MM = 3.0
"""A mask that is thinner than this through its centre is not a body."""


@dataclass(frozen=True)
class BodyShape:
    """Size and form of one vertebral body; lengths in mm."""

    volume_cm3: float
    anterior_mm: float
    middle_mm: float
    posterior_mm: float
    width_mm: float
    """Side to side at mid-height, through the centre."""
    depth_mm: float
    """Front to back at mid-height in the mid-sagittal plane."""
    section_mm2: float
    """Area of the section at mid-height, perpendicular to the body's axis."""
    tilt_degrees: float
    """Angle between the body's axis and the scanner's."""
    centre_mm: tuple[float, float, float]
    """Centroid, RAS+ mm."""
    centre_slice: int
    """Axial slice (index k) nearest to the centroid."""
    main_part: float
    """Share of the mask in its largest connected part."""

    @property
    def height_mm(self) -> float:
        """Mean of the three heights."""
        return (self.anterior_mm + self.middle_mm + self.posterior_mm) / 3.0

    @property
    def aspect(self) -> float:
        """Width over depth."""
        return self.width_mm / self.depth_mm

    @property
    def wedge(self) -> float:
        """Anterior wedge, 1 - anterior / posterior height; negative if the back is lower."""
        return 1.0 - self.anterior_mm / self.posterior_mm

    @property
    def height_loss(self) -> float:
        """1 - smallest / largest of the three heights: wedge, biconcave and posterior loss alike.

        A healthy L1 is often a little wedged (0.1 to 0.2); an evenly crushed body has none, compare neighbours.
        """
        heights = (self.anterior_mm, self.middle_mm, self.posterior_mm)
        return 1.0 - min(heights) / max(heights)


def body_shape(body: NDArray[np.bool_], affine: NDArray[np.float64], frame: BodyFrame | None = None) -> BodyShape:
    """Measure a body mask (X, Y, Z) on the grid of ``affine`` (voxel index to RAS+ mm).

    Raises ``ValueError`` if the arrays do not fit or the mask is too small or too thin to have heights.
    """
    if frame is None:
        frame = body_frame(body, affine)
    # weight by the share of a sample inside, so that lengths have no steps
    share_inside = np.clip(frame.aligned / ALIGNED_STEP_MM + 0.5, 0.0, 1.0)
    u, v, w = (frame.aligned_origin[a] + ALIGNED_STEP_MM * np.arange(n) for a, n in enumerate(share_inside.shape))
    section = share_inside[:, :, np.abs(w) <= 1.0].mean(axis=2)
    sagittal = np.abs(u) <= MIDSAGITTAL_HALF_WIDTH_MM
    width = float(section[:, np.abs(v) <= 1.0].mean(axis=1).sum()) * ALIGNED_STEP_MM
    line = section[sagittal].mean(axis=0)
    depth = float(line.sum()) * ALIGNED_STEP_MM
    columns = share_inside[sagittal].sum(axis=2) * ALIGNED_STEP_MM
    place = (v - (line @ v) / max(float(line.sum()), 1e-6)) / max(depth, 1e-6) + 0.5  # 0 at the back, 1 in front

    def height(band: tuple[float, float]) -> float:
        inside = columns[:, (place >= band[0]) & (place <= band[1])]
        return float(inside.mean()) if inside.size else 0.0

    heights = [height(band) for band in (ANTERIOR_BAND, MIDDLE_BAND, POSTERIOR_BAND)]
    if min(width, depth, *heights) < MIN_LENGTH_MM:
        raise ValueError(
            f"body must be a solid of at least {MIN_LENGTH_MM:g} mm through its own centre, got width {width:.1f}, "
            f"depth {depth:.1f} and heights {', '.join(f'{h:.1f}' for h in heights)} mm"
        )
    inverse = np.linalg.inv(np.asarray(affine, dtype=np.float64))
    return BodyShape(
        volume_cm3=frame.volume_cm3,
        anterior_mm=heights[0],
        middle_mm=heights[1],
        posterior_mm=heights[2],
        width_mm=width,
        depth_mm=depth,
        section_mm2=float(section.sum()) * ALIGNED_STEP_MM**2,
        tilt_degrees=float(np.degrees(np.arccos(np.clip(frame.axes[2, 2], -1.0, 1.0)))),
        centre_mm=(float(frame.centre[0]), float(frame.centre[1]), float(frame.centre[2])),
        centre_slice=int(np.rint(inverse[2, :3] @ frame.centre + inverse[2, 3])),
        main_part=frame.main_part,
    )
