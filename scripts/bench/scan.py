"""Benchmark of the integrate-and-fire scan on a CPU: plain torch, torch.compile, and the numba kernel.

    python -m scripts.bench.scan --out docs/results/bench_scan.json

Forward and backward pass of LIF neurons on currents [T, 32, 32, 28, 28], channels last; interleaved. The plain loop
implements the equations with autograd; the hand-written form is an autograd function of torch operations that stores
only the current.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.bench.timing import Step, interleaved, quartiles, table, versions, write
from spikefit.functional.dynamics import Dynamics
from spikefit.functional.lif import PlainScan, multi_step
from spikefit.functional.surrogate import atan

DYNAMICS = Dynamics(leak="decay")
DECAY = torch.tensor(0.5)


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * atan(ctx.saved_tensors[0], 2.0)


def loop(current: Tensor) -> Tensor:
    u, spikes = torch.zeros_like(current[0]), []
    for i in current:
        v = u * DECAY + i
        spikes.append(Fire.apply(v - 1))
        u = v - spikes[-1].detach()
    return torch.stack(spikes)


FORMS = {
    "plain loop": loop,
    "plain loop, compiled": torch.compile(loop),
    "hand-written torch": lambda current: PlainScan.apply(current, DECAY, DYNAMICS),
    "numba kernel": lambda current: multi_step(current, DYNAMICS, DECAY),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for steps in arguments.steps:
        current = torch.randn(steps, 32, 28, 28, 32).permute(0, 1, 4, 2, 3).requires_grad_()
        grad = torch.ones_like(current)

        def both(form: str, current: Tensor = current, grad: Tensor = grad) -> Step:
            return lambda: torch.autograd.grad(FORMS[form](current), current, grad)

        times = interleaved({form: both(form) for form in FORMS}, arguments.rounds)
        rows += [{"form": form, "T": steps, **quartiles(measured)} for form, measured in times.items()]
    print(table(rows))
    write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
