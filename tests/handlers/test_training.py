"""Handlers of trainings: weight averaging, gradient clipping, progress."""

import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from torch import nn

from osteo_monai.handlers import GradientClipping, Progress, WeightAveraging, averaged_copy


def _trainer(network: Any, optimizer: Any, handlers: Any, epochs: Any = 1) -> Any:
    batch = {"image": torch.ones(2, 1), "label": torch.zeros(2, 1)}
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=[batch, batch],
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=handlers,
        decollate=False,
    )


def test_average_warms_up_and_then_decays() -> None:
    network = nn.Linear(1, 1, bias=False)
    average: Any = averaged_copy(network, 0.25)
    values = []
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        values.append(float(average.module.weight.detach()))
    # first update copies; then decay min(0.25, 2/11) = 2/11; then 3/12 = 0.25
    second = 2.0 + (1.0 - 2.0) * 2 / 11
    assert values == pytest.approx([1.0, second, 6.0 + (second - 6.0) * 0.25])
    with pytest.raises(ValueError, match="decay must be in"):
        averaged_copy(network, 1.0)


def test_running_statistics_are_averaged_like_the_weights() -> None:
    network = nn.BatchNorm1d(1)
    average: Any = averaged_copy(network, 0.75)
    averaging = WeightAveraging(average, network)
    expected = []
    for mean in (8.0, 16.0):
        torch.as_tensor(network.running_mean).fill_(mean)
        averaging(Engine(lambda engine, batch: None))
        expected.append(float(average.module.running_mean))
    # the first step is taken over whole, the next keeps min(0.75, 2/11) of it
    assert expected == pytest.approx([8.0, 16.0 - 8.0 * 2 / 11])


def test_averaging_follows_each_step_and_copies_buffers() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = averaged_copy(network, 0.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    _trainer(network, optimizer, [WeightAveraging(average, network)]).run()
    for ours, theirs in zip(average.module.state_dict().values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_clipped_before_the_step() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    _trainer(network, optimizer, [GradientClipping(network.parameters(), 0.5)]).run()
    # two steps of norm 0.5 at a rate of 1; the raw gradient would be 200
    assert float(network.weight.detach()) == pytest.approx(99.0)
    with pytest.raises(ValueError, match="max_norm must be positive"):
        GradientClipping(network.parameters(), 0)


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_gradients_of_a_scaled_loss_are_clipped_as_those_of_the_loss(scale: float) -> None:
    """float16 trains with a scaled loss; its gradients are divided by the scale first."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    trainer = _trainer(network, optimizer, [GradientClipping(network.parameters(), 300.0)])
    trainer.amp, trainer.scaler = True, torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.run()
    # the gradient 2 * 100 is within the limit: steps to -100, and back
    assert float(network.weight.detach()) == pytest.approx(100.0)
    trainer = _trainer(network, optimizer, [GradientClipping(network.parameters(), 0.5)])
    trainer.amp, trainer.scaler = True, torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.run()
    assert float(network.weight.detach()) == pytest.approx(99.0)


def test_progress_logs_the_mean_loss_of_the_epoch(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 3.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    trainer = _trainer(network, optimizer, [Progress(optimizer)], epochs=2)
    with caplog.at_level(logging.INFO, logger="osteo_monai.handlers.progress"):
        trainer.run()
    assert trainer.state.metrics["train_loss_epoch"] == pytest.approx(9.0)
    assert [r.getMessage().split(",")[0] for r in caplog.records if r.name == "osteo_monai.handlers.progress"] == [
        "epoch 1/2: mean loss 9.0000",
        "epoch 2/2: mean loss 9.0000",
    ]
