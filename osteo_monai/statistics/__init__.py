"""Statistics of diagnostic accuracy: proportions with their intervals, and meta-analysis of 2 x 2 tables."""

from osteo_monai.statistics.proportions import Interval, clopper_pearson, proportion, wilson

__all__ = ["Interval", "clopper_pearson", "proportion", "wilson"]
