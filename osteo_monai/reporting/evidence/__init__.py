"""Evidence report: a meta-analysis of diagnostic accuracy as tables, figures and a page."""

from osteo_monai.reporting.evidence.analysis import Evidence, build_evidence
from osteo_monai.reporting.evidence.options import EvidenceOptions
from osteo_monai.reporting.evidence.own import compare_own
from osteo_monai.reporting.evidence.report import write_evidence
from osteo_monai.reporting.evidence.tables import evidence_facts

__all__ = ["Evidence", "EvidenceOptions", "build_evidence", "compare_own", "evidence_facts", "write_evidence"]
