"""What the tests of all gates have in common."""

from osteo_monai.domain import Finding, Severity


def check(finding: Finding | None, code: str, severity: Severity) -> str:
    """Check code and severity of a finding that is a sentence; return its message."""
    assert finding is not None
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.message.endswith(".")
    return finding.message
