"""Screen the DICOM files of one study and write all results; for programs that receive and send studies."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from osteo_monai.dicom_results.further import FurtherFiles
from osteo_monai.dicom_results.options import DicomOptions, Outputs
from osteo_monai.dicom_results.sentences import one_sentence
from osteo_monai.dicom_results.written import WrittenObject
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.images import Screening
from osteo_monai.screening.models import RadiographModels, ScreeningModels, load_models
from osteo_monai.screening.names import DICOM_FOLDER
from osteo_monai.screening.options import RadiographOptions, ScreeningOptions
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.screening.source import study_files
from osteo_monai.screening.studies import Kind, find_screenable
from osteo_monai.screening_files import screen_to_folder, write_screening

__all__ = ["Outcome", "ScreenedStudy", "StudyModels", "StudyOptions", "screen_study"]

Outcome: TypeAlias = Literal["measured", "refused", "failed"]
"""``measured``: there is a density or a risk. ``refused``: the study was read and a reason is given why it is not
measured; the work is done. ``failed``: the files cannot be read; another try with the same files fails too."""


@dataclass(frozen=True)
class StudyOptions:
    """Options of :func:`screen_study`.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``, for models that are not given.
        ct: of CT studies.
        radiographs: of radiographs.
        label_map: write the segmentation as LABELMAP instead of BINARY.
        secondary_capture: write the secondary capture.
        created: date and time of the objects; now if ``None``. With the same value, the same input and the same
            software, the files are equal byte by byte.
    """

    device: str = "auto"
    ct: ScreeningOptions = field(default_factory=ScreeningOptions)
    radiographs: RadiographOptions = field(default_factory=RadiographOptions)
    label_map: bool = False
    secondary_capture: bool = True
    created: datetime | None = None


@dataclass
class StudyModels:
    """Models that many studies share; loaded when first needed."""

    device: str = "auto"
    ct: ScreeningModels | None = None
    radiographs: RadiographModels | None = None

    def load(self, kind: Kind) -> None:
        """Load the models of one kind of study, unless they are loaded.

        Raises:
            ModelMissingError: if a bundle for CT is not installed.
        """
        if kind == "ct" and self.ct is None:
            self.ct = load_models(self.device)
        if kind == "radiograph" and self.radiographs is None:
            self.radiographs = RadiographModels(self.device)


@dataclass(frozen=True)
class ScreenedStudy:
    """What was done with one study.

    Attributes:
        outcome: ``measured``, ``refused`` or ``failed``.
        objects: DICOM objects to send, in this order (SEG before the SR that refers to it). A refused study has a
            report of the refusal; a study without readable identity has none.
        summary: one line without identifiers, such as a density or the reason of a refusal.
        result: all of it; also in ``result.json`` of the output folder.
    """

    outcome: Outcome
    objects: tuple[WrittenObject, ...]
    summary: str
    result: ScreeningResult


def screen_study(
    folder: Path, output: Path, options: StudyOptions | None = None, models: StudyModels | None = None
) -> ScreenedStudy:
    """Screen the study whose DICOM files are in ``folder``, and write all results to ``output``.

    Args:
        folder: the DICOM files of one study; other objects of the study may be among them.
        output: folder for the results; made if missing. Files of an earlier run are replaced. The DICOM objects are in
            its folder ``dicom``, beside ``result.json`` and ``report.html``.
        options: defaults if ``None``.
        models: for many studies in one process; loaded if ``None``.

    Raises:
        ModelMissingError: if a bundle for CT is not installed. The study is not at fault.
        OSError: if the results cannot be written, such as on a full disk. A later try may succeed.
        Exception: any other error of writing the DICOM objects; ``result.json`` is written.
    """
    options = options or StudyOptions()
    models = models or StudyModels(options.device)
    written = DicomOptions(options.label_map, options.secondary_capture, options.created)
    try:
        studies = find_screenable(folder)
        if len(studies) > 1:
            raise UnusableInputError(f"The folder must hold one study, got {len(studies)}.")
        study = studies[0]
    except UnusableInputError as error:
        result = write_screening(Screening(ScreeningResult.unread("study", error, {}), None), output)
        return _screened(result, ())
    models.load(study.kind)
    further = FurtherFiles(Outputs(dicom=written), study_files(study))
    result = screen_to_folder(
        study,
        output,
        name="study",
        device=options.device,
        options=options.ct,
        models=models.ct,
        radiograph_options=options.radiographs,
        radiograph_models=models.radiographs,
        further=further,
    )
    if further.error is not None:
        raise further.error
    objects = (replace(item, path=output / DICOM_FOLDER / item.path.name) for item in further.written)
    return _screened(result, tuple(objects))


def _screened(result: ScreeningResult, objects: tuple[WrittenObject, ...]) -> ScreenedStudy:
    outcome: dict[str, Outcome] = {"refused": "refused", "unusable": "failed"}
    return ScreenedStudy(outcome.get(result.verdict, "measured"), objects, one_sentence(result), result)
