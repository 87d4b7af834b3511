"""Virtual patients in the layout of VerSe, with a manifest as an importer would write it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from osteo_monai.data import Header, Manifest, Record, write_manifest
from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.cohort import scan
from osteo_monai.virtual.dxa import areal_density
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.plan import ScanPlan

SCANNERS = ("Philips Brilliance 64", "Siemens AS+")


def plan_of(seed: int, matrix: int, phase: str) -> ScanPlan:
    return ScanPlan(
        acquisition="chest", seed=seed, kvp=120.0, kernel="soft", slice_thickness=2.0, slice_step=2.0,
        pixel=round(0.76 * 512 / matrix, 4), matrix=(matrix, matrix), noise_hu=12.0, phase=phase, coverage="chest",
    )  # fmt: skip


def save_pir(array: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    """Write a volume with its axes to the back, down and to the right, as VerSe has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("PIR"))
    turned = image.as_reoriented(turn)
    turned.set_sform(turned.affine, 1)
    nib.save(turned, path)


def write_verse(root: Path, seeds: Sequence[int], matrix: int = 512) -> Path:
    """Write one scan of each virtual person and return the manifest; the tube voltage is unknown, as in VerSe.

    Densities, T-scores, scanner (in turn), contrast phase (every fifth portal venous) and a published density with an
    error of 10 mg/cm3 are in the manifest, and none in the images.
    """
    records = []
    for number, seed in enumerate(seeds):
        subject = f"verse{number:03d}"
        anatomy = Anatomy(draw_person(seed))
        phase = "portal_venous" if number % 5 == 4 else "native"
        ct = scan(anatomy, plan_of(seed, matrix, phase))
        raw = f"dataset-virtualtraining/rawdata/sub-{subject}/sub-{subject}_ct.nii.gz"
        stem = f"dataset-virtualtraining/derivatives/sub-{subject}/sub-{subject}_seg"
        save_pir(ct.hu.astype(np.int16), ct.affine, root / raw)
        bodies = np.where(np.isin(ct.labels, [v.label for v in VertebraLevel]), ct.labels, 0)
        bodies[ct.labels == VertebraLevel.SACRUM.label] = 0  # VerSe has none
        save_pir(bodies.astype(np.uint8), ct.affine, root / f"{stem}-vert_msk.nii.gz")
        centres = {str(n): [float(c) for c in anatomy.vertebra(n).centre] for n in ct.complete_levels}
        centres.pop(str(VertebraLevel.SACRUM), None)
        (root / f"{stem}_centres.json").write_text(json.dumps(centres))
        areal = areal_density(anatomy)
        rng = np.random.default_rng(seed)
        records.append(
            Record(
                image=raw,
                subject_id=subject,
                label=f"{stem}-vert_msk.nii.gz",
                label_kind="body",
                centroids=f"{stem}_centres.json",
                age=anatomy.person.age_years,
                sex=anatomy.person.sex,
                bmd_mg_cm3=anatomy.person.mean_density,
                bmd_standard="K2HPO4",
                t_score=round(areal.t_score, 2),
                scanner=SCANNERS[number % 2],
                contrast_phase=phase,
                extra={"published_mg_cm3": round(anatomy.person.mean_density + float(rng.normal(0, 10)), 1)},
            )
        )
    path = root / "manifest.json"
    header = Header(name="Virtual VerSe", description="Virtual patients in the layout of VerSe", virtual=True)
    write_manifest(Manifest(header=header, splits={"training": tuple(records)}), path)
    return path
