"""Reading of the radiographs of one study, choice of the views to evaluate, and the facts about the patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from osteo_monai.domain import Finding, Sex, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.radiograph import Radiograph, read_radiograph
from osteo_monai.screening.gates.gate import info, refusal, run_gates, warning
from osteo_monai.screening.gates.person import RADIOGRAPH_PATIENT_GATES, PatientFacts
from osteo_monai.screening.images import RadiographImage
from osteo_monai.screening.options import SCREENED_VIEWS, RadiographOptions
from osteo_monai.screening.result import PersonFacts
from osteo_monai.utils.text import listed

Source: TypeAlias = tuple[Path, Radiograph]


@dataclass(frozen=True, eq=False)
class Selected:
    """The radiographs to evaluate.

    Attributes:
        radiographs: file and radiograph of each view; empty if no view can be evaluated.
        images: for the report.
        findings: of reading and selection.
    """

    radiographs: Mapping[View, Source]
    images: tuple[RadiographImage, ...]
    findings: tuple[Finding, ...]


def select_radiographs(files: Sequence[Path], view: View | None = None) -> Selected:
    """Read all files and choose the frontal chest, else lumbar AP and lateral.

    Args:
        files: radiographs of one patient and one study.
        view: view if neither header nor image identifies it; a radiograph of another view is refused.

    Raises:
        UnusableInputError, ScanRefusedError: if no file could be read.
    """
    read: list[Source] = []
    failed: list[UnusableInputError | ScanRefusedError] = []
    for file in files:
        try:
            read.append((file, _read(file, view)))
        except (UnusableInputError, ScanRefusedError) as error:
            failed.append(error)
    if not read:
        refused = [error for error in failed if isinstance(error, ScanRefusedError)]
        raise (refused or failed)[0]
    best: dict[View, Source] = {}
    for source in sorted(read, key=lambda source: _preference(source[1])):
        best.setdefault(source[1].view, source)
    wanted = [View.CHEST_FRONTAL] if View.CHEST_FRONTAL in best else [View.LUMBAR_AP, View.LUMBAR_LATERAL]
    chosen = {view: best[view] for view in wanted if view in best}
    if not chosen:
        shown = tuple(_image(radiograph) for _, radiograph in read[:2])
        return Selected({}, shown, (_no_view([radiograph for _, radiograph in read]),))
    used = [radiograph for _, radiograph in chosen.values()]
    unused = [radiograph.view for _, radiograph in read if not any(radiograph is kept for kept in used)]
    findings = _findings_of_reading(chosen)
    if unused:
        message = (
            f"Of {len(files)} radiographs {len(used)} {'were' if len(used) > 1 else 'was'} used "
            f"({listed(map(view_label, chosen))}); not used: {', '.join(map(view_label, unused))}."
        )
        findings.append(info("view_chosen", message))
    findings += [warning("radiograph_left_out", f"A radiograph of the study was not used: {e}") for e in failed]
    return Selected(chosen, tuple(map(_image, used)), tuple(findings))


def _read(file: Path, view: View | None) -> Radiograph:
    """Read one file; ``view`` is used if neither header nor image identifies the view."""
    radiograph = read_radiograph(file)
    if view is None or radiograph.view is view:
        return radiograph
    if radiograph.view is View.UNKNOWN:
        return read_radiograph(file, view)
    message = f"View must be {view_label(view)} as requested, got {view_label(radiograph.view)}."
    raise ScanRefusedError(refusal("other_view", message))


def _image(radiograph: Radiograph) -> RadiographImage:
    return RadiographImage(radiograph.view, radiograph.pixels, spacing_mm=radiograph.spacing_mm)


def _findings_of_reading(chosen: Mapping[View, Source]) -> list[Finding]:
    """Return the findings of the chosen radiographs, each with its view if there are several."""
    findings: list[Finding] = []
    for view, (_, radiograph) in chosen.items():
        label = view_label(view)
        prefix = f"{label[0].upper()}{label[1:]}: " if len(chosen) > 1 else ""
        findings += [f.model_copy(update={"message": prefix + f.message}) for f in radiograph.findings]
    return findings


def _preference(radiograph: Radiograph) -> tuple[bool, bool, int]:
    """Order among radiographs of one view, smallest first: no secondary capture, PA before AP, most pixels."""
    captured = any(finding.code == "secondary_capture" for finding in radiograph.findings)
    return captured, radiograph.facts.view_position != "PA", -radiograph.pixels.size


def _no_view(radiographs: Sequence[Radiograph]) -> Finding:
    """Refuse radiographs without a view that has a model."""
    needed = listed(map(view_label, SCREENED_VIEWS), "or")
    shown = list(dict.fromkeys(r.view for r in radiographs if r.view is not View.UNKNOWN))
    if shown:
        return refusal("other_view", f"View must be {needed}, got {listed(map(view_label, shown))}.")
    parts = list(dict.fromkeys(r.facts.body_part for r in radiographs if r.facts.body_part))
    header = f" (body part in the header: {', '.join(parts)})" if parts else ""
    message = f"Neither header nor image shows whether the view is {needed}{header}; if it is, name it with --view."
    return refusal("view_unknown", message)


def view_label(view: View) -> str:
    """Return a view as text, such as ``frontal chest`` or ``lumbar AP``."""
    return view.replace("_", " ").replace(" ap", " AP").replace("chest frontal", "frontal chest")


# --- patient ------------------------------------------------------------------------------------------------------


def patient_facts(
    radiographs: Sequence[Radiograph], options: RadiographOptions
) -> tuple[PersonFacts, tuple[Finding, ...]]:
    """Join the patient facts of header and options, which override the header, and check them."""
    age, sex = _first(radiographs, "age_years"), _first(radiographs, "sex")
    height, weight = _first(radiographs, "height_cm"), _first(radiographs, "weight_kg")
    pairs = {
        "age": (options.age, age),
        "sex": (options.sex, sex),
        "height": (options.height, height),
        "weight": (options.weight, weight),
    }
    findings = [
        warning("fact_contradicted", f"The given {name} differs from the header; the given value is used.")
        for name, (given, header) in pairs.items()
        if _contradict(given, header)
    ]
    values = {name: header if given is None else given for name, (given, header) in pairs.items()}
    patient = PersonFacts.model_validate(
        {
            "age_years": values["age"],
            "sex": values["sex"],
            "height_cm": values["height"],
            "weight_kg": values["weight"],
            "given": options.given,
        }
    )
    findings += run_gates(RADIOGRAPH_PATIENT_GATES, PatientFacts(patient.age_years, patient.sex))
    return patient, tuple(findings)


def _first(radiographs: Sequence[Radiograph], name: str) -> float | Sex | None:
    """Return a patient fact of the first header that has it."""
    return next((value for r in radiographs if (value := getattr(r.facts, name, None)) is not None), None)


def _contradict(given: float | Sex | None, header: float | Sex | None) -> bool:
    """Whether two values of one fact differ, numbers by more than 1 (year, cm or kg)."""
    if given is None or header is None:
        return False
    if isinstance(given, Sex) or isinstance(header, Sex):
        return given != header
    return abs(given - header) > 1
