"""Screening of the radiographs of one patient: read, select views, run their networks, estimate risks.

The output is a risk of osteoporosis and not a density: a radiograph has no scale for it. AP and lateral radiographs of
the lumbar spine are fused by the mean of their logits; a chest radiograph is combined with age, sex, height and weight
if all four are known (Li et al. 2026).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from osteo_monai.bundle import install_command
from osteo_monai.domain import Finding, Severity, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.identifiers import read_identifiers
from osteo_monai.imaging.radiograph import Radiograph
from osteo_monai.screening.gates.gate import refusal, warning
from osteo_monai.screening.gates.study import verdict
from osteo_monai.screening.images import RadiographImage, RadiographImages, Screening
from osteo_monai.screening.models import RADIOGRAPH_BUNDLES, RadiographModels, models_used
from osteo_monai.screening.options import RadiographOptions
from osteo_monai.screening.radiographs.risk import check_validated, estimate_risks, run_network
from osteo_monai.screening.radiographs.select import patient_facts, select_radiographs, view_label
from osteo_monai.screening.result import RadiographAcquisition, RadiographRisk, ScreeningResult
from osteo_monai.screening.source import source_of
from osteo_monai.screening.timing import OnStage, Stopwatch, no_progress

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle


def screen_radiographs(
    files: Sequence[Path],
    models: RadiographModels | None = None,
    options: RadiographOptions | None = None,
    device: str = "auto",
    study: str = "",
    on_stage: OnStage = no_progress,
) -> Screening:
    """Screen the radiographs of one study. Nothing is written; see ``osteo_monai.screening_files``.

    The frontal chest is evaluated if there is one, else the lumbar spine, AP and lateral together if both exist. A
    study that cannot be read or that is refused gives a result with the reason and no exception.

    Args:
        files: DICOM, PNG or JPEG files of one patient and one study.
        models: loaded onto ``device`` if ``None``.
        options: defaults if ``None``.
        device: see ``RadiographModels``.
        study: name of the study in the result; the name of the first file if empty.
        on_stage: called with the stage name when a stage begins.

    Returns:
        The result, and images for the report (``None`` if no file could be read).

    Raises:
        ValueError: if no file is given, or the device is not available.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_radiograph, screen_radiographs
        >>> file = make_radiograph(Path("radiograph"), seed=1, rows=512)
        >>> screen_radiographs([file], device="cpu").result.verdict
        'accepted_with_warnings'
    """
    if not files:
        raise ValueError("files must name at least one radiograph, got none")
    models, options = models or RadiographModels(device), options or RadiographOptions()
    study = study or files[0].name
    watch = Stopwatch(on_stage)
    try:
        with watch.stage("reading"):
            selected = select_radiographs(files, options.view)
            sources = selected.radiographs
            patient, of_patient = patient_facts([radiograph for _, radiograph in sources.values()], options)
    except (UnusableInputError, ScanRefusedError) as error:
        unread = ScreeningResult.unread(study, error, watch.seconds, "radiograph")
        return Screening(unread.model_copy(update={"source": source_of(files)}), None)
    images = selected.images
    findings = (*selected.findings, *of_patient) if sources else selected.findings
    if verdict(findings) == "refused":
        return _refused(study, findings, images, watch, files)
    with watch.stage("loading the models"):
        bundles, of_loading = _load_bundles(models, tuple(sources))
    unvalidated = [] if _all_virtual(sources) else check_validated(bundles, models) if bundles else []
    findings = (*findings, *of_loading, *(() if options.allow_unvalidated else unvalidated))
    if verdict(findings) == "refused":
        return _refused(study, findings, images, watch, files)
    with watch.stage("judging"):
        runs = {view: run_network(bundle, _of_view(images, view)) for view, bundle in bundles.items()}
        scores = {view: score for view, (score, _) in runs.items()}
        risks = estimate_risks(scores, patient, models, validated=not unvalidated)
    findings = (*findings, *risks.findings)
    result = ScreeningResult(
        study=study,
        modality="radiograph",
        verdict=verdict(findings),
        findings=findings,
        radiograph=RadiographRisk(
            radiographs=tuple(_acquisition(*sources[view]) for view in runs),
            risk=risks.risk,
            views=risks.views,
            combined=risks.combined,
            combined_absent=risks.combined_absent,
            clinical=risks.clinical,
            clinical_absent=risks.clinical_absent,
            person=patient,
            trained_on=next(iter(bundles.values())).trained_on or "not stated",
        ),
        source=source_of([file for file, _ in sources.values()]),
        models=models_used(*bundles.values()),
        seconds=watch.seconds,
    )
    return Screening(result, RadiographImages(tuple(image for _, image in runs.values())))


def _all_virtual(sources: Mapping[View, tuple[Path, Radiograph]]) -> bool:
    """Return whether all radiographs show virtual patients, on whom the networks were calibrated."""
    return all(radiograph.facts.virtual for _, radiograph in sources.values())


def _refused(
    study: str,
    findings: Sequence[Finding],
    images: tuple[RadiographImage, ...],
    watch: Stopwatch,
    files: Sequence[Path],
) -> Screening:
    refusals_first = sorted(findings, key=lambda f: f.severity is not Severity.REFUSAL)
    result = ScreeningResult(
        study=study,
        modality="radiograph",
        verdict="refused",
        findings=tuple(refusals_first),
        source=source_of(files),
        seconds=watch.seconds,
    )
    return Screening(result, RadiographImages(images))


def _load_bundles(
    models: RadiographModels, views: Sequence[View]
) -> "tuple[Mapping[View, Bundle], tuple[Finding, ...]]":
    """Load the bundle of each view; a view without an installed model is left out if another view remains."""
    bundles: dict[View, Bundle] = {}
    for view in views:
        try:
            bundles[view] = models.bundle(view)
        except FileNotFoundError:  # reported below; its message may contain folders of this machine
            continue
    make = warning if bundles else refusal
    findings = tuple(
        make(
            "model_not_installed",
            f"The model for {view_label(view)} radiographs is not installed: the bundle {RADIOGRAPH_BUNDLES[view][0]} "
            f"or its weights are missing; {install_command(RADIOGRAPH_BUNDLES[view][0])}.",
        )
        for view in views
        if view not in bundles
    )
    return bundles, findings


def _of_view(images: Sequence[RadiographImage], view: View) -> RadiographImage:
    return next(image for image in images if image.view == view)


def _acquisition(file: Path, radiograph: Radiograph) -> RadiographAcquisition:
    facts = radiograph.facts
    identifiers = read_identifiers([file])
    return RadiographAcquisition(
        view=radiograph.view,
        source=file.name,
        source_format=facts.source_format,
        sop_instance_uid=identifiers.sop_instance_uid,
        series_instance_uid=identifiers.series_instance_uid,
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
