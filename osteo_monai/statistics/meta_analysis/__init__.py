"""Meta-analysis of diagnostic accuracy: the bivariate model, heterogeneity, resampling, subgroups and study tables."""

from osteo_monai.statistics.meta_analysis.bivariate import METHODS, fit_bivariate, pool_studies
from osteo_monai.statistics.meta_analysis.covariates import compare_subgroups, meta_regression, model_covariates
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint
from osteo_monai.statistics.meta_analysis.heterogeneity import (
    higgins,
    midas_auc_interval,
    midas_pearson,
    univariate,
    zhou_dendukuri,
)
from osteo_monai.statistics.meta_analysis.inference import (
    bootstrap,
    deeks,
    leave_one_out,
)
from osteo_monai.statistics.meta_analysis.influence import study_influence
from osteo_monai.statistics.meta_analysis.rebuilding import rebuild_studies, rebuild_table
from osteo_monai.statistics.meta_analysis.studies import OwnTest, StudyTable, count_predictions, read_studies
from osteo_monai.statistics.meta_analysis.three_level import ThreeLevelFit, fit_three_levels

__all__ = [
    "METHODS",
    "BivariateFit",
    "OwnTest",
    "StudyTable",
    "SummaryPoint",
    "ThreeLevelFit",
    "bootstrap",
    "compare_subgroups",
    "count_predictions",
    "deeks",
    "fit_bivariate",
    "fit_three_levels",
    "higgins",
    "leave_one_out",
    "meta_regression",
    "midas_auc_interval",
    "midas_pearson",
    "model_covariates",
    "pool_studies",
    "read_studies",
    "rebuild_studies",
    "rebuild_table",
    "study_influence",
    "univariate",
    "zhou_dendukuri",
]
