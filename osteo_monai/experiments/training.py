"""One training of a bundle within an experiment, continued after an interruption, and its evaluation."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from osteo_monai.bundle import config_files, run_bundle
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.experiments.parent import ParentRun
from osteo_monai.utils.files import file_sha256, write_text
from osteo_monai.utils.inputs import read_input
from osteo_monai.weights import read_weights

__all__ = ["Training", "last_checkpoint", "shared_slices", "source_facts"]

Plane = NDArray[np.float32]

_KEY_FILE = "training.json"

_WITHOUT_EFFECT = frozenset(
    {"output_dir", "slices_dir", "track", "tracking_uri", "experiment_name", "run_name", "parent_run", "register_model"}
)
"""Settings that change no weight."""

_SAME_ORDER = {"train#dataloader#generator": "$torch.Generator().manual_seed(@seed)"}
"""Own random numbers of the loader: without them the initial weights of a network would change the order of the images
and the augmentations that it sees."""


@dataclass(frozen=True)
class Training:
    """A training of a bundle in a folder, and the evaluation of its last weights.

    The last weights are evaluated, not the best on the validation images, so that no selection differs between networks
    or sizes. The order of images and augmentations depends on ``seed`` and not on the network.

    Attributes:
        bundle: folder of the bundle.
        output: folder of the training.
        overlays: configs of the bundle merged over ``train`` and ``evaluate``.
        settings: of both configs.
        trust: run a bundle that this release does not pin, see ``run_bundle``.
    """

    bundle: Path
    output: Path
    overlays: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False

    def run(self, parent: ParentRun) -> Path:
        """Train to the last epoch and return the checkpoint; continue an interrupted training, keep a complete one.

        Raises:
            ConfigError: the folder holds a training with other settings or data; see also ``run_bundle``.
        """
        epochs = self._merged()["epochs"]
        checkpoints = self.output / "checkpoints"
        self._check_key()
        if not (checkpoints / f"checkpoint_epoch={epochs}.pt").is_file():
            resume = {"resume": str(last_checkpoint(checkpoints))} if any(checkpoints.glob("checkpoint_*.pt")) else {}
            name = parent.name(f"{self.output.name}_train")
            run_bundle(self.bundle, ["train", *self.overlays], self.all_settings(parent) | resume | name, self.trust)
        return last_checkpoint(checkpoints)

    def evaluate(self, parent: ParentRun) -> Path:
        """Evaluate the last weights; return ``slices.csv``, see ``handlers.OutlineScores``."""
        checkpoint = {"checkpoint": str(last_checkpoint(self.output / "checkpoints"))}
        name = parent.name(f"{self.output.name}_evaluate")
        run_bundle(self.bundle, ["evaluate", *self.overlays], self.all_settings(parent) | checkpoint | name, self.trust)
        return self.output / "slices.csv"

    def segment(self, places: Sequence[tuple[int, int]]) -> list[tuple[Plane, Plane, Plane]]:
        """Segment test images with the last weights.

        Args:
            places: item of the test set and slice of each image, as in ``slices.csv``.

        Returns:
            Network input, label and predicted mask (X, Y) of each.
        """
        config = ConfigParser(ConfigParser.load_config_files(config_files(self.bundle, ["evaluate", *self.overlays])))
        config.read_meta(self.bundle / "configs" / "metadata.json")
        config.update({"bundle_root": str(self.bundle), **self.all_settings()})
        parts = ("network_def", "inferer", "device", "validate#dataset", "validate#postprocessing")
        network, inferer, device, dataset, postprocessing = (config.get_parsed_content(part) for part in parts)
        network.load_state_dict(read_weights(last_checkpoint(self.output / "checkpoints")))
        network.to(device).eval()
        planes = []
        for item, index in places:
            data = dict(dataset[item])
            with torch.inference_mode():
                data["pred"] = inferer(data["image"][None].to(device), network)[0].cpu()
            data = postprocessing(data)
            images = [np.asarray(data[key][0].cpu(), dtype=np.float32) for key in ("image", "label", "pred")]
            image, label, mask = (plane if plane.ndim == 2 else plane[:, :, index] for plane in images)
            planes.append((image, label, mask))
        return planes

    def all_settings(self, parent: ParentRun | None = None) -> dict[str, Any]:
        """Return the settings of both configs, below a parent run."""
        below = {} if parent is None else parent.settings
        return {**self.settings, **below, **_SAME_ORDER, "output_dir": str(self.output)}

    def _merged(self) -> dict[str, Any]:
        """Return the top level of ``train`` with overlays and those settings that it has."""
        config = ConfigParser.load_config_files(config_files(self.bundle, ["train", *self.overlays]))
        given = {name: value for name, value in self.settings.items() if name.partition("#")[0] in config}
        return {**config, **given}

    def _check_key(self) -> None:
        """Write what the training depends on, or compare it with that of an earlier run.

        Raises:
            ConfigError: it is another training.
        """
        parts = {name: value for name, value in self._merged().items() if name not in _WITHOUT_EFFECT}
        for name in ("data_source", "initial_weights"):
            if Path(str(parts.get(name) or "/")).is_file():
                parts[name] = file_sha256(parts[name])
        key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
        file = self.output / _KEY_FILE
        if not file.is_file():
            if any((self.output / "checkpoints").glob("*.pt")):
                raise ConfigError(
                    f"'{self.output.name}' must be empty or hold {_KEY_FILE}, got a checkpoint without it"
                )
            write_text(file, json.dumps({"sha256": key}, indent=1) + "\n")
        elif json.loads(read_input(file))["sha256"] != key:
            raise ConfigError(
                f"'{self.output.name}' must hold a training with these settings and data, got one with others; "
                "choose another output folder or remove it"
            )


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the last epoch, ``checkpoint_epoch=N.pt``.

    Raises:
        UnusableInputError: when there is none.
    """
    epochs = {int(file.stem.rpartition("=")[2]): file for file in folder.glob("checkpoint_epoch=*.pt")}
    if not epochs:
        raise UnusableInputError(f"'{folder.name}' must hold a checkpoint_epoch=N.pt, got none")
    return epochs[max(epochs)]


def shared_slices(bundle: Path, overlays: Sequence[str], output: Path) -> dict[str, str]:
    """Return the setting of a folder of virtual slices that all trainings of an experiment share, if they are kept."""
    config = ConfigParser.load_config_files(config_files(bundle, ["train", *overlays]))
    return {"slices_dir": str(output / "slices")} if "slices_dir" in config else {}


def source_facts(data_source: str) -> dict[str, Any]:
    """Return name and SHA-256 of a data manifest, or the name of another data source."""
    file = Path(data_source)
    return {"manifest": file.name, "manifest_sha256": file_sha256(file)} if file.is_file() else {"data": data_source}
