"""``osteo-monai screen``: one study or a folder of many, CT and radiographs."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.batch import (
    MANY,
    ClusterAddress,
    ClusterGpus,
    MemoryLimit,
    PartOfMany,
    Resume,
    Retry,
    TimeLimit,
    WorkersOfMany,
    check_resume,
    chosen_workers,
    parse_part,
    parse_retry,
)
from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.logs import LogScope
from osteo_monai.cli.options import (
    Device,
    OptionalTracking,
    OutputFolder,
    Overwrite,
    TrustBundle,
    choice,
    given,
    parse_calibration,
    parse_contrast,
    parse_levels,
    parse_sex,
    parse_thresholds,
)
from osteo_monai.cli.output import check_folder, command_run, locked_folder, progress
from osteo_monai.cli.screening_run import Batch, Many, Screener
from osteo_monai.domain import DensityThresholds, Sex, VertebraLevel, View
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.names import OUTPUT_FILES, SUMMARY_FILES
from osteo_monai.utils.monai_import import import_monai_for_inference
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.batch import Workers
    from osteo_monai.dicom_results import Outputs
    from osteo_monai.screening import RadiographOptions, ScreeningOptions, Study

__all__ = ["screen"]

FURTHER = "Further files"
CT, RADIOGRAPH, PERSON = "CT options", "Radiograph options", "Person, for the radiographs of one study"
"""Help panels; each is a group of options that must be left out for other studies."""

VIEWS = (View.CHEST_FRONTAL, View.LUMBAR_AP, View.LUMBAR_LATERAL)

_Levels = Annotated[
    Sequence[VertebraLevel] | None,
    typer.Option(
        parser=parse_levels,
        metavar="LEVELS",
        help="Levels to measure, such as L1,L2; each must be wholly in view.",
        show_default="L1 and L2 if both are whole, else L1 only",
        rich_help_panel=CT,
    ),
]
_Thresholds = Annotated[
    DensityThresholds,
    typer.Option(
        parser=parse_thresholds,
        metavar="A,B",
        help="Osteoporosis below A, normal above B, in mg/cm3 K2HPO4.",
        show_default="80,120",
        rich_help_panel=CT,
    ),
]
_Calibration = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="physics, internal, registry:NAME, user:SLOPE,INTERCEPT (mg/cm3 K2HPO4), phantom:FILE or site:FILE.",
        rich_help_panel=CT,
    ),
]
_Contrast = Annotated[
    str | None,
    typer.Option(
        "--contrast-correction",
        metavar="FILE",
        help="Also give the density of an enhanced scan corrected for contrast agent: published, or a file of "
        "'osteo-monai calibrate contrast'.",
        show_default="not corrected",
        rich_help_panel=CT,
    ),
]
_Classify = Annotated[
    bool,
    typer.Option("--classify-corrected", help="Derive the class from the corrected density.", rich_help_panel=CT),
]
_Kvp = Annotated[
    float | None,
    typer.Option(metavar="KV", help="Tube voltage if missing from the header; never overrides it.", rich_help_panel=CT),
]
_Texture = Annotated[
    bool,
    typer.Option(
        "--texture", help="Also compute texture of the trabecular regions (extra 'texture').", rich_help_panel=CT
    ),
]
_HeaderText = Annotated[
    bool,
    typer.Option(
        "--header-text",
        help="Copy series description and contrast entries of the header, which may hold names, to the result.",
        rich_help_panel=CT,
    ),
]
_View = Annotated[
    View | None,
    typer.Option(
        parser=choice(*VIEWS),
        metavar="VIEW",
        help="chest_frontal, lumbar_ap or lumbar_lateral, if neither header nor image identifies the view.",
        rich_help_panel=RADIOGRAPH,
    ),
]
_Unvalidated = Annotated[
    bool,
    typer.Option(
        "--allow-unvalidated",
        help="Show the risk of real radiographs although the network was calibrated on virtual patients only.",
        rich_help_panel=RADIOGRAPH,
    ),
]
_Age = Annotated[float | None, typer.Option(metavar="YEARS", help="Age; overrides the header.", rich_help_panel=PERSON)]
_Sex = Annotated[
    Sex | None,
    typer.Option(parser=parse_sex, metavar="SEX", help="female or male; overrides the header.", rich_help_panel=PERSON),
]
_Height = Annotated[
    float | None, typer.Option(metavar="CM", help="Height; overrides the header.", rich_help_panel=PERSON)
]
_Weight = Annotated[
    float | None, typer.Option(metavar="KG", help="Weight; overrides the header.", rich_help_panel=PERSON)
]

_Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom",
        help="Write segmentation, structured report, PDF and secondary capture as DICOM objects of the study, with its "
        "patient identity, into the folder dicom.",
        rich_help_panel=FURTHER,
    ),
]
_LabelMap = Annotated[
    bool,
    typer.Option(
        "--label-map", help="Write DICOM segmentations as LABELMAP instead of BINARY.", rich_help_panel=FURTHER
    ),
]
_NoCapture = Annotated[
    bool, typer.Option("--no-secondary-capture", help="Write no secondary capture.", rich_help_panel=FURTHER)
]
_Fhir = Annotated[
    str | None,
    typer.Option(
        parser=choice("R4", "R5"),
        metavar="RELEASE",
        help="Write fhir.json, FHIR Observations of release R4 or R5, with the PatientID of DICOM.",
        rich_help_panel=FURTHER,
    ),
]
_Slicer = Annotated[
    bool,
    typer.Option(
        "--slicer",
        help="Write bodies.seg.nrrd and regions.seg.nrrd, segmentations for 3D Slicer.",
        rich_help_panel=FURTHER,
    ),
]


def screen(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY",
            help="A CT (DICOM, NIfTI), a radiograph (DICOM, PNG, JPEG), a folder of one or many studies, or those of a "
            "DICOMweb service: dicomweb://HOST/ROOT/studies/UID (extra 'pacs').",
        ),
    ],
    output: OutputFolder,
    device: Device = "auto",
    levels: _Levels = None,
    thresholds: _Thresholds = DensityThresholds(),  # noqa: B008  # frozen
    calibration: _Calibration = "physics",
    contrast: _Contrast = None,
    classify_corrected: _Classify = False,
    kvp: _Kvp = None,
    texture: _Texture = False,
    header_text: _HeaderText = False,
    view: _View = None,
    allow_unvalidated: _Unvalidated = False,
    age: _Age = None,
    sex: _Sex = None,
    height: _Height = None,
    weight: _Weight = None,
    dicom: _Dicom = False,
    label_map: _LabelMap = False,
    no_secondary_capture: _NoCapture = False,
    fhir: _Fhir = None,
    slicer: _Slicer = False,
    resume: Resume = False,
    retry: Retry = None,
    workers: WorkersOfMany = 1,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    part: PartOfMany = None,
    cluster: ClusterAddress = None,
    cluster_gpus: ClusterGpus = None,
    tracking_uri: OptionalTracking = None,
    overwrite: Overwrite = False,
    trust_bundle: TrustBundle = False,
) -> None:
    """Screen CT for low bone density, and frontal chest or lumbar radiographs for the risk of osteoporosis.

    The content of a file decides how it is screened. CT: trabecular density of L1 and L2; writes result.json,
    labels.nii.gz and report.html. Radiographs: a risk with its interval; writes result.json, heat_map.png and
    report.html. AP and lateral radiographs of one study are fused; a chest radiograph is combined with age, sex, height
    and weight if all four are known.

    Many studies: one folder each below the output, and summary.csv with one row each. Links are followed, zip archives
    are read. Files of the input that no study contains are counted by reason and named in not_read.csv. 'osteo-monai
    batch status' shows how far a run is. With an option for many studies, one study is written in the same way.

    Exit codes: 0 all measured, 1 unexpected error, 2 unusable input or wrong argument, 3 refused with a reason (of many
    studies: at least one), 4 model not installed.
    """
    from osteo_monai.screening.inventory import list_inputs
    from osteo_monai.screening.studies import Study, at_one_path

    def check_output() -> None:
        check_folder(target, () if resume else (*OUTPUT_FILES, *SUMMARY_FILES), overwrite)

    checks = OptionChecks()
    many, target = None, output
    with checks.collect(part="--part", gpus="--cluster-gpus", cluster="--cluster"):
        many = _many(chosen_workers(workers, time_limit, memory_limit, cluster, cluster_gpus), part, retry)
        target = many.folder(output)
        resume = resume or bool(many.retry)
    with checks.collect():
        check_output()
    with checks.collect():
        check_resume(resume, overwrite)
    if remote := _remote(path, checks):
        checks.finish()
        path = context.with_resource(remote)
    with checks.collect():
        _check_study(path)
    if not path.exists():
        checks.finish()
    with ExitStack() as stack:
        inputs = None
        try:
            with progress("Listing the input"):
                inputs = stack.enter_context(list_inputs(path, exclude=[output]))
            studies = at_one_path(path, inputs)
            kinds = {study.kind for study in studies}
        except UnusableInputError:
            studies = [Study("ct", path)]  # its result gives the reason
            kinds = {"ct", "radiograph"}
        for_person = given(context, PERSON)
        with checks.collect():
            _check_kinds(context, kinds)
        with checks.collect():
            if for_person and len(studies) > 1:
                raise ValueError(
                    f"{listed(for_person)} must be left out for many studies, got {len(studies)} in '{path}'"
                )
        ct = radiographs = None
        names = {n: f"--{n.replace('_', '-')}" for n in ("levels", "calibration", "kvp", "contrast_correction")}
        with checks.collect(**names):
            if "ct" in kinds:
                of_scan = (calibration, contrast, classify_corrected)
                ct = _ct_options(levels, thresholds, of_scan, kvp, texture, header_text)
        with checks.collect(view="--view", age="--age", height="--height", weight="--weight"):
            if "radiograph" in kinds:
                radiographs = _radiograph_options(view, (age, height, weight), sex, allow_unvalidated)
        outputs = None
        with checks.collect():
            outputs = _outputs(studies, dicom, (label_map, no_secondary_capture), fhir, slicer)
        checks.finish()
        if ct is not None and ct.texture:
            from osteo_monai.measurement import check_texture_installed

            check_texture_installed()
        stack.enter_context(locked_folder(target))
        check_output()  # another run may have ended since
        _import_monai(context, trust_bundle or bool(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")))
        screener = Screener(device, ct, radiographs, [output], trust_bundle, outputs)
        if len(studies) == 1 and not given(context, MANY):
            many = None
        with command_run("screening", "screen", tracking_uri, screener.parameters()) as run:
            batch = Batch(path, target, studies, inputs, screener, resume, overwrite, many)
            code = batch.run()
            run.log(batch.facts(), parameters=batch.models())
    raise typer.Exit(code)


def _many(workers: "Workers", part: str | None, retry: str | None) -> Many:
    return Many(workers, parse_part(part), parse_retry(retry))


def _import_monai(context: typer.Context, whole: bool) -> None:
    """Import MONAI without what inference does not use, if the process ends with the command.

    A log, and bundles of others, may use the ``whole``.
    """
    if not whole and isinstance(context.obj, LogScope) and context.obj.own_process:
        with progress("Importing"):
            import_monai_for_inference()


def _remote(path: Path, checks: OptionChecks) -> AbstractContextManager[Path] | None:
    """Return the retrieval of the studies if the path is the address of a DICOMweb service."""
    if not str(path).startswith("dicomweb"):
        return None
    from osteo_monai.cli.node import require_pacs

    require_pacs()
    from osteo_monai.node import downloaded, is_remote, parse_remote

    if not is_remote(path):
        return None
    remote = None
    with checks.collect():
        remote = _retrieval(downloaded, parse_remote(path))
    return remote


@contextmanager
def _retrieval(downloaded: "Callable[..., AbstractContextManager[Path]]", remote: object) -> Iterator[Path]:
    with ExitStack() as stack:
        with progress("Retrieving") as on_stage:
            folder = stack.enter_context(downloaded(remote, lambda number: on_stage(f"retrieving image {number}")))
        yield folder


def _check_study(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"STUDY must be an existing file or folder, got '{path}'")


def _check_kinds(context: typer.Context, kinds: Collection[str]) -> None:
    of_ct, of_radiographs = given(context, CT), [*given(context, RADIOGRAPH), *given(context, PERSON)]
    if of_ct and "ct" not in kinds:
        raise ValueError(f"{listed(of_ct)} must be left out for radiographs: only CT uses it")
    if of_radiographs and "radiograph" not in kinds:
        raise ValueError(f"{listed(of_radiographs)} must be left out for CT: only radiographs use it")


def _outputs(
    studies: "Sequence[Study]", dicom: bool, details: tuple[bool, bool], fhir: str | None, slicer: bool
) -> "Outputs | None":
    from osteo_monai.dicom_results import DicomOptions, Outputs
    from osteo_monai.screening.source import has_dicom

    label_map, no_capture = details
    if (label_map or no_capture) and not dicom:
        option = "--label-map" if label_map else "--no-secondary-capture"
        raise ValueError(f"{option} must be given with --dicom")
    if dicom and not any(has_dicom(study) for study in studies):
        raise ValueError("--dicom must be left out for NIfTI, PNG and JPEG: they belong to no DICOM study")
    options = DicomOptions(label_map=label_map, secondary_capture=not no_capture) if dicom else None
    outputs = Outputs(options, slicer, "R4" if fhir == "R4" else "R5" if fhir else None)
    return outputs if outputs.any else None


def _ct_options(
    levels: Sequence[VertebraLevel] | None,
    thresholds: DensityThresholds,
    densities: tuple[str, str | None, bool],
    kvp: float | None,
    texture: bool,
    header_text: bool,
) -> "ScreeningOptions":
    from osteo_monai.screening import ScreeningOptions

    calibration, contrast, classify_corrected = densities
    return ScreeningOptions(
        levels=None if levels is None else tuple(levels),
        thresholds=thresholds,
        calibration=parse_calibration(calibration),
        contrast_correction=parse_contrast(contrast),
        classify_corrected=classify_corrected,
        kvp=kvp,
        texture=texture,
        header_text=header_text,
    )


def _radiograph_options(
    view: View | None,
    numbers: tuple[float | None, float | None, float | None],
    sex: Sex | None,
    allow_unvalidated: bool,
) -> "RadiographOptions":
    from osteo_monai.screening import RadiographOptions

    age, height, weight = numbers
    return RadiographOptions(view, age, sex, height, weight, allow_unvalidated)
