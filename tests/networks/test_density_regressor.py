import math
from typing import Any

import pytest
import torch

from osteo_monai.networks import DensityRegressor

TINY: dict[str, Any] = {"init_features": 4, "growth_rate": 2, "block_config": (1, 1)}


def stack(hu: Any, *, lead: Any = (1,), slices: Any = 5, size: Any = 32, body: Any = slice(4, 28)) -> Any:
    """Slices of constant HU with a square body."""
    x = torch.zeros(*lead, 2 * slices + 2, size, size)
    x[..., :slices, :, :] = hu
    x[..., slices : 2 * slices, body, body] = 1
    return x


@pytest.mark.parametrize(
    ("arguments", "input_shape", "output_shape"),
    [
        ({}, (3, 12, 32, 32), (3, 2)),
        ({}, (3, 2, 12, 32, 32), (3, 2, 2)),
        ({"slices": 1}, (2, 4, 48, 32), (2, 2)),
        ({"dropout": 0.1, "bn_size": 2}, (2, 12, 32, 32), (2, 2)),
        ({"init_features": 32, "growth_rate": 16, "block_config": (6, 12, 24, 16)}, (2, 12, 96, 96), (2, 2)),
    ],
)
def test_one_answer_for_each_stack(arguments: Any, input_shape: Any, output_shape: Any) -> None:
    assert DensityRegressor(**{**TINY, **arguments})(torch.randn(input_shape)).shape == output_shape


def test_studies_are_read_level_by_level() -> None:
    network = DensityRegressor(**TINY).eval()
    x = torch.randn(3, 2, 12, 32, 32) * 100
    torch.testing.assert_close(network(x)[1, 1], network(x[1, 1][None])[0])


def test_training_begins_at_the_clinical_line() -> None:
    network = DensityRegressor(**TINY)
    with torch.no_grad():
        network.head.weight.zero_()
    answer = network(torch.cat([stack(0.0), stack(200.0)]))
    # 0.75 mg/cm3 per HU, an SD of 15 mg/cm3
    torch.testing.assert_close(answer[:, 0], torch.tensor([0.0, 150.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(answer[:, 1].div(2).exp(), torch.tensor([15.0, 15.0]), atol=1e-3, rtol=0)


def test_trabecular_hu_stays_away_from_the_cortex() -> None:
    network = DensityRegressor(slices=1, erosion=2, **TINY)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 3:12, 3:12] = 1
    hu = torch.full((1, 1, 16, 16), 400.0)
    hu[..., 5:10, 5:10] = 100  # what is two pixels or more inside
    assert network.trabecular_hu(hu, mask).item() == pytest.approx(100)
    thin = torch.zeros(1, 1, 16, 16)
    thin[..., 4:6, 5:9] = 1  # two of four columns' pixels at 400 HU, two at 100: the kernel fits nowhere
    assert network.trabecular_hu(hu, thin).item() == pytest.approx(0.5 * 400 + 0.5 * 100)
    assert network.trabecular_hu(hu, torch.zeros_like(mask)).item() == 0


def test_bfloat16_does_not_round_the_answer() -> None:
    network = DensityRegressor(**TINY).eval()
    x = stack(173.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(x)
    assert answer.dtype is torch.float32
    assert answer[0, 0].item() == pytest.approx(network(x)[0, 0].item(), abs=0.1)


def test_torchscript_says_the_same() -> None:
    network = DensityRegressor(**TINY).eval()
    x = torch.randn(2, 2, 12, 32, 32) * 100
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slices": 0}, "slices must be at least 1"),
        ({"window": (10, 10)}, "window must be two HU, the lower first"),
        ({"scale": 0}, "scale must be positive"),
    ],
)
def test_impossible_arguments_are_refused(arguments: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        DensityRegressor(**{**TINY, **arguments})


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(\.\.\., 12, X, Y\), got shape \[1, 5, 32, 32\]"):
        DensityRegressor(**TINY)(torch.zeros(1, 5, 32, 32))


def answers(means: Any, sds: Any) -> Any:
    return torch.stack([torch.tensor(means), 2 * torch.tensor(sds).log()], -1)


def test_factor_is_the_conformal_quantile() -> None:
    network = DensityRegressor(**TINY)
    # 19 studies of one level, SD 2, errors 1 to 19: the ceil(20 * 0.9) = 18th smallest score is 18 / 2
    truth = torch.arange(1.0, 20.0)
    network.calibrate(answers([[0.0]] * 19, [[2.0]] * 19), truth[:, None], truth)
    assert network.level_interval_factor.item() == pytest.approx(9.0, abs=1 / 256)
    assert network.study_interval_factor.item() == pytest.approx(9.0, abs=1 / 256)
    # 38 levels, of which 19 are unknown, have the same quantile; the study's SD is the mean of 2 and 6
    levels = torch.stack([truth, torch.full((19,), torch.nan)], 1)
    network.calibrate(answers([[0.0, 0.0]] * 19, [[2.0, 6.0]] * 19), levels, truth)
    assert network.level_interval_factor.item() == pytest.approx(9.0, abs=1 / 256)
    assert network.study_interval_factor.item() == pytest.approx(18 / 4, abs=1 / 256)
    assert network.state_dict()["study_interval_factor"].item() == pytest.approx(4.5, abs=1 / 256)


def test_too_few_subjects_calibrate_nothing(caplog: pytest.LogCaptureFixture) -> None:
    network = DensityRegressor(**TINY)
    network.calibrate(answers([[0.0]] * 8, [[1.0]] * 8), torch.full((8, 1), 5.0), torch.full((8,), 5.0))
    assert network.study_interval_factor.item() == pytest.approx(1.645, abs=1e-3)
    assert "8 known densities, at least 9 are required for 90 %" in caplog.text
    network.calibrate(answers([[0.0]] * 9, [[1.0]] * 9), torch.full((9, 1), 5.0), torch.full((9,), 5.0))
    assert network.study_interval_factor.item() == pytest.approx(5.0, abs=1 / 256)


def test_calibrated_intervals_cover_new_people() -> Any:
    generator = torch.Generator().manual_seed(3)

    def people(n: Any) -> Any:
        truth = 130 + 40 * torch.randn(n, generator=generator)
        sd = 2 + 8 * torch.rand(n, generator=generator)
        mean = truth + 3 * sd * torch.randn(n, generator=generator)  # the network thinks it is three times as sure
        return torch.stack([mean, 2 * sd.log()], -1)[:, None], truth

    network = DensityRegressor(**TINY)
    prediction, truth = people(2000)
    network.calibrate(prediction, truth[:, None], truth)
    assert network.study_interval_factor.item() == pytest.approx(3 * 1.645, rel=0.06)
    prediction, truth = people(4000)
    half = network.study_interval_factor * prediction[:, 0, 1].div(2).exp()
    covered = ((truth - prediction[:, 0, 0]).abs() <= half).float().mean().item()
    assert covered == pytest.approx(0.9, abs=4 * math.sqrt(0.09 * (1 / 4000 + 1 / 2000)))


def test_wrong_shapes_are_refused() -> None:
    network = DensityRegressor(**TINY)
    with pytest.raises(ValueError, match="prediction must be"):
        network.calibrate(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="studies must be"):
        network.calibrate(torch.zeros(3, 1, 2), torch.zeros(3, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="coverage must be in"):
        network.calibrate(torch.zeros(3, 1, 2), torch.zeros(3, 1), torch.zeros(3), coverage=1)
