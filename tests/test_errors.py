"""Error classes: one root, and every one crosses a process border."""

import pickle

import pytest

from osteo_monai import errors
from osteo_monai.domain import Finding, Severity

FINDING = Finding(code="metal", severity=Severity.REFUSAL, message="Metal in L1.")
ARGUMENTS = {"ScanRefusedError": (FINDING,), "ManifestError": ("m.json", ["a record has no image"])}
CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.OsteoError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_errors_can_be_pickled(kind: type[errors.OsteoError]) -> None:
    error = kind(*ARGUMENTS.get(kind.__name__, ("one sentence",)))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert {k: v for k, v in vars(copy).items() if k in ("findings", "problems")} == {
        k: v for k, v in vars(error).items() if k in ("findings", "problems")
    }


def test_a_refusal_needs_a_refusing_finding() -> None:
    with pytest.raises(ValueError, match="severity 'refusal'"):
        errors.ScanRefusedError()
