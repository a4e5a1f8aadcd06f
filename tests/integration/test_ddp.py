"""Two gloo processes hold the same codebooks and the same living units."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from helpers.compression_cases import CASES
from torch.utils.data import DistributedSampler

from spikefit.data import SpikeDataModule
from spikefit.data.images import Digits
from spikefit.seeding import derived_seed

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_hold_identical_tensors(tmp_path):
    """Reclustering at epoch 1, 2 and 3, pruning at 2 and 3; what each process holds is compared to the last bit."""
    (tmp_path / "dump").mkdir()
    command = [
        sys.executable,
        "-m",
        "spikefit.cli",
        "fit",
        "--config",
        str(ROOT / "configs" / "quickstart.yaml"),
        "--config",
        str(ROOT / "tests" / "helpers" / "two_processes.yaml"),
        "--trainer.logger.init_args.save_dir",
        str(tmp_path / "runs"),
    ]
    environment = {
        **os.environ,
        "DUMP_STATE_DIR": str(tmp_path / "dump"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alive, codebooks = [], []
    for epoch in range(4):
        first, second = (
            torch.load(tmp_path / "dump" / f"epoch{epoch}-rank{rank}.pt", weights_only=True) for rank in range(2)
        )
        # Running statistics of a batch norm differ until the next forward copies them from process 0.
        same = [name for name in first if "running_" not in name]
        for name in same:
            assert torch.equal(first[name], second[name]), f"epoch {epoch}: {name}"
        alive.append(sum(int(first[name].sum()) for name in same if name.endswith("alive")))
        codebooks.append(torch.cat([first[name].flatten() for name in same if name.endswith("codebook")]))
    assert alive[0] == alive[1] == 136
    assert alive[3] < alive[2] < 136
    assert not torch.equal(codebooks[0], codebooks[1])
    assert len(list((tmp_path / "runs" / "ddp").iterdir())) == 1, "the processes share one run directory"


def test_two_processes_agree_on_every_quantizer_score_and_schedule(tmp_path):
    """One pair of processes trains all cases, one after the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(ROOT / "tests" / "helpers" / "ddp_cases.py"), str(tmp_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys() == CASES.keys()
    for name, state in first.items():
        for key, value in state.items():
            if "running_" not in key:  # of a batch norm: its own batches, until the next forward copies process 0's
                assert torch.equal(value, second[name][key]), f"{name}: {key}"
    floats = [torch.load(tmp_path / f"float{rank}.pt", weights_only=True) for rank in range(2)]
    assert floats[0]["figure"] == floats[1]["figure"]
    assert floats[0]["figure"][1] == 30
    for state in floats:
        for key, value in state["without"].items():
            assert torch.equal(value, state["measured"][key]), f"measuring changed {key}"
    require_shards([torch.load(tmp_path / f"batches{rank}.pt", weights_only=True) for rank in range(2)])


def require_shards(found):
    """Each process was trained with its own share of each epoch's order, and validated with its own half."""
    data = SpikeDataModule(Digits())
    data.setup("fit")
    for part, epochs in (("train", 2), ("val", 1)):
        labels = torch.tensor([label for _, label in data._parts[part]])
        for rank, own in enumerate(found):
            expected = []
            for epoch in range(epochs):
                seed = derived_seed(0, "order") % 2**31
                sampler = DistributedSampler(labels, 2, rank, shuffle=part == "train", seed=seed)
                sampler.set_epoch(epoch)
                expected += [chosen.tolist() for chosen in labels[list(sampler)].split(100)]
            assert own[part] == expected
    assert not torch.equal(found[0]["images"], found[1]["images"])
