"""Evidence report: a meta-analysis of diagnostic accuracy as tables, figures and a page."""

from osteo_monai.reporting.evidence.evidence import Evidence, EvidenceOptions, build_evidence, evidence_facts
from osteo_monai.reporting.evidence.report import write_evidence

__all__ = ["Evidence", "EvidenceOptions", "build_evidence", "evidence_facts", "write_evidence"]
