"""One record of a data manifest: an image, facts of its subject, and its acquisition."""

import os
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from osteo_monai.domain import BoneStatus, Boundary, ContrastPhase, MineralStandard, Sex, VertebraLevel, View
from osteo_monai.utils.frozen import FrozenDict

PATH_FIELDS: tuple[str, ...] = ("image", "label", "segmentation", "centroids", "bone_mask", "truth")
"""Fields of a record that hold paths."""

_RecordView = Literal[View.CHEST_FRONTAL, View.CHEST_LATERAL, View.LUMBAR_AP, View.LUMBAR_LATERAL]
"""An unknown view is left out of a record."""


class Record(BaseModel):
    """An image with its labels and clinical fields; unknown values are left out, never replaced by a default.

    Paths are relative to the folder of the manifest, with forward slashes. Densities are those of the *subject*: all
    records of a subject have the same ``bmd_mg_cm3``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | tuple[str, ...] = Field(min_length=1)
    """A file, a folder with one DICOM series, or a list of files that MONAI stacks as channels."""
    subject_id: str = Field(min_length=1)
    """Pseudonym of the person. All records of a subject are in one split."""
    label: str | tuple[str, ...] | None = Field(default=None, min_length=1)
    """Label map on the grid of the image, with the integers of ``VertebraLevel.label`` for the bodies: the truth."""
    label_kind: Literal["vertebra", "body"] | None = None
    """Whether ``label`` has whole vertebrae or vertebral bodies; bodies if it is absent."""
    boundary: Boundary | None = None
    """Edge of the cortex that ``label`` follows; periosteal if it is absent."""
    centroids: str | None = Field(default=None, min_length=1)
    """JSON file with the centre of each body in RAS+ mm: ``{"L1": [x, y, z], ...}``."""
    segmentation: str | tuple[str, ...] | None = Field(default=None, min_length=1)
    """The bodies as predicted by the segmentation bundle; input of the classifiers in training and evaluation."""
    bone_mask: str | None = Field(default=None, min_length=1)
    """Mask on the grid of a radiograph, not 0 at bone; virtual patients have it."""
    truth: str | None = Field(default=None, min_length=1)
    """JSON file with all other facts of a virtual person."""
    level: VertebraLevel | None = None
    """Level that the image shows, if it shows only one (a slice)."""
    view: _RecordView | None = None
    """View of a radiograph; required by the bundles for radiographs, absent for CT."""

    age: float | None = Field(default=None, ge=0, le=120)
    """Years."""
    sex: Sex | None = None
    height_cm: float | None = Field(default=None, ge=30, le=250)
    weight_kg: float | None = Field(default=None, ge=1, le=400)

    bmd_mg_cm3: float | None = Field(default=None, ge=-100, le=600)
    """Trabecular density of the subject: mean of L1 and L2, by QCT or exact in a virtual person. Marrow fat can make a
    measured one slightly negative."""
    level_bmd_mg_cm3: Annotated[Mapping[VertebraLevel, float], AfterValidator(FrozenDict)] | None = None
    """The same by level."""
    bmd_standard: MineralStandard | None = None
    """Reference material of both densities; required if one of them is given."""
    areal_bmd_g_cm2: float | None = Field(default=None, ge=0.1, le=3)
    """DXA of the lumbar spine."""
    t_score: float | None = Field(default=None, ge=-10, le=10)
    """From DXA, never from CT."""
    bone_status: BoneStatus | None = None
    """Class of volumetric QCT; it must agree with ``bmd_mg_cm3`` if that is given."""

    acquired: date | None = None
    """Day of the acquisition, for temporal splits; days may be shifted if their order is kept."""
    centre: str | None = None
    manufacturer: str | None = None
    scanner: str | None = None
    kvp: float | None = Field(default=None, ge=40, le=200)
    kernel: str | None = None
    slice_thickness_mm: float | None = Field(default=None, gt=0, le=20)
    contrast_phase: ContrastPhase | None = None

    acquisition: str | None = None
    """Name of the acquisition in the cohort recipe."""
    variants: tuple[str, ...] | None = None
    """Anatomical variants of this spine, for results by variant."""
    extra: Annotated[Mapping[str, str | int | float | bool], AfterValidator(FrozenDict)] | None = None
    """User fields; they are not checked."""

    @model_validator(mode="after")
    def _label_is_there(self) -> Self:
        for name in ("label_kind", "boundary"):
            if getattr(self, name) is not None and self.label is None:
                raise ValueError(f"{name} must be given with a label, got none")
        return self

    @model_validator(mode="after")
    def _standard_is_named(self) -> Self:
        if self.bmd_standard is None and (self.bmd_mg_cm3 is not None or self.level_bmd_mg_cm3):
            standards = " or ".join(MineralStandard)
            raise ValueError(f"bmd_standard must be given with a density in mg/cm3, expected {standards}, got none")
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the image as a tuple."""
        return (self.image,) if isinstance(self.image, str) else self.image

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files that the record names."""
        named: list[str | tuple[str, ...] | None] = [getattr(self, field) for field in PATH_FIELDS]
        return tuple(path for paths in named if paths for path in ((paths,) if isinstance(paths, str) else paths))

    def moved(self, old: Path, new: Path) -> Self:
        """Return the record with paths relative to the folder ``new`` instead of ``old``.

        Links are not followed; absolute paths become relative too.

        Example:
            >>> record = Record(image="ct/1.nii", subject_id="p1")
            >>> record.moved(Path("study"), Path("study/manifests")).image
            '../ct/1.nii'
        """
        base = new.absolute()
        return self._with_paths(lambda path: Path(os.path.relpath((old / path).absolute(), base)).as_posix())

    def absolute(self, base: Path) -> Self:
        """Return the record with absolute paths; ``base`` is the folder of its manifest."""
        return self._with_paths(lambda path: str((base / path).absolute()))

    def _with_paths(self, change: Callable[[str], str]) -> Self:
        changed: dict[str, str | tuple[str, ...]] = {}
        for field in PATH_FIELDS:
            value: str | tuple[str, ...] | None = getattr(self, field)
            if value is not None:
                changed[field] = change(value) if isinstance(value, str) else tuple(change(path) for path in value)
        return self.model_copy(update=changed)
