"""Measure the accuracy of a trained float network when a single layer gets a codebook, without training.

    python -m scripts.layer_sensitivity runs/NAME/version_0/checkpoints/last.ckpt --levels 4 --bits 8

Codebooks are fitted to the weights (exact k-means, nearest values) or to the currents that the layer delivers. Norm
statistics are recomputed before each test. The data are an image data set of ``spikefit.data.images``, directly coded.
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from callbacks.reclustering import rescale
from scripts.bench.timing import table, versions, write
from spikefit.data import SpikeDataModule
from spikefit.data import images as static
from spikefit.module import SpikingClassifier
from spikefit.networks import Network
from spikefit.quantize import Codebook
from spikefit.quantize.input_moments import input_moments

Batch = tuple[Tensor, Tensor]


def batches(data: SpikeDataModule, loader: Any, count: int) -> Iterator[Batch]:
    """Iterate over ``count`` batches ``[T, B, ...]`` with their labels."""
    for batch, _ in zip(loader, range(count), strict=False):
        yield data.on_after_batch_transfer(batch, 0)


@torch.no_grad()
def quantise(network: Network, name: str, metric: str, levels: int, bits: int, train: list[Batch]) -> None:
    """Quantise the weights of layer ``name`` with a codebook, in place."""
    layer, block = dict(network.named_synapses())[name], network.block(name.partition(".")[0])
    quantizer = Codebook(layer.weight, levels, bits)
    weight = layer.weight.detach()
    if metric == "currents":
        free_gain = block.norm is not None and block.skip is None
        moments = input_moments(network.eval(), name, [x for x, _ in train[:8]])
        weight, factor = quantizer.match(weight, moments.gram(centred=block.norm is not None), free_gain)
        if free_gain:
            rescale(block, factor)
    layer.weight.copy_(quantizer(weight))


@torch.no_grad()
def accuracy(network: Network, train: list[Batch], test: list[Batch]) -> float:
    """Share of the test samples that are classified correctly, after recomputing the norm statistics."""
    update_bn([x for x, _ in train], network)
    network.eval()
    right = sum(int((network.logits(network(x)).argmax(1) == y).sum()) for x, y in test)
    return right / sum(len(y) for _, y in test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="FashionMNIST", help="class of spikefit.data.images")
    parser.add_argument("--time_steps", type=int, default=4)
    parser.add_argument("--levels", type=int, nargs="+", default=[4])
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--train_batches", type=int, default=50, help="batches of 64, for norms and currents")
    parser.add_argument("--test_batches", type=int, default=157, help="batches of 64")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    data = SpikeDataModule(getattr(static, arguments.dataset)(), time_steps=arguments.time_steps, val_fraction=0.0)
    data.setup("fit")
    data.setup("test")
    train = list(batches(data, data.train_dataloader(), arguments.train_batches))
    test = list(batches(data, data.test_dataloader(), arguments.test_batches))
    network = SpikingClassifier.load_from_checkpoint(arguments.checkpoint, map_location="cpu").network
    names = [name for name, _ in network.named_synapses()]
    samples, whole = sum(len(y) for _, y in test), accuracy(copy.deepcopy(network), train, test)
    rows: list[dict[str, Any]] = [{"levels": "float", "layer": "-", "weights": f"{whole:.2%}", "samples": samples}]
    for levels in arguments.levels:
        for chosen in [*([name] for name in names), names]:
            row: dict[str, Any] = {"levels": levels, "layer": chosen[0] if len(chosen) == 1 else "all"}
            for metric in ("weights", "currents"):
                quantised = copy.deepcopy(network)
                for name in chosen:
                    quantise(quantised, name, metric, levels, arguments.bits, train)
                row[metric] = f"{accuracy(quantised, train, test):.2%}"
            rows.append({**row, "samples": samples})
            print(rows[-1], flush=True)
    print(table(rows))
    write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
