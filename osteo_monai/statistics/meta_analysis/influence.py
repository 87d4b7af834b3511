"""Influence of each study on the summary, and studies that the model does not expect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.meta_analysis.inference import Omission
from osteo_monai.statistics.meta_analysis.tables import margin_logits, one_per_study

__all__ = ["INFLUENTIAL", "Influence", "study_influence"]

INFLUENTIAL = float(chi2.ppf(0.5, 2))
"""Cook's distance above which a study is called influential: the median of chi-square with 2 degrees of freedom, the
limit of metafor's ``influence``. The summary then moves out of its own 50 % region."""

OUTLIER_P = 0.05
"""Family-wise level of an outlier, after Bonferroni's correction for the number of studies."""


@dataclass(frozen=True)
class Influence:
    """Effect of one study (all of its tables).

    Attributes:
        study: its name.
        cook: squared Mahalanobis distance between the summaries with and without it, by the covariance of the summary.
        shift: change of pooled sensitivity and specificity when it is omitted, as proportions.
        p: probability of a study farther from the summary of the other studies, given the between-study covariance and
            all sampling errors; of several tables of the study, their mean counts.
        adjusted_p: after Bonferroni's correction for the number of studies.
    """

    study: str
    cook: float
    shift: tuple[float, float]
    p: float
    adjusted_p: float

    @property
    def influential(self) -> bool:
        """Whether the summary depends on this study."""
        return self.cook > INFLUENTIAL

    @property
    def outlier(self) -> bool:
        """Whether the model of the other studies does not expect it."""
        return self.adjusted_p < OUTLIER_P


def study_influence(fit: BivariateFit, omissions: Sequence[Omission], labels: Sequence[str]) -> list[Influence]:
    """Return the influence of each study whose omission leaves an estimate.

    Args:
        fit: a model without covariates.
        omissions: of ``leave_one_out`` with this fit.
        labels: (k,) name of the study of each table, as in the omissions.

    Raises:
        ValueError: on a wrong number of labels.
    """
    if len(labels) != fit.n_tables:
        raise ValueError(f"labels must have a label for each of the {fit.n_tables} tables, got {len(labels)}")
    whole = fit.summary()
    units = list(dict.fromkeys(labels))
    y, v = margin_logits(one_per_study(fit.tables, labels))
    found = []
    for omission in omissions:
        if omission.summary is None or omission.psi is None:
            continue
        rest = omission.summary
        moved = whole.mean - rest.mean
        i = units.index(omission.omitted)
        gap = y[i] - rest.mean
        p = float(chi2.sf(gap @ np.linalg.solve(omission.psi + rest.cov + np.diag(v[i]), gap), 2))
        shift = (
            rest.sensitivity.value - whole.sensitivity.value,
            rest.specificity.value - whole.specificity.value,
        )
        cook = float(moved @ np.linalg.solve(whole.cov, moved))
        found.append(Influence(omission.omitted, cook, shift, p, min(1.0, p * len(units))))
    return found
