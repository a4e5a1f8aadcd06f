"""The synapse part of the energy, compared with SANA-FE's count of the spikes of our networks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.joules import joules

from spikefit.hardware.energy import estimate
from spikefit.hardware.placement.base import as_kernel
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN
from spikefit.neurons import IF, LIF
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator

sanafe = pytest.importorskip("sanafe", reason="sanafe is not installed")

STEPS, LOIHI = 5, HardwareTarget.load("loihi")
DENSE_SYNAPSE_J = 35.5e-12  # loihi_dense_synapse of its loihi.yaml
NETWORKS = {
    "dense": partial(MLP, (2, 4, 4), 5, (24, 12), neuron=partial(LIF, decay=0.5, reset="zero"), readout="spikes"),
    "conv": partial(ConvSNN, (2, 6, 6), 4, (3, 5), (10,), pool=2, neuron=partial(IF, reset="subtract")),
    "stride": partial(ConvSNN, (2, 6, 6), 4, (3,), (8,), pool=1, stride=2, neuron=partial(IF, reset="zero")),
}


def connections(program: Program, name: str) -> list[tuple[int, int]]:
    """Source and target of each live synapse of a projection, by pushing one spike at a time through it."""
    projection = program.projections[[p.name for p in program.projections].index(name)]
    source = program.population(projection.source)
    kernel = as_kernel(projection, source.shape)
    signal = torch.eye(source.neurons, dtype=torch.float64).view(-1, *source.shape)
    if signal.dim() == 2:
        signal = signal.unsqueeze(-1).unsqueeze(-1)
    if projection.pool > 1:
        signal = torch.nn.functional.avg_pool2d(signal, projection.pool, divisor_override=1)
    live = kernel.live.double()
    options = {"stride": kernel.stride, "padding": kernel.padding, "dilation": kernel.dilation}
    reached = torch.nn.functional.conv2d(signal, live, **options).flatten(1)
    return [(int(i), int(j)) for i, j in reached.nonzero()]


def synapse_energy(spikes: torch.Tensor, synapses: list[tuple[int, int]], targets: int) -> float:
    """Joule that SANA-FE spends in synapses on ``spikes`` ``[T, neurons]``; the targets only gather."""
    arch = sanafe.load_arch(str(Path(sanafe.__file__).parent / "examples" / "loihi.yaml"))
    net = sanafe.Network()
    senders = net.create_neuron_group("senders", spikes.shape[1])
    receivers = net.create_neuron_group(
        "receivers",
        targets,
        model_attributes={"threshold": 1e9},
        soma_hw_name="loihi_lif",
        default_synapse_hw_name="loihi_dense_synapse",
    )
    first, second = arch.tiles[0].cores[0], arch.tiles[3].cores[1]
    for index, (neuron, train) in enumerate(zip(senders, spikes.T, strict=True)):
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{index}]", model_attributes={"spikes": train.int().tolist()})
        neuron.map_to_core(first)
    for neuron in receivers:
        neuron.map_to_core(second)
    senders.connect_neurons_sparse(receivers, {"weight": [1.0] * len(synapses)}, synapses)
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    return float(chip.sim(len(spikes) + 1, timing_model="simple")["energy"]["synapse"])


@pytest.mark.parametrize("pruned", [0.0, 0.4])
@pytest.mark.parametrize("name", NETWORKS)
def test_energy_of_synapses(name, pruned):
    torch.manual_seed(4)
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        for _, layer in network.named_synapses():
            layer.weight *= 4
            layer.weight[torch.rand_like(layer.weight) < pruned] = 0
    program = lower(network, context(STEPS))
    shape = program.populations[0].shape
    inputs = (torch.rand(STEPS, 1, *shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    ours = Simulator(program)(inputs, record=True)
    signals = {"input": inputs, **ours.spikes}
    target = replace(
        LOIHI, energy=replace(LOIHI.energy, synop_j=SourcedValue(DENSE_SYNAPSE_J, "SANA-FE loihi.yaml", "T"))
    )
    energy = estimate(target, ours.activity, None, STEPS, "target", program)
    theirs = 0.0
    for projection in program.projections:
        sent, neurons = signals[projection.source], program.population(projection.target).neurons
        assert sent.any()
        theirs += synapse_energy(sent.flatten(1), connections(program, projection.name), neurons)
    assert energy.terms["synops"] == joules(theirs)
    assert theirs > 0
