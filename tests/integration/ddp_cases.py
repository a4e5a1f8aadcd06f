"""Run by two processes: trains every case and saves what this process holds. Argument: a folder."""

import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from compression_cases import CASES
from tiny_fit import TinyData, TinyDataWithTest, module

from callbacks import DeploymentSimulation

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
    return trainer, model, {key: value.clone() for key, value in model.state_dict().items()}


def main(folder: Path) -> None:
    held = {}
    for name, case in CASES.items():
        trainer, _, held[name] = train(folder, case, TinyData(), epochs=EPOCHS.get(name, 4))
    torch.save(held, folder / f"rank{trainer.global_rank}.pt")
    # With and without the accuracy of the float network, which process 0 alone measures.
    _, _, without = train(folder, CASES["growth-cubic"], TinyDataWithTest())
    _, model, measured = train(folder, CASES["growth-cubic"], TinyDataWithTest(), DeploymentSimulation(max_samples=30))
    before = model.accuracy_before_compression
    figure = (before.correct, before.samples)
    torch.save({"without": without, "measured": measured, "figure": figure}, folder / f"float{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
