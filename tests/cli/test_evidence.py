"""The verb ``evidence``: exit codes, messages, what it writes and tracks."""

from pathlib import Path

import pytest

from osteo_monai import cli

PAN = Path(__file__).parents[2] / "data_manifests" / "evidence" / "pan2024.csv"


def test_shipped_table_with_an_own_model(tmp_path, capsys):
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
    assert cli.run(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "osteoporosis: Nothing is pooled: 2 tables" in out
    assert "own model, osteoporosis: sensitivity 0.941 (0.841 to 0.980), specificity 0.948 (0.921 to 0.967)" in out
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "mlflow.db").exists()
    assert cli.run(words) == 2
    assert "holds a report.html already; --overwrite replaces it" in capsys.readouterr().err
    assert cli.run([*words, "--overwrite", "--target", "normal"]) == 0


def test_bad_input_is_one_message_and_exit_code_2(tmp_path, capsys):
    table = tmp_path / "bad.csv"
    table.write_text("study,TP,FP,FN,TN\nA,-1,2,3,4\nA,1,x,3,4\nB,0,2,0,5\n")
    assert cli.run(["evidence", str(table), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    for part in ("TP is negative: -1", "FP is not a whole number: 'x'", "the same study", "no diseased subject"):
        assert part in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "a table of studies, own counts or own predictions must be given"),
        (["--own-counts", "1,2,3"], "counts must be four whole numbers"),
        (["--own-counts", "1,2,3,4", "--prevalence", "20"], "prevalence must lie between 0 and 1, got 20"),
        ([str(PAN), "--method", "bayes"], "method must be one of binomial, reml, ml, got 'bayes'"),
        (["--own-counts", "1,2,3,4", "--own-threshold", "1"], "own threshold needs own predictions"),
        ([str(PAN), "--target", "fracture"], "no study has the target 'fracture'"),
        ([str(PAN), "--covariate", "vendor"], "there is no covariate 'vendor'"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, words, sentence):
    assert cli.run(["evidence", *words, "-o", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err


def test_run_is_logged(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    assert cli.run(["evidence", "--own-counts", "48,19,3,348", "-o", str(out)]) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("evidence").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["own_counts"] == "48,19,3,348"
    assert run.data.metrics["own_osteoporosis_sensitivity"] == pytest.approx(48 / 51)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"report.html", "evidence.json", "figures"}
