"""Facts about code and machine that a run records."""

import getpass
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["environment_facts", "git_commit", "source_tags"]

_LIBRARIES = ("osteo_monai", "monai", "torch", "numpy", "pytorch-ignite", "mlflow", "nibabel")


def git_commit() -> str:
    """Return the commit of this package's checkout, with ``+changes`` if it is modified, or ``"none"``."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed package may be inside another repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "none"


def environment_facts() -> dict[str, str]:
    """Return versions of the libraries, Python and CUDA, name of the device, and git commit."""
    import torch

    facts = {"git_commit": git_commit(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            facts[f"version_{name.replace('-', '_')}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[f"version_{name.replace('-', '_')}"] = "not installed"
    facts["cuda"] = str(torch.version.cuda)
    facts["device_name"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    return facts


def source_tags(source: str) -> dict[str, str]:
    """Return the tags of a run that the MLflow UI shows as its user, source and version.

    Args:
        source: command, or bundle and config.
    """
    tags = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container without an account of this number
        tags["mlflow.user"] = "unknown"
    commit = git_commit()
    if commit != "none":
        tags["mlflow.source.git.commit"] = commit.removesuffix("+changes")
    return tags
