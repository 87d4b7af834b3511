"""Output of earlier runs: what a batch wrote, which results a resumed one keeps, and their removal."""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from osteo_monai.screening.names import BATCH, DICOM_FOLDER, OUTPUT_FILES, SUMMARY_FILES
from osteo_monai.screening.options import PhantomCalibration, RadiographOptions, ScreeningOptions
from osteo_monai.screening.result import RESULT_VERSION, ScreeningResult
from osteo_monai.screening.studies import Study
from osteo_monai.screening.summary import folders_of_summary
from osteo_monai.utils.files import file_sha256, write_json
from osteo_monai.utils.inputs import open_input, read_input, walk_tree

__all__ = [
    "earlier_folders",
    "earlier_result",
    "remove_earlier",
    "remove_temporary",
    "remove_temporary_in",
    "run_key",
    "write_batch",
]

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\..+")
"""Names of the files and folders that ``osteo_monai.utils.files`` and ``screening_files`` move when they are whole."""


def run_key(
    study: Study,
    options: ScreeningOptions | RadiographOptions | None,
    weights: Sequence[str],
    exclude: Collection[Path] = (),
    outputs: object = None,
) -> str:
    """Return a hash of all that a result depends on: versions, options, weights, names and dates of the study's files.

    Args:
        study: whose files are listed, not read.
        options: of its kind.
        weights: a text for each bundle that changes with its weights.
        exclude: folders in that of the study that do not belong to it, such as the output.
        outputs: further files that are requested.
    """
    phantom = ""
    if isinstance(options, ScreeningOptions) and isinstance(options.calibration, PhantomCalibration):
        with suppress(OSError):
            phantom = file_sha256(options.calibration.path)
    files = []
    for file in _files(study, exclude):
        with suppress(OSError):
            status = file.stat()
            files.append([file.name, status.st_size, status.st_mtime_ns])
    facts = [
        _version(),
        RESULT_VERSION,
        study.kind,
        repr(options),
        repr(outputs),
        phantom,
        sorted(weights),
        sorted(files),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _version() -> str:
    try:
        return version("osteo_monai")
    except PackageNotFoundError:
        return ""


def _files(study: Study, exclude: Collection[Path]) -> Iterator[Path]:
    if study.files:
        yield from study.files
    elif study.path.is_dir():
        for _, files in walk_tree(study.path, exclude=exclude):
            yield from files
    elif study.path.name.lower().endswith((".nii", ".nii.gz")):
        yield study.path
        yield study.path.with_name(re.sub(r"\.nii(\.gz)?$", ".json", study.path.name, flags=re.IGNORECASE))
    else:  # a representative of the files of its study in the folder
        yield from (file for file in study.path.parent.iterdir() if file.is_file())


def earlier_result(folder: Path, run: str) -> ScreeningResult | None:
    """Return the result in a folder if all its files were written, by this run key; else ``None``."""
    try:
        with open_input(folder / "result.json") as stream:
            result = ScreeningResult.model_validate_json(stream.read())
    except (OSError, ValueError):
        return None
    failed = any(finding.code == "output_failed" for finding in result.findings)
    return result if run and result.run == run and not failed else None


def write_batch(output: Path, folders: Sequence[str]) -> None:
    """Write the names of the folders that a batch will write, also those of earlier runs that still exist."""
    names = dict.fromkeys([*folders, *(name for name in earlier_folders(output) if (output / name).is_dir())])
    write_json(output / BATCH, {"version": _version(), "studies": list(folders), "folders": list(names)})


def earlier_folders(output: Path) -> list[str]:
    """Return the names of the folders that earlier batches wrote below ``output``."""
    try:
        content = json.loads(read_input(output / BATCH))
        names = content["folders"]
    except (OSError, ValueError, KeyError, TypeError):
        names = folders_of_summary(output)
    return [name for name in names if isinstance(name, str) and _is_one_name(name)]


def _is_one_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def remove_earlier(output: Path) -> None:
    """Remove the files of earlier batches and of stopped runs; folders are removed if nothing else is in them.

    The files of one study in ``output`` itself are left: a screening replaces them when its own are ready.

    Raises:
        OSError: a file cannot be removed.
    """
    for name in earlier_folders(output):
        folder = output / name
        if folder.is_symlink() or not folder.is_dir():
            continue
        for file in OUTPUT_FILES:
            (folder / file).unlink(missing_ok=True)
        remove_temporary_in(folder)
        for left in (folder / DICOM_FOLDER, folder):
            with suppress(OSError):
                left.rmdir()
    remove_temporary_in(output)
    for file in reversed(SUMMARY_FILES):  # the list of folders last, so that a stopped removal can be repeated
        if not (output / file).is_dir():
            (output / file).unlink(missing_ok=True)


def remove_temporary(output: Path) -> None:
    """Remove what stopped runs left unfinished; whole results stay."""
    for folder in (output, *(output / name for name in earlier_folders(output))):
        if folder.is_dir() and not folder.is_symlink():
            remove_temporary_in(folder)


def remove_temporary_in(folder: Path) -> None:
    """Remove what a worker that was ended left unfinished in a folder."""
    for path in list(folder.iterdir()):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        written = path.name[10:]
        if path.is_dir() and written == "partial":
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and written in (*OUTPUT_FILES, *SUMMARY_FILES):
            path.unlink(missing_ok=True)
