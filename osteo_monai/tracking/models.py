"""Networks as models of MLflow: logged with signature and input example, registered, found again by their weights."""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from osteo_monai.tracking.definition import build_network
from osteo_monai.tracking.description import unwrapped
from osteo_monai.tracking.runs import TrackedRun
from osteo_monai.utils.files import file_sha256, write_json, write_text
from osteo_monai.weights import read_weights, write_weights

__all__ = ["WEIGHTS_TAGS", "LoggedWeights", "find_training", "log_network"]

WEIGHTS_TAGS = ("weights_sha256", "exported_sha256", "last_checkpoint_sha256")
"""Tags of a training: SHA-256 of its best weights, of these as ``osteo-monai bundle export`` writes them, and of the
checkpoint of its last epoch."""

_CODE = """from mlflow.models import set_model

from osteo_monai.tracking.served import BundleNetwork

set_model(BundleNetwork())
"""
_PACKAGES = ("osteo_monai", "monai", "torch", "numpy")


@dataclass(frozen=True)
class LoggedWeights:
    """A training in the store.

    Attributes:
        run_id: of the training.
        experiment_id: of its experiment.
        model_id: of its logged model; empty if it has none.
    """

    run_id: str
    experiment_id: str
    model_id: str


def log_network(
    run: TrackedRun,
    bundle: str,
    version: str,
    network: nn.Module,
    definition: Mapping[str, Any],
    weights: str | os.PathLike[str],
    sizes: Sequence[int | str],
    channels: int,
    register: bool = True,
) -> dict[str, str]:
    """Log a network with its weights as a model, and register it under the name of its bundle.

    The model holds the weights once, in half precision, as ``osteo-monai bundle export`` writes them.

    Args:
        run: training of the network.
        bundle: name of the bundle and of the registered model.
        version: of the bundle.
        network: with the layers of the definition; its weights are not used.
        definition: see ``network_definition``.
        weights: checkpoint of the training.
        sizes: of an input along its axes after the channels; a text such as ``32*n`` is a size that varies.
        channels: of an input.
        register: whether a version of the registered model is made.

    Returns:
        Tags of the run, see ``WEIGHTS_TAGS``.
    """
    with _quiet():
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

    built = build_network(definition)
    built.load_state_dict(read_weights(weights))
    example, signature = _example(built.eval(), sizes, channels)
    with TemporaryDirectory() as folder:
        files = {"weights": str(Path(folder, "model.pt")), "network": str(Path(folder, "network.json"))}
        code, saved = str(Path(folder, "network_code.py")), str(Path(folder, "model"))
        exported = write_weights(read_weights(weights), files["weights"])
        write_json(files["network"], dict(definition))
        write_text(code, _CODE)
        facts = {"bundle": bundle, "bundle_version": version, "weights_sha256": file_sha256(weights)}
        tags = facts | {"exported_sha256": exported}
        model = run.client.create_logged_model(
            run.experiment_id, bundle, run.run_id, tags, {"network": type(unwrapped(network)).__name__}, "network"
        )
        with _quiet():
            mlflow.pyfunc.save_model(
                saved,
                python_model=code,
                artifacts=files,
                signature=signature,
                input_example=example,
                pip_requirements=[
                    f"{name}=={metadata.version(name)}" for name in _PACKAGES
                ],  # else MLflow looks them up
                metadata=tags,
                mlflow_model=Model(artifact_path=model.artifact_location, model_id=model.model_id, run_id=run.run_id),
            )
        run.client.log_model_artifacts(model.model_id, saved)
    run.client.finalize_logged_model(model.model_id, "READY")
    run.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, 0)])
    if register:
        with _quiet():
            _register(run, bundle, model.model_id, model.artifact_location, tags)
    return {key: tags[key] for key in WEIGHTS_TAGS if key in tags}


def find_training(run: TrackedRun, sha256: str) -> LoggedWeights | None:
    """Return the last training in the experiment of a run that made weights with this checksum, or ``None``."""
    for tag in WEIGHTS_TAGS:
        condition = f"tags.{tag} = '{sha256}' and tags.kind = 'train'"
        found = run.client.search_runs([run.experiment_id], condition, order_by=["start_time DESC"], max_results=1)
        if found:
            # a search does not return the models of a run; the model holds the best weights, not the last
            outputs = run.client.get_run(found[0].info.run_id).outputs if tag != "last_checkpoint_sha256" else None
            model_id = outputs.model_outputs[0].model_id if outputs and outputs.model_outputs else ""
            return LoggedWeights(found[0].info.run_id, found[0].info.experiment_id, model_id)
    return None


def _register(run: TrackedRun, bundle: str, model_id: str, location: str, tags: Mapping[str, str]) -> None:
    from mlflow import MlflowException

    with contextlib.suppress(MlflowException):  # it exists
        run.client.create_registered_model(bundle, description=f"Networks of the bundle {bundle}.")
    # a source "models:/<id>" is looked up in the store of the process, and not in that of the client
    version = run.client.create_model_version(bundle, location, run_id=run.run_id, tags=dict(tags), model_id=model_id)
    shown = json.dumps([{"name": version.name, "version": version.version}])
    run.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": shown})  # as `mlflow.register_model` does


def _example(network: nn.Module, sizes: Sequence[int | str], channels: int) -> tuple[Any, Any]:
    """Return an input of random numbers with one decimal, short as JSON, and the signature."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    for times in (1, 2):
        shape = [size if isinstance(size, int) else times * _least(size) for size in sizes]
        example = np.random.default_rng(0).random((1, channels, *shape)).round(1).astype(np.float32)
        try:
            with torch.inference_mode():
                output = network(torch.from_numpy(example)).numpy()
            break
        except (ValueError, RuntimeError):  # a normalisation of one pixel
            if times == 2:
                raise
    varies = any(isinstance(size, str) for size in sizes)
    inner = [-1 if varies and axis > 1 else size for axis, size in enumerate(output.shape)]
    into = (-1, channels, *(size if isinstance(size, int) else -1 for size in sizes))
    kind = np.dtype(np.float32)
    return example, ModelSignature(Schema([TensorSpec(kind, into)]), Schema([TensorSpec(kind, (-1, *inner[1:]))]))


def _least(formula: str) -> int:
    """Return the least size of a formula such as ``32*n``, of ``n`` 4."""
    factor = formula.partition("*")[0]
    return int(factor) if factor.isdecimal() else 4


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide MLflow's advice on types, and its messages on steps that succeed."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
