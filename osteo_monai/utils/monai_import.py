"""Import of MONAI in a process that runs inference only."""

import gc
import os
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
does not use. They take most of the time of ``import monai`` (docs/speed.md)."""


def import_monai_for_inference() -> None:
    """Import torch, and MONAI as it is where ``UNUSED_PACKAGES`` are not installed; if MONAI is imported, do nothing.

    They can be imported afterwards, but the parts of MONAI that need them raise its ``OptionalImportError`` until the
    process ends: call this only in a process of its own that does not train. No other thread may import meanwhile.

    No garbage is collected meanwhile, and the objects of the imported modules are left out of later collections.

    Threads of torch that wait for each other sleep, unless ``OMP_WAIT_POLICY`` is set or torch is imported. They would
    compute in a loop, which on a processor that others use too doubles time and processor time (docs/speed.md).
    """
    if "monai" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads its library of threads
    hidden = [name for name in UNUSED_PACKAGES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # documented: None stops the import of a name
    collecting = gc.isenabled()
    gc.disable()
    try:
        import monai.bundle
        import monai.visualize  # noqa: F401
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        gc.freeze()
        if collecting:
            gc.enable()
