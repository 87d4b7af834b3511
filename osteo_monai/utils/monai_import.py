"""Import of MONAI in a process that runs inference only."""

import sys

__all__ = ["UNUSED_PACKAGES", "import_monai_for_inference"]

UNUSED_PACKAGES = (
    "ignite",
    "itk",
    "matplotlib",
    "mlflow",
    "pandas",
    "scipy.optimize",
    "scipy.signal",
    "skimage",
    "sklearn",
    "torchvision",
)
"""Packages that MONAI imports if they are installed, for training, readers and plots, and that inference by the bundles
does not use. They take 2.9 of the 3.8 s of CPU of ``import monai`` (docs/speed.md)."""


def import_monai_for_inference() -> None:
    """Import MONAI as it is where ``UNUSED_PACKAGES`` are not installed; nothing is done if it is imported already.

    They can be imported afterwards, but the parts of MONAI that need them raise its ``OptionalImportError`` until the
    process ends: call this only in a process of its own that does not train. No other thread may import meanwhile.
    """
    if "monai" in sys.modules:
        return
    hidden = [name for name in UNUSED_PACKAGES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # documented: None stops the import of a name
    try:
        import monai  # noqa: F401
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
