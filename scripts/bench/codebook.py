"""Benchmark of codebooks and pruning scores: reclustering against scikit-learn, steps against the float step.

    python -m scripts.bench.codebook --out docs/results/bench_codebook.json

Reclustering: the best codebook of a million normally distributed weights. ``refit`` is the complete reclustering of a
layer, including the integer grid. scikit-learn gets a new seed in every round. ``excess_inertia`` is the median excess
of the inertia over that of ``kmeans1d``, which is exact, relative to the latter.

Steps: a complete training step of conv32-norm-LIF-pool-conv64-norm-LIF-pool-fc128-LIF-fc10 (forward, backward, SGD),
and one batch of the score FSC, on an image that is the same in every time step (``direct``) and on distinct ``frames``.

Rows of a table are interleaved in one process. ``ratio`` is the median, over rounds, of a row's time divided by that of
the table's first row in the same round.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import kmeans1d
import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from scripts.bench.timing import Step, interleaved, quartiles, spikefit_network, table, training_step, versions, write
from spikefit.functional.kmeans import kmeans_1d
from spikefit.losses import CrossEntropy
from spikefit.networks import Network
from spikefit.prune.scores.fsc import FSC
from spikefit.quantize import Codebook

Centroids = Callable[[], Any]


def inertia(ordered: Tensor, centroids: Any) -> float:
    """Sum of squared distances of the values, float64 and ascending, to their nearest centroids."""
    values = torch.as_tensor(np.asarray(centroids, dtype=np.float64)).flatten().sort().values
    cuts = torch.searchsorted(ordered, (values[1:] + values[:-1]) / 2).tolist()
    parts = ordered.tensor_split(cuts)
    return sum(float((part - value).square().sum()) for part, value in zip(parts, values, strict=True))


def relative(times: dict[Any, list[float]]) -> dict[Any, dict[str, float]]:
    """Quartiles of each row, and the median of its ratio to the first row, round by round."""
    first = next(iter(times.values()))
    return {
        name: quartiles(own) | {"ratio": round(statistics.median(a / b for a, b in zip(own, first, strict=True)), 3)}
        for name, own in times.items()
    }


def reclustering(weights: int, levels: int, rounds: int) -> list[dict[str, Any]]:
    values = torch.randn(weights, generator=torch.Generator().manual_seed(0)) * 0.05
    ordered = values.double().sort().values
    codebook = Codebook(values.view(1, -1), levels)

    def scikit_learn(starts: Any, seeds: Iterator[int]) -> Centroids:
        column = values.numpy()[:, None]
        return lambda: KMeans(levels, n_init=starts, random_state=next(seeds)).fit(column).cluster_centers_

    methods: dict[str, Centroids] = {
        "spikefit, k-means": lambda: kmeans_1d(values, levels)[0],
        "spikefit, refit": lambda: codebook.refit(values.view(1, -1)),
        "kmeans1d": lambda: kmeans1d.cluster(values.tolist(), levels).centroids,
        "scikit-learn, n_init=auto": scikit_learn("auto", count()),
        "scikit-learn, n_init=10": scikit_learn(10, count()),
    }
    found: dict[str, list[Any]] = {name: [] for name in methods}

    def kept(name: str) -> Callable[[], None]:
        return lambda: found[name].append(methods[name]())

    measured = relative(interleaved({name: kept(name) for name in methods}, rounds, warm_up=1))
    least = min(inertia(ordered, centroids) for centroids in found["kmeans1d"])
    rows: list[dict[str, Any]] = []
    for name, row in measured.items():
        excess = [inertia(ordered, centroids) / least - 1 for centroids in found[name] if centroids is not None]
        shown = {"excess_inertia": float(f"{statistics.median(excess):.1e}")} if excess else {}
        rows.append({"reclustering": name, "weights": weights, "levels": levels, **row, **shown})
    return rows


def stepping(network: Network, x: Tensor) -> Step:
    return training_step(network, lambda x: network.logits(network(x)), x)


def scoring(network: Network, x: Tensor) -> Step:
    network.eval()
    batch = (x, torch.arange(x.shape[1]) % 10)
    return lambda: FSC(1).accumulate(network, [batch], CrossEntropy())


def steps(time_steps: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    frames = torch.rand(time_steps, batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for kind, x in {"direct": frames[:1].expand_as(frames), "frames": frames}.items():
        torch.manual_seed(0)
        calls = {
            "training step, float": stepping(spikefit_network(), x),
            "training step, CAT M=4": stepping(spikefit_network(codebook=True), x),
            "FSC scoring batch": scoring(spikefit_network(), x),
        }
        measured = relative(interleaved(calls, rounds))
        rows += [{"step": name, "input": kind, "T": time_steps, "batch": batch} | row for name, row in measured.items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--rounds", type=int, default=11, help="rounds of the reclustering; the steps take five times as many"
    )
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    clustered = reclustering(arguments.weights, arguments.levels, arguments.rounds)
    stepped = steps(arguments.steps, arguments.batch, 5 * arguments.rounds)
    print(table(clustered), table(stepped), sep="\n\n")
    write(arguments.out, [*clustered, *stepped], versions("scikit-learn", "kmeans1d", "numpy"))


if __name__ == "__main__":
    main()
