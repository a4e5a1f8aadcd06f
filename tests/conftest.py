"""Shared fixtures: where the real data is, and networks that really spike."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads this once, when it is first imported: its kernels then run in its interpreter, on the CPU.
    os.environ["TRITON_INTERPRET"] = "1"

from spikefit.networks.blocks import Network
from spikefit.networks.norms import PositiveBatchNorm

# Programs of their own, which other environments run; --doctest-modules would import them.
collect_ignore = ["interop/brian2_loihi_trace.py"]

# An example that compiles a kernel takes seconds, and a busy machine any time.
hypothesis.settings.register_profile("spikefit", deadline=None)
hypothesis.settings.load_profile("spikefit")

# One thread: the networks are small, and threads that wait for each other on a busy machine cost most of the time.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that need it skip without it."""
    value = os.environ.get("SPIKEFIT_DATA_DIR")
    if not value or not Path(value).is_dir():
        pytest.skip("SPIKEFIT_DATA_DIR names no folder with the real data sets")
    return Path(value)


def wake(network: Network, inputs: torch.Tensor, passes: int = 3) -> Network:
    """Set every norm's statistics from ``inputs`` and shift it a little, so that every layer fires."""
    for module in network.modules():
        if isinstance(module, PositiveBatchNorm):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.uniform_(module.bias, 0.2, 0.6)
    network.train()
    with torch.no_grad():
        for _ in range(passes):
            network(inputs)
    return network.eval()


@pytest.fixture(name="wake")
def wake_fixture() -> Callable[..., Network]:
    """:func:`wake`, for tests."""
    return wake


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a filesystem of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this user can't mount a filesystem")
    yield disk
    subprocess.run(["umount", disk], check=True)
