"""Version of the software that made a result."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["software_version"]


def software_version() -> str:
    """Return the version of this package."""
    try:
        return version("osteo-monai")
    except PackageNotFoundError:
        return "unknown"
