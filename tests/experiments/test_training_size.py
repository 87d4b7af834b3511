"""Accuracy over the number of training images."""

from pathlib import Path

import pytest

from osteo_monai.experiments import training_size_curve


def test_training_size_curve_refuses_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sizes must be positive"):
        training_size_curve(tmp_path, [0], tmp_path)
