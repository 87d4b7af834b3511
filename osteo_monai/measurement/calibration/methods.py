"""Choice of the calibration method by name."""

from collections.abc import Mapping
from typing import Literal, TypeVar

from osteo_monai.domain import MineralStandard
from osteo_monai.measurement.calibration.internal import TissueSample, internal
from osteo_monai.measurement.calibration.lines import physics, registry, user_line
from osteo_monai.measurement.values import CalibrationUsed

_T = TypeVar("_T")
Method = Literal["physics", "registry", "internal", "user"]


def calibrate(
    method: Method = "physics",
    *,
    kvp: float | None,
    standard: MineralStandard = MineralStandard.K2HPO4,
    slope: float | None = None,
    intercept: float | None = None,
    registry_name: str | None = None,
    allow_unverified: bool = False,
    tissues: Mapping[str, TissueSample] | None = None,
) -> CalibrationUsed:
    """Return the line from HU to mg/cm3 by the named method.

    For a phantom in the scan see :func:`osteo_monai.measurement.calibration.phantom_calibration`.

    Args:
        method: ``physics`` (needs ``kvp``), ``user`` (``slope``, ``intercept``), ``registry`` (``registry_name``) or
            ``internal`` (``tissues``).
        kvp: tube voltage. ``None`` (unknown) is refused by ``physics`` and by ``registry``, which depend on it; for
            ``internal`` it is 120 kVp with a wider prior.
        standard: the mineral that the density is expressed in. A registry line has its own.
        allow_unverified: use a registry line whose primary source was not verified.

    Raises:
        ValueError: an argument is missing, or the line or the samples are not plausible.
    """
    if method == "physics":
        return physics(_given("kvp", kvp, method), standard)
    if method == "user":
        return user_line(_given("slope", slope, method), _given("intercept", intercept, method), standard, kvp)
    if method == "registry":
        name = _given("registry_name", registry_name, method)
        return registry(name, _given("kvp", kvp, method), allow_unverified=allow_unverified)
    if method == "internal":
        return internal(_given("tissues", tissues, method), standard, kvp)
    raise ValueError(f"method must be physics, registry, internal or user, got {method!r}")


def _given(name: str, value: _T | None, method: str) -> _T:
    if value is None:
        raise ValueError(f"{name} must be given for calibration by {method}, got none")
    return value
