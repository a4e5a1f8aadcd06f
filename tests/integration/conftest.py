"""Fixtures that run the command line inside the test process, so that imports are only paid once."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import wandb

from spikefit.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys) -> Iterator[Callable[..., tuple[int, str]]]:
    """``run("fit", "--config", ...)`` gives the exit status and everything printed. Works in ``tmp_path``."""
    monkeypatch.setattr(sys, "argv", ["lightning"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")

    threads = torch.get_num_threads()

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    yield call
    torch.set_num_threads(threads)
    if wandb.run is not None:  # or the next test's logger would go on with it
        wandb.finish()


@pytest.fixture
def csv_only() -> str:
    """An option that replaces the quickstart's loggers with CSV alone."""
    return (
        '--trainer.logger={"class_path": "lightning.pytorch.loggers.CSVLogger", '
        '"init_args": {"save_dir": "runs", "name": "quickstart"}}'
    )
