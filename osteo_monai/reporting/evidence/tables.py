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
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.proportions import Interval, wilson
from osteo_monai.utils.files import write_json

__all__ = ["evidence_facts", "summary_quantities", "write_tables"]


def evidence_facts(evidence: Evidence) -> dict[str, float]:
    """Return the finite numbers to track, by ``<target>_<quantity>``."""
    facts: dict[str, float] = {}
    for name, target in evidence.targets.items():
        facts[f"{name}_tables"] = float(len(target.studies))
        if target.fit is not None:
            s = target.fit.summary()
            facts |= {
                f"{name}_sensitivity": s.sensitivity.value,
                f"{name}_specificity": s.specificity.value,
                f"{name}_auc": target.auc.value,
                f"{name}_tau2_sensitivity": float(target.fit.tau2[0]),
                f"{name}_tau2_specificity": float(target.fit.tau2[1]),
                f"{name}_log_likelihood": target.fit.log_likelihood,
                f"{name}_converged": float(target.fit.converged),
            }
    for name, own in evidence.own.items():
        facts |= {f"own_{name}_sensitivity": own.sensitivity.value, f"own_{name}_specificity": own.specificity.value}
    return {key: value for key, value in facts.items() if math.isfinite(value)}


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
            f"{next((own.name for own in evidence.own.values()), '')} and the pooled values of Wang et al. 2025.",
            remarks,
        ),
    ):
        if rows:
            written += write_table(pd.DataFrame(rows, columns=list(header)), folder / name, caption, notes)
    path = folder / "evidence.json"
    write_json(path, _as_json(evidence))
    return [*written, path]


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
        for study, model, (tp, fp, fn, tn) in zip(s.studies, s.models, s.tables, strict=True):
            se, sp = wilson(tp, tp + fn), wilson(tn, fp + tn)
            counts = (int(tp), int(fp), int(fn), int(tn))
            yield (target.target, study, model, *counts, se.value, se.low, se.high, sp.value, sp.low, sp.high)


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
    rows = [
        ("sensitivity", s.sensitivity, "Wald, logit scale"),
        ("specificity", s.specificity, "Wald, logit scale"),
        ("sensitivity of a new study", predicted[0], "prediction, t with k - 2 df"),
        ("specificity of a new study", predicted[1], "prediction, t with k - 2 df"),
        ("area under the SROC curve", target.auc, "parametric bootstrap, percentiles"),
        ("LR+", s.positive_lr, "delta method, log scale"),
        ("LR-", s.negative_lr, "delta method, log scale"),
        ("diagnostic odds ratio", s.odds_ratio, "delta method, log scale"),
        (f"probability after a positive test, prevalence {prevalence:g}", positive, "from LR+"),
        (f"probability after a negative test, prevalence {prevalence:g}", negative, "from LR-"),
        ("between-study variance, logit sensitivity", Interval(float(fit.tau2[0]), nan, nan), ""),
        ("between-study variance, logit specificity", Interval(float(fit.tau2[1]), nan, nan), ""),
        ("between-study correlation", Interval(fit.correlation, nan, nan), ""),
    ]
    if target.clustered is not None:
        rows[2:2] = [
            ("sensitivity, clustered by study", target.clustered.sensitivity, "cluster-robust, t with G - 1 df"),
            ("specificity, clustered by study", target.clustered.specificity, "cluster-robust, t with G - 1 df"),
        ]
    return rows


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
                "log_likelihood": fit.log_likelihood,
                "logits": fit.summary().mean,
                "covariance": fit.summary().cov,
                "psi": fit.psi,
                "summary": {quantity: i for quantity, i, _ in rows},
                "hsroc": None if fit.hsroc is None else vars(fit.hsroc),
                "i2_zhou_dendukuri": vars(target.zhou) if target.zhou else None,
                "by_other_methods": {
                    m: {"sensitivity": f.summary().sensitivity, "specificity": f.summary().specificity, "auc": f.auc}
                    for m, f in target.others.items()
                },
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
                "chi2": s.test.chi2,
                "df": s.test.df,
                "p": s.test.p,
                "sensitivity": [p.sensitivity for p in s.summaries],
                "specificity": [p.specificity for p in s.summaries],
            }
            for s in target.subgroups
        ]
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
    return json_ready({"schema": "osteo_monai evidence 1", "options": options, "targets": targets, "own": own})
