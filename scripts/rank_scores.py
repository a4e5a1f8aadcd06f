"""Rank correlation (Spearman) of pruning scores with the true change of the loss when a unit is removed, on digits.

    python -m scripts.rank_scores --seeds 0 1 2 --out docs/results/rank_scores.json

Each network is trained on scikit-learn's digits. The ground truth is the change of the mean loss over all training
images when one unit is silenced; the scores use ``--samples`` of these images. With ``--cost``, the script instead
compares the time of one scoring batch with that of one training step, interleaved in one process.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from scripts.bench.timing import interleaved, spikefit_network, table, training_step, versions, write
from spikefit.data.encode import direct
from spikefit.data.images import Digits
from spikefit.losses import CrossEntropy
from spikefit.networks import MLP, ConvSNN, Network
from spikefit.prune import FSC, SVS, FiringRate, Magnitude, Oracle, Random, Score, unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample

STEPS = 4
NETWORKS: dict[str, Callable[[], Network]] = {
    "conv 8-12-24": partial(ConvSNN, (1, 8, 8), 10, (8, 12), (24,)),
    "conv 16-32-64": partial(ConvSNN, (1, 8, 8), 10, (16, 32), (64,)),
    "mlp 64-48": partial(MLP, (1, 8, 8), 10, (64, 48)),
}


class AbsoluteContribution(FSC):
    """Absolute contribution: ``1/N * sum_n |sum_{t,h,w} dL_n/ds_k * s_k|``, that is FSC without the square."""

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sum the score over samples, for networks without residual connections."""
        totals: dict[str, Tensor] = {}
        samples = 0
        blocks = {group.name: network.block(group.name) for group in unit_groups(network)}
        for batch in self.passes(network, blocks, batches, loss):
            for gradients in batch.gradients():
                for name, gradient in gradients.items():
                    product = (batch.outputs[name].detach() * gradient).sum(0)
                    absolute = product.flatten(2).sum(2).abs() if product.dim() > 2 else product.abs()
                    totals[name] = totals.get(name, 0) + absolute.sum(0)
            samples += batch.samples
        return totals, samples


def scores(seed: int) -> dict[str, Score]:
    """The scores to compare, by name."""
    return {
        "FSC (sketched, 2 draws)": FSC(seed=seed),
        "FSC (sketched, 1 draw)": FSC(draws=1, seed=seed),
        "FSC (exact)": FSC(fisher="exact"),
        "FSC (drawn labels, 2 draws)": FSC(fisher="drawn", seed=seed),
        "FSC (empirical)": FSC(fisher="empirical"),
        "absolute contribution": AbsoluteContribution(fisher="empirical"),
        "SVS": SVS(),
        "magnitude": Magnitude(),
        "firing rate": FiringRate(),
        "random": Random(seed),
    }


def digits() -> tuple[Tensor, Tensor]:
    """All training images ``[N, 1, 8, 8]`` and labels."""
    data = Digits().load("train", STEPS)
    return data.images, data.labels


def batches(images: Tensor, labels: Tensor, size: int = 64) -> list[Batch]:
    """Directly coded batches ``[T, B, 1, 8, 8]``."""
    return [(direct(x, STEPS), y) for x, y in zip(images.split(size), labels.split(size), strict=True)]


def trained(make: Callable[[], Network], seed: int, epochs: int) -> Network:
    """Train a network on the training images; it is returned in evaluation mode."""
    torch.manual_seed(seed)
    network = make()
    images, labels = digits()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss = CrossEntropy()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for x, y in batches(images[order], labels[order], 32):
            optimizer.zero_grad()
            loss(network.logits(network(x)), y).mean().backward()
            optimizer.step()
        scheduler.step()
    return network.eval()


def concatenated(score: Score, network: Network, data: list[Batch]) -> Tensor:
    """The score of every unit of ``network``, ``[units]``."""
    totals, _ = score.accumulate(network, data, CrossEntropy())
    return torch.cat([totals[group.name].double() for group in unit_groups(network)])


def correlations(network: Network, compared: dict[str, Score], samples: int, seed: int) -> dict[str, float]:
    """Spearman's rank correlation of each score with the ground truth, over all units."""
    images, labels = digits()
    truth = concatenated(Oracle(), network, batches(images, labels, 512))
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:samples]
    data = batches(images[chosen], labels[chosen])
    found = {name: concatenated(score, network, data) for name, score in compared.items()}
    return {name: float(spearmanr(values, truth).statistic) for name, values in found.items()}


def rank(seeds: list[int], epochs: int, samples: int) -> list[dict[str, Any]]:
    """Rows with the correlations of each network and score, with a column per seed."""
    rows: list[dict[str, Any]] = []
    for name, make in NETWORKS.items():
        by_seed = {seed: correlations(trained(make, seed, epochs), scores(seed), samples, seed) for seed in seeds}
        for score in scores(0):
            values = {f"seed {seed}": round(by_seed[seed][score], 3) for seed in seeds}
            rows.append({"network": name, "score": score, "mean": round(statistics.mean(values.values()), 3), **values})
    return rows


def cost(rounds: int = 15) -> list[dict[str, Any]]:
    """Median milliseconds of a training step and of a scoring batch on 64 images of 28 x 28, T=4."""
    network = spikefit_network()
    x = torch.rand(64, 1, 28, 28).expand(STEPS, 64, 1, 28, 28)
    labels = torch.arange(64) % 10
    step = training_step(network, lambda batch: network.train().logits(network(batch)), x)

    def scoring(score: Score) -> Callable[[], object]:
        return lambda: score.accumulate(network.eval(), [(x, labels)], CrossEntropy())

    steps = {"training step": step, **{name: scoring(score) for name, score in scores(0).items()}}
    medians = {name: statistics.median(times) for name, times in interleaved(steps, rounds).items()}
    base = medians["training step"]
    return [{"what": name, "ms": round(ms, 1), "relative": round(ms / base, 2)} for name, ms in medians.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--samples", type=int, default=512, help="training images used by the scores")
    parser.add_argument("--cost", action="store_true", help="time a scoring batch instead")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = cost() if arguments.cost else rank(arguments.seeds, arguments.epochs, arguments.samples)
    print(table(rows))
    write(arguments.out, rows, versions("scipy", "scikit-learn"))


if __name__ == "__main__":
    main()
