"""Repeatability of densities from repeated scans, and follow-up of people against the least significant change."""

from osteo_monai.reporting.repeatability.follow_up import Change, Verdict, changes, write_follow_up
from osteo_monai.reporting.repeatability.precision import (
    PUBLISHED,
    ChangeLimit,
    GivenLimit,
    MeasuredLimits,
    Precision,
    PublishedLimit,
    precisions,
    read_limits,
    write_repeatability,
)

__all__ = [
    "PUBLISHED",
    "Change",
    "ChangeLimit",
    "GivenLimit",
    "MeasuredLimits",
    "Precision",
    "PublishedLimit",
    "Verdict",
    "changes",
    "precisions",
    "read_limits",
    "write_follow_up",
    "write_repeatability",
]
