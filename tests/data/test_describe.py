"""Summary of a manifest: people are counted once, unknown values are not zero."""

from pathlib import Path

from osteo_monai import cli
from osteo_monai.data import Header, Manifest, Record, write_manifest
from osteo_monai.data.describe import DESCRIPTION_COLUMNS, describe, people_frame
from osteo_monai.domain import BoneStatus, MineralStandard, Sex


def test_one_row_for_each_split() -> None:
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=True),
        splits={
            "training": (
                Record(
                    image="a",
                    subject_id="p",
                    age=60,
                    bmd_mg_cm3=100,
                    bone_status=BoneStatus.OSTEOPENIA,
                    bmd_standard=MineralStandard.K2HPO4,
                    sex=Sex.FEMALE,
                ),
                Record(image="b", subject_id="p", age=60),
                Record(image="c", subject_id="q", age=50, sex=Sex.MALE),
            ),
            "test": (Record(image="d", subject_id="r"),),
        },
    )
    rows = [dict(zip(DESCRIPTION_COLUMNS, row, strict=True)) for row in describe(manifest)]
    # 60 and 50 years: mean 55, SD of two values is their difference over the square root of two, 7.07
    assert rows[0] == {
        "split": "training",
        "records": "3",
        "subjects": "2",
        "women": "1 of 2",
        "age (years)": "55.0 +- 7.1",
        "mg/cm3": "100.0 (1)",
        "normal": "0",
        "osteopenia": "1",
        "osteoporosis": "0",
    }
    assert list(rows[1].values()) == ["test", "1", "1", "-", "-", "-", "-", "-", "-"]


def test_one_row_for_each_person() -> None:
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=True),
        splits={
            "training": (
                Record(image="a", subject_id="p", age=60, t_score=-1.5),
                Record(
                    image="b",
                    subject_id="p",
                    age=61,
                    t_score=-2.6,
                    bmd_mg_cm3=100,
                    bmd_standard=MineralStandard.K2HPO4,
                    bone_status=BoneStatus.OSTEOPENIA,
                ),
            ),
            "external_riga": (Record(image="c", subject_id="q", sex=Sex.MALE),),
        },
    )
    frame = people_frame(manifest)
    assert frame["split"].tolist() == ["training", "external_riga"]
    assert frame.loc[0, ["age", "bmd_mg_cm3", "bone_status"]].tolist() == [60, 100, "osteopenia"]
    assert frame["sex"].tolist()[1] == "M"
    assert frame["t_score"][0] == -2.6
    assert frame.isna().sum().to_dict() == {
        "subject_id": 0, "split": 0, "age": 1, "sex": 1, "bmd_mg_cm3": 1, "bone_status": 1, "t_score": 1,
        "areal_bmd_g_cm2": 2, "height_cm": 2, "weight_kg": 2,
    }  # fmt: skip


def test_the_command_writes_the_tables_of_a_paper(tmp_path: Path) -> None:
    people = [
        Record(image=f"{i}.nii", subject_id=str(i), age=30 + i, sex=Sex.MALE if i % 2 else Sex.FEMALE,
               bmd_mg_cm3=150 - i, bmd_standard=MineralStandard.K2HPO4)
        for i in range(24)
    ]  # fmt: skip
    header = Header(name="n", description="d", virtual=True)
    manifest = Manifest(header=header, splits={"training": tuple(people[:14]), "test": tuple(people[14:])})
    write_manifest(manifest, tmp_path / "m.json")
    words = ["manifest", "describe", str(tmp_path / "m.json")]
    assert cli.run([*words, "--output", str(tmp_path / "out"), "--t-test", "student"]) == 0
    baseline = (tmp_path / "out" / "baseline.csv").read_text()
    assert baseline.startswith("Characteristic,overall (n = 24),training (n = 14),test (n = 10)")
    assert "Student" in (tmp_path / "out" / "density_by_age.md").read_text()
    assert cli.run([*words, "--t-test", "mann"]) == 2
