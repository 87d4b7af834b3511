"""Options that several commands share, each defined once, and the parsers of their values.

A parser raises ``typer.BadParameter`` with ``must be ..., got ...``; the name of the option is added by
``osteo_monai.cli.errors``. Parsers accept a parsed value too, since typer passes defaults through them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from osteo_monai.cli.errors import ArgumentError
from osteo_monai.domain import DensityThresholds, Sex, VertebraLevel
from osteo_monai.errors import ModelMissingError
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.measurement.calibration import ContrastCorrection
    from osteo_monai.screening.options import Calibration

T = TypeVar("T", bound=str)

_SEXES = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}


# --- parsers ------------------------------------------------------------------------------------------------------


def choice(*values: T) -> Callable[[str], T]:
    """Return a parser of one of several words.

    Example:
        >>> choice("wilson", "exact")("exact")
        'exact'
    """

    def parse(text: str) -> T:
        for value in values:
            if text == value:
                return value
        raise typer.BadParameter(f"must be {listed(values, 'or')}, got '{text}'")

    return parse


def parse_sex(text: str) -> Sex:
    """Return a sex: ``female``, ``male``, ``F`` or ``M`` in any case."""
    if text.lower() not in _SEXES:
        raise typer.BadParameter(f"must be female, male, F or M, got '{text}'")
    return _SEXES[text.lower()]


def parse_levels(text: str) -> Sequence[VertebraLevel]:
    """Return lumbar levels of a list such as ``L1,L2``."""
    lumbar = [level for level in VertebraLevel if level.startswith("L")]
    names = [name.strip().upper() for name in text.split(",")] if isinstance(text, str) else list(text)
    if not set(names) <= set(lumbar) or len(set(names)) < len(names):
        raise typer.BadParameter(f"must be levels from L1 to L5, each once, such as L1,L2, got '{text}'")
    return tuple(VertebraLevel(name) for name in names)


def parse_thresholds(text: str | DensityThresholds) -> DensityThresholds:
    """Return the cut-offs of ``80,120`` in mg/cm3 K2HPO4."""
    default = DensityThresholds()
    if isinstance(text, DensityThresholds):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
        thresholds = DensityThresholds(low, high, source="given by the user")
    except ValueError:
        raise typer.BadParameter(
            f"must be two rising positive numbers in mg/cm3 such as 80,120, got '{text}'"
        ) from None
    return default if (low, high) == (default.osteoporosis_below, default.normal_above) else thresholds


def parse_calibration(text: str) -> "Calibration":
    """Return the calibration of ``physics``, ``internal``, ``registry:NAME``, ``user:A,B``, ``phantom:FILE`` or
    ``site:FILE``.
    """
    from osteo_monai.measurement.calibration import read_phantom, read_site_file, registry_lines
    from osteo_monai.screening import options

    method, _, value = text.partition(":")
    if method == "user":
        try:
            slope, intercept = (float(part) for part in value.split(","))
        except ValueError:
            raise ValueError(f"--calibration user:SLOPE,INTERCEPT must have two numbers, got '{text}'") from None
        try:
            return options.UserCalibration(slope, intercept)
        except ValueError as error:
            raise ValueError(f"--calibration user:SLOPE,INTERCEPT: {error}") from None
    if method == "registry" and value:
        names = sorted(registry_lines())
        if value not in names:
            raise ValueError(f"--calibration registry:NAME must be one of {listed(names, 'or')}, got '{value}'")
        return options.RegistryCalibration(value)
    if method == "phantom" and value:
        read_phantom(Path(value))  # an invalid file is reported before a study is read
        return options.PhantomCalibration(Path(value))
    if method == "site" and value:
        read_site_file(Path(value))
        return options.SiteCalibration(Path(value))
    if text == "physics":
        return options.PhysicsCalibration()
    if text == "internal":
        return options.InternalCalibration()
    forms = "physics, internal, registry:NAME, user:SLOPE,INTERCEPT, phantom:FILE or site:FILE"
    raise ValueError(f"--calibration must be {forms}, got '{text}'")


def parse_contrast(text: str | None) -> "ContrastCorrection | None":
    """Return the contrast correction of ``published`` or of a file."""
    from osteo_monai.measurement.calibration import PUBLISHED_CONTRAST, read_contrast_correction

    if text is None:
        return None
    return PUBLISHED_CONTRAST if text == "published" else read_contrast_correction(Path(text))


def parse_device(text: str) -> str:
    """Return ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; a CUDA device must exist."""
    if text not in ("auto", "cpu", "cuda") and not (text.startswith("cuda:") and text[5:].isdecimal()):
        raise typer.BadParameter(f"must be auto, cpu, cuda or cuda:N, got '{text}'")
    if text.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if count <= int(text[5:] or 0):
            raise typer.BadParameter(f"must be a device of this machine, which has {count} CUDA devices, got '{text}'")
    return text


def parse_pairs(text: str, option: str, form: str = "NAME=COLUMN") -> dict[str, str]:
    """Return ``a=b,c=d``, the value of an option of this ``form``, as a dictionary.

    Raises:
        ValueError: naming the option.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(sign and name.strip() and value.strip() for name, sign, value in pairs):
        raise ValueError(f"{option} must be {form}, several separated by commas, got '{text}'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_settings(text: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a JSON object such as ``{"epochs": 20}``."""
    try:
        settings = json.loads(text) if isinstance(text, str) else dict(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise typer.BadParameter(f"must be a JSON object such as '{{\"epochs\": 20}}', got '{text}'")
    return settings


def parse_sizes(text: str | Sequence[int]) -> Sequence[int]:
    """Return positive whole numbers of a list such as ``50,100,200``."""
    try:
        sizes = [int(part) for part in text.split(",")] if isinstance(text, str) else list(text)
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"must be positive whole numbers such as 50,100,200, got '{text}'")
    return sizes


def parse_data_source(text: str) -> str:
    """Return ``virtual`` or the path of a manifest that exists."""
    if text != "virtual" and not Path(text).is_file():
        raise typer.BadParameter(f"must be 'virtual' or an existing file, got '{text}'")
    return text


def existing_file(text: str | Path) -> Path:
    """Return the path of a file that exists."""
    path = Path(text)
    if not path.is_file():
        raise typer.BadParameter(f"must be an existing file, got '{text}'")
    return path


def existing_folder(text: str | Path) -> Path:
    """Return the path of a folder that exists."""
    path = Path(text)
    if not path.is_dir():
        raise typer.BadParameter(f"must be an existing folder, got '{text}'")
    return path


def source_folder(text: str | Path) -> Path:
    """Return the folder of a bundle whose configs are written, which holds ``configs/common.json``."""
    path = Path(text)
    if not (path / "configs" / "common.json").is_file():
        raise typer.BadParameter(f"must be the folder of a bundle with configs/common.json, got '{text}'")
    return path


def bundle_folder(text: str | Path) -> Path:
    """Return the folder of a bundle given its folder or name."""
    from osteo_monai.bundle import find_bundle

    try:
        return find_bundle(text)
    except ModelMissingError:
        raise typer.BadParameter(f"must be the name or folder of a bundle, got '{text}'") from None


def known_overlays(bundle: Path, names: Sequence[str], option: str = "--overlay") -> list[str]:
    """Return the names of overlays, all of which must be configs of the bundle."""
    configs = {path.stem for path in (bundle / "configs").glob("*.json")}
    missing = [name for name in names if name not in configs]
    if missing:
        raise ArgumentError([f"{option} must be a config of the bundle, got '{name}'" for name in missing])
    return list(names)


def given(context: typer.Context, panel: str) -> list[str]:
    """Return the options of a help panel that were set on the command line, such as ``['--age', '--sex']``."""
    return [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) == panel
        and getattr(context.get_parameter_source(str(parameter.name)), "name", "") not in ("DEFAULT", "DEFAULT_MAP", "")
    ]


# --- input and output ---------------------------------------------------------------------------------------------

OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Output folder, created if missing.")
]
OutputManifest = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Manifest to write, JSON.")]
OutputTable = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="CSV table to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
ManifestFile = Annotated[
    Path, typer.Argument(parser=existing_file, metavar="MANIFEST", help="Data manifest, JSON (docs/manifests.md).")
]
BundleFolder = Annotated[
    Path, typer.Argument(parser=bundle_folder, metavar="BUNDLE", help="Name or folder of a bundle.")
]
TrustBundle = Annotated[
    bool,
    typer.Option(
        "--trust-bundle",
        help="Load bundles that this release does not pin, and run the code in their configs, which is listed first.",
    ),
]
TrainingSettings = Annotated[
    Mapping[str, Any],
    typer.Option(
        "--settings",
        parser=parse_settings,
        metavar="JSON",
        help="Settings of train.json and evaluate.json to change, such as '{\"epochs\": 20}'.",
        show_default=False,
    ),
]

# --- computation --------------------------------------------------------------------------------------------------

Device = Annotated[str, typer.Option(parser=parse_device, metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[int, typer.Option(min=1, metavar="N", help="Number of parallel processes.")]
BootstrapSeed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Bootstrap random seed.")]
Thresholds = Annotated[
    DensityThresholds,
    typer.Option(
        "--thresholds",
        parser=parse_thresholds,
        metavar="A,B",
        help="Osteoporosis below A, normal above B, in mg/cm3 K2HPO4.",
        show_default="80,120",
    ),
]
Virtual = Annotated[bool, typer.Option("--virtual", help="Mark all output: the patients are virtual.")]

# --- tracking -----------------------------------------------------------------------------------------------------

Track = Annotated[bool, typer.Option("--track/--no-track", help="Log the run to MLflow.")]
TrackingURI = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="MLflow store.", show_default="FOLDER/mlflow.db"),
]
OptionalTracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="Log the run to this MLflow store; also by the variable MLFLOW_TRACKING_URI.",
        show_default="not logged",
    ),
]
