import math
from typing import Any

import pytest
import torch

from osteo_monai.networks import DensityRegressor
from osteo_monai.transforms import DensityInputd, EstimateDensityd, RandAcquisitiond


def stacks(levels: Any = 2, slices: Any = 3, size: Any = 12) -> Any:
    image = torch.arange(levels * slices).float()[:, None, None].expand(-1, size, size).clone()
    mask = torch.zeros_like(image)
    mask[:, 4:8, 3:9] = 1
    return {"image": image.half(), "mask": mask.to(torch.uint8), "kvp": 140.0}


def test_levels_are_stacked_with_masks_and_voltage() -> None:
    result = DensityInputd(levels=2)(stacks())
    image = result["image"]
    assert image.shape == (2, 8, 12, 12)
    assert "mask" not in result
    assert image[1, :3, 0, 0].tolist() == [3, 4, 5]
    assert image[:, 3:6].sum().item() == 2 * 3 * 24
    assert image[:, 6:, 5, 5].tolist() == [[1.0, 1.0]] * 2  # (140 - 110) / 30, known


@pytest.mark.parametrize("unknown", [math.nan, None, "missing"])
def test_unknown_voltage_is_marked(unknown: Any) -> None:
    data = stacks() | {"kvp": unknown}
    if unknown == "missing":
        del data["kvp"]
    assert DensityInputd()(data)["image"][:, 6:].abs().sum() == 0


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(ValueError, match="kvp must be a tube voltage from 40 to 200 kV or unknown, got 12000"):
        DensityInputd()(stacks() | {"kvp": 12000.0})
    with pytest.raises(ValueError, match=r"must both be \(2 \* S, X, Y\), got \(3, 12, 12\)"):
        DensityInputd(levels=2)(stacks(levels=1))


NOTHING: dict[str, Any] = {
    "shift": 0,
    "gain": 0.0,
    "offset": 0.0,
    "noise": 0.0,
    "sharpness": (0, 0),
    "mask_prob": 0,
    "forget_kvp": 0,
}


def changed(seed: int = 0, **amounts: Any) -> Any:
    transform = RandAcquisitiond(**{**NOTHING, "prob": 1.0, **amounts})
    transform.set_random_state(seed)
    return transform(stacks())


def test_amounts_of_zero_leave_all_but_the_sides() -> None:
    before = stacks()
    sides = set()
    for seed in range(8):
        after = changed(seed)
        torch.testing.assert_close(after["image"], before["image"].float(), atol=1e-3, rtol=0)
        assert after["kvp"] == 140
        sides.add(torch.equal(after["mask"], before["mask"].float()))
    assert sides == {True}  # the mask is the same left and right
    before["mask"][:, 0] = 1
    transform = RandAcquisitiond(**NOTHING)
    transform.set_random_state(0)
    assert {int(transform(before)["mask"][0, 0, 0]) for _ in range(20)} == {0, 1}


def test_gain_is_about_air() -> None:
    after = changed(gain=0.1)["image"]
    gain = (after[:, 0, 0] + 1000) / (torch.arange(6.0) + 1000)
    torch.testing.assert_close(gain, gain[:1].expand(6))
    assert 0.9 <= gain[0] <= 1.1
    assert gain[0] != 1


def test_noise_has_the_given_sd() -> None:
    found = []
    for seed in range(40):
        transform = RandAcquisitiond(**{**NOTHING, "noise": 30.0}, prob=1.0)
        transform.set_random_state(seed)
        found.append(transform({"image": torch.zeros(4, 64, 64), "mask": torch.zeros(4, 64, 64)})["image"].std().item())
    assert max(found) < 31.5
    assert sum(found) / 40 == pytest.approx(15, abs=3.5)  # evenly between 0 and 30, of 40 draws


def test_mask_moves_with_the_image_and_changes_by_a_pixel() -> None:
    areas = {int(changed(seed, mask_prob=1.0)["mask"][0].sum()) for seed in range(10)}
    assert areas == {2 * 4, 6 * 8}
    data = stacks()
    data["image"] = data["mask"].half()
    transform = RandAcquisitiond(**{**NOTHING, "shift": 3})
    for seed in range(10):
        transform.set_random_state(seed)
        moved = transform(data)
        torch.testing.assert_close(moved["image"], moved["mask"])
        assert moved["mask"][0].sum() == 24


def test_voltage_is_dropped_with_the_given_probability() -> None:
    transform = RandAcquisitiond(forget_kvp=0.25)
    transform.set_random_state(1)
    forgotten = sum(math.isnan(transform(stacks())["kvp"]) for _ in range(200)) / 200
    assert forgotten == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 200))


def test_same_seed_same_scan() -> None:
    torch.testing.assert_close(changed(5, noise=9, shift=2)["image"], changed(5, noise=9, shift=2)["image"])


def test_estimate_by_hand() -> None:
    network = DensityRegressor(init_features=4, growth_rate=2, block_config=(1, 1))
    network.level_interval_factor.fill_(2.0)
    network.study_interval_factor.fill_(2 * 1.6449)
    answer = torch.tensor([[70.0, 2 * math.log(4.0)], [90.0, 2 * math.log(6.0)]])
    density = EstimateDensityd("pred", network)({"pred": answer})["density"]
    assert density["standard"] == "K2HPO4"
    first = density["levels"]["L1"]
    assert [first[key] for key in ("bmd_mg_cm3", "lower", "upper")] == pytest.approx([70, 62, 78])
    study = density["study"]
    # mean 80; SD (4 + 6) / 2, doubled by calibration
    assert study["sd"] == pytest.approx(10)
    assert [study["lower"], study["upper"]] == pytest.approx([80 - 16.449, 80 + 16.449])
    # on the threshold: half below it; 4 SD from the other
    assert study["probability"] == pytest.approx(
        {"normal": 3.167e-5, "osteopenia": 0.5 - 3.167e-5, "osteoporosis": 0.5}, abs=1e-7
    )
    assert study["bone_status"] == "osteopenia"
    with pytest.raises(ValueError, match=r"pred must be \(2, 2\), got \(1, 2\)"):
        EstimateDensityd("pred", network)({"pred": answer[:1]})
