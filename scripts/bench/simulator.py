"""Benchmark of the deployment simulator against the trained network's forward pass, in samples per second.

    python -m scripts.bench.simulator --out docs/results/bench_simulator.json

conv32-norm-LIF-pool-conv64-norm-LIF-pool-fc128-LIF-fc10 with codebooks of four values, directly coded images of 28 x
28, on Loihi's arithmetic, both interleaved in one process. The simulator also counts spikes, synaptic operations and
overflows.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.bench.timing import Step, interleaved, quartiles, table, versions, write
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import ConvSNN
from spikefit.networks.blocks import Network
from spikefit.neurons import LIF
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach


def network() -> Network:
    """The network of the benchmark, with codebooks, in evaluation mode."""
    torch.manual_seed(0)
    made = ConvSNN((1, 28, 28), 10, channels=(32, 64), hidden=(128,), neuron=partial(LIF, decay=0.5, reset="zero"))
    for _, layer in made.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
    made.train()
    with torch.no_grad():  # adapts the norms, so that every layer fires
        for _ in range(3):
            made(torch.rand(1, 64, 1, 28, 28).expand(4, -1, -1, -1, -1))
    return made.eval()


def simulated(simulator: Simulator, x: Tensor) -> Step:
    """Return a step that simulates one batch on the chip."""
    return lambda: simulator(x)


def trained(made: Network, x: Tensor) -> Step:
    """Return a step that passes one batch through the network."""

    def step() -> Tensor:
        with torch.no_grad():
            return made.logits(made(x))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    made, target = network(), HardwareTarget.load("loihi")
    steps: dict[tuple[int, str], Step] = {}
    for time_steps in arguments.steps:
        program = lower(made, DeploymentContext(target, time_steps, InputKind.CONSTANT), "target")
        x = torch.rand(1, arguments.batch_size, 1, 28, 28).expand(time_steps, -1, -1, -1, -1)
        steps[time_steps, "simulator"] = simulated(Simulator(program), x)
        steps[time_steps, "network"] = trained(made, x)
    rows: list[dict[str, Any]] = []
    times = interleaved(steps, arguments.rounds)
    for time_steps in arguments.steps:
        simulator, forward = (quartiles(times[time_steps, what]) for what in ("simulator", "network"))
        rows.append(
            {
                "T": time_steps,
                "simulator_ms": simulator["median_ms"],
                "network_ms": forward["median_ms"],
                "samples_per_s": round(1e3 * arguments.batch_size / simulator["median_ms"], 1),
                "relative_speed": round(forward["median_ms"] / simulator["median_ms"], 3),
                "simulator_ms_a_step": round(simulator["median_ms"] / time_steps, 2),
            }
        )
    print(table(rows))
    write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
