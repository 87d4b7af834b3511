"""Items of a view and a fold, columns, late fusion and the tables of all folds; what is wrong is told at once."""

import csv
import json
import math

import pytest
import torch
from torch import tensor

from osteo_monai.data.radiograph_items import radiograph_items, soft_target
from osteo_monai.handlers import risk_columns
from osteo_monai.metrics import risk_outputs
from osteo_monai.statistics.fusion import fuse_views
from osteo_monai.statistics.heat_shares import heat_shares


def _manifest(folder, **splits):
    for records in splits.values():
        for record in records:
            for key in ("image", "bone_mask"):
                if key in record:
                    (folder / record[key]).touch()
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    return str(path)


def _record(number, t_score, view="chest_frontal", **fields):
    return {
        "subject_id": f"p{number}",
        "image": f"{number}_{view}.png",
        "view": view,
        **({} if t_score is None else {"t_score": t_score}),
        **fields,
    }


def test_soft_target():
    assert [soft_target(t) for t in (-2.6, -2.5, -2.4)] == [1, 1, 0]
    assert soft_target(-2.5, 0.5) == pytest.approx(0.5)
    assert soft_target(-3.0, 0.5) == pytest.approx(0.841345, abs=1e-6)  # the normal distribution at one SD
    with pytest.raises(ValueError, match="sd must be 0 or positive"):
        soft_target(0, -1)


def test_items_of_a_view(tmp_path):
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


def test_several_radiographs_of_a_person_are_told_apart(tmp_path):
    path = _manifest(tmp_path, test=[_record(1, -3.0), _record(1, -3.0) | {"image": "b.png"}, _record(2, -1.0)])
    facts = [item["facts"] for item in radiograph_items(path, ["test"], "chest_frontal")]
    assert [one.get("image_id") for one in facts] == ["test[0]", "test[1]", None]


def test_folds_divide_people_alike_in_each_class(tmp_path):
    records = [_record(n, -3.0 if n % 3 == 0 else -1.0) for n in range(30)]
    second = [_record(n, -3.0) | {"image": f"again_{n}.png"} for n in range(0, 9, 3)]  # a second radiograph of three
    path = _manifest(tmp_path, training=[*records[:20], *second], validation=records[20:], test=[_record(99, -1)])
    seen = []
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


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    path = _manifest(tmp_path, training=[_record(1, None), _record(2, -1)], test=[{"image": "x", "subject_id": "s"}])
    with pytest.raises(SystemExit) as told:
        radiograph_items(path, ["training", "test", "external_a"], "chest_frontal", fold=5, folds=5)
    text = str(told.value.code)
    assert "got fold 5 of 5" in text
    assert "1 of 2 radiographs of training have no 't_score' (the first is training[0])" in text
    assert "1 of 1 records there name no 'view'" in text
    assert "in a split 'external_a', it has training, test" in text
    with pytest.raises(SystemExit, match="--folds must say how many"):
        radiograph_items(path, ["fold"], "chest_frontal")
    with pytest.raises(SystemExit, match="splits must be a list"):
        radiograph_items(path, "test", "chest_frontal")
    with pytest.raises(SystemExit, match="got none"):
        radiograph_items("", ["test"], "chest_frontal")
    assert radiograph_items(path, ["training"], "chest_frontal", need_truth=False)[0]["label"] == -1


def test_outputs_and_columns():
    output = [{"pred": tensor([0.25, 0.9]), "label": tensor(0)}, {"pred": tensor([0.75, 0.1]), "label": tensor(1)}]
    risk, truth = risk_outputs(output)
    torch.testing.assert_close(risk, tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert truth.tolist() == [0, 1]
    assert risk_columns(output[0]) == {"probability_osteoporosis": 0.25}
    told = risk_columns({**output[0], "heat_on_bone": math.nan, "attention_on_bone": 0.4, "bone_area": 0.3})
    assert told == {
        "probability_osteoporosis": 0.25,
        "heat_on_bone": "",
        "attention_on_bone": 0.4,
        "bone_area": 0.3,
    }


def _table(file, rows):
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)))
        table.writeheader()
        table.writerows(rows)
    return file


def _read(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_fusion_is_the_mean_of_the_views_logits(tmp_path):
    def row(subject, p, **more):
        return {
            "subject_id": subject,
            "model": "m",
            "cohort": "test",
            "osteoporosis": 1,
            "probability_osteoporosis": p,
        } | more

    ap = _table(tmp_path / "ap.csv", [row("a", 0.5), row("b", 0.9), row("c", 0.2)])
    # b has two lateral radiographs, with logits of 0 and log 9: their mean is log 3
    lateral = _table(tmp_path / "lateral.csv", [row("b", 0.5), row("b", 0.9), row("a", 0.8)])
    assert fuse_views([ap, lateral], tmp_path / "fused.csv", "both") == 2
    first, second = _read(tmp_path / "fused.csv")
    assert (first["subject_id"], first["model"], first["osteoporosis"]) == ("a", "both", "1")
    assert float(first["probability_osteoporosis"]) == pytest.approx(2 / 3, abs=1e-6)  # odds: sqrt(1 x 4) = 2
    odds = 27**0.5  # sqrt(9 x 3)
    assert float(second["probability_osteoporosis"]) == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_fusion_tells_what_is_wrong(tmp_path):
    one = [{"subject_id": "a", "osteoporosis": 1, "probability_osteoporosis": 0.5}]
    ap = _table(tmp_path / "ap.csv", one)
    other = _table(tmp_path / "other.csv", [{**one[0], "osteoporosis": 0}])
    nobody = _table(tmp_path / "nobody.csv", [{**one[0], "subject_id": "z"}])
    bad = _table(tmp_path / "bad.csv", [{**one[0], "probability_osteoporosis": 5}])
    for files, sentence in (
        ([ap], "two or more views, got 1"),
        ([ap, other], "disagree on whether a person of the cohort test has osteoporosis"),
        ([ap, nobody], "no person has a prediction in every table"),
        ([ap, bad, tmp_path / "none.csv"], r"bad.csv must have .*; none.csv cannot be read"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fuse_views(files, tmp_path / "fused.csv")


def test_heat_on_bone_is_averaged_by_cohort_and_empty_maps_are_counted(tmp_path):
    def row(subject, cohort, heat, attention, area):
        shares = {"heat_on_bone": heat, "attention_on_bone": attention, "bone_area": area}
        return {"subject_id": subject, "cohort": cohort, "probability_osteoporosis": 0.5, **shares}

    people = [row("a", "test", 0.5, 0.2, 0.25), row("b", "test", 0.3, 0.4, 0.2), row("c", "test", "", 0.3, 0.3)]
    file = _table(tmp_path / "p.csv", [*people, row("d", "external_1", 0.6, 0.3, 0.3)])
    heat, attention, away, _ = heat_shares(file)
    assert (heat["cohort"], heat["map"], heat["images"], heat["empty"]) == ("test", "heat", 2, 1)
    assert (heat["on_bone"], heat["bone_area"]) == (pytest.approx(0.4), pytest.approx(0.225))
    assert heat["gain"] == pytest.approx((2.0 + 1.5) / 2)
    half = 1.96 * math.sqrt(0.02) / math.sqrt(2)  # the SD of 0.5 and 0.3 is the root of 0.02
    assert (heat["low"], heat["high"]) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))
    assert (attention["images"], attention["on_bone"]) == (3, pytest.approx(0.3))
    assert (away["cohort"], away["on_bone"], math.isnan(away["low"])) == ("external_1", 0.6, True)
    bare = [{"subject_id": "a", "probability_osteoporosis": 0.5}]
    with pytest.raises(ValueError, match="evaluate with --heat_maps True"):
        heat_shares(_table(tmp_path / "bare.csv", bare))
