"""Facts about code and machine."""

import subprocess
from pathlib import Path

import pytest

from osteo_monai.tracking import environment, git_commit


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment may be inside of another repository, whose commit was recorded."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "own.py").write_text("")
    git("add", "own.py")
    git("commit", "-m", "own")
    installed = tmp_path / "site-packages" / "environment.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert git_commit() == "none"
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "own.py"))
    assert len(git_commit()) == 40


def test_tags_of_the_ui(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "git_commit", lambda: "abc+changes")
    tags = environment.source_tags("some_bundle train")
    assert tags["mlflow.source.name"] == "some_bundle train"
    assert tags["mlflow.source.git.commit"] == "abc"
    monkeypatch.setattr(environment, "git_commit", lambda: "none")
    assert "mlflow.source.git.commit" not in environment.source_tags("some_bundle train")
