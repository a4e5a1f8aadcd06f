"""Benchmark of a complete training step against other SNN libraries and a plain ReLU network (the lower bound).

    python -m scripts.bench.training --out docs/results/bench_training.json

conv32-norm-LIF-pool-conv64-norm-LIF-pool-fc128-LIF-fc10 on [T, 32, 1, 28, 28] distinct frames; forward, backward, SGD.
All rows of one T are interleaved in one process; peak memory is measured in a separate process for each row. Every
library folds time into the batch for stateless layers and passes [T, B, ...] to the neurons. A library that isn't
installed is skipped with a message. To install them without replacing the installed torch:

    pip install --no-deps spikingjelly loguru snntorch norse nir nirtorch sinabs pbr matplotlib contourpy cycler \\
        kiwisolver pyparsing python-dateutil six
"""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.bench.timing import (
    Forward,
    Step,
    interleaved,
    peak_mib,
    quartiles,
    spikefit_network,
    table,
    training_step,
    versions,
    write,
)
from spikefit.networks.memory_format import channels_last

warnings.filterwarnings("ignore")
Built = tuple[nn.Module, Forward]


class Folded(nn.Module):
    """Applies a stateless layer to [T*B, ...], with images in channels-last format if ``last``."""

    last = False

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        folded = x.flatten(0, 1)
        if self.last and folded.dim() == 4:
            folded = channels_last(folded)
        return self.layer(folded).unflatten(0, x.shape[:2])


def body(neuron: Callable[[], nn.Module], fold: Callable[[nn.Module], nn.Module] = Folded) -> nn.Sequential:
    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        layers = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        return [*(fold(layer) for layer in layers), neuron(), fold(nn.AvgPool2d(2))]

    dense = [fold(nn.Flatten()), fold(nn.Linear(3136, 128, bias=False)), neuron(), fold(nn.Linear(128, 10))]
    return nn.Sequential(*conv(1, 32), *conv(32, 64), *dense)


def relu(last: bool) -> Built:
    network = body(nn.ReLU, fold=lambda layer: layer)

    def forward(x: Tensor) -> Tensor:
        images = channels_last(x.flatten(0, 1)) if last else x.flatten(0, 1)
        return network(images).unflatten(0, x.shape[:2]).mean(0)

    return network, forward


def ours(codebook: bool = False, checkpointing: bool = False) -> Built:
    network = spikefit_network(codebook)
    network.gradient_checkpointing = checkpointing
    return network, lambda x: network.logits(network(x))


def direct_coded() -> Built:
    """Network on one image that is the same in every step, as with ``encoding: direct``."""
    network = spikefit_network()
    return network, lambda x: network.logits(network(x[:1].expand_as(x)))


def bfloat16() -> Built:
    network = spikefit_network()

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network.logits(network(x))

    return network, forward


def spikingjelly() -> Built:
    from spikingjelly.activation_based import functional, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(
            tau=2.0,
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.ATan(),
            step_mode="m",
        )

    network = body(lif)

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(network)
        return network(x).mean(0)

    return network, forward


class Loop(nn.Module):
    """Runs a single-step cell over all time steps, from the state ``start(current)``."""

    def __init__(self, cell: nn.Module, start: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.cell = cell
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        state, spikes = self.start(x[0]), []
        for current in x:
            s, state = self.cell(current, state)
            spikes.append(s)
        return torch.stack(spikes)


def snntorch() -> Built:
    from snntorch import Leaky, surrogate

    network = body(lambda: Loop(Leaky(beta=0.5, spike_grad=surrogate.atan(), reset_delay=False), torch.zeros_like))
    return network, lambda x: network(x).mean(0)


def norse() -> Built:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))  # decay 0.5 per step of 1 ms
    network = body(lambda: Loop(LIFBoxCell(parameters), lambda current: None))
    return network, lambda x: network(x).mean(0)


def sinabs() -> Built:
    from sinabs.activation import SingleSpike
    from sinabs.layers import LIF

    class BatchFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = LIF(tau_mem=1.4427, norm_input=False, spike_fn=SingleSpike)  # decay 0.5 per step

        def forward(self, x: Tensor) -> Tensor:
            self.neuron.reset_states()
            return self.neuron(x.transpose(0, 1)).transpose(0, 1)

    network = body(BatchFirst)
    return network, lambda x: network(x).mean(0)


def with_channels_last(build: Callable[[], Built]) -> Callable[[], Built]:
    def make() -> Built:
        network, forward = build()
        for module in network.modules():
            if isinstance(module, Folded):
                module.last = True
        return network, forward

    return make


def compiled(build: Callable[[], Built]) -> Callable[[], Built]:
    def make() -> Built:
        network, forward = build()
        network.compile()
        return network, forward

    return make


PEERS = (spikingjelly, snntorch, norse, sinabs)
EAGER: dict[tuple[str, str], Callable[[], Built]] = {
    ("spikefit", "float"): ours,
    ("spikefit", "CAT M=4"): lambda: ours(codebook=True),
    ("spikefit", "float, direct-coded image"): direct_coded,
    ("spikefit", "float, gradient checkpointing"): lambda: ours(checkpointing=True),
    ("spikefit", "bf16-mixed"): bfloat16,
    ("ReLU network", "contiguous"): lambda: relu(False),
    ("ReLU network", "channels_last"): lambda: relu(True),
    **{(build.__name__, "eager"): build for build in PEERS},
    **{(build.__name__, "eager, channels_last"): with_channels_last(build) for build in PEERS},
}
COMPILED = {
    ("spikefit", "float, compiled"): compiled(ours),
    ("ReLU network", "channels_last, compiled"): compiled(lambda: relu(True)),
    **{(build.__name__, "compiled"): compiled(build) for build in PEERS},
    **{(build.__name__, "compiled, channels_last"): compiled(with_channels_last(build)) for build in PEERS},
}
ROWS = EAGER | COMPILED


def frames(steps: int, batch: int) -> Tensor:
    return torch.rand(steps, batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def peak_apart(key: tuple[str, str], steps: int, batch: int) -> float | None:
    """Peak memory of one row, measured in a separate process."""
    command = [sys.executable, __file__, "--peak", *key, "--steps", str(steps), "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"no peak memory of {key}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def measure(steps: int, batch: int, rounds: int, compile_up_to: int, peak: bool = True) -> list[dict[str, Any]]:
    x = frames(steps, batch)
    built: dict[tuple[str, str], Step] = {}
    for key, build in (ROWS if steps <= compile_up_to else EAGER).items():
        torch.manual_seed(0)
        try:
            step = training_step(*build(), x)
            step()
            built[key] = step
        except ImportError as error:
            print(f"left out {key}: {error}", file=sys.stderr)
    times = interleaved(built, rounds)
    return [
        {
            "library": key[0],
            "mode": key[1],
            "T": steps,
            "batch": batch,
            **quartiles(times[key]),
            "peak_mib": peak_apart(key, steps, batch) if peak else None,
            "versions": versions(key[0]),
        }
        for key in built
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=25, help="rounds for T=4; fewer, but at least 7, for larger T")
    parser.add_argument("--compile_up_to", type=int, default=4, help="largest T to compile, because steps are unrolled")
    parser.add_argument("--no_peak", action="store_true", help="skip peak memory, which needs a process per row")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    parser.add_argument("--peak", nargs=2, metavar=("LIBRARY", "MODE"), help="only print the peak memory of one row")
    arguments = parser.parse_args()
    if arguments.peak:
        network, forward = ROWS[tuple(arguments.peak)]()
        steps = arguments.steps[0]
        small = training_step(network, forward, frames(steps, 2))
        print(peak_mib(training_step(network, forward, frames(steps, arguments.batch)), small))
        return
    rows = []
    for steps in arguments.steps:
        rounds = max(7, arguments.rounds * 4 // steps)
        rows += measure(steps, arguments.batch, rounds, arguments.compile_up_to, not arguments.no_peak)
        print(table([row for row in rows if row["T"] == steps]), "\n", flush=True)
        write(arguments.out, rows, versions(*(build.__name__ for build in PEERS)))


if __name__ == "__main__":
    main()
