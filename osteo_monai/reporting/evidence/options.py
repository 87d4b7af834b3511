"""Options of an evidence report."""

import math
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.statistics.meta_analysis.bivariate import METHODS
from osteo_monai.statistics.meta_analysis.estimates import Method
from osteo_monai.statistics.meta_analysis.reference import WANG_2025, PooledReference

__all__ = ["REFERENCES", "EvidenceOptions"]

REFERENCES = ("wang2025",)
"""Reviews whose published pooled values can be added to a report."""


@dataclass(frozen=True)
class EvidenceOptions:
    """Settings of an evidence report.

    Attributes:
        studies: CSV of 2 x 2 tables, or ``None`` for the user's model without a meta-analysis.
        target: the only target to analyse; ``None`` analyses all targets of the table.
        own_counts: test set of the user's model as ``"TP,FP,FN,TN"`` for ``target`` (default: osteoporosis).
        own_predictions: CSV of its predictions instead (``docs/predictions.md``).
        own_name: name of the user's model; required if the predictions contain several. Empty: as in the file.
        own_cohort: cohort of the predictions (default: ``test``, or the only one).
        own_threshold: cut-off of the score for ``target``; ``None`` uses the predicted classes.
        method: of the bivariate model.
        prevalence: pre-test probability in the population of interest.
        covariates: columns to test, each in a model of its own, and all in one model if there are several.
        reference: review to compare with, one of ``REFERENCES``; ``None`` for none.
        replicates: bootstrap samples; 0 for none.
        seed: bootstrap random seed.
        quadas: CSV of QUADAS-2 judgements.
        prisma: JSON of PRISMA counts.

    Raises:
        ValueError: lists every option out of range.
    """

    studies: Path | None = None
    target: str | None = None
    own_counts: str | None = None
    own_predictions: Path | None = None
    own_name: str = ""
    own_cohort: str | None = None
    own_threshold: float | None = None
    method: Method = "binomial"
    prevalence: float = 0.20
    covariates: tuple[str, ...] = ()
    reference: str | None = None
    replicates: int = 2000
    seed: int = 1
    quadas: Path | None = None
    prisma: Path | None = None

    def __post_init__(self) -> None:
        problems = self._source_problems()
        if self.own_threshold is not None and not math.isfinite(self.own_threshold):
            problems.append(f"own threshold must be a finite number, got {self.own_threshold:g}")
        if self.method not in METHODS:
            problems.append(f"method must be one of {', '.join(METHODS)}, got '{self.method}'")
        if self.reference not in (None, *REFERENCES):
            problems.append(f"reference must be one of {', '.join(REFERENCES)}, got '{self.reference}'")
        if not 0 < self.prevalence < 1:
            problems.append(f"prevalence must be between 0 and 1, got {self.prevalence:g}")
        if self.replicates and self.replicates < 100:
            problems.append(f"replicates must be 0 or at least 100, got {self.replicates}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, got {self.seed}")
        if problems:
            raise ValueError("; ".join(problems))

    def pooled_reference(self, target: str) -> PooledReference | None:
        """Return the pooled values of the review to compare with; ``None`` if none was requested for this target."""
        return None if self.reference is None else WANG_2025.get(target)

    def _source_problems(self) -> list[str]:
        problems = []
        if self.studies is None and self.own_counts is None and self.own_predictions is None:
            problems.append("one of studies, own counts and own predictions must be given")
        if self.own_counts is not None and self.own_predictions is not None:
            problems.append("own counts and own predictions must not both be given")
        if self.own_predictions is None:
            problems += [
                f"{name.replace('_', ' ')} must be given with own predictions only"
                for name in ("own_cohort", "own_threshold")
                if getattr(self, name) is not None
            ]
        return problems
