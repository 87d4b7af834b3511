import csv

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from osteo_monai import handlers, metrics
from osteo_monai.data import subject_items as subjects
from osteo_monai.domain import VertebraLevel as L
from osteo_monai.experiments import training_size_curve
from osteo_monai.transforms import LocatedVertebra


def _vertebra(level, z, certainty=1.0):
    return LocatedVertebra(level, certainty, None, (8.0, 8.0, z), (8.0, 8.0, z + 16), (8.0, 8.0, z - 16), True)


def _target():
    """A 4 mm grid whose first voxel lies at the origin, T12 about z = 40 mm and L1 about z = 12 mm; L2 is cut off."""
    target = torch.zeros(2, 5, 5, 16)
    z = 4.0 * torch.arange(16.0)
    for level, centre, voxels in ((L.T12, 40.0, slice(8, 13)), (L.L1, 12.0, slice(2, 6)), (L.L2, -12.0, slice(0, 1))):
        target[0, 1:4, 1:4, voxels] = level.label
        target[1, 2, 2] = torch.maximum(target[1, 2, 2], torch.exp(-((z - centre) ** 2) / 72))
    return MetaTensor(target, affine=torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])))


def test_true_centres_are_in_mm_and_leave_out_bodies_whose_centre_is_not_there():
    target = _target()
    centres = metrics.true_centres(target.numpy(), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert set(centres) == {L.T12, L.L1}
    np.testing.assert_allclose(centres[L.T12], [8, 8, 40], atol=1e-4)
    np.testing.assert_allclose(centres[L.L1], [8, 8, 12], atol=1e-4)


def test_bodies_are_matched_within_reach():
    truth = {L.L1: np.array([8.0, 8.0, 12.0]), L.T12: np.array([8.0, 8.0, 40.0])}
    pairs = metrics.match_levels(truth, [_vertebra(L.L2, 15.0), _vertebra(L.T12, 70.0)])
    assert [(level, v.level if v else None) for level, v, _ in pairs] == [(L.L1, L.L2), (L.T12, None)]
    assert pairs[0][2] == pytest.approx(3.0)
    assert metrics.match_levels(truth, [])[0][1] is None


def _run(handler, outputs):
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(outputs, max_epochs=1)
    return engine


def test_level_report_scores_by_hand(tmp_path):
    first = {"target": _target(), "vertebrae": [_vertebra(L.T12, 42.0), _vertebra(L.L1, 12.0, 0.5)]}
    second = {"target": _target(), "vertebrae": [_vertebra(L.L1, 46.0)]}  # shifted by a level; L1 missed
    engine = _run(handlers.LevelReport(str(tmp_path)), [[first], [second]])
    metrics = engine.state.metrics
    assert metrics["detection_rate"] == pytest.approx(3 / 4)
    assert metrics["level_accuracy"] == pytest.approx(2 / 4)
    assert metrics["certain_share"] == pytest.approx(2 / 3)
    assert metrics["certain_level_accuracy"] == pytest.approx(1 / 2)
    assert metrics["centre_error_mm"] == pytest.approx(2.0, abs=1e-3)  # of 2, 0 and 6
    with (tmp_path / "levels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["scan"], r["level"], r["found_level"]) for r in rows] == [
        ("0", "T12", "T12"),
        ("0", "L1", "L1"),
        ("1", "T12", "L1"),
        ("1", "L1", ""),
    ]
    assert (tmp_path / "level_confusion.png").stat().st_size > 1000


def test_surface_distance_is_in_mm_and_skips_missing_contours():
    label, prediction = torch.zeros(2, 1, 20, 20), torch.zeros(2, 1, 20, 20)
    label[0, 0, 5:10, 5:10] = 1
    prediction[0, 0, 7:12, 5:10] = 1  # two pixels along x; the second image has no prediction
    label[1, 0, 5:10, 5:10] = 1
    metric = metrics.SurfaceDistanceMM((1.5, 1.5), output_transform=lambda x: x, save_details=False)
    metric.update((prediction, label))
    # The label's 16 edge pixels, in pixels: its far row 5 x 2; the row next to it 2 x 1; its near row lies inside the
    # prediction, 0, 1, 2, 1, 0 from its sides; the rest 0. 16 in all, and the same the other way round: 1 pixel.
    assert metric.compute() == pytest.approx(1.5)
    same = metrics.SurfaceDistanceMM((1.5, 1.5), output_transform=lambda x: x, save_details=False)
    same.update((label, label))
    assert same.compute() == 0


def test_volumes_are_scored_a_slice():
    volume = torch.zeros(1, 4, 4, 3)
    predictions, labels = metrics.slicewise(
        [{"pred": volume, "label": volume}, {"pred": volume[..., 0], "label": volume[..., 0]}]
    )
    assert [tuple(p.shape) for p in predictions] == [(1, 4, 4)] * 4
    assert len(labels) == 4


def test_overlays_show_slices_that_hold_a_body(tmp_path):
    empty = {key: torch.zeros(1, 16, 16) for key in ("image", "label", "pred")}
    body = {**empty, "label": torch.nn.functional.pad(torch.ones(1, 6, 6), (5, 5, 5, 5))}
    engine = Engine(lambda engine, batch: batch)
    handler = handlers.OverlayFigures(str(tmp_path / "figures"), count=2)
    handler.attach(engine)
    rows = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: rows.extend(handler._rows))
    engine.run([[empty, body]], max_epochs=1)
    assert len(rows) == 1
    assert (tmp_path / "figures" / "overlays.png").stat().st_size > 1000


def test_training_size_curve_refuses_no_images(tmp_path):
    with pytest.raises(ValueError, match="sizes must be positive"):
        training_size_curve(tmp_path, [0], tmp_path)


def test_mean_auc_by_hand():
    """Normal 1; osteopenia: one of its two rivals is ranked above it, 0.5; osteoporosis 1."""
    metric = metrics.OneVersusRestAUC().metric_fn
    predicted = torch.tensor([[0.5, 0.45, 0.05], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]])
    metric(predicted, torch.tensor([0, 1, 2]))
    assert metric.aggregate() == pytest.approx((1 + 0.5 + 1) / 3)
    metric.reset()
    metric(predicted[:2], torch.tensor([0, 0]))
    assert metric.aggregate() == 0.0


def test_balance_of_the_classes_by_hand():
    items = [{"status": status} for status in [0] * 16 + [1] * 9 + [2] * 4]
    assert subjects.class_shares(items, 0.0) == pytest.approx([16 / 29, 9 / 29, 4 / 29])
    assert subjects.class_shares(items, 0.5) == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    assert subjects.class_shares(items, 1.0) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    weights = subjects.sampling_weights(items, 0.5)
    drawn = [sum(w for w, i in zip(weights, items, strict=True) if i["status"] == k) for k in range(3)]
    assert [d / sum(drawn) for d in drawn] == pytest.approx(subjects.class_shares(items, 0.5))


COLUMN_Z = 2.5 * np.arange(60)


def _heat(places, sd=4.0):
    return np.max([np.zeros(60), *(np.exp(-0.5 * ((COLUMN_Z - at) / sd) ** 2) for at in places)], 0)


def _label(centres, discs, bodies, roles):
    label = np.zeros((6, 60))
    label[0], label[1] = _heat(centres), _heat(discs, 3.0)
    label[3] = -1
    for at, role in zip(bodies, roles, strict=True):
        inside = abs(COLUMN_Z - at) <= 12.5
        label[2][inside], label[3][inside] = 1.0, role
    return label


def _answer(centres, discs, bodies, roles):
    """Logits that say so; ``_label`` with probability 0.95."""
    label = _label(centres, discs, bodies, roles)
    logits = np.zeros((9, 60))
    share = np.clip(0.95 * label[:3], 0.002, 0.998)
    logits[:3] = np.log(share / (1 - share))
    for role in range(4):
        logits[3 + role][label[3] == role] = 5.0
    return logits


def test_column_report_by_hand():
    """The first column: three bodies, of which one is missed and one has the wrong role, and one too many; one disc of
    two. The second: two bodies, one of them without a role, both found 2.5 mm off; and a body that the crop cuts."""
    report = handlers.ColumnReport(step_mm=2.5)
    truth = _label([40.0, 75.0, 110.0], [57.5, 92.5], [40.0, 75.0, 110.0], [2, 2, 1])
    report.add(_answer([40.0, 75.0, 10.0], [57.5], [40.0, 75.0], [2, 3]), truth)
    only = report.metrics()
    assert only["centre_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert only["centre_error_mm"] == pytest.approx(0.0, abs=0.01)
    assert (only["spurious_per_column"], only["disc_rate"], only["role_accuracy"]) == (1.0, 0.5, 0.5)
    truth = _label([40.0, 75.0], [57.5], [5.0, 40.0, 75.0], [2, 2, -1])
    answer = _answer([5.0, 42.5, 77.5], [57.5], [5.0, 42.5, 77.5], [2, 2, 1])
    report.add(answer, truth)
    metrics = report.metrics()
    assert metrics["centre_f1"] == pytest.approx(2 * 4 / (5 + 4 + 1))
    assert metrics["centre_error_mm"] == pytest.approx(1.25, abs=0.02)  # of 0, 0, 2.5 and 2.5
    assert metrics["spurious_per_column"] == 0.5
    assert metrics["disc_rate"] == pytest.approx(2 / 3)
    assert metrics["role_accuracy"] == pytest.approx(2 / 3)  # of three bodies that have one


def test_a_cut_body_that_is_called_whole_is_spurious():
    truth = _label([40.0], [], [5.0, 40.0], [2, 2])
    report = handlers.ColumnReport(step_mm=2.5)
    report.add(_answer([5.0, 40.0], [], [40.0], [2]), truth)  # nothing of a body at the end: it looks whole
    assert report.metrics()["spurious_per_column"] == 1.0


@pytest.mark.parametrize(("off", "found"), [(5.0, 1), (7.5, 0)])
def test_centres_count_within_6_mm(off, found):
    report = handlers.ColumnReport(step_mm=2.5)
    report.add(_answer([75.0 + off], [], [75.0 + off], [2]), _label([75.0], [], [75.0], [2]))
    metrics = report.metrics()
    assert metrics["centre_f1"] == found
    assert metrics["spurious_per_column"] == 1 - found
    assert np.isnan(metrics["disc_rate"])
    assert np.isnan(metrics["role_accuracy"]) == (not found)


def test_nothing_found_and_nothing_to_find():
    report = handlers.ColumnReport(step_mm=2.5)
    assert all(np.isnan(value) for value in report.metrics().values())
    report.add(_answer([], [], [], []), _label([75.0], [57.5], [75.0], [2]))
    metrics = report.metrics()
    assert (metrics["centre_f1"], metrics["disc_rate"], metrics["spurious_per_column"]) == (0.0, 0.0, 0.0)
    assert np.isnan(metrics["centre_error_mm"])


def test_column_report_starts_anew_in_each_epoch():
    right = [75.0], [], [75.0], [2]
    outputs = [[{"pred": torch.from_numpy(_answer(*right)), "label": torch.from_numpy(_label(*right))}]]
    report = handlers.ColumnReport(step_mm=2.5)
    engine = Engine(lambda engine, batch: batch)
    report.attach(engine)
    engine.run(outputs, max_epochs=2)
    assert engine.state.metrics["centre_f1"] == 1.0
    assert report.metrics() == {name: pytest.approx(v, nan_ok=True) for name, v in engine.state.metrics.items()}
    assert report._columns == 1
