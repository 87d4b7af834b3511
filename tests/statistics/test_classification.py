"""Confusion matrices and what follows from them: Pan 2024's test set, by hand, at the edges."""

import math
from typing import Any

import numpy as np
import pytest

from osteo_monai.statistics.classification import (
    binary_counts,
    class_performance,
    confusion_matrix,
    rates,
    summarise,
)
from osteo_monai.statistics.proportions import wilson

CLASSES = ("normal", "osteopenia", "osteoporosis")
# Pan et al. 2024 (doi 10.1186/s12891-024-07297-1), model 1, test set: the one matrix that gives the printed rates
PAN = np.array([[242, 9, 0], [14, 83, 19], [0, 3, 48]])


def cases(matrix: Any) -> tuple[list[str], list[str]]:
    """True and predicted class of every case of a matrix."""
    rows, columns = np.indices(np.shape(matrix))
    times = np.ravel(matrix)
    names = np.array(CLASSES)
    return names[np.repeat(rows.ravel(), times)], names[np.repeat(columns.ravel(), times)]


def test_matrix_holds_true_rows_and_predicted_columns() -> None:
    matrix = confusion_matrix(["a", "a", "b", "c"], ["a", "b", "b", "a"], ("a", "b", "c"))
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert (confusion_matrix(*cases(PAN), classes=CLASSES) == PAN).all()


def test_everything_wrong_with_the_classes_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"true class must be one of a, b, got c; .* 2 and 1"):
        confusion_matrix(["a", "c"], ["a"], ("a", "b"))
    with pytest.raises(ValueError, match="at least two different names"):
        confusion_matrix(["a"], ["a"], ("a", "a"))


@pytest.mark.parametrize(
    ("name", "counts", "printed"),
    [
        ("normal", (242, 14, 9, 153), (0.964, 0.916, 0.945, 0.944, 0.945)),
        ("osteopenia", (83, 12, 33, 290), (0.716, 0.960, 0.874, 0.898, 0.892)),
        ("osteoporosis", (48, 19, 3, 348), (0.941, 0.948, 0.716, 0.991, 0.947)),
    ],
)
def test_rates_of_pan_2024(name: str, counts: tuple[Any, ...], printed: tuple[Any, ...]) -> None:
    assert binary_counts(PAN, CLASSES.index(name)) == counts
    found = rates(*counts)
    names = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
    assert [round(getattr(found, n).value, 3) for n in names] == list(printed)
    assert found.sensitivity.low == wilson(counts[0], counts[0] + counts[2]).low
    assert rates(*counts, method="clopper-pearson").sensitivity.low < found.sensitivity.low


def test_rates_of_no_case_are_undefined() -> None:
    found = rates(0, 0, 0, 5)
    assert math.isnan(found.sensitivity.value)
    assert math.isnan(found.ppv.low)
    assert math.isnan(found.f1.value)
    assert (found.specificity.value, found.specificity.high) == (1.0, 1.0)
    assert rates(0, 0, 3, 5).f1.value == 0  # cases there are, none was called
    with pytest.raises(ValueError, match="whole numbers of 0 or more, got TP -1"):
        rates(-1, 0, 0, 5)
    with pytest.raises(ValueError, match="k must be a class of a square confusion matrix, got 3"):
        binary_counts(PAN, 3)


def test_performance_of_pan_2024() -> None:
    found = class_performance(*cases(PAN), classes=CLASSES)
    assert (found.matrix == PAN).all()
    assert found.accuracy.value == pytest.approx(373 / 418)
    assert (found.accuracy.low, found.accuracy.high) == (wilson(373, 418).low, wilson(373, 418).high)
    f1 = [484 / 507, 166 / 211, 96 / 118]
    assert [found.rates[name].f1.value for name in CLASSES] == pytest.approx(f1)
    assert found.macro_f1.value == pytest.approx(sum(f1) / 3)
    # agreement by chance: (251 x 256 + 116 x 95 + 51 x 67) / 418^2
    chance = (251 * 256 + 116 * 95 + 51 * 67) / 418**2
    assert found.kappa.value == pytest.approx((373 / 418 - chance) / (1 - chance))
    # weights 1 beside the diagonal and 4 in the corners
    chance = (251 * 95 + 116 * 256 + 116 * 67 + 51 * 95 + 4 * (251 * 67 + 51 * 256)) / 418
    assert found.quadratic_kappa.value == pytest.approx(1 - (9 + 14 + 19 + 3) / chance)
    for interval in (found.rates["osteopenia"].f1, found.macro_f1, found.kappa, found.quadratic_kappa):
        assert interval.low < interval.value < interval.high
    assert not found.clustered
    assert found.rates["normal"].interval == "wilson"


def test_one_pair_of_a_subject_hardly_changes_an_interval() -> None:
    truth, called = cases(PAN)
    groups = np.arange(418)
    groups[1] = 0
    found = class_performance(truth, called, CLASSES, groups=groups)
    assert found.clustered
    assert found.rates["normal"].clustered
    assert found.rates["normal"].interval == "wilson"
    single = class_performance(truth, called, CLASSES)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(
        (single.accuracy.low, single.accuracy.high), abs=1e-3
    )
    again = class_performance(truth, called, CLASSES, groups=groups)
    assert again.macro_f1 == found.macro_f1
    assert class_performance(truth, called, CLASSES, groups=groups, seed=1).macro_f1 != found.macro_f1


RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@pytest.mark.parametrize("method", ["wilson", "clopper-pearson"])
@pytest.mark.parametrize("images", [1, 2])
def test_copies_of_images_change_no_interval_of_a_rate(method: Any, images: int) -> None:
    truth, called = cases(PAN)
    people = np.arange(418) // images
    once = class_performance(truth, called, CLASSES, groups=people, method=method)
    rows = np.repeat(np.arange(418), 10)
    copied = class_performance(truth[rows], called[rows], CLASSES, groups=people[rows], method=method)
    for name in CLASSES:
        for rate in RATES:
            bounds = [[getattr(x.rates[name], rate).low, getattr(x.rates[name], rate).high] for x in (once, copied)]
            assert bounds[1] == pytest.approx(bounds[0], abs=1e-9)
    assert (copied.accuracy.low, copied.accuracy.high) == pytest.approx((once.accuracy.low, once.accuracy.high))


def test_perfect_rates_of_few_subjects_keep_a_width() -> None:
    # 10 people with the class and 30 without, two images each, all correct: Wilson's interval of 10 and of 30
    truth = np.repeat(["yes", "no"], [20, 60])
    groups = np.repeat(np.arange(40), 2)
    found = class_performance(truth, truth, ("no", "yes"), groups=groups).rates["yes"]
    assert (found.sensitivity.value, found.sensitivity.low) == pytest.approx((1, wilson(10, 10).low))
    assert found.specificity.low == pytest.approx(wilson(30, 30).low)
    assert found.accuracy.low == pytest.approx(wilson(40, 40).low)
    assert (found.sensitivity.events, found.sensitivity.total) == (20, 20)
    j = wilson(10, 10).low  # F1 = 2 J / (1 + J) of J = TP / (TP + FP + FN)
    assert (found.f1.low, found.f1.high) == pytest.approx((2 * j / (1 + j), 1))
    wrong = class_performance(truth, np.where(truth == "yes", "no", "yes"), ("no", "yes"), groups=groups).rates["yes"]
    assert wrong.sensitivity.high == pytest.approx(wilson(0, 10).high)
    assert wrong.f1.high > 0


def test_bootstrap_without_variation_is_no_interval() -> None:
    found = class_performance(["a", "b"] * 10, ["a", "b"] * 10, ("a", "b"))
    assert (found.kappa.value, found.macro_f1.value) == (1, 1)
    assert all(math.isnan(x.low) for x in (found.kappa, found.quadratic_kappa, found.macro_f1))


def test_images_of_one_subject_add_no_certainty() -> None:
    truth, called = (np.repeat(column, 4) for column in cases(PAN))
    groups = np.repeat(np.arange(418), 4)
    once = class_performance(*cases(PAN), classes=CLASSES).macro_f1
    grouped = class_performance(truth, called, CLASSES, groups=groups).macro_f1
    loose = class_performance(truth, called, CLASSES).macro_f1
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    assert loose.high - loose.low < 0.6 * (once.high - once.low)


def test_classes_without_a_case_are_undefined() -> None:
    found = class_performance(["normal", "osteopenia"] * 5, ["normal", "osteopenia"] * 5, CLASSES)
    assert math.isnan(found.rates["osteoporosis"].sensitivity.value)
    assert math.isnan(found.macro_f1.value)
    assert found.kappa.value == 1
    single = class_performance(["normal"] * 3, ["normal"] * 3, CLASSES)
    assert math.isnan(single.kappa.value)  # nothing but agreement by chance
    one = class_performance(["normal", "osteopenia"], ["normal", "normal"], CLASSES, groups=["a", "a"])
    assert math.isnan(one.accuracy.low)  # a single subject


def test_summary_by_hand() -> None:
    found = summarise([0.8, 0.9, math.nan, 1.0])
    assert (found.n, found.missing) == (3, 1)
    assert (found.mean, found.sd, found.median, found.q1, found.maximum) == pytest.approx((0.9, 0.1, 0.9, 0.85, 1))
    assert math.isnan(summarise([0.5]).sd)
    assert math.isnan(summarise([math.nan]).mean)
    with pytest.raises(ValueError, match="1 of 2 infinite"):
        summarise([1, math.inf])
