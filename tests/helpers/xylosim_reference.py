"""Programs on xylosim, SynSense's bit-exact simulator of Xylo (0.1.3, ``v2``: Audio 2 and 3)."""

from typing import Any

import numpy as np
import torch

from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.program.ir import Population, Program, Projection

XYLO = HardwareTarget.load("xylo_audio3")


class XyloReferee:
    """A dense feed-forward program as one Xylo layer: all hidden populations in its recurrent matrix.

    Spikes of a hidden neuron arrive in the next step, so that population ``k`` (from 0) runs ``k`` steps late.
    """

    def __init__(self, program: Program) -> None:
        from xylosim.v2 import XyloLayer, XyloSynapse

        self.program = program
        *self.hidden, self.output = program.populations[1:]
        self.sources = program.populations[0]
        starts = np.cumsum([0, *(population.neurons for population in self.hidden)])
        self.starts = {population.name: int(start) for population, start in zip(self.hidden, starts, strict=False)}
        total = int(starts[-1])
        inputs: list[list[Any]] = [[] for _ in range(self.sources.neurons)]
        recurrent: list[list[Any]] = [[] for _ in range(total)]
        outputs: list[list[Any]] = [[] for _ in range(total)]
        for projection in program.projections:
            target = self.starts.get(projection.target, 0)
            rows = inputs if projection.source == self.sources.name else recurrent
            rows = outputs if projection.target == self.output.name else rows
            first = self.starts.get(projection.source, 0)
            for out, source in np.argwhere(projection.weight.numpy() != 0):
                weight = int(projection.weight[out, source])
                rows[first + source].append(XyloSynapse(target + int(out), 0, weight))
        self.kept = (inputs, recurrent, outputs)  # the simulator holds pointers to them
        self.layer = XyloLayer(
            inputs,
            recurrent,
            outputs,
            [[] for _ in range(total)],
            self.of_hidden("threshold"),
            constants(self.output, "threshold"),
            True,
            self.of_hidden("bias"),
            constants(self.output, "bias"),
            0,
            0,
            0,
            self.of_hidden("leak"),
            constants(self.output, "leak"),
            [[shift] for population in self.hidden for shift in constants(population, "synaptic_leak")],
            [[shift] for shift in constants(self.output, "synaptic_leak")],
            "referee",
        )

    def of_hidden(self, name: str) -> list[int]:
        """A constant of each hidden neuron."""
        return [value for population in self.hidden for value in constants(population, name)]

    def __call__(self, counts: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Spikes and membranes (after the reset) ``[T, neurons]`` by population, for input spikes ``[T, inputs]``."""
        self.layer.reset_all()
        steps, late = len(counts), len(self.hidden)
        padded = np.concatenate([counts, np.zeros((late, counts.shape[1]))]).astype(int)
        fired = np.array(self.layer.evolve(padded.tolist()))
        recurrent = np.array(self.layer.rec_recurrent_spikes)
        hidden, membranes = np.array(self.layer.rec_v_mem).T, {}
        spikes = {}
        for delay, population in enumerate(self.hidden):
            first = self.starts[population.name]
            part = slice(first, first + population.neurons)
            spikes[population.name] = recurrent[delay : delay + steps, part]
            membranes[population.name] = hidden[delay : delay + steps, part]
        spikes[self.output.name] = fired[late:]
        membranes[self.output.name] = np.array(self.layer.rec_v_mem_out).T[late:]
        return spikes, membranes


def constants(population: Population, name: str) -> list[int]:
    """A constant of each neuron."""
    return [int(value) for value in getattr(population, name)]


def drawn(seed: int) -> Program:
    """A random program of one to three hidden layers; every neuron has its own threshold and shifts."""
    draw = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high + 1, shape, generator=draw)

    widths = [int(width) for width in integers(3, 14, int(integers(2, 4, 1)))]
    populations = [Population("input", (9,), "input", input_kind=InputKind.GRADED)]
    projections = []
    for index, width in enumerate(widths):
        before, last = populations[-1], index == len(widths) - 1
        weight = integers(-11, 12, width, before.neurons)
        weight[torch.rand(weight.shape, generator=draw) < 0.3] = 0
        bias = integers(-30, 30, width) if index == 0 else torch.zeros(width, dtype=torch.int64)
        constants = {"leak": integers(1, 6, width), "synaptic_leak": integers(1, 4, width)}
        name = f"l{index}"
        populations.append(
            Population(
                name,
                (width,),
                "cuba_lif",
                threshold=integers(20, 500, width),
                bias=bias,
                unit=torch.ones(width, dtype=torch.float64),
                max_spikes=1 if last else 31,
                **constants,
            )
        )
        projections.append(Projection(name, before.name, name, "dense", weight, bits=8))
    return Program(tuple(populations), tuple(projections), 30, "target", XYLO.name, XYLO.arithmetic())
