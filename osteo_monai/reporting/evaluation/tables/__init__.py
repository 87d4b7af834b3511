"""The tables of an evaluation, one module a subject, and what its figures are drawn from."""

from osteo_monai.reporting.evaluation.tables.calibration import (
    Curves,
    calibration_table,
    calibrations,
    flexible_curves,
    flexible_table,
    recalibration_table,
)
from osteo_monai.reporting.evaluation.tables.cutoffs import thresholds_table
from osteo_monai.reporting.evaluation.tables.decision import benefit_table, decision_curves, decision_table
from osteo_monai.reporting.evaluation.tables.density import agreements, density_table, with_density
from osteo_monai.reporting.evaluation.tables.performance import (
    Precisions,
    RocLine,
    class_performances,
    confusion_table,
    overall_table,
    performance_table,
    precision_curves,
    precision_table,
    roc_lines,
)
from osteo_monai.reporting.evaluation.tables.predictive import predictive_table
from osteo_monai.reporting.evaluation.tables.subgroups import interactions_table, subgroups_table
from osteo_monai.reporting.evaluation.tables.subjects import subjects_table

__all__ = [
    "Curves",
    "Precisions",
    "RocLine",
    "agreements",
    "benefit_table",
    "calibration_table",
    "calibrations",
    "class_performances",
    "confusion_table",
    "decision_curves",
    "decision_table",
    "density_table",
    "flexible_curves",
    "flexible_table",
    "interactions_table",
    "overall_table",
    "performance_table",
    "precision_curves",
    "precision_table",
    "predictive_table",
    "recalibration_table",
    "roc_lines",
    "subgroups_table",
    "subjects_table",
    "thresholds_table",
    "with_density",
]
