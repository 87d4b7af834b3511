"""One table in three formats."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from osteo_monai.reporting.tables import write_table

DASH = "\N{EN DASH}"


def test_one_table_in_three_forms(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model_1": ["a|b", "5 % & <"], "n": [3, 4], "AUC": [0.123456789012, np.nan]})
    paths = write_table(frame, tmp_path / "new" / "t.v1", "A caption_1.", ["Below ± 5."])
    assert [p.name for p in paths] == ["t.v1.csv", "t.v1.md", "t.v1.tex"]
    with paths[0].open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["model_1", "n", "AUC"], ["a|b", "3", "0.12345679"], ["5 % & <", "4", ""]]
    lines = paths[1].read_text().splitlines()
    assert lines[2:4] == ["| model_1 | n | AUC |", "|---|---:|---:|"]
    assert lines[4:6] == ["| a\\|b | 3 | 0.123 |", f"| 5 % & < | 4 | {DASH} |"]
    latex = paths[2].read_text()
    assert r"5 \% \& $<$ & 4 & -- \\" in latex
    assert r"\caption{A caption\_1.}" in latex
    assert r"\begin{tabular}{lrr}" in latex
    assert latex.index("toprule") < latex.index("midrule") < latex.index("bottomrule") < latex.index(r"Below $\pm$ 5.")
