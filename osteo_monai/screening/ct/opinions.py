"""Comparison models for a measured study: a published rule of HU, and the bundles with the slices as input.

They never change the density or the class of a result; ``gates.opinions`` reports where they disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import (
    KVP_TOLERANCE,
    SCREENED_LEVELS,
    BoneStatus,
    DensityThresholds,
    MineralStandard,
    VertebraLevel,
)
from osteo_monai.screening.images import ClassActivation
from osteo_monai.screening.models import OpinionModels
from osteo_monai.screening.result import Density, LevelMeasurement, Opinion, OpinionName
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle

INTERVAL_NOTE = "Its interval is valid for scans like its calibration data; for other scans it may be too narrow."
LAST_STAGE = "layer4"
"""The last residual stage of the classifier (MONAI's ResNet), the target layer of Grad-CAM."""
RULE_KVP = 120.0


@dataclass(frozen=True)
class HUCutoffs:
    """Published cut-offs of the trabecular HU at L1, with their source.

    Attributes:
        osteoporosis_at_most: osteoporosis at or below it.
        normal_above: normal above it; osteopenia between the two.
        balanced: the single cut-off between them; osteopenia is scored by the distance to it.
    """

    name: str
    osteoporosis_at_most: float
    normal_above: float
    balanced: float
    source: str

    def status(self, hu: float) -> BoneStatus:
        """Return the class of a mean HU."""
        if hu <= self.osteoporosis_at_most:
            return BoneStatus.OSTEOPOROSIS
        return BoneStatus.NORMAL if hu > self.normal_above else BoneStatus.OSTEOPENIA

    def scores(self, hu: float) -> dict[str, float]:
        """Return ``score_<class>`` for ranking: larger means more likely."""
        return {
            "score_normal": hu,
            "score_osteopenia": -abs(hu - self.balanced),
            "score_osteoporosis": -hu,
        }


PICKHARDT_2013 = HUCutoffs(
    name="L1 HU, Pickhardt 2013",
    osteoporosis_at_most=110.0,
    normal_above=160.0,
    balanced=135.0,
    source=(
        "Pickhardt et al. 2013, Ann Intern Med 158:588, abstract: 160 HU is 90 % sensitive, 110 HU more than 90 % "
        "specific for osteoporosis by DXA; 135 HU is called balanced in a later review"
    ),
)
"""Published against DXA at 120 kVp without contrast agent, each value as one cut-off for osteoporosis. Using the pair
as borders of three classes is an interpretation of this project, to compare with a radiologist's rule."""


@dataclass(frozen=True)
class Opinions:
    """Results of :func:`collect_opinions`.

    Attributes:
        given: in the order of the report.
        absent: opinions that could not be given, with the reason.
        used: the bundles that gave one.
        activation: class activation map of the classifier.
    """

    given: tuple[Opinion, ...] = ()
    absent: Mapping[OpinionName, str] = field(default_factory=dict)
    used: "tuple[Bundle, ...]" = ()
    activation: ClassActivation | None = None


def collect_opinions(
    line: Opinion,
    levels: Sequence[LevelMeasurement],
    kvp: float | None,
    thresholds: DensityThresholds,
    scan: Mapping[str, Any],
    models: OpinionModels,
) -> Opinions:
    """Run every comparison model that can be run on a measured study.

    Args:
        line: the measured density and its class.
        levels: as measured.
        kvp: tube voltage in kV, ``None`` if unknown.
        thresholds: of the classes.
        scan: ``image`` and ``label`` as ``MetaTensor`` (1, X, Y, Z): HU, and the bodies as predicted.
        models: the bundles.
    """
    given = [line]
    absent = dict(models.absent)
    l1_hu = next((m.hu.mean for m in levels if m.level is VertebraLevel.L1), None)
    if l1_hu is None:
        absent["hu_rule"] = "L1 was not measured."
    else:
        given.append(hu_rule(l1_hu, kvp))
    measured = {m.level for m in levels}
    missing = [level for level in SCREENED_LEVELS if level not in measured]
    used: list[Bundle] = []
    activation = None
    for name, bundle in models.bundles.items():
        if missing:
            absent[name] = f"L1 and L2 are required; {listed(missing)} was not measured."
            continue
        try:
            if name == "density_regression":
                opinion = _regressed(bundle, scan, kvp, thresholds)
            else:
                opinion, activation = _classified(bundle, scan, thresholds)
        except ValueError as error:
            absent[name] = f"The model cannot be applied to this scan: {error}."
            continue
        given.append(opinion)
        used.append(bundle)
    return Opinions(tuple(given), absent, tuple(used), activation)


def hu_rule(l1_hu: float, kvp: float | None, cutoffs: HUCutoffs = PICKHARDT_2013) -> Opinion:
    """Apply published cut-offs to the mean HU of L1; no class at another tube voltage than theirs."""
    note = f"{cutoffs.name}: up to {cutoffs.osteoporosis_at_most:g}, above {cutoffs.normal_above:g} HU."
    status: BoneStatus | None = cutoffs.status(l1_hu)
    if kvp is None:
        note = f"Valid for {RULE_KVP:g} kV, and the tube voltage is unknown. {note}"
    elif abs(kvp - RULE_KVP) > KVP_TOLERANCE:
        status, note = None, f"Valid for {RULE_KVP:g} kV, not for {kvp:g}. {note}"
    return Opinion(name="hu_rule", status=status, l1_hu=l1_hu, note=note)


def _regressed(bundle: "Bundle", scan: Mapping[str, Any], kvp: float | None, thresholds: DensityThresholds) -> Opinion:
    output = bundle({**scan, "kvp": kvp})["density"]
    standard = MineralStandard(output["standard"])

    def density(values: Mapping[str, float]) -> Density:
        return Density(
            mg_cm3=values["bmd_mg_cm3"],
            interval_low=values["lower"],
            interval_high=values["upper"],
            standard=standard,
        )

    study = density(output["study"])
    status, note = None, f"The thresholds are in mg/cm3 {thresholds.standard}. {INTERVAL_NOTE}"
    if standard is thresholds.standard:
        status, note = thresholds.status(study.mg_cm3, standard), INTERVAL_NOTE
    # the bundle was trained for the default classes
    by_class = output["study"]["probability"] if _are_default(thresholds) else None
    return Opinion(
        name="density_regression",
        status=status,
        density=study,
        level_densities={VertebraLevel(name): density(values) for name, values in output["levels"].items()},
        probabilities=None if by_class is None else {BoneStatus(name): p for name, p in by_class.items()},
        bundle=bundle.name,
        trained_on=bundle.trained_on,
        note=note,
    )


def _classified(
    bundle: "Bundle", scan: Mapping[str, Any], thresholds: DensityThresholds
) -> tuple[Opinion, ClassActivation]:
    if not _are_default(thresholds):
        raise ValueError("it was trained for the classes of the default thresholds")
    probabilities = np.asarray(bundle(scan)["pred"], dtype=np.float64)
    if probabilities.shape != (len(BoneStatus),):
        raise ValueError(f"its output must be {len(BoneStatus)} probabilities, got shape {probabilities.shape}")
    best = int(probabilities.argmax())
    status = list(BoneStatus)[best]
    opinion = Opinion(
        name="classifier",
        status=status,
        probabilities={name: float(p) for name, p in zip(BoneStatus, probabilities, strict=True)},
        bundle=bundle.name,
        trained_on=bundle.trained_on,
    )
    slices, heat = bundle.class_activation(scan, LAST_STAGE, best)
    levels = tuple(VertebraLevel(name) for name in bundle.setting("levels"))
    return opinion, ClassActivation(_floats(slices), _floats(heat), levels, status)


def _floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _are_default(thresholds: DensityThresholds) -> bool:
    """Compare thresholds with those that the bundles were trained for, apart from their source."""
    default = DensityThresholds()
    return (thresholds.osteoporosis_below, thresholds.normal_above, thresholds.standard) == (
        default.osteoporosis_below,
        default.normal_above,
        default.standard,
    )
