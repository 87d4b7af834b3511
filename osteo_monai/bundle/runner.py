"""Inference of a bundle on images in memory, with the bundle's own config and weights."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch
from monai.transforms import Compose
from monai.visualize import GradCAM
from torch import Tensor

from osteo_monai.bundle.find import find_bundle, install_command
from osteo_monai.bundle.pins import check_trusted, config_files
from osteo_monai.errors import ModelMissingError
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.inputs import read_input
from osteo_monai.weights import read_weights

__all__ = ["Bundle", "InferenceBundle", "load_bundle"]

_DISK_TRANSFORMS = (
    "LoadImaged",
    "LoadRadiographd",
    "EnsureChannelFirstd",
    "CheckHounsfieldd",
    "SaveImaged",
    "SaveVertebraed",
)
"""Transforms of a bundle's config that read or write files, or arrange and check what was read from a file."""


class Bundle(Protocol):
    """A bundle that is ready to run on images in memory; ``InferenceBundle`` is one.

    Attributes:
        name: name of the bundle.
        version: version from its metadata.
        weights_sha256: hexadecimal SHA-256 of its weights file.
        trained_on: training data, from its metadata.
        pinned: whether its files are those of this release.
    """

    name: str
    version: str
    weights_sha256: str
    trained_on: str
    pinned: bool

    def __call__(self, scan: Any, /) -> Mapping[str, Any]:
        """Run preprocessing, network and postprocessing; see ``InferenceBundle``."""

    def setting(self, name: str) -> Any:
        """Return a setting of the bundle's config."""

    def class_activation(self, scan: Any, layer: str, output: int) -> tuple[Any, Any]:
        """Return the network's input and a Grad-CAM map; see ``InferenceBundle``."""


class InferenceBundle:
    """A bundle's preprocessing, network, inferer and postprocessing, without the reading and writing of files.

    Args:
        folder: folder of the bundle.
        device: device of the network.
        overlays: configs of the bundle merged over its ``inference.json``, such as ``lateral``.
        trust: load a bundle that this release does not pin, see ``check_trusted``.

    Attributes:
        name, version, weights_sha256, trained_on, pinned: see ``Bundle``.
        device: device of the network.
        planar: whether the bundle reads radiographs.

    Raises:
        ModelMissingError: when the weights are missing.
        ConfigError: when the bundle is not trusted, or its weights are no state dict.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = "cpu",
        overlays: Sequence[str] = (),
        trust: bool = False,
    ) -> None:
        self.pinned = check_trusted(folder, trust)
        configs = folder / "configs"
        self.name = folder.name
        self.device = torch.device(device)
        metadata = json.loads(read_input(configs / "metadata.json"))
        self.version = str(metadata["version"])
        self.trained_on = str(metadata.get("data_source", ""))
        inputs = metadata.get("network_data_format", {}).get("inputs", {})
        self.planar = inputs.get("image", {}).get("modality") == "DX"
        config = ConfigParser.load_config_files(config_files(folder, ["inference", *overlays]))
        checks = _value_checks(config["preprocessing"])
        for key, part in config.items():
            if isinstance(part, list):
                config[key] = _without_files(part)
            elif isinstance(part, dict) and isinstance(part.get("transforms"), list):
                part["transforms"] = _without_files(part["transforms"])
        config["value_checks"] = checks
        if "imports" in config:
            config["imports"] = _imports_used(config)
        if "progress" in config:
            config["progress"] = False  # callers show their own
        config["bundle_root"] = str(folder)
        config["device"] = f"$torch.device({str(self.device)!r})"
        self._parser = ConfigParser(config)
        self._parser.read_meta(configs / "metadata.json")
        weights = Path(self.setting("checkpoint"))
        if not weights.is_file():
            raise ModelMissingError(
                f"bundle {self.name!r} has no weights: models/{weights.name} is missing; train the bundle, or "
                f"{install_command(self.name)}"
            )
        self.weights_sha256 = file_sha256(weights)
        self._preprocessing: Compose = self.setting("preprocessing")
        self._inferer = self.setting("inferer")
        self._postprocessing: Compose = self.setting("postprocessing")
        self._network: torch.nn.Module = self.setting("network_def")
        self._network.load_state_dict(read_weights(weights))  # converts half precision to the float32 of the network
        self._network.to(self.device).eval()
        # its memory format and compilation; the same object without these settings
        self._placed: torch.nn.Module = self.setting("network") if "network" in config else self._network
        # a scan may stay on the host, if the inferer copies its slices
        self._volume_device = torch.device(self.setting("volume_device") if "volume_device" in config else self.device)
        self._cam: GradCAM | None = None

    def setting(self, name: str) -> Any:
        """Return a setting of the bundle's config, such as ``levels``; raise ``KeyError`` when there is none."""
        return self._parser.get_parsed_content(name)

    def has_setting(self, name: str) -> bool:
        """Return whether the bundle's config has a setting."""
        return name in self._parser

    def check_values(self, image: MetaTensor) -> None:
        """Check values (1, X, Y, Z) as inference checks those of a file.

        Raises:
            UnusableInputError: when they cannot be those of a CT.
        """
        for check in self.setting("value_checks"):
            check({"image": image})

    def __call__(self, scan: Tensor | Mapping[str, Any], /) -> dict[str, Any]:
        """Run the bundle on one scan.

        Args:
            scan: ``MetaTensor`` (1, X, Y, Z) in HU with its affine (voxel index to RAS+ mm), any orientation. A bundle
                with further inputs takes a mapping with this as ``image`` and the other keys of its preprocessing, such
                as a label map ``label`` on the same grid. A bundle for radiographs takes a tensor (1, rows, columns),
                row 0 on top and bone bright, and optionally a bone mask ``bone``, to compute the share of the heat maps
                on bone.

        Returns:
            Output of the bundle's postprocessing, on the CPU. ``pred`` of a voxelwise bundle is on the grid of the
            image. Inputs are left out, since preprocessing scales and resamples them.

        Raises:
            ValueError: when an image is not a ``MetaTensor`` of that shape, images differ in shape, or preprocessing
                cannot use them (a level is missing).
        """
        inputs, data = self._prepare(scan)
        prepared = data["image"]
        with torch.inference_mode():
            batch = prepared[None].to(self._volume_device)
            prediction = decollate_batch(self._inferer(batch, self._placed))[0].cpu()
            plain = prediction.as_tensor() if isinstance(prediction, MetaTensor) else prediction
            data["pred"] = plain
            if isinstance(prepared, MetaTensor) and plain.ndim == prepared.ndim:
                # the collated batch lost the list of operations, which the inverse transforms need
                data["pred"] = MetaTensor(plain, meta=prepared.meta, applied_operations=prepared.applied_operations)
            result = self._postprocessing(data)
        return {key: value for key, value in result.items() if key not in inputs}

    def class_activation(self, scan: Tensor | Mapping[str, Any], layer: str, output: int) -> tuple[Tensor, Tensor]:
        """Return the network's input and its Grad-CAM map (Selvaraju et al. 2017, MONAI's implementation).

        Args:
            scan: see ``__call__``.
            layer: part of the network whose feature maps are weighted, such as ``layer4``.
            output: index of the output.

        Returns:
            Input (C, *spatial), and map (*spatial), at least 0 with a maximum of 1, or 0 everywhere when no feature map
            supports the output. Both on the CPU.

        Raises:
            ValueError: see ``__call__``.
        """
        prepared = torch.as_tensor(self._prepare(scan)[1]["image"])
        plain = prepared.as_tensor() if isinstance(prepared, MetaTensor) else prepared
        # callers may use inference mode, whose tensors have no gradients
        with torch.inference_mode(False), torch.enable_grad():
            if self._cam is None or self._cam.nn_module.target_layers != (layer,):
                # made at first use, since its hooks stay on the network
                self._cam = GradCAM(self._network, layer, postprocessing=lambda values: values)
            heat = self._cam(plain.clone()[None].to(self.device).float(), class_idx=output).detach()[0, 0].cpu()
            self._network.zero_grad(set_to_none=True)
        return plain.cpu(), heat / heat.max().clamp(min=1e-12)

    def _prepare(self, scan: Tensor | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check the inputs; return them and the output of preprocessing."""
        inputs = dict(scan) if isinstance(scan, Mapping) else {"image": scan}
        for key, image in inputs.items():
            self._check_shape(key, image)
        kind = Tensor if self.planar else MetaTensor
        if len({tuple(image.shape) for image in inputs.values() if isinstance(image, kind)}) != 1:
            raise ValueError(f"{', '.join(inputs)} must hold an image, and all images must have its shape")
        try:
            data = self._preprocessing(inputs)
        except RuntimeError as error:  # MONAI's error names the transform only
            if isinstance(error.__cause__, ValueError | KeyError):
                raise ValueError(f"bundle {self.name}: {error.__cause__}") from error
            raise
        return inputs, data

    def _check_shape(self, key: str, image: Any) -> None:
        """Raise ``ValueError`` when an input is an image of another shape or type than the bundle reads."""
        if self.planar:
            if isinstance(image, Tensor) and (image.ndim != 3 or image.shape[0] != 1):
                raise ValueError(f"{key} must be a tensor of shape (1, rows, columns), got {tuple(image.shape)}")
            return
        is_image = key == "image" or (isinstance(image, Tensor) and image.ndim == 4)
        if is_image and not (isinstance(image, MetaTensor) and image.ndim == 4 and image.shape[0] == 1):
            raise ValueError(
                f"{key} must be a MetaTensor of shape (1, X, Y, Z), got {type(image).__name__} "
                f"{tuple(getattr(image, 'shape', ()))}"
            )


def load_bundle(
    name_or_path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    overlays: Sequence[str] = (),
    trust: bool = False,
) -> InferenceBundle:
    """Load a bundle onto a device.

    Args:
        name_or_path: name or folder of the bundle, see ``find_bundle``.
        device: ``cpu``, ``cuda``, ``cuda:0`` ...
        overlays: configs of the bundle merged over its ``inference.json``, such as ``lateral``.
        trust: load a bundle that this release does not pin, see ``check_trusted``.

    Raises:
        ModelMissingError: when the bundle or its weights are missing.
        ConfigError: when the bundle is not trusted, or its weights are no state dict.

    Example:
        >>> from osteo_monai import load_bundle
        >>> load_bundle("vertebra_localization_ct", device="cpu").name
        'vertebra_localization_ct'
    """
    return InferenceBundle(find_bundle(name_or_path), device, overlays, trust)


def _without_files(transforms: list[Any]) -> list[Any]:
    """Drop the transforms that read or write files."""
    return [t for t in transforms if not (isinstance(t, dict) and _class_name(t) in _DISK_TRANSFORMS)]


def _imports_used(config: Mapping[str, Any]) -> list[str]:
    """Return the imports of a config, without handlers if only its evaluator has them: they import ignite and plots."""
    rest = json.dumps({key: value for key, value in config.items() if key not in ("imports", "handlers")})
    return [line for line in config["imports"] if "osteo_monai.handlers" not in line or "handlers." in rest]


def _value_checks(preprocessing: Any) -> list[Any]:
    """Return the checks of values in a preprocessing."""
    transforms = preprocessing.get("transforms") if isinstance(preprocessing, dict) else None
    parts = transforms if isinstance(transforms, list) else []
    return [t for t in parts if isinstance(t, dict) and _class_name(t) == "CheckHounsfieldd"]


def _class_name(component: Mapping[str, Any]) -> str:
    return str(component.get("_target_", "")).rpartition(".")[2]
