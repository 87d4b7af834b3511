"""Evaluation of models against a reference standard: tables, figures and a report from files of predictions."""

from osteo_monai.reporting.evaluation.comparison import Comparison
from osteo_monai.reporting.evaluation.options import EvaluationOptions
from osteo_monai.reporting.evaluation.report import Evaluation, evaluate, evaluation_facts, write_evaluation
from osteo_monai.reporting.evaluation.results import Missing, ResultTable

__all__ = [
    "Comparison",
    "Evaluation",
    "EvaluationOptions",
    "Missing",
    "ResultTable",
    "evaluate",
    "evaluation_facts",
    "write_evaluation",
]
