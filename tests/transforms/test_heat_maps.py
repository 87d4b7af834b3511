"""Heat maps: Grad-CAM against the formula, rollout by hand, shares on bone."""

import math
from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import nn

from osteo_monai.networks import PatchTransformer, radiograph_classifier
from osteo_monai.transforms import HeatMapsd
from osteo_monai.transforms.heat_maps import attention_rollout, share_on


def test_rollout_by_hand() -> None:
    first = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    second = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    weights = torch.stack([first, second])[None, :, None]
    # half of each is the identity: [[.75, .25], [0, 1]], then [[.5, .5], [.5, .5]] times that
    torch.testing.assert_close(attention_rollout(weights)[0], torch.tensor([[0.375, 0.625], [0.375, 0.625]]))
    heads = torch.stack([first, second], 0)[None, None]  # one layer: the mean of its heads
    torch.testing.assert_close(attention_rollout(heads)[0], torch.tensor([[0.625, 0.375], [0.25, 0.75]]))


def test_share_on_a_mask() -> None:
    heat = torch.tensor([[1.0, 3.0], [0.0, 4.0]])
    assert share_on(heat, torch.tensor([[1, 1], [1, 0]])) == pytest.approx(0.5)
    assert share_on(heat, torch.tensor([[0, 0.5], [0, 0]])) == pytest.approx(1.5 / 8)
    assert math.isnan(share_on(torch.zeros(2, 2), torch.ones(2, 2)))
    with pytest.raises(ValueError, match=r"same shape, got \(2, 2\) and \(4,\)"):
        share_on(heat, torch.ones(4))


class _Bright(nn.Module):
    """The logit is the mean of the one-channel map, so that Grad-CAM is its positive part over its size."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.last = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.last.weight, sign)

    def forward(self, x: Any) -> Any:
        return self.last(x).mean((1, 2, 3))[:, None]


def test_grad_cam_by_hand() -> None:
    image = torch.tensor([[[1.0, -2.0], [0.0, 3.0]]])
    given: dict[Hashable, Any] = {"image": image, "bone": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])}
    out = HeatMapsd(_Bright(1.0), "last")(given)
    torch.testing.assert_close(out["heat"], image.clamp(min=0) / 4)
    assert out["heat_on_bone"] == pytest.approx(0.25)
    assert out["bone_area"] == pytest.approx(0.25)
    assert "attention" not in out
    # where brightness speaks against it, the dark pixel is what spoke for it: gradient -1/4 x ... of the map itself
    dark = HeatMapsd(_Bright(-1.0), "last")({"image": image})["heat"]
    torch.testing.assert_close(dark, (-image).clamp(min=0) / 4)


def test_patches_are_put_where_they_lie_on_one_scale() -> None:
    torch.manual_seed(0)
    network = PatchTransformer(grid=(2, 3), width=16, heads=2, layers=2).eval()
    patches = torch.randn(6, 64, 64)
    out = HeatMapsd(network, "encoder.layer4", (2, 3))({"image": patches, "bone": torch.ones(6, 64, 64)})
    assert out["heat"].shape == out["attention"].shape == (1, 128, 192)
    assert out["bone_area"] == 1
    assert out["heat_on_bone"] == pytest.approx(1)
    # Selvaraju's formula, patch by patch, from the maps themselves
    vectors = network.encoder(patches[:, None])
    maps: dict[str, torch.Tensor] = {}
    network.encoder.layer4.register_forward_hook(lambda m, i, o: maps.update(last=o))
    logit = network(patches[None])[0, 0]
    (gradient,) = torch.autograd.grad(logit, maps["last"])
    small = (gradient.mean((2, 3), keepdim=True) * maps["last"]).sum(1).clamp(min=0)
    assert vectors.shape == (6, 16)
    tiles = torch.cat([torch.cat(list(small[3 * row : 3 * row + 3]), 1) for row in range(2)], 0)
    expected = nn.functional.interpolate(tiles[None, None], size=(128, 192), mode="bilinear")[0]
    torch.testing.assert_close(out["heat"], expected.detach(), atol=1e-6, rtol=1e-3)
    # each patch's share of the token's attention, all of them 1
    squares = out["attention"][0].unfold(0, 64, 64).unfold(1, 64, 64)
    assert float((squares.amax((2, 3)) - squares.amin((2, 3))).max()) == 0
    assert float(squares[:, :, 0, 0].sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("architecture", "layer"), [("resnet18", "layer4"), ("darknet19", "features")])
def test_whole_radiographs_and_inference_mode(architecture: Any, layer: Any) -> None:
    network = radiograph_classifier(architecture, width=1 / 16)
    with torch.inference_mode():
        out = HeatMapsd(network, layer)({"image": torch.randn(1, 64, 96)})
    assert out["heat"].shape == (1, 64, 96)
    assert all(p.grad is None for p in network.parameters())


def test_off_adds_nothing() -> None:
    assert set(HeatMapsd(_Bright(1.0), "last", enabled=False)({"image": torch.zeros(1, 2, 2)})) == {"image"}
