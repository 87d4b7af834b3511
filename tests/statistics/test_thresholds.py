"""Cut-offs by hand: what is chosen, what is frozen, what cannot be met."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.errors import UnattainableError
from osteo_monai.statistics.roc import roc_curve
from osteo_monai.statistics.thresholds import Rule, choose_threshold

# from the highest score on: + + - + - + - -
Y, SCORE = [1, 1, 0, 1, 0, 1, 0, 0], [8, 7, 6, 5, 4, 3, 2, 1]
ASAH = json.loads((Path(__file__).parent / "oracle" / "delong_asah.json").read_text())


@pytest.mark.parametrize(
    ("rule", "required", "value", "counts"),
    [
        ("sensitivity", 0.5, 7, (2, 0, 2, 4)),
        ("sensitivity", 0.75, 5, (3, 1, 1, 3)),
        ("sensitivity", 0.76, 3, (4, 2, 0, 2)),
        ("sensitivity", 1.0, 3, (4, 2, 0, 2)),
        ("specificity", 1.0, 7, (2, 0, 2, 4)),
        ("specificity", 0.75, 5, (3, 1, 1, 3)),
        ("specificity", 0.5, 3, (4, 2, 0, 2)),
        ("youden", None, 3, (4, 2, 0, 2)),  # 7, 5 and 3 all have 0.5: the lowest misses fewest
    ],
)
def test_choice_by_hand(rule: Rule, required: float | None, value: int, counts: tuple[Any, ...]) -> None:
    found = choose_threshold(Y, SCORE, rule, required, chosen_on="validation")
    assert (found.value, found.counts, found.rule, found.required) == (value, counts, rule, required)
    assert found.chosen_on == "validation"
    assert found.rates.sensitivity.value == counts[0] / 4


def test_equal_indices_are_said() -> None:
    found = choose_threshold(Y, SCORE, "youden", chosen_on="validation")
    assert found.warnings == ("2 other cut-offs have the same Youden's index: 5, 7",)


def test_choice_is_that_of_the_curve() -> None:
    curve = roc_curve(ASAH["y"], ASAH["scores"]["s100b"])
    found = choose_threshold(ASAH["y"], ASAH["scores"]["s100b"], "youden", chosen_on="aSAH")
    assert curve.thresholds[np.argmax(curve.tpr - curve.fpr)] == found.value
    found = choose_threshold(ASAH["y"], ASAH["scores"]["s100b"], "sensitivity", 0.9, chosen_on="aSAH")
    assert found.value == curve.thresholds[curve.tpr >= 0.9][0]
    assert found.counts.tp == 37  # 0.9 of 41 is 36.9


def test_frozen_and_applied_elsewhere() -> None:
    found = choose_threshold(Y, SCORE, "sensitivity", 0.75, chosen_on="validation")
    assert found.call([4.9, 5, 9]).tolist() == [False, True, True]
    applied = found.apply([1, 1, 1, 0, 0], [9, 5, 1, 6, 2], resamples=50)
    assert applied.counts == (2, 1, 1, 1)
    assert applied.sensitivity.value == pytest.approx(2 / 3)
    assert applied.interval == "wilson"
    by_subject = found.apply([1, 1, 1, 0, 0], [9, 5, 1, 6, 2], groups=list("aabcd"), resamples=50)
    assert by_subject.clustered
    assert by_subject.interval == "wilson"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = 0  # type: ignore[misc]
    with pytest.raises(ValueError, match="1 of 2 are not"):
        found.call([1, math.nan])


def test_nobody_positive_elsewhere_is_undefined() -> None:
    found = choose_threshold(Y, SCORE, "sensitivity", 0.75, chosen_on="validation")
    applied = found.apply([0, 0], [1, 9])
    assert math.isnan(applied.sensitivity.value)
    assert applied.specificity.value == 0.5


def test_rounding_does_not_ask_for_one_more() -> None:
    # 0.7 x 10 = 7.000000000000001 in floating point
    y, score = [1] * 10 + [0], list(range(10, -1, -1))
    assert choose_threshold(y, score, "sensitivity", 0.7, chosen_on="v").counts.tp == 7


def test_ties_across_the_classes_are_said() -> None:
    found = choose_threshold([1, 1, 0, 0, 0], [3, 2, 2, 2, 1], "sensitivity", 1.0, chosen_on="v")
    assert (found.value, found.tied, found.counts) == (2, 3, (2, 2, 0, 1))
    assert "3 cases of both classes share the score of the cut-off" in found.warnings[0]


def test_what_is_met_by_calling_everyone_is_said() -> None:
    found = choose_threshold([0, 0, 1, 1], [4, 3, 2, 1], "sensitivity", 1.0, chosen_on="validation")
    assert found.warnings == ("the cut-off classifies every negative case of validation as positive",)


def test_too_few_cases_for_the_requirement_are_said() -> None:
    found = choose_threshold(Y, SCORE, "sensitivity", 0.9, chosen_on="v")
    assert found.warnings == ("with 4 cases 0.9 means all of them",)
    assert (
        "subjects have several cases"
        in choose_threshold(Y, SCORE, "sensitivity", 0.75, chosen_on="v", groups=list("aabbccdd")).warnings[-1]
    )


def test_specificity_that_no_score_reaches() -> None:
    with pytest.raises(UnattainableError, match=r"of 0.9 on v: the highest score, 4, is that of 1 of 2 .* gives 0.500"):
        choose_threshold([0, 0, 1, 1], [4, 3, 2, 1], "specificity", 0.9, chosen_on="v")


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="both classes must have cases, got 2 positive and 0 negative; the required"):
        choose_threshold([1, 1], [1, 2], "sensitivity", 90, chosen_on="v")
    with pytest.raises(ValueError, match="required must be None for youden, got 0.9"):
        choose_threshold(Y, SCORE, "youden", 0.9, chosen_on="v")
    with pytest.raises(ValueError, match="rule must be sensitivity, specificity or youden, got 'f1'"):
        choose_threshold(Y, SCORE, "f1", 0.9, chosen_on="v")  # type: ignore[arg-type]
