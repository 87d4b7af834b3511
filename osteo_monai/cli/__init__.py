"""The command ``osteo-monai``: one file a command group, each verb calls one function of the package."""

from osteo_monai.cli.app import main, run
from osteo_monai.cli.errors import ExitCode

__all__ = ["ExitCode", "main", "run"]
