"""Evaluation of models against a reference standard: tables, figures and report of a paper from files of predictions.

>>> from pathlib import Path
>>> from osteo_monai.reporting.evaluation import EvaluationOptions, evaluate
>>> evaluate(EvaluationOptions((Path("predictions.csv"),))).tables["performance"].rows  # doctest: +SKIP
"""

from osteo_monai.reporting.evaluation.comparison import Comparison
from osteo_monai.reporting.evaluation.report import Evaluation, evaluate, evaluation_facts, write_evaluation
from osteo_monai.reporting.evaluation.results import Missing, ResultTable
from osteo_monai.reporting.evaluation.tables import EvaluationOptions

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
