"""Benchmark of training steps with a chip's integer arithmetic against ordinary training steps.

    python -m scripts.bench.emulation --rounds 15 --out docs/results/bench_emulation.json

Training steps (forward, cross entropy, backward, SGD) of one network in floating point, with codebooks (CAT), and with
codebooks and the chip's integers (``callbacks.ChipEmulation``), interleaved in one process, one thread: ConvSNN
32-64-128 on directly coded images of 28 x 28 at batch 64, and VGG-11 on images of 32 x 32 at batch 8, both at T=4.
``--profile`` prints the operations of a step with the chip's integers.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from scripts.bench.timing import interleaved, quartiles, table, training_step, versions, write
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import VGG, ConvSNN, Network
from spikefit.program.emulation import Emulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

STEPS = 4
CASES: dict[str, tuple[Callable[[], Network], int]] = {
    "ConvSNN 32-64-128, batch 64": (lambda: ConvSNN((1, 28, 28), 10, channels=(32, 64, 128), hidden=(128,)), 64),
    "VGG-11, batch 8": (lambda: VGG((3, 32, 32), 10, plan="vgg11"), 8),
}
FORMS = ("float", "CAT", "CAT on the chip's integers")


def forms(network: Network, x: Tensor, target: HardwareTarget) -> dict[str, Network]:
    """The float network, with codebooks, and with codebooks and the chip's integers, after a few passes of ``x``."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(x)
    found = {"float": network}
    for name in FORMS[1:]:
        made = copy.deepcopy(network)
        for _, layer in made.named_synapses():
            attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
        found[name] = made
    found[FORMS[2]].emulation = Emulator(DeploymentContext(target, STEPS, InputKind.CONSTANT))
    return found


def measured(name: str, target: HardwareTarget, rounds: int, profiled: bool) -> dict[str, Any]:
    """Quartiles of each form's step in milliseconds, and its ratio to the step with codebooks."""
    torch.manual_seed(0)
    make, batch = CASES[name]
    network = make()
    x = torch.rand(1, batch, *network.input_shape).expand(STEPS, -1, -1, -1, -1)
    made = forms(network, x, target)
    steps = {form: training_step(own, lambda x, own=own: own.logits(own(x)), x) for form, own in made.items()}  # type: ignore[misc]
    times = interleaved(steps, rounds)
    if profiled:
        with profile(activities=[ProfilerActivity.CPU]) as found:
            steps[FORMS[2]]()
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))
    ratios = {form: statistics.median(a / b for a, b in zip(times[form], times["CAT"], strict=True)) for form in FORMS}
    return {
        "network": name,
        "target": target.name,
        "steps_ms": {form: quartiles(found) for form, found in times.items()},
        "ratio_to_cat": {form: round(found, 3) for form, found in ratios.items()},
    }


def main(words: list[str] | None = None) -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="loihi", help="name of a chip, or path of a YAML file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print the operations of a step")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    target = HardwareTarget.load(arguments.hardware)
    rows = [measured(name, target, arguments.rounds, arguments.profile) for name in CASES]
    print(
        table(
            [
                {
                    "network": row["network"],
                    **{form: f"{row['steps_ms'][form]['median_ms']:.0f} ms" for form in FORMS},
                    "over CAT": f"{row['ratio_to_cat'][FORMS[2]]:.2f}",
                }
                for row in rows
            ]
        )
    )
    write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
