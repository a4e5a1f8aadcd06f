"""A training run of about one second on artificial data."""

import copy

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from callbacks import CompressedCheckpoint
from spikefit.input_kind import InputKind
from spikefit.module import SpikingClassifier
from spikefit.networks import ConvSNN
from spikefit.quantize import Codebook


class TinyData(pl.LightningDataModule):
    """64 random spike trains of 4 steps of two classes, which differ in the half of the image that fires more."""

    input_kind, time_steps = InputKind.SPIKES, 4

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(64) % 2
        rates = torch.full((64, 1, 8, 8), 0.2)
        rates[labels == 1, :, :4] = 0.7
        spikes = (torch.rand(64, 4, 1, 8, 8, generator=generator) < rates[:, None]).float()
        self.dataset = TensorDataset(spikes, labels)

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=16)

    def val_dataloader(self):
        return DataLoader(self.dataset, batch_size=24)  # the last batch is smaller

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return x.transpose(0, 1), y


class TinyDataWithTest(TinyData):
    """The same, its last 40 samples as a test part."""

    def test_dataloader(self):
        return DataLoader(Subset(self.dataset, range(24, 64)), batch_size=16)


def module(quantizer=Codebook, **options):
    torch.manual_seed(0)
    options = copy.deepcopy({"hardware": "loihi", **options})  # a loss may have a state
    return SpikingClassifier(
        lambda shape, classes: ConvSNN(shape, classes, (6, 8), (10,)), (1, 8, 8), 2, quantizer, **options
    )


def fit(tmp_path, callbacks, model=None, epochs=4, ckpt_path=None, **options):
    model = module() if model is None else model
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, CompressedCheckpoint) for callback in callbacks),
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(model, TinyData(), ckpt_path=ckpt_path)
    return trainer, model
