"""The tables of an evaluation, one module a subject, and what its figures are drawn from."""

from osteo_monai.reporting.evaluation.tables.calibration import calibration_table, calibrations, recalibration_table
from osteo_monai.reporting.evaluation.tables.cutoffs import thresholds_table
from osteo_monai.reporting.evaluation.tables.decision import decision_curves, decision_table
from osteo_monai.reporting.evaluation.tables.density import agreements, density_table, with_density
from osteo_monai.reporting.evaluation.tables.performance import (
    RocLine,
    class_performances,
    confusion_table,
    overall_table,
    performance_table,
    roc_lines,
)
from osteo_monai.reporting.evaluation.tables.predictive import predictive_table
from osteo_monai.reporting.evaluation.tables.subgroups import subgroups_table
from osteo_monai.reporting.evaluation.tables.subjects import subjects_table

__all__ = [
    "RocLine",
    "agreements",
    "calibration_table",
    "calibrations",
    "class_performances",
    "confusion_table",
    "decision_curves",
    "decision_table",
    "density_table",
    "overall_table",
    "performance_table",
    "predictive_table",
    "recalibration_table",
    "roc_lines",
    "subgroups_table",
    "subjects_table",
    "thresholds_table",
    "with_density",
]
