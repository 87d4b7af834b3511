"""Anatomical landmarks that name vertebrae: the bone at each side of a body, and the sacrum below the last one.

A rib and a transverse process are found by geometry on HU at bodies of known position; nothing is learned. The column
is resampled to slices about its own axis, bone is segmented by a threshold, and each structure at the side of a
vertebra is followed along its course to its end. Right and left are traced and evaluated separately. Where a scan shows
the apexes of the lungs, the highest ribs are searched too (``inlet``). The result of a body is a bounded log-likelihood
for each role; a naming step combines it with all other evidence.

Limits are "project custom" unless a source is named: they were chosen on eight real scans (benchmark folder
``ct_real_dev``), where ribs of T12 end 66 to 104 mm beside the axis, ribs of T11 beyond 103 mm and transverse processes
at 28 to 52 mm.
"""

from osteo_monai.measurement.landmarks.bones import (
    MAX_LOG_LIKELIHOOD,
    ROLES,
    SIDES,
    BodyLandmarks,
    LateralBone,
    Role,
    Side,
    describe_last_rib,
    role_log_likelihoods,
)
from osteo_monai.measurement.landmarks.column import BodyPlace
from osteo_monai.measurement.landmarks.inlet import InletSigns
from osteo_monai.measurement.landmarks.tracing import trace_landmarks

__all__ = [
    "MAX_LOG_LIKELIHOOD",
    "ROLES",
    "SIDES",
    "BodyLandmarks",
    "BodyPlace",
    "InletSigns",
    "LateralBone",
    "Role",
    "Side",
    "describe_last_rib",
    "role_log_likelihoods",
    "trace_landmarks",
]
