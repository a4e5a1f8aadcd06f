"""A run resumed from a checkpoint at any place of an epoch equals the uninterrupted run bit for bit."""

import copy
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torchvision.transforms import v2

from callbacks import CodebookReclustering, CompressedCheckpoint, FSCPruning, StepSchedule
from callbacks.schedule import Schedule
from spikefit.data.augment import RandomCrop
from spikefit.data.datamodule import SpikeDataModule
from spikefit.data.images import Digits
from spikefit.module import SpikingClassifier
from spikefit.networks import ConvSNN
from spikefit.prune import FSC
from spikefit.quantize import Codebook

EPOCHS, BATCHES = 3, 4


def data(**options):
    given = {"time_steps": 2, "batch_size": 16, "train_samples": 60, "val_fraction": 0.05, **options}
    return SpikeDataModule(Digits(), **given)


def crop():
    return v2.RandomCrop(8, padding=1)


DATA = {
    "tensors": data,
    "random code and crop": lambda: data(encoding="rate", augment=[RandomCrop(1)]),
    "loader": lambda: data(device_cache=False, augment=[crop(), RandomCrop(1)]),
    "workers": lambda: data(num_workers=2, augment=[crop()]),
}


class SaveEverywhere(pl.Callback):
    """Save after every batch, after every validation and at the end of every epoch."""

    def __init__(self, folder):
        self.folder, self.states = folder, {}

    def save(self, trainer, name):
        trainer.save_checkpoint(self.folder / f"{name}.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.save(trainer, f"batch{trainer.fit_loop.total_batch_idx + 1}")

    def on_validation_end(self, trainer, pl_module):
        self.save(trainer, f"validated{trainer.current_epoch}")

    def on_train_epoch_end(self, trainer, pl_module):
        self.save(trainer, f"epoch{trainer.current_epoch}")


class Record(pl.Callback):
    """Everything that training left."""

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("own/steps", float(trainer.global_step))

    def on_train_start(self, trainer, pl_module):
        self.begun = trainer.current_epoch

    def on_train_end(self, trainer, pl_module):
        self.left = copy.deepcopy(
            {
                "weights": pl_module.state_dict(),
                "moments": [optimizer.state_dict() for optimizer in trainer.optimizers],
                "metrics": dict(trainer.callback_metrics),
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
            }
        )


def train(folder, source, *more, checkpoint=None, **options):
    pl.seed_everything(3)
    record, best = Record(), CompressedCheckpoint(folder / "best", monitor="val/accuracy", mode="max")
    callbacks = [
        CodebookReclustering(Schedule(1), ramp=1),
        FSCPruning(0.3, score=FSC(2), schedule=Schedule(1, 2)),
        *((StepSchedule({0: 1, 1: 2}),) if source in ("tensors", "loader") else ()),
        record,
        best,
        *more,
    ]
    given = {"max_epochs": EPOCHS, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=CSVLogger(folder, "", ""),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **given,
    )
    network = partial(ConvSNN, channels=(4,), hidden=(8,))
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=3)
    model = SpikingClassifier(network, (1, 8, 8), 10, Codebook, lr_scheduler=schedule, lr_interval="step")
    trainer.fit(model, DATA[source](), ckpt_path=checkpoint, weights_only=True)
    lines = (folder / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    rows = [{name: value for name, value in row.items() if value} for row in rows]
    record.left["best"] = best.best_model_score
    record.left["saved"] = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    return record.left, rows, record.begun


def differing(first, second, where=""):
    """Names of the parts that differ."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{where}: {first.keys() ^ second.keys()}"]
        return [found for key in first for found in differing(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, list):
        return [found for pair in zip(first, second, strict=True) for found in differing(*pair, where)]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [where]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run by data and options of the trainer; checkpoints are in its folder."""
    made = {}

    def get(source, options):
        key = source, *options.items()
        if key not in made:
            folder = tmp_path_factory.mktemp("whole")
            made[key] = (folder, *train(folder, source, SaveEverywhere(folder), **options))
        return made[key]

    return get


CASES = [
    *(("tensors", place, {}) for place in ("batch2", "batch7", "batch8", "batch12", "validated1", "epoch1")),
    ("random code and crop", "batch6", {}),
    *(("loader", place, {}) for place in ("batch6", "batch8")),
    *(("workers", place, {}) for place in ("batch6", "epoch0")),
    ("tensors", "batch10", {"val_check_interval": 0.5}),
    *(("tensors", place, {"max_steps": 3 * BATCHES}) for place in ("batch5", "epoch0")),
    ("tensors", "batch5", {"accumulate_grad_batches": 2}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("source", "place", "options"), CASES)
def test_resumed(whole, tmp_path, source, place, options):
    folder, left, rows, _ = whole(source, options)
    again, new_rows, begun = train(tmp_path, source, checkpoint=folder / f"{place}.ckpt", **options)
    assert not differing(left, again)
    # After the end of an epoch, its metrics come first, because a run that was killed may not have written them.
    assert new_rows
    if place.startswith("epoch"):
        first, *new_rows = new_rows
        before = {name: value for row in rows if row["epoch"] == first["epoch"] for name, value in row.items()}
        assert first == before
    assert new_rows == rows[-len(new_rows) :]
    assert all(row in new_rows for row in rows if int(row["epoch"]) > begun)
