"""Paired comparison of models on their common images, and the verdict against a baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from osteo_monai.data.predictions_table import Predictions, common_rows
from osteo_monai.reporting.evaluation.options import EvaluationOptions, label, quietly
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, PValue, ResultTable, Row
from osteo_monai.reporting.numbers import printed_number, printed_p
from osteo_monai.statistics.paired_rates import PairedRates, compare_rates
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import PairedTest, delong_test, holm

__all__ = ["Comparison", "Verdict", "compare", "comparison_table", "differences_table", "verdicts"]


@dataclass(frozen=True)
class Comparison:
    """Two models on their common images, for one class.

    Attributes:
        cohort: of both.
        name: class.
        first: name of the first model.
        second: name of the second model.
        images: number of common images.
        subjects: number of their subjects.
        covered: whether both models have these images only.
        test: of the areas, or why there is none.
        p: of ``test``, adjusted if requested; ``nan`` without a test.
        sensitivity: McNemar's p, or why there is none.
        specificity: the same.
        rates: differences of rates with intervals, ``None`` without.
    """

    cohort: str
    name: str
    first: str
    second: str
    images: int
    subjects: int
    covered: bool
    test: PairedTest | str
    p: float
    sensitivity: float | str
    specificity: float | str
    rates: PairedRates | None = None

    def sentence(self, level: float) -> str:
        """Return whether the first model is better than the second, as text."""
        if isinstance(self.test, str):
            return f"{label(self.name)}: not comparable ({self.test})"
        t = self.test
        gap = f"{t.difference:+.3f}".replace("-", "\N{MINUS SIGN}")
        if t.low is None or t.high is None or math.isnan(self.p):
            return f"{label(self.name)}: no test (AUC difference {gap}; {t.warning})"
        bounds = f"{printed_number(t.low)} to {printed_number(t.high)}, p {_p(self.p)}"
        shown = "better than it" if t.difference > 0 else "worse than it"
        verdict = shown if self.p < 1 - level else "no difference shown"
        return f"{label(self.name)}: {verdict} (AUC difference {gap}, {bounds})"


def _p(p: float) -> str:
    text = printed_p(p)
    return text if text.startswith("<") else f"= {text}"


def compare(sets: Sequence[Predictions], options: EvaluationOptions) -> list[Comparison]:
    """Compare each pair of models of a cohort by class; the baseline is always the second of its pairs."""
    comparisons = []
    for cohort in dict.fromkeys(c.cohort for c in sets):
        several = [c for c in sets if c.cohort == cohort]
        # a positive difference then favours the other model
        several.sort(key=lambda c: c.model == options.baseline)
        for first, second in combinations(several, 2):
            comparisons += _compare_pair(first, second, options)
    return comparisons


def _compare_pair(first: Predictions, second: Predictions, options: EvaluationOptions) -> list[Comparison]:
    a, b = common_rows(first, second)
    names = [name for name in first.reported_classes if name in second.reported_classes]
    subjects = first.subjects[a]
    count = len(np.unique(subjects))
    groups = subjects if count < len(a) else None
    tests = [_test(first, second, a, b, name, groups, options.level) for name in names]
    raw = np.array([math.nan if isinstance(t, str) or t.p is None else t.p for t in tests])
    p_values = holm(raw) if options.holm else raw
    comparisons = []
    for name, test, p in zip(names, tests, p_values, strict=True):
        rates: PairedRates | None = None
        paired: tuple[float | str, float | str] = ("a model has no predicted class",) * 2
        first_called, second_called = first.is_predicted(name), second.is_predicted(name)
        truth = first.is_class(name)[a]
        if not len(a):
            paired = ("no image in common",) * 2
        elif first_called is not None and second_called is not None:
            rates = compare_rates(
                truth,
                first_called[a],
                second_called[b],
                groups=groups,
                level=options.level,
                method="wilson" if options.interval == "wilson" else "clopper-pearson",
            )
            paired = (
                rates.sensitivity.p if truth.any() else "there is no case of the class",
                rates.specificity.p if (~truth).any() else "all cases are of the class",
            )
        covered = len(a) == len(first) == len(second)
        comparisons.append(
            Comparison(
                first.cohort, name, first.model, second.model, len(a), count, covered, test, float(p), *paired, rates
            )
        )
    return comparisons


def _test(
    first: Predictions,
    second: Predictions,
    a: np.ndarray,
    b: np.ndarray,
    name: str,
    groups: np.ndarray | None,
    level: float,
) -> PairedTest | str:
    without_score = [c.model for c in (first, second) if name not in c.scores]
    if without_score:
        return f"{' and '.join(without_score)} {'has' if len(without_score) == 1 else 'have'} no score for it"
    if not len(a):
        return "no image in common"
    truth = first.is_class(name)[a]
    if truth.all() or not truth.any():
        return "the common images have one class only"
    return quietly(lambda: delong_test(truth, first.scores[name][a], second.scores[name][b], level, groups=groups))


def comparison_table(comparisons: Sequence[Comparison], options: EvaluationOptions) -> ResultTable:
    """Return the paired tests of areas (DeLong) and of sensitivity and specificity (McNemar)."""
    table = ResultTable(
        "comparison",
        "Paired comparison of models: areas under the ROC curve (DeLong), sensitivity and specificity (McNemar, exact)",
        (
            Column("cohort", "Cohort"),
            Column("first", "Model 1"),
            Column("second", "Model 2"),
            Column("class", "Class"),
            Column("images", "n"),
            Column("subjects", "Subjects"),
            Column("auc_first", "AUC1"),
            Column("auc_second", "AUC2"),
            Column("difference", "AUC1 \N{MINUS SIGN} AUC2"),
            Column("z", "Z"),
            Column("p", "P"),
            Column("p_holm", "P (Holm)"),
            Column("p_sensitivity", "P of Se"),
            Column("p_specificity", "P of Sp"),
            Column("verdict", "Against the baseline"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for c in comparisons:
        row: dict[str, Cell] = {
            "cohort": label(c.cohort),
            "first": c.first,
            "second": c.second,
            "class": label(c.name),
            "images": c.images,
            "subjects": c.subjects,
            "p_sensitivity": _p_or_reason(c.sensitivity),
            "p_specificity": _p_or_reason(c.specificity),
        }
        if isinstance(c.test, str):
            row |= dict.fromkeys(("auc_first", "auc_second", "difference", "z", "p"), Missing(c.test))
        else:
            t = c.test
            reason = Missing(t.warning or "no test")
            bounded = t.low is not None and t.high is not None
            row |= {
                "auc_first": t.first,
                "auc_second": t.second,
                "difference": Interval(t.difference, float(t.low or 0), float(t.high or 0))
                if bounded
                else t.difference,
                "z": reason if t.z is None else t.z,
                "p": reason if t.p is None else PValue(t.p),
            }
            if options.holm:
                row["p_holm"] = reason if math.isnan(c.p) else PValue(c.p)
        if c.second == options.baseline:
            row["verdict"] = c.sentence(options.level).split(": ", 1)[1].split(" (")[0].removesuffix(" than it")
        rows.append(row)
    partial = dict.fromkeys(
        f"{c.first} and {c.second} ({label(c.cohort)}, n = {c.images})" for c in comparisons if not c.covered
    )
    if partial:
        notes.append(f"These cover different images and are compared on the common ones only: {'; '.join(partial)}.")
    if options.holm and options.baseline:
        notes.append("The verdict follows the adjusted P; intervals of the difference are not adjusted.")
    if any(not isinstance(c.test, str) and c.test.clustered for c in comparisons):
        notes.append(
            "For subjects with several images, Obuchowski's variance replaces DeLong's, and the exact test of the "
            "signs of subjects' sums that of McNemar."
        )
    return table.filled(rows, notes)


def differences_table(comparisons: Sequence[Comparison], options: EvaluationOptions) -> ResultTable:
    """Return differences of areas and rates of two models with intervals, and whether they exceed the margin."""
    margin = options.margin
    table = ResultTable(
        "differences",
        f"Differences of two models on their common images, model 1 \N{MINUS SIGN} model 2; estimate "
        f"({100 * options.level:g} % confidence interval)",
        (
            Column("cohort", "Cohort"),
            Column("first", "Model 1"),
            Column("second", "Model 2"),
            Column("class", "Class"),
            Column("images", "n"),
            *(Column(name, heading) for name, heading in _DIFFERENCES),
            *(
                Column(f"{name}_margin", f"{heading}, margin {margin:g}")
                for name, heading in _DIFFERENCES[:3]
                if margin
            ),
        ),
    )
    rows: list[Row] = []
    for c in comparisons:
        row: dict[str, Cell] = {
            "cohort": label(c.cohort),
            "first": c.first,
            "second": c.second,
            "class": label(c.name),
            "images": c.images,
        }
        for name, _ in _DIFFERENCES:
            found = _difference(c, name)
            row[name] = found
            if margin and name in ("auc", "sensitivity", "specificity"):
                row[f"{name}_margin"] = _against(found, margin) if isinstance(found, Interval) else found
        if any(isinstance(row[name], Interval) for name, _ in _DIFFERENCES):
            rows.append(row)
    notes = ["Intervals of differences of rates: square-and-add of the intervals of both rates (Newcombe 1998)."]
    if margin:
        notes.append(
            f"Margin {margin:g}, stated before the evaluation: not inferior if the lower bound of the difference is "
            f"above \N{MINUS SIGN}{margin:g} (one-sided level {100 * (1 - options.level) / 2:g} %), inferior if the "
            f"upper bound is below it, else not shown. A difference that is not significant is no equivalence."
        )
    return table.filled(rows, notes if rows else ())


_DIFFERENCES = (("auc", "AUC"), ("sensitivity", "Se"), ("specificity", "Sp"), ("ppv", "PPV"), ("npv", "NPV"))


def _difference(c: Comparison, name: str) -> Interval | Missing:
    if name == "auc":
        if isinstance(c.test, str):
            return Missing(c.test)
        if c.test.low is None or c.test.high is None:
            return Missing(c.test.warning or "no interval")
        return Interval(c.test.difference, c.test.low, c.test.high)
    if c.rates is None:
        return Missing(c.sensitivity if isinstance(c.sensitivity, str) else "a model has no predicted class")
    found = getattr(c.rates, name)
    interval: Interval = found if isinstance(found, Interval) else found.difference
    return interval if math.isfinite(interval.value) else Missing(_UNDEFINED[name])


_UNDEFINED = {
    "sensitivity": "there is no case of the class",
    "specificity": "all cases are of the class",
    "ppv": "a model predicted no case as the class",
    "npv": "a model predicted every case as the class",
}


def _against(difference: Interval, margin: float) -> str:
    """Return the conclusion of a test against a margin of inferiority."""
    if difference.low > -margin:
        return "not inferior"
    return "inferior" if difference.high < -margin else "not shown"


def _p_or_reason(value: float | str) -> Cell:
    return Missing(value) if isinstance(value, str) else PValue(value)


class Verdict(str):
    """A sentence on a model against the baseline, with its ``tone``: better, worse, or undecided."""

    tone: str = "undecided"


def _tone(own: Sequence[Comparison], level: float) -> str:
    """Return better or worse if all significant differences of areas have that direction, else undecided."""
    shown = [c.test.difference > 0 for c in own if not isinstance(c.test, str) and c.p < 1 - level]
    if not shown or len(set(shown)) > 1:
        return "undecided"
    return "better" if shown[0] else "worse"


def verdicts(comparisons: Sequence[Comparison], options: EvaluationOptions) -> list[Verdict]:
    """Return for each other model whether it beats the baseline, by cohort and class, without the training cohort."""
    if options.baseline is None:
        return []
    sentences = []
    against = [c for c in comparisons if c.second == options.baseline and c.cohort != "training"]
    for model, cohort in dict.fromkeys((c.first, c.cohort) for c in against):
        own = [c for c in against if (c.first, c.cohort) == (model, cohort)]
        parts = "; ".join(c.sentence(options.level) for c in own)
        sentence = Verdict(
            f"'{model}' against the baseline '{options.baseline}', {label(cohort)}, n = {own[0].images}: {parts}."
        )
        sentence.tone = _tone(own, options.level)
        sentences.append(sentence)
    return sentences
