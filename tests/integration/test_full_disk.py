"""A disk that becomes full: one message that names the file, and what was written before stays."""

import csv

import pytest
import torch

QUICK = (
    "--config",
    "configs/quickstart.yaml",
    "--trainer.limit_train_batches=2",
    "--trainer.enable_progress_bar=false",
)
CALLBACKS = (
    '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": '
    '{"filename": "last", "enable_version_counter": false}}]'
)
BYTES = 2**20


def logger(folder):
    return (
        '--trainer.logger={"class_path": "lightning.pytorch.loggers.CSVLogger", '
        f'"init_args": {{"save_dir": "{folder}", "name": "run", "flush_logs_every_n_steps": 1}}}}'
    )


def fill(folder, left):
    """Leave ``left`` bytes on the disk."""
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())
    (folder / "filler").write_bytes(bytes(BYTES - used - left))


def refused(run, *arguments):
    status, printed = run(*arguments, CALLBACKS)
    assert status == 2, printed
    assert "Traceback" not in printed
    (message,) = (line for line in printed.splitlines() if "error:" in line)
    return message


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_and_the_metrics(run, small_disk):
    """The first epoch's checkpoint fits; for the second there is no room next to the first."""
    fit = ("fit", *QUICK, "--trainer.max_epochs=2", logger(small_disk))
    fill(small_disk, left=2**19)
    message = refused(run, *fit)
    assert "last.ckpt: no space left on device" in message
    assert "bytes are missing" in message
    folder = small_disk / "run" / "version_0"
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    with (folder / "metrics.csv").open() as file:
        assert {row["epoch"] for row in csv.DictReader(file) if row["train/loss"]} >= {"0"}
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("left", "file"), [(0, "config.yaml"), (4096 * 2, "metrics.csv")])
def test_the_other_files_of_a_run(run, small_disk, left, file):
    fill(small_disk, left)
    message = refused(run, "fit", *QUICK, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", logger(small_disk))
    assert f"{file}: no space left on device" in message


def test_the_folder_of_runs(run, tmp_path):
    (tmp_path / "taken").write_text("a file")
    message = refused(run, "fit", *QUICK, "--trainer.max_epochs=1", logger(tmp_path / "taken"))
    assert "taken" in message
