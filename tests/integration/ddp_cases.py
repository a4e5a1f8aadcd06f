"""Run by two processes: trains every case and saves what this process holds. Argument: a folder."""

import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from compression_cases import CASES
from tiny_fit import TinyData, module

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


def main(folder: Path) -> None:
    held = {}
    for name, case in CASES.items():
        model = module(case.quantizer, **case.options)
        trainer = pl.Trainer(
            max_epochs=4,
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            callbacks=case.callbacks(),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, TinyData())
        held[name] = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(held, folder / f"rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
