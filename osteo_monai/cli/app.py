"""All commands of ``osteo-monai``, and how the program starts and ends.

Heavy packages are imported inside the verbs, so that ``--help`` answers at once.
"""

import gc
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import osteo_monai
from osteo_monai.cli import (
    batch_output,
    bundle,
    calibrate,
    cohort,
    evaluate,
    evidence,
    manifest,
    node,
    public_data,
    radiograph,
    rebuild,
    repeatability,
    risk,
    sample_size,
    screen,
    slices,
    virtual,
)
from osteo_monai.cli.errors import ArgumentError, ExitCode, report, sentence
from osteo_monai.cli.logs import LogScope

__all__ = ["main", "run"]

PROGRAM = "osteo-monai"


def _show_all(context: typer.Context, value: bool) -> None:
    if value and isinstance(context.obj, LogScope):
        context.obj.show_all()


def _show_version(value: bool) -> None:
    if value:
        typer.echo(osteo_monai.__version__)
        raise typer.Exit


_Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_show_all,
        is_eager=True,
        expose_value=False,
        help="Show tracebacks and all log messages; these may quote DICOM headers.",
    ),
]
_Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]


@cache
def _debug_parameter() -> Any:
    """Return the option ``--debug`` as a parameter that can be added to any command."""
    probe = typer.Typer(add_completion=False)

    @probe.command()
    def command(debug: _Debug = False) -> None: ...

    return get_command(probe).params[0]


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph, which typer would print as they are in the source."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _extended(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a command with ``--debug`` among its parameters, and its help in paragraphs."""
    text: str | None = keywords.get("help")
    parameters = [*(keywords.get("params") or []), _debug_parameter()]
    return keywords | {"params": parameters, "help": None if text is None else _paragraphs(text)}


class _Command(TyperCommand):
    """A verb: it accepts ``--debug``, and reports all its wrong options together."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **_extended(keywords))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            options, _, _ = self.make_parser(ctx).parse_args(args=words)
        problems = []
        for parameter in self.get_params(ctx):
            try:
                parameter.handle_parse_result(ctx, options, [])
            except typer.BadParameter as error:
                problems.append(sentence(error, options))
        raise ArgumentError(problems, f"See '{ctx.command_path} --help'.")


class _Group(TyperGroup):
    """A group of verbs: it accepts ``--debug`` as well."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **_extended(keywords))


_HELP = {"help_option_names": ["-h", "--help"]}


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        cls=_Group,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=_HELP,
    )


def _application() -> typer.Typer:
    """Return the table of all commands."""
    app = _group(
        "Screen CT and radiographs for osteoporosis; make virtual patients, prepare cohorts, train and evaluate models."
        "\n\nFirst steps: 'osteo-monai virtual ct -o ct', then 'osteo-monai screen ct/dicom -o result'."
        "\n\nResearch use only."
    )

    @app.callback()
    def _root(version: _Version = False) -> None: ...

    groups = {
        "virtual": _group("Make virtual patients: one CT, one radiograph, or a cohort from a recipe."),
        "manifest": _group("Build, import, check, split and describe data manifests."),
        "radiograph": _group("Export radiographs, cross-validate their bundles, fuse views, summarise heat maps."),
        "risk": _group("Calibrate risks, train models with age, sex, height and weight, predict from CT texture."),
        "sample-size": _group("Compute numbers of subjects of a diagnostic study."),
        "calibrate": _group("Fit calibrations to scans of known density, and check scanners for drift."),
        "batch": _group("Show the state of a run over many studies, and join its parts."),
        "node": _group("Receive studies from a PACS by DICOM, screen them and send the results back (extra 'pacs')."),
        "bundle": _group("Write, check, pack and install MONAI bundles; measure the effect of training size."),
    }
    verbs: dict[str, Sequence[Any]] = {
        "": (
            screen.screen,
            cohort.measure,
            evaluate.evaluate,
            repeatability.repeatability,
            repeatability.follow_up,
            evidence.evidence,
            rebuild.rebuild_tables,
        ),
        "virtual": (virtual.ct, virtual.radiograph, virtual.cohort, virtual.projections),
        "manifest": (
            manifest.build,
            public_data.import_,
            manifest.split,
            manifest.join,
            manifest.validate,
            manifest.describe,
            cohort.segment,
            slices.slices,
            slices.outlines,
        ),
        "radiograph": (radiograph.export, radiograph.cross_validate, radiograph.fuse, radiograph.heat),
        "risk": (risk.calibrate, risk.train, risk.radiomics),
        "sample-size": (
            sample_size.rate,
            sample_size.area,
            sample_size.areas,
            sample_size.rates,
            sample_size.calibration,
        ),
        "calibrate": (calibrate.fit, calibrate.contrast, calibrate.check),
        "batch": (batch_output.status, batch_output.join),
        "node": (node.run, node.check, node.list_, node.retry, node.example, node.mercure),
        "bundle": (
            bundle.merge,
            bundle.export,
            bundle.onnx,
            bundle.segment,
            bundle.fetch,
            bundle.verify,
            bundle.pack,
            bundle.train_sizes,
            bundle.compare_networks,
        ),
    }
    for name, functions in verbs.items():
        for function in functions:
            verb = function.__name__.rstrip("_").replace("_", "-")  # `import` is a word of Python
            groups.get(name, app).command(verb, cls=_Command, context_settings=_HELP)(function)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


@cache
def _command() -> Any:
    return get_command(_application())


def run(arguments: Sequence[str] | None = None, own_process: bool = False) -> int:
    """Run the command and return its exit code; an error becomes one sentence on stderr.

    Logging and warning filters are changed while the command runs only.

    Args:
        arguments: words after the command's name; those of the process if ``None``.
        own_process: the process ends with the command, which may leave out what it does not need.

    Example:
        >>> run(["--version"])  # doctest: +ELLIPSIS
        0...
        0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with LogScope(own_process) as scope:
        try:
            # not standalone: typer would end the process and print its own form of an error
            return int(_command().main(words, prog_name=PROGRAM, standalone_mode=False, obj=scope) or ExitCode.MEASURED)
        except SystemExit:  # of typer, when the reader of a pipe is gone
            return ExitCode.UNEXPECTED
        except typer.Abort:
            return ExitCode.UNEXPECTED
        except Exception as error:  # noqa: BLE001  # the last handler: every error becomes an exit code
            return report(error, scope.debug)


def main() -> None:
    """Run the command ``osteo-monai`` and exit."""
    code = run(own_process=True)
    gc.freeze()  # the process ends: its objects need no last collection, which takes 0.5 s with torch and MONAI
    sys.exit(code)
