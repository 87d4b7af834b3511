"""Screening of a CT: read, check, locate, outline, measure, compare.

A refusal stops the pipeline, so unusable data are not measured; located levels, acquisition and all findings until then
are kept in the result.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.domain import Finding
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.identifiers import valid_uid
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement.texture import check_texture_installed
from osteo_monai.screening.ct.levels import Column, locate_vertebrae
from osteo_monai.screening.ct.measuring import measure, with_texture
from osteo_monai.screening.ct.opinions import Opinions
from osteo_monai.screening.ct.steps import (
    Checked,
    Compared,
    Located,
    Measured,
    Outlined,
    check,
    check_image,
    compare,
    is_refused,
    locate,
    outline,
    shown_contrast,
)
from osteo_monai.screening.gates.study import order_findings, verdict
from osteo_monai.screening.images import ReportImages, Screening
from osteo_monai.screening.models import ScreeningModels, check_installed, load_models, models_used
from osteo_monai.screening.options import ScreeningOptions
from osteo_monai.screening.result import AcquisitionFacts, FrozenDict, LocatedLevel, ScreeningResult, SourceStudy
from osteo_monai.screening.source import files_at, source_of
from osteo_monai.screening.timing import OnStage, Stopwatch, no_progress
from osteo_monai.utils.threads import beside


def screen(
    path: Path,
    models: ScreeningModels | None = None,
    options: ScreeningOptions | None = None,
    device: str = "auto",
    study: str | None = None,
    on_stage: OnStage = no_progress,
    files: Sequence[Path] = (),
) -> Screening:
    """Screen one CT study. Nothing is written; see ``osteo_monai.screening_files`` for the output files.

    A study that cannot be read or that is refused gives a result with the reason and no exception.

    Args:
        path: a DICOM folder or file, or a NIfTI file.
        models: the bundles; loaded onto ``device`` if ``None``.
        options: defaults if ``None``.
        device: see :func:`load_models`.
        study: name of the study in the result; the name of the file or folder if ``None``.
        on_stage: called with the stage name when a stage begins.
        files: DICOM files of the study, if they are not all those at ``path``.

    Returns:
        The result, and images for the report (``None`` if the study could not be read).

    Raises:
        ModelMissingError: if a bundle or its weights are not installed; before the study is read.
        MissingExtraError: if texture is requested and its extra is not installed; before the study is read.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_ct, screen
        >>> study = make_ct(Path("ct"), seed=1, mean_density=75.0, matrix=128)
        >>> result = screen(study, device="cpu").result
        >>> result.verdict, str(result.status)
        ('accepted', 'osteoporosis')
    """
    path = Path(path)
    study = study if study is not None else path.resolve().name
    watch = Stopwatch(on_stage)
    options = options or ScreeningOptions()
    if options.texture:
        check_texture_installed()
    if models is None:
        check_installed()
    try:
        with watch.stage("reading"):
            volume = read_ct(path, keep_doubts=True, files=files)
    except (UnusableInputError, ScanRefusedError) as error:
        result = ScreeningResult.unread(study, error, watch.seconds)
        return Screening(result.model_copy(update={"source": source_of(files or files_at(path))}), None)
    if models is None:
        with watch.stage("loading the models"):
            models = load_models(device)
    result, images = screen_volume(volume, models, options, study, on_stage)
    return Screening(result.model_copy(update={"seconds": FrozenDict(watch.seconds | result.seconds)}), images)


def screen_volume(
    volume: CTVolume,
    models: ScreeningModels,
    options: ScreeningOptions | None = None,
    study: str = "",
    on_stage: OnStage = no_progress,
) -> tuple[ScreeningResult, ReportImages]:
    """Screen a volume that is already in memory.

    Args:
        volume: the checked CT.
        models: the bundles.
        options: defaults if ``None``.
        study: name of the study in the result.
        on_stage: called with the stage name when a stage begins.

    Returns:
        The result, refused or not, and the images on the canonical grid (``bodies`` is the label map of the levels,
        ``None`` if segmentation was not reached).
    """
    watch = Stopwatch(on_stage)
    steps = _run(volume, models, options or ScreeningOptions(), watch)
    return _result(steps, models, study, watch), _images(steps)


@dataclass(frozen=True)
class Steps:
    """The values of the steps that were reached."""

    checked: Checked
    located: Located | None = None
    outlined: Outlined | None = None
    measured: Measured | None = None
    compared: Compared | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all steps."""
        reached = (self.checked, self.located, self.outlined, self.measured, self.compared)
        return tuple(finding for step in reached if step is not None for finding in step.findings)

    @property
    def refused(self) -> bool:
        """Whether a finding is a refusal."""
        return is_refused(self.findings)


def _run(volume: CTVolume, models: ScreeningModels, options: ScreeningOptions, watch: Stopwatch) -> Steps:
    steps = _located(volume, models, options, watch)
    checked, located = steps.checked, steps.located
    if steps.refused or located is None:
        return steps
    with watch.stage("segmenting"):
        outlined = outline(checked, located, models.segmentation)
    steps = Steps(checked, located, outlined)
    if steps.refused:
        return steps
    with watch.stage("measuring"):
        measured = measure(checked, located, outlined)
    steps = Steps(checked, located, outlined, measured)
    if steps.refused:
        return steps
    if options.texture:
        with watch.stage("computing texture"):
            measured = with_texture(checked, outlined, measured)
    with watch.stage("comparing"):
        compared = compare(checked, outlined, measured, steps.findings, models.opinions)
    return Steps(checked, located, outlined, measured, compared)


def _located(volume: CTVolume, models: ScreeningModels, options: ScreeningOptions, watch: Stopwatch) -> Steps:
    """Check a volume and locate its vertebrae, at the same time if this process has several threads.

    A refusal by the header does not stop localisation: the levels in view are reported.
    """
    with ExitStack() as stack:
        with watch.stage("checking"):
            image = check_image(volume, options)
            checking = stack.enter_context(beside(lambda: check(image)))
            if not image.readable or (checking.done() and not checking.result().readable):
                return Steps(checking.result())
        with watch.stage("localising"):
            try:
                column = locate_vertebrae(volume, models.localisation, models.column)
            except Exception:
                if checking.result().readable:
                    raise
                column = Column((), (), None)
            checked = checking.result()
            return Steps(checked, locate(checked, column) if checked.readable else None)


def _result(steps: Steps, models: ScreeningModels, study: str, watch: Stopwatch) -> ScreeningResult:
    """Return the result; a refused study has located levels and findings, but no density."""
    column = steps.located.column if steps.located else Column((), (), None)
    opinions = steps.compared.opinions if steps.compared else Opinions()
    thresholds = steps.checked.options.thresholds
    result = ScreeningResult(
        study=study,
        verdict=verdict(steps.findings),
        findings=tuple(order_findings(steps.findings)),
        levels_found=_located_levels(column),
        bodies_above=len(column.above),
        thresholds=thresholds,
        opinions=opinions.given,
        opinions_absent=dict(opinions.absent),
        acquisition=_acquisition(steps.checked),
        source=_source(steps.checked.volume),
        models=models_used(models.localisation, models.column, models.segmentation, *opinions.used),
        seconds=watch.seconds,
    )
    measured = steps.measured
    if measured is not None:
        result = result.model_copy(update={"tissues": measured.tissues})
    if steps.refused or measured is None or measured.density is None:
        return result
    value, standard = measured.density.mg_cm3, measured.density.standard
    update: dict[str, object] = {
        "levels": measured.levels,
        "density": measured.density,
        "calibration": measured.calibration,
        "texture": measured.texture,
        "contrast": measured.contrast,
    }
    if measured.contrast is not None and measured.contrast.classified:
        value = measured.contrast.density.mg_cm3
    if standard == thresholds.standard:
        update["status"] = thresholds.status(value, standard)
        update["thresholds_source"] = thresholds.source
        update["distance_to_thresholds"] = FrozenDict(
            osteoporosis_below=value - thresholds.osteoporosis_below, normal_above=value - thresholds.normal_above
        )
    return result.model_copy(update=update)


def _located_levels(column: Column) -> tuple[LocatedLevel, ...]:
    return tuple(
        LocatedLevel(level=v.level, certainty=v.certainty, runner_up=v.runner_up, centre_mm=v.centre_mm)
        for v in column.vertebrae
    )


def _acquisition(checked: Checked) -> AcquisitionFacts:
    scan, volume = checked.volume.acquisition, checked.volume
    return AcquisitionFacts(
        kvp=checked.kvp,
        kernel=scan.kernel,
        slice_thickness_mm=scan.slice_thickness_mm,
        manufacturer=scan.manufacturer,
        model=scan.model,
        station=scan.station,
        acquired=scan.acquired,
        contrast=shown_contrast(scan, checked.options),
        series_description=scan.series_description if checked.options.header_text else None,
        age_years=scan.age_years,
        sex=scan.sex,
        shape=volume.original_shape,
        spacing_mm=volume.spacing,
    )


def _source(volume: CTVolume) -> SourceStudy | None:
    scan = volume.acquisition
    if not volume.frames:
        return None
    return SourceStudy(
        study_instance_uid=valid_uid(scan.study_instance_uid),
        series_instance_uid=valid_uid(scan.series_instance_uid),
        frame_of_reference_uid=valid_uid(scan.frame_of_reference_uid),
        study_date=scan.acquired,
    )


def _images(steps: Steps) -> ReportImages:
    volume = steps.checked.volume
    return ReportImages(
        volume.hu,
        volume.affine,
        bodies=steps.outlined.bodies if steps.outlined else None,
        regions=steps.measured.regions if steps.measured else None,
        levels=_located_levels(steps.located.column) if steps.located else (),
        activation=steps.compared.opinions.activation if steps.compared else None,
        source=volume,
    )
