"""The table that describes a manifest: people counted once, the unknown never counted as zero."""

from osteo_monai.domain import BoneStatus, MineralStandard, Sex
from osteo_monai.manifests import Header, Manifest, Record
from osteo_monai.manifests.describe import DESCRIPTION_COLUMNS, describe


def test_one_row_for_each_split() -> None:
    known = {"bmd_standard": MineralStandard.K2HPO4, "sex": Sex.FEMALE}
    manifest = Manifest(
        header=Header(name="n", description="d", virtual=True),
        splits={
            "training": (
                Record(image="a", subject_id="p", age=60, bmd_mg_cm3=100, bone_status=BoneStatus.OSTEOPENIA, **known),
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
