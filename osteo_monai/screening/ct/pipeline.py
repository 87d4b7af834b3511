"""One CT study to one result: read, localise, take the levels, segment their slices, measure, judge, write.

The steps stop at the first group of gates that refuses, so nothing is measured that nobody may use; what was seen until
then (levels found, acquisition, all findings) stays in the result.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds, Finding, Severity, VertebraLevel
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement import tissues
from osteo_monai.measurement.calibration import TissueSample, calibrate, density, mean_density, widened
from osteo_monai.measurement.frame import body_frame
from osteo_monai.measurement.hu_statistics import hu_statistics
from osteo_monai.measurement.region import Region, trabecular_region
from osteo_monai.measurement.shape import BodyShape, body_shape
from osteo_monai.measurement.tissues import Aorta, Surroundings
from osteo_monai.screening.ct.bodies import (
    Located,
    disc_borders,
    disc_in_mask,
    end_plate_borders,
    separate_bodies,
    shifted,
    slab,
    stand_in,
)
from osteo_monai.screening.ct.levels import Bundle, Column, Vertebra, as_image, locate_vertebrae
from osteo_monai.screening.ct.opinions import OpinionModels, Opinions, collect_opinions, load_opinion_models
from osteo_monai.screening.gates import quality
from osteo_monai.screening.gates.quality import LIMITS, QualityLimits
from osteo_monai.screening.result import (
    AcquisitionFacts,
    CalibrationUsed,
    Density,
    HUStatistics,
    LevelMeasurement,
    LocatedLevel,
    ModelUsed,
    ScreeningResult,
    timed,
)

if TYPE_CHECKING:
    from osteo_monai.screening.images import ReportImages

LOCALISATION_BUNDLE = "vertebra_localization_ct"
COLUMN_BUNDLE = "vertebral_column_ct"
SEGMENTATION_BUNDLE = "vertebral_body_segmentation_ct"

AORTA_LEVELS = (VertebraLevel.T11, VertebraLevel.T12, VertebraLevel.T13, *(VertebraLevel(f"L{n}") for n in (1, 2, 3)))
"""Where the aorta lies in front of the column, above its fork at L4."""
SINGLE_LEVEL_SD_MG_CM3 = 4.0
"""SD of one level against the mean of L1 and L2; project custom: the two differ by some 8 mg/cm3 (SD) in adults."""
UNKNOWN_KVP_RELATIVE_SD = 0.11
"""Physics against 120 kVp: 1.128 times the HU at 100 kVp, 0.912 times at 140 kVp; root mean square of both."""


@dataclass(frozen=True)
class ScreeningModels:
    """The three bundles that screening needs, and those of the second opinions, which may be absent."""

    localisation: Bundle
    column: Bundle
    segmentation: Bundle
    opinions: OpinionModels = field(default_factory=OpinionModels)


@dataclass(frozen=True)
class ScreeningOptions:
    """What a caller may choose; every choice is told in the result.

    Attributes:
        levels: levels to measure; all of them must be whole, or the study is refused. ``None``: L1 and L2 where both
            are whole, else L1 alone where it is whole.
        thresholds: cut-offs of the classes.
        calibration: ``physics``, ``internal``, ``registry:NAME`` or ``user:SLOPE,INTERCEPT``, in the standard of
            the thresholds. A registry line that nobody verified is used all the same, with a warning.
        kvp: tube voltage in kV where the file does not state it; it never overrides a header.
        limits: thresholds of the quality gates.

    Raises:
        ValueError: if a choice cannot be understood.
    """

    levels: tuple[VertebraLevel, ...] | None = None
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)
    calibration: str = "physics"
    kvp: float | None = None
    limits: QualityLimits = LIMITS

    def __post_init__(self) -> None:
        self.calibration_arguments()
        if self.levels is not None and (not self.levels or len(set(self.levels)) != len(self.levels)):
            raise ValueError(f"levels must name at least one level and none twice, got {[str(v) for v in self.levels]}")

    def calibration_arguments(self) -> dict[str, Any]:
        """Return ``calibration`` as arguments of ``osteo_monai.measurement.calibration.calibrate``."""
        method, _, value = self.calibration.partition(":")
        if method in ("physics", "internal") and not value:
            return {"method": method}
        if method == "registry" and value:
            return {"method": method, "registry_name": value, "allow_unverified": True}
        if method == "user":
            try:
                slope, intercept = (float(part) for part in value.split(","))
            except ValueError:
                pass
            else:
                if math.isfinite(slope) and math.isfinite(intercept):
                    return {"method": method, "slope": slope, "intercept": intercept}
        raise ValueError(
            f"calibration must be physics, internal, registry:NAME or user:SLOPE,INTERCEPT, got '{self.calibration}'"
        )


def load_models(device: str = "auto", opinions: bool = True) -> ScreeningModels:
    """Load the bundles.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` (CUDA where there is one).
        opinions: also those of the second opinions, as far as they have weights.

    Raises:
        ValueError: if a CUDA device is asked for and there is none.
    """
    from osteo_monai.bundle import load_bundle
    from osteo_monai.utils.devices import torch_device

    where = torch_device(device)
    return ScreeningModels(
        load_bundle(LOCALISATION_BUNDLE, where),
        load_bundle(COLUMN_BUNDLE, where),
        load_bundle(SEGMENTATION_BUNDLE, where),
        load_opinion_models(where) if opinions else OpinionModels(),
    )


def screen_volume(
    volume: CTVolume,
    models: ScreeningModels,
    options: ScreeningOptions | None = None,
    study: str = "",
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[ScreeningResult, "ReportImages"]:
    """Screen a volume that was read already.

    Args:
        volume: the checked CT.
        models: the bundles.
        options: what the caller chose; the defaults where ``None``.
        study: name of the study in the result.
        on_stage: called with a word for each step as it begins.

    Returns:
        The result, refused or not, and the pictures' raw material on the canonical grid (its ``bodies`` is the label
        map of the levels, ``None`` where segmentation was not reached).
    """
    run = _Screening(volume, models, options or ScreeningOptions(), study)
    for name, stage in (
        ("checking", run.check),
        ("localising", run.localise),
        ("segmenting", run.segment),
        ("measuring", run.measure),
        ("comparing", run.compare),
    ):
        on_stage(name)
        with timed(run.seconds, name):
            stage()
        # what is wrong with the header does not keep anyone from seeing what is in view
        if quality.verdict(run.findings) == "refused" and (name != "checking" or run.unreadable()):
            break
    return run.result(), run.images()


def screen(
    path: Path,
    output: Path,
    models: ScreeningModels | None = None,
    options: ScreeningOptions | None = None,
    device: str = "auto",
    study: str | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> ScreeningResult:
    """Screen one study and write ``result.json``, ``labels.nii.gz`` and ``report.html`` to ``output``.

    A study that cannot be read or that is refused gives a result with the reason, its JSON and its report, and no
    exception. Labels are written as soon as there are any, on the grid of the input.

    Args:
        path: a DICOM folder or file, or a NIfTI file.
        output: folder for the results; made where it does not exist. Files of the same name are replaced, and the
            labels of an earlier run are removed, so that none can outlive the result they belonged to.
        models: the bundles, loaded already; loaded onto ``device`` where ``None``.
        options: what the caller chose.
        device: see :func:`load_models`.
        study: name of the study in the result; the name of the file or folder where ``None``.
        on_stage: called with a word for each step as it begins.
    """
    from osteo_monai.imaging import read_ct, write_label_map
    from osteo_monai.reporting import write_report

    path, output = Path(path), Path(output)
    study = study if study is not None else path.resolve().name
    output.mkdir(parents=True, exist_ok=True)
    labels_path = output / "labels.nii.gz"
    labels_path.unlink(missing_ok=True)
    seconds: dict[str, float] = {}
    images: ReportImages | None = None
    try:
        on_stage("reading")
        with timed(seconds, "reading"):
            volume = read_ct(path, keep_doubts=True)
    except (UnusableInputError, ScanRefusedError) as error:
        result = ScreeningResult.unread(study, error, seconds)
    else:
        if models is None:
            on_stage("loading the models")
            with timed(seconds, "loading the models"):
                models = load_models(device)
        result, images = screen_volume(volume, models, options, study, on_stage)
        result = result.model_copy(update={"seconds": seconds | result.seconds})
        if images.bodies is not None:
            with timed(result.seconds, "writing labels"):
                write_label_map(images.bodies, volume, labels_path)
    on_stage("reporting")
    with timed(result.seconds, "reporting"):
        write_report(result, images, output / "report.html")
    result.write(output / "result.json")
    return result


def outline_bodies(
    volume: CTVolume,
    vertebrae: Sequence[Located],
    bundle: Bundle,
    limits: QualityLimits = LIMITS,
    planes_are_exact: bool = False,
) -> tuple[slice, NDArray[np.uint8], dict[VertebraLevel, list[Finding]]]:
    """Outline located vertebrae with the segmentation bundle, tell them apart, and judge the outlines.

    Args:
        volume: the checked CT.
        vertebrae: where the wanted bodies are; their slices and a margin are what the bundle gets to see.
        bundle: the segmentation bundle.
        limits: thresholds of the gates.
        planes_are_exact: the superior and inferior points come from a reader: the bodies end there.

    Returns:
        The axial slices that were outlined, the label map (X, Y, Z) of the whole volume with ``VertebraLevel.label``,
        and for each level what the gates found: a body that is not there, cut by the border, of a volume or at a place
        it cannot have, or whose disc the segmentation has elsewhere.

    Raises:
        ValueError: if no vertebra is given.
    """
    part = slab(vertebrae, volume.affine, volume.hu.shape[2])
    affine = shifted(volume.affine, part.start)
    output = bundle(as_image(volume.hu[:, :, part], affine))
    mask = np.asarray(output["pred"])[0] > 0
    expected = volume.hu[:, :, part].shape
    if mask.shape != expected:
        raise RuntimeError(f"the segmentation bundle must answer on the grid {expected}, got {mask.shape}")
    bodies = np.zeros(volume.hu.shape, dtype=np.uint8)
    hu = volume.hu[:, :, part]
    borders = [disc_borders(v) if planes_are_exact else end_plate_borders(hu, affine, v) for v in vertebrae]
    bodies[:, :, part] = separate_bodies(mask, affine, hu, vertebrae, borders)
    voxel_cm3 = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    findings: dict[VertebraLevel, list[Finding]] = {}
    for v in vertebrae:
        body = bodies == v.level.label
        voxels = int(body.sum())
        found = (
            [quality.body_found(v.level, voxels)]
            if voxels == 0
            else [
                quality.body_inside_volume(v.level, body, volume.valid, limits),
                quality.body_volume(v.level, voxels * voxel_cm3, limits),
                _level_offset(v, body, volume.affine, limits),
                None if planes_are_exact else quality.disc_disagreement(v.level, disc_in_mask(mask, affine, v), limits),
            ]
        )
        findings[v.level] = [f for f in found if f is not None]
    return part, bodies, findings


def _level_offset(
    vertebra: Located, body: NDArray[np.bool_], affine: NDArray[np.float64], limits: QualityLimits
) -> Finding | None:
    """Compare where the outline and the localiser have a vertebra, along the column."""
    centre = np.argwhere(body).mean(0) @ affine[:3, :3].T + affine[:3, 3]
    axis = np.subtract(vertebra.superior_mm, vertebra.inferior_mm)
    step = float(np.linalg.norm(axis))
    offset = float((centre - vertebra.centre_mm) @ axis) / step
    return quality.level_offset(vertebra.level, offset, step, limits)


class _Screening:
    """The state of one run: what is known after each step."""

    def __init__(self, volume: CTVolume, models: ScreeningModels, options: ScreeningOptions, study: str) -> None:
        self.volume, self.models, self.options, self.study = volume, models, options, study
        # the gates tell each missing fact by itself, and what follows from it
        self.findings: list[Finding] = [f for f in volume.findings if f.code != "acquisition_unknown"]
        self.seconds: dict[str, float] = {}
        self.kvp = volume.acquisition.kvp if volume.acquisition.kvp is not None else options.kvp
        self.column = Column((), (), None)
        self.levels_wanted: tuple[VertebraLevel, ...] = options.levels or SCREENED_LEVELS
        self.neighbours: tuple[Vertebra, ...] = ()
        self.slab = slice(0, volume.hu.shape[2])
        self.bodies: NDArray[np.uint8] | None = None
        self.regions: NDArray[np.bool_] | None = None
        self.levels: list[LevelMeasurement] = []
        self.calibration: CalibrationUsed | None = None
        self.density: Density | None = None
        self.opinions = Opinions((), {}, (), None)

    # steps

    def check(self) -> None:
        """Judge what can be judged without a network: values, acquisition, person."""
        scan, limits, dz = self.volume.acquisition, self.options.limits, self.volume.spacing[2]
        self._add(
            quality.values_are_hu(self.volume.hu, self.volume.valid, limits),
            quality.slice_thickness(scan.slice_thickness_mm, dz, limits),
            quality.slice_overlap(scan.slice_thickness_mm, dz, limits),
            quality.tube_voltage_stated(scan.kvp, self.options.kvp),
            quality.tube_voltage(self.kvp, self.options.calibration == "physics", limits),
            quality.kernel(scan.kernel),
            quality.contrast_in_header(scan.contrast),
            quality.age(scan.age_years, limits),
            quality.sex(scan.sex),
        )

    def unreadable(self) -> bool:
        """Say whether the values themselves cannot be used, so that no network may look at them."""
        return any(f.severity is Severity.REFUSAL and f.code in quality.NOT_HU for f in self.findings)

    def localise(self) -> None:
        """Find and name the vertebrae, and judge whether the wanted ones are certain and wholly in view."""
        self.column = locate_vertebrae(self.volume, self.models.localisation, self.models.column)
        self._choose_levels()
        certainty = {v.level: v.certainty for v in self.column.vertebrae}
        names = list(certainty)
        limits, naming = self.options.limits, self.column.naming
        self._add(quality.levels_present(certainty, self.levels_wanted, len(self.column.above), limits))
        variant = quality.supernumerary_level(names) or (quality.spine_variant(naming, names) if naming else None)
        self._add(variant)
        wanted = self._wanted()
        for v in wanted:
            self._add(
                quality.level_certainty(v.level, v.certainty, v.runner_up, limits, variant is not None),
                quality.level_complete(v.level, v.complete),
            )
        if naming is not None:
            if wanted:
                self._add(quality.level_witness(self.column.last_rib()))
            self._add(*(quality.body_missed(m, [v.level for v in wanted]) for m in naming.missed))
        # the centre of a body that is cut is only estimated
        for upper, lower in itertools.pairwise(v for v in self.column.vertebrae if v.complete):
            if upper.level in self.levels_wanted or lower.level in self.levels_wanted:
                self._add(quality.pitch(upper, lower, naming.scale if naming is not None else 1.0, limits))
        if quality.verdict(self.findings) == "refused":
            self._flag_contrast()

    def segment(self) -> None:
        """Outline the wanted bodies and their neighbours, and tell them apart."""
        wanted = self._wanted()
        around = self._with_neighbours()
        self.slab, self.bodies, findings = outline_bodies(
            self.volume, around, self.models.segmentation, self.options.limits
        )
        self.neighbours = tuple(v for v in around if v not in wanted and not findings[v.level])
        for v in wanted:
            self._add_of_level(v.level, findings[v.level])

    def measure(self) -> None:
        """Measure each body, leave out the fractured ones, calibrate, and judge the numbers."""
        assert self.bodies is not None
        volume, limits = self.volume, self.options.limits
        hu = volume.hu[:, :, self.slab]
        valid = None if volume.valid is None else volume.valid[:, :, self.slab]
        affine = shifted(volume.affine, self.slab.start)
        bodies: dict[VertebraLevel, _Body] = {}
        for v in self._wanted():
            body = self.bodies[:, :, self.slab] == v.level.label
            try:
                bodies[v.level] = _Body.measured(body, hu, affine, valid, limits)
            except ValueError as error:
                self._add_of_level(v.level, [quality.body_not_measurable(v.level, str(error))])
        shapes = self._neighbour_shapes(affine)
        self._judge_bodies(bodies, shapes)
        if quality.verdict(self.findings) == "refused":
            return
        bodies = {level: body for level, body in bodies.items() if level in self.levels_wanted}
        self._leave_out_fractures(bodies, shapes)
        if bodies:
            self._calibrate(next(iter(bodies.values())).around.calibration_samples())
            self._leave_out_sclerosis(bodies)
        self._add(quality.levels_measured(list(bodies), self.levels_wanted))
        if bodies and self.calibration is not None:
            self._collect(bodies, affine)

    def compare(self) -> None:
        """Ask the second opinions on the slices that were measured, and judge whether they agree."""
        assert self.bodies is not None
        if self.density is None:
            return
        affine = shifted(self.volume.affine, self.slab.start)
        scan = {
            "image": as_image(self.volume.hu[:, :, self.slab], affine),
            "label": as_image(self.bodies[:, :, self.slab], affine),
        }
        thresholds = self.options.thresholds
        self.opinions = collect_opinions(
            self.density, self._status(), self.levels, self.kvp, thresholds, scan, self.models.opinions
        )
        self._add(quality.opinions_differ(self.opinions.given, self.findings, thresholds, self.options.limits))

    def result(self) -> ScreeningResult:
        """Return the result; a refused study keeps what was seen but no number that was measured."""
        verdict = quality.verdict(self.findings)
        measured = verdict != "refused" and self.density is not None
        thresholds = self.options.thresholds
        status = self._status() if measured else None
        distances = None
        if status is not None and self.density is not None:
            value = self.density.mg_cm3
            distances = {
                "osteoporosis_below": value - thresholds.osteoporosis_below,
                "normal_above": value - thresholds.normal_above,
            }
        return ScreeningResult(
            study=self.study,
            verdict=verdict,
            findings=tuple(quality.first_reasons_first(self.findings)),
            levels_found=self._levels_found(),
            bodies_above=len(self.column.above),
            levels=tuple(self.levels) if measured else (),
            density=self.density if measured else None,
            status=status,
            distance_to_thresholds=distances,
            thresholds_source=thresholds.source if distances else None,
            calibration=self.calibration if measured else None,
            opinions=self.opinions.given,
            opinions_absent=self.opinions.absent,
            acquisition=self._acquisition(),
            models=tuple(
                ModelUsed(bundle=m.name, version=m.version, weights_sha256=m.weights_sha256)
                for m in (self.models.localisation, self.models.column, self.models.segmentation, *self.opinions.used)
            ),
            seconds=self.seconds,
        )

    def images(self) -> "ReportImages":
        """Return what the report draws."""
        from osteo_monai.screening.images import ReportImages

        return ReportImages(
            self.volume.hu,
            self.volume.affine,
            self.bodies,
            self.regions,
            self._levels_found(),
            self.opinions.activation,
        )

    # parts of the steps

    def _add(self, *findings: Finding | None) -> None:
        """Keep findings; what reading has told already is not told again in other words."""
        told = {f.code for f in self.volume.findings}
        self.findings += [f for f in findings if f is not None and f.code not in told]

    def _status(self) -> BoneStatus | None:
        """Return the class of the density, if it is in the standard of the thresholds."""
        thresholds = self.options.thresholds
        if self.density is None or self.density.standard != thresholds.standard:
            return None
        return thresholds.status(self.density.mg_cm3, self.density.standard)

    def _wanted(self) -> list[Vertebra]:
        """Return the located vertebrae that are to be measured, from top to bottom."""
        return [v for v in self.column.vertebrae if v.level in self.levels_wanted]

    def _choose_levels(self) -> None:
        """By default take L1 alone where L2 is not whole."""
        if self.options.levels is not None:
            return
        first, *others = SCREENED_LEVELS
        for level in others:
            v = self.column.vertebra(level)
            if v is not None and v.complete:
                continue
            if self.column.vertebra(first) is not None:
                self.levels_wanted = tuple(wanted for wanted in self.levels_wanted if wanted is not level)
                reason = "it is not in view" if v is None else "it is cut by the end of the scan"
                self._add(quality.level_left_out(level, reason))

    def _with_neighbours(self) -> list[Vertebra]:
        """Return the wanted vertebrae and whole ones beside them to compare with, three in all, from top to bottom."""
        column = self.column.vertebrae
        index = [i for i, v in enumerate(column) if v.level in self.levels_wanted]
        # the one below is as high as a lumbar body, the one above a little lower
        beside = [i for i in (max(index) + 1, min(index) - 1) if 0 <= i < len(column) and column[i].complete]
        chosen = sorted(index + beside[: max(1, 3 - len(index))])
        return [column[i] for i in chosen]

    def _neighbour_shapes(self, affine: NDArray[np.float64]) -> dict[VertebraLevel, BodyShape]:
        """Measure the shapes of the bodies beside the wanted ones, as far as they have one."""
        assert self.bodies is not None
        shapes = {}
        for v in self.neighbours:
            try:
                shapes[v.level] = body_shape(self.bodies[:, :, self.slab] == v.level.label, affine)
            except ValueError:
                continue
        return shapes

    def _add_of_level(self, level: VertebraLevel, findings: Sequence[Finding]) -> None:
        """Keep findings of one level; by default a level below L1 that cannot be measured is left out, not refused."""
        refusals = [f for f in findings if f.severity is Severity.REFUSAL]
        spare = self.options.levels is None and level is not SCREENED_LEVELS[0]
        if not (refusals and spare) or any(f.code in quality.OF_THE_STUDY for f in refusals):
            self._add(*findings)
            return
        if level in self.levels_wanted:
            self.levels_wanted = tuple(wanted for wanted in self.levels_wanted if wanted is not level)
            self._add(quality.level_left_out(level, refusals[0].message))

    def _leave_out_sclerosis(self, bodies: dict[VertebraLevel, "_Body"]) -> None:
        """Take the denser of two bodies out of ``bodies`` where they cannot have the same bone."""
        if self.calibration is None or self.options.levels is not None or len(bodies) != 2:
            return
        densities = {v: density(b.hu.representative, self.calibration).mg_cm3 for v, b in bodies.items() if b.hu}
        denser = max(densities, key=lambda level: densities[level])
        finding = quality.sclerosis(denser, max(densities.values()) - min(densities.values()), self.options.limits)
        if finding is not None:
            self._add(finding)
            del bodies[denser]

    def _leave_out_fractures(
        self, bodies: dict[VertebraLevel, "_Body"], neighbours: Mapping[VertebraLevel, BodyShape]
    ) -> None:
        """Take fractured bodies out of ``bodies``: by their own heights, and against sound bodies beside them."""
        limits, step = self.options.limits, self.volume.spacing[2]
        shapes = {level: body.shape for level, body in bodies.items()} | dict(neighbours)
        own = {
            level: quality.height_loss(level, s.height_loss, s.height_mm, step, limits) for level, s in shapes.items()
        }
        order = list(VertebraLevel)
        for level in list(bodies):
            beside = [s.height_mm for other, s in shapes.items() if other is not level and own[other] is None
                      and abs(order.index(other) - order.index(level)) <= 2]  # fmt: skip
            shape = shapes[level]
            # lumbar bodies are about as high as their neighbours, a thoracic one is lower than what lies below it
            against = 1.0 - shape.height_mm / float(np.median(beside)) if beside else 0.0
            loss = max(shape.height_loss, against)
            finding = quality.height_loss(level, loss, shape.height_mm, step, limits)
            self._add(finding)
            if finding is not None and finding.code == "fracture":
                del bodies[level]

    def _flag_contrast(self) -> None:
        """Look at the aorta beside the vertebrae in view, the lowest first, when none will be outlined."""
        volume = self.volume
        for beside in [v for v in reversed(self.column.vertebrae) if v.level in AORTA_LEVELS]:
            cut = slab([beside], volume.affine, volume.hu.shape[2])
            hu, affine = volume.hu[:, :, cut], shifted(volume.affine, cut.start)
            valid = None if volume.valid is None else volume.valid[:, :, cut]
            try:
                aorta = tissues.find_aorta(hu, affine, stand_in(beside, hu.shape, affine), valid)
            except ValueError:  # too little of the vertebra is in view to look beside it
                continue
            if aorta is not None:
                self._add(quality.aorta_enhancement(*_aorta(aorta), self.options.limits))
                return

    def _judge_bodies(
        self, bodies: Mapping[VertebraLevel, "_Body"], neighbours: Mapping[VertebraLevel, BodyShape]
    ) -> None:
        limits = self.options.limits
        if not bodies:
            return
        sections = {level: body.shape.section_mm2 for level, body in bodies.items()}
        sections |= {level: shape.section_mm2 for level, shape in neighbours.items()}
        for level, body in bodies.items():
            shape = body.shape
            beside = [section for other, section in sections.items() if other is not level]
            found = [
                quality.body_shape(level, shape.width_mm, shape.depth_mm, shape.height_mm, limits),
                quality.section_beside_neighbours(level, shape.section_mm2, beside, limits),
                quality.metal(level, body.metal_mm3, limits),
            ]
            if body.region.reason is not None:
                found.append(quality.region_not_possible(level, body.region.reason))
            else:
                found += [
                    quality.region_size(level, body.region.voxels, body.region.volume_cm3, limits),
                    quality.cement(level, body.dense_cm3, limits),
                ]
            self._add_of_level(level, [f for f in found if f is not None])
        # one look around is enough: neighbours share their air and fat, and the aorta is asked where it is surest
        around = [body.around for body in bodies.values()]
        for look in around[:1]:
            self._add(
                quality.air_value(look.air.hu if look.air else None, limits),
                quality.fat_value(look.fat.hu if look.fat else None, limits),
            )
        self._add(quality.aorta_enhancement(*max((_aorta(look.aorta) for look in around), key=_surest), limits))

    def _calibrate(self, samples: Mapping[str, TissueSample]) -> None:
        options = self.options
        arguments = options.calibration_arguments()
        if arguments["method"] == "internal":
            arguments["tissues"] = samples
        assumed = self.kvp is None and arguments["method"] == "physics"
        kvp = options.limits.kvp_reference if assumed else self.kvp
        try:
            used = calibrate(kvp=kvp, standard=options.thresholds.standard, **arguments)
        except ValueError as error:
            self._add(quality.calibration_not_possible(str(error)))
            return
        if assumed:
            relative = math.hypot(used.relative_sd, UNKNOWN_KVP_RELATIVE_SD)
            note = f"{used.note} The tube voltage is unknown and {kvp:g} kVp was assumed."
            used = used.model_copy(update={"relative_sd": relative, "note": note})
        self.calibration = used
        self._add(quality.calibration_verified(used), quality.standard_of_thresholds(used, options.thresholds))

    def _collect(self, bodies: Mapping[VertebraLevel, "_Body"], affine: NDArray[np.float64]) -> None:
        assert self.calibration is not None
        self.regions = np.zeros(self.volume.hu.shape, dtype=bool)
        voxel_area = abs(float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))))
        instances = self.volume.instance_numbers
        for v in self._wanted():
            if v.level not in bodies:
                continue
            body = bodies[v.level]
            assert body.hu is not None
            self.regions[:, :, self.slab] |= body.region.mask
            k = self.slab.start + body.shape.centre_slice
            self.levels.append(
                LevelMeasurement(
                    level=v.level,
                    certainty=v.certainty,
                    slice_index=k,
                    instance_number=None if instances is None else instances[k],
                    centre_mm=body.shape.centre_mm,
                    body_volume_cm3=body.shape.volume_cm3,
                    height_mm=body.shape.height_mm,
                    region_name=body.region.name,
                    region_voxels=body.region.voxels,
                    region_area_mm2=float(body.region.mask[:, :, body.shape.centre_slice].sum()) * voxel_area,
                    region_volume_cm3=body.region.volume_cm3,
                    hu=body.hu,
                    density=density(body.hu.representative, self.calibration),
                )
            )
        self.density = mean_density([m.density for m in self.levels])
        if len(self.levels) == 1:
            self.density = widened(self.density, SINGLE_LEVEL_SD_MG_CM3)
        self._add(quality.level_spread([m.density.mg_cm3 for m in self.levels], self.options.limits))

    def _levels_found(self) -> tuple[LocatedLevel, ...]:
        return tuple(
            LocatedLevel(level=v.level, certainty=v.certainty, runner_up=v.runner_up, centre_mm=v.centre_mm)
            for v in self.column.vertebrae
        )

    def _acquisition(self) -> AcquisitionFacts:
        scan, volume = self.volume.acquisition, self.volume
        return AcquisitionFacts(
            kvp=self.kvp,
            kernel=scan.kernel,
            slice_thickness_mm=scan.slice_thickness_mm,
            manufacturer=scan.manufacturer,
            model=scan.model,
            contrast=scan.contrast,
            series_description=scan.series_description,
            age_years=scan.age_years,
            sex=scan.sex,
            shape=volume.original_shape,
            spacing_mm=volume.spacing,
        )


@dataclass(frozen=True)
class _Body:
    """What was measured in and around one body, before anything is judged."""

    shape: BodyShape
    region: Region
    hu: HUStatistics | None
    """``None`` where no region could be placed."""
    metal_mm3: float
    dense_cm3: float
    around: Surroundings

    @classmethod
    def measured(
        cls,
        body: NDArray[np.bool_],
        hu: NDArray[np.float32],
        affine: NDArray[np.float64],
        valid: NDArray[np.bool_] | None,
        limits: QualityLimits,
    ) -> "_Body":
        """Measure one body mask (X, Y, Z); raises ``ValueError`` where it has no shape."""
        frame = body_frame(body, affine)
        region = trabecular_region(body, hu, affine, valid, frame)
        return cls(
            shape=body_shape(body, affine, frame),
            region=region,
            hu=hu_statistics(hu, region.mask) if region.usable else None,
            metal_mm3=tissues.metal_volume_mm3(hu, affine, body, limits.metal_hu),
            dense_cm3=tissues.dense_volume_cm3(hu, affine, body, frame=frame),
            around=tissues.surroundings(hu, affine, body, valid, frame),
        )


def _aorta(aorta: Aorta | None) -> tuple[float | None, float]:
    return (None, 0.0) if aorta is None else (aorta.hu, aorta.certainty)


def _surest(aorta: tuple[float | None, float]) -> float:
    return aorta[1]
