"""Network of a bundle as an MLflow model.

``mlflow.pyfunc.load_model("models:/<bundle>/<version>").predict(images)`` gives the network's output.
"""

import json
from typing import Any

import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel
from torch import nn

from osteo_monai.tracking.definition import build_network
from osteo_monai.utils.inputs import read_input
from osteo_monai.weights import read_weights

__all__ = ["BundleNetwork"]


class BundleNetwork(PythonModel):
    """Network of a bundle. Input: prepared images (N, C, ...), float32. Output: that of the network, float32."""

    network: nn.Module
    _skip_type_hint_validation = True  # else MLflow warns at each import that `predict` has no types

    def load_context(self, context: Any) -> None:
        """Build the network and read its weights; half precision is stored, single precision computed."""
        files = context.artifacts
        self.network = build_network(json.loads(read_input(files["network"])))
        self.network.load_state_dict(read_weights(files["weights"]))
        self.network.eval()

    # without types, from which MLflow would infer another signature
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return the network's output on an array of prepared images."""
        with torch.inference_mode():
            output = self.network(torch.from_numpy(np.ascontiguousarray(model_input, dtype=np.float32)))
        return output.numpy()
