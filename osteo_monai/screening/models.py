"""The bundles that a screening runs, and how they are loaded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from osteo_monai.domain import View
from osteo_monai.errors import ModelMissingError, UnusableInputError
from osteo_monai.screening.result import ModelUsed, OpinionName
from osteo_monai.utils.devices import torch_device

if TYPE_CHECKING:
    import torch

    from osteo_monai.bundle import Bundle
    from osteo_monai.risk import RiskModel
    from osteo_monai.risk.calibration import RiskCalibration

__all__ = [
    "OpinionModels",
    "RadiographModels",
    "ScreeningModels",
    "check_installed",
    "installed_weights",
    "load_models",
    "load_opinion_models",
    "models_used",
]

logger = logging.getLogger(__name__)

LOCALISATION_BUNDLE = "vertebra_localization_ct"
COLUMN_BUNDLE = "vertebral_column_ct"
SEGMENTATION_BUNDLE = "vertebral_body_segmentation_ct"
CT_BUNDLES = (LOCALISATION_BUNDLE, COLUMN_BUNDLE, SEGMENTATION_BUNDLE)
"""Bundles without which no CT can be screened."""

CLASSIFICATION_BUNDLE = "osteoporosis_classification_ct"
REGRESSION_BUNDLE = "bone_density_regression_ct"
OPINION_BUNDLES: Mapping[OpinionName, str] = {
    "density_regression": REGRESSION_BUNDLE,
    "classifier": CLASSIFICATION_BUNDLE,
}

CHEST_BUNDLE = "osteoporosis_classification_chest_xray"
LUMBAR_BUNDLE = "osteoporosis_classification_lumbar_xray"
RADIOGRAPH_BUNDLES: Mapping[View, tuple[str, tuple[str, ...]]] = {
    View.CHEST_FRONTAL: (CHEST_BUNDLE, ()),
    View.LUMBAR_AP: (LUMBAR_BUNDLE, ()),
    View.LUMBAR_LATERAL: (LUMBAR_BUNDLE, ("lateral",)),
}
"""Bundle and config overlays of each view."""


def models_used(*bundles: "Bundle") -> tuple[ModelUsed, ...]:
    """Return name, version and checksum of bundles for the result."""
    return tuple(
        ModelUsed(bundle=b.name, version=b.version, weights_sha256=b.weights_sha256, pinned=b.pinned) for b in bundles
    )


def installed_weights() -> list[str]:
    """Return a text for each installed bundle that changes with its weights: name, size and date of each file."""
    from osteo_monai.bundle import find_bundle

    names = (*CT_BUNDLES, *OPINION_BUNDLES.values(), CHEST_BUNDLE, LUMBAR_BUNDLE)
    texts = []
    for name in names:
        with suppress(ModelMissingError, OSError):
            for file in sorted((find_bundle(name) / "models").iterdir()):
                status = file.stat()
                texts.append(f"{name} {file.name} {status.st_size} {status.st_mtime_ns}")
    return texts


def check_installed(bundles: Sequence[str] = CT_BUNDLES) -> None:
    """Check that bundles and their weights are installed, without loading them.

    Raises:
        ModelMissingError: naming all bundles that are missing.
    """
    from osteo_monai.bundle import install_command

    missing = [name for name in bundles if not _is_installed(name)]
    if missing:
        raise ModelMissingError(f"Models are not installed: {', '.join(missing)}; {install_command(missing[0])}.")


def _is_installed(bundle: str) -> bool:
    from osteo_monai.bundle import find_bundle

    try:
        return any((find_bundle(bundle) / "models").glob("*.pt"))
    except FileNotFoundError:
        return False


# --- CT -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpinionModels:
    """The bundles of ``OPINION_BUNDLES`` that can be run, and why the others cannot."""

    bundles: "Mapping[OpinionName, Bundle]" = field(default_factory=dict)
    absent: Mapping[OpinionName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScreeningModels:
    """The three bundles that the screening of a CT needs, and the optional comparison models."""

    localisation: "Bundle"
    column: "Bundle"
    segmentation: "Bundle"
    opinions: OpinionModels = field(default_factory=OpinionModels)


def load_models(device: str = "auto", opinions: bool = True, trust: bool = False) -> ScreeningModels:
    """Load the bundles for CT.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` (CUDA if available).
        opinions: also load the comparison models that have weights.
        trust: load bundles that this release does not pin, too; see ``osteo_monai.bundle.check_trusted``.

    Raises:
        ModelMissingError: if a bundle or its weights are not installed.
        ConfigError: if a bundle is not trusted.
        ValueError: if a CUDA device is requested and not available.
    """
    from osteo_monai.bundle import load_bundle

    target = torch_device(device)
    check_installed()
    return ScreeningModels(
        load_bundle(LOCALISATION_BUNDLE, target, trust=trust),
        load_bundle(COLUMN_BUNDLE, target, trust=trust),
        load_bundle(SEGMENTATION_BUNDLE, target, trust=trust),
        load_opinion_models(target, trust) if opinions else OpinionModels(),
    )


def load_opinion_models(device: "torch.device", trust: bool = False) -> OpinionModels:
    """Load the comparison models; one that cannot be loaded is absent with a reason.

    Raises:
        ConfigError: if a bundle is not trusted.
    """
    from osteo_monai.bundle import load_bundle

    bundles: dict[OpinionName, Bundle] = {}
    absent: dict[OpinionName, str] = {}
    for name, bundle in OPINION_BUNDLES.items():
        try:
            bundles[name] = load_bundle(bundle, device, trust=trust)
        except FileNotFoundError:  # its message may contain folders of this machine
            absent[name] = f"The bundle {bundle} or its weights are not installed."
        except RuntimeError as error:  # torch has no class of its own for weights of another network
            absent[name] = _loading_failure(bundle, error)
            logger.warning("%s", absent[name])
    return OpinionModels(bundles, absent)


def _loading_failure(bundle: str, error: RuntimeError) -> str:
    """Distinguish weights of another network from other failures, such as a full GPU."""
    if str(error).startswith("Error(s) in loading state_dict"):
        return f"The weights of the bundle {bundle} do not fit its network."
    return f"The bundle {bundle} could not be loaded ({type(error).__name__})."


# --- radiographs --------------------------------------------------------------------------------------------------

T = TypeVar("T")


class RadiographModels:
    """The bundles for radiographs with their calibrations and risk models, each loaded on first use and kept.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` (CUDA if available).
        trust: load bundles that this release does not pin, too; see ``osteo_monai.bundle.check_trusted``.

    Raises:
        ConfigError: if an installed bundle for radiographs is not trusted.
    """

    def __init__(self, device: str = "auto", trust: bool = False) -> None:
        self.device, self.trust = device, trust
        for name in (CHEST_BUNDLE, LUMBAR_BUNDLE):  # their calibrations and risk models are read without loading them
            _check_trusted(name, trust)
        self._bundles: dict[View, Bundle] = {}
        self._calibrations: dict[str, Mapping[str, RiskCalibration] | UnusableInputError] = {}
        self._risk_models: dict[str, RiskModel | UnusableInputError] = {}

    def bundle(self, view: View) -> "Bundle":
        """Return the bundle for a view.

        Raises:
            FileNotFoundError: if the bundle or its weights are missing.
            ValueError: if a CUDA device is requested and not available.
        """
        if view not in self._bundles:
            from osteo_monai.bundle import load_bundle

            name, overlays = RADIOGRAPH_BUNDLES[view]
            self._bundles[view] = load_bundle(name, torch_device(self.device), overlays, self.trust)
        return self._bundles[view]

    def calibrations(self, bundle: str) -> "Mapping[str, RiskCalibration]":
        """Return the calibrations stored with the weights of a bundle.

        Raises:
            UnusableInputError: if they are missing or damaged.
        """
        from osteo_monai.risk.calibration import read_risk

        return _kept(self._calibrations, bundle, lambda: read_risk(_weights_folder(bundle)))

    def risk_model(self, name: Literal["clinical", "combined"]) -> "RiskModel":
        """Return a model on patient facts, stored with the weights of the chest bundle.

        Raises:
            UnusableInputError: if it is missing or damaged.
        """
        from osteo_monai.risk import load_risk_model

        return _kept(self._risk_models, name, lambda: load_risk_model(_weights_folder(CHEST_BUNDLE), name))


def _check_trusted(bundle: str, trust: bool) -> None:
    from osteo_monai.bundle import check_trusted, find_bundle

    with suppress(ModelMissingError):
        check_trusted(find_bundle(bundle), trust)


def _kept(store: dict[str, T | UnusableInputError], key: str, load: Callable[[], T]) -> T:
    """Return or raise what ``load`` gave at its first call for ``key``."""
    if key not in store:
        try:
            store[key] = load()
        except UnusableInputError as error:
            store[key] = error
    value = store[key]
    if isinstance(value, UnusableInputError):
        raise value
    return value


def _weights_folder(bundle: str) -> Path:
    from osteo_monai.bundle import find_bundle

    return find_bundle(bundle) / "models"
