"""Radiomics baseline: logistic regression on the texture of vertebral bodies, cross-validated by subject."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from osteo_monai.measurement.texture import UNITS, LevelTexture

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
REGULARISATION = 1.0
"""``C`` of scikit-learn's logistic regression, its default: there is no data to choose another one on."""


def feature_table(subjects: Mapping[str, Sequence[LevelTexture]]) -> "pd.DataFrame":
    """Return one row per subject and level with the columns ``subject_id``, ``level`` and each feature.

    Features that no row has are left out; a missing value is NaN.
    """
    import pandas as pd

    rows = [
        {"subject_id": subject, "level": str(result.level), **result.features}
        for subject, levels in subjects.items()
        for result in levels
    ]
    return pd.DataFrame(rows, columns=["subject_id", "level", *UNITS]).dropna(axis="columns", how="all")


def cross_validated_predictions(
    table: "pd.DataFrame", positive: Mapping[str, bool], folds: int = FOLDS, seed: int = 0
) -> "pd.DataFrame":
    """Predict the probability of a positive subject by logistic regression, each subject by a model without it.

    All rows of a subject are in one fold; folds are stratified by the outcome. Missing values are replaced by the
    median and features are standardised, both within the training folds. The probability of a subject is the mean of
    its rows.

    Args:
        table: as of :func:`feature_table`.
        positive: outcome by ``subject_id``.
        folds: number of folds, at most the number of subjects of the rarer outcome.
        seed: of the order of subjects.

    Returns:
        One row per subject: ``subject_id``, ``fold``, ``positive`` and ``probability``.

    Raises:
        ValueError: a subject without an outcome, or fewer than ``folds`` subjects of one outcome.
    """
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    subjects = table["subject_id"].astype(str).to_numpy()
    if unknown := sorted(set(subjects) - set(positive)):
        raise ValueError(f"positive must have an outcome for every subject, got none for {', '.join(unknown[:5])}")
    truth = np.array([bool(positive[s]) for s in subjects])
    counts = [len(set(subjects[truth == value])) for value in (False, True)]
    if folds < 2 or min(counts) < folds:
        raise ValueError(
            f"folds must be from 2 to the number of subjects of the rarer outcome, got {folds} "
            f"for {counts[0]} negative and {counts[1]} positive subjects"
        )
    features = table.drop(columns=["subject_id", "level"]).to_numpy(dtype=np.float64)
    probability, fold = np.zeros(len(table)), np.zeros(len(table), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (training, test) in enumerate(splitter.split(features, truth, subjects)):
        model = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=REGULARISATION, max_iter=1000),
        )
        model.fit(features[training], truth[training])
        probability[test] = model.predict_proba(features[test])[:, 1]
        fold[test] = number
    rows = pd.DataFrame({"subject_id": subjects, "fold": fold, "positive": truth, "probability": probability})
    return rows.groupby("subject_id", sort=True, as_index=False).agg(
        {"fold": "first", "positive": "first", "probability": "mean"}
    )
