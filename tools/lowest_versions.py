"""Print the lowest version that ``pyproject.toml`` allows of each dependency, as constraints for pip.

python tools/lowest_versions.py > lowest.txt
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement


def lowest(requirement: Requirement) -> str:
    """Return ``name==version`` with the lower bound of a requirement.

    Raises:
        ValueError: if it has no lower bound.

    Example:
        >>> lowest(Requirement("numpy>=2.1,<3"))
        'numpy==2.1'
    """
    bounds = [part.version for part in requirement.specifier if part.operator in (">=", "==")]
    if len(bounds) != 1:
        raise ValueError(f"{requirement.name} must have one lower bound, got '{requirement.specifier}'")
    return f"{requirement.name}=={bounds[0]}"


def main() -> int:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print(*map(lowest, map(Requirement, project["dependencies"])), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
