"""Experiments that train a bundle several times."""

from osteo_monai.experiments.comparison_scores import ComparedNetwork, Comparison
from osteo_monai.experiments.cross_validation import cross_validate
from osteo_monai.experiments.network_comparison import compare_networks
from osteo_monai.experiments.training import last_checkpoint
from osteo_monai.experiments.training_size import SizeResult, nested_subset, training_size_curve

__all__ = [
    "ComparedNetwork",
    "Comparison",
    "SizeResult",
    "compare_networks",
    "cross_validate",
    "last_checkpoint",
    "nested_subset",
    "training_size_curve",
]
