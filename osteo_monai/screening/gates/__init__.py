"""Quality gates in groups: one tuple of gates for each stage of the screening.

Source and unit of every limit: ``all_limits()``.
"""

from osteo_monai.screening.gates import bodies, image, levels, opinions, person, size, study, values
from osteo_monai.screening.gates.gate import Gate, run_gates
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS, Limit, Limits

__all__ = ["DEFAULT_LIMITS", "Gate", "Limit", "Limits", "all_limits", "run_gates"]


def all_limits() -> tuple[Limit, ...]:
    """Return every limit of the gates, in the order of the stages."""
    stages = (image, values, person, levels, bodies, size, study, opinions)
    found = [limit for stage in stages for limit in vars(stage).values() if isinstance(limit, Limit)]
    return tuple(dict.fromkeys(found))
