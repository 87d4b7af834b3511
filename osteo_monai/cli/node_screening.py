"""What screens a study for the node and for mercure: options from text, models loaded once."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from osteo_monai.cli.options import parse_calibration, parse_device, parse_levels, parse_thresholds
from osteo_monai.domain import DensityThresholds, Severity
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.node.processing import Processed
from osteo_monai.utils.monai_import import import_monai_for_inference
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.node.processing import Process
    from osteo_monai.screening import ScreeningOptions
    from osteo_monai.screening.result import ScreeningResult

__all__ = ["PROCESSOR", "load", "screening_options"]

PROCESSOR = "osteo_monai.cli.node_screening:load"

_TRY_AGAIN = frozenset({"output_failed", "internal_error"})
"""Codes of refusals that are no property of the study."""


def screening_options(options: Mapping[Any, Any], device: str = "cpu") -> "ScreeningOptions":
    """Return the options of the screening from text, as ``osteo-monai screen`` has them.

    Raises:
        ConfigError: naming the option that is wrong.
    """
    from osteo_monai.screening import ScreeningOptions

    parsers = {"calibration": parse_calibration, "levels": parse_levels, "thresholds": parse_thresholds, "kvp": float}
    values: dict[str, Any] = {}
    for name, text in options.items():
        try:
            values[name] = parsers[name](str(text))  # type: ignore[operator]
        except (typer.BadParameter, ValueError, UnusableInputError) as error:
            message = getattr(error, "message", None) or str(error)
            raise ConfigError(f"screening.options.{name}: {message.removeprefix('--')}") from None
    try:
        parse_device(device)
    except typer.BadParameter as error:
        raise ConfigError(f"screening.device {error.message}") from None
    return ScreeningOptions(**({"thresholds": DensityThresholds()} | values))


def load(settings: dict[str, Any]) -> "Process":
    """Load the models and return what screens one study.

    Raises:
        ConfigError: an option is wrong.
        ModelMissingError: a bundle for CT is not installed.
    """
    import_monai_for_inference()
    from osteo_monai.dicom_results import StudyModels, StudyOptions, screen_study
    from osteo_monai.screening import RadiographModels, load_models

    device = str(settings.get("device", "cpu"))
    options = StudyOptions(device, screening_options(dict(settings.get("options") or {}), device))
    models = StudyModels(device=device, ct=load_models(device), radiographs=RadiographModels(device))

    def process(images: Path, output: Path) -> Processed:
        screened = screen_study(images, output, options, models)
        return processed(screened.result, tuple(str(item.path.relative_to(output)) for item in screened.objects))

    return process


def processed(result: "ScreeningResult", files: tuple[str, ...] = ()) -> Processed:
    """Return what the node records of a result."""
    refusals = [finding for finding in result.findings if finding.severity is Severity.REFUSAL]
    if any(finding.code in _TRY_AGAIN for finding in refusals):
        return Processed("failed", summary=refusals[0].message)
    if result.verdict in ("refused", "unusable"):
        codes = listed(dict.fromkeys(finding.code for finding in refusals))
        outcome = "refused" if result.verdict == "refused" else "unusable"
        return Processed(outcome, files, f"{outcome}: {codes}", notify=True)  # type: ignore[arg-type]
    if result.density is not None:
        status = f", {result.status}" if result.status else ""
        low = result.status is not None and str(result.status) != "normal"
        return Processed("measured", files, f"trabecular density {result.density.mg_cm3:.0f} mg/cm3{status}", low)
    return Processed("measured", files, "risk of osteoporosis estimated", notify=False)
