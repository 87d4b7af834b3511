"""Experiments that train a bundle several times."""

from osteo_monai.experiments.cross_validation import cross_validate, last_checkpoint
from osteo_monai.experiments.training_size import training_size_curve

__all__ = ["cross_validate", "last_checkpoint", "training_size_curve"]
