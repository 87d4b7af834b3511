"""Landmarks of a vertebral body: the bone at each side, the sacrum below, and their likelihood under each role."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtr

from osteo_monai.measurement.landmarks.inlet import InletSigns

Side = Literal["right", "left"]
Role = Literal[
    "ribbed", "last_ribbed", "lumbar", "last_lumbar", "supernumerary", "long_process", "first_ribbed", "cervical"
]

SIDES: tuple[Side, ...] = get_args(Side)
ROLES: tuple[Role, ...] = get_args(Role)
"""``ribbed``: carries a rib and is neither the first nor the last that does; ``last_ribbed``; ``lumbar``: no rib, and
not the last above the sacrum; ``last_lumbar``; ``supernumerary``: the last of thirteen pairs of ribs; ``long_process``:
no rib, but a process that resembles one; ``first_ribbed``; ``cervical``: no rib, above the first that has one."""
_LOWER_ROLES: tuple[Role, ...] = ROLES[:6]
"""Roles that differ where the upper end of the thorax is not in view: there ``first_ribbed`` is ``ribbed`` and
``cervical`` is ``lumbar``."""
_CENTRED = slice(0, 4)
"""Roles whose mean is the zero of the log-likelihoods."""
MAX_LOG_LIKELIHOOD = 4.0
"""Largest log-likelihood of the landmarks of one body, so that no single observation is decisive."""
STUB_MM = 33.0
"""A structure that ends nearer to the axis than this is the root of an arch, not a visible process."""


@dataclass(frozen=True)
class _Shape:
    """Normal distributions, mean and SD in mm, of length and descent, with a share of the mixture."""

    share: float
    length: float
    length_sd: float
    descent: float
    descent_sd: float


_SHAPES: dict[Role, tuple[_Shape, ...]] = {
    "ribbed": (_Shape(1.0, 185.0, 25.0, 75.0, 35.0),),
    "last_ribbed": (
        _Shape(0.60, 98.0, 28.0, 55.0, 35.0),
        _Shape(0.28, 35.0, 10.0, 6.0, 7.0),
        _Shape(0.12, 150.0, 25.0, 75.0, 35.0),
    ),
    "lumbar": (_Shape(1.0, 26.0, 7.0, 0.0, 6.0),),
    "last_lumbar": (_Shape(1.0, 28.0, 8.0, 2.0, 8.0),),
    "supernumerary": (
        _Shape(0.55, 55.0, 16.0, 18.0, 10.0),
        _Shape(0.15, 90.0, 22.0, 40.0, 20.0),
        _Shape(0.30, 26.0, 7.0, 0.0, 6.0),
    ),
    "long_process": (_Shape(1.0, 38.0, 9.0, 4.0, 6.0),),
}
"""Length and descent by role, of a person of scale 1: ribs of T11 155 to 195 mm, of T12 82 to 134 mm, processes 15 to
39 mm long on the real scans. The last of thirteen pairs is short, often at one side only; of 100 people with variants
60 had ribs below 38 mm or at one side only at the body below T12, 5 longer ones (Yun 2018, Korean J Radiol)."""
_SEEN_NONE: dict[Role, float] = {
    "ribbed": 0.004, "last_ribbed": 0.05, "lumbar": 0.25, "last_lumbar": 0.2,
    "supernumerary": 0.12, "long_process": 0.1,
}  # fmt: skip
"""Probability of no bone beyond 33 mm at a visible side."""
UNCERTAIN_STUB_MM, UNCERTAIN_STUB = 45.0, 0.15
"""A rudimentary last rib cannot be distinguished from a process, but is rare (one of sixteen real scans, both sides). A
structure shorter than the first in mm counts against a last rib by this factor a side at most; one without a free end
that is as short does not count."""
UNCERTAIN_MERGED_MM = 80.0
"""A process of L5 that merges with the pelvis is followed up to 65 mm: merged structures shorter than this do not
count."""
OUTLIERS = 0.02
"""Share of observations without information on the role; limits the evidence of one side."""
SIDE_WEIGHT = 0.7
"""Weight of a side: two sides of one body are not independent."""
MAX_ODDS = 3.0
"""Bound of the log-odds of the sacrum."""
PROCESS_LONGER_MM, STUB_LONGER_MM = (-3.5, 3.5), (9.5, 10.0)
"""Mean and SD of ``longer_mm``. Processes grow from L1 to L3: L1 was 3.5 mm shorter than L2 (SD 3.0, at most 4 mm
longer) in 60 virtual people, and -8 to 1 mm longer in five real scans; rudimentary ribs were 9.5 mm (SD 10) longer than
processes of L1 in eight virtual people."""
_LONGER_ROLES: tuple[Role, ...] = ("last_ribbed", "supernumerary", "long_process")
MAX_LONGER = 2.5
"""Bound of that gain. A body with shorter bones than the next gains nothing: the sign raises doubts only."""
_NOWHERE = (100.0, 100.0)
_INLET: dict[Role, tuple[float, float, float]] = {
    "ribbed": (0.95, 0.9, 100.0),
    "last_ribbed": (0.5, *_NOWHERE),
    "lumbar": (0.04, *_NOWHERE),
    "last_lumbar": (0.04, *_NOWHERE),
    "supernumerary": (0.5, *_NOWHERE),
    "long_process": (0.04, *_NOWHERE),
    "first_ribbed": (0.90, -0.1, -0.1),
    "cervical": (0.04, -100.0, -1.1),
}
"""At the upper end of the thorax: probability that a visible side has a rib, and the range in pitches of the apex of
the lungs above the centre of the body (none for lower bodies). Cervical ribs: 0.9 % of 1,165 people in CT, half of them
at one side (Omani population, Surg Radiol Anat 2022, abstract); the remainder of the 4 % is structures in contact with
C7."""
APEX_SD, MAX_APEX = 0.45, 2.0
"""SD in pitches of that height beyond its range, and the largest loss of log-likelihood by it; project custom: the
apex reaches the neck of the first rib, in one real scan 0.23 pitches below the centre of T1."""


@dataclass(frozen=True)
class LateralBone:
    """A rib or a transverse process of a vertebra."""

    side: Side
    reach_mm: float
    """Distance of the outer end from the axis of the column, to the side."""
    descent_mm: float
    """Height of the inner end above the outer one along the axis of the body."""
    length_mm: float
    """Along its course, from the side of the body (18 mm beside the axis) to the outer end."""
    volume_cm3: float
    """Of the part beyond 27 mm beside the axis."""
    thickness_mm: float
    """Diameter of a rod of the same volume and length."""
    leaves_view: bool
    """Whether it ends at the border of the scan or of the window, so that it may be longer."""
    merges: bool
    """Whether it ends in a structure too thick for a rib (an enhanced organ, the pelvis), so that it may be longer."""
    belonging: float
    """Certainty that it belongs to this body and not to a neighbour, 0 to 1."""

    @property
    def open_end(self) -> bool:
        """Whether only a lower limit of its length is known."""
        return self.leaves_view or self.merges


@dataclass(frozen=True)
class BodyLandmarks:
    """Landmarks of one body.

    Attributes:
        right, left: the bone that starts at this side; ``None`` if none was found.
        right_in_view, left_in_view: whether the image covers this side far enough to show a rib, and shows it clearly.
        sacrum_below: probability from the image that the next bone below is the sacrum; ``None`` if the scan ends.
        scale: size of the person by which lengths were divided for the likelihoods; 1 is average.
        inlet: signs of the upper end of the thorax; ``None`` where it is not near or not in view.
        longer_mm: mean difference of its bones to those of the body below, on the sides that show both, for a person
            of scale 1; ``None`` without such a side, and where both bones are too long for a process.
    """

    right: LateralBone | None
    left: LateralBone | None
    right_in_view: bool
    left_in_view: bool
    sacrum_below: float | None
    scale: float = 1.0
    inlet: InletSigns | None = None
    longer_mm: float | None = None


def role_log_likelihoods(landmarks: BodyLandmarks) -> dict[Role, float]:
    """Return the log-likelihood of each role of the body, relative to the mean of the roles.

    Returns:
        Natural logarithms within +-4; all 0 without any observation. Differences matter, not values.
    """
    if landmarks.inlet is not None:
        return _inlet_log_likelihoods(landmarks.inlet)
    total = np.zeros(len(_LOWER_ROLES))
    sides = ((landmarks.right, landmarks.right_in_view), (landmarks.left, landmarks.left_in_view))
    for bone, in_view in sides:
        total += SIDE_WEIGHT * _side_log_likelihoods(bone, in_view, landmarks.scale)
    if landmarks.sacrum_below is not None:
        odds = float(np.clip(logit(np.clip(landmarks.sacrum_below, 1e-3, 1 - 1e-3)), -MAX_ODDS, MAX_ODDS))
        total += odds / 2 * np.array([1.0 if role == "last_lumbar" else -1.0 for role in _LOWER_ROLES])
    if landmarks.longer_mm is not None:
        total += _longer_than_below(landmarks.longer_mm) * np.isin(_LOWER_ROLES, _LONGER_ROLES)
    total = np.clip(total, -MAX_LOG_LIKELIHOOD, MAX_LOG_LIKELIHOOD)
    lower = {role: float(value) for role, value in zip(_LOWER_ROLES, total, strict=True)}
    return {**lower, "first_ribbed": lower["ribbed"], "cervical": lower["lumbar"]}


def _longer_than_below(difference: float) -> float:
    """Return the gain of log-likelihood of a rudimentary rib; 0 where a process is as probable."""
    process = (1 - OUTLIERS) * _normal(difference, *PROCESS_LONGER_MM) + OUTLIERS * _normal(difference, 0.0, 12.0)
    gain = math.log(_normal(difference, *STUB_LONGER_MM) / process)
    return min(max(SIDE_WEIGHT * gain, 0.0), MAX_LONGER)


def _inlet_log_likelihoods(inlet: InletSigns) -> dict[Role, float]:
    """Return the log-likelihood of each role at the upper end of the thorax, relative to their mean."""
    values = []
    for role in ROLES:
        with_rib, low, high = _INLET[role]
        sides = [math.log(with_rib if rib else 1.0 - with_rib) for rib in inlet.ribs if rib is not None]
        off = max(low - inlet.apex_above, inlet.apex_above - high, 0.0) / APEX_SD
        values.append(SIDE_WEIGHT * sum(sides) + max(-0.5 * off * off, -MAX_APEX))
    relative = np.clip(np.array(values) - np.mean(values), -MAX_LOG_LIKELIHOOD, MAX_LOG_LIKELIHOOD)
    return {role: float(value) for role, value in zip(ROLES, relative, strict=True)}


def _side_log_likelihoods(bone: LateralBone | None, in_view: bool, scale: float) -> NDArray[np.float64]:
    """Return the log-likelihood of each role, relative to their mean, of one side; 0 without information."""
    short = bone is not None and bone.length_mm < (UNCERTAIN_MERGED_MM if bone.merges else UNCERTAIN_STUB_MM) * scale
    if bone is None or bone.reach_mm < STUB_MM * scale:
        if not in_view or (bone is not None and bone.open_end):
            return np.zeros(len(_LOWER_ROLES))
        likelihood = np.array([_SEEN_NONE[role] for role in _LOWER_ROLES])
    elif short and bone.open_end:
        return np.zeros(len(_LOWER_ROLES))
    else:
        likelihood = np.array([_density(bone, _SHAPES[role], scale) for role in _LOWER_ROLES])
    if short:
        last, lumbar = ROLES.index("last_ribbed"), ROLES.index("lumbar")
        likelihood[last] = max(likelihood[last], UNCERTAIN_STUB * likelihood[lumbar])
    relative = likelihood / likelihood[_CENTRED].mean()
    belonging = 1.0 if bone is None else bone.belonging
    return np.asarray(belonging * np.log((1 - OUTLIERS) * relative + OUTLIERS))


def _density(bone: LateralBone, shapes: Sequence[_Shape], scale: float) -> float:
    """Return the density (per mm2) of length and descent under a mixture; for an open end that of at least that
    length.
    """
    length, descent = bone.length_mm / scale, bone.descent_mm / scale
    if bone.open_end:
        return 1e-6 + sum(s.share * float(ndtr((s.length - length) / s.length_sd)) for s in shapes)
    return 1e-9 + sum(
        s.share * (_normal(length, s.length, s.length_sd) * _normal(descent, s.descent, s.descent_sd)) for s in shapes
    )


def _normal(value: float, mean: float, sd: float) -> float:
    """Return the density of a normal distribution."""
    z = (value - mean) / sd
    return float(np.exp(-z * z / 2.0)) / math.sqrt(2.0 * math.pi) / sd


def describe_last_rib(landmarks: BodyLandmarks, level: str) -> str:
    """Return a sentence for the report on the last ribs: "T12 carries the last ribs: right 98 mm, left 105 mm".

    Args:
        landmarks: of the body that carries them.
        level: its name.
    """
    sides = ((landmarks.right, landmarks.right_in_view), (landmarks.left, landmarks.left_in_view))
    texts = [_rib_text(side, *observed) for side, observed in zip(SIDES, sides, strict=True)]
    if landmarks.right is None and landmarks.left is None:
        return f"No rib was seen at {level}: {', '.join(texts)}"
    return f"{level} carries the last ribs: {', '.join(texts)}"


def _rib_text(side: str, bone: LateralBone | None, in_view: bool) -> str:
    if bone is None:
        return f"{side} none" if in_view else f"{side} not in view"
    return f"{side} {'at least ' if bone.open_end else ''}{bone.length_mm:.0f} mm"
