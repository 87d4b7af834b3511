"""Fit a contrast correction to native and enhanced scans of the same persons."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from osteo_monai import __version__
from osteo_monai.cohort.scans import Scan
from osteo_monai.domain import ContrastPhase
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import ContrastCorrection, fit_regression, regression_rows
from osteo_monai.measurement.tissues import NATIVE_BLOOD_HU
from osteo_monai.site_calibration.validation import cross_validated, only_value, outliers
from osteo_monai.statistics.agreement import Agreement, agreement
from osteo_monai.utils.frozen import FrozenDict

__all__ = ["MIN_PAIRS", "ContrastFit", "fit_contrast"]

Array = NDArray[np.float64]

MIN_PAIRS = 15
"""Fewest persons with both scans (project custom): two coefficients and a residual SD that is known to 20 %."""
RANGE_MARGIN = 0.1
"""Share of the range of aortas that the correction may be extended by."""


@dataclass(frozen=True)
class ContrastFit:
    """A contrast correction with its cross-validation.

    Attributes:
        file: content of the correction file.
        aorta_hu: (n,) HU of the enhanced aortas.
        shift, predicted: (n,) HU of the bone, enhanced minus native, and its prediction by a fit without the subject.
        agreement: of predicted and measured shift, HU.
        uncorrected: mean and SD of the shift, HU.
        left_out: (image, reason).
    """

    file: ContrastCorrection
    aorta_hu: Array
    shift: Array
    predicted: Array
    agreement: Agreement
    uncorrected: tuple[float, float]
    left_out: tuple[tuple[str, str], ...]


def fit_contrast(
    scans: Sequence[Scan], phase: ContrastPhase | None = None, *, today: date | None = None
) -> ContrastFit:
    """Regress the shift of the bone in HU on the enhancement of the aorta.

    Args:
        scans: native and enhanced scans; those of one subject are paired.
        phase: use only enhanced scans of this phase.
        today: day of the fit.

    Raises:
        UnusableInputError: too few pairs, or several scanners, tube voltages or phases.
    """
    pairs, left_out = _pairs(scans, phase)
    subjects = [enhanced.subject for _, enhanced in pairs]
    if len(set(subjects)) < MIN_PAIRS:
        reasons = "" if not left_out else f"; {len(left_out)} scans were left out, first: {left_out[0][1]}"
        raise UnusableInputError(
            f"native and enhanced scans must be of at least {MIN_PAIRS} subjects, got {len(set(subjects))}{reasons}"
        )
    both = [scan for natives, enhanced in pairs for scan in (*natives, enhanced)]
    scanner = only_value("scanner", both, lambda s: s.scanner if s.scanner.model else None, lambda s: s.name)
    kvp = only_value("tube voltage", both, lambda s: s.kvp, lambda value: f"{value:g} kVp")
    only_value("rule of the trabecular region", both, lambda s: s.region, str)
    found = only_value("contrast phase", [e for _, e in pairs], lambda s: s.phase, str)
    aorta = np.array([enhanced.aorta_hu for _, enhanced in pairs], dtype=np.float64)
    shift = np.array([enhanced.hu - float(np.mean([n.hu for n in natives])) for natives, enhanced in pairs])
    rows = regression_rows(aorta - NATIVE_BLOOD_HU)
    try:
        regression = fit_regression(rows, shift, len(set(subjects)))
    except ValueError:
        raise UnusableInputError("the HU of the aorta must vary between the enhanced scans, got one value") from None
    predicted, lower, upper = cross_validated(rows, shift, subjects)
    compared = agreement(shift, predicted, lower, upper, groups=subjects if len(set(subjects)) < len(pairs) else None)
    margin = RANGE_MARGIN * float(np.ptp(aorta))
    flags = tuple(
        f"The pair of {pairs[i][1].image or pairs[i][1].subject} is an outlier."
        for i in outliers(regression, rows, shift)
    )
    cross_validation = {"bias": compared.bias.value, "sd": compared.sd}
    if compared.coverage is not None:
        cross_validation["coverage_90"] = compared.coverage.value
    file = ContrastCorrection(
        program=f"osteo-monai {__version__}",
        source=f"fitted at the site to {len(pairs)} pairs of native and enhanced scans ({scanner.name}, {kvp:g} kVp)",
        unit="HU",
        native_blood_hu=NATIVE_BLOOD_HU,
        fit=regression.along((1.0, 0.0), (0.0, 1.0)),
        aorta_range=(float(aorta.min()) - margin, float(aorta.max()) + margin),
        phase=found,
        scanner=scanner,
        kvp=kvp,
        fitted=today or date.today(),
        pairs=len(pairs),
        cross_validation=FrozenDict({name: round(value, 4) for name, value in cross_validation.items()}),
        flags=flags,
    )
    uncorrected = float(shift.mean()), float(shift.std(ddof=1))
    return ContrastFit(file, aorta, shift, predicted, compared, uncorrected, tuple(left_out))


def _pairs(
    scans: Sequence[Scan], phase: ContrastPhase | None
) -> tuple[list[tuple[list[Scan], Scan]], list[tuple[str, str]]]:
    """Return each enhanced scan with the native scans of its subject, and the scans that have no partner."""
    natives: dict[str, list[Scan]] = defaultdict(list)
    enhanced, left_out = [], []
    for scan in scans:
        if scan.phase is None:
            left_out.append((scan.image, "contrast_phase is unknown and the aorta was not found"))
        elif not scan.enhanced:
            natives[scan.subject].append(scan)
        elif phase is not None and scan.phase is not phase:
            left_out.append((scan.image, f"the phase is {scan.phase}, not {phase}"))
        elif scan.aorta_hu is None:
            left_out.append((scan.image, "the aorta was not found with certainty"))
        else:
            enhanced.append(scan)
    pairs = [(natives[scan.subject], scan) for scan in enhanced if natives.get(scan.subject)]
    left_out += [(s.image, "the subject has no native scan") for s in enhanced if not natives.get(s.subject)]
    with_partner = {scan.subject for scan in enhanced}
    left_out += [
        (s.image, "the subject has no enhanced scan") for n, of in natives.items() if n not in with_partner for s in of
    ]
    return pairs, left_out
