"""True centres and their pairs."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai import metrics
from osteo_monai.domain import VertebraLevel as L
from osteo_monai.transforms import LocatedVertebra


def _vertebra(level: Any, z: Any, certainty: Any = 1.0) -> Any:
    return LocatedVertebra(level, certainty, None, (8.0, 8.0, z), (8.0, 8.0, z + 16), (8.0, 8.0, z - 16), True)


def _target() -> Any:
    """A 4 mm grid whose first voxel lies at the origin, T12 about z = 40 mm and L1 about z = 12 mm; L2 is cut off."""
    target = torch.zeros(2, 5, 5, 16)
    z = 4.0 * torch.arange(16.0)
    for level, centre, voxels in ((L.T12, 40.0, slice(8, 13)), (L.L1, 12.0, slice(2, 6)), (L.L2, -12.0, slice(0, 1))):
        target[0, 1:4, 1:4, voxels] = level.label
        target[1, 2, 2] = torch.maximum(target[1, 2, 2], torch.exp(-((z - centre) ** 2) / 72))
    return MetaTensor(target, affine=torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])))


def test_true_centres_are_in_mm_and_leave_out_bodies_whose_centre_is_not_there() -> None:
    target = _target()
    centres = metrics.true_centres(target.numpy(), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert set(centres) == {L.T12, L.L1}
    np.testing.assert_allclose(centres[L.T12], [8, 8, 40], atol=1e-4)
    np.testing.assert_allclose(centres[L.L1], [8, 8, 12], atol=1e-4)


def test_bodies_are_matched_within_reach() -> None:
    truth = {L.L1: np.array([8.0, 8.0, 12.0]), L.T12: np.array([8.0, 8.0, 40.0])}
    pairs = metrics.match_levels(truth, [_vertebra(L.L2, 15.0), _vertebra(L.T12, 70.0)])
    assert [(level, v.level if v else None) for level, v, _ in pairs] == [(L.L1, L.L2), (L.T12, None)]
    assert pairs[0][2] == pytest.approx(3.0)
    assert metrics.match_levels(truth, [])[0][1] is None
