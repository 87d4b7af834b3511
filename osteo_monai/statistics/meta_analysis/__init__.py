"""Meta-analysis of diagnostic accuracy: the bivariate model, what is asked of it, and the evidence report.

>>> from osteo_monai.statistics.meta_analysis import fit_bivariate
>>> fit = fit_bivariate([[47, 101, 9, 738], [126, 272, 51, 1543], [19, 12, 10, 192], [36, 78, 3, 276]])
>>> fit.summary().sensitivity, fit.auc  # doctest: +SKIP
"""

from osteo_monai.statistics.meta_analysis.bivariate import METHODS, BivariateFit, SummaryPoint, fit_bivariate
from osteo_monai.statistics.meta_analysis.heterogeneity import (
    higgins,
    midas_auc_interval,
    midas_pearson,
    univariate,
    zhou_dendukuri,
)
from osteo_monai.statistics.meta_analysis.inference import (
    bootstrap,
    compare_subgroups,
    deeks,
    leave_one_out,
    meta_regression,
)
from osteo_monai.statistics.meta_analysis.studies import OwnTest, StudyTable, count_predictions, read_studies

__all__ = [
    "METHODS",
    "BivariateFit",
    "OwnTest",
    "StudyTable",
    "SummaryPoint",
    "bootstrap",
    "compare_subgroups",
    "count_predictions",
    "deeks",
    "fit_bivariate",
    "higgins",
    "leave_one_out",
    "meta_regression",
    "midas_auc_interval",
    "midas_pearson",
    "read_studies",
    "univariate",
    "zhou_dendukuri",
]
