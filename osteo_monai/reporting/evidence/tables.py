"""Tables, JSON and tracked numbers of an evidence report."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from osteo_monai.reporting.evidence.analysis import Evidence, TargetEvidence
from osteo_monai.reporting.evidence.own import NO_INTERVAL
from osteo_monai.reporting.publishing import json_ready
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics.meta_analysis.covariates import CovariateModel, LikelihoodRatioTest, WaldTest
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint
from osteo_monai.statistics.meta_analysis.three_level import ThreeLevelFit
from osteo_monai.statistics.proportions import Interval, wilson
from osteo_monai.utils.files import write_json
from osteo_monai.utils.text import listed

__all__ = ["evidence_facts", "summary_quantities", "write_tables"]


def evidence_facts(evidence: Evidence) -> dict[str, float]:
    """Return the finite numbers to track, by ``<target>_<quantity>``."""
    facts: dict[str, float] = {}
    for name, target in evidence.targets.items():
        facts[f"{name}_tables"] = float(len(target.studies))
        if target.fit is not None:
            s = target.fit.summary()
            facts |= {
                **_with_bounds(f"{name}_sensitivity", s.sensitivity),
                **_with_bounds(f"{name}_specificity", s.specificity),
                **_with_bounds(f"{name}_auc", target.auc),
                f"{name}_studies": float(target.fit.n_studies),
                f"{name}_tau2_sensitivity": float(target.fit.tau2[0]),
                f"{name}_tau2_specificity": float(target.fit.tau2[1]),
                f"{name}_log_likelihood": target.fit.log_likelihood,
                f"{name}_converged": float(target.fit.converged),
            }
    for name, own in evidence.own.items():
        facts |= {f"own_{name}_sensitivity": own.sensitivity.value, f"own_{name}_specificity": own.specificity.value}
    return {key: value for key, value in facts.items() if math.isfinite(value)}


def _with_bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def write_tables(evidence: Evidence, folder: Path) -> list[Path]:
    """Write studies, summaries and own results as CSV, Markdown and LaTeX, and all results as ``evidence.json``."""
    written: list[Path] = []
    remarks = list(dict.fromkeys(remark for own in evidence.own.values() for remark in own.remarks))
    for name, header, rows, caption, notes in (
        ("studies", _STUDY_HEADER, list(_study_rows(evidence)), "Studies with Wilson's 95 % intervals.", []),
        ("summary", _SUMMARY_HEADER, list(_summary_rows(evidence)), "Summary of the studies.", []),
        (
            "own_model",
            _OWN_HEADER,
            list(_own_rows(evidence)),
            _own_caption(evidence),
            remarks,
        ),
    ):
        if rows:
            written += write_table(pd.DataFrame(rows, columns=list(header)), folder / name, caption, notes)
    path = folder / "evidence.json"
    write_json(path, _as_json(evidence))
    return [*written, path]


def _own_caption(evidence: Evidence) -> str:
    name = next((own.name for own in evidence.own.values()), "")
    return (
        f"{name} and the pooled values of Wang et al. 2025." if evidence.options.reference else f"Test set of {name}."
    )


_STUDY_HEADER = (
    "target",
    "study",
    "model",
    "TP",
    "FP",
    "FN",
    "TN",
    "sensitivity",
    "se_low",
    "se_high",
    "specificity",
    "sp_low",
    "sp_high",
    "rebuilt",
)

_SUMMARY_HEADER = ("target", "quantity", "estimate", "low", "high", "interval")

_OWN_HEADER = (
    "target",
    "quantity",
    "own",
    "own_low",
    "own_high",
    "review",
    "review_low",
    "review_high",
    "difference",
    "difference_low",
    "difference_high",
)

_Cell = str | float


def _study_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for target in evidence.targets.values():
        s = target.studies
        rebuilt = s.rebuilt or (False,) * len(s)
        for study, model, (tp, fp, fn, tn), derived in zip(s.studies, s.models, s.tables, rebuilt, strict=True):
            se, sp = wilson(tp, tp + fn), wilson(tn, fp + tn)
            counts = (int(tp), int(fp), int(fn), int(tn))
            yield (
                target.target,
                study,
                model,
                *counts,
                se.value,
                se.low,
                se.high,
                sp.value,
                sp.low,
                sp.high,
                int(derived),
            )


def _summary_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for target in evidence.targets.values():
        if target.fit is None:
            continue
        for quantity, i, kind in summary_quantities(target, target.fit, evidence.options.prevalence):
            yield (target.target, quantity, i.value, i.low, i.high, kind)


def summary_quantities(target: TargetEvidence, fit: BivariateFit, prevalence: float) -> list[tuple[str, Interval, str]]:
    """Return the rows of the summary table: quantity, estimate with interval, kind of interval."""
    s, nan = fit.summary(), math.nan
    positive, negative = s.post_test(prevalence)
    predicted = fit.prediction_intervals
    kind = _kind(fit)
    area = "bootstrap of whole studies" if fit.clusters is not None else "parametric bootstrap"
    rows = [
        ("sensitivity", s.sensitivity, f"logit scale, {kind}"),
        ("specificity", s.specificity, f"logit scale, {kind}"),
        ("sensitivity of a new study", predicted[0], f"prediction, t with {fit.n_studies - 2} df"),
        ("specificity of a new study", predicted[1], f"prediction, t with {fit.n_studies - 2} df"),
        ("area under the SROC curve", target.auc, f"{area}, percentiles"),
        ("LR+", s.positive_lr, f"delta method on the log scale, {kind}"),
        ("LR-", s.negative_lr, f"delta method on the log scale, {kind}"),
        ("diagnostic odds ratio", s.odds_ratio, f"delta method on the log scale, {kind}"),
        (f"probability after a positive test, prevalence {prevalence:g}", positive, "from LR+"),
        (f"probability after a negative test, prevalence {prevalence:g}", negative, "from LR-"),
        ("between-study variance, logit sensitivity", Interval(float(fit.tau2[0]), nan, nan), ""),
        ("between-study variance, logit specificity", Interval(float(fit.tau2[1]), nan, nan), ""),
        ("between-study correlation", Interval(fit.correlation, nan, nan), ""),
    ]
    if target.without_outliers is not None:
        outliers = listed(one.study for one in target.influence if one.outlier)
        rows += [
            (f"sensitivity without {outliers}", target.without_outliers.sensitivity, "without outliers"),
            (f"specificity without {outliers}", target.without_outliers.specificity, "without outliers"),
        ]
    return rows


def _kind(fit: BivariateFit) -> str:
    """Return the name of the covariance and quantile of the intervals."""
    if fit.clusters is not None:
        return f"clustered by study, t with {fit.n_studies - 1} df"
    return "Wald" if fit.df is None else f"t with {fit.df:.0f} df"


def _own_rows(evidence: Evidence) -> Iterable[tuple[_Cell, ...]]:
    for own in evidence.own.values():
        r = own.reference
        pairs = (
            (own.sensitivity, r.sensitivity if r else NO_INTERVAL),
            (own.specificity, r.specificity if r else NO_INTERVAL),
        )
        for i, (quantity, (measured, pooled)) in enumerate(zip(("sensitivity", "specificity"), pairs, strict=True)):
            cells: list[_Cell] = [own.target, quantity]
            for interval in (measured, pooled, own.differences[i] if own.differences else NO_INTERVAL):
                cells += [interval.value, interval.low, interval.high]
            yield tuple(cells)


def _as_json(evidence: Evidence) -> object:
    o = evidence.options
    targets = {}
    for name, target in evidence.targets.items():
        entry: dict[str, Any] = {"tables": len(target.studies), "studies": target.study_count, "notes": target.notes}
        if target.fit is not None:
            fit = target.fit
            rows = summary_quantities(target, fit, o.prevalence)
            entry |= {
                "method": fit.method,
                "converged": fit.converged,
                "intervals": _kind(fit),
                "summary_as_independent": target.independent and _accuracy(target.independent.summary()),
                "three_level": target.three_level and _three_level_json(target.three_level),
                "influence": [
                    vars(one) | {"influential": one.influential, "outlier": one.outlier} for one in target.influence
                ],
                "log_likelihood": fit.log_likelihood,
                "logits": fit.summary().mean,
                "covariance": fit.summary().cov,
                "psi": fit.psi,
                "summary": {quantity: i for quantity, i, _ in rows},
                "hsroc": None if fit.hsroc is None else vars(fit.hsroc),
                "i2_zhou_dendukuri": vars(target.zhou) if target.zhou else None,
                "by_other_methods": {m: {**_accuracy(f.summary()), "auc": f.auc} for m, f in target.others.items()},
            }
        if target.homogeneity is not None:
            entry["i2_higgins_logit"] = [h.i2 for h in target.homogeneity]
            entry["univariate_reml"] = [vars(u) for u in target.univariate or ()]
            entry["q"] = [{"q": h.q, "df": h.df, "p": h.p} for h in target.homogeneity]
        if target.pearson is not None:
            entry["i2_midas_pearson"] = [h.i2 for h in target.pearson]
        if target.deeks is not None:
            entry["deeks"] = {
                "slope": target.deeks.slope,
                "t": target.deeks.t,
                "df": target.deeks.df,
                "p": target.deeks.p,
            }
        entry["subgroups"] = [
            {
                "name": s.name,
                "levels": s.levels,
                "tables": s.counts,
                "test": _test_json(s.test),
                "test_sensitivity": _test_json(s.apart[0]),
                "test_specificity": _test_json(s.apart[1]),
                "sensitivity": [p.sensitivity for p in s.summaries],
                "specificity": [p.specificity for p in s.summaries],
            }
            for s in target.subgroups
        ]
        entry["regressions"] = [_model_json(*model) for model in target.regressions]
        entry["all_covariates"] = target.joint and _model_json(*target.joint)
        targets[name] = entry
    own = {
        name: {
            "name": comparison.name,
            "remarks": comparison.remarks,
            "counts": comparison.counts,
            "sensitivity": comparison.sensitivity,
            "specificity": comparison.specificity,
            "differences_to_review": comparison.differences,
            "post_test": comparison.accuracy_ratios.post_test(o.prevalence),
            "probability_farther_out": comparison.farther_out,
        }
        for name, comparison in evidence.own.items()
    }
    options = {"method": o.method, "prevalence": o.prevalence, "replicates": o.replicates, "seed": o.seed}
    return json_ready({"schema": "osteo_monai evidence 2", "options": options, "targets": targets, "own": own})


def _accuracy(point: SummaryPoint) -> dict[str, Interval]:
    return {"sensitivity": point.sensitivity, "specificity": point.specificity}


def _three_level_json(fit: ThreeLevelFit) -> dict[str, object]:
    return {
        **_accuracy(fit.summary()),
        "between_studies": fit.between,
        "within_studies": fit.within,
        "log_likelihood": fit.log_likelihood,
        "converged": fit.converged,
        "messages": fit.messages,
    }


def _test_json(test: LikelihoodRatioTest | WaldTest) -> dict[str, float | str]:
    if isinstance(test, LikelihoodRatioTest):
        return {"kind": "likelihood ratio", "chi2": test.chi2, "df": test.df, "p": test.p}
    return {"kind": "Wald", "f": test.f, "df": test.df, "df_within": test.df_within, "p": test.p}


def _model_json(tables: int, model: CovariateModel) -> dict[str, object]:
    terms = [
        {
            "name": term.name,
            "reference": term.reference,
            "odds_ratios": [vars(effect) for effect in term.effects],
            "test": _test_json(term.both),
            "test_sensitivity": _test_json(term.sensitivity),
            "test_specificity": _test_json(term.specificity),
        }
        for term in model.terms
    ]
    return {"tables": tables, "converged": model.fit.converged, "terms": terms}
