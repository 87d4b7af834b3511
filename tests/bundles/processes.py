"""Training of a bundle in several processes, and in one process that computes what several would."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]


def train_in_processes(
    bundle: Path, settings: Mapping[str, Any], overlays: Sequence[Path] = (), processes: int = 2, timeout: int = 900
) -> str:
    """Train ``bundle`` with its ``multi_gpu_train`` on CPUs and return what the processes have printed.

    A failure shows all text of all processes; with ``PYTHONFAULTHANDLER`` also the Python stack of a process that was
    ended by a signal.
    """
    configs = bundle / "configs"
    files = str([str(file) for file in (configs / "train.json", configs / "multi_gpu_train.json", *overlays)])
    given = {"bundle_root": bundle, **settings}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={processes}"]
        # each line with the number of its process
        + ["--tee=3", f"--log-dir={settings['output_dir']}/processes", "-m", "monai.bundle", "run"]
        + [f"--meta_file={configs / 'metadata.json'}", f"--config_file={files}"]
        + [f"--logging_file={configs / 'logging.conf'}", *(f"--{key}={value}" for key, value in given.items())],
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"exit code {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}", pytrace=False)
    return done.stdout


class Halves(nn.Module):
    """A network that computes the items of a batch at even places and those at odd places separately.

    Two processes do the same: ``DistributedSampler`` gives every second item to each. Running statistics are those of
    the even items, as rank 0 keeps its own.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor) -> Tensor:
        """Return the outputs in the order of ``batch``."""
        before = [buffer.clone() for buffer in self.network.buffers()]
        odd = self.network(batch[1::2])
        for buffer, old in zip(self.network.buffers(), before, strict=True):
            buffer.data.copy_(old)
        even = self.network(batch[::2])
        output = torch.empty((len(batch), *even.shape[1:]), dtype=even.dtype)
        output[::2], output[1::2] = even, odd
        return output


class MeanOfHalves(nn.Module):
    """The mean of a loss over the items at even places and over those at odd places, as DDP averages gradients."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of both losses."""
        loss: Tensor = 0.5 * (self.loss(prediction[::2], target[::2]) + self.loss(prediction[1::2], target[1::2]))
        return loss
