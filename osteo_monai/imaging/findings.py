"""Constructors of findings by severity."""

from osteo_monai.domain import Finding, Severity


def info(code: str, message: str) -> Finding:
    """Return an information for readers of the result."""
    return Finding(code=code, severity=Severity.INFO, message=message)


def warning(code: str, message: str) -> Finding:
    """Return a warning to be considered before the result is used."""
    return Finding(code=code, severity=Severity.WARNING, message=message)


def refusal(code: str, message: str) -> Finding:
    """Return a reason why there is no result."""
    return Finding(code=code, severity=Severity.REFUSAL, message=message)
