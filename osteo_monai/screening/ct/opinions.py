"""Second opinions on a measured study: a published rule of HU, and the bundles that look at the slices themselves.

They never change the density or the class of a result; ``quality.opinions_differ`` tells where they disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds, MineralStandard, VertebraLevel
from osteo_monai.screening.result import Density, LevelMeasurement, Opinion, OpinionName

if TYPE_CHECKING:
    from osteo_monai.screening.images import ClassActivation

CLASSIFICATION_BUNDLE = "osteoporosis_classification_ct"
REGRESSION_BUNDLE = "bone_density_regression_ct"
OPINION_BUNDLES: dict[OpinionName, str] = {
    "density_regression": REGRESSION_BUNDLE,
    "classifier": CLASSIFICATION_BUNDLE,
}

CALIBRATED_ON = "Its interval holds for scans like those it was calibrated on; elsewhere expect it to be too narrow."
LAST_STAGE = "layer4"
"""The last residual stage of the classifier (MONAI's ResNet), whose maps Grad-CAM weighs."""
RULE_KVP = 120.0


@dataclass(frozen=True)
class HUCutoffs:
    """Published cut-offs of the trabecular HU at L1, with their source.

    Attributes:
        osteoporosis_at_most: at or below it a person counts as osteoporotic.
        normal_above: above it as normal; between the two as osteopenic.
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
        """Return ``score_<class>``: larger means more likely, for ranking alone."""
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
"""Published against DXA at 120 kVp without contrast agent, each value as one cut-off for osteoporosis. To use the pair
as borders of three classes is this project's reading, made to have a radiologist's rule to compare with."""


class OpinionBundle(Protocol):
    """A bundle that judges the bone: image and label map (1, X, Y, Z) in, its postprocessed dictionary out."""

    name: str
    version: str
    weights_sha256: str
    trained_on: str

    def __call__(self, scan: Mapping[str, Any], /) -> Mapping[str, Any]:
        """Run preprocessing, network and postprocessing of the bundle."""

    def setting(self, name: str) -> Any:
        """Return a setting of the bundle's config."""

    def class_activation(self, scan: Mapping[str, Any], layer: str, output: int) -> tuple[Any, Any]:
        """Return the network's input (C, X, Y) and the Grad-CAM (X, Y) of an output."""


@dataclass(frozen=True)
class OpinionModels:
    """The bundles of :data:`OPINION_BUNDLES` that can be run, and why the others cannot."""

    bundles: Mapping[OpinionName, OpinionBundle] = field(default_factory=dict)
    absent: Mapping[OpinionName, str] = field(default_factory=dict)


def load_opinion_models(device: Any) -> OpinionModels:
    """Load the bundles that have weights which fit them; the others are absent, with a reason, and nothing fails."""
    from osteo_monai.bundle import load_bundle

    bundles: dict[OpinionName, OpinionBundle] = {}
    absent: dict[OpinionName, str] = {}
    for name, bundle in OPINION_BUNDLES.items():
        try:
            bundles[name] = load_bundle(bundle, device)
        except FileNotFoundError:  # its message names folders of this machine
            absent[name] = f"The bundle {bundle} or its weights are not installed."
        except RuntimeError:
            absent[name] = f"The weights of the bundle {bundle} do not fit its network."
    return OpinionModels(bundles, absent)


@dataclass(frozen=True)
class Opinions:
    """What :func:`collect_opinions` found.

    Attributes:
        given: in the order in which they are told.
        absent: those that could not be given, with the reason.
        used: the bundles that gave one.
        activation: where the classifier looked.
    """

    given: tuple[Opinion, ...]
    absent: dict[OpinionName, str]
    used: tuple[OpinionBundle, ...]
    activation: "ClassActivation | None"


def collect_opinions(
    density: Density,
    status: BoneStatus | None,
    levels: Sequence[LevelMeasurement],
    kvp: float | None,
    thresholds: DensityThresholds,
    scan: Mapping[str, Any],
    models: OpinionModels,
) -> Opinions:
    """Ask every opinion that can be had on a measured study.

    Args:
        density: of the study by its HU.
        status: its class.
        levels: as measured.
        kvp: tube voltage in kV, ``None`` where unknown.
        thresholds: of the classes.
        scan: ``image`` and ``label`` as ``MetaTensor`` (1, X, Y, Z): HU, and the bodies as predicted.
        models: the bundles.
    """
    line = Opinion(name="hu_line", status=status, density=density, level_densities={m.level: m.density for m in levels})
    given: list[Opinion] = [line]
    absent = dict(models.absent)
    first = next((m.hu.mean for m in levels if m.level is VertebraLevel.L1), None)
    if first is None:
        absent["hu_rule"] = "L1 was not measured."
    else:
        given.append(hu_rule(first, kvp))
    measured = {m.level for m in levels}
    missing = [str(level) for level in SCREENED_LEVELS if level not in measured]
    used: list[OpinionBundle] = []
    activation = None
    for name, bundle in models.bundles.items():
        if missing:
            absent[name] = f"It needs L1 and L2, and {' and '.join(missing)} was not measured."
            continue
        try:
            if name == "density_regression":
                given.append(_regressed(bundle, scan, kvp, thresholds))
            else:
                opinion, activation = _classified(bundle, scan, thresholds)
                given.append(opinion)
        except ValueError as error:
            absent[name] = f"It cannot judge this scan: {error}."
            continue
        used.append(bundle)
    return Opinions(tuple(given), absent, tuple(used), activation)


def hu_rule(l1_hu: float, kvp: float | None, cutoffs: HUCutoffs = PICKHARDT_2013) -> Opinion:
    """Return what published cut-offs say of the mean HU of L1; no class where the tube voltage is not theirs."""
    status = cutoffs.status(l1_hu)
    note = f"{cutoffs.name}: up to {cutoffs.osteoporosis_at_most:g}, above {cutoffs.normal_above:g} HU."
    if kvp is None:
        note = f"It holds for {RULE_KVP:g} kV, and the tube voltage is unknown. {note}"
    elif abs(kvp - RULE_KVP) > 0.5:
        return Opinion(
            name="hu_rule", status=None, l1_hu=l1_hu, note=f"It holds for {RULE_KVP:g} kV, not for {kvp:g}. {note}"
        )
    return Opinion(name="hu_rule", status=status, l1_hu=l1_hu, note=note)


def _regressed(
    bundle: OpinionBundle, scan: Mapping[str, Any], kvp: float | None, thresholds: DensityThresholds
) -> Opinion:
    found = bundle({**scan, "kvp": kvp})["density"]
    standard = MineralStandard(found["standard"])
    densities = {
        name: Density(
            mg_cm3=one["bmd_mg_cm3"], interval_low=one["lower"], interval_high=one["upper"], standard=standard
        )
        for name, one in {"study": found["study"], **found["levels"]}.items()
    }
    study = densities.pop("study")
    status, note = None, f"The thresholds are in mg/cm3 {thresholds.standard}. {CALIBRATED_ON}"
    if standard is thresholds.standard:
        status, note = thresholds.status(study.mg_cm3, standard), CALIBRATED_ON
    chances = found["study"]["probability"]
    return Opinion(
        name="density_regression",
        status=status,
        density=study,
        level_densities={VertebraLevel(name): one for name, one in densities.items()},
        # the bundle's are of the classes it was trained for
        probabilities={BoneStatus(k): v for k, v in chances.items()} if _are_default(thresholds) else None,
        bundle=bundle.name,
        trained_on=bundle.trained_on,
        note=note,
    )


def _classified(
    bundle: OpinionBundle, scan: Mapping[str, Any], thresholds: DensityThresholds
) -> "tuple[Opinion, ClassActivation]":
    from osteo_monai.screening.images import ClassActivation

    if not _are_default(thresholds):
        raise ValueError("its classes were learned, and the thresholds in use are others")
    answer = np.asarray(bundle(scan)["pred"], dtype=np.float64)
    if answer.shape != (len(BoneStatus),):
        raise ValueError(f"it must answer with {len(BoneStatus)} probabilities, got shape {answer.shape}")
    status = list(BoneStatus)[int(answer.argmax())]
    opinion = Opinion(
        name="classifier",
        status=status,
        probabilities={one: float(p) for one, p in zip(BoneStatus, answer, strict=True)},
        bundle=bundle.name,
        trained_on=bundle.trained_on,
    )
    slices, heat = bundle.class_activation(scan, LAST_STAGE, int(answer.argmax()))
    levels = tuple(VertebraLevel(name) for name in bundle.setting("levels"))
    return opinion, ClassActivation(_floats(slices), _floats(heat), levels, status)


def _floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _are_default(thresholds: DensityThresholds) -> bool:
    """Whether the classes are those that the bundles were trained for."""
    default = DensityThresholds()
    return (thresholds.osteoporosis_below, thresholds.normal_above, thresholds.standard) == (
        default.osteoporosis_below,
        default.normal_above,
        default.standard,
    )
