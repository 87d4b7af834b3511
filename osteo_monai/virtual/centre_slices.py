"""Centre slices of L1 and L2 of the people of a recipe, drawn once and kept as files (Pan 2024)."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from osteo_monai import __version__
from osteo_monai.data.slice_files import read_slice, write_slice
from osteo_monai.domain import SCREENED_LEVELS, Boundary, VertebraLevel
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.cohort import field_centre, grow, protocol_of
from osteo_monai.virtual.ct import acquire
from osteo_monai.virtual.datasets import body_mask
from osteo_monai.virtual.plan import ScanPlan, SubjectPlan, plan_cohort
from osteo_monai.virtual.recipe import find_recipe, read_recipe
from osteo_monai.virtual.threads import one_thread

__all__ = ["VirtualCentreSlices"]

TARGETED_FIELD_MM = 250.0
"""Fields of view below this are centred on the bodies, not on the trunk: they would not contain the spine."""

_LAYERS = 3
"""Planes across the slice thickness in which the bodies are evaluated for the mask."""

_PER_PERSON = len(SCREENED_LEVELS)

_DRAWING = 1
"""Raised when slices are drawn in another way, so that files of earlier code are not used."""


class VirtualCentreSlices(Dataset[dict[str, Any]]):
    """Centre axial slices of L1 and L2 of virtual people: two items a person, drawn when first used and then read.

    Slices follow from the recipe and the arguments only. Different arguments have different folders below ``folder``;
    several processes may use one. MONAI's ``PersistentDataset`` is not used: a process that is killed while it moves a
    file between disks leaves a part of it, which ends all later runs.

    Args:
        length: number of items: 2k and 2k + 1 are L1 and L2 of person ``people[0]`` + k. A smaller set is the beginning
            of a larger one.
        people: first person of the recipe and the one after the last; sets of people without overlap have no person in
            common.
        folder: where slices are kept.
        size: pixels along both sides.
        spacing_mm: pixel size.
        boundary: edge of the cortex that the mask follows.
        recipe: path, or name of a recipe of this release, whose first acquisition is a CT; its pixel and matrix are
            replaced by ``spacing_mm`` and ``size``.

    Items:
        ``image`` float32 (1, size, size) in whole HU; ``label`` float32 of the same shape, 1 in the body;
        ``subject_id``; ``level``.

    Raises:
        ConfigError: an argument is out of range, or the recipe has no CT or does not have these people.
    """

    def __init__(
        self,
        length: int,
        people: Sequence[int],
        folder: str | os.PathLike[str],
        size: int = 512,
        spacing_mm: float = 0.75,
        boundary: Boundary | str = Boundary.ENDOSTEAL,
        recipe: str = "virtual_pan2024",
    ) -> None:
        if boundary not in tuple(Boundary):
            raise ConfigError(f"boundary must be 'periosteal' or 'endosteal', got {boundary!r}")
        if size < 8 or spacing_mm <= 0:
            raise ConfigError(f"size must be at least 8 and spacing_mm positive, got {size} and {spacing_mm}")
        path = find_recipe(recipe)
        if path is None:
            raise ConfigError(f"recipe must be an existing file or a recipe of this release, got {recipe!r}")
        content = read_recipe(path)
        first, end = (int(n) for n in people)
        if not 0 <= first < end <= content.subjects:
            raise ConfigError(f"people must be two numbers from 0 to {content.subjects}, got {list(people)}")
        most = _PER_PERSON * (end - first)
        if not 1 <= length <= most:
            raise ConfigError(
                f"length must be 1 to {most}, {_PER_PERSON} slices of each of {end - first} people, got {length}"
            )
        self.length, self.people, self.recipe = length, (first, end), content.name
        self.size, self.spacing_mm, self.boundary = int(size), float(spacing_mm), Boundary(boundary)
        self._plans = plan_cohort(content)[first : first + -(-length // _PER_PERSON)]
        if not all(isinstance(plan.scans[0], ScanPlan) for plan in self._plans):
            raise ConfigError(f"recipe must have a CT as its first acquisition, got {recipe!r}")
        same = (content.model_dump(mode="json"), self.size, self.spacing_mm, self.boundary, __version__, _DRAWING)
        digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"{content.name}_{self.size}px_{self.spacing_mm:g}mm_{self.boundary}_{digest}"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        person, which = divmod(index, _PER_PERSON)
        plan, level = self._plans[person], SCREENED_LEVELS[which]
        image, label = self._files(plan, level)
        if not image.is_file():
            self._draw(plan)
        values, mask = (torch.from_numpy(read_slice(file))[None] for file in (image, label))
        return {"image": values, "label": (mask > 0).float(), "subject_id": plan.subject_id, "level": str(level)}

    def _files(self, plan: SubjectPlan, level: VertebraLevel) -> tuple[Path, Path]:
        """Return the files of image and mask."""
        stem = f"{plan.subject_id}_{level}"
        return self.folder / f"{stem}.nii", self.folder / f"{stem}_label.nii"

    def _draw(self, plan: SubjectPlan) -> None:
        """Draw and write the slices of one person."""
        with one_thread():  # sums depend on the number of threads
            anatomy, _ = grow(plan, dxa=False)
            for level in SCREENED_LEVELS:
                image, label = self._files(plan, level)
                hu, mask, affine = self._slice(anatomy, plan, level)
                write_slice(image, label, hu, mask, affine)

    def _slice(
        self, anatomy: Anatomy, plan: SubjectPlan, level: VertebraLevel
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
        """Return HU and mask (size, size) of the axial slice through the centre of a body, and its affine."""
        planned = plan.scans[0]
        assert isinstance(planned, ScanPlan)  # checked at the start
        targeted = self.size * self.spacing_mm < TARGETED_FIELD_MM
        step = planned.slice_thickness
        changed: dict[str, Any] = {"pixel": self.spacing_mm, "matrix": (self.size, self.size), "slice_step": step}
        scan = planned.model_copy(update=changed | ({"field": "spine"} if targeted else {}))
        z = float(anatomy.vertebra(level).centre[2])
        ct = acquire(
            anatomy,
            protocol_of(scan),
            z_range=(z - step, z + step),  # the neighbours are required for the slice profile
            centre_xy=field_centre(anatomy, scan, np.random.default_rng([scan.seed, 4])),
            seed=(scan.seed + level.label) % 2**31,
            tissues=plan.tissues,
        )
        affine = ct.affine.copy()
        affine[2, 3] = z
        origin = [affine[0, 3], affine[1, 3], z - 0.5 * step * (1 - 1 / _LAYERS)]
        layers = Canvas(origin, [self.spacing_mm, self.spacing_mm, step / _LAYERS], (self.size, self.size, _LAYERS))
        inside = body_mask(anatomy, layers, self.boundary).numpy().astype(np.uint8)
        return ct.hu[:, :, 1], inside * np.uint8(level.label), affine
