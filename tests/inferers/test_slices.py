import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from torch import nn

from osteo_monai.inferers import AutocastInferer, AxialSliceInferer, LocalizationInferer


class _Halving(nn.Module):
    """Refuses sizes that it cannot halve, like the real network; its output depends on position and value."""

    def __init__(self, out_channels: int = 1, divisor: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, out_channels, 3, padding=1)
        self.divisor = divisor
        self.batches: list[int] = []

    def forward(self, x: Any) -> Any:
        if x.shape[2] % self.divisor or x.shape[3] % self.divisor:
            raise ValueError("cannot be halved")
        self.batches.append(len(x))
        return self.conv(x)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_same_as_monai_s_slice_inferer(batch_size: Any) -> None:
    network, volume = _Halving(2), torch.randn(2, 1, 64, 128, 7)
    expected = SliceInferer(roi_size=(64, 128), spatial_dim=2)(volume, network)
    result = AxialSliceInferer(batch_size=batch_size)(volume, network)
    torch.testing.assert_close(result, expected)


def test_slices_are_batched() -> None:
    network = _Halving()
    AxialSliceInferer(batch_size=4)(torch.zeros(1, 1, 64, 64, 10), network)
    assert network.batches == [4, 4, 2]


def test_batches_in_threads_give_the_same() -> None:
    seen: set[int] = set()
    meeting = threading.Barrier(2, timeout=30)

    class Meeting(_Halving):
        def forward(self, x: Any) -> Any:
            seen.add(threading.get_ident())
            if len(seen) < 3:
                meeting.wait()  # passes only where two batches run at a time
            return super().forward(x)

    volume, inferer = torch.randn(1, 1, 64, 64, 8), AxialSliceInferer(batch_size=2, amp=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.inference_mode():
            together = inferer(volume, Meeting())
        assert len(seen) == 2
        torch.set_num_threads(1)
        with torch.inference_mode():
            assert torch.equal(inferer(volume, _Halving()), together)
    finally:
        torch.set_num_threads(before)


def test_batches_with_gradients_are_computed_one_by_one() -> None:
    seen: set[int] = set()

    class Noting(_Halving):
        def forward(self, x: Any) -> Any:
            seen.add(threading.get_ident())
            return super().forward(x)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        AxialSliceInferer(batch_size=1)(torch.randn(1, 1, 64, 64, 4), Noting())
    finally:
        torch.set_num_threads(before)
    assert seen == {threading.get_ident()}


def test_any_plane_is_padded_and_cut_back() -> None:
    volume = torch.randn(1, 1, 50, 71, 3)
    result = AxialSliceInferer(batch_size=2)(volume, _Halving())
    assert result.shape == volume.shape
    whole = torch.zeros(1, 1, 64, 128, 3)
    whole[:, :, :50, :71] = volume
    torch.testing.assert_close(result, AxialSliceInferer()(whole, _Halving())[:, :, :50, :71])


def test_outputs_follow_from_the_logits() -> None:
    volume = torch.randn(1, 1, 64, 64, 3)
    one, three = _Halving(1), _Halving(3)
    logits = AxialSliceInferer()(volume, one)
    torch.testing.assert_close(AxialSliceInferer(output="probability")(volume, one), logits.sigmoid())
    label = AxialSliceInferer(output="label")(volume, one)
    assert label.dtype is torch.uint8
    assert torch.equal(label, (logits > 0).to(torch.uint8))
    logits = AxialSliceInferer()(volume, three)
    torch.testing.assert_close(AxialSliceInferer(output="probability")(volume, three), logits.softmax(1))
    label = AxialSliceInferer(output="label")(volume, three)
    assert label.shape == (1, 1, 64, 64, 3)
    assert torch.equal(label[:, 0], logits.argmax(1).to(torch.uint8))


def test_single_slices_count_as_a_batch() -> None:
    slices = torch.randn(5, 1, 40, 64)
    result = AxialSliceInferer(batch_size=2)(slices, _Halving())
    assert result.shape == slices.shape
    torch.testing.assert_close(result, AxialSliceInferer()(slices[..., None], _Halving())[..., 0])


def test_geometry_survives() -> None:
    affine = torch.diag(torch.tensor([0.7, 0.8, 2.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(torch.zeros(1, 1, 64, 64, 2), affine=affine)
    result = AxialSliceInferer(output="label")(volume, _Halving())
    assert isinstance(result, MetaTensor)
    torch.testing.assert_close(result.affine, affine)


def test_bfloat16_stays_near_single_precision() -> None:
    volume = torch.randn(1, 1, 64, 64, 2)
    exact = AxialSliceInferer()(volume, _Halving())
    rough = AxialSliceInferer(amp=True)(volume, _Halving())
    assert rough.dtype is torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 1, 64, 64, 0)])
def test_other_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match="inputs must be"):
        AxialSliceInferer()(torch.zeros(shape), _Halving())


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"divisor": 0},
        {"output": "mask"},
        {"roi_size": (64,)},
        {"roi_size": (64, 100)},
        {"roi_size": (0, 64)},
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"mode": "linear"},
        {"crop": "circle"},
        {"amp_dtype": "int8"},
    ],
)
def test_impossible_arguments_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        AxialSliceInferer(**arguments)


def test_autocast_inferer_pads_at_the_far_end_only() -> None:
    x = torch.randn(1, 1, 9, 16)
    network = _Halving(divisor=8)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 7))
    torch.testing.assert_close(AutocastInferer(False, divisor=8)(x, network), network(padded)[:, :, :9])
    assert AutocastInferer(True, divisor=8)(x, network).dtype is torch.float32
    sizes = []

    def recorded(padded: torch.Tensor) -> torch.Tensor:
        sizes.append(padded.shape[2:])
        return padded

    AutocastInferer(False, divisor=8, minimum=24)(x, recorded)
    assert sizes == [(24, 24)]
    wrong: tuple[dict[str, Any], ...] = ({"divisor": 0}, {"divisor": 8, "minimum": 20})
    for arguments in wrong:
        with pytest.raises(ValueError, match="divisor must be at least 1"):
            AutocastInferer(**arguments)


class _Seen(nn.Module):
    """Keeps its input; returns the input and its square."""

    def forward(self, x: Any) -> Any:
        self.input = x
        return torch.cat([x, x**2], 1)


@pytest.mark.parametrize("shape", [(30, 30, 20), (63, 48, 32), (33, 61, 32), (20, 90, 7)])
def test_a_narrow_scan_is_set_into_water(shape: Any) -> None:
    """The padding of a crop is neither air nor empty; the output has the size of the crop."""
    volume = 0.3 + 0.4 * torch.rand(1, 1, *shape)
    volume[..., :3, :] = 0.0  # padding of the grid
    network = _Seen()
    inferer = LocalizationInferer((64, 48), water=0.5, empty=0.01, enabled=False, divisor=16, minimum=32)
    result = inferer(volume, network)
    seen = network.input
    assert all(size % 16 == 0 for size in seen.shape[2:])
    assert seen.shape[2] >= 64
    assert seen.shape[3] >= 48
    of_slices = seen[..., : shape[2]]  # beyond its last slice a scan ends in air, as whole trunks do
    assert of_slices.min() >= 0.3
    assert ((of_slices == 0.5).sum() >= of_slices.numel() - volume.numel()).item()
    expected = volume.where(volume > 0.01, torch.tensor(0.5))
    torch.testing.assert_close(result, torch.cat([expected, expected**2], 1))
    assert volume.min() == 0  # the caller's own stays


@pytest.mark.parametrize("shape", [(64, 30, 32), (64, 48, 32), (90, 61, 20)])
def test_a_whole_trunk_is_left_as_it_is(shape: Any) -> None:
    volume = torch.rand(1, 1, *shape)
    volume[..., :4, :] = 0.0
    network, plain = _Seen(), _Seen()
    arguments: dict[str, Any] = {"enabled": False, "divisor": 16, "minimum": 32}
    result = LocalizationInferer((64, 48), **arguments)(volume, network)
    torch.testing.assert_close(result, AutocastInferer(**arguments)(volume, plain))
    assert torch.equal(network.input, plain.input)
    assert network.input.min() == 0


def test_water_lies_on_both_sides_of_a_crop() -> None:
    volume, network = torch.ones(1, 1, 11, 7, 4), _Seen()
    LocalizationInferer((16, 8), water=0.25, enabled=False)(volume, network)
    x, y = (network.input[0, 0, :, :, 0] == 1).any(1), (network.input[0, 0, :, :, 0] == 1).any(0)
    assert x.nonzero().flatten().tolist() == list(range(2, 13))
    assert y.nonzero().flatten().tolist() == list(range(7))
    assert network.input.min() == 0.25


class _PlaneSensitive(nn.Module):
    """Instance normalisation over the whole input: the answer depends on what else is in the input."""

    def __init__(self, out_channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(1, out_channels, 3, padding=1)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Any) -> Any:
        self.sizes.append(tuple(x.shape[2:]))
        return self.norm(self.conv(x))


def _body(x0: int = 5, y0: int = 9, shape: tuple[int, int] = (80, 70)) -> torch.Tensor:
    """Return a volume (1, 1, *shape, 4) of air with a body of 50 x 30 pixels, at another place in each slice."""
    torch.manual_seed(3)
    volume = torch.zeros(1, 1, *shape, 4)
    for z in range(4):
        volume[..., x0 + z : x0 + z + 50, y0 : y0 + 30, z] = 0.2 + torch.rand(50, 30)
    return volume


@pytest.mark.parametrize("pad", [0, 64, 256])
@pytest.mark.parametrize("crop", ["blocks", "body"])
def test_padding_by_blocks_changes_no_voxel(crop: Any, pad: int) -> None:
    """The whole plane gives another answer, as normalisation sees the air."""
    volume, network = _body(), _PlaneSensitive()
    padded = torch.nn.functional.pad(volume, (0, 0, pad, pad, pad, pad))
    centre = (..., slice(pad, pad + 80), slice(pad, pad + 70), slice(None))
    inferer = AxialSliceInferer(batch_size=3, crop=crop)
    expected = inferer(volume, network)
    result = inferer(padded, network)
    assert torch.equal(result[centre], expected)
    whole = AxialSliceInferer(batch_size=3)
    if pad:
        assert not torch.allclose(whole(padded, network)[centre], whole(volume, network), atol=0.1)


@pytest.mark.parametrize("pad", [(0, 0), (1, 0), (17, 50)])
def test_no_padding_changes_the_answer_on_the_body(pad: tuple[int, int]) -> None:
    volume, network = _body(), _PlaneSensitive()
    before, after = pad
    padded = torch.nn.functional.pad(volume, (0, 0, before, after, before, after))
    inferer = AxialSliceInferer(crop="body")
    result = inferer(padded, network)[..., before : before + 80, before : before + 70, :]
    body = volume != 0
    assert torch.equal(result[body], inferer(volume, network)[body])


def test_a_slice_has_the_same_answer_alone_and_in_a_volume() -> None:
    volume, network = _body(), _PlaneSensitive()
    for crop in ("plane", "blocks", "body"):
        inferer: Any = AxialSliceInferer(crop=crop)
        whole = inferer(volume, network)
        parts = torch.cat([inferer(volume[..., z : z + 1], network) for z in range(4)], -1)
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_the_input_is_a_square_of_blocks_or_the_box_of_the_body() -> None:
    network = _PlaneSensitive()
    AxialSliceInferer(divisor=8, crop="blocks")(_body()[..., :1], network)  # x 5 to 55, y 9 to 39
    AxialSliceInferer(divisor=8, crop="body")(_body()[..., :1], network)
    AxialSliceInferer(divisor=8, crop="blocks")(torch.zeros(1, 1, 80, 70, 1), network)
    assert network.sizes == [(56, 56), (56, 32), (8, 8)]


def test_outside_of_the_body_is_background() -> None:
    volume = _body(shape=(200, 200))
    one, two = _PlaneSensitive(1), _PlaneSensitive(2)
    far = (..., slice(150, None), slice(150, None), slice(None))
    assert not AxialSliceInferer(crop="blocks", output="probability")(volume, one)[far].any()
    assert not AxialSliceInferer(crop="body", output="label")(volume, two)[far].any()
    probability = AxialSliceInferer(crop="blocks", output="probability")(volume, two)[far]
    assert torch.equal(probability[:, 0], torch.ones_like(probability[:, 0]))
    assert not probability[:, 1].any()
    logits = AxialSliceInferer(crop="blocks")(volume, two)
    torch.testing.assert_close(logits.softmax(1)[far], probability)


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_windows_are_those_of_monai(mode: Any, overlap: float) -> None:
    network, volume = _Halving(2), torch.randn(1, 1, 192, 128, 3)
    monai = SliceInferer(roi_size=(64, 64), spatial_dim=2, sw_batch_size=4, overlap=overlap, mode=mode)
    inferer = AxialSliceInferer(batch_size=2, roi_size=(64, 64), overlap=overlap, mode=mode)
    torch.testing.assert_close(inferer(volume, network), monai(volume, network), atol=1e-5, rtol=1e-5)
    assert max(network.batches) <= 4


def test_a_window_larger_than_the_input_adds_no_padding() -> None:
    network, volume = _PlaneSensitive(), torch.randn(1, 1, 100, 60, 2)
    result = AxialSliceInferer(roi_size=(512, 512))(volume, network)
    assert set(network.sizes) == {(128, 64)}
    torch.testing.assert_close(result, AxialSliceInferer()(volume, network))
    network.sizes.clear()
    AxialSliceInferer(roi_size=(64, 512))(volume, network)
    assert set(network.sizes) == {(64, 64)}


def test_float16_stays_near_single_precision() -> None:
    volume = torch.randn(1, 1, 64, 64, 2)
    exact = AxialSliceInferer()(volume, _Halving())
    rough = AxialSliceInferer(amp=True, amp_dtype="float16")(volume, _Halving())
    assert rough.dtype is torch.float32
    assert 0 < (rough - exact).abs().max() < 0.01


def test_windows_and_batches_may_be_mapped_from_a_file(tmp_path: Path) -> None:
    """A volume on disk is read in batches of slices."""
    file = tmp_path / "volume.npy"
    np.save(file, torch.rand(1, 1, 64, 128, 9).numpy())
    mapped = torch.from_numpy(np.load(file, mmap_mode="c"))
    result = AxialSliceInferer(batch_size=2, output="label", roi_size=(64, 64))(mapped, _Halving())
    assert result.dtype is torch.uint8
    expected = AxialSliceInferer(batch_size=2, output="label", roi_size=(64, 64))(mapped.clone(), _Halving())
    assert torch.equal(result, expected)


def test_progress_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    volume = torch.zeros(1, 1, 64, 64, 2)
    AxialSliceInferer(progress=True)(volume, _Halving())
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    AxialSliceInferer(progress=True)(volume, _Halving())
    assert "Slices" in capsys.readouterr().err
    AxialSliceInferer()(volume, _Halving())
    assert capsys.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("amp", "dtype", "atol"), [(False, "bfloat16", 1e-3), (True, "bfloat16", 0.1), (True, "float16", 0.02)]
)
def test_cuda_gives_the_answer_of_the_cpu(amp: bool, dtype: Any, atol: float) -> None:
    """The volume stays on the host; slices are copied through pinned memory."""
    volume, network = _body(), _PlaneSensitive()
    expected = AxialSliceInferer(batch_size=2, crop="blocks")(volume, network)
    inferer = AxialSliceInferer(2, sw_device="cuda", device="cpu", amp=amp, amp_dtype=dtype, crop="blocks")
    result = inferer(volume, network.cuda())
    assert result.device.type == "cpu"
    torch.testing.assert_close(result, expected, atol=atol, rtol=0.02)
    on_gpu = AxialSliceInferer(2, amp=amp, amp_dtype=dtype, crop="blocks")(volume.cuda(), network)
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), result, atol=1e-4, rtol=1e-3)
