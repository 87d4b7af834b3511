"""Records and manifests: paths, immutability, round trips."""

import json
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_monai.data import Header, Manifest, Record, read_manifest, write_manifest
from osteo_monai.domain import ContrastPhase, MineralStandard, View
from osteo_monai.utils.frozen import FrozenDict

STANDARD = MineralStandard.K2HPO4
HEADER = Header(name="n", description="d", virtual=True)


def test_a_move_changes_all_paths(tmp_path: Path) -> None:
    record = Record(
        image=("a.png", "b/c.png"),
        subject_id="p",
        label="l.nii",
        segmentation="s.nii",
        bone_mask="m.png",
        truth="t.json",
    )
    moved = record.moved(tmp_path / "old", tmp_path / "new")
    assert moved.files == tuple(f"../old/{name}" for name in record.files)
    assert len(record.files) == 6
    # absolute paths become relative too
    absolute = record.absolute(tmp_path / "old")
    assert absolute.files == tuple(str(tmp_path / "old" / name) for name in record.files)
    assert absolute.moved(tmp_path, tmp_path / "old") == record
    assert record.absolute(Path("old")).image == tuple(str((Path("old") / name).absolute()) for name in record.images)


def test_a_move_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    assert Record(image="a.png", subject_id="p").moved(tmp_path / "link", tmp_path).image == "link/a.png"


def test_records_and_manifests_cannot_be_changed() -> None:
    levels: Any = {"L1": 100.0}
    record = Record(image="a", subject_id="p", level_bmd_mg_cm3=levels, bmd_standard=STANDARD, extra={"ward": 3})
    manifest = Manifest(header=HEADER, splits={"test": (record,)})
    assert isinstance(hash(manifest), int)
    assert manifest == pickle.loads(pickle.dumps(manifest))
    assert record.model_copy(deep=True) == record
    for mapping in (
        manifest.splits,
        manifest.moved(Path("a"), Path("b")).splits,
        record.level_bmd_mg_cm3,
        record.extra,
    ):
        assert isinstance(mapping, FrozenDict)
        with pytest.raises(TypeError, match="must not be changed"):
            mapping["x"] = 1
        with pytest.raises(TypeError, match="must not be changed"):
            mapping.update(x=1)


def test_view_and_contrast_phase_are_those_of_the_domain() -> None:
    values = {"image": "a", "subject_id": "p", "view": "lumbar_ap", "contrast_phase": "native"}
    record = Record.model_validate(values)
    assert (record.view, record.contrast_phase) == (View.LUMBAR_AP, ContrastPhase.NATIVE)
    assert record.model_dump(mode="json", exclude_none=True) == values


def test_an_unknown_view_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    record = {"image": "a", "subject_id": "p", "view": "unknown"}
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, "test": [record]}))
    with pytest.raises(ValueError, match=r"view: Input should be 'chest_frontal', 'chest_lateral', 'lumbar_ap' or"):
        read_manifest(path, check_files=False)


# --- properties ----------------------------------------------------------------------------------------------------

names = st.text("abcÄ 0.-_", min_size=1, max_size=6).filter(lambda name: name.strip(". "))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
optional_facts = {
    "age": st.floats(0, 120),
    "sex": st.sampled_from(["F", "M"]),
    "kvp": st.floats(40, 200),
    "view": st.sampled_from([view.value for view in View if view is not View.UNKNOWN]),
    "contrast_phase": st.sampled_from([phase.value for phase in ContrastPhase]),
    "label": paths,
    "bone_mask": paths,
    "extra": st.dictionaries(names, st.booleans() | st.integers(-9, 9) | names, max_size=2),
}


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw a manifest whose subjects and images are all different."""
    facts = draw(st.lists(st.fixed_dictionaries({}, optional=optional_facts), min_size=1, max_size=6))
    folder = draw(paths)
    splits: dict[str, tuple[Record, ...]] = {}
    for number, values in enumerate(facts):
        split = draw(st.sampled_from(["training", "validation", "test", "external_riga"]))
        record = Record.model_validate({"image": f"{folder}/{number}.nii", "subject_id": f"s{number}", **values})
        splits[split] = (*splits.get(split, ()), record)
    return Manifest(header=HEADER, splits=splits)


@settings(max_examples=30)
@given(manifest=manifests())
def test_a_written_manifest_is_read_again(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> None:
    folder = tmp_path_factory.mktemp("m")
    digest = write_manifest(manifest, folder / "a.json")
    assert read_manifest(folder / "a.json", check_files=False) == manifest
    assert write_manifest(read_manifest(folder / "a.json", check_files=False), folder / "b.json") == digest


@settings(max_examples=30)
@given(manifest=manifests(), old=paths, new=paths)
def test_moves_lead_to_the_same_files(manifest: Manifest, old: str, new: str) -> None:
    root = Path("/study")
    moved = manifest.moved(root / old, root / new)
    assert moved.moved(root / new, root / old) == manifest
    for (_, _, before), (_, _, after) in zip(manifest.records(), moved.records(), strict=True):
        assert [_resolved(root / new / name) for name in after.files] == [
            str(root / old / name) for name in before.files
        ]
        assert after.absolute(root / new).moved(root, root / old) == before


def _resolved(path: Path) -> str:
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return str(PurePosixPath(*parts))
