"""Two gloo processes hold the same codebooks and the same living units, and write one report of all samples."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.compression_cases import CASES
from torch.utils.data import DistributedSampler

import callbacks
from spikefit.cli import lightning_cli
from spikefit.data import SpikeDataModule
from spikefit.data.images import Digits
from spikefit.seeding import derived_seed

ROOT = Path(__file__).resolve().parents[2]


def environment(**variables):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **variables}


def quickstart(folder, *options):
    """The command that trains the quickstart on two processes with every callback, in ``folder``."""
    (folder / "dump").mkdir()
    configs = (ROOT / "configs" / "quickstart.yaml", ROOT / "tests" / "helpers" / "every_callback.yaml")
    words = [sys.executable, "-m", "spikefit.cli", "fit", *(f"--config={path}" for path in configs), *options]
    return {"args": words, "cwd": folder, "env": environment(DUMP_STATE_DIR=str(folder / "dump"))}


def completed(args, **options):
    done = subprocess.run(args, capture_output=True, text=True, timeout=400, check=False, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which the quickstart was trained, by processes that Lightning started."""
    folder = tmp_path_factory.mktemp("quickstart")
    completed(**quickstart(folder))
    return folder


def test_two_processes_hold_identical_tensors(trained):
    """At the start of each epoch, after reclustering and pruning, to the last bit."""
    alive, codebooks = [], []
    for epoch in range(6):
        first, second = (
            torch.load(trained / "dump" / f"epoch{epoch}-rank{rank}.pt", weights_only=True) for rank in range(2)
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


def test_every_callback_that_ships_is_in_the_quickstart_of_two_processes():
    content = yaml.safe_load((ROOT / "tests" / "helpers" / "every_callback.yaml").read_text())
    named = {entry["class_path"] for entry in content["trainer"]["callbacks"]}
    missing = {name for name in callbacks.__all__ if f"callbacks.{name}" not in named}
    # The last two read the checkpoint of another run, in the cases below.
    assert missing == {"Place", "Schedule", "ScheduledCallback", "InitialWeights", "PostTrainingQuantization"}


def test_two_processes_agree_on_every_quantizer_score_and_schedule(tmp_path, trained):
    """One pair of processes, started by torchrun, trains all cases, then tests and predicts from a checkpoint."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(ROOT / "tests" / "helpers" / "ddp_cases.py"), str(tmp_path), str(trained)]
    completed(command, env=environment(DUMP_STATE_DIR=str(tmp_path)), cwd=tmp_path)
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
    require_one_report(trained / "runs" / "quickstart" / "version_0", tmp_path / "runs" / "quickstart")


def require_one_report(alone, together):
    """One process deployed 101 samples after training; two processes counted each of them once, and wrote once."""
    (folder,) = together.glob("*/deployment")
    expected, found = (json.loads((path / "report.json").read_text()) for path in (alone / "deployment", folder))
    assert expected["samples"] == 101
    assert expected["parity"]["mismatches"] == expected["target_agreement"]["mismatches"] == 0
    for report in (expected, found):
        for key in ("run", "configuration", "checkpoint"):
            del report["provenance"][key]
    whole, part = (
        expected.pop("training"),
        found.pop("training"),
    )  # that of the checkpoint, saved before its epoch ended
    last = len(part["epochs"]) - 1
    assert part.pop("epochs")[:last] == whole.pop("epochs")[:last]
    assert part == whole
    assert found == expected
    rows = [row for rank in range(2) for (path,) in [list(together.glob(f"*/predictions-{rank}.csv"))]
            for row in csv.DictReader(path.open())]  # fmt: skip
    assert sorted(int(row["sample"]) for row in rows) == list(range(360))


def test_a_process_that_lost_another_says_so(tmp_path, monkeypatch, capsys):
    """What gloo raises in the others when a process is killed is one message, not a traceback."""

    def lost(*args, **options):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:4: Connection reset by peer.")

    monkeypatch.setattr(lightning_cli, "SpikeFitCLI", lost)
    with pytest.raises(RuntimeError):  # not in a run of several processes
        lightning_cli.main(["fit"])
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(SystemExit) as ended:
            lightning_cli.main(["fit"])
    finally:
        torch.distributed.destroy_process_group()
    assert ended.value.code == 1
    assert "process 0: another process of this run has ended" in capsys.readouterr().err


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
