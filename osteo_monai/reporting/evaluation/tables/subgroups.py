"""Class agreement and areas by subgroup, and areas against osteoporosis by DXA."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.predictions_schema import BINARY_CLASSES
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, label, quietly
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, PValue, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, as_interval, by_value, factors, who
from osteo_monai.statistics.classification import class_performance
from osteo_monai.statistics.clusters import clustered_proportion
from osteo_monai.statistics.proportions import Interval, IntervalMethod
from osteo_monai.statistics.roc import auc
from osteo_monai.statistics.subgroups import Heterogeneity, areas_differ, rates_differ

__all__ = ["interactions_table", "subgroups_table"]

Rows = NDArray[np.intp]


def subgroups_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return class agreement, area of osteoporosis, and area against a T-score of DXA, in all and by subgroup.

    A model without a factor of several values and without T-scores has no row, since its numbers are those of the
    tables of performance.
    """
    table = ResultTable(
        "subgroups",
        f"Class agreement and areas by subgroup; estimate ({100 * options.level:g} % confidence interval)",
        (
            *WHO_COLUMNS,
            Column("subgroup", "Subgroup"),
            Column("n", "n"),
            Column("agreement", "Class agreement"),
            Column("auc", "AUC of osteoporosis"),
            Column("sensitivity", "Se of osteoporosis"),
            Column("specificity", "Sp of osteoporosis"),
            Column("with_t_score", "With T-score"),
            Column("dxa_cases", f"T-score {OSTEOPOROSIS_T_SCORE:g} or less"),
            Column("auc_dxa", "AUC against DXA"),
            Column("auc_reference_dxa", "AUC of the reference density against DXA"),
        ),
    )
    rows = [row for predictions in sets for row in _rows(predictions, options)]
    notes = ["The area against DXA is that of osteoporosis by a T-score of -2.5 or less, in images with a T-score."]
    return table.filled(rows, notes if any("auc_dxa" in row for row in rows) else ())


def _rows(predictions: Predictions, options: EvaluationOptions) -> Iterator[Row]:
    everything = np.arange(len(predictions))
    found = factors(predictions, everything)
    t_scores = _t_scores(predictions)
    has_t_scores = predictions.classes != BINARY_CLASSES and bool(np.isfinite(t_scores).any())
    if not found and not has_t_scores:
        return
    groups: list[tuple[str, Rows]] = [("all", everything)]
    for factor, values in found.items():
        groups += [
            (f"{label(factor)} {value or 'unknown'}", np.flatnonzero(np.array(values) == value))
            for value in sorted(set(values), key=by_value)
        ]
    for name, rows in groups:
        row: dict[str, Cell] = {**who(predictions), "subgroup": name, "n": len(rows)}
        row["agreement"] = _agreement(predictions, rows, options)
        row["auc"] = _area(predictions, rows, predictions.is_class(TARGET), options)
        row |= _rates(predictions, rows, options)
        if has_t_scores:
            known = rows[np.isfinite(t_scores[rows])]
            truth = t_scores <= OSTEOPOROSIS_T_SCORE
            row |= {"with_t_score": len(known), "dxa_cases": int(truth[known].sum())}
            row["auc_dxa"] = _area(predictions, known, truth, options)
            measured = known[np.isfinite(predictions.density[known])]
            if len(measured):
                row["auc_reference_dxa"] = _area(predictions, measured, truth, options, -predictions.density)
        yield row


def _t_scores(predictions: Predictions) -> NDArray[np.float64]:
    """Return (n,) T-scores, ``nan`` if unknown or not a number."""

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return math.nan

    texts = predictions.facts.get("t_score", np.full(len(predictions), ""))
    return np.array([number(text) for text in texts], dtype=np.float64)


def _groups(predictions: Predictions, rows: Rows) -> NDArray[np.str_] | None:
    subjects = predictions.subjects[rows]
    return subjects if len(np.unique(subjects)) < len(subjects) else None


def _agreement(predictions: Predictions, rows: Rows, options: EvaluationOptions) -> Interval | Missing:
    if predictions.predicted is None:
        return Missing(predictions.decided_by)
    names = np.array(predictions.classes)
    return class_performance(
        names[predictions.truth[rows]],
        names[predictions.predicted[rows]],
        predictions.classes,
        groups=_groups(predictions, rows),
        method="wilson" if options.interval == "wilson" else "clopper-pearson",
        level=options.level,
        resamples=options.resamples,
        seed=options.seed,
    ).accuracy


def _rates(predictions: Predictions, rows: Rows, options: EvaluationOptions) -> Row:
    """Return sensitivity and specificity of osteoporosis in ``rows``."""
    called = predictions.is_predicted(TARGET)
    if called is None:
        return dict.fromkeys(("sensitivity", "specificity"), Missing(predictions.decided_by))
    positive = predictions.is_class(TARGET)[rows]
    cells: dict[str, Cell] = {}
    for name, correct, among, reason in (
        ("sensitivity", called[rows], positive, "there is no case of osteoporosis"),
        ("specificity", ~called[rows], ~positive, "all cases are of osteoporosis"),
    ):
        chosen = np.flatnonzero(among)
        method: IntervalMethod = "wilson" if options.interval == "wilson" else "clopper-pearson"
        found = clustered_proportion(correct[chosen], predictions.subjects[rows][chosen], options.level, method)
        cells[name] = found if chosen.size else Missing(reason)
    return cells


def interactions_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return tests whether sensitivity, specificity and area of osteoporosis are the same in all subgroups."""
    table = ResultTable(
        "interactions",
        "Tests of equal performance for osteoporosis in all subgroups of a factor (interaction), and the difference of "
        f"two subgroups ({100 * options.level:g} % confidence interval)",
        (
            *WHO_COLUMNS,
            Column("factor", "Factor"),
            Column("measure", "Measure"),
            Column("compared", "Compared"),
            Column("difference", "Difference"),
            Column("chi2", "Chi-square", 2),
            Column("df", "df"),
            Column("p", "P"),
        ),
    )
    rows: list[Row] = []
    for predictions in sets:
        for factor, values in factors(predictions, np.arange(len(predictions))).items():
            for measure, found in _interactions(predictions, np.array(values), options):
                row: dict[str, Cell] = {**who(predictions), "factor": label(factor), "measure": measure}
                if found is None:
                    row["p"] = Missing("fewer than two subgroups have enough subjects and vary")
                else:
                    two = found.difference is not None
                    row |= {
                        "compared": " \N{MINUS SIGN} ".join(found.compared)
                        if two
                        else ", ".join(sorted(found.compared, key=by_value)),
                        "difference": found.difference or Missing("more than two subgroups"),
                        "chi2": found.chi2,
                        "df": found.df,
                    }
                    row["p"] = PValue(found.p)
                rows.append(row)
    notes = [
        "Subgroups with fewer than five subjects (for areas: of a class) and unknown values are left out. P values are "
        "not adjusted for the number of factors; a large P does not show that subgroups are equal. Differences of two "
        "subgroups: square-and-add of the intervals of both rates (Newcombe 1998), normal for areas."
    ]
    return table.filled(rows, notes if rows else ())


def _interactions(
    predictions: Predictions, names: NDArray[np.str_], options: EvaluationOptions
) -> Iterator[tuple[str, Heterogeneity | None]]:
    method: IntervalMethod = "wilson" if options.interval == "wilson" else "clopper-pearson"
    positive, called = predictions.is_class(TARGET), predictions.is_predicted(TARGET)
    subjects = predictions.subjects
    if called is not None:
        for measure, correct, among in (("sensitivity", called, positive), ("specificity", ~called, ~positive)):
            if among.any():
                yield (
                    measure,
                    rates_differ(correct[among], names[among], subjects[among], level=options.level, method=method),
                )
    if TARGET in predictions.scores:
        yield "AUC", areas_differ(positive, predictions.scores[TARGET], names, subjects, level=options.level)


def _area(
    predictions: Predictions,
    rows: Rows,
    truth: NDArray[np.bool_],
    options: EvaluationOptions,
    score: NDArray[np.float64] | None = None,
) -> Interval | Missing:
    """Return the area of a truth by a score, by default that of osteoporosis."""
    if score is None:
        if TARGET not in predictions.scores:
            return Missing("the predictions have no score of osteoporosis")
        score = predictions.scores[TARGET]
    cases = int(truth[rows].sum())
    if not 0 < cases < len(rows):
        return Missing("all cases are of one class")
    result = quietly(lambda: auc(truth[rows], score[rows], options.level, groups=_groups(predictions, rows)))
    return as_interval(result) if math.isfinite(result.value) else Missing(str(result.warning))
