"""Losses: smallest for a correct prediction, finite everywhere, equal weight of all bodies."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.losses import (
    BetaGaussianNLLLoss,
    ColumnLoss,
    GlobalLocalLoss,
    OrdinalCrossEntropyLoss,
    VertebraLocalizationLoss,
)
from osteo_monai.transforms.level_naming import NAMED_LEVELS
from osteo_monai.transforms.vertebra_decoding import FIRST_NAME_CHANNEL

L = VertebraLevel
CHANNELS = FIRST_NAME_CHANNEL + len(NAMED_LEVELS)
SMOOTHING = 0.02


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def target() -> Tensor:
    """Two images (2, 2, 12, 12, 24): L1 and a much smaller L2 in the first, sacrum, ribs and T8 in the second."""
    y = torch.zeros(2, 2, 12, 12, 24)
    y[0, 0, 2:10, 2:10, 2:10] = L.L1.label
    y[0, 0, 4:6, 4:6, 14:16] = L.L2.label
    y[0, 1, 6, 6, 6] = y[0, 1, 5, 5, 15] = 1.0
    y[1, 0, 2:8, 2:8, 2:8] = L.SACRUM.label
    y[1, 0, 2:8, 9:11, 10:20] = RIB_LABEL
    y[1, 0, 4:9, 3:8, 16:22] = L.T8.label
    y[1, 1, 6, 5, 19] = 1.0
    return y


def perfect(y: Tensor, sure: float = 12.0) -> Tensor:
    """Logits of the target; names with the probabilities of label smoothing."""
    x = torch.zeros(len(y), CHANNELS, *y.shape[2:])
    classes = y[:, 0].long()
    x[:, 0] = torch.where(y[:, 1] > 0.5, sure, -sure)
    names = torch.zeros_like(classes, dtype=torch.bool)
    for i, level in enumerate(NAMED_LEVELS):
        here = classes == level.label
        names |= here
        right, wrong = 1 - SMOOTHING + SMOOTHING / 12, SMOOTHING / 12
        x[:, FIRST_NAME_CHANNEL + i] = torch.where(here, right, wrong).log()
    for channel, mask in ((1, names), (2, classes == L.SACRUM.label), (3, classes == RIB_LABEL)):
        x[:, channel] = torch.where(mask, sure, -sure)
    return x


def entropy_of_smoothing() -> float:
    right, wrong = 1 - SMOOTHING + SMOOTHING / 12, SMOOTHING / 12
    p = torch.tensor([right, *([wrong] * 11)])
    return float(-(p * p.log()).sum())


def loss(x: Tensor, y: Tensor, **weights: float) -> float:
    return float(VertebraLocalizationLoss(**weights)(x, y))


def test_a_perfect_prediction_leaves_what_label_smoothing_leaves() -> None:
    y = target()
    assert entropy_of_smoothing() == pytest.approx(0.1355, abs=1e-3)
    assert loss(perfect(y), y) == pytest.approx(entropy_of_smoothing(), abs=0.01)
    assert loss(perfect(y), y, name_weight=0.0) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("part", ["heat", "body", "sacrum", "ribs", "names"])
def test_every_part_counts(part: str) -> None:
    y = target()
    x, best = perfect(y), loss(perfect(y), y)
    channel = {"heat": 0, "body": 1, "sacrum": 2, "ribs": 3}
    if part == "names":
        x[:, FIRST_NAME_CHANNEL:] = x[:, FIRST_NAME_CHANNEL:].roll(1, dims=1)
    else:
        x[:, channel[part]] = -12.0  # nothing seen
    worse = loss(x, y)
    assert worse > best + 0.3
    # half-way is better than all wrong
    assert best < loss(0.5 * (x + perfect(y)), y) < worse


def test_the_closer_the_lower() -> None:
    y = target()
    values = [loss(perfect(y, sure), y) for sure in (0.0, 1.0, 2.0, 4.0, 8.0)]
    assert values == sorted(values, reverse=True)


def test_a_missed_centre_costs_more_than_a_false_one() -> None:
    y = target()
    missed, false = perfect(y), perfect(y)
    missed[0, 0, 6, 6, 6] = -12.0
    false[0, 0, 1, 1, 20] = 12.0
    best = loss(perfect(y), y)
    assert loss(missed, y) - best > 5 * (loss(false, y) - best) > 0


def test_small_bodies_weigh_as_much_as_large_ones() -> None:
    """L2 has 8 voxels, L1 512: a wrong name costs the same."""
    y = target()
    best = loss(perfect(y), y)
    cost = []
    for level in (L.L1, L.L2):
        x = perfect(y)
        here = y[0, 0] == level.label
        x[0, FIRST_NAME_CHANNEL:, here] = x[0, FIRST_NAME_CHANNEL:, here].roll(1, dims=0)
        cost.append(loss(x, y) - best)
    assert cost[0] == pytest.approx(cost[1], rel=1e-4)
    # a third of the bodies: log(right / wrong) times the difference of their shares, over three
    ratio = torch.log(torch.tensor((1 - SMOOTHING + SMOOTHING / 12) / (SMOOTHING / 12)))
    assert cost[0] == pytest.approx(float(ratio) * (1 - SMOOTHING) / 3, rel=1e-3)


def test_gradients_are_finite_and_point_downhill() -> None:
    y = target()
    torch.manual_seed(0)
    x = torch.randn(2, CHANNELS, 12, 12, 24).mul_(3).requires_grad_()
    value = VertebraLocalizationLoss()(x, y)
    value.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert all(x.grad[:, c].abs().max() > 0 for c in range(CHANNELS))
    assert loss(x.detach() - 0.5 * x.grad, y) < value.item()
    # where there is no body, names are free
    outside = ~torch.isin(y[:, 0].int(), torch.tensor([level.label for level in NAMED_LEVELS]).int())
    assert (x.grad[:, FIRST_NAME_CHANNEL:].movedim(1, -1)[outside] == 0).all()


@pytest.mark.parametrize("extreme", [-200.0, 0.0, 200.0])
def test_extreme_logits_stay_finite(extreme: float) -> None:
    y = target()
    x = torch.full((2, CHANNELS, 12, 12, 24), extreme, requires_grad=True)
    value = VertebraLocalizationLoss()(x, y)
    value.backward()
    assert torch.isfinite(value)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_an_image_without_any_body() -> None:
    y = torch.zeros(1, 2, 8, 8, 8)
    x = torch.zeros(1, CHANNELS, 8, 8, 8, requires_grad=True)
    value = VertebraLocalizationLoss()(x, y)
    value.backward()
    assert torch.isfinite(value)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert loss(perfect(y), y) == pytest.approx(0.0, abs=0.01)


def test_half_precision_is_widened() -> None:
    y = target()
    x = perfect(y)
    assert loss(x.bfloat16(), y) == pytest.approx(loss(x, y), abs=0.02)


def test_labels_that_rounding_has_touched() -> None:
    y = target()
    assert loss(perfect(y), y - 1e-4 * (y > 1)) == pytest.approx(loss(perfect(y), y), abs=1e-4)


@pytest.mark.parametrize(("channels", "targets"), [(15, 2), (CHANNELS, 1), (CHANNELS, 3)])
def test_wrong_channels(channels: int, targets: int) -> None:
    with pytest.raises(ValueError, match=f"must have 16 channels and target 2, got {channels} and {targets}"):
        VertebraLocalizationLoss()(torch.zeros(1, channels, 4, 4, 4), torch.zeros(1, targets, 4, 4, 4))


def test_beta_likelihood_by_hand() -> None:
    # error 3, variance 4: 0.5 * (9 / 4 + ln 4), weighted by 4^0.5 = 2
    prediction = torch.tensor([[10.0, math.log(4.0)]])
    expected = 2 * 0.5 * (9 / 4 + math.log(4))
    assert BetaGaussianNLLLoss(0.5, scale=1)(prediction, torch.tensor([13.0])).item() == pytest.approx(expected)
    # unknown truths do not count, and the unit only scales error and SD
    both = torch.stack([prediction, prediction * 7], 1)
    truth = torch.tensor([[13.0, math.nan]])
    assert BetaGaussianNLLLoss(0.5, scale=1)(both, truth).item() == pytest.approx(expected)
    scaled = 0.5 * (9 / 4 + math.log(4 / 100))
    assert BetaGaussianNLLLoss(0.0, scale=10)(prediction, torch.tensor([13.0])).item() == pytest.approx(scaled)


def test_weight_of_the_likelihood_has_no_gradient() -> None:
    prediction = torch.tensor([[10.0, math.log(9.0)]], requires_grad=True)
    BetaGaussianNLLLoss(1.0, scale=1)(prediction, torch.tensor([13.0])).backward()
    # by the mean: variance * -error / variance; by the log-variance: variance * 0.5 * (1 - error^2 / variance)
    assert prediction.grad is not None
    assert prediction.grad[0].tolist() == pytest.approx([-3.0, 0.0], abs=1e-5)


def test_nothing_known_gives_no_loss() -> None:
    prediction = torch.zeros(2, 3, 2, requires_grad=True)
    loss = BetaGaussianNLLLoss()(prediction, torch.full((2, 3), math.nan))
    loss.backward()
    assert loss.item() == 0


def test_wrong_densities_are_refused() -> None:
    with pytest.raises(ValueError, match="with a last axis of 2"):
        BetaGaussianNLLLoss()(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        BetaGaussianNLLLoss(beta=2)


def test_ordinal_cross_entropy_by_hand() -> None:
    """Logits 0 leave the prior: the loss is its cross-entropy with the smoothed target."""
    loss = OrdinalCrossEntropyLoss([2.0, 1.0, 1.0], smoothing=0.2)
    logits = torch.zeros(1, 3)
    log = [math.log(0.5), math.log(0.25), math.log(0.25)]
    assert loss(logits, torch.tensor([0])).item() == pytest.approx(-0.8 * log[0] - 0.2 * log[1])
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(-0.1 * log[0] - 0.8 * log[1] - 0.1 * log[2])
    assert loss(logits, torch.tensor([2])).item() == pytest.approx(-0.8 * log[2] - 0.2 * log[1])


def test_ordinal_cross_entropy_forgives_neighbours_only() -> None:
    loss = OrdinalCrossEntropyLoss([1.0, 1.0, 1.0], smoothing=0.1)
    truth = torch.tensor([0])
    near, far = (loss(torch.tensor([[2.0, *tail]]), truth) for tail in ((1.0, -1.0), (-1.0, 1.0)))
    assert near < far


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([1.0, 0.0, 1.0],), "prior must hold a positive share"),
        (([1.0],), "prior must hold"),
        (([1.0, 1.0], 1.0), "smoothing must be in"),
    ],
)
def test_impossible_ordinal_cross_entropy_is_refused(arguments: Any, sentence: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        OrdinalCrossEntropyLoss(*arguments)


def test_global_local_loss_by_hand() -> None:
    """One radiograph of two patches: log(1 + exp(-z)) for a true 1, log(1 + exp(z)) for a true 0."""
    prediction = torch.tensor([[0.0, 2.0, -1.0]])
    one = math.log(2) + 0.5 * (math.log1p(math.exp(-2)) + math.log1p(math.exp(1)))
    assert float(GlobalLocalLoss()(prediction, torch.tensor([1.0]))) == pytest.approx(one)
    none = math.log(2) + 0.25 * (math.log1p(math.exp(2)) + math.log1p(math.exp(-1)))
    assert float(GlobalLocalLoss(local_weight=0.5)(prediction, torch.tensor([0]))) == pytest.approx(none)


def test_global_local_loss_without_patches_and_with_soft_targets() -> None:
    prediction = torch.tensor([[3.0], [-3.0]])
    expected = 0.8 * math.log1p(math.exp(-3)) + 0.2 * math.log1p(math.exp(3))
    assert float(GlobalLocalLoss()(prediction, torch.tensor([0.8, 0.2]))) == pytest.approx(expected)
    logits = torch.zeros(1, 37, requires_grad=True)
    GlobalLocalLoss()(logits, torch.tensor([1.0])).backward()
    assert logits.grad is not None
    # the global logit weighs as much as all patches together
    assert float(logits.grad[0, 0]) == pytest.approx(float(logits.grad[0, 1:].sum()))


def test_global_local_loss_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, 1 \+ P\) and target \(N,\), got \(2, 3\) and \(1,\)"):
        GlobalLocalLoss()(torch.zeros(2, 3), torch.zeros(1))
    with pytest.raises(ValueError, match="local_weight must be 0 or positive"):
        GlobalLocalLoss(-1)


def column_target(slices: int = 6) -> torch.Tensor:
    """One column of bodies: a centre in slice 1, a disc in slice 4, bodies in slices 0 to 2, of role 2."""
    target = torch.zeros(1, 6, slices)
    target[0, 0, 1], target[0, 1, 4], target[0, 2, :3] = 1.0, 1.0, 1.0
    target[0, 3] = -1.0
    target[0, 3, :3] = 2.0
    target[0, 4, :3], target[0, 5, :3] = 0.5, -2.0
    target[0, 4:, 3:] = 77.0  # without a body the axis does not count
    return target


def test_column_loss_by_hand() -> None:
    """Logits 0: each of 18 heats costs log 2, a peak of weight 4; roles log 4; offsets 0.5 and 2 in a Huber loss."""
    heat = 3 * math.log(2) * (18 + 2 * 3) / 18
    role = 0.3 * math.log(4)  # label smoothing does not change equal logits
    offset = 0.5 * ((0.5 - 0.05) + (2.0 - 0.05)) / 2
    loss = ColumnLoss()(torch.zeros(1, 9, 6), column_target())
    assert float(loss) == pytest.approx(heat + role + offset)
    bare = ColumnLoss(positive_weight=0.0, role_weight=0.0, offset_weight=0.0)(torch.zeros(1, 9, 6), column_target())
    assert float(bare) == pytest.approx(3 * math.log(2))


def test_the_right_answer_costs_least() -> None:
    target = column_target()
    right = torch.zeros(1, 9, 6)
    right[:, :3] = 20.0 * (2 * target[:, :3] - 1)
    right[:, 5] = 9.0
    right[:, 7:] = target[:, 4:]
    loss = ColumnLoss()
    least = float(loss(right, target))
    # label smoothing leaves a part for the roles: 0.03 / 4 on each of three wrong ones
    assert least == pytest.approx(0.3 * (math.log1p(3 * math.exp(-9)) + 0.0225 * 9), abs=1e-4)
    for channel, change in ((0, 25.0), (1, 25.0), (2, -25.0), (3, 12.0), (7, 1.0), (8, -1.0)):
        wrong = right.clone()
        wrong[0, channel, 2] += change
        assert float(loss(wrong, target)) > least + 1e-3, channel


def test_a_missed_peak_costs_more_than_a_spurious_one() -> None:
    target = column_target()
    right = 4.0 * (2 * target[:, :3] - 1)
    missed, spurious = right.clone(), right.clone()
    missed[0, 0, 1], spurious[0, 0, 3] = -4.0, 4.0
    rest = torch.zeros(1, 6, 6)
    loss = ColumnLoss(role_weight=0.0, offset_weight=0.0)
    base, a, b = (float(loss(torch.cat([heat, rest], 1), target)) for heat in (right, missed, spurious))
    assert a - base == pytest.approx(4 * (b - base))


def test_columns_without_roles_and_bodies_train_too() -> None:
    target = torch.zeros(2, 6, 5)
    target[:, 3] = -1.0
    prediction = torch.zeros(2, 9, 5, requires_grad=True)
    loss = ColumnLoss()(prediction, target)
    assert float(loss) == pytest.approx(3 * math.log(2))
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    assert (prediction.grad[:, 3:] == 0).all()


@pytest.mark.parametrize(("prediction", "target"), [((1, 8, 4), (1, 6, 4)), ((1, 9, 4), (1, 5, 4))])
def test_column_loss_refuses_other_shapes(prediction: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="prediction must have 9 channels and target 6, got"):
        ColumnLoss()(torch.zeros(prediction), torch.zeros(target))
