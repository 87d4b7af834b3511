"""Cohorts of virtual patients, from a recipe to files and a manifest."""

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.progress import track

from osteo_monai import __version__
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, ContrastPhase, Sex, VertebraLevel, View
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.files import write_json, write_text
from osteo_monai.utils.inputs import read_input
from osteo_monai.virtual.anatomy import Anatomy, AnatomyWithNeck
from osteo_monai.virtual.ct import CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.dxa import YOUNG_ADULT, ArealDensity, areal_density, reading_error
from osteo_monai.virtual.files import (
    radiograph_truth,
    write_bone_mask,
    write_dicom_series,
    write_nifti,
    write_radiograph_dicom,
    write_radiograph_png,
    write_truth,
)
from osteo_monai.virtual.person import STANDARD, Person, Variant, draw_person
from osteo_monai.virtual.plan import RadiographPlan, ScanPlan, SubjectPlan, plan_cohort
from osteo_monai.virtual.radiograph import RadiographProtocol, draw_protocol, project, usual_protocol
from osteo_monai.virtual.recipe import CohortRecipe, Coverage, read_recipe
from osteo_monai.virtual.spread import TissueSpread
from osteo_monai.virtual.threads import one_thread, reserve_threads

_L = VertebraLevel
T = TypeVar("T")
_Made = list[dict[str, Any]]
"""Fields of the records of one person."""
CHEST_LENGTH_MM = 298.0
"""150 slices of 2 mm: from below L2 to the upper chest."""
ABOVE_T1_MM = (14.0, 50.0)
"""End of a chest CT above the centre of T1: a scan from above the apexes of the lungs shows C7 or a part of it."""
_MOST_ATTEMPTS = 2000
"""Number of redraws of a person to reach the planned T-score."""
_T_SCORE_FIT: dict[Sex, tuple[float, float]] = {Sex.FEMALE: (-4.23, 0.0241), Sex.MALE: (-4.10, 0.0243)}
"""T-score of an areal density simulated at the spine from the volumetric one, without its reading error: intercept and
per mg/cm3, measured on 1,120 of these bodies (residual SD 0.33); used to skip people far on the wrong side."""
SPARE_MM = (4.0, 8.0)
"""Margin of a scan of L1 and L2 only beyond their bodies."""


def z_range(anatomy: Anatomy, coverage: Coverage, rng: np.random.Generator) -> tuple[float, float]:
    """Return where a scan of ``coverage`` starts and ends (mm, in the frame of the anatomy)."""
    z = {v.level: v for v in anatomy.vertebrae}
    if coverage in ("chest", "chest_with_neck"):
        low = z[_L.L2].centre[2] - 0.5 * z[_L.L2].height - float(rng.uniform(16, 40))
        high = low + CHEST_LENGTH_MM if coverage == "chest" else z[_L.T1].centre[2] + float(rng.uniform(*ABOVE_T1_MM))
        return float(low), float(high)
    if coverage == "l1_l2":
        spare = rng.uniform(*SPARE_MM, 2)
        low, high = z[_L.L2].centre[2] - z[_L.L2].reach_z, z[_L.L1].centre[2] + z[_L.L1].reach_z
        return float(low - spare[0]), float(high + spare[1])
    top = z[_L.T11] if coverage == "abdomen" else z[_L.T8]
    return float(rng.uniform(-110, -40)), float(top.centre[2] + 0.5 * top.height + rng.uniform(0, 12))


def scan(anatomy: Anatomy, plan: ScanPlan, tissues: TissueSpread | None = None) -> VirtualCT:
    """Make one planned scan of a person whose tissues differ by ``tissues``."""
    if plan.coverage == "chest_with_neck":
        anatomy = AnatomyWithNeck(anatomy.person)
    rng = np.random.default_rng([plan.seed, 4])
    centre = field_centre(anatomy, plan, rng)
    return acquire(
        anatomy,
        protocol_of(plan),
        z_range=z_range(anatomy, plan.coverage, rng),
        centre_xy=centre,
        seed=plan.seed % 2**31,
        tissues=tissues,
    )


def protocol_of(plan: ScanPlan) -> CTProtocol:
    """Return the protocol of a planned scan."""
    return CTProtocol(
        kvp=plan.kvp,
        kernel=plan.kernel,
        noise_hu=plan.noise_hu,
        slice_thickness=plan.slice_thickness,
        slice_step=plan.slice_step,
        pixel=plan.pixel,
        matrix=plan.matrix,
        phase=ContrastPhase(plan.phase),
        gain=plan.gain,
        offset_hu=plan.offset_hu,
        beam=plan.beam,
        hardening=plan.hardening,
    )


def field_centre(anatomy: Anatomy, plan: ScanPlan, rng: np.random.Generator) -> tuple[float, float]:
    """Return the offset of the field of view from the middle of the trunk in mm, drawn from ``rng``."""
    centre = (float(rng.normal(0, 8)), float(rng.normal(0, 8)))
    if plan.field == "spine":  # a targeted reconstruction is centred on the bodies
        aim = 0.5 * (anatomy.vertebra(_L.L1).centre + anatomy.vertebra(_L.L2).centre) - anatomy.trunk_centre
        centre = (float(aim[0]) + 0.4 * centre[0], float(aim[1]) + 0.4 * centre[1])
    return centre


def person_of(plan: SubjectPlan) -> Person:
    """Draw the planned person: density, height and weight follow from the plan's seed.

    If osteoporosis is planned, :func:`grow` may redraw.
    """
    return _redrawn(plan, 0)


def _redrawn(plan: SubjectPlan, attempt: int) -> Person:
    """Return the planned person, or with ``attempt`` above 0 another one of the same age and sex."""
    seed = plan.seed
    if attempt:
        seed = int.from_bytes(hashlib.sha256(f"{plan.seed}/again {attempt}".encode()).digest()[:6], "big")
    person = draw_person(seed, sex=plan.sex, age_years=plan.age_years, variants=plan.variants)
    if plan.body_mass_index is None:
        return person
    index = float(np.clip(np.random.default_rng([seed, 9]).normal(*plan.body_mass_index), 15.0, 42.0))
    return replace(person, weight_kg=index * (person.height_cm / 100.0) ** 2)


def grow(plan: SubjectPlan, dxa: bool = True) -> tuple[Anatomy, ArealDensity | None]:
    """Generate the anatomy of the planned person and its areal density; redraw until the T-score is as planned.

    Raises:
        ConfigError: people of this age and sex do not reach the planned T-score.
    """
    for attempt in range(_MOST_ATTEMPTS):
        person = _redrawn(plan, attempt)
        if plan.osteoporosis is not None:
            intercept, slope = _T_SCORE_FIT[person.sex]
            expected = intercept + slope * person.mean_density + reading_error(person) / YOUNG_ADULT[person.sex][1]
            # an anatomy takes 0.2 s: skip people far on the wrong side
            if (
                (expected > OSTEOPOROSIS_T_SCORE + 1.0)
                if plan.osteoporosis
                else (expected < OSTEOPOROSIS_T_SCORE - 1.0)
            ):
                continue
        anatomy = Anatomy(person)
        areal = areal_density(anatomy) if dxa else None
        if plan.osteoporosis is None or (areal is not None and areal.osteoporosis == plan.osteoporosis):
            return anatomy, areal
    wanted = "at most" if plan.osteoporosis else "above"
    raise ConfigError(
        f"osteoporosis must be possible: of {_MOST_ATTEMPTS} people ({plan.sex}, {plan.age_years:g} years) none has a "
        f"T-score {wanted} {OSTEOPOROSIS_T_SCORE}"
    )


def radiograph_protocol(plan: RadiographPlan) -> RadiographProtocol:
    """Return the planned protocol of a radiograph, with positioning and collimation by its seed."""
    base = usual_protocol(plan.view, plan.rows)
    processing: dict[str, Any] = {name: value for name, value in plan.values.items() if hasattr(base.processing, name)}
    rest: dict[str, Any] = {name: value for name, value in plan.values.items() if name not in processing}
    if plan.filtration is not None:
        rest["filtration"] = plan.filtration
    base = replace(
        base,
        processing=replace(base.processing, **processing),
        bits=plan.bits,
        photometric=plan.photometric,
        modality=plan.detector,
        device=plan.device,
        **rest,
    )
    return draw_protocol(base, np.random.default_rng([plan.seed, 4]))


def make_radiograph(
    output: Path,
    seed: int = 1,
    *,
    view: View | str = View.CHEST_FRONTAL,
    sex: Sex | None = None,
    age_years: float | None = None,
    mean_density: float | None = None,
    variants: frozenset[Variant] = frozenset(),
    rows: int = 1024,
) -> Path:
    """Write one virtual radiograph as DICOM and PNG with its truth and bone mask into ``output``; return the DICOM.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import View, make_radiograph
        >>> make_radiograph(Path("radiograph"), view=View.LUMBAR_AP, rows=256).name
        'lumbar_ap.dcm'
    """
    with reserve_threads():
        person = draw_person(seed, sex=sex, age_years=age_years, mean_density=mean_density, variants=variants)
        anatomy = Anatomy(person)
        made = project(anatomy, draw_protocol(usual_protocol(view, rows), np.random.default_rng([seed, 4])), seed)
        areal = areal_density(anatomy)
    path = output / f"{made.protocol.view}.dcm"
    write_radiograph_dicom(made, path, subject_id=f"virtual_{seed}")
    write_radiograph_png(made, path.with_suffix(".png"))
    write_bone_mask(made, output / f"{path.stem}_bone.png")
    write_json(output / f"{path.stem}_truth.json", radiograph_truth(made, areal), indent=1)
    return path


def make_ct(
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

    150 slices of 2 mm, soft kernel, no contrast agent; facts of the person without a value are drawn from ``seed``.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_ct
        >>> study = make_ct(Path("ct"), seed=1, mean_density=75.0, matrix=64)
        >>> len(list(study.iterdir()))
        150
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
    write_truth(ct, truth_folder / "truth.json", areal_density(anatomy))
    write_nifti(ct, truth_folder / "ct.nii.gz", truth_folder / "labels.nii.gz")
    return folder


def make_cohort(
    recipe_path: Path,
    output: Path,
    *,
    workers: int = 1,
    report: Callable[[Person, VirtualCT], None] | None = None,
) -> Path:
    """Write the cohort of a recipe and return its manifest, ``output``/manifest.json.

    The same recipe gives the same bytes, independent of the number of workers. An interrupted cohort is continued:
    people with complete files are kept.

    Args:
        workers: processes that generate people in parallel.
        report: called with each person and scan while it is in memory.

    Raises:
        ConfigError: the recipe is invalid or its classes are impossible, or ``workers`` is less than 1, or more than 1
            with ``report``.
        UnusableInputError: the recipe cannot be read, or ``output`` has a manifest or an unfinished cohort of another
            recipe.

    Example:
        >>> import json
        >>> from contextlib import redirect_stdout
        >>> from pathlib import Path
        >>> from osteo_monai import make_cohort
        >>> scan = {"name": "chest", "kvp": 120, "kernel": "soft", "matrix": 128}
        >>> scan |= {"slice_thickness": 5.0, "slice_step": 5.0}
        >>> recipe = {"name": "demo", "description": "one person", "seed": 1, "subjects": 1, "splits": {"test": 1.0}}
        >>> recipe |= {"acquisitions": [scan], "formats": ["nifti"]}
        >>> _ = Path("recipe.json").write_text(json.dumps(recipe))
        >>> with redirect_stdout(None):  # without the progress bar
        ...     manifest = make_cohort(Path("recipe.json"), Path("cohort"))
        >>> manifest.name
        'manifest.json'
    """
    from osteo_monai.data import Header, Manifest, Record, write_manifest

    if workers < 1 or (workers > 1 and report is not None):
        raise ConfigError(f"workers must be 1 or more, and 1 with report, got {workers}")
    recipe = read_recipe(recipe_path)
    manifest_path = output / "manifest.json"
    if manifest_path.exists():
        raise UnusableInputError(
            f"'{output.name}' must be a folder without a manifest: choose another folder or remove it"
        )
    plans = plan_cohort(recipe)
    marker, begun = mark(output, recipe)
    make = partial(_make_person, output=output, formats=recipe.formats, dxa=recipe.dxa, keep=begun, report=report)
    splits: dict[str, list[Record]] = {}
    with each(make, plans, workers) as people:
        for plan, made in track(zip(plans, people, strict=True), f"Generating {recipe.name}", total=len(plans)):
            splits.setdefault(plan.split, []).extend(Record(**fields) for fields in made)
    source = f"recipe {recipe_path.name}, osteo_monai {__version__}"
    header = Header(name=recipe.name, description=recipe.description, virtual=True, source=source)
    write_manifest(Manifest(header=header, splits=splits), manifest_path)
    marker.unlink()
    return manifest_path


def mark(output: Path, recipe: CohortRecipe) -> tuple[Path, bool]:
    """Write a marker of the cohort; return it and whether the same cohort was started before."""
    marker = output / ".unfinished.json"
    fields = recipe.model_dump(mode="json")
    newer: list[tuple[dict[str, Any], str, object]] = [(fields, "osteoporosis", None)]
    newer += [(fields["population"], name, None) for name in ("body_mass_index", "tissues")]
    newer += [(a, name, 0.0) for a in fields["acquisitions"] for name in ("beam_sd", "hardening_sd") if name in a]
    for holder, name, default in newer:
        if holder[name] == default:  # newer than cohorts that may be unfinished
            del holder[name]
    content = json.dumps({"version": __version__, "recipe": fields}, sort_keys=True)
    if marker.exists():
        if read_input(marker) != content:
            raise UnusableInputError(
                f"'{output.name}' must not hold an unfinished cohort of another recipe or version: remove it"
            )
        return marker, True
    write_text(marker, content)
    return marker, False


@contextmanager
def each(make: Callable[[SubjectPlan], T], plans: Sequence[SubjectPlan], workers: int) -> Iterator[Iterable[T]]:
    """Yield the results of ``make`` in order; on one thread a person, since sums depend on the number of threads."""
    if workers > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield pool.map(make, plans, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)
        return
    with one_thread():
        yield map(make, plans)


def _make_person(
    plan: SubjectPlan,
    *,
    output: Path,
    formats: tuple[str, ...],
    dxa: bool,
    keep: bool,
    report: Callable[[Person, VirtualCT], None] | None,
) -> _Made:
    """Write the scans of one person, or ``keep`` complete ones, and return the fields of their records."""
    stems: list[str] = []
    made: Counter[str] = Counter()
    for planned in plan.scans:
        made[planned.acquisition] += 1
        repeat = made[planned.acquisition]
        stems.append(f"{plan.subject_id}/{planned.acquisition}" + (f"_{repeat}" if repeat > 1 else ""))
    # the truth is written last, so that its presence means a complete scan
    truths = [output / f"{stem}_truth.json" for stem in stems]
    if keep and all(path.exists() for path in truths):
        facts = [json.loads(read_input(path)) for path in truths]
    else:
        for path in truths:
            path.unlink(missing_ok=True)
        anatomy, areal = grow(plan, dxa)
        facts = []
        for planned, stem in zip(plan.scans, stems, strict=True):
            if isinstance(planned, RadiographPlan):
                facts.append(_write_radiograph(anatomy, planned, areal, output, stem, formats))
                continue
            ct = scan(anatomy, planned, plan.tissues)
            if report is not None:
                report(anatomy.person, ct)
            facts.append(_write_scan(ct, areal, output, stem, formats))
    return [
        fields
        for planned, stem, scan_facts in zip(plan.scans, stems, facts, strict=True)
        for fields in _records(plan, planned, stem, scan_facts, formats)
    ]


def _write_radiograph(
    anatomy: Anatomy,
    planned: RadiographPlan,
    areal: ArealDensity | None,
    output: Path,
    stem: str,
    formats: tuple[str, ...],
) -> dict[str, Any]:
    """Write one radiograph in each format, with its bone mask, and return its truth."""
    made = project(anatomy, radiograph_protocol(planned), planned.seed % 2**31)
    if "png" in formats:
        write_radiograph_png(made, output / f"{stem}.png")
    if "dicom" in formats:
        write_radiograph_dicom(made, output / f"{stem}.dcm", subject_id=stem.split("/")[0], centre=planned.centre)
    write_bone_mask(made, output / f"{stem}_bone.png")
    truth = radiograph_truth(made, areal)
    write_json(output / f"{stem}_truth.json", truth, indent=1)
    return truth


def _write_scan(
    ct: VirtualCT, areal: ArealDensity | None, output: Path, stem: str, formats: tuple[str, ...]
) -> dict[str, Any]:
    """Write one scan in each format, as ``subject/acquisition``, and return its truth."""
    write_nifti(ct, output / f"{stem}.nii.gz", output / f"{stem}_labels.nii.gz")
    if "dicom" in formats:
        write_dicom_series(ct, output / f"{stem}_dicom", subject_id=stem.split("/")[0])
    return write_truth(ct, output / f"{stem}_truth.json", areal)


def _records(
    plan: SubjectPlan, planned: ScanPlan | RadiographPlan, stem: str, facts: dict[str, Any], formats: tuple[str, ...]
) -> _Made:
    """Return the fields of the records of one scan, one for each format."""
    person: dict[str, Any] = {
        "subject_id": plan.subject_id,
        "truth": f"{stem}_truth.json",
        "age": plan.age_years,
        "sex": plan.sex,
        "height_cm": facts["height_cm"],
        "weight_kg": facts["weight_kg"],
        "bmd_mg_cm3": facts["mean_density_mg_cm3"],
        "bmd_standard": STANDARD,
        "bone_status": facts["bone_status"],
        "areal_bmd_g_cm2": facts["areal_density_g_cm2"],
        "t_score": facts["t_score"],
        "acquisition": planned.acquisition,
        "variants": tuple(sorted(plan.variants)),
    }
    if isinstance(planned, RadiographPlan):
        images = {"png": f"{stem}.png", "dicom": f"{stem}.dcm"}
        specific: dict[str, Any] = {
            "bone_mask": f"{stem}_bone.png",
            "view": planned.view,
            "kvp": round(facts["protocol"]["kvp"], 1),
            "centre": planned.centre,
            "scanner": planned.device,
        }
    else:
        images = {"nifti": f"{stem}.nii.gz", "dicom": f"{stem}_dicom"}
        specific = {
            "label": f"{stem}_labels.nii.gz",
            "level_bmd_mg_cm3": {level: facts["levels"][level]["density_mg_cm3"] for level in (_L.L1, _L.L2)},
            "centre": "virtual",
            "kvp": planned.kvp,
            "kernel": planned.kernel,
            "slice_thickness_mm": planned.slice_thickness,
            "contrast_phase": planned.phase,
        }
    return [{"image": images[kind], **person, **specific} for kind in formats if kind in images]
