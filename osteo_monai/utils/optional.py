"""Import of libraries that an extra installs."""

import importlib
from types import ModuleType

__all__ = ["MissingExtraError", "import_optional"]


class MissingExtraError(ImportError):
    """A library of an extra of this package is not installed."""


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Return a module, or say which extra installs it.

    Args:
        module: dotted name.
        extra: of this package, such as ``texture``.
        purpose: what needs the module, as a noun phrase.

    Raises:
        MissingExtraError: when the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise MissingExtraError(
            f"{purpose} needs {module.partition('.')[0]}: pip install 'osteo-monai[{extra}]'"
        ) from None
