"""The radiographs of one person to one result: read, choose the view, ask its bundle, make a risk of it, write.

What comes out is the risk of osteoporosis, never a density: a radiograph holds no scale to measure one by. AP and
lateral radiographs of the lumbar spine are fused by the mean of their logits; a chest radiograph is joined with age,
sex, height and weight where all four are known (Li et al. 2026).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Severity, Sex, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.radiograph import Radiograph, read_radiograph
from osteo_monai.screening.result import (
    ModelUsed,
    PersonFacts,
    RadiographAcquisition,
    RadiographRisk,
    RiskModelName,
    RiskOpinion,
    ScreeningResult,
    timed,
)
from osteo_monai.utils.devices import torch_device

if TYPE_CHECKING:
    from osteo_monai.risk import RiskCalibration, RiskModel
    from osteo_monai.screening.images import RadiographImage

CHEST_BUNDLE = "osteoporosis_classification_chest_xray"
LUMBAR_BUNDLE = "osteoporosis_classification_lumbar_xray"
BUNDLES: Mapping[View, tuple[str, tuple[str, ...]]] = {
    View.CHEST_FRONTAL: (CHEST_BUNDLE, ()),
    View.LUMBAR_AP: (LUMBAR_BUNDLE, ()),
    View.LUMBAR_LATERAL: (LUMBAR_BUNDLE, ("lateral",)),
}
"""Bundle and overlays for each view that can be screened."""

CUTOFF_RULE = "sensitivity_90"
"""Cut-off of the calibration that says whether a risk is raised: a screening test should miss few."""

MIN_AGE_YEARS = 18.0
"""As for CT: osteoporosis by a T-score is defined for adults."""

_LIMITS = {"age": (0.0, 120.0, "years"), "height": (30.0, 250.0, "cm"), "weight": (1.0, 400.0, "kg")}
"""Of what can be given; those of a data manifest."""

_SURE = 1e-6
"""0 and 1 have no logit; as in tables of predictions."""

_Found = TypeVar("_Found")

_VIRTUAL_ALONE = (
    "The network and its calibration know virtual people alone: the risk has not been shown to mean anything in a real "
    "radiograph."
)
_UNCALIBRATED = "The answer is shown as a score, without interval and cut-off."


@dataclass(frozen=True)
class RadiographOptions:
    """What a caller may say of the radiographs; it completes the header and goes before it.

    Attributes:
        view: what the radiographs show where their content cannot tell; another view is refused.
        age, sex, height, weight: of the person, in years, cm and kg.

    Raises:
        ValueError: naming what is not possible.
    """

    view: View | None = None
    age: float | None = None
    sex: Sex | None = None
    height: float | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.view is not None and self.view not in BUNDLES:
            raise ValueError(f"view must be {_listed(BUNDLES, 'or')}, got '{self.view}'")
        for name, (low, high, unit) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # not a number is outside as well
                raise ValueError(f"{name} must be between {low:g} and {high:g} {unit}, got {value:g}")

    @property
    def given(self) -> tuple[Literal["age", "sex", "height", "weight"], ...]:
        """Names of the facts of the person that the caller gave."""
        names: tuple[Literal["age", "sex", "height", "weight"], ...] = ("age", "sex", "height", "weight")
        return tuple(name for name in names if getattr(self, name) is not None)


class Bundle(Protocol):
    """A bundle ready to run: (1, rows, columns) in, its postprocessed dictionary with ``pred`` and maps out."""

    name: str
    version: str
    weights_sha256: str
    trained_on: str

    def __call__(self, image: Any, /) -> Mapping[str, Any]:
        """Run preprocessing, network and postprocessing of the bundle on ``image``."""


class RadiographModels:
    """The bundles for radiographs with what belongs to them, each loaded when a radiograph first asks for it.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` (CUDA where there is one).
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = device
        self._bundles: dict[View, Bundle] = {}
        self._calibrations: dict[str, Mapping[str, RiskCalibration] | UnusableInputError] = {}
        self._risk_models: dict[str, RiskModel | UnusableInputError] = {}

    def bundle(self, view: View) -> Bundle:
        """Return the bundle for a view.

        Raises:
            FileNotFoundError: the bundle or its weights are missing.
            ValueError: a CUDA device was asked for and there is none.
        """
        if view not in self._bundles:
            from osteo_monai.bundle import load_bundle

            name, overlays = BUNDLES[view]
            self._bundles[view] = load_bundle(name, torch_device(self.device), overlays)
        return self._bundles[view]

    def calibrations(self, bundle: str) -> "Mapping[str, RiskCalibration]":
        """Return the calibrations that stand beside the weights of a bundle.

        Raises:
            UnusableInputError: there are none, or they are damaged.
        """
        if bundle not in self._calibrations:
            from osteo_monai.risk import read_risk

            try:
                self._calibrations[bundle] = read_risk(_weights_folder(bundle))
            except UnusableInputError as error:
                self._calibrations[bundle] = error
        return _or_raise(self._calibrations[bundle])

    def risk_model(self, name: Literal["clinical", "combined"]) -> "RiskModel":
        """Return a model on the facts of a person, which stands beside the weights of the bundle for chests.

        Raises:
            UnusableInputError: it is missing or damaged.
        """
        if name not in self._risk_models:
            from osteo_monai.risk import load_risk_model

            try:
                self._risk_models[name] = load_risk_model(_weights_folder(CHEST_BUNDLE), name)
            except UnusableInputError as error:
                self._risk_models[name] = error
        return _or_raise(self._risk_models[name])


def screen_radiographs(
    files: Sequence[Path],
    output: Path,
    models: RadiographModels | None = None,
    options: RadiographOptions | None = None,
    device: str = "auto",
    study: str = "",
    on_stage: Callable[[str], None] = lambda stage: None,
) -> ScreeningResult:
    """Screen the radiographs of one study and write ``result.json``, ``report.html`` and ``heat_map.png``.

    The frontal chest is screened if there is one, else the lumbar spine, AP and lateral together where there are both.
    A study that cannot be read or that is refused gives a result with the reason, its JSON and its report, and no
    exception.

    Args:
        files: DICOM, PNG or JPEG files of one person and one study.
        output: folder for the results; made where it does not exist. Files of the same name are replaced, and the heat
            map of an earlier run is removed, so that none can outlive the result it belonged to.
        models: loaded onto ``device`` where ``None``.
        options: what the caller said.
        device: see ``RadiographModels``.
        study: name of the study in the result; the name of the first file where empty.
        on_stage: called with a word for each step as it begins.

    Raises:
        ValueError: if no file is given, or the device is not there.
    """
    from osteo_monai.reporting import write_heat_map, write_report
    from osteo_monai.screening.images import RadiographImages

    if not files:
        raise ValueError("files must name at least one radiograph, got none")
    options = options or RadiographOptions()
    study = study or files[0].name
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    picture = output / "heat_map.png"
    picture.unlink(missing_ok=True)
    seconds: dict[str, float] = {}
    run = _Screening(models or RadiographModels(device), options, study)
    for name, stage in (
        ("reading", lambda: run.read(files)),
        ("loading the models", run.load),
        ("judging", run.judge),
    ):
        on_stage(name)
        try:
            with timed(seconds, name):
                stage()
        except (UnusableInputError, ScanRefusedError) as error:
            known = tuple(finding for finding in run.findings if finding.severity is not Severity.REFUSAL)
            result = ScreeningResult.unread(study, error, seconds, "radiograph")
            result = result.model_copy(update={"findings": (*result.findings, *known)})
            break
    else:
        result = run.result().model_copy(update={"seconds": seconds})
    images = RadiographImages(tuple(run.images)) if run.images else None
    on_stage("reporting")
    with timed(seconds, "reporting"):
        if images is not None and result.radiograph is not None:
            write_heat_map(images, picture)
        write_report(result, images, output / "report.html")
    result.write(output / "result.json")
    return result


class _Screening:
    """The state of one run: what is known after each step."""

    def __init__(self, models: RadiographModels, options: RadiographOptions, study: str) -> None:
        self.models, self.options, self.study = models, options, study
        self.findings: list[Finding] = []
        self.read_from: dict[View, tuple[Path, Radiograph]] = {}
        self.person = PersonFacts()
        self.bundles: dict[View, Bundle] = {}
        self.images: list[RadiographImage] = []
        self.risk: RadiographRisk | None = None

    # steps

    def read(self, files: Sequence[Path]) -> None:
        """Read every file, choose the views, and judge the person."""
        from osteo_monai.screening.images import RadiographImage

        read: list[tuple[Path, Radiograph]] = []
        failed: list[UnusableInputError | ScanRefusedError] = []
        for file in files:
            try:
                read.append((file, _read(file, self.options.view)))
            except (UnusableInputError, ScanRefusedError) as error:
                failed.append(error)
        best: dict[View, tuple[Path, Radiograph]] = {}
        for one in sorted(read, key=lambda one: _preference(one[1])):
            best.setdefault(one[1].view, one)
        wanted = [View.CHEST_FRONTAL] if View.CHEST_FRONTAL in best else [View.LUMBAR_AP, View.LUMBAR_LATERAL]
        self.read_from = {view: best[view] for view in wanted if view in best}
        if not self.read_from:
            if read:
                self.images = [RadiographImage(r.view, r.pixels, spacing_mm=r.spacing_mm) for _, r in read[:2]]
                raise ScanRefusedError(_no_view([radiograph for _, radiograph in read]))
            refused = [reason for reason in failed if isinstance(reason, ScanRefusedError)]
            raise (refused or failed)[0]
        several = len(self.read_from) > 1
        for view, (_, radiograph) in self.read_from.items():
            prefix = f"{_capitalised(view)}: " if several else ""
            self.findings += [f.model_copy(update={"message": prefix + f.message}) for f in radiograph.findings]
            self.images.append(RadiographImage(view, radiograph.pixels, spacing_mm=radiograph.spacing_mm))
        used = [radiograph for _, radiograph in self.read_from.values()]
        left = [_words(radiograph.view) for _, radiograph in read if not any(radiograph is one for one in used)]
        if left:
            message = (
                f"Of {len(files)} radiographs {len(used)} {'were' if several else 'was'} used "
                f"({_listed(map(_words, self.read_from))}); not used: {', '.join(left)}."
            )
            self._add("view_chosen", Severity.INFO, message)
        for reason in failed:
            self._add("radiograph_left_out", Severity.WARNING, f"A radiograph of the study was not used: {reason}")
        self._meet(used)

    def load(self) -> None:
        """Load the bundle of each view; a view whose model is not installed is left out if another one remains."""
        for view in self.read_from:
            try:
                self.bundles[view] = self.models.bundle(view)
            except FileNotFoundError:
                continue
        absent = [view for view in self.read_from if view not in self.bundles]
        for view in absent:
            message = (
                f"The model for {_words(view)} radiographs is not installed: "
                f"the bundle {BUNDLES[view][0]} or its weights are missing."
            )
            self._add("model_not_installed", Severity.WARNING if self.bundles else Severity.REFUSAL, message)
        self._stop_if_refused()
        for view in absent:
            del self.read_from[view]
        self.images = [image for image in self.images if image.view in self.bundles]

    def judge(self) -> None:
        """Ask the networks, and make a risk of what they answer."""
        scores: dict[View, float] = {}
        for place, (view, bundle) in enumerate(self.bundles.items()):
            scores[view], self.images[place] = _ask(bundle, self.images[place])
        calibrations: Mapping[str, RiskCalibration] = {}
        reason = ""
        try:
            calibrations = self.models.calibrations(BUNDLES[next(iter(scores))][0])
        except UnusableInputError as error:
            reason = f"{error}. {_UNCALIBRATED}"
        views = [_opinion(_model_name(view), p, calibrations) for view, p in scores.items()]
        risk = views[0]
        if len(views) > 1:
            fused = _sigmoid(sum(map(_logit, scores.values())) / len(scores))
            risk = _opinion("fused", fused, calibrations, _fused_spread([v.name for v in views], calibrations))
        if risk.probability is None:
            entry = f"The calibration of the bundle has no entry '{risk.name}'. {_UNCALIBRATED}"
            self._add("risk_not_calibrated", Severity.WARNING, reason or entry)
        elif risk.virtual:
            self._add("known_to_virtual_people_alone", Severity.WARNING, _VIRTUAL_ALONE)
        clinical, clinical_absent = self._with_facts("clinical", calibrations, None)
        combined, combined_absent = self._with_facts("combined", calibrations, risk.score)
        self.risk = RadiographRisk(
            radiographs=tuple(_acquisition(*self.read_from[view]) for view in scores),
            risk=risk,
            views=tuple(views) if len(views) > 1 else (),
            combined=combined,
            combined_absent=combined_absent,
            clinical=clinical,
            clinical_absent=clinical_absent,
            person=self.person,
            trained_on=next(iter(self.bundles.values())).trained_on or "not stated",
        )

    def result(self) -> ScreeningResult:
        """Return the result of a study that was judged."""
        warned = any(f.severity is Severity.WARNING for f in self.findings)
        return ScreeningResult(
            study=self.study,
            modality="radiograph",
            verdict="accepted_with_warnings" if warned else "accepted",
            findings=tuple(self.findings),
            radiograph=self.risk,
            models=tuple(
                ModelUsed(bundle=b.name, version=b.version, weights_sha256=b.weights_sha256)
                for b in self.bundles.values()
            ),
        )

    # parts of the steps

    def _add(self, code: str, severity: Severity, message: str) -> None:
        self.findings.append(Finding(code=code, severity=severity, message=message))

    def _stop_if_refused(self) -> None:
        if refusals := [f for f in self.findings if f.severity is Severity.REFUSAL]:
            raise ScanRefusedError(*refusals)

    def _meet(self, radiographs: Sequence[Radiograph]) -> None:
        """Join the header's facts of the person with those that were given, and judge them."""
        header = {"age": "age_years", "sex": "sex", "height": "height_cm", "weight": "weight_kg"}
        known: dict[str, Any] = {}
        for name, field in header.items():
            # height and weight come with readers that keep them
            told = next((v for r in radiographs if (v := getattr(r.facts, field, None)) is not None), None)
            given = getattr(self.options, name)
            known[field] = told if given is None else given
            if given is None or told is None:
                continue
            apart = given != told if name == "sex" else abs(given - told) > 1
            if apart:
                self._add(
                    "fact_contradicted", Severity.WARNING, f"The given {name} is not that of the header; it is used."
                )
        self.person = PersonFacts(**known, given=self.options.given)
        age = self.person.age_years
        if age is None:
            self._add("age_unknown", Severity.INFO, "The age is unknown: a minor cannot be excluded.")
        elif age < MIN_AGE_YEARS:
            message = f"The person is {age:g} years old: the risk is made for adults of 18 years and above only."
            self._add("age_below_18", Severity.REFUSAL, message)
        self._stop_if_refused()

    def _with_facts(
        self,
        name: Literal["clinical", "combined"],
        calibrations: "Mapping[str, RiskCalibration]",
        score: float | None,
    ) -> tuple[RiskOpinion | None, str | None]:
        """Return what a model on the facts of the person gives, or why it gives nothing."""
        person = self.person
        if View.CHEST_FRONTAL not in self.bundles:
            return None, "It was made for chest radiographs only."
        facts = {
            "age": person.age_years,
            "sex": person.sex,
            "height": person.height_cm,
            "weight": person.weight_kg,
        }
        if missing := [word for word, value in facts.items() if value is None]:
            if len(missing) == len(facts):
                return None, f"{_listed(facts).capitalize()} are not known."
            return None, f"Not known: {_listed(missing)}. {_listed(facts).capitalize()} are all needed."
        try:
            model = self.models.risk_model(name)
        except UnusableInputError as error:
            return None, _sentence(str(error))

        def ask(risk: float | None) -> float:
            return model.probability(person.age_years, person.sex, person.height_cm, person.weight_kg, risk)

        try:
            answer = ask(score)
        except ValueError as error:  # a header may hold a height of 0
            return None, _sentence(str(error))
        spread = None
        network = calibrations.get(View.CHEST_FRONTAL)
        if score is not None and network is not None and network.network_sd is not None:
            # how far the network's own uncertainty carries through the trees
            ends = (_sigmoid(_logit(score) + step * network.network_sd) for step in (-1, 1))
            low, high = (_logit(ask(end)) for end in ends)
            spread = abs(high - low) / 2
        return _opinion(name, answer, calibrations, spread), None


def _read(file: Path, wanted: View | None) -> Radiograph:
    """Read one file; the word of the caller counts where neither header nor picture says what it shows."""
    radiograph = read_radiograph(file)
    if wanted is None or radiograph.view is wanted:
        return radiograph
    if radiograph.view is View.UNKNOWN:
        return read_radiograph(file, wanted)
    message = f"The radiograph shows a {_words(radiograph.view)} view; {_words(wanted)} was named."
    raise ScanRefusedError(Finding(code="other_view", severity=Severity.REFUSAL, message=message))


def _preference(radiograph: Radiograph) -> tuple[bool, bool, int]:
    """Order among radiographs of one view, smallest first: no secondary capture, PA before AP, most pixels."""
    captured = any(finding.code == "secondary_capture" for finding in radiograph.findings)
    return captured, radiograph.facts.view_position != "PA", -radiograph.pixels.size


def _no_view(radiographs: Sequence[Radiograph]) -> Finding:
    """Refuse radiographs none of which shows what the bundles were made for."""
    needed = _listed(map(_words, BUNDLES), "or")
    shown = list(dict.fromkeys(r.view for r in radiographs if r.view is not View.UNKNOWN))
    if shown:
        message = f"The study shows {_listed(map(_words, shown))}; {needed} is needed."
        return Finding(code="other_view", severity=Severity.REFUSAL, message=message)
    parts = list(dict.fromkeys(r.facts.body_part for r in radiographs if r.facts.body_part))
    said = f" (the header says: {', '.join(parts)})" if parts else ""
    message = f"Nothing shows whether the picture is a radiograph of {needed}{said}; if it is, name it with --view."
    return Finding(code="view_unknown", severity=Severity.REFUSAL, message=message)


def _ask(bundle: Bundle, image: "RadiographImage") -> tuple[float, "RadiographImage"]:
    """Return what the network answers, 0 to 1, and the image with its maps on the grid of the radiograph."""
    from dataclasses import replace

    import torch
    from torch.nn import functional

    shape = image.pixels.shape
    with warnings.catch_warnings():
        # Grad-CAM asks for gradients of a map and not of the input, which is meant so
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        answer = bundle(torch.from_numpy(image.pixels)[None])
    maps: dict[str, NDArray[np.float32]] = {}
    for key, mode in (("heat", "bilinear"), ("attention", "nearest")):
        if key in answer:
            frame = torch.as_tensor(answer[key]).detach().float().cpu()[None]
            flat = {} if mode == "nearest" else {"align_corners": False}
            maps[key] = functional.interpolate(frame, size=shape, mode=mode, **flat)[0, 0].numpy()
    return float(answer["pred"][0]), replace(image, heat=maps.get("heat"), attention=maps.get("attention"))


def _opinion(
    name: RiskModelName, score: float, calibrations: "Mapping[str, RiskCalibration]", spread: float | None = None
) -> RiskOpinion:
    """Return what a model's answer means, as far as it is calibrated."""
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
    """SD of the mean of the views' logits, their networks being independent; ``None`` leaves the calibration's own."""
    fused = calibrations.get("fused")
    known = [calibrations[name].network_sd for name in names if name in calibrations]
    spreads = [sd for sd in known if sd is not None]
    if fused is None or fused.network_sd is not None or len(spreads) < len(names):
        return None
    return math.hypot(*spreads) / len(spreads)


def _acquisition(file: Path, radiograph: Radiograph) -> RadiographAcquisition:
    facts = radiograph.facts
    return RadiographAcquisition(
        view=cast(Any, radiograph.view.value),
        source=file.name,
        source_format=facts.source_format,
        rows=radiograph.pixels.shape[0],
        columns=radiograph.pixels.shape[1],
        spacing_mm=radiograph.spacing_mm,
        modality=facts.modality,
        view_position=facts.view_position,
        manufacturer=facts.manufacturer,
        model=facts.model,
        kvp=facts.kvp,
        exposure_index=facts.exposure_index,
        deviation_index=facts.deviation_index,
    )


def _model_name(view: View) -> RiskModelName:
    return cast(RiskModelName, view.value)


def _weights_folder(bundle: str) -> Path:
    from osteo_monai.bundle import find_bundle

    return find_bundle(bundle) / "models"


def _or_raise(found: _Found | UnusableInputError) -> _Found:
    if isinstance(found, UnusableInputError):
        raise found
    return found


def _logit(p: float) -> float:
    p = min(max(p, _SURE), 1 - _SURE)
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _words(view: View) -> str:
    return view.replace("_", " ").replace(" ap", " AP").replace("chest frontal", "frontal chest")


def _capitalised(view: View) -> str:
    words = _words(view)
    return words[0].upper() + words[1:]


def _listed(words: Any, last: str = "and") -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *first, final = words
    return f"{', '.join(first)} {last} {final}" if first else str(final)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")
