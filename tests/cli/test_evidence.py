"""The verb ``evidence``: exit codes, messages, what it writes and tracks."""

from pathlib import Path

import pytest

from osteo_monai.cli import run

Capture = pytest.CaptureFixture[str]

PAN = Path(__file__).parents[2] / "data_manifests" / "evidence" / "pan2024.csv"


def test_shipped_table_with_your_model(tmp_path: Path, capsys: Capture) -> None:
    words = [
        "evidence",
        str(PAN),
        "-o",
        str(tmp_path / "out"),
        "--own-counts",
        "48,19,3,348",
        "--no-track",
        "--target",
        "osteoporosis",
    ]
    assert run(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "osteoporosis: Nothing is pooled: " in out
    assert "own model, osteoporosis: sensitivity 0.941 (0.841 to 0.980), specificity 0.948 (0.921 to 0.967)" in out
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "mlflow.db").exists()
    assert run(words) == 2
    assert "--overwrite must be given to replace" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--target", "normal"]) == 0


def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("study,TP,FP,FN,TN\nA,-1,2,3,4\nA,1,x,3,4\nB,0,2,0,5\n")
    assert run(["evidence", str(table), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    for part in ("TP is negative: -1", "FP is not a whole number: 'x'", "the same study", "no diseased subject"):
        assert part in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "own predictions must be given"),
        (["--own-counts", "1,2,3"], "counts must be four whole numbers"),
        (["--own-counts", "1,2,3,4", "--prevalence", "20"], "--prevalence must "),
        ([str(PAN), "--method", "bayes"], "--method must be binomial, reml or ml, got 'bayes'"),
        (["--own-counts", "1,2,3,4", "--own-threshold", "1"], "own threshold"),
        ([str(PAN), "--target", "fracture"], "'fracture'"),
        ([str(PAN), "--covariate", "vendor"], "'vendor'"),
        ([str(PAN), "--reference", "smith"], "--reference must be wang2025, got 'smith'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, capsys: Capture, words: list[str], sentence: str) -> None:
    assert run(["evidence", *words, "-o", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err


def test_run_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    assert run(["evidence", "--own-counts", "48,19,3,348", "-o", str(out)]) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("evidence")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["own_counts"] == "48,19,3,348"
    assert logged.data.metrics["own_osteoporosis_sensitivity"] == pytest.approx(48 / 51)
    assert {item.path for item in client.list_artifacts(logged.info.run_id)} == {
        "report.html",
        "evidence.json",
        "figures",
    }


def test_summary_line_is_clustered(tmp_path: Path, capsys: Capture) -> None:
    from osteo_monai.statistics.meta_analysis import pool_studies

    rows = [("A", 47, 10, 9, 138), ("A", 44, 8, 12, 140), ("B", 126, 27, 51, 154), ("C", 19, 2, 10, 92)]
    rows += [("D", 36, 8, 3, 76), ("E", 130, 21, 19, 159)]
    table = tmp_path / "studies.csv"
    lines = [f"{study},{i},{','.join(map(str, counts))}" for i, (study, *counts) in enumerate(rows)]
    table.write_text("study,model,TP,FP,FN,TN\n" + "\n".join(lines) + "\n")
    assert run(["evidence", str(table), "-o", str(tmp_path / "out"), "--replicates", "0", "--no-track"]) == 0
    pooled = pool_studies([counts for _, *counts in rows], studies=[study for study, *_ in rows]).sensitivity
    out = " ".join(capsys.readouterr().out.split())
    assert "osteoporosis: 6 tables clustered in 5 studies, sensitivity " in out
    assert f"{pooled.value:.3f} ({pooled.low:.3f} to {pooled.high:.3f})" in out
