"""Localisation of vertebrae in a CT: centre line of the column, bodies, anatomical landmarks beside them, names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement.landmarks import (
    ROLES,
    BodyLandmarks,
    Role,
    describe_last_rib,
    role_log_likelihoods,
    trace_landmarks,
)
from osteo_monai.screening.ct.bodies import Point, VertebraLocation
from osteo_monai.screening.ct.naming import BodyEvidence, BodyName, Naming, name_column

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle
    from osteo_monai.transforms.column_decoding import FoundBody

NETWORK_SACRUM_TRUST, NETWORK_SACRUM_RANGE = 0.5, 3.0
"""Weight of the column network's log-odds that the sacrum follows, in addition to geometry, and their limit. Its other
roles are not used: like names, they were wrong on real scans with short last ribs. Project custom."""
LINE_OFF_MM = 4.0
"""If the axis of the column network is farther than this from its input line, the network is run again on its own
axis; project custom."""


COUNTED_MINIMUM = 0.5
"""Posterior of T1 from which on the ribs count as counted from there; project custom."""


@dataclass(frozen=True)
class Vertebra(VertebraLocation):
    """A vertebral body that was detected and named.

    Attributes:
        certainty: posterior probability of ``level``.
        runner_up: the next probable name; ``None`` if it is not among the levels that can be named.
        superior_seen, inferior_seen: certainty of the disc above and below, 0 to 1; 0 if its place is inferred.
        complete: the body is not cut by the end of the scan.
        landmarks: ribs and processes beside it.
    """

    certainty: float
    runner_up: VertebraLevel | None
    superior_seen: float
    inferior_seen: float
    complete: bool
    landmarks: BodyLandmarks


@dataclass(frozen=True)
class Column:
    """The vertebral column of one scan.

    Attributes:
        vertebrae: the named bodies from the top down.
        above: centres of the bodies above the highest one that is named, from the top down.
        naming: the joint decision behind the names.
        first_rib_seen: whether the scan shows the upper end of the thorax, so that vertebrae can be counted from T1.
    """

    vertebrae: tuple[Vertebra, ...]
    above: tuple[Point, ...]
    naming: Naming | None
    first_rib_seen: bool = False

    def vertebra(self, level: VertebraLevel) -> Vertebra | None:
        """Return the vertebra of a level; ``None`` if there is none."""
        return next((v for v in self.vertebrae if v.level is level), None)

    def last_rib(self) -> str | None:
        """Return a sentence on the ribs of the last thoracic vertebra; ``None`` if it is not in view.

        Vertebrae above it are not described: if T12 has no ribs, those of T11 are not the last ones. If the scan shows
        T1, the number of vertebrae down from there is added.
        """
        last = next((v for v in reversed(self.vertebrae) if v.level.startswith("T")), None)
        if last is None:
            return None
        text = describe_last_rib(last.landmarks, last.level)
        if self.naming is None or not self.first_rib_seen or self.naming.first_ribbed_posterior < COUNTED_MINIMUM:
            return text
        return f"{text}; counted from T1: {last.level.removeprefix('T')} ribbed bodies"


def locate_vertebrae(volume: CTVolume, localisation: "Bundle", column: "Bundle") -> Column:
    """Find and name the vertebral bodies of a CT.

    The localisation bundle gives the centre line of the column, the column bundle bodies and discs along it; ribs,
    processes and sacrum are traced at the bodies, and all bodies are named in one decision.

    Args:
        volume: the checked CT.
        localisation, column: the bundles.
    """
    image = as_image(volume.hu, volume.affine)
    bodies = _find_bodies(image, localisation, column)
    if not bodies:
        return Column((), (), None)
    bottom = float(volume.affine[2, 3] - 0.5 * volume.affine[2, 2])
    scale = name_column([_evidence(b, {}) for b in bodies], bottom).scale
    landmarks = trace_landmarks(volume.hu, volume.affine, bodies, scale)
    evidence = [_evidence(b, role_log_likelihoods(seen)) for b, seen in zip(bodies, landmarks, strict=True)]
    naming = name_column(evidence, bottom)
    detected = list(zip(bodies, landmarks, naming.bodies, strict=True))[::-1]
    vertebrae = tuple(
        _vertebra(name.level, body, seen, name)
        for body, seen, name in detected
        if name.level is not None and name.level is not VertebraLevel.SACRUM
    )
    above = tuple(body.centre_mm for body, _, name in detected if name.kind == "above")
    return Column(vertebrae, above, naming, any(seen.inlet is not None for seen in landmarks))


def as_image(values: NDArray[np.float32] | NDArray[np.uint8], affine: NDArray[np.float64]) -> Any:
    """Return a volume (X, Y, Z) as input of a bundle: a MetaTensor (1, X, Y, Z) with its affine."""
    import torch
    from monai.data import MetaTensor

    return MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(np.array(affine)))


def _find_bodies(image: Any, localisation: "Bundle", column: "Bundle") -> "Sequence[FoundBody]":
    """Return the bodies from the lowest up; the column bundle is run again if the centre line was wrong."""
    line = np.asarray(localisation(image)["line"], dtype=np.float64)
    bodies: Sequence[FoundBody] = ()
    for _ in range(3):
        if len(line) == 0:
            return ()
        answer = column({"image": image, "line": line})
        bodies = answer["bodies"]
        centres = np.array([b.centre_mm for b in bodies]).reshape(-1, 3)
        if len(centres) == 0 or _distance(centres, np.asarray(answer["axis_mm"])) < LINE_OFF_MM:
            break
        line = centres
    return bodies


def _distance(points: NDArray[np.float64], line: NDArray[np.float64]) -> float:
    """Return the largest distance in mm of points (n, 3) from a line (m, 3) at the same height."""
    at = [np.interp(points[:, 2], line[:, 2], line[:, axis]) for axis in (0, 1)]
    return float(np.hypot(points[:, 0] - at[0], points[:, 1] - at[1]).max())


def _evidence(body: "FoundBody", roles: Mapping[Role, float]) -> BodyEvidence:
    """Combine the evidence for one body."""
    last = ROLES.index("last_lumbar")
    odds = body.role[last] - math.log(max(1e-6, 1.0 - math.exp(body.role[last])))
    sacrum = 0.5 * NETWORK_SACRUM_TRUST * float(np.clip(odds, -NETWORK_SACRUM_RANGE, NETWORK_SACRUM_RANGE))
    joined = {role: roles.get(role, 0.0) + (sacrum if role == ROLES[last] else -sacrum) for role in ROLES}
    # an incomplete body has its lower or upper part outside, which follows from the visible disc
    return BodyEvidence(
        centre_mm=body.centre_mm,
        found=float(np.clip(body.probability, 0.05, 0.99)),
        roles=joined,
        cut_below=not body.complete and body.inferior_seen == 0.0,
        cut_above=not body.complete and body.inferior_seen > 0.0,
    )


def _vertebra(level: VertebraLevel, body: "FoundBody", seen: BodyLandmarks, name: BodyName) -> Vertebra:
    return Vertebra(
        level=level,
        centre_mm=body.centre_mm,
        superior_mm=body.superior_mm,
        inferior_mm=body.inferior_mm,
        certainty=name.posterior,
        runner_up=name.runner_up if name.runner_up_posterior > 1e-4 else None,
        superior_seen=body.superior_seen,
        inferior_seen=body.inferior_seen,
        complete=body.complete,
        landmarks=seen,
    )
