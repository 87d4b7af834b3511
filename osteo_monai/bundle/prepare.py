"""Runs of a bundle's training, evaluation or inference config, with checks of the settings."""

import inspect
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from fire.parser import DefaultParseValue
from monai import bundle as monai_bundle
from monai.bundle import ConfigParser, ConfigWorkflow

from osteo_monai.bundle.checks import check_bundle_root
from osteo_monai.bundle.find import find_bundle
from osteo_monai.bundle.pins import check_trusted, config_files
from osteo_monai.bundle.settings import check_names, check_top_level, known_names
from osteo_monai.errors import ConfigError, OsteoError
from osteo_monai.utils.files import write_text

__all__ = ["CheckedWorkflow", "prepare_run", "run_bundle"]

logger = logging.getLogger(__name__)

_COMPLETE_CONFIGS = ("common.json", "train.json", "evaluate.json", "inference.json")
"""Configs that hold every id of a run; others are overlays on them."""


class CheckedWorkflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow`` with checks.

    It refuses settings that have no place in the config (MONAI ignores them, or ends with a trace) and complete configs
    after an overlay (they would replace it), writes the merged config to
    ``<output_dir>/config.json``, and raises the errors of this package themselves, not inside MONAI's ``RuntimeError``.

    Args:
        config_file: config files of one bundle, merged in order.
        **kwargs: see ``ConfigWorkflow``; other names are settings that override the config.

    Raises:
        ConfigError: for an unknown setting, or a complete config after an overlay.
    """

    def __init__(self, config_file: str | Sequence[str], **kwargs: Any) -> None:
        if _is_monai_program():
            sys.excepthook = _print_message_only
        files = [config_file] if isinstance(config_file, str) else list(config_file)
        arguments = inspect.signature(ConfigWorkflow).parameters
        settings = {name: value for name, value in kwargs.items() if name not in arguments}
        _check_settings(files, settings, {Path(file).parent for file in files})
        super().__init__(config_file=config_file, **kwargs)

    def initialize(self) -> Any:
        with _unwrapped_errors():
            self.parser.parse(reset=True)
            _write_merged_config(self.parser)
            return super().initialize()

    def run(self) -> Any:
        with _unwrapped_errors():
            return super().run()


def run_bundle(
    bundle: str | os.PathLike[str],
    configs: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> None:
    """Run a bundle's configs, as ``python -m monai.bundle run`` does, in a ``CheckedWorkflow``.

    Args:
        bundle: name or folder of the bundle, see ``find_bundle``.
        configs: names of its configs, merged in order: ``["train"]`` trains, ``["evaluate"]`` evaluates,
            ``["inference"]`` infers; overlays such as ``pan2024`` follow.
        settings: config id to value, such as ``{"epochs": 3, "network_def#width": 64}``.
        trust: run a bundle that this release does not pin, see ``check_trusted``.

    Raises:
        ModelMissingError: when there is no such bundle.
        ConfigError: when the bundle is not trusted, a setting is unknown, missing or out of range, or an overlay
            precedes a complete config.
        ManifestError: when the data manifest cannot be used.
        FileNotFoundError: when the bundle has no such config.
    """
    folder = find_bundle(bundle)
    check_trusted(folder, trust)
    workflow = CheckedWorkflow(
        config_file=config_files(folder, configs),
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=str(folder / "configs" / "logging.conf"),
        workflow_type="inference" if "inference" in configs else "train",
        **{"bundle_root": str(folder), **(settings or {})},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def prepare_run(bundle_root: str | os.PathLike[str]) -> None:
    """Check the start of a run; the first initialise step of every config.

    In a process that was started as ``python -m monai.bundle``, names of settings on the command line are checked, the
    merged config is written to ``<output_dir>/config.json``, and an error of this package ends the process with its
    message only: MONAI prints a page of traces. In any other process errors are raised, and ``CheckedWorkflow`` does
    these checks. There the default ``bundle_root`` may be any folder, since ``monai.bundle.load`` does not set it and
    needs no file of the bundle; ``check_run`` refuses it later.

    Raises:
        ConfigError: when ``bundle_root`` has no configs, a setting is unknown, or a complete config follows an overlay.
    """
    if not _is_monai_program():
        if os.fspath(bundle_root) != os.curdir:
            check_bundle_root(bundle_root)
        return
    sys.excepthook = _print_message_only
    check_bundle_root(bundle_root)
    settings = _command_line_settings(sys.argv)
    files = settings.get("config_file", ())
    paths = [Path(file) for file in ([files] if isinstance(files, str) else files)]
    arguments = set(inspect.signature(monai_bundle.run).parameters) | {"workflow_name", "workflow_type"}
    overrides = {name: value for name, value in settings.items() if name not in arguments}
    _check_settings(paths, overrides, {Path(bundle_root, "configs"), *(path.parent for path in paths)})
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(overrides)
    _write_merged_config(parser)


def _check_settings(
    files: Sequence[str | os.PathLike[str]], settings: Mapping[str, Any], folders: Iterable[Path]
) -> None:
    """Raise ``ConfigError`` when config files or settings cannot be merged as they are meant."""
    _refuse_late_config(files)
    existing = [Path(file) for file in files if Path(file).is_file()]  # MONAI names a missing one
    known = known_names(folders)
    check_top_level(settings, known)
    check_names(existing, settings)


def _refuse_late_config(files: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ``ConfigError`` when a complete config follows an overlay, whose settings it would replace."""
    overlay = ""
    for name in (Path(file).name for file in files):
        if name not in _COMPLETE_CONFIGS:
            overlay = name
        elif overlay:
            raise ConfigError(f"{name} must precede overlays in config_file, got it after {overlay}")


def _command_line_settings(words: Sequence[str]) -> dict[str, Any]:
    """Return ``--name value`` and ``--name=value`` of a command line, with values read as MONAI's Fire reads them."""
    settings: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals:
                value = "True" if not following or following.startswith("--") else following
            settings[name] = DefaultParseValue(value)
    return settings


def _write_merged_config(parser: ConfigParser) -> None:
    """Write ``<output_dir>/config.json``, which the runs log to MLflow; one process of a distributed run writes."""
    if os.environ.get("RANK", "0") == "0":
        config = json.dumps(parser.config, indent=2, default=str)
        write_text(Path(parser.get_parsed_content("output_dir")) / "config.json", config + "\n")


def _is_monai_program() -> bool:
    return getattr(sys.modules["__main__"], "__package__", None) == "monai.bundle"


def _cause(error: BaseException) -> OsteoError | None:
    """Return the error of this package that led to ``error``, if any."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, OsteoError):
        link = link.__cause__ or link.__context__
    return link


@contextmanager
def _unwrapped_errors() -> Iterator[None]:
    """Raise the error of this package that MONAI wrapped."""
    try:
        yield
    except RuntimeError as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise cause from None


def _print_message_only(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one sentence for an error of this package, a trace for others; a ``sys.excepthook``."""
    cause = _cause(error)
    if cause is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {cause}", file=sys.stderr)
