"""Program of two processes that trains every case, saves the results of each process, and tests a trained network.

Arguments: a folder for the results, and the folder in which the quickstart was trained.
"""

import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch

from callbacks import DeploymentSimulation
from helpers.compression_cases import CASES
from helpers.tiny_fit import TinyData, TinyDataWithTest, module
from spikefit.cli import main as spikefit
from spikefit.data import SpikeDataModule
from spikefit.data.augment import RandomCrop
from spikefit.data.images import Digits

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
EPOCHS = {"prune-by-step": 8}  # two processes take half the steps an epoch


def train(folder, case, data, *more, epochs=4):
    model = module(case.quantizer, **case.options)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[*case.callbacks(), *more],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    penalty = {} if model.penalty is None else model.penalty.state()
    return trainer, model, {key: value.clone() for key, value in {**model.state_dict(), **penalty}.items()}


class Labels(pl.LightningModule):
    """Remembers the labels of its batches, by epoch, and the images of the first one."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.train_labels, self.val_labels, self.images = [], [], None

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.images = x[0].clone() if self.images is None else self.images
        self.train_labels.append(y.tolist())
        return torch.nn.functional.cross_entropy(self.layer(x.mean(0).flatten(1)), y)

    def validation_step(self, batch, batch_idx):
        self.val_labels.append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def batches_of_images():
    """Labels and images that this process is trained with, from tensors on its device."""
    module = Labels()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        num_sanity_val_steps=0,
        check_val_every_n_epoch=2,
        **quiet,
    )
    trainer.fit(module, SpikeDataModule(Digits(), batch_size=100, augment=[RandomCrop(1)], device_cache=True))
    return {"train": module.train_labels, "val": module.val_labels, "images": module.images}


def main(folder: Path) -> None:
    held = {}
    for name, case in CASES.items():
        trainer, _, held[name] = train(folder, case, TinyData(), epochs=EPOCHS.get(name, 4))
    torch.save(held, folder / f"rank{trainer.global_rank}.pt")
    torch.save(batches_of_images(), folder / f"batches{trainer.global_rank}.pt")
    # With and without the accuracy of the float network, which process 0 alone measures.
    _, _, without = train(folder, CASES["score-fsc"], TinyDataWithTest())
    _, model, measured = train(folder, CASES["score-fsc"], TinyDataWithTest(), DeploymentSimulation(max_samples=30))
    before = model.accuracy_before_compression
    figure = (before.correct, before.samples)
    torch.save({"without": without, "measured": measured, "figure": figure}, folder / f"float{trainer.global_rank}.pt")


def commands(trained: Path) -> None:
    """Test and predict with the best checkpoint of the quickstart."""
    run = trained / "runs" / "quickstart" / "version_0"
    for command in ("test", "predict"):
        spikefit([command, f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    commands(Path(sys.argv[2]))
