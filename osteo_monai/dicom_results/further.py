"""Files of a screening for other programs: DICOM objects, NRRD for 3D Slicer, and FHIR."""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from osteo_monai.dicom_results.options import DicomOptions, FhirRelease, Outputs
from osteo_monai.dicom_results.written import WrittenObject
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.images import ReportImages, Screening
from osteo_monai.screening.names import DICOM_FOLDER, FHIR_FILE, SLICER_FILES
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.utils.files import write_json

__all__ = ["FurtherFiles"]

logger = logging.getLogger(__name__)


@dataclass
class FurtherFiles:
    """Write the further files of one screening; called by ``write_screening``.

    Attributes:
        outputs: which files.
        files: of the study, from which identity is read when the objects are written.
        written: the DICOM objects, after the call, in the order in which they are to be sent.
        error: the first error of writing other than missing identity.
    """

    outputs: Outputs
    files: Sequence[Path]
    written: list[WrittenObject] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, screening: Screening, folder: Path) -> ScreeningResult:
        """Write the files into a folder and return the result, with a warning for each kind that is missing."""
        result, images = screening
        for name, write in self._steps():
            try:
                write(Screening(result, images), folder)
            except UnusableInputError as error:
                result = result.warned("dicom_not_written", f"{name} were not written: {error}")
            except Exception as error:  # no error of a further file may lose the measured values
                self.error = self.error or error
                logger.warning("%s were not written: %s", name, type(error).__name__)
                logger.debug("traceback", exc_info=error)
                result = result.warned("output_failed", f"{name} could not be written ({_reason(error)}).")
        return result

    def _steps(self) -> list[tuple[str, Callable[[Screening, Path], None]]]:
        dicom, fhir = self.outputs.dicom, self.outputs.fhir
        steps: list[tuple[str, Callable[[Screening, Path], None]]] = []
        if dicom is not None:
            steps.append(("DICOM results", lambda screening, folder: self._dicom(screening, folder, dicom)))
        if self.outputs.slicer:
            steps.append(("Files for 3D Slicer", _slicer))
        if fhir is not None:
            steps.append(("FHIR resources", lambda screening, folder: self._fhir(screening, folder, fhir)))
        return steps

    def _dicom(self, screening: Screening, folder: Path, options: DicomOptions) -> None:
        from osteo_monai.dicom_results.write import write_dicom_results

        target = folder / DICOM_FOLDER
        try:
            self.written = write_dicom_results(screening, self.files, target, options)
        except BaseException:  # no part of a set of objects that refer to each other
            shutil.rmtree(target, ignore_errors=True)
            raise

    def _fhir(self, screening: Screening, folder: Path, release: FhirRelease) -> None:
        from osteo_monai.dicom_results.fhir import fhir_bundle
        from osteo_monai.dicom_results.objects import quiet
        from osteo_monai.dicom_results.source import read_source

        patient, accession = "", ""
        if screening.result.source is not None:
            images = screening.images
            frames = images.source.frames[:1] if isinstance(images, ReportImages) and images.source else ()
            with quiet(), suppress(UnusableInputError):  # no subject without one identity
                identity = read_source(self.files, frames).identity
                patient, accession = str(identity.PatientID or ""), str(identity.AccessionNumber or "")
        created = (self.outputs.dicom.created if self.outputs.dicom else None) or datetime.now(UTC)
        bundle = fhir_bundle(screening.result, release, patient, accession, created.astimezone(UTC))
        write_json(folder / FHIR_FILE, bundle)


def _slicer(screening: Screening, folder: Path) -> None:
    from osteo_monai.dicom_results.segments import find_segments
    from osteo_monai.dicom_results.slicer import write_slicer_segmentation

    if not isinstance(screening.images, ReportImages):
        return
    segments = find_segments(screening.images, screening.result)
    if segments is not None:
        write_slicer_segmentation(segments, "body", folder / SLICER_FILES[0])
        write_slicer_segmentation(segments, "region", folder / SLICER_FILES[1])


def _reason(error: Exception) -> str:
    """Return the kind of an error; its text may quote a header."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left"
    return type(error).__name__
