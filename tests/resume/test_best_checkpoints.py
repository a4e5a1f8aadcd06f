"""A resumed run finds the best checkpoint of a run that was moved, from any working directory, or refuses."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import TinyData, module
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks import CompressedCheckpoint
from spikefit.errors import CheckpointError


def fit(folder, kind=CompressedCheckpoint, epochs=2, checkpoint=None, **options):
    """The best score is that of the first epoch: the learning rate is absurd, and the metric is to be lowest."""
    best = kind(folder / "new" if checkpoint else folder, "best", "train/accuracy", mode="min", **options)
    last = ModelCheckpoint(best.dirpath, "last", enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[last, best],  # the state of `best` must be in `last.ckpt` nevertheless
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module(None, hardware=None), TinyData(), ckpt_path=checkpoint, weights_only=True)
    return best


@pytest.fixture
def run(request, tmp_path, monkeypatch):
    """The folder of a run of two epochs that was started with relative paths."""
    monkeypatch.chdir(tmp_path)
    best = fit(Path("run"), getattr(request, "param", CompressedCheckpoint))
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 0
    return tmp_path / "run", best.best_model_score


@pytest.mark.parametrize(
    ("run", "kind"), [(kind, kind) for kind in (CompressedCheckpoint, ModelCheckpoint)], indirect=["run"]
)
@pytest.mark.filterwarnings("ignore")
def test_from_another_directory_and_after_a_move(run, tmp_path, monkeypatch, kind):
    folder, score = run
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    for place in (folder, tmp_path / "renamed"):
        if place != folder:
            folder.rename(place)
        best = fit(tmp_path / f"again {place.name}", kind, 3, place / "last.ckpt")
        assert best.best_model_path == str(place / "best.ckpt")
        assert best.best_model_score == score


@pytest.mark.filterwarnings("ignore")
def test_a_missing_best_checkpoint_is_refused(run, tmp_path):
    folder, _ = run
    (folder / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"best\.ckpt.*train/accuracy|train/accuracy.*best\.ckpt"):
        fit(tmp_path / "again", epochs=3, checkpoint=folder / "last.ckpt")


@pytest.mark.filterwarnings("ignore")
def test_resuming_in_the_same_folder_keeps_the_new_best(run, monkeypatch):
    """The best of the resumed run has the name of the one before, which is not deleted as an outdated one."""
    folder, _ = run
    monkeypatch.setattr(ModelCheckpoint, "check_monitor_top_k", lambda self, trainer, current=None: True)
    relative = Path("run")
    best = CompressedCheckpoint(None, "best", "train/accuracy", mode="min", enable_version_counter=False)
    best.dirpath = str(relative)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module(None, hardware=None), TinyData(), ckpt_path=relative / "last.ckpt", weights_only=True)
    assert torch.load(folder / "best.ckpt", weights_only=True)["epoch"] == 2
