"""Loihi's neurons against brian2-loihi, membrane for membrane.

It needs a separate environment, which ``scripts/brian2_loihi_env.sh`` creates; SPIKEFIT_BRIAN2_LOIHI names its Python.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program, Projection
from spikefit.program.simulate import Simulator

STEPS, CASES = 60, 24
LOIHI = HardwareTarget.load("loihi")


def drawn(seed: int) -> dict:
    draw = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=draw))

    inputs, neurons = integer(3, 12), integer(1, 6)
    weights = 2 * torch.randint(-100, 128, (neurons, inputs), generator=draw)  # mixed signs: the last bit is the sign's
    spikes = (torch.rand(STEPS, inputs, generator=draw) < 0.3).int()
    return {
        "weights": weights.tolist(),
        "spikes": spikes.tolist(),
        "decay": [0, 4096, 1, 2048][seed] if seed < 4 else integer(0, 4096),
        "threshold": integer(50, 2000),
        "exponent": integer(-3, 3),
    }


@pytest.fixture(scope="module")
def traces() -> list[tuple[dict, dict]]:
    python = os.environ.get("SPIKEFIT_BRIAN2_LOIHI")
    if not python:
        pytest.skip("SPIKEFIT_BRIAN2_LOIHI is not set: scripts/brian2_loihi_env.sh makes the environment")
    cases = [drawn(seed) for seed in range(CASES)]
    script = Path(__file__).with_name("brian2_loihi_trace.py")
    done = subprocess.run([python, str(script)], input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(zip(cases, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("index", range(CASES))
def test_membranes_and_spikes(traces, index):
    """A threshold register of ``m`` fires above ``64 * m``, which is at or above our ``64 * m + 1``."""
    case, theirs = traces[index]
    weight = torch.tensor(theirs["weights"])
    neurons = len(weight)
    population = Population(
        "l1",
        (neurons,),
        "lif",
        threshold=torch.full((neurons,), case["threshold"] * 64 + 1),
        bias=torch.zeros(neurons, dtype=torch.int64),
        leak=torch.full((neurons,), case["decay"]),
        reset="zero",
        unit=torch.ones(neurons, dtype=torch.float64),
    )
    assert torch.equal(population.threshold, LOIHI.round_threshold(population.threshold.double()))
    program = Program(
        (Population("input", (weight.shape[1],), "input"), population),
        (Projection("l1", "input", "l1", "dense", weight, bits=8),),
        STEPS,
        "target",
        LOIHI.name,
        LOIHI.arithmetic(),
    )
    spikes = torch.tensor(case["spikes"]).float().unsqueeze(1)
    ours = Simulator(program)(spikes, record=True)
    fired = ours.spikes["l1"][:, 0]
    assert torch.equal(fired.long(), torch.tensor(theirs["spikes"]))
    assert torch.equal(ours.membranes["l1"][:, 0] * (1 - fired.long()), torch.tensor(theirs["membranes"]))
    assert torch.equal(Simulator(program)(spikes).logits[0], fired.sum(dim=0).double()), "the kernel agrees too"


def test_the_cases_fire(traces):
    rates = [torch.tensor(theirs["spikes"]).double().mean() for _, theirs in traces]
    assert sum(rate > 0.02 for rate in rates) > CASES / 2
