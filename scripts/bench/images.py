"""Benchmark of image batches: from a DataLoader, and from tensors on the device.

    python -m scripts.bench.images --out docs/results/bench_images.json

50,000 artificial uint8 images of 3 x 32 x 32 in batches of 256, as the data module gives them to a network: unchanged,
and with a random crop (padding 4) and flip, by torchvision for each image or by ``spikefit.data.augment`` for a batch.
Times are milliseconds per epoch, in one process. Rows are interleaved; ``speed-up`` is the median, over rounds, of the
first row's time divided by that of the row in the same round.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torchvision.transforms import v2

from scripts.bench.timing import Step, interleaved, quartiles, table, versions, write
from spikefit.data import DataSource, SpikeDataModule
from spikefit.data.augment import RandomCrop, RandomHorizontalFlip
from spikefit.data.images import Images
from spikefit.data.source import Part

SINGLE: list[nn.Module] = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
BATCHED: list[nn.Module] = [RandomCrop(4), RandomHorizontalFlip()]


class MadeUpImages(DataSource):
    """Random images of the size of CIFAR-10's."""

    num_classes, shape = 10, (3, 32, 32)

    def __init__(self, number: int) -> None:
        pixels = torch.randint(0, 256, (number, *self.shape), dtype=torch.uint8)
        self.images = Images(pixels, torch.arange(number) % self.num_classes)

    def prepare(self) -> None: ...

    def load(self, part: Part, time_steps: int) -> Images:
        return self.images


def epoch_of(source: DataSource, trainer: pl.Trainer, **options: Any) -> Step:
    """Return a function that makes all training batches of an epoch on the trainer's device."""
    data = SpikeDataModule(source, batch_size=256, val_fraction=0.0, **options)
    data.setup("fit")
    data.trainer = trainer
    device = trainer.strategy.root_device

    def epoch() -> None:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return epoch


def measured(number: int, rounds: int, accelerator: str) -> list[dict[str, Any]]:
    trainer = pl.Trainer(accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False)
    source = MadeUpImages(number)
    calls = {
        "DataLoader, torchvision": epoch_of(source, trainer, augment=SINGLE),
        "DataLoader, batches augmented": epoch_of(source, trainer, augment=BATCHED, device_cache=False),
        "tensors, batches augmented": epoch_of(source, trainer, augment=BATCHED),
        "DataLoader, as they are": epoch_of(source, trainer, device_cache=False),
        "tensors, as they are": epoch_of(source, trainer),
    }
    times = interleaved(calls, rounds, warm_up=1)
    first = times["DataLoader, torchvision"]
    return [
        {"images": name, "images_per_s": round(1e3 * number / statistics.median(own))}
        | quartiles(own)
        | {"speed-up": round(statistics.median(a / b for a, b in zip(first, own, strict=True)), 1)}
        for name, own in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=50_000, help="number of images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = measured(arguments.number, arguments.rounds, arguments.accelerator)
    print(table(rows))
    write(arguments.out, rows, versions("torchvision"))


if __name__ == "__main__":
    main()
