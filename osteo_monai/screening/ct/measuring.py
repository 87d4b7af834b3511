"""The measuring step: trabecular regions, gates of the bodies, calibration, density of each level and their mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, MineralStandard, VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.identifiers import valid_uid
from osteo_monai.imaging.original_grid import axial_frame
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement import tissues
from osteo_monai.measurement.calibration import (
    TissueSample,
    calibrate,
    density,
    mean_density,
    phantom_calibration,
    read_site_file,
    site_findings,
    site_line,
    widened,
)
from osteo_monai.measurement.calibration.accuracy import UNKNOWN_KVP_RELATIVE_SD
from osteo_monai.measurement.frame import body_frame
from osteo_monai.measurement.hu_statistics import hu_statistics
from osteo_monai.measurement.pedicles import Pedicles, find_pedicles
from osteo_monai.measurement.region import Region, trabecular_region
from osteo_monai.measurement.shape import BodyShape, body_shape
from osteo_monai.measurement.texture import UNITS, LevelTexture, level_texture
from osteo_monai.measurement.tissues import Surroundings
from osteo_monai.screening.ct.bodies import shifted
from osteo_monai.screening.ct.site_scan import corrected, site_scan
from osteo_monai.screening.ct.spines import PITCH_MM
from osteo_monai.screening.ct.steps import Checked, Located, Measured, Outlined, Selection, is_refused
from osteo_monai.screening.gates.axes import PEDICLE_GATES, PedicleFacts
from osteo_monai.screening.gates.bodies import (
    BODY_GATES,
    HEIGHT_GATES,
    METAL_HU,
    BodyFacts,
    HeightFacts,
    body_not_measurable,
)
from osteo_monai.screening.gates.gate import run_gates
from osteo_monai.screening.gates.image import KVP_REFERENCE, TISSUE_GATES, TissueFacts
from osteo_monai.screening.gates.limits import Limits
from osteo_monai.screening.gates.size import SIZE_GATES, SizeFacts
from osteo_monai.screening.gates.study import (
    CALIBRATION_GATES,
    PAIR_GATES,
    STUDY_GATES,
    CalibrationFacts,
    PairFacts,
    StudyFacts,
    calibration_not_possible,
)
from osteo_monai.screening.options import (
    InternalCalibration,
    PhantomCalibration,
    PhysicsCalibration,
    RegistryCalibration,
    SiteCalibration,
    UserCalibration,
)
from osteo_monai.screening.result import (
    CalibrationUsed,
    ContrastCorrected,
    Density,
    FrozenDict,
    HUStatistics,
    LevelMeasurement,
    TextureFeature,
    TextureMeasurement,
    TissueValues,
)
from osteo_monai.utils.threads import run_parallel

SINGLE_LEVEL_SD_MG_CM3 = 4.0
"""SD of one level against the mean of L1 and L2; project custom: in adults they differ by about 8 mg/cm3 (SD)."""


@dataclass(frozen=True, eq=False)
class Body:
    """Measurements in and around one body.

    Attributes:
        hu: of the trabecular region; ``None`` if no region could be placed.
        metal_mm3, dense_cm3: volumes of metal, and of bone too dense for trabecular bone.
    """

    shape: BodyShape
    region: Region
    hu: HUStatistics | None
    metal_mm3: float
    dense_cm3: float
    around: Surroundings
    pedicles: Pedicles


def measure(checked: Checked, located: Located, outlined: Outlined) -> Measured:
    """Measure each body, leave out fractured and sclerotic ones, calibrate, and check the values."""
    limits = checked.options.limits
    bodies, selection, findings = _measure_bodies(checked, located, outlined)
    around = _tissue_values([body.around for body in bodies.values()])
    if is_refused(checked.new(findings)):
        return Measured((), None, None, None, checked.new(findings), tissues=around)
    bodies = {level: body for level, body in bodies.items() if level in selection.levels}
    bodies, of_heights = _without_fractures(bodies, outlined.neighbours, checked.volume.spacing[2], limits)
    findings += of_heights
    calibration: CalibrationUsed | None = None
    if bodies:
        samples = next(iter(bodies.values())).around.calibration_samples()
        calibration, of_calibration = _calibration_used(checked, samples, around)
        findings += of_calibration
    if calibration is not None and not selection.fixed:
        bodies, of_pair = _without_sclerosis(bodies, calibration, limits)
        findings += of_pair
    vertebrae = [v for v in selection.among(located.column.vertebrae) if v.level in bodies]
    regions: NDArray[np.bool_] | None = None
    levels: tuple[LevelMeasurement, ...] = ()
    mean: Density | None = None
    contrast: ContrastCorrected | None = None
    if calibration is not None and bodies:
        slab, affine = outlined.slab, shifted(checked.volume.affine, outlined.slab.start)
        regions = np.zeros(checked.volume.hu.shape, dtype=bool)
        for v in vertebrae:
            regions[:, :, slab] |= bodies[v.level].region.mask
        levels = tuple(
            _level_measurement(v.level, v.certainty, bodies[v.level], calibration, checked, slab.start, affine)
            for v in vertebrae
        )
        mean = mean_density([m.density for m in levels])
        if len(levels) == 1:
            mean = widened(mean, SINGLE_LEVEL_SD_MG_CM3)
        contrast, of_contrast = corrected(checked, around, calibration, mean)
        findings += of_contrast
    study = StudyFacts(selection.levels, tuple(bodies), tuple(m.density.mg_cm3 for m in levels))
    findings += run_gates(STUDY_GATES, study, limits)
    return Measured(levels, regions, calibration, mean, checked.new(findings), tissues=around, contrast=contrast)


# --- bodies -------------------------------------------------------------------------------------------------------


def _measure_bodies(
    checked: Checked, located: Located, outlined: Outlined
) -> tuple[dict[VertebraLevel, Body], Selection, list[Finding]]:
    """Measure all selected bodies and check them; a level that is left out stays among the bodies."""
    volume, limits, slab = checked.volume, checked.options.limits, outlined.slab
    hu, affine = volume.hu[:, :, slab], shifted(volume.affine, slab.start)
    valid = None if volume.valid is None else volume.valid[:, :, slab]
    selection = outlined.selection
    findings: list[Finding] = []
    bodies: dict[VertebraLevel, Body] = {}

    def measured(level: VertebraLevel) -> Body | ValueError:
        try:
            return measure_body(outlined.bodies[:, :, slab] == level.label, hu, affine, valid, limits)
        except ValueError as error:
            return error

    levels = [v.level for v in selection.among(located.column.vertebrae)]
    for level, answer in zip(levels, run_parallel(measured, levels), strict=True):
        if isinstance(answer, Body):
            bodies[level] = answer
        else:
            selection, kept = selection.after(level, [body_not_measurable(level, str(answer))])
            findings += kept
    sections = {level: body.shape.section_mm2 for level, body in bodies.items()}
    sections |= {level: shape.section_mm2 for level, shape in outlined.neighbours.items()}
    for level, body in bodies.items():
        beside = tuple(section for other, section in sections.items() if other is not level)
        selection, kept = selection.after(level, run_gates(BODY_GATES, _body_facts(level, body, beside), limits))
        findings += kept
    findings += run_gates(SIZE_GATES, _size_facts(located, bodies), limits)
    findings += run_gates(PEDICLE_GATES, PedicleFacts(tuple(b.pedicles.above_hu for b in bodies.values())), limits)
    if bodies:
        around = _tissue_values([body.around for body in bodies.values()])
        facts = TissueFacts(**around.model_dump(), corrected=checked.options.contrast_correction is not None)
        findings += run_gates(TISSUE_GATES, facts, limits)
    return bodies, selection, findings


def measure_body(
    body: NDArray[np.bool_],
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    valid: NDArray[np.bool_] | None,
    limits: Limits,
) -> Body:
    """Measure one body mask (X, Y, Z).

    Raises:
        ValueError: if the mask has no shape.
    """
    frame = body_frame(body, affine)
    region = trabecular_region(body, hu, affine, valid, frame)
    return Body(
        shape=body_shape(body, affine, frame),
        region=region,
        hu=hu_statistics(hu, region.mask) if region.usable else None,
        metal_mm3=tissues.metal_volume_mm3(hu, affine, body, limits[METAL_HU]),
        dense_cm3=tissues.dense_volume_cm3(hu, affine, body, frame=frame),
        around=tissues.surroundings(hu, affine, body, valid, frame),
        pedicles=find_pedicles(hu, affine, body, frame),
    )


def _body_facts(level: VertebraLevel, body: Body, neighbour_sections_mm2: tuple[float, ...]) -> BodyFacts:
    return BodyFacts(
        level=level,
        width_mm=body.shape.width_mm,
        depth_mm=body.shape.depth_mm,
        height_mm=body.shape.height_mm,
        section_mm2=body.shape.section_mm2,
        neighbour_sections_mm2=neighbour_sections_mm2,
        metal_mm3=body.metal_mm3,
        dense_cm3=body.dense_cm3,
        region_voxels=body.region.voxels,
        region_cm3=body.region.volume_cm3,
        no_region=body.region.reason,
    )


def _size_facts(located: Located, bodies: Mapping[VertebraLevel, Body]) -> SizeFacts:
    complete = [v for v in located.column.vertebrae if v.complete]
    ratios = [
        math.dist(upper.centre_mm, lower.centre_mm) / PITCH_MM[(upper.level.value, lower.level.value)][0]
        for upper, lower in pairwise(complete)
        if (upper.level.value, lower.level.value) in PITCH_MM
    ]
    pitch = sum(ratios) / len(ratios) if ratios else 1.0
    across = {
        "width": {level: body.shape.width_mm for level, body in bodies.items()},
        "depth": {level: body.shape.depth_mm for level, body in bodies.items()},
        "pedicles": {level: mm for level, b in bodies.items() if (mm := b.pedicles.distance_mm) is not None},
    }
    return SizeFacts(pitch, len(ratios), across)


def _tissue_values(around: list[Surroundings]) -> TissueValues:
    """Take air and fat of the first body, which neighbours share, and the aorta where it is most certain."""
    if not around:
        return TissueValues()
    air, fat = around[0].air, around[0].fat
    aortas = [a.aorta for a in around if a.aorta is not None]
    aorta = max(aortas, key=lambda a: a.certainty, default=None)
    return TissueValues(
        air_hu=air.hu if air else None,
        fat_hu=fat.hu if fat else None,
        aorta_hu=aorta.hu if aorta else None,
        aorta_certainty=aorta.certainty if aorta else 0.0,
    )


def _without_fractures(
    bodies: Mapping[VertebraLevel, Body],
    neighbours: Mapping[VertebraLevel, BodyShape],
    spacing_mm: float,
    limits: Limits,
) -> tuple[dict[VertebraLevel, Body], list[Finding]]:
    """Leave out fractured bodies, by their own heights and by those of sound bodies beside them."""
    shapes = {level: body.shape for level, body in bodies.items()} | dict(neighbours)
    sound = {
        level
        for level, s in shapes.items()
        if not run_gates(HEIGHT_GATES, HeightFacts(level, s.height_loss, s.height_mm, spacing_mm), limits)
    }
    order = list(VertebraLevel)
    kept = dict(bodies)
    findings: list[Finding] = []
    for level in bodies:
        beside = [
            s.height_mm
            for other, s in shapes.items()
            if other is not level and other in sound and abs(order.index(other) - order.index(level)) <= 2
        ]
        shape = shapes[level]
        # lumbar bodies are about as high as their neighbours, a thoracic body is lower than the one below it
        against = 1.0 - shape.height_mm / float(np.median(beside)) if beside else 0.0
        facts = HeightFacts(level, max(shape.height_loss, against), shape.height_mm, spacing_mm)
        of_level = run_gates(HEIGHT_GATES, facts, limits)
        findings += of_level
        if any(f.code == "fracture" for f in of_level):
            del kept[level]
    return kept, findings


def _without_sclerosis(
    bodies: Mapping[VertebraLevel, Body], calibration: CalibrationUsed, limits: Limits
) -> tuple[dict[VertebraLevel, Body], list[Finding]]:
    """Leave out the denser of two bodies if they cannot have the same bone."""
    densities = {v: density(b.hu.representative, calibration).mg_cm3 for v, b in bodies.items() if b.hu}
    if len(densities) != 2:
        return dict(bodies), []
    denser = max(densities, key=lambda level: densities[level])
    pair = PairFacts(denser, max(densities.values()) - min(densities.values()))
    findings = run_gates(PAIR_GATES, pair, limits)
    return {level: body for level, body in bodies.items() if not findings or level is not denser}, findings


# --- calibration --------------------------------------------------------------------------------------------------


def _calibration_used(
    checked: Checked, samples: Mapping[str, TissueSample], around: TissueValues
) -> tuple[CalibrationUsed | None, list[Finding]]:
    """Calibrate by the method of the options; an unknown tube voltage is assumed for physics, with a wider interval."""
    options = checked.options
    assumed = checked.kvp is None and isinstance(options.calibration, PhysicsCalibration)
    kvp = options.limits[KVP_REFERENCE] if assumed else checked.kvp
    of_site: Sequence[Finding] = ()
    try:
        if isinstance(options.calibration, SiteCalibration):
            used, of_site = _site_line_used(options.calibration.path, checked, samples, around)
        else:
            used = line_of(options.calibration, checked.volume, kvp, options.thresholds.standard, samples)
    except (ValueError, UnusableInputError) as error:
        return None, [calibration_not_possible(str(error))]
    if assumed:
        relative = math.hypot(used.relative_sd, UNKNOWN_KVP_RELATIVE_SD)
        note = f"{used.note} The tube voltage is unknown and {kvp:g} kVp was assumed."
        used = used.model_copy(update={"relative_sd": relative, "note": note})
    findings = run_gates(CALIBRATION_GATES, CalibrationFacts(used, options.thresholds), options.limits)
    return used, [*findings, *of_site]


def _site_line_used(
    path: Path, checked: Checked, samples: Mapping[str, TissueSample], around: TissueValues
) -> tuple[CalibrationUsed, Sequence[Finding]]:
    file, scan = read_site_file(path), site_scan(checked, around)
    used = site_line(file, scan, samples, corrects_contrast=checked.options.contrast_correction is not None)
    return used, site_findings(file, scan, date.today())


def line_of(
    method: PhysicsCalibration | InternalCalibration | PhantomCalibration | RegistryCalibration | UserCalibration,
    volume: CTVolume,
    kvp: float | None,
    standard: MineralStandard,
    samples: Mapping[str, TissueSample],
) -> CalibrationUsed:
    """Return the line from HU to mg/cm3 by one method.

    Args:
        method: with its parameters.
        volume: for methods that measure objects in the scan.
        kvp: tube voltage in kV; ``None`` if unknown.
        standard: mineral of the density.
        samples: tissues of the patient.

    Raises:
        ValueError, UnusableInputError: if the method cannot be applied.
    """
    match method:
        case PhysicsCalibration():
            return calibrate("physics", kvp=kvp, standard=standard)
        case InternalCalibration():
            return calibrate("internal", kvp=kvp, standard=standard, tissues=samples)
        case PhantomCalibration(path):
            return phantom_calibration(volume, path)
        case RegistryCalibration(name):
            return calibrate("registry", kvp=kvp, standard=standard, registry_name=name, allow_unverified=True)
        case UserCalibration(slope, intercept):
            return calibrate("user", kvp=kvp, standard=standard, slope=slope, intercept=intercept)


# --- densities ----------------------------------------------------------------------------------------------------


def _level_measurement(
    level: VertebraLevel,
    certainty: float,
    body: Body,
    calibration: CalibrationUsed,
    checked: Checked,
    first_slice: int,
    affine: NDArray[np.float64],
) -> LevelMeasurement:
    if body.hu is None:
        raise ValueError(f"the trabecular region of {level} must be usable")
    k = first_slice + body.shape.centre_slice
    instances = checked.volume.instance_numbers
    frame = axial_frame(checked.volume, k)
    voxel_area = abs(float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))))
    return LevelMeasurement(
        level=level,
        certainty=certainty,
        slice_index=k,
        instance_number=None if instances is None else instances[k],
        sop_instance_uid=None if frame is None else valid_uid(frame.sop_instance_uid),
        frame_number=(frame.frame_number or None) if frame is not None else None,
        centre_mm=body.shape.centre_mm,
        body_volume_cm3=body.shape.volume_cm3,
        height_mm=body.shape.height_mm,
        region_name=body.region.name,
        region_voxels=body.region.voxels,
        region_area_mm2=float(body.region.mask[:, :, body.shape.centre_slice].sum()) * voxel_area,
        region_volume_cm3=body.region.volume_cm3,
        hu=body.hu,
        density=density(body.hu.representative, calibration),
    )


# --- texture ------------------------------------------------------------------------------------------------------


def with_texture(checked: Checked, outlined: Outlined, measured: Measured) -> Measured:
    """Add the texture of the trabecular regions to the measured levels.

    Raises:
        MissingExtraError: the extra ``texture`` is not installed.
    """
    if measured.regions is None:
        return measured
    texture = []
    for level in (m.level for m in measured.levels):
        region = measured.regions & (outlined.bodies == level.label)
        texture += [_texture_measurement(of_level) for of_level in level_texture(checked.volume, {level: region})]
    return replace(measured, texture=tuple(texture))


def _texture_measurement(texture: LevelTexture) -> TextureMeasurement:
    return TextureMeasurement(
        level=texture.level,
        features=tuple(
            TextureFeature(name=name, value=value, unit=UNITS[name]) for name, value in texture.features.items()
        ),
        not_computed=FrozenDict(texture.not_computed),
    )
