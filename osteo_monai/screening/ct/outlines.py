"""Segmentation of located vertebrae: one label map, and the findings of its gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, VertebraLevel
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.screening.ct.bodies import (
    VertebraLocation,
    disc_borders,
    disc_in_mask,
    end_plate_borders,
    separate_bodies,
    shifted,
    slab,
)
from osteo_monai.screening.ct.levels import as_image
from osteo_monai.screening.gates.bodies import OUTLINE_GATES, OutlineFacts, body_not_found
from osteo_monai.screening.gates.gate import run_gates
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS, Limits
from osteo_monai.utils.occupied import occupied_voxels
from osteo_monai.utils.threads import run_parallel

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Outlines:
    """Segmented bodies.

    Attributes:
        slab: the axial slices that were segmented.
        bodies: (X, Y, Z) label map of the whole volume with ``VertebraLevel.label``.
        findings: of the gates, for each level.
    """

    slab: slice
    bodies: NDArray[np.uint8]
    findings: Mapping[VertebraLevel, list[Finding]]


def outline_bodies(
    volume: CTVolume,
    vertebrae: Sequence[VertebraLocation],
    bundle: "Bundle",
    limits: Limits = DEFAULT_LIMITS,
    planes_are_exact: bool = False,
) -> Outlines:
    """Segment located vertebrae, separate them and check them.

    Args:
        volume: the checked CT.
        vertebrae: bodies to segment; their slices with a margin are the input of the bundle.
        bundle: the segmentation bundle.
        limits: limits of the gates.
        planes_are_exact: the superior and inferior points are from a reader: the bodies end there.

    Returns:
        The label map, and for each level findings such as a missing body, a body cut by the border, or an implausible
        volume or position.

    Raises:
        ValueError: if no vertebra is given.
        RuntimeError: if the bundle answers on another grid.
    """
    part = slab(vertebrae, volume.affine, volume.hu.shape[2])
    hu, affine = volume.hu[:, :, part], shifted(volume.affine, part.start)
    mask = np.asarray(bundle(as_image(hu, affine))["pred"])[0] > 0
    if mask.shape != hu.shape:
        raise RuntimeError(f"output of the segmentation bundle must have shape {hu.shape}, got {mask.shape}")
    if planes_are_exact:
        borders = [disc_borders(v) for v in vertebrae]
    else:
        borders = run_parallel(lambda v: end_plate_borders(hu, affine, v), vertebrae)
    separated = separate_bodies(mask, affine, hu, vertebrae, borders)
    bodies = np.zeros(volume.hu.shape, dtype=np.uint8)
    bodies[:, :, part] = separated
    findings: dict[VertebraLevel, list[Finding]] = {}
    for vertebra in vertebrae:
        body = np.zeros(volume.hu.shape, dtype=bool)
        body[:, :, part] = separated == vertebra.level.label
        index = occupied_voxels(body)
        discs = () if planes_are_exact else disc_in_mask(mask, affine, vertebra)
        findings[vertebra.level] = (
            run_gates(OUTLINE_GATES, _facts(vertebra, index, body, volume, discs), limits)
            if len(index)
            else [body_not_found(vertebra.level)]
        )
    return Outlines(part, bodies, findings)


def _facts(
    vertebra: VertebraLocation,
    index: NDArray[np.intp],
    body: NDArray[np.bool_],
    volume: CTVolume,
    discs: tuple[float | None, ...],
) -> OutlineFacts:
    affine = volume.affine
    centre = index.mean(0) @ affine[:3, :3].T + affine[:3, 3]
    axis = np.subtract(vertebra.superior_mm, vertebra.inferior_mm)
    step = float(np.linalg.norm(axis))
    return OutlineFacts(
        level=vertebra.level,
        body=body,
        valid=volume.valid,
        volume_cm3=len(index) * (abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0),
        offset_mm=float((centre - vertebra.centre_mm) @ axis) / step,
        step_mm=step,
        disc_offsets_mm=discs,
    )
