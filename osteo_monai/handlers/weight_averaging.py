"""Exponential moving average of weights, and the handler that updates it."""

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAveraging", "averaged_copy"]


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of ``network``'s weights that starts at its weights.

    Args:
        network: on its final device.
        decay: share of the old average kept at each step, in [0, 1); 0 follows the network exactly. The first steps use
            (1 + n) / (10 + n) where this is less, so that the random initial weights lose their influence quickly.

    Raises:
        ValueError: when ``decay`` is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        n = int(count)
        if not old.is_floating_point():
            return new
        return old.lerp(new, 1 - min(decay, (1 + n) / (10 + n)))

    # averaged weights need running statistics that are averaged likewise
    return AveragedModel(network, avg_fn=average, use_buffers=True)


class WeightAveraging:
    """Update an average after each optimizer step of the engine.

    Args:
        average: see ``averaged_copy``.
        network: the network in training.
    """

    def __init__(self, average: AveragedModel, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.average.update_parameters(self.network)
