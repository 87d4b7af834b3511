"""Segmentation of a cohort: a label map for every record, and a row with a reason for each excluded one."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai import cli
from osteo_monai.batch import EVERYTHING, LEDGER, Part, Selection, read_ledger
from osteo_monai.cohort import measure_cohort, overlap, segment, segment_cohort
from osteo_monai.cohort.records import EXCLUDED_FILE
from osteo_monai.data import Header, Manifest, Record, read_manifest
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import read_label_map
from osteo_monai.screening import ScreeningModels
from osteo_monai.utils.locks import folder_lock

from ..screening.conftest import MakeModels, inside_body, phantom_affine
from .conftest import read_csv, save

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def test_the_outline_is_the_bundles_and_the_place_is_the_labels(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    phantom_mask: NDArray[np.bool_],
) -> None:
    models = make_models()
    done = segment_cohort(make_cohort({}, {}), tmp_path / "new" / "prepared.json", models=models)
    assert (done.segmented, done.reused, done.excluded) == (2, 0, ())
    assert models.localisation.calls == 0
    new = read_manifest(done.manifest)
    assert new.splits["test"][0].segmentation == "segmentations/p1__ct.nii.gz"
    assert new.splits["test"][0].image == "../data/p1/ct.nii.gz"
    assert new.header.source == "a test; segmentation by fake_segmenter 0.0.1, weights 111111111111"
    labels, affine = read_label_map(done.manifest.parent / "segmentations" / "p0__ct.nii.gz")
    np.testing.assert_allclose(affine, phantom_affine())
    for level in (L1, L2):
        np.testing.assert_array_equal(labels == level.label, inside_body(level))
    assert set(np.unique(labels)) == {0, L1.label, L2.label}


def test_dice_is_reported_by_level(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    truth_labels: NDArray[np.uint8],
) -> None:
    done = segment_cohort(make_cohort({}, {}), tmp_path / "prepared.json", models=make_models())
    small, large = int((truth_labels == L1.label).sum()), int(inside_body(L1).sum())
    wanted = 2 * small / (small + large)  # the smaller one lies wholly within the larger one
    assert 0.5 < wanted < 0.95
    assert done.dice[L1] == pytest.approx((wanted, 0.0, 2))
    summary = {(row["cohort"], row["level"]): row for row in read_csv(done.folder / overlap.DICE_FILE)}
    assert float(summary["all", "L1"]["mean"]) == pytest.approx(wanted, abs=1e-4)
    assert summary["all", "all"]["bodies"] == "4"
    assert summary["training", "L1"]["sd"] == ""  # one body has no spread
    assert len(read_csv(done.folder / overlap.DICE_BY_RECORD_FILE)) == 4


def test_excluded_records_keep_a_row(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    truth_labels: NDArray[np.uint8],
) -> None:
    path = make_cohort({}, {}, {}, {})
    base = path.parent
    save(np.where(truth_labels == L2.label, 0, truth_labels).astype(np.uint8), base / "p1" / "labels.nii.gz")
    save(truth_labels[:-1], base / "p2" / "labels.nii.gz")
    (base / "p3" / "ct.nii.gz").write_bytes(b"damaged")
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1
    assert [r.subject_id for r in read_manifest(done.manifest).splits["training"]] == ["p0"]
    assert "test" not in read_manifest(done.manifest).splits
    reasons = {row["subject_id"]: row["reason"] for row in read_csv(done.folder / EXCLUDED_FILE)}
    assert reasons["p1"] == "L2 is not labelled."
    assert "must be that of the image" in reasons["p2"]
    assert "damaged" in reasons["p3"]


def test_what_is_no_ct_is_excluded_although_the_manifest_vouches(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    phantom_hu: NDArray[np.float32],
) -> None:
    path = make_cohort({}, {})
    save((phantom_hu + 1100).clip(0).astype(np.int16), path.parent / "p1" / "ct.nii.gz")
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1
    assert "no negative value" in done.excluded[0][3]


def test_a_targeted_field_without_air_is_read(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    phantom_hu: NDArray[np.float32],
) -> None:
    done = segment_cohort(make_cohort(hu=phantom_hu.clip(-105)), tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1


def test_a_body_that_the_bundle_does_not_find_is_excluded(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    phantom_mask: NDArray[np.bool_],
) -> None:
    mask = phantom_mask & ~inside_body(L2)
    with pytest.raises(UnusableInputError, match="none of the 1 records .* body of L2 could not be segmented"):
        segment_cohort(make_cohort(), tmp_path / "prepared.json", models=make_models(mask=mask))


def test_without_a_label_the_whole_chain_runs_with_its_refusals(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path = make_cohort({"label": None})
    models = make_models()
    done = segment_cohort(path, tmp_path / "prepared.json", models=models)
    assert models.localisation.calls == 1
    assert done.segmented == 1
    assert done.dice == {}
    labels, _ = read_label_map(done.folder / "p0__ct.nii.gz")
    assert set(np.unique(labels)) == {0, L1.label, L2.label}  # neighbours were outlined to compare, and are not kept
    unsure = [replace(v, certainty=0.4) for v in models.column.vertebrae]
    with pytest.raises(UnusableInputError, match="none of the 1 records"):
        segment_cohort(path, tmp_path / "again.json", folder=tmp_path / "other", models=make_models(unsure))
    assert "L1" in read_csv(tmp_path / "other" / EXCLUDED_FILE)[0]["reason"]


def test_a_run_continues_where_it_stopped(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path = make_cohort({}, {})
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    (done.folder / "p1__ct.nii.gz").unlink()
    models = make_models()
    again = segment_cohort(path, tmp_path / "second.json", models=models)
    assert (again.segmented, again.reused) == (2, 1)
    assert len(models.segmentation.slices) == 1
    assert again.dice == done.dice
    assert not list(done.folder.glob(".*"))


@pytest.mark.parametrize("selection", [EVERYTHING, Selection(resume=True)])
def test_a_corrected_label_names_the_levels_anew(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels, selection: Selection
) -> None:
    """The label map had the levels of the label before, one off."""
    path, output = make_cohort({}), tmp_path / "prepared.json"
    labels, affine = read_label_map(path.parent / "p0" / "labels.nii.gz")
    off = np.where(labels > 0, labels + 1, 0).astype(np.uint8)
    off[labels == off.max() - 1] = L1.label  # some body is L1
    save(off, path.parent / "p0" / "labels.nii.gz", affine)
    done = segment_cohort(path, output, models=make_models())
    assert done.segmented == 1
    save(labels, path.parent / "p0" / "labels.nii.gz", affine)
    output.unlink()
    again = segment_cohort(path, output, models=make_models(), selection=selection)
    assert again.reused == 0
    written, _ = read_label_map(done.folder / "p0__ct.nii.gz")
    for level in (L1, L2):
        np.testing.assert_array_equal(written == level.label, inside_body(level))


def test_the_label_map_of_another_image_is_not_kept(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    """The new file may be older than the label map, as one of an archive is."""
    path, output = make_cohort({}, {}, {}), tmp_path / "prepared.json"
    done = segment_cohort(path, output, models=make_models())
    for name in ("p0", "p1"):
        os.utime(path.parent / name / "ct.nii.gz", (1, 1))
    edited = done.folder / "p1__ct.nii.gz"
    os.utime(edited, (2e9, 2e9))  # the work of a person is not removed
    again = segment_cohort(path, output, models=make_models(), selection=Selection(resume=True))
    assert (again.segmented, again.reused) == (3, 2)


def test_the_ledger_of_another_command_changes_no_label_map(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path, output = make_cohort({}), tmp_path / "prepared.json"
    done = segment_cohort(path, output, models=make_models())
    measure_cohort(path, done.folder, source="label")
    again = segment_cohort(path, output, models=make_models(), selection=Selection(resume=True))
    assert (again.segmented, again.reused) == (1, 1)


def test_a_file_in_place_of_the_folder(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    (tmp_path / "maps").write_text("x")
    with pytest.raises(ConfigError, match="folder must be a folder, got the file 'maps'"):
        segment_cohort(make_cohort({}), tmp_path / "new.json", folder=tmp_path / "maps", models=make_models())


def test_overwriting_does_not_remove_label_maps_of_a_run_that_continues(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path = make_cohort({})
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    with folder_lock(done.folder), pytest.raises(ConfigError, match="one that no other run writes to"):
        segment_cohort(path, tmp_path / "prepared.json", models=make_models(), overwrite=True)
    assert (done.folder / "p0__ct.nii.gz").is_file()


def test_a_killed_run_is_resumed_with_the_manifest_of_one_run(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels, truth_labels: NDArray[np.uint8]
) -> None:
    path = make_cohort({}, {}, {}, {})
    save(np.where(truth_labels == L2.label, 0, truth_labels).astype(np.uint8), path.parent / "p1" / "labels.nii.gz")
    output, folder, models = tmp_path / "prepared.json", tmp_path / "segmentations", make_models()
    child = os.fork()
    if child == 0:  # killed while the third label map is written
        write = getattr(segment, "write_label_map")  # noqa: B009

        def write_or_die(labels: Any, volume: Any, target: Path) -> None:
            target.write_bytes(b"half") if "p2" in target.name else write(labels, volume, target)
            if "p2" in target.name:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(segment, "write_label_map", write_or_die)  # noqa: B010
        with suppress(BaseException):
            segment_cohort(path, output, models=models)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = {entry.study: entry for entry in read_ledger(folder / LEDGER).entries}
    assert [entry.state for entry in before.values()] == ["measured", "refused", "running", "pending"]
    done = segment_cohort(path, output, models=models, selection=Selection(resume=True))
    assert (done.segmented, done.reused, len(done.excluded)) == (3, 1, 1)
    entries = read_ledger(folder / LEDGER).entries
    assert [(entry.state, entry.attempts) for entry in entries] == [
        ("measured", 1), ("refused", 1), ("measured", 2), ("measured", 1),
    ]  # fmt: skip
    assert entries[1].ended == before["p1/ct.nii.gz"].ended  # an excluded record is kept too
    whole = segment_cohort(path, tmp_path / "new" / "prepared.json", models=make_models())
    assert read_manifest(whole.manifest).splits.keys() == read_manifest(output).splits.keys()
    for name in ("excluded.csv", overlap.DICE_BY_RECORD_FILE):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    (folder / "p0__ct.nii.gz").unlink()  # a stored outcome whose label map is gone is not whole
    again = segment_cohort(path, output, models=models, selection=Selection(resume=True))
    assert (again.segmented, again.reused) == (3, 2)
    assert (folder / "p0__ct.nii.gz").is_file()


def test_parts_write_no_manifest_and_the_whole_run_keeps_them(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path, output, models = make_cohort(*[{}] * 5), tmp_path / "prepared.json", make_models()
    parts = [segment_cohort(path, output, models=models, selection=Selection(Part(n, 2))) for n in (1, 2)]
    assert [part.whole for part in parts] == [False, False]
    assert not output.exists()
    assert sum(part.segmented for part in parts) == 5
    assert [part.folder.name for part in parts] == ["part_1_of_2", "part_2_of_2"]
    done = segment_cohort(path, output, models=models, selection=Selection(resume=True))
    assert (done.segmented, done.reused) == (5, 5)
    assert {entry.attempts for entry in read_ledger(done.folder / LEDGER).entries} == {1}
    maps = [record.segmentation for _, _, record in read_manifest(output).records()]
    assert maps == [f"segmentations/p{number}__ct.nii.gz" for number in range(5)]


def test_outlines_by_other_weights_are_not_mixed(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    path = make_cohort()
    segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    other = make_models()
    other.segmentation.weights_sha256 = "2" * 64
    with pytest.raises(UnusableInputError, match="by other weights"):
        segment_cohort(path, tmp_path / "second.json", models=other)
    assert segment_cohort(path, tmp_path / "second.json", models=other, overwrite=True).reused == 0


def test_wrong_arguments_of_segment(tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels) -> None:
    path = make_cohort()
    with pytest.raises(ConfigError, match="another file"):
        segment_cohort(path, path, models=make_models())
    with pytest.raises(ConfigError, match="at least one level"):
        segment_cohort(path, tmp_path / "x.json", models=make_models(), levels=())
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="must be a new file"):
        segment_cohort(path, tmp_path / "x.json", models=make_models())


def test_records_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    records = [
        Record(image=name, subject_id=str(n)) for n, name in enumerate(("a/ct.nii", "../a/ct.nii.gz", "A/dicom"))
    ]
    manifest = Manifest(header=Header(name="n", description="d", virtual=True), splits={"test": records})
    names = [path.name for path in segment._target_paths(manifest, tmp_path)]
    assert names == ["a__ct.nii.gz", "a__ct__2.nii.gz", "A__dicom.nii.gz"]


# --- the command --------------------------------------------------------------------------------------------------


def test_commands_report_their_results(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(segment, "load_models", lambda device, opinions, trust: make_models())
    path = make_cohort({}, {})
    (path.parent / "p1" / "labels.nii.gz").write_bytes(b"damaged")
    new = tmp_path / "prepared.json"
    assert cli.run(["manifest", "segment", str(path), "--output", str(new)]) == 0
    said = capsys.readouterr().out
    assert "Dice of L1 against the label: 0." in said
    assert "1 records segmented, 1 excluded" in said
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out")]) == 0
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out")]) == 2
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out"), "--source", "guess"]) == 2
    assert cli.run(["manifest", "segment", str(path), "--output", str(tmp_path / "b.json"), "--levels", "T3"]) == 2
    errors = capsys.readouterr().err
    assert "--overwrite must be given" in errors
    assert "segmentation or label, got 'guess'" in errors
    assert "Traceback" not in errors


def test_commands_report_unusable_cohorts(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = make_models()
    monkeypatch.setattr(segment, "load_models", lambda device, opinions, trust: models)
    path, new = make_cohort(), tmp_path / "new.json"
    words = ["manifest", "segment", str(path), "--output"]
    assert cli.run(["measure", str(path), "--output", str(tmp_path / "out")]) == 2
    assert "1 records have no segmentation" in capsys.readouterr().err
    assert cli.run([*words, str(new)]) == 0
    models.segmentation.weights_sha256 = "2" * 64
    assert cli.run([*words, str(tmp_path / "b.json")]) == 2
    assert "'segmentations' must not have label maps of other levels or by other weights" in capsys.readouterr().err
    (path.parent / "p0" / "ct.nii.gz").write_bytes(b"damaged")
    assert cli.run([*words, str(tmp_path / "c.json"), "--folder", str(tmp_path / "c")]) == 2
    assert "none of the 1 records could be segmented; reasons are in excluded.csv" in capsys.readouterr().err


# --- defects ------------------------------------------------------------------------------------------------------


def test_all_paths_of_a_record_are_moved(
    tmp_path: Path, make_cohort: Callable[..., Path], make_models: MakeModels
) -> None:
    """B11: the path of a bone mask stayed relative to the old folder."""
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "b.png").write_bytes(b"")
    path = make_cohort({"bone_mask": "a/b.png"}, {})
    done = segment_cohort(path, tmp_path / "new" / "prepared.json", models=make_models())
    (record,) = read_manifest(done.manifest).splits["training"]
    assert record.bone_mask == "../data/a/b.png"


def test_models_are_not_kept_after_a_run(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B24: a cache for the life of the process kept bundles in memory and ignored new weights."""
    loaded: list[str] = []

    def load(device: str, opinions: bool, trust: bool) -> ScreeningModels:
        loaded.append(device)
        return make_models()

    monkeypatch.setattr(segment, "load_models", load)
    path = make_cohort()
    for name in ("a", "b"):
        segment_cohort(path, tmp_path / f"{name}.json", folder=tmp_path / name, device="cpu")
    assert loaded == ["cpu", "cpu"]


def test_an_unexpected_error_is_logged_without_subject_and_text(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """B23: such an error was logged at debug level only."""

    def explode(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("PatientName DOE^JANE")

    monkeypatch.setattr(segment, "outline_bodies", explode)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UnusableInputError, match=r"Unexpected error \(RuntimeError\)"),
    ):
        segment_cohort(make_cohort({"subject_id": "DOE"}), tmp_path / "prepared.json", models=make_models())
    assert "unexpected RuntimeError" in caplog.text
    assert "DOE" not in caplog.text


def test_a_label_map_that_fails_leaves_no_file(
    tmp_path: Path,
    make_cohort: Callable[..., Path],
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B5: half a label map is newer than its image and was used by the next run."""

    def half(labels: Any, volume: Any, path: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(segment, "write_label_map", half)
    with pytest.raises(UnusableInputError, match="none of the 1 records"):
        segment_cohort(make_cohort(), tmp_path / "prepared.json", models=make_models())
    assert sorted(path.suffix for path in (tmp_path / "segmentations").iterdir()) == [
        ".csv", ".csv", ".csv", ".json", ".sqlite",
    ]  # fmt: skip
