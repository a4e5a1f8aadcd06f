"""SIGINT and SIGTERM save a checkpoint from which the run continues exactly, and say how."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from spikefit.cli.signals import Signals, Stopped

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "--config",
    "configs/quickstart.yaml",
    "--trainer.limit_train_batches=6",
    "--trainer.max_epochs=3",
    "--trainer.enable_progress_bar=false",
    '--trainer.callbacks=[{"class_path": "callbacks.CompressedCheckpoint", '
    '"init_args": {"filename": "best", "monitor": "val/accuracy", "mode": "max"}}, '
    '{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", '
    '"init_args": {"filename": "last", "enable_version_counter": false}}]',
)


def resume_command(printed):
    """The arguments of the command in the last line that was printed."""
    line = printed.strip().splitlines()[-1]
    assert line.startswith("spikefit: stopped by SIG"), printed
    program, *arguments = shlex.split(line.partition("resume with: ")[2])
    assert program == "lightning"
    return arguments


def same_end(first, second):
    """Weights, moments and progress at the end of two runs."""
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second))
    assert (one["epoch"], one["global_step"]) == (two["epoch"], two["global_step"]) == (2, 18)
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    moments = [content["optimizer_states"][0]["state"] for content in (one, two)]
    for key, state in moments[0].items():
        assert all(torch.equal(value, moments[1][key][name]) for name, value in state.items())


def test_a_signal_in_the_middle_of_an_epoch(run, csv_only):
    stop = {"class_path": "helpers.dump_state.Signal", "init_args": {"epoch": 1, "number": int(signal.SIGINT)}}
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    ended, printed = run("fit", *QUICK, csv_only, f"--trainer.callbacks+={stop}")
    assert ended == 130, printed
    assert "Traceback" not in printed
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    runs = Path("runs/quickstart")
    assert torch.load(runs / "version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 10
    arguments = resume_command(printed)
    assert arguments[-1] == str(runs / "version_0/checkpoints/last.ckpt")
    ended, printed = run("fit", *QUICK, csv_only, *arguments[-2:])
    assert ended == 0, printed
    assert run("fit", *QUICK, csv_only)[0] == 0
    same_end(runs / "version_2", runs / "version_1")


def test_a_process_with_wandb_is_told_to_end(tmp_path):
    """As a user's shell or a scheduler does it, with the quickstart's loggers; the printed command resumes the run."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "spikefit.cli", "fit", *QUICK, "--trainer.max_epochs=500"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    metrics, begin = tmp_path / "runs/quickstart/version_0/metrics.csv", time.time()
    while not metrics.is_file() and process.poll() is None and time.time() < begin + 120:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 143, printed
    assert "Traceback" not in printed
    arguments = resume_command(printed)
    assert all((tmp_path / arguments[place]).is_file() for place in (2, 4))


def test_the_second_signal_ends_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    signals = Signals()
    signals.training = True
    signals(signal.SIGINT, None)
    assert ended == []
    signals(signal.SIGINT, None)
    assert ended == [130]


def test_a_signal_outside_of_training_ends_the_program():
    with pytest.raises(Stopped) as caught:
        Signals()(signal.SIGTERM, None)
    assert caught.value.code == 143


def test_a_signal_after_training_says_how_to_deploy():
    signals = Signals()
    signals.trained = Path("runs/a b/version_0")
    with pytest.raises(Stopped) as caught:
        signals(signal.SIGINT, None)
    assert caught.value.message == "stopped by SIGINT after training; deploy with: spikefit deploy 'runs/a b/version_0'"
