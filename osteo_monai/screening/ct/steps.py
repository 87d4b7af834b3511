"""The steps of the screening of a CT, each one function that returns one frozen value.

``check_image``, ``check``, ``locate``, ``outline``, ``measure`` and ``compare`` take the values of the steps before
them. The ``findings`` of a value are those of its step only.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import SCREENED_LEVELS, Finding, Severity, VertebraLevel
from osteo_monai.imaging.volume import Acquisition, CTVolume
from osteo_monai.measurement import tissues
from osteo_monai.measurement.body_axes import exchanged_axes
from osteo_monai.measurement.shape import BodyShape, body_shape
from osteo_monai.screening.ct.bodies import shifted, slab, stand_in
from osteo_monai.screening.ct.levels import Column, Vertebra, as_image
from osteo_monai.screening.ct.opinions import Opinions, collect_opinions
from osteo_monai.screening.ct.outlines import outline_bodies
from osteo_monai.screening.ct.values import value_facts
from osteo_monai.screening.gates.axes import AXES_GATES, AxesFacts
from osteo_monai.screening.gates.bodies import CORRELATED
from osteo_monai.screening.gates.gate import run_gates
from osteo_monai.screening.gates.image import IMAGE_GATES, UNREADABLE, ImageFacts, TissueFacts, aorta_enhancement
from osteo_monai.screening.gates.levels import (
    COLUMN_GATES,
    GAP_GATES,
    LEVEL_GATES,
    NAMING_GATES,
    NEIGHBOUR_GATES,
    ColumnFacts,
    GapFacts,
    LevelFacts,
    NeighbourFacts,
    level_left_out,
)
from osteo_monai.screening.gates.opinions import OPINION_GATES, OpinionFacts
from osteo_monai.screening.gates.person import PATIENT_GATES, PatientFacts
from osteo_monai.screening.gates.values import VALUE_GATES, WRONG_VALUES
from osteo_monai.screening.models import OpinionModels
from osteo_monai.screening.options import PhysicsCalibration, ScreeningOptions, SiteCalibration
from osteo_monai.screening.result import (
    CalibrationUsed,
    ContrastCorrected,
    Density,
    LevelMeasurement,
    Opinion,
    TextureMeasurement,
    TissueValues,
)

if TYPE_CHECKING:
    from osteo_monai.bundle import Bundle

AORTA_LEVELS = (VertebraLevel.T11, VertebraLevel.T12, VertebraLevel.T13, *(VertebraLevel(f"L{n}") for n in (1, 2, 3)))
"""Levels with the aorta in front of the column, above its bifurcation at L4."""


@dataclass(frozen=True)
class Selection:
    """The levels to measure.

    Attributes:
        levels: in the order of the request.
        fixed: the caller chose them, so that none may be left out.
    """

    levels: tuple[VertebraLevel, ...]
    fixed: bool

    @classmethod
    def of(cls, options: ScreeningOptions) -> "Selection":
        """Return the levels of the options, or the default ones."""
        return cls(options.levels or SCREENED_LEVELS, fixed=options.levels is not None)

    def without(self, level: VertebraLevel) -> "Selection":
        """Return the selection without a level."""
        return replace(self, levels=tuple(kept for kept in self.levels if kept is not level))

    def among(self, vertebrae: Iterable[Vertebra]) -> list[Vertebra]:
        """Return the selected vertebrae in their order."""
        return [v for v in vertebrae if v.level in self.levels]

    def after(self, level: VertebraLevel, findings: Sequence[Finding]) -> "tuple[Selection, list[Finding]]":
        """Apply the findings of a level.

        A default level below L1 that cannot be measured is left out with a warning instead of a refusal.
        """
        refusals = [f for f in findings if f.severity is Severity.REFUSAL]
        optional = not self.fixed and level is not SCREENED_LEVELS[0]
        if not (refusals and optional) or any(f.code in CORRELATED for f in refusals):
            return self, list(findings)
        if level not in self.levels:
            return self, []
        return self.without(level), [level_left_out(level, refusals[0].message)]


def is_refused(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is a refusal."""
    return any(f.severity is Severity.REFUSAL for f in findings)


# --- check --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """A volume whose values, acquisition and patient facts were checked.

    Attributes:
        kvp: tube voltage in kV, of the header or else of the options.
    """

    volume: CTVolume
    options: ScreeningOptions
    kvp: float | None
    findings: tuple[Finding, ...]

    @property
    def readable(self) -> bool:
        """Whether the values are HU, so that networks can be run."""
        return not any(f.severity is Severity.REFUSAL and f.code in UNREADABLE | WRONG_VALUES for f in self.findings)

    def new(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Return findings without those that reading reported under the same code with at least the same severity."""
        rank = list(Severity).index
        reported = {f.code: rank(f.severity) for f in self.volume.findings}
        return tuple(f for f in findings if rank(f.severity) > reported.get(f.code, -1))


_CONTRAST_ENTRIES = ("agent", "route", "volume", "total dose", "rate", "description")
"""Origins of ``Acquisition.contrast``."""


def shown_contrast(scan: Acquisition, options: ScreeningOptions) -> str | None:
    """Return the contrast entries of a header for the result: their origins, and their text only if it is requested."""
    if options.header_text or not scan.contrast:
        return scan.contrast
    origins = [name for name in _CONTRAST_ENTRIES if re.search(rf"\b{name}: ", scan.contrast)]
    return f"stated in {', '.join(origins)}" if origins else "stated"


@dataclass(frozen=True)
class CheckedImage:
    """A volume whose acquisition and range of values were checked, as :func:`check_image` returns it."""

    volume: CTVolume
    options: ScreeningOptions
    kvp: float | None
    findings: tuple[Finding, ...]

    @property
    def readable(self) -> bool:
        """Whether the values can be HU, so that tissues can be measured."""
        return not any(f.code in UNREADABLE for f in self.findings)


def check_image(volume: CTVolume, options: ScreeningOptions) -> CheckedImage:
    """Check what takes little time: range of values, acquisition."""
    scan = volume.acquisition
    image = ImageFacts(
        hu=volume.hu,
        valid=volume.valid,
        slice_spacing_mm=volume.spacing[2],
        slice_thickness_mm=scan.slice_thickness_mm,
        kvp_in_header=scan.kvp,
        kvp_of_caller=options.kvp,
        by_physics=isinstance(options.calibration, PhysicsCalibration),
        by_site=isinstance(options.calibration, SiteCalibration),
        kernel=scan.kernel,
        contrast=shown_contrast(scan, options),
    )
    return CheckedImage(volume, options, image.kvp, tuple(run_gates(IMAGE_GATES, image, options.limits)))


def check(image: CheckedImage) -> Checked:
    """Check the rest that needs no network: values by the tissues, patient."""
    volume, options, scan = image.volume, image.options, image.volume.acquisition
    # the gates report each missing fact separately
    of_reading = tuple(f for f in volume.findings if f.code != "acquisition_unknown")
    checked = Checked(volume, options, image.kvp, of_reading)
    findings = list(image.findings)
    if image.readable:
        facts = value_facts(volume.hu, volume.spacing, volume.valid, image.kvp)
        findings += run_gates(VALUE_GATES, facts, options.limits)
    findings += run_gates(PATIENT_GATES, PatientFacts(scan.age_years, scan.sex), options.limits)
    new = checked.new(findings)
    kept = tuple(f for f in of_reading if f.code not in {g.code for g in new})
    return replace(checked, findings=(*kept, *new))


# --- locate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """The named vertebrae and the levels to measure."""

    column: Column
    selection: Selection
    findings: tuple[Finding, ...]

    @property
    def selected(self) -> list[Vertebra]:
        """The vertebrae to measure, from the top down."""
        return self.selection.among(self.column.vertebrae)


def locate(checked: Checked, column: Column) -> Located:
    """Select the vertebrae to measure of a column; check that they are complete and named with certainty."""
    limits = checked.options.limits
    selection, findings = _default_levels(column, Selection.of(checked.options))
    facts = ColumnFacts(
        certainty={v.level: v.certainty for v in column.vertebrae},
        requested=selection.levels,
        unnamed=len(column.above),
        naming=column.naming,
        last_rib=column.last_rib(),
    )
    findings += run_gates(COLUMN_GATES, facts, limits)
    transitional = any(f.code == "transitional_spine" for f in findings)
    selected = selection.among(column.vertebrae)
    for v in selected:
        level = LevelFacts(v.level, v.certainty, v.runner_up, v.complete, transitional)
        findings += run_gates(LEVEL_GATES, level, limits)
    findings += run_gates(NAMING_GATES, facts, limits)
    scale = 1.0
    if column.naming is not None:
        scale = column.naming.scale
        levels = tuple(v.level for v in selected)
        for missed in column.naming.missed:
            findings += run_gates(GAP_GATES, GapFacts(missed, levels), limits)
    # the centre of an incomplete body is only estimated
    for upper, lower in itertools.pairwise(v for v in column.vertebrae if v.complete):
        if upper.level in selection.levels or lower.level in selection.levels:
            findings += run_gates(NEIGHBOUR_GATES, NeighbourFacts(upper, lower, scale), limits)
    located = Located(column, selection, checked.new(findings))
    if is_refused([*checked.findings, *located.findings]):
        more = checked.new(_contrast_beside(column, checked))
        if is_refused(located.findings):
            more += tuple(run_gates(AXES_GATES, _axes_facts(checked.volume), limits))
        return replace(located, findings=(*located.findings, *more))
    return located


def _axes_facts(volume: CTVolume) -> AxesFacts:
    return AxesFacts(exchanged_axes(volume.hu, volume.spacing, volume.valid))


def _default_levels(column: Column, selection: Selection) -> tuple[Selection, list[Finding]]:
    """By default measure only L1 if L2 is not complete."""
    findings: list[Finding] = []
    first, *others = SCREENED_LEVELS
    if selection.fixed or column.vertebra(first) is None:
        return selection, findings
    for level in others:
        v = column.vertebra(level)
        if v is None or not v.complete:
            selection = selection.without(level)
            reason = "it is not in view" if v is None else "it is cut by the end of the scan"
            findings.append(level_left_out(level, reason))
    return selection, findings


def _contrast_beside(column: Column, checked: Checked) -> list[Finding]:
    """Check the aorta beside the located vertebrae, the lowest first, in a study that is not segmented."""
    volume = checked.volume
    for v in [v for v in reversed(column.vertebrae) if v.level in AORTA_LEVELS]:
        cut = slab([v], volume.affine, volume.hu.shape[2])
        hu, affine = volume.hu[:, :, cut], shifted(volume.affine, cut.start)
        valid = None if volume.valid is None else volume.valid[:, :, cut]
        try:
            aorta = tissues.find_aorta(hu, affine, stand_in(v, hu.shape, affine), valid)
        except ValueError:  # too little of the vertebra is in view
            continue
        if aorta is not None:
            facts = TissueFacts(aorta_hu=aorta.hu, aorta_certainty=aorta.certainty)
            return run_gates((aorta_enhancement,), facts, checked.options.limits)
    return []


# --- outline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outlined:
    """The segmented bodies.

    Attributes:
        slab: the axial slices that were segmented.
        bodies: (X, Y, Z) label map of the whole volume with ``VertebraLevel.label``.
        neighbours: shapes of sound bodies beside the selected ones.
        selection: the levels that are left to measure.
    """

    slab: slice
    bodies: NDArray[np.uint8]
    neighbours: Mapping[VertebraLevel, BodyShape]
    selection: Selection
    findings: tuple[Finding, ...]


def outline(checked: Checked, located: Located, segmentation: "Bundle") -> Outlined:
    """Segment the selected bodies and their neighbours, and separate them."""
    volume, selected = checked.volume, located.selected
    around = _with_neighbours(located)
    outlines = outline_bodies(volume, around, segmentation, checked.options.limits)
    affine = shifted(volume.affine, outlines.slab.start)
    neighbours: dict[VertebraLevel, BodyShape] = {}
    for v in around:
        if v not in selected and not outlines.findings[v.level]:
            try:
                neighbours[v.level] = body_shape(outlines.bodies[:, :, outlines.slab] == v.level.label, affine)
            except ValueError:  # without a shape it is no reference
                continue
    selection = located.selection
    findings: list[Finding] = []
    for v in selected:
        selection, kept = selection.after(v.level, outlines.findings[v.level])
        findings += kept
    return Outlined(outlines.slab, outlines.bodies, neighbours, selection, checked.new(findings))


def _with_neighbours(located: Located) -> list[Vertebra]:
    """Return the selected vertebrae with complete neighbours for comparison, three in all, from the top down."""
    column = located.column.vertebrae
    index = [i for i, v in enumerate(column) if v.level in located.selection.levels]
    # the body below is as high as a lumbar body, the one above is slightly lower
    beside = [i for i in (max(index) + 1, min(index) - 1) if 0 <= i < len(column) and column[i].complete]
    return [column[i] for i in sorted(index + beside[: max(1, 3 - len(index))])]


# --- measure (see measuring.py) -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Measured:
    """The measured levels.

    Attributes:
        levels: measurements; empty if a gate refused.
        regions: (X, Y, Z) trabecular regions; ``None`` if none was measured.
        calibration: ``None`` if not possible or not reached.
        density: mean over the levels; ``None`` if there is none.
        texture: of the levels; empty if not requested.
        tissues: near the bodies; ``None`` if no body was measured.
        contrast: density without the shift by contrast agent; ``None`` if not requested or not possible.
    """

    levels: tuple[LevelMeasurement, ...]
    regions: NDArray[np.bool_] | None
    calibration: CalibrationUsed | None
    density: Density | None
    findings: tuple[Finding, ...]
    texture: tuple[TextureMeasurement, ...] = ()
    tissues: TissueValues | None = None
    contrast: ContrastCorrected | None = None


# --- compare ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """The comparison models on the measured slices."""

    opinions: Opinions
    findings: tuple[Finding, ...]


def compare(
    checked: Checked, outlined: Outlined, measured: Measured, findings: Sequence[Finding], models: OpinionModels
) -> Compared:
    """Run the comparison models on the measured slices, and check whether they agree.

    Args:
        findings: of all steps before, as possible reasons of a difference.
    """
    if measured.density is None:
        return Compared(Opinions(), ())
    volume, thresholds = checked.volume, checked.options.thresholds
    affine = shifted(volume.affine, outlined.slab.start)
    density = measured.density
    line = Opinion(
        name="hu_line",
        status=None if density.standard != thresholds.standard else thresholds.status(density.mg_cm3, density.standard),
        density=density,
        level_densities={m.level: m.density for m in measured.levels},
    )
    scan = {
        "image": as_image(volume.hu[:, :, outlined.slab], affine),
        "label": as_image(outlined.bodies[:, :, outlined.slab], affine),
    }
    opinions = collect_opinions(line, measured.levels, checked.kvp, thresholds, scan, models)
    facts = OpinionFacts(opinions.given, findings, thresholds)
    return Compared(opinions, checked.new(run_gates(OPINION_GATES, facts, checked.options.limits)))
