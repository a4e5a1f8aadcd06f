"""Benchmark of scaling: time of a training step by time steps, width and batch, next to a ReLU network.

    python -m scripts.bench.scaling --out docs/results/bench_scaling.json

One axis is varied at a time, starting from T=4, width 1 (conv32, conv64, fc128), batch 32. All measurements are
interleaved. ``per_sample_step_us`` is the median divided by batch and T; it is constant if the time scales linearly.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.bench.timing import (
    Forward,
    Step,
    interleaved,
    quartiles,
    spikefit_network,
    table,
    training_step,
    versions,
    write,
)
from spikefit.networks.memory_format import channels_last

AXES: dict[str, list[float]] = {
    "T": [1, 2, 4, 8, 16, 32, 64, 128],
    "width": [0.5, 1.0, 2.0, 4.0],
    "batch": [1, 8, 32, 128],
}
BASE: dict[str, float] = {"T": 4, "width": 1.0, "batch": 32}


def spiking(width: float, codebook: bool = False) -> tuple[nn.Module, Forward]:
    network = spikefit_network(codebook, channels=(int(32 * width), int(64 * width)))
    return network, lambda x: network.logits(network(x))


def relu(width: float) -> tuple[nn.Module, Forward]:
    first, second = int(32 * width), int(64 * width)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, first), (first, second)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.AvgPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(49 * second, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(x: Tensor) -> Tensor:
        return network(channels_last(x.flatten(0, 1))).unflatten(0, x.shape[:2]).mean(0)

    return network, forward


NETWORKS = {"float": spiking, "CAT M=4": lambda width: spiking(width, codebook=True), "ReLU": relu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for axis in arguments.axes:
        steps: dict[tuple[str, float], Step] = {}
        for value in AXES[axis]:
            size = BASE | {axis: value}
            x = torch.rand(int(size["T"]), int(size["batch"]), 1, 28, 28)
            for name, build in NETWORKS.items():
                steps[name, value] = training_step(*build(size["width"]), x)
        times = interleaved(steps, arguments.rounds)
        for (name, value), measured in times.items():
            size = BASE | {axis: value}
            figures = quartiles(measured)
            each = 1e3 * figures["median_ms"] / (size["T"] * size["batch"])
            rows.append({"axis": axis, "network": name, **size, **figures, "per_sample_step_us": round(each, 1)})
        print(table([row for row in rows if row["axis"] == axis]), "\n", flush=True)
        write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
