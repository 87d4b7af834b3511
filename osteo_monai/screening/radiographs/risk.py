"""From the networks' outputs to risks: calibration, fusion of views, models on patient facts."""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from osteo_monai.domain import Finding, View
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.gates.gate import refusal, warning
from osteo_monai.screening.images import RadiographImage
from osteo_monai.screening.models import RADIOGRAPH_BUNDLES, RadiographModels
from osteo_monai.screening.result import PersonFacts, RiskModelName, RiskOpinion
from osteo_monai.utils.probability import logit
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle
    from osteo_monai.risk.calibration import RiskCalibration

CUTOFF_RULE = "sensitivity_90"
"""Cut-off of the calibration from which a risk counts as raised: a screening test should miss few."""

_NAMES: Mapping[View, RiskModelName] = {
    View.CHEST_FRONTAL: "chest_frontal",
    View.LUMBAR_AP: "lumbar_ap",
    View.LUMBAR_LATERAL: "lumbar_lateral",
}
_VIRTUAL_ONLY = (
    "The network and its calibration were trained on virtual patients only: the risk was not validated on real "
    "radiographs."
)
_NOT_SHOWN = (
    "The network was not calibrated on real people, so that its risk of a real radiograph is not shown; "
    "--allow-unvalidated shows it."
)
_NOT_COMBINED = "The network was not validated on real radiographs: its output does not enter the combined model."
_UNCALIBRATED = "The output is shown as a score, without interval and cut-off."


@dataclass(frozen=True)
class Risks:
    """The risks of one study.

    Attributes:
        risk: primary output, of one view or fused.
        views: of each view, if two were fused.
        combined, clinical: of the models on patient facts; ``None`` with the reason in ``*_absent``.
    """

    risk: RiskOpinion
    views: tuple[RiskOpinion, ...]
    combined: RiskOpinion | None
    combined_absent: str | None
    clinical: RiskOpinion | None
    clinical_absent: str | None
    findings: tuple[Finding, ...]


def run_network(bundle: "Bundle", image: RadiographImage) -> tuple[float, RadiographImage]:
    """Return the output of a network, 0 to 1, and the image with its maps on the grid of the radiograph."""
    import torch
    from torch.nn import functional

    with warnings.catch_warnings():
        # Grad-CAM takes gradients of a feature map and not of the input, on purpose
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        output = bundle(torch.from_numpy(image.pixels)[None])
    maps: dict[str, NDArray[np.float32]] = {}
    for key, mode in (("heat", "bilinear"), ("attention", "nearest")):
        if key in output:
            frame = torch.as_tensor(output[key]).detach().float().cpu()[None]
            corners = None if mode == "nearest" else False
            resized = functional.interpolate(frame, size=image.pixels.shape, mode=mode, align_corners=corners)
            maps[key] = resized[0, 0].numpy()
    return float(output["pred"][0]), replace(image, heat=maps.get("heat"), attention=maps.get("attention"))


def check_validated(views: Collection[View], models: RadiographModels) -> list[Finding]:
    """Return a refusal unless the networks of all views were calibrated on real people."""
    try:
        known = models.calibrations(RADIOGRAPH_BUNDLES[next(iter(views))][0])
    except UnusableInputError:
        known = {}
    used = [known.get(_NAMES[view]) for view in views]
    validated = all(calibration is not None and not calibration.virtual for calibration in used)
    return [] if validated else [refusal("not_validated_on_real_people", _NOT_SHOWN)]


def estimate_risks(
    scores: Mapping[View, float], patient: PersonFacts, models: RadiographModels, validated: bool
) -> Risks:
    """Calibrate the scores of the views, fuse them, and apply the models on patient facts.

    Args:
        scores: network output of each view; at least one.
        patient: facts about the patient.
        models: for calibrations and models on patient facts.
        validated: whether the networks are valid for these radiographs; else there is no combined risk.
    """
    calibrations: Mapping[str, RiskCalibration] = {}
    reason = ""
    try:
        calibrations = models.calibrations(RADIOGRAPH_BUNDLES[next(iter(scores))][0])
    except UnusableInputError as error:
        reason = f"{error}. {_UNCALIBRATED}"
    views = tuple(_calibrated(_NAMES[view], score, calibrations) for view, score in scores.items())
    risk = views[0]
    if len(views) > 1:
        fused = float(expit(np.mean(logit(list(scores.values())))))
        risk = _calibrated("fused", fused, calibrations, _fused_spread([v.name for v in views], calibrations))
    findings: list[Finding] = []
    if risk.probability is None:
        no_entry = f"The calibration of the bundle has no entry '{risk.name}'. {_UNCALIBRATED}"
        findings.append(warning("risk_not_calibrated", reason or no_entry))
    elif risk.virtual:
        findings.append(warning("known_to_virtual_people_alone", _VIRTUAL_ONLY))
    is_chest = View.CHEST_FRONTAL in scores
    clinical, clinical_absent = _with_facts("clinical", patient, models, calibrations, None, is_chest)
    combined: RiskOpinion | None = None
    combined_absent: str | None = _NOT_COMBINED
    if validated or not is_chest:
        combined, combined_absent = _with_facts("combined", patient, models, calibrations, risk.score, is_chest)
    return Risks(
        risk=risk,
        views=views if len(views) > 1 else (),
        combined=combined,
        combined_absent=combined_absent,
        clinical=clinical,
        clinical_absent=clinical_absent,
        findings=tuple(findings),
    )


def _calibrated(
    name: RiskModelName, score: float, calibrations: "Mapping[str, RiskCalibration]", spread: float | None = None
) -> RiskOpinion:
    """Return the risk of a score; without a calibration only the score."""
    used = calibrations.get(name)
    if used is None:
        return RiskOpinion(name=name, score=score)
    risk = used.estimate(score, spread)
    cutoff = used.thresholds.get(CUTOFF_RULE)
    return RiskOpinion(
        name=name,
        score=score,
        probability=risk.probability,
        low=risk.low,
        high=risk.high,
        cutoff=cutoff,
        cutoff_rule=None if cutoff is None else CUTOFF_RULE,
        raised=None if cutoff is None else risk.probability >= cutoff,
        prevalence=used.prevalence,
        people=used.people,
        with_osteoporosis=used.with_osteoporosis,
        virtual=used.virtual,
    )


def _fused_spread(names: Sequence[str], calibrations: "Mapping[str, RiskCalibration]") -> float | None:
    """Return the SD of the mean of the views' logits for independent networks; ``None``: use the calibration's."""
    fused = calibrations.get("fused")
    of_views = [calibrations[name].network_sd for name in names if name in calibrations]
    spreads = [sd for sd in of_views if sd is not None]
    if fused is None or fused.network_sd is not None or len(spreads) < len(names):
        return None
    return math.hypot(*spreads) / len(spreads)


def _with_facts(
    name: Literal["clinical", "combined"],
    patient: PersonFacts,
    models: RadiographModels,
    calibrations: "Mapping[str, RiskCalibration]",
    score: float | None,
    is_chest: bool,
) -> tuple[RiskOpinion | None, str | None]:
    """Return the risk by a model on patient facts, or the reason why there is none."""
    if not is_chest:
        return None, "The model is for chest radiographs only."
    if reason := _missing_facts(patient):
        return None, reason
    try:
        model = models.risk_model(name)
        output = model.probability(patient.age_years, patient.sex, patient.height_cm, patient.weight_kg, score)
        spread = None
        network = calibrations.get(View.CHEST_FRONTAL)
        if score is not None and network is not None and network.network_sd is not None:
            # the uncertainty of the network, propagated through the model
            ends = expit(logit(score) + np.array([-1, 1]) * network.network_sd)
            low, high = (
                model.probability(patient.age_years, patient.sex, patient.height_cm, patient.weight_kg, float(end))
                for end in ends
            )
            spread = abs(float(logit(high) - logit(low))) / 2
    except (UnusableInputError, ValueError) as error:  # ValueError: a header may have a height of 0
        text = str(error)
        return None, f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
    return _calibrated(name, output, calibrations, spread), None


def _missing_facts(patient: PersonFacts) -> str | None:
    facts = {
        "age": patient.age_years,
        "sex": patient.sex,
        "height": patient.height_cm,
        "weight": patient.weight_kg,
    }
    missing = [name for name, value in facts.items() if value is None]
    if not missing:
        return None
    if len(missing) == len(facts):
        return f"{listed(facts).capitalize()} are unknown."
    return f"Unknown: {listed(missing)}. {listed(facts).capitalize()} are all required."
