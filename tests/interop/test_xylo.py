"""Programs of Xylo against xylosim, spike for spike and membrane for membrane.

The two may differ where a state leaves its 16 bits within a step: xylosim saturates after every synapse, in the order
of the sources, the simulator after their sum, and it counts such steps as overflows. The cases here have none.
"""

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.interop_cases import digits
from helpers.xylosim_reference import XyloReferee, drawn

from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP
from spikefit.neurons import CubaLIF
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

pytest.importorskip("xylosim", reason="xylosim is not installed")

XYLO = HardwareTarget.load("xylo_audio3")


def equal(program: Program, inputs: torch.Tensor) -> dict[str, float]:
    """Compare every sample of ``inputs`` ``[T, B, ...]``; the largest count of each population."""
    ours = Simulator(program)(inputs, record=True)
    assert sum(layer.overflows for layer in ours.activity) == 0
    referee = XyloReferee(program)
    counts = XYLO.arithmetic().input_units(inputs.double()).flatten(2)
    for sample in range(inputs.shape[1]):
        spikes, membranes = referee(counts[:, sample].numpy())
        for population in program.populations[1:]:
            fired = ours.spikes[population.name][:, sample]
            assert torch.equal(fired.double(), torch.from_numpy(spikes[population.name]).double()), population.name
            left = ours.membranes[population.name][:, sample] - fired.long() * population.threshold
            assert torch.equal(left, torch.from_numpy(membranes[population.name]).long()), population.name
    return {name: float(fired.max()) for name, fired in ours.spikes.items()}


@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed):
    program = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.rand(30, 2, 9, generator=generator)
    spikes[torch.rand(spikes.shape, generator=generator) < 0.5] = 0
    most = equal(program, spikes)
    assert most["l0"] >= 1


def test_random_programs_fire_several_times():
    """What makes the comparison above worth something."""
    most = [equal(drawn(seed), torch.full((30, 1, 9), 0.4))["l0"] for seed in range(6)]
    assert max(most) > 3


def test_a_trained_network():
    """Digits of 4 x 4 pixels, four weight values a layer."""
    images, labels, test_images, test_labels = digits()
    torch.manual_seed(0)
    neuron = lambda units: CubaLIF(units, 0.5, 0.75, max_spikes=31)  # noqa: E731
    network = MLP((1, 4, 4), 10, (48, 32), neuron=neuron, readout="spikes", norm="gain")
    for _, layer in network.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

    def coded(batch):
        small = torch.nn.functional.avg_pool2d(batch, 2)
        return small.unsqueeze(0).expand(8, *small.shape)

    for _ in range(6):
        for batch in torch.randperm(len(labels)).split(48):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network.logits(network(coded(images[batch]))), labels[batch])
            loss.backward()
            optimizer.step()
    program = lower(network.eval(), context(8, True, target=XYLO), "target")
    right = Simulator(program)(coded(test_images)).logits.argmax(1) == test_labels
    assert right.double().mean() > 0.7
    most = equal(program, coded(test_images[:40]))
    assert most["readout"] == 1
    assert max(most.values()) > 1
