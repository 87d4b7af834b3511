"""Module of mercure: one container run per task, folders from environment variables, ``result.json``.

mercure counts every exit code but 0 as a failed task. A refused study is a finished task: its result has the reason.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from osteo_monai.errors import ConfigError
from osteo_monai.node.processing import Load, Processed
from osteo_monai.utils.files import write_json, writing
from osteo_monai.utils.inputs import read_input

__all__ = ["folders", "run_module"]

_INPUTS = ("MERCURE_IN_DIR", "MONAI_INPUTPATH", "HOLOSCAN_INPUT_PATH")
_OUTPUTS = ("MERCURE_OUT_DIR", "MONAI_OUTPUTPATH", "HOLOSCAN_OUTPUT_PATH")
_OPTIONS = ("calibration", "levels", "thresholds", "kvp")
RESULT = "result.json"


def folders(environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Return input and output folder of a task.

    Raises:
        ConfigError: a variable is not set or names no folder.
    """
    found = []
    for names in (_INPUTS, _OUTPUTS):
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is None:
            raise ConfigError(f"the environment variable {names[0]} must be set")
        if not Path(value).is_dir():
            raise ConfigError(f"the environment variable {names[0]} must name a folder, got '{value}'")
        found.append(Path(value))
    return found[0], found[1]


def task_options(folder: Path) -> dict[str, str]:
    """Return the options of the screening in ``task.json`` under ``process.settings``; none without that file.

    Raises:
        ConfigError: the file cannot be read.
    """
    file = folder / "task.json"
    if not file.is_file():
        return {}
    try:
        task: Any = json.loads(read_input(file))
        process = task.get("process") or {}
        steps = process if isinstance(process, list) else [process]
        settings = [step.get("settings") or {} for step in steps]
    except (OSError, ValueError, AttributeError):
        raise ConfigError("task.json must be a task of mercure") from None
    return {name: str(of[name]) for of in settings for name in _OPTIONS if name in of}


def run_module(source: Path, target: Path, load: Load, device: str = "cpu") -> Processed:
    """Screen the study of one task: write the DICOM objects to send and ``result.json`` to the output folder.

    Args:
        source: folder with the DICOM files and ``task.json``.
        target: folder for the output; mercure sends its DICOM files on.
        load: of the processor.
        device: for the models.

    Raises:
        ConfigError: ``task.json`` or an option in it is wrong.
    """
    process = load({"device": device, "options": task_options(source)})
    with TemporaryDirectory(prefix="osteo_monai_") as folder:
        images, output = Path(folder, "input"), Path(folder, "output")
        images.mkdir()
        output.mkdir()
        for file in sorted(source.iterdir()):
            if file.is_file() and file.suffix not in (".tags", ".json"):
                (images / file.name).symlink_to(file.resolve())
        processed = process(images, output)
        for number, name in enumerate(processed.files, 1):
            with writing(target / f"osteo_monai_{number}.dcm") as temporary:
                shutil.copyfile(output / name, temporary)
    write_json(target / RESULT, _result(processed))
    return processed


def _result(processed: Processed) -> dict[str, Any]:
    text = f"osteo_monai: {processed.summary}" if processed.summary else f"osteo_monai: {processed.outcome}"
    return {
        "outcome": processed.outcome,
        "summary": processed.summary,
        "objects": len(processed.files),
        "__mercure_notification": {"text": text, "requested": processed.notify},
    }
