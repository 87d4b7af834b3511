"""Statistics of diagnostic accuracy: areas under the curve, rates of classes, calibration, agreement of densities,
decision curves, frozen cut-offs, and meta-analysis of 2 x 2 tables. Resampling is by subject throughout.

Import ``agreement`` and ``calibration`` from their modules, which have the same names.
"""

from osteo_monai.statistics.classification import class_performance, confusion_matrix, rates, summarise
from osteo_monai.statistics.decision import decision_curve, net_benefit_difference
from osteo_monai.statistics.flexible_calibration import flexible_calibration
from osteo_monai.statistics.likelihood_ratios import likelihood_ratios
from osteo_monai.statistics.ordinal import ordinal_concordance
from osteo_monai.statistics.paired_rates import compare_rates, difference_of_groups
from osteo_monai.statistics.precision_recall import partial_auc, precision_recall
from osteo_monai.statistics.proportions import Interval, Proportion, clopper_pearson, mcnemar, proportion, wilson
from osteo_monai.statistics.roc import auc, delong_test, holm, roc_band, roc_curve
from osteo_monai.statistics.subgroups import areas_differ, rates_differ
from osteo_monai.statistics.thresholds import choose_threshold

__all__ = [
    "Interval",
    "Proportion",
    "areas_differ",
    "auc",
    "choose_threshold",
    "class_performance",
    "clopper_pearson",
    "compare_rates",
    "confusion_matrix",
    "decision_curve",
    "delong_test",
    "difference_of_groups",
    "flexible_calibration",
    "holm",
    "likelihood_ratios",
    "mcnemar",
    "net_benefit_difference",
    "ordinal_concordance",
    "partial_auc",
    "precision_recall",
    "proportion",
    "rates",
    "rates_differ",
    "roc_band",
    "roc_curve",
    "summarise",
    "wilson",
]
