"""A disk that becomes full: one message that names the file, and what was written before stays."""

import csv

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from spikefit.cli.metrics_file import open_metrics_file
from spikefit.errors import StorageError

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


def test_the_configuration(run, small_disk):
    fill(small_disk, 0)
    message = refused(run, "fit", *QUICK, "--trainer.max_epochs=1", logger(small_disk))
    assert "config.yaml: no space left on device" in message


def test_a_new_metric_does_not_lose_the_rows_before(small_disk):
    """A new column rewrites the file; a full disk, as a kill, leaves the rows that were there."""
    log = CSVLogger(small_disk, "run")
    open_metrics_file(log)
    log.log_metrics({"a": 1.0}, step=0)
    log.save()
    fill(small_disk, 0)
    log.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    with pytest.raises(StorageError, match=r"metrics\.csv: no space left on device"):
        log.save()
    path = small_disk / "run" / "version_0" / "metrics.csv"
    assert list(csv.DictReader(path.open())) == [{"a": "1.0", "step": "0"}]
    (small_disk / "filler").unlink()
    log.finalize("success")
    rows = list(csv.DictReader(path.open()))
    assert rows == [{"a": "1.0", "b": "", "step": "0"}, {"a": "2.0", "b": "3.0", "step": "1"}]


def test_the_folder_of_runs(run, tmp_path):
    (tmp_path / "taken").write_text("a file")
    message = refused(run, "fit", *QUICK, "--trainer.max_epochs=1", logger(tmp_path / "taken"))
    assert "taken" in message
