"""One record of a data manifest: an image, what is known of its subject, and how it was acquired."""

import os
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from osteo_monai.domain import BoneStatus, MineralStandard, Sex, VertebraLevel

PATH_FIELDS: tuple[str, ...] = ("image", "label", "segmentation", "bone_mask", "truth")
"""Fields of a record that hold paths."""

Phase = Literal["native", "arterial", "portal_venous", "delayed", "unknown"]
View = Literal["chest_frontal", "chest_lateral", "lumbar_ap", "lumbar_lateral"]


class Record(BaseModel):
    """An image with its labels and clinical fields; what is not known is left out, never replaced by a default.

    Paths are relative to the folder of the manifest, with forward slashes. Densities belong to the *subject*: a
    subject with several images has the same ``bmd_mg_cm3`` in each of its records.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | tuple[str, ...] = Field(min_length=1)
    """A file, a folder with one DICOM series, or a list of files that MONAI stacks as channels."""
    subject_id: str = Field(min_length=1)
    """Pseudonym of the person. Records of one subject never stand in two splits."""
    label: str | tuple[str, ...] | None = Field(default=None, min_length=1)
    """Label map on the grid of the image, with the integers of ``VertebraLevel.label`` for the bodies: the truth."""
    segmentation: str | tuple[str, ...] | None = Field(default=None, min_length=1)
    """The same as the segmentation bundle predicts it; what the classifiers train on and are evaluated on."""
    bone_mask: str | None = Field(default=None, min_length=1)
    """Picture on the grid of a radiograph that is not 0 where bone was crossed; virtual patients have it."""
    truth: str | None = Field(default=None, min_length=1)
    """JSON file with everything else that is known of a virtual person."""
    level: VertebraLevel | None = None
    """The level that the image shows, where it shows one alone (a slice)."""
    view: View | None = None
    """What a radiograph shows; needed by the bundles for radiographs, absent from CT."""

    age: float | None = Field(default=None, ge=0, le=120)
    """Years."""
    sex: Sex | None = None
    height_cm: float | None = Field(default=None, ge=30, le=250)
    weight_kg: float | None = Field(default=None, ge=1, le=400)

    bmd_mg_cm3: float | None = Field(default=None, ge=-100, le=600)
    """Trabecular density of the subject: mean of L1 and L2, by QCT or exact in a virtual person. Marrow fat can make a
    real one slightly negative."""
    level_bmd_mg_cm3: dict[VertebraLevel, float] | None = None
    """The same by level."""
    bmd_standard: MineralStandard | None = None
    """Reference material of both densities; needed as soon as one of them is given."""
    areal_bmd_g_cm2: float | None = Field(default=None, ge=0.1, le=3)
    """DXA of the lumbar spine."""
    t_score: float | None = Field(default=None, ge=-10, le=10)
    """From DXA, never from CT."""
    bone_status: BoneStatus | None = None
    """Class of volumetric QCT; it must follow from ``bmd_mg_cm3`` where that is given."""

    acquired: date | None = None
    """Day of the acquisition, for temporal splits; shifted days serve as well as long as their order is kept."""
    centre: str | None = None
    manufacturer: str | None = None
    scanner: str | None = None
    kvp: float | None = Field(default=None, ge=40, le=200)
    kernel: str | None = None
    slice_thickness_mm: float | None = Field(default=None, gt=0, le=20)
    contrast_phase: Phase | None = None

    acquisition: str | None = None
    """Name of the acquisition in the cohort recipe."""
    variants: tuple[str, ...] | None = None
    """What is uncommon in this spine, for results by variant."""
    extra: dict[str, str | int | float | bool] | None = None
    """A place for fields of your own; nothing here is checked."""

    @model_validator(mode="after")
    def _standard_is_named(self) -> Self:
        if self.bmd_standard is None and (self.bmd_mg_cm3 is not None or self.level_bmd_mg_cm3):
            standards = " or ".join(MineralStandard)
            raise ValueError(f"bmd_standard must be given beside a density in mg/cm3, expected {standards}, got none")
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the image, always as a sequence."""
        return (self.image,) if isinstance(self.image, str) else self.image

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of everything that the record names."""
        named: list[str | tuple[str, ...] | None] = [getattr(self, field) for field in PATH_FIELDS]
        return tuple(path for paths in named if paths for path in ((paths,) if isinstance(paths, str) else paths))

    def moved(self, old: Path, new: Path) -> Self:
        """Return the record with its paths, relative to the folder ``old`` so far, relative to the folder ``new``."""

        def path(name: str) -> str:
            return Path(os.path.relpath((old / name).absolute(), new.absolute())).as_posix()

        changed: dict[str, str | tuple[str, ...]] = {}
        for field in PATH_FIELDS:
            value: str | tuple[str, ...] | None = getattr(self, field)
            if value is not None:
                changed[field] = path(value) if isinstance(value, str) else tuple(path(v) for v in value)
        return self.model_copy(update=changed)
