"""Comparison of all spikes of a program with those of the trained network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikefit.networks.blocks import Network
from spikefit.program.ir import Program
from spikefit.program.simulate import Simulator
from spikefit.prune.compact import compact
from spikefit.prune.scores.recording import recorded_spikes
from spikefit.quantize.base import exact_weight


@dataclass(frozen=True)
class Parity:
    """Result of a comparison, summed over populations.

    Attributes:
        compared: number of compared values: neurons x steps x samples.
        mismatches: how many values differ although the program's membrane is not on its threshold.
        ties: how many values differ while the membrane is within the tolerance of its threshold, or after such a
            difference in the same sample, in the same population or a later one.
        by_population: mismatches of each spiking population.
    """

    compared: int
    mismatches: int
    ties: int
    by_population: dict[str, int]

    @property
    def agreement(self) -> float:
        """Share of neurons x steps x samples whose spikes are equal."""
        return 1 - (self.mismatches + self.ties) / max(1, self.compared)


@torch.no_grad()
def compare(network: Network, program: Program, inputs: Tensor, tolerance: float | None = 1e-9) -> Parity:
    """Compare all spikes of ``program`` with those of ``network``, evaluated in float64 with its current weights.

    An ``exact`` program is compared with the network's real numbers, even if the network emulates a chip. A ``target``
    program of a network that emulates a chip is compared with the emulating network, whose integers are exact.

    Args:
        network: trained; its dead units are left out, as in the program.
        program: lowered from ``network``, in either precision.
        inputs: ``[T, B, ...]``.
        tolerance: distance of a membrane from its threshold, in the program's units, within which a difference counts
            as a tie; None if nothing is rounded, so that every difference is a mismatch.
    """
    expected = (
        _emulated(network, inputs) if network.emulation and program.precision == "target" else _own(network, inputs)
    )
    simulation = Simulator(program)(inputs, record=True)
    compared = mismatches = ties = 0
    by_population: dict[str, int] = {}
    decided = torch.zeros(inputs.shape[:2], dtype=torch.bool)  # [T, B]: whether there was a tie up to this step
    for population in program.populations:
        if not population.spiking:
            continue
        assert population.threshold is not None
        different = expected[population.name] != simulation.spikes[population.name]
        threshold = population.threshold.view(-1, *[1] * (len(population.shape) - 1))
        near = (simulation.membranes[population.name] - threshold).abs() <= (-1 if tolerance is None else tolerance)
        decided |= (different & near).flatten(2).any(2).cumsum(0) > 0
        followed = decided.view(*decided.shape, *[1] * (different.dim() - 2))
        wrong = int((different & ~near & ~followed).sum())
        by_population[population.name] = wrong
        compared += different.numel()
        mismatches += wrong
        ties += int(different.sum()) - wrong
    return Parity(compared, mismatches, ties, by_population)


def _own(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    """Spikes of the living units, by block, computed from the network's real numbers in float64."""
    reference = compact(network)
    reference.emulation = None
    for _, layer in reference.eval().named_synapses():  # weights are frozen, so that float64 can't quantize them anew
        weight = exact_weight(layer)
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.weight = nn.Parameter(weight)
    reference.double()
    with recorded_spikes(reference) as spikes:
        reference(inputs.double())
    return spikes


def _emulated(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    """Spikes of the living units, by block, of a network that computes with a chip's integers."""
    training = network.training
    with recorded_spikes(network.eval()) as spikes:
        network(inputs.to(next(network.parameters()).device))
    network.train(training)
    alive = {name: block.neuron.alive for name, block in network.named_blocks() if block.neuron is not None}
    return {name: fired[:, :, alive[name]].cpu() for name, fired in spikes.items()}
