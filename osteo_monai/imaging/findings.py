"""Short-hands for the findings that reading an image produces."""

from osteo_monai.domain import Finding, Severity


def info(code: str, message: str) -> Finding:
    """A fact that a reader of the result may want."""
    return Finding(code=code, severity=Severity.INFO, message=message)


def warning(code: str, message: str) -> Finding:
    """Something to be weighed before the number is used."""
    return Finding(code=code, severity=Severity.WARNING, message=message)


def refusal(code: str, message: str) -> Finding:
    """The reason why no number is given."""
    return Finding(code=code, severity=Severity.REFUSAL, message=message)
