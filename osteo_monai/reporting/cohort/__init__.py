"""Tables and figures that describe a cohort, and the flow of subjects into a study."""

from osteo_monai.reporting.cohort.figures import density_by_age_figure
from osteo_monai.reporting.cohort.flow import FlowStage, flow_figure, write_flow
from osteo_monai.reporting.cohort.people import AGE_BANDS
from osteo_monai.reporting.cohort.report import write_cohort
from osteo_monai.reporting.cohort.tables import (
    CohortTable,
    baseline_table,
    density_by_age,
    osteoporosis_table,
    prevalence_table,
)

__all__ = [
    "AGE_BANDS",
    "CohortTable",
    "FlowStage",
    "baseline_table",
    "density_by_age",
    "density_by_age_figure",
    "flow_figure",
    "osteoporosis_table",
    "prevalence_table",
    "write_cohort",
    "write_flow",
]
