"""Run a published bundle on an image in memory: what is published is what runs."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch
from monai.transforms import Compose
from monai.visualize import GradCAM
from torch import Tensor

from osteo_monai.utils.files import file_sha256

__all__ = [
    "BUNDLES_VARIABLE",
    "InferenceBundle",
    "export_weights",
    "find_bundle",
    "load_bundle",
    "merge_inference_config",
]

BUNDLES_VARIABLE = "OSTEO_BUNDLES"
"""Environment variable naming the folder that holds the bundles; the checkout's own ``bundles`` otherwise."""

_DISK_TRANSFORMS = ("LoadImaged", "LoadRadiographd", "EnsureChannelFirstd", "SaveImaged", "SaveVertebraed")
"""Steps of a bundle's config that read or write files (or tidy what was just read)."""


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle given its path or its name.

    Raises:
        FileNotFoundError: when there is no such folder with a ``configs/inference.json``.
    """
    roots = [os.environ.get(BUNDLES_VARIABLE), Path(__file__).parents[2] / "bundles", Path.cwd() / "bundles"]
    tried = [Path(name_or_path), *(Path(root) / name_or_path for root in roots if root)]
    for folder in tried:
        if (folder / "configs" / "inference.json").is_file():
            return folder.resolve()
    raise FileNotFoundError(
        f"bundle {os.fspath(name_or_path)!r} not found: no configs/inference.json under "
        + ", ".join(dict.fromkeys(map(str, tried)))
        + f"; set {BUNDLES_VARIABLE} to the folder that holds the bundles"
    )


class InferenceBundle:
    """A bundle's preprocessing, network, inferer and postprocessing, without its reading and writing of files.

    Attributes:
        name: of the bundle's folder.
        version: from its metadata.
        weights_sha256: of its weights, which lie where its ``checkpoint`` says.
        trained_on: what its metadata say of the data behind the weights.
        device: where the network runs.
        planar: whether it reads radiographs.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu", overlays: Sequence[str] = ()) -> None:
        self.name = folder.name
        self.device = torch.device(device)
        metadata = json.loads((folder / "configs" / "metadata.json").read_text())
        self.version = str(metadata["version"])
        self.trained_on = str(metadata.get("data_source", ""))
        inputs = metadata.get("network_data_format", {}).get("inputs", {})
        self.planar = inputs.get("image", {}).get("modality") == "DX"
        config = ConfigParser.load_config_files([folder / "configs" / f"{n}.json" for n in ("inference", *overlays)])
        for part in config.values():
            if isinstance(part, dict) and isinstance(part.get("transforms"), list):
                part["transforms"] = [t for t in part["transforms"] if not _touches_disk(t)]
        config["bundle_root"] = str(folder)
        config["device"] = f"$torch.device({str(self.device)!r})"
        parser = ConfigParser(config)
        parser.read_meta(folder / "configs" / "metadata.json")
        self._parser = parser
        weights = Path(parser.get_parsed_content("checkpoint"))
        if not weights.is_file():
            raise FileNotFoundError(
                f"bundle {self.name} has no weights: {weights} is missing; train it or put its {weights.name} there"
            )
        self.weights_sha256 = file_sha256(weights)
        self._preprocessing: Compose = parser.get_parsed_content("preprocessing")
        self._inferer = parser.get_parsed_content("inferer")
        self._postprocessing: Compose = parser.get_parsed_content("postprocessing")
        self._network: torch.nn.Module = parser.get_parsed_content("network_def")
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self._network.load_state_dict(state)  # half-precision files are widened to the network's float32
        self._network.to(self.device).eval()
        self._cam: GradCAM | None = None

    def setting(self, name: str) -> Any:
        """Return a setting of the bundle's config, such as ``levels``; raise ``KeyError`` where there is none."""
        return self._parser.get_parsed_content(name)

    def __call__(self, scan: Tensor | Mapping[str, Any]) -> dict[str, Any]:
        """Run the bundle on one scan.

        Args:
            scan: ``MetaTensor`` (1, X, Y, Z) in HU with its affine (voxel index to RAS+ mm), any orientation; or, for a
                bundle that wants more, a mapping with that as ``image`` and what else its preprocessing reads, such as
                a label map ``label`` on the same grid. A bundle for radiographs takes a tensor (1, rows, columns), row
                0 on top and bone bright, and a mask ``bone`` beside it where the share of its heat maps on bone is
                asked.

        Returns:
            What the bundle's postprocessing left, on the CPU; ``pred`` is on the grid of the image where the bundle
            answers voxel by voxel. What was given is dropped, since preprocessing scaled and resampled it.

        Raises:
            ValueError: when an image is not a ``MetaTensor`` of that shape, images differ in shape, or preprocessing
                cannot use them (a level is missing).
        """
        given, data = self._prepare(scan)
        prepared = data["image"]
        with torch.inference_mode():
            batch = prepared[None].to(self.device)
            prediction = decollate_batch(self._inferer(batch, self._network))[0].cpu()
            plain = prediction.as_tensor() if isinstance(prediction, MetaTensor) else prediction
            data["pred"] = plain
            if isinstance(prepared, MetaTensor) and plain.ndim == prepared.ndim:
                # the batch of one shares its list of operations with nothing else; invert from the image's own
                data["pred"] = MetaTensor(plain, meta=prepared.meta, applied_operations=prepared.applied_operations)
            result = self._postprocessing(data)
        return {key: value for key, value in result.items() if key not in given}

    def class_activation(self, scan: Tensor | Mapping[str, Any], layer: str, output: int) -> tuple[Tensor, Tensor]:
        """Return what the network saw and where it looked: Grad-CAM (Selvaraju et al. 2017, as in MONAI).

        Args:
            scan: as for a call.
            layer: the part of the network whose maps are weighted, such as ``layer4``.
            output: number of the output that is asked.

        Returns:
            The network's input (C, *spatial), and the map (*spatial), at least 0, its largest value 1; 0 everywhere
            where nothing spoke for the output. Both on the CPU.

        Raises:
            ValueError: as for a call.
        """
        prepared = torch.as_tensor(self._prepare(scan)[1]["image"])
        plain = prepared.as_tensor() if isinstance(prepared, MetaTensor) else prepared
        # whoever calls may be in inference mode, whose tensors have no gradients
        with torch.inference_mode(False), torch.enable_grad():
            if self._cam is None or self._cam.nn_module.target_layers != (layer,):
                # its hooks stay, so only a network that is asked gets them
                self._cam = GradCAM(self._network, layer, postprocessing=lambda values: values)
            heat = self._cam(plain.clone()[None].to(self.device).float(), class_idx=output).detach()[0, 0].cpu()
            self._network.zero_grad(set_to_none=True)
        return plain.cpu(), heat / heat.max().clamp(min=1e-12)

    def _prepare(self, scan: Tensor | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check what was given, and return it and what preprocessing made of it."""
        given = dict(scan) if isinstance(scan, Mapping) else {"image": scan}
        for key, image in given.items():
            if self.planar:
                if isinstance(image, Tensor) and (image.ndim != 3 or image.shape[0] != 1):
                    raise ValueError(f"{key} must be a tensor of shape (1, rows, columns), got {tuple(image.shape)}")
                continue
            if key != "image" and not (isinstance(image, Tensor) and image.ndim == 4):
                continue
            if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1:
                raise ValueError(
                    f"{key} must be a MetaTensor of shape (1, X, Y, Z), got {type(image).__name__} "
                    f"{tuple(getattr(image, 'shape', ()))}"
                )
        kind = Tensor if self.planar else MetaTensor
        if len({tuple(image.shape) for image in given.values() if isinstance(image, kind)}) != 1:
            raise ValueError(f"{', '.join(given)} must hold an image, and all images must have its shape")
        try:
            data = self._preprocessing(given)
        except RuntimeError as error:  # MONAI's own, which says which transform failed but not why
            if isinstance(error.__cause__, ValueError | KeyError):
                raise ValueError(f"bundle {self.name}: {error.__cause__}") from error
            raise
        return given, data


def _touches_disk(transform: Any) -> bool:
    return isinstance(transform, dict) and str(transform.get("_target_", "")).rsplit(".", 1)[-1] in _DISK_TRANSFORMS


def load_bundle(
    name_or_path: str | os.PathLike[str], device: torch.device | str = "cpu", overlays: Sequence[str] = ()
) -> InferenceBundle:
    """Return a bundle ready to run on ``device``.

    Args:
        name_or_path: the bundle's folder, or its name in ``$OSTEO_BUNDLES`` or the checkout's ``bundles``.
        device: ``cpu``, ``cuda``, ``cuda:0`` ...
        overlays: configs of the bundle to lay over its ``inference.json``, such as ``lateral``.

    Raises:
        FileNotFoundError: when the bundle or its weights are missing.
    """
    return InferenceBundle(find_bundle(name_or_path), device, overlays)


def merge_inference_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``configs/common.json`` with ``configs/inference_overlay.json`` merged on top, by MONAI's own rules.

    MONAI Label and MONAI Deploy read ``inference.json`` alone, so it is written out; a test holds it equal to this.
    """
    configs = Path(folder) / "configs"
    merged = ConfigParser.load_config_files([configs / "common.json", configs / "inference_overlay.json"])
    return {key: value for key, value in merged.items() if key != "_meta_"}


def export_weights(checkpoint: str | os.PathLike[str], target: str | os.PathLike[str], half: bool = True) -> str:
    """Write the weights of a training checkpoint as a bundle's ``model.pt`` and return the file's SHA-256.

    Args:
        checkpoint: ``model.pt`` (the best) or ``checkpoint_epoch=N.pt`` of a training.
        target: file to write; its folder is made if missing.
        half: store float32 tensors in half precision.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    if half:
        state = {k: v.half() if v.dtype is torch.float32 else v for k, v in state.items()}
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    torch.save({k: v.contiguous() for k, v in state.items()}, target)
    return file_sha256(target)
