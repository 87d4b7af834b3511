"""Cohorts of virtual patients, from a recipe to files and a manifest."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from osteo_monai import __version__
from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import ContrastPhase, CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.files import write_dicom_series, write_nifti, write_truth
from osteo_monai.virtual.person import STANDARD, Person, Variant, draw_person
from osteo_monai.virtual.recipe import Coverage, ScanPlan, SubjectPlan, plan_cohort, read_recipe

_L = VertebraLevel
CHEST_LENGTH_MM = 298.0
"""150 slices of 2 mm: from below L2 to the upper chest."""


def z_range(anatomy: Anatomy, coverage: Coverage, rng: np.random.Generator) -> tuple[float, float]:
    """Return where a scan of ``coverage`` begins and ends (mm, in the anatomy's frame)."""
    z = {v.level: v for v in anatomy.vertebrae}
    if coverage == "chest":
        low = z[_L.L2].centre[2] - 0.5 * z[_L.L2].height - float(rng.uniform(16, 40))
        return float(low), float(low + CHEST_LENGTH_MM)
    top = z[_L.T11] if coverage == "abdomen" else z[_L.T8]
    return float(rng.uniform(-110, -40)), float(top.centre[2] + 0.5 * top.height + rng.uniform(0, 12))


def scan(anatomy: Anatomy, plan: ScanPlan) -> VirtualCT:
    """Make one planned scan."""
    rng = np.random.default_rng([plan.seed, 4])
    protocol = CTProtocol(
        kvp=plan.kvp,
        kernel=plan.kernel,
        noise_hu=plan.noise_hu,
        slice_thickness=plan.slice_thickness,
        slice_step=plan.slice_step,
        pixel=plan.pixel,
        matrix=plan.matrix,
        phase=ContrastPhase(plan.phase),
    )
    centre = (float(rng.normal(0, 8)), float(rng.normal(0, 8)))
    return acquire(
        anatomy, protocol, z_range=z_range(anatomy, plan.coverage, rng), centre_xy=centre, seed=plan.seed % 2**31
    )


def person_of(plan: SubjectPlan) -> Person:
    """Draw the planned person: density, height and weight follow from the plan's seed."""
    return draw_person(plan.seed, sex=plan.sex, age_years=plan.age_years, variants=plan.variants)


def write_virtual_study(
    output: Path,
    seed: int = 1,
    *,
    sex: Sex | None = None,
    age_years: float | None = None,
    mean_density: float | None = None,
    variants: frozenset[Variant] = frozenset(),
    kvp: float = 120.0,
    matrix: int = 512,
) -> Path:
    """Write one virtual chest CT as DICOM (``output``/dicom) with its truth and label map, and return that folder.

    150 slices of 2 mm, soft kernel, no contrast agent; what is not given of the person is drawn from ``seed``.
    """
    anatomy = Anatomy(draw_person(seed, sex=sex, age_years=age_years, mean_density=mean_density, variants=variants))
    plan = ScanPlan(
        acquisition="chest",
        seed=seed,
        kvp=kvp,
        kernel="soft",
        slice_thickness=2.0,
        slice_step=2.0,
        pixel=round(0.76 * 512 / matrix, 4),
        matrix=(matrix, matrix),
        noise_hu=12.0,
        phase="native",
        coverage="chest",
    )
    ct = scan(anatomy, plan)
    folder = output / "dicom"
    write_dicom_series(ct, folder, subject_id=f"virtual_{seed}")
    truth_folder = output / "truth"
    truth_folder.mkdir(parents=True, exist_ok=True)
    write_truth(ct, truth_folder / "truth.json")
    write_nifti(ct, truth_folder / "ct.nii.gz", truth_folder / "labels.nii.gz")
    return folder


def write_cohort(recipe_path: Path, output: Path, *, report: Callable[[Person, VirtualCT], None] | None = None) -> Path:
    """Write the cohort of a recipe and return its manifest, ``output``/manifest.json.

    Args:
        report: called with each person and scan, for those who want to measure while it is in memory.

    Raises:
        ValueError: the recipe is not one, or ``output`` holds a manifest already.
    """
    from osteo_monai.manifests import Header, Manifest, Record, write_manifest

    recipe = read_recipe(recipe_path)
    manifest_path = output / "manifest.json"
    if manifest_path.exists():
        raise ValueError(f"{output.name} holds a manifest already: choose another folder or remove it")
    splits: dict[str, list[Record]] = {}
    for plan in track(plan_cohort(recipe), description=f"Making {recipe.name}"):
        person = person_of(plan)
        anatomy = Anatomy(person)
        made: Counter[str] = Counter()
        for planned in plan.scans:
            made[planned.acquisition] += 1
            repeat = made[planned.acquisition]
            stem = f"{plan.subject_id}/{planned.acquisition}" + (f"_{repeat}" if repeat > 1 else "")
            ct = scan(anatomy, planned)
            if report is not None:
                report(person, ct)
            splits.setdefault(plan.split, []).extend(
                Record(**fields) for fields in _write_scan(ct, planned, output, stem, recipe.formats)
            )
    source = f"recipe {recipe_path.name}, osteo_monai {__version__}"
    header = Header(name=recipe.name, description=recipe.description, virtual=True, source=source)
    write_manifest(Manifest(header=header, splits=splits), manifest_path)
    return manifest_path


def _write_scan(
    ct: VirtualCT, planned: ScanPlan, output: Path, stem: str, formats: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Write one scan in each format, as ``subject/acquisition``, and return the fields of its records."""
    person, subject_id = ct.anatomy.person, stem.split("/")[0]
    (output / subject_id).mkdir(parents=True, exist_ok=True)
    known = write_truth(ct, output / f"{stem}_truth.json")
    write_nifti(ct, output / f"{stem}.nii.gz", output / f"{stem}_labels.nii.gz")
    images = {"nifti": f"{stem}.nii.gz", "dicom": f"{stem}_dicom"}
    if "dicom" in formats:
        write_dicom_series(ct, output / images["dicom"], subject_id=subject_id)
    common: dict[str, Any] = {
        "subject_id": subject_id,
        "label": f"{stem}_labels.nii.gz",
        "truth": f"{stem}_truth.json",
        "age": person.age_years,
        "sex": person.sex,
        "height_cm": round(person.height_cm, 1),
        "weight_kg": round(person.weight_kg, 1),
        "bmd_mg_cm3": person.mean_density,
        "level_bmd_mg_cm3": {level: person.density[level] for level in (_L.L1, _L.L2)},
        "bmd_standard": STANDARD,
        "bone_status": known["bone_status"],
        "areal_bmd_g_cm2": known["areal_density_g_cm2"],
        "t_score": known["t_score"],
        "centre": "virtual",
        "kvp": planned.kvp,
        "kernel": planned.kernel,
        "slice_thickness_mm": planned.slice_thickness,
        "contrast_phase": planned.phase,
        "acquisition": planned.acquisition,
        "variants": tuple(sorted(person.variants)),
    }
    return [{"image": images[kind], **common} for kind in formats]
