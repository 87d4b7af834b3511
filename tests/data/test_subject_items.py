"""Items of CT classifiers and density regressors, and the balance of their classes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.data.radiograph_items import radiograph_items
from osteo_monai.data.subject_items import class_shares, density_items, sampling_weights, scan_items, subject_items
from osteo_monai.errors import ConfigError, ManifestError


def _record(number: int, **fields: Any) -> dict[str, Any]:
    return {"subject_id": f"p{number}", "image": f"{number}.nii.gz", "segmentation": f"{number}_body.nii.gz", **fields}


def _manifest(folder: Path, **splits: list[dict[str, Any]]) -> str:
    for records in splits.values():
        for record in records:
            for key in ("image", "segmentation"):
                if key in record:
                    (folder / record[key]).touch()
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    return str(path)


def test_items_of_the_classifiers(tmp_path: Path) -> None:
    density = {"bmd_mg_cm3": 70.0, "bmd_standard": "K2HPO4"}
    path = _manifest(tmp_path, test=[_record(1, bone_status="normal", age=60), _record(2, **density)])
    first, second = subject_items(path, ["test"])
    assert (first["status"], first["row"], first["place"]) == (0, 0, "test[0]")
    assert (second["status"], second["row"], second["place"]) == (2, 1, "test[1]")
    assert (first["image"], first["label"]) == (str(tmp_path / "1.nii.gz"), str(tmp_path / "1_body.nii.gz"))
    facts = {"age": 60, "subject_id": "p1", "cohort": "test", "virtual": 1, "bone_status": "normal"}
    assert first["facts"] == facts
    truth = {"bmd_mg_cm3": 70.0, "bone_status": "osteoporosis"}
    assert second["facts"] == {"subject_id": "p2", "cohort": "test", "virtual": 1, **truth}


FACT_VALUES = {
    "age": 70.0, "sex": "F", "height_cm": 160.0, "weight_kg": 60.0, "t_score": -3.0, "centre": "A", "kvp": 120.0,
    "contrast_phase": "native", "acquisition": "scout",
}  # fmt: skip


def test_both_kinds_of_items_have_the_same_facts(tmp_path: Path) -> None:
    """B10: each kind of item repeated other fields of a record."""
    record = _record(1, bone_status="normal", view="chest_frontal", **FACT_VALUES)
    path = _manifest(tmp_path, test=[record])
    (ct,), (radiograph,) = subject_items(path, ["test"]), radiograph_items(path, ["test"], "chest_frontal")
    expected = {"subject_id": "p1", "cohort": "test", "virtual": 1, **FACT_VALUES}
    assert ct["facts"] == expected | {"bone_status": "normal"}
    assert radiograph["facts"] == expected | {"osteoporosis": 1}


def test_scans_of_an_inference_with_the_facts_of_one_person() -> None:
    two = [("a/p1.nii.gz", "a/p1_labels.nii.gz"), ("p2.nii", "p2_labels.nii")]
    items = scan_items(two, age=None, sex=None)
    assert items[1] == {"image": "p2.nii", "label": "p2_labels.nii", "row": 1, "facts": {"subject_id": "p2"}}
    (item,) = scan_items(two[:1], age=63, sex="F", height_cm=None, weight_kg=None)
    assert item["facts"] == {"subject_id": "p1", "age": 63.0, "sex": "F"}
    assert scan_items([]) == []
    # the age of one person must not become that of all
    with pytest.raises(ConfigError, match="age, sex must be given for one scan, got 2 scans"):
        scan_items(two, age=63, sex="F")
    with pytest.raises(ConfigError, match=r"facts of the person must be valid: age: .*; sex: Input should be"):
        scan_items(two[:1], age=163, sex="W")


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B11: paths of a relative manifest were relative, and wrong after a change of the working folder."""
    _manifest(tmp_path, test=[_record(1, bone_status="normal")])
    monkeypatch.chdir(tmp_path)
    (item,) = subject_items("manifest.json", ["test"])
    assert (item["image"], item["label"]) == (str(tmp_path / "1.nii.gz"), str(tmp_path / "1_body.nii.gz"))


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    records = [_record(1), {"subject_id": "p2", "image": "2.nii.gz", "bone_status": "normal"}]
    path = _manifest(tmp_path, test=records)
    with pytest.raises(ManifestError) as caught:
        subject_items(path, ["test", "external_a"])
    assert len(caught.value.problems) == 3
    text = str(caught.value)
    assert "1 of 2 records of test have no 'segmentation' (first: test[1])" in text
    assert "1 of 2 records of test have neither 'bone_status' nor a density (first: test[0])" in text
    assert "the split 'external_a' must have records; splits with records: test" in text


@pytest.mark.parametrize(
    ("data_source", "splits", "sentence"),
    [
        ("", ["test"], "data_source must be the path of a data manifest, got ''"),
        ("none.json", "test", "splits must be a list"),
        ("none.json", [], "splits must be a list"),
    ],
)
def test_settings_are_refused(data_source: str, splits: Any, sentence: str) -> None:
    """An exception, not ``SystemExit``: a notebook can catch it."""
    with pytest.raises(ConfigError, match=sentence):
        subject_items(data_source, splits)


def test_a_missing_manifest_is_reported() -> None:
    with pytest.raises(ManifestError, match="none.json has 1 problem:\n  - the file does not exist"):
        subject_items("none.json", ["test"])


def test_densities_of_levels_and_study(tmp_path: Path) -> None:
    levels = {"level_bmd_mg_cm3": {"L1": 100.0, "L2": 120.0}, "bmd_standard": "K2HPO4", "kvp": 120}
    path = _manifest(tmp_path, test=[_record(1, **levels), _record(2)])
    known, unknown = density_items(path, ["test"], need_levels=False)
    assert (known["kvp"], known["level_bmd"].tolist(), known["study_bmd"].tolist()) == (120, [100, 120], [110])
    assert math.isnan(unknown["kvp"])
    assert unknown["study_bmd"].isnan().all()
    with pytest.raises(ManifestError, match="1 records of test have no 'level_bmd_mg_cm3' of L1 or L2"):
        density_items(path, ["test"])


def test_densities_of_another_standard_are_refused(tmp_path: Path) -> None:
    path = _manifest(tmp_path, test=[_record(1, bmd_mg_cm3=100.0, bmd_standard="hydroxyapatite")])
    with pytest.raises(ManifestError, match="1 densities of test are not in mg/cm3 K2HPO4"):
        density_items(path, ["test"], need_levels=False)


def test_a_class_without_records_is_refused() -> None:
    with pytest.raises(ManifestError, match="no record of the class 'osteopenia'"):
        class_shares([{"status": 0}, {"status": 2}])


def test_balance_of_the_classes_by_hand() -> None:
    items = [{"status": status} for status in [0] * 16 + [1] * 9 + [2] * 4]
    assert class_shares(items, 0.0) == pytest.approx([16 / 29, 9 / 29, 4 / 29])
    assert class_shares(items, 0.5) == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    assert class_shares(items, 1.0) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    weights = sampling_weights(items, 0.5)
    drawn = [sum(w for w, i in zip(weights, items, strict=True) if i["status"] == k) for k in range(3)]
    assert [d / sum(drawn) for d in drawn] == pytest.approx(class_shares(items, 0.5))
