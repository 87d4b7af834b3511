"""Fusion of slices and covariates: standardised values, unknown ones, ill arguments, export."""

from typing import Any

import pytest
import torch

from osteo_monai.networks import CovariateClassifier

SMALL: dict[str, Any] = {"depth": "resnet10", "widths": (8, 8, 16, 16)}
REFERENCE = [[60.0, 10.0], [0.5, 0.5], [25.0, 4.0]]


def stack(values: Any, known: Any = (1.0, 1.0, 1.0), size: int = 32) -> torch.Tensor:
    """Return one input with the same slices for each call."""
    slices = torch.rand(1, 2, size, size, generator=torch.Generator().manual_seed(1))
    planes = torch.tensor([*values, *known])[None, :, None, None].expand(1, 6, size, size)
    return torch.cat([slices, planes], 1)


def test_values_are_standardised_and_change_the_answer() -> None:
    torch.manual_seed(0)
    network = CovariateClassifier(**SMALL, reference=REFERENCE).eval()
    plain = CovariateClassifier(**SMALL).eval()
    plain.load_state_dict({**network.state_dict(), "reference": plain.reference})
    at = network(stack([70.0, 1.0, 21.0]))
    torch.testing.assert_close(at, plain(stack([1.0, 1.0, -1.0])))
    assert (at - network(stack([50.0, 1.0, 21.0]))).abs().max() > 1e-4


def test_an_unknown_value_counts_for_nothing_and_is_marked() -> None:
    torch.manual_seed(0)
    network = CovariateClassifier(**SMALL, reference=REFERENCE).eval()
    unknown = network(stack([0.0, 1.0, 25.0], (0.0, 1.0, 1.0)))
    torch.testing.assert_close(unknown, network(stack([99.0, 1.0, 25.0], (0.0, 1.0, 1.0))))
    # the mean is not the same as unknown
    assert (unknown - network(stack([60.0, 1.0, 25.0]))).abs().max() > 1e-5


def test_covariates_are_omitted_in_training_only() -> None:
    torch.manual_seed(0)
    network = CovariateClassifier(**SMALL, omitted=0.5, reference=REFERENCE)
    x = stack([75.0, 1.0, 33.0]).expand(64, -1, -1, -1)
    network.image.eval()  # the running statistics of the slices stay
    assert len({tuple(row.tolist()) for row in network(x).detach().round(decimals=5)}) > 4
    torch.testing.assert_close(network.eval()(x), network(x[:1]).expand(64, -1))


def test_slices_reach_the_answer_and_shapes() -> None:
    network = CovariateClassifier(in_channels=1, covariates=1, out_channels=2, **SMALL).eval()
    x = torch.rand(3, 3, 48, 32)
    assert network(x).shape == (3, 2)
    assert (network(x)[0] - network(torch.cat([x[1:2, :1], x[:1, 1:]], 1))[0]).abs().max() > 0
    with pytest.raises(ValueError, match=r"input must be \(N, 3, X, Y\), got \[3, 2, 48, 32\]"):
        network(x[:, :2])


def test_torchscript() -> None:
    network = CovariateClassifier(**SMALL, dropout=0.1, reference=REFERENCE).eval()
    x = stack([70.0, 1.0, 21.0])
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"covariates": 0}, "covariates and hidden must be at least 1"),
        ({"omitted": 1.0}, r"omitted in \[0, 1\), got 3, 16 and 1.0"),
        ({"reference": [[60.0, 10.0]]}, "reference must be mean and SD of 3 covariates"),
        ({"reference": [[60.0, 0.0], [0, 1], [0, 1]]}, "SDs above 0"),
        ({"depth": "deep"}, "depth must be one of"),
    ],
)
def test_ill_arguments_are_refused(arguments: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CovariateClassifier(**arguments)
