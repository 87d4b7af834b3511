"""Radiomics baseline: a feature that carries the outcome is found, subjects do not leak, noise stays noise."""

import numpy as np
import pytest

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement import LevelTexture, cross_validated_predictions, feature_table

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def cohort(n: int, effect: float, seed: int = 0) -> tuple[dict[str, list[LevelTexture]], dict[str, bool]]:
    rng = np.random.default_rng(seed)
    positive = {f"s{i:03d}": bool(i % 3 == 0) for i in range(n)}
    subjects = {
        subject: [
            LevelTexture(
                level,
                {
                    "first_order_mean": float(rng.normal(150 - effect * ill, 20)),
                    "glcm_entropy": float(rng.normal(3, 1)),
                },
            )
            for level in (L1, L2)
        ]
        for subject, ill in positive.items()
    }
    return subjects, positive


def test_table_has_one_row_per_subject_and_level_without_empty_features() -> None:
    subjects, _ = cohort(4, 50)
    table = feature_table(subjects)
    assert list(table.columns) == ["subject_id", "level", "first_order_mean", "glcm_entropy"]
    assert len(table) == 8
    assert table["level"].tolist()[:2] == ["L1", "L2"]


def test_an_effect_is_found_and_noise_is_not() -> None:
    for effect, low, high in ((40.0, 0.9, 1.0), (0.0, 0.3, 0.7)):
        subjects, positive = cohort(120, effect)
        predictions = cross_validated_predictions(feature_table(subjects), positive)
        assert predictions["subject_id"].tolist() == sorted(positive)
        truth, score = predictions["positive"].to_numpy(), predictions["probability"].to_numpy()
        assert low <= _auc(truth, score) <= high
        assert set(predictions["fold"]) == set(range(5))


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    higher = score[truth][:, None] - score[~truth][None]
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


def test_all_levels_of_a_subject_are_in_one_fold() -> None:
    subjects, positive = cohort(30, 0.0)
    # the value of a subject is equal at both levels and unique: a leak would predict it
    unique = {
        s: [LevelTexture(level, {"first_order_mean": 1000.0 * i}) for level in (L1, L2)] for i, s in enumerate(subjects)
    }
    predictions = cross_validated_predictions(feature_table(unique), positive, seed=3)
    assert predictions.groupby("subject_id")["fold"].nunique().max() == 1
    assert predictions.equals(cross_validated_predictions(feature_table(unique), positive, seed=3))


def test_missing_outcomes_and_too_few_subjects_are_refused() -> None:
    subjects, positive = cohort(12, 0.0)
    table = feature_table(subjects)
    with pytest.raises(ValueError, match="got none for s000"):
        cross_validated_predictions(table, {k: v for k, v in positive.items() if k != "s000"})
    with pytest.raises(ValueError, match="got 5 for 8 negative and 4 positive subjects"):
        cross_validated_predictions(table, positive)
