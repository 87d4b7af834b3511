"""Screen a study and write its files: result.json, report.html, and labels.nii.gz (CT) or heat_map.png (radiograph).

This module is above ``screening``, which writes nothing, and ``reporting``, which reads results and images.
"""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from osteo_monai.imaging import write_label_map
from osteo_monai.screening.ct.pipeline import screen
from osteo_monai.screening.images import RadiographImages, ReportImages, Screening
from osteo_monai.screening.models import RadiographModels, ScreeningModels
from osteo_monai.screening.names import DICOM_FOLDER, OUTPUT_FILES
from osteo_monai.screening.options import RadiographOptions, ScreeningOptions
from osteo_monai.screening.radiographs.pipeline import screen_radiographs
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.screening.studies import Study
from osteo_monai.screening.timing import OnStage, Stopwatch, no_progress
from osteo_monai.utils.files import sync
from osteo_monai.utils.text import one_line

__all__ = ["Further", "screen_to_folder", "write_screening"]

RESULT, REPORT, LABELS, HEAT_MAP = OUTPUT_FILES[:4]

Further: TypeAlias = Callable[[Screening, Path], ScreeningResult]
"""Writes further files into a folder and returns the result, with a warning for what is missing."""

logger = logging.getLogger(__name__)


def screen_to_folder(
    study: Study,
    output: Path,
    *,
    name: str | None = None,
    device: str = "auto",
    options: ScreeningOptions | None = None,
    models: ScreeningModels | None = None,
    radiograph_options: RadiographOptions | None = None,
    radiograph_models: RadiographModels | None = None,
    on_stage: OnStage = no_progress,
    run: str = "",
    further: Further | None = None,
) -> ScreeningResult:
    """Screen one study of either kind and write its files to ``output``.

    Args:
        study: a CT or radiographs, as :func:`osteo_monai.screening.find_screenable` returns it.
        output: folder for the files; made if missing. Files of an earlier run are replaced.
        name: name of the study in the result; the name of the path if ``None``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``, for models that are not given.
        options, models: for CT.
        radiograph_options, radiograph_models: for radiographs.
        on_stage: called with the stage name when a stage begins.
        run: key for the result, see :func:`osteo_monai.screening.earlier.run_key`.
        further: writes further files.

    Raises:
        ModelMissingError: if a bundle for CT is not installed.
        OSError: if the result cannot be written.
    """
    name = one_line(study.path.resolve().name if name is None else name)
    if study.kind == "radiograph":
        screening = screen_radiographs(
            study.files, radiograph_models, radiograph_options, device=device, study=name, on_stage=on_stage
        )
    else:
        screening = screen(study.path, models, options, device=device, study=name, on_stage=on_stage, files=study.files)
    return write_screening(screening, output, on_stage, run, further)


def write_screening(
    screening: Screening,
    output: Path,
    on_stage: OnStage = no_progress,
    run: str = "",
    further: Further | None = None,
) -> ScreeningResult:
    """Write the files of one screening, the result first.

    All files are written to a temporary folder in ``output`` and then moved, so that an old result is never beside new
    labels. A label map, heat map or report that cannot be written becomes a warning in the result.

    Args:
        screening: result and images.
        output: folder for the files; made if missing. Other files in it are kept.
        on_stage: called with the stage name when a stage begins.
        run: key of the result, stored only when all files are written.
        further: writes further files, before the report, which has its warnings.

    Returns:
        The result as written, with the wall times of writing.

    Raises:
        OSError: if the result cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import screen, write_screening
        >>> result = write_screening(screen(Path("missing")), Path("result"))
        >>> sorted(path.name for path in Path("result").iterdir())
        ['report.html', 'result.json']
    """
    result, images = screening
    watch = Stopwatch(on_stage)
    with _staging(Path(output)) as folder:
        result.write(folder / RESULT)
        if isinstance(images, ReportImages) and images.bodies is not None and images.source is not None:
            bodies, source = images.bodies, images.source
            with watch.stage("writing labels"):
                result = _attempt(result, folder / LABELS, lambda path: write_label_map(bodies, source, path))
        if further is not None:
            with watch.stage("writing further files"):
                result = further(Screening(result, images), folder)
        with watch.stage("reporting"):
            result = _write_report(result, images, folder)
        result = result.timed(watch.seconds).model_copy(update={"run": run})
        result.write(folder / RESULT)
    return result


def _write_report(
    result: ScreeningResult, images: ReportImages | RadiographImages | None, folder: Path
) -> ScreeningResult:
    from osteo_monai.reporting import write_heat_map, write_report

    if isinstance(images, RadiographImages) and result.radiograph is not None:
        maps = images
        result = _attempt(result, folder / HEAT_MAP, lambda path: write_heat_map(maps, path))
    of_report = result
    return _attempt(result, folder / REPORT, lambda path: write_report(of_report, images, path))


def _attempt(result: ScreeningResult, path: Path, write: Callable[[Path], None]) -> ScreeningResult:
    """Write one file; if that fails, remove it and return the result with a warning."""
    try:
        write(path)
    except Exception as error:  # no error of an accessory file may lose the measured values
        path.unlink(missing_ok=True)
        logger.warning("%s was not written: %s", path.name, type(error).__name__)
        logger.debug("traceback of %s", path.name, exc_info=error)
        return result.warned("output_failed", f"The file {path.name} could not be written ({type(error).__name__}).")
    return result


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Give a temporary folder; at the end replace the output files of an earlier run by its files.

    Also after an error, if a result is in it: a run that is stopped while it writes the report keeps its result.
    """
    output.mkdir(parents=True, exist_ok=True)
    folder = output / f".{secrets.token_hex(4)}.partial"
    folder.mkdir()
    try:
        yield folder
    finally:
        if (folder / RESULT).is_file():
            _replace_outputs(folder, output)
        shutil.rmtree(folder, ignore_errors=True)


def _replace_outputs(folder: Path, output: Path) -> None:
    """Remove old files, result first, then move the new files, which are on the disk before, result last."""
    for name in OUTPUT_FILES:
        sync(folder / name)
    for name in OUTPUT_FILES:
        (output / name).unlink(missing_ok=True)
    with suppress(OSError):  # absent, or with other files
        (output / DICOM_FOLDER).rmdir()
    for name in reversed(OUTPUT_FILES):
        if (folder / name).is_file():
            (output / name).parent.mkdir(exist_ok=True)
            os.replace(folder / name, output / name)
    sync(output)
