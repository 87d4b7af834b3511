"""From a recipe to files and a manifest that stands every check, the same every time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from osteo_monai.data import read_manifest
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.cohort import make_cohort, make_ct, person_of, scan, z_range
from osteo_monai.virtual.ct import VirtualCT
from osteo_monai.virtual.person import Person
from osteo_monai.virtual.plan import ScanPlan, plan_cohort
from osteo_monai.virtual.recipe import read_recipe

L = VertebraLevel
RECIPE = {
    "name": "tiny",
    "description": "Two people",
    "seed": 9,
    "subjects": 2,
    "splits": {"training": 0.5, "test": 0.5},
    "variants": {"wedge_fracture": 0.5},
    "acquisitions": [
        {"name": "abdomen_80", "matrix": 64, "pixel": [3.9, 3.9], "noise_hu": [9, 9], "slice_thickness": 6,
         "slice_step": 6, "kvp": 80, "coverage": "abdomen", "phase": "arterial"},
    ],
    "scans_per_subject": 2,
    "formats": ["nifti", "dicom"],
}  # fmt: skip


SLAB = {
    "name": "slab",
    "description": "Slabs of L1 and L2",
    "seed": 3,
    "subjects": 2,
    "scans_per_subject": 2,
    "variants": {"scoliosis": 0.34, "osteophytes": 0.34},
    "acquisitions": [
        {"name": "slab", "matrix": 96, "pixel": [1.1, 1.1], "slice_thickness": 3, "slice_step": 3, "noise_hu": [2, 2],
         "coverage": "l1_l2", "field": "spine", "gain": [0.97, 0.97], "offset_hu": [6, 6]},
    ],
    "dxa": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.json"
    path.write_text(json.dumps(RECIPE))
    return path


@pytest.fixture(scope="module")
def cohort(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Person, VirtualCT]]]:
    """The manifest and the calls of ``report``."""
    seen: list[tuple[Person, VirtualCT]] = []
    manifest = make_cohort(
        recipe, tmp_path_factory.mktemp("cohort"), report=lambda person, ct: seen.append((person, ct))
    )
    return manifest, seen


@pytest.fixture(scope="module")
def slab_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "slab.json"
    path.write_text(json.dumps(SLAB))
    return path


@pytest.fixture(scope="module")
def slabs(slab_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[VirtualCT]]:
    """The manifest of targeted slabs, made in one go by one process, and the scans."""
    seen: list[VirtualCT] = []
    folder = tmp_path_factory.mktemp("slabs")
    return make_cohort(slab_recipe, folder, report=lambda person, ct: seen.append(ct)), seen


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_manifest_passes_every_check(cohort: tuple[Path, list[Any]]) -> None:
    path, seen = cohort
    manifest = read_manifest(path)
    assert manifest.header.virtual
    assert manifest.header.source is not None
    assert manifest.header.source.startswith("recipe tiny.json, osteo_monai ")
    records = [record for _, _, record in manifest.records()]
    assert len(seen) == 2 * 2
    assert len(records) == 2 * 2 * 2
    assert {split for split, _, _ in manifest.records()} == {"training", "test"}
    assert len({r.image for r in records}) == len(records)
    for record in records:
        assert record.subject_id in ("tiny_001", "tiny_002")
        assert record.centre == "virtual"
        assert (record.acquisition, record.contrast_phase, record.kvp) == ("abdomen_80", "arterial", 80)


def test_every_scan_has_files_of_its_own(cohort: tuple[Path, list[Any]]) -> None:
    path, seen = cohort
    records = [r for _, _, r in read_manifest(path).records() if str(r.image).endswith(".nii.gz")]
    made = {hashlib.sha256(ct.hu.astype(np.int16).tobytes()).hexdigest() for _, ct in seen}
    read = {
        hashlib.sha256(read_ct(path.parent / str(r.image)).hu.astype(np.int16).tobytes()).hexdigest() for r in records
    }
    assert len(made) == 4
    assert read == made
    names = sorted(str(r.image) for r in records if r.subject_id == "tiny_001")
    assert names == ["tiny_001/abdomen_80.nii.gz", "tiny_001/abdomen_80_2.nii.gz"]


def test_dicom_and_nifti_are_the_same_scan(cohort: tuple[Path, list[Any]]) -> None:
    path, _ = cohort
    by_label: dict[str, list[str]] = {}
    for _, _, record in read_manifest(path).records():
        by_label.setdefault(str(record.label), []).append(str(record.image))
    nifti, dicom = sorted(next(iter(by_label.values())), key=lambda name: not name.endswith(".nii.gz"))
    a, b = read_ct(path.parent / nifti), read_ct(path.parent / dicom)
    np.testing.assert_array_equal(a.hu, b.hu)
    np.testing.assert_allclose(a.affine, b.affine, atol=2e-3)


def test_the_same_recipe_gives_the_same_bytes(cohort: tuple[Path, list[Any]], recipe: Path, tmp_path: Path) -> None:
    again = make_cohort(recipe, tmp_path)
    assert fingerprint(again.parent) == fingerprint(cohort[0].parent)


def test_a_cohort_is_not_written_over_another(cohort: tuple[Path, list[Any]], recipe: Path) -> None:
    before = fingerprint(cohort[0].parent)
    with pytest.raises(
        UnusableInputError, match="must be a folder without a manifest: choose another folder or remove it"
    ):
        make_cohort(recipe, cohort[0].parent)
    assert fingerprint(cohort[0].parent) == before


def test_workers_do_not_change_a_byte(slabs: tuple[Path, list[Any]], slab_recipe: Path, tmp_path: Path) -> None:
    made = make_cohort(slab_recipe, tmp_path, workers=2)
    assert fingerprint(made.parent) == fingerprint(slabs[0].parent)


@pytest.mark.parametrize("fields", [{"workers": 0}, {"workers": 2, "report": lambda person, ct: None}])
def test_wrong_workers_are_refused(slab_recipe: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="workers must be 1 or more, and 1 with report"):
        make_cohort(slab_recipe, tmp_path / "out", **fields)
    assert not (tmp_path / "out").exists()


class StoppedError(Exception):
    """Raised in the middle of a cohort."""


def test_an_interrupted_cohort_is_continued(slabs: tuple[Path, list[Any]], slab_recipe: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def stop(person: Person, ct: VirtualCT) -> None:
        calls.append("")
        if len(calls) == 4:  # the first person is done, and the first scan of the second one
            raise StoppedError

    with pytest.raises(StoppedError):
        make_cohort(slab_recipe, tmp_path, report=stop)
    assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "slab_002" / "slab_truth.json").unlink()
    (tmp_path / "slab_002" / "slab.nii.gz").write_bytes(b"half a file")
    again: list[int] = []
    make_cohort(slab_recipe, tmp_path, report=lambda person, ct: again.append(person.seed))
    assert len(again) == 2
    assert len(set(again)) == 1
    assert fingerprint(tmp_path) == fingerprint(slabs[0].parent)


def test_the_beginning_of_another_cohort_is_not_continued(slab_recipe: Path, tmp_path: Path) -> None:
    def stop(person: Person, ct: VirtualCT) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        make_cohort(slab_recipe, tmp_path / "out", report=stop)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**SLAB, "seed": 10}))
    with pytest.raises(
        UnusableInputError, match="'out' must not hold an unfinished cohort of another recipe or version"
    ):
        make_cohort(other, tmp_path / "out")


def test_files_that_were_there_before_are_not_trusted(
    slabs: tuple[Path, list[Any]], slab_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "slab_001").mkdir()
    for name in ("slab_truth.json", "slab_2_truth.json"):
        (tmp_path / "slab_001" / name).write_text("{}")
    assert fingerprint(make_cohort(slab_recipe, tmp_path).parent) == fingerprint(slabs[0].parent)


def test_a_targeted_slab_holds_both_bodies_and_little_else(slabs: tuple[Path, list[VirtualCT]]) -> None:
    path, seen = slabs
    assert len(seen) == 4
    for ct in seen:
        assert ct.complete_levels == (L.L2, L.L1)
        edge = np.ones(ct.labels.shape, bool)
        edge[1:-1, 1:-1, 1:-1] = False
        for level in (L.L1, L.L2):
            body = ct.labels == level.label
            assert body.any()
            assert not (body & edge).any()
            inside = ct.hu[ndimage.distance_transform_edt(body, sampling=(1.1, 1.1, 3.0)) > 6]
            # the scanner's error: 0.97 * (h + 1000) - 1000 + 6
            assert inside.mean() == pytest.approx(0.97 * (ct.true_hu(level) + 1000) - 994, abs=8)
        # both bodies with the disc and 4 to 8 mm beyond: far less than a chest
        assert 60 < 3 * (ct.hu.shape[2] - 1) < 110
        middle = np.argwhere((ct.labels == L.L1.label) | (ct.labels == L.L2.label)).mean(0)[:2]
        assert abs(middle - 47.5).max() < 14  # aimed at within 3 mm SD; the trunk's centre is some 50 mm in front
    for _, _, record in read_manifest(path).records():
        assert (record.areal_bmd_g_cm2, record.t_score) == (None, None)
        known = json.loads((path.parent / str(record.truth)).read_text())
        assert (known["protocol"]["gain"], known["protocol"]["offset_hu"], known["t_score"]) == (0.97, 6.0, None)


def test_a_person_does_not_depend_on_the_others(cohort: tuple[Path, list[Any]], recipe: Path) -> None:
    plan = plan_cohort(read_recipe(recipe))[1]
    person, made = cohort[1][2]
    assert person_of(plan) == person
    planned = plan.scans[0]
    assert isinstance(planned, ScanPlan)
    single = scan(Anatomy(person_of(plan)), planned)
    np.testing.assert_array_equal(single.hu, made.hu)
    np.testing.assert_array_equal(single.labels, made.labels)


@pytest.mark.parametrize("coverage", ["chest", "abdomen", "thoracolumbar"])
def test_every_coverage_holds_l1_and_l2(man: Anatomy, coverage: str) -> None:
    for seed in range(20):
        low, high = z_range(man, coverage, np.random.default_rng(seed))  # type: ignore[arg-type]
        lowest, highest = man.vertebra(L.L2), man.vertebra(L.L1 if coverage == "chest" else L.T11)
        assert low < lowest.centre[2] - lowest.height / 2 - 10
        assert high >= highest.centre[2] + highest.height / 2
        if coverage != "chest":
            assert low < 0  # the sacrum, whose end plate lies at 0


def test_one_study_with_its_truth(tmp_path: Path) -> None:
    folder = make_ct(tmp_path, seed=2, mean_density=70.0, matrix=128)
    assert folder == tmp_path / "dicom"
    scan = read_ct(folder)
    assert scan.hu.shape == (128, 128, 150)
    truth = json.loads((tmp_path / "truth" / "truth.json").read_text())
    assert truth["bone_status"] == "osteoporosis"
    assert truth["levels"]["L1"]["complete"]
    assert truth["levels"]["L2"]["complete"]
    np.testing.assert_array_equal(read_ct(tmp_path / "truth" / "ct.nii.gz").hu, scan.hu)
