"""Items of a view and a fold."""

import json
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.data.radiograph_items import radiograph_items, soft_target
from osteo_monai.errors import ConfigError, ManifestError


def _manifest(folder: Path, **splits: Any) -> Any:
    for records in splits.values():
        for record in records:
            for key in ("image", "bone_mask"):
                if key in record:
                    (folder / record[key]).touch()
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    return str(path)


def _record(number: Any, t_score: Any, view: Any = "chest_frontal", **fields: Any) -> Any:
    return {
        "subject_id": f"p{number}",
        "image": f"{number}_{view}.png",
        "view": view,
        **({} if t_score is None else {"t_score": t_score}),
        **fields,
    }


def test_soft_target() -> None:
    assert [soft_target(t) for t in (-2.6, -2.5, -2.4)] == [1, 1, 0]
    assert soft_target(-2.5, 0.5) == pytest.approx(0.5)
    assert soft_target(-3.0, 0.5) == pytest.approx(0.841345, abs=1e-6)  # the normal distribution at one SD
    with pytest.raises(ValueError, match="sd must be 0 or positive"):
        soft_target(0, -1)


def test_items_of_a_view(tmp_path: Path) -> None:
    people = [_record(1, -3.0, age=70, sex="F", bone_mask="1_bone.png"), _record(2, -1.0, bone_mask="2_bone.png")]
    path = _manifest(tmp_path, test=[*people, _record(1, -3.0, "lumbar_ap")])
    items = radiograph_items(path, ["test"], "chest_frontal", target_sd=0.5)
    assert [(i["row"], i["label"], i["place"]) for i in items] == [(0, 1, "test[0]"), (1, 0, "test[1]")]
    assert items[0]["image"] == str(tmp_path / "1_chest_frontal.png")
    assert items[0]["bone"] == str(tmp_path / "1_bone.png")
    assert items[0]["target"] == pytest.approx(0.841345, abs=1e-6)
    facts = {"subject_id": "p1", "cohort": "test", "virtual": 1, "osteoporosis": 1, "age": 70, "sex": "F"}
    assert items[0]["facts"] == {**facts, "t_score": -3.0}
    (lumbar,) = radiograph_items(path, ["test"], "lumbar_ap")
    assert "bone" not in lumbar


def test_several_radiographs_of_a_subject_have_image_ids(tmp_path: Path) -> None:
    path = _manifest(tmp_path, test=[_record(1, -3.0), _record(1, -3.0) | {"image": "b.png"}, _record(2, -1.0)])
    facts = [item["facts"] for item in radiograph_items(path, ["test"], "chest_frontal")]
    assert [one.get("image_id") for one in facts] == ["test[0]", "test[1]", None]


def test_all_images_of_a_subject_have_its_lowest_t_score(tmp_path: Path) -> None:
    """A film with a T-score of -1.0 and one with -2.7 of one person were a healthy and an osteoporotic image."""
    records = [_record(1, -1.0), _record(1, -2.7) | {"image": "b.png"}, _record(1, None) | {"image": "c.png"}]
    path = _manifest(tmp_path, test=[*records, _record(2, -1.0), _record(2, -3.1, "lumbar_ap")])
    items = radiograph_items(path, ["test"], "chest_frontal")
    assert [item["label"] for item in items] == [1, 1, 1, 1]  # the lowest of any view
    assert [item["target"] for item in items] == [1.0] * 4
    assert [item["facts"]["t_score"] for item in items] == [-2.7, -2.7, -2.7, -3.1]


def test_a_subject_without_a_t_score_is_refused(tmp_path: Path) -> None:
    path = _manifest(tmp_path, test=[_record(1, -1.0), _record(2, None)])
    with pytest.raises(ManifestError, match=r"1 of 2 radiographs of test have no 't_score' \(first: test\[1\]\)"):
        radiograph_items(path, ["test"], "chest_frontal")
    assert [item["label"] for item in radiograph_items(path, ["test"], "chest_frontal", need_truth=False)] == [0, -1]


def test_folds_divide_subjects_equally_in_each_class(tmp_path: Path) -> None:
    records = [_record(n, -3.0 if n % 3 == 0 else -1.0) for n in range(30)]
    second = [_record(n, -3.0) | {"image": f"again_{n}.png"} for n in range(0, 9, 3)]  # a second radiograph of three
    path = _manifest(tmp_path, training=[*records[:20], *second], validation=records[20:], test=[_record(99, -1)])
    seen: list[str] = []
    for fold in range(5):
        inside, outside = (
            radiograph_items(path, [part], "chest_frontal", fold, 5, seed=1) for part in ("fold", "other_folds")
        )
        held_out = {item["facts"]["subject_id"] for item in inside}
        assert held_out.isdisjoint(item["facts"]["subject_id"] for item in outside)
        assert len(inside) + len(outside) == 33
        assert len(held_out) == 6
        assert sum(int(name[1:]) % 3 == 0 for name in held_out) == 2
        assert {(i["facts"]["cohort"], i["facts"]["fold"]) for i in inside} == {("validation", fold)}
        assert "p99" not in held_out
        seen += held_out
    assert len(seen) == len(set(seen)) == 30
    again = radiograph_items(path, ["fold"], "chest_frontal", 0, 5, seed=2)
    assert {i["facts"]["subject_id"] for i in again} != set(seen[:6])


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    path = _manifest(tmp_path, training=[_record(1, None), _record(2, -1)], test=[{"image": "x", "subject_id": "s"}])
    with pytest.raises(ManifestError) as caught:
        radiograph_items(path, ["training", "test", "external_a"], "chest_frontal")
    text = str(caught.value)
    assert "1 of 2 radiographs of training have no 't_score' (first: training[0])" in text
    assert "in a split 'test'; splits: training, test; 1 of its 1 records have no 'view'" in text
    assert "no records of the view 'chest_frontal' in a split 'external_a'" in text
    assert radiograph_items(path, ["training"], "chest_frontal", need_truth=False)[0]["label"] == -1


def test_a_record_with_several_images_is_refused(tmp_path: Path) -> None:
    """Only one of them would be read."""
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    record = {"subject_id": "p1", "image": ["a.png", "b.png"], "view": "chest_frontal", "t_score": -1}
    path = _manifest(tmp_path, test=[])
    Path(path).write_text(json.dumps({"name": "n", "description": "d", "virtual": True, "test": [record]}))
    with pytest.raises(ManifestError, match=r"1 of 1 radiographs of test have several images \(first: test\[0\]\)"):
        radiograph_items(path, ["test"], "chest_frontal")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"splits": ["fold"]}, "folds must be at least 2 for the splits 'fold' and 'other_folds', got 0"),
        ({"splits": "test"}, "splits must be a list"),
        ({"splits": []}, "splits must be a list"),
        ({"data_source": ""}, "data_source must be the path of a data manifest"),
        ({"fold": 5, "folds": 5}, "got fold 5 of 5"),
        ({"fold": 0, "folds": 1}, "got fold 0 of 1"),
        ({"fold": -1, "folds": 3}, "got fold -1 of 3"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = _manifest(tmp_path, test=[_record(1, -1)])
    defaults = {"data_source": path, "splits": ["test"], "view": "chest_frontal"}
    with pytest.raises(ConfigError, match=sentence):
        radiograph_items(**{**defaults, **arguments})
