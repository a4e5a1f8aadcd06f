"""Exported networks run in other libraries with the same spikes of every neuron at every step."""

from functools import partial

import pytest
import torch
from helpers import interop_cases as cases
from helpers.deployment_contexts import context

from spikefit.networks import MLP
from spikefit.neurons import IF, LIF
from spikefit.nir.write import write_nir
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator

for package in ("nir", "nirtorch"):
    pytest.importorskip(package, reason=f"{package} is not installed")

READABLE = [
    ("snntorch", "conv lif"),
    ("snntorch", "mlp lif"),
    ("spikingjelly", "conv lif"),
    ("spikingjelly", "conv if"),
    ("spikingjelly", "mlp lif"),
    ("norse", "conv lif"),
    ("norse", "conv if"),
    ("norse", "mlp lif"),
    ("sinabs", "conv if, subtract"),  # sinabs 3.1.3 can't read a LIF on a map: it takes the truth of an array
    ("sinabs", "mlp lif, subtract"),
]


@pytest.mark.parametrize(("library", "network"), READABLE)
def test_the_library_sends_our_spikes(tmp_path, library, network):
    pytest.importorskip(library, reason=f"{library} is not installed")
    trained, inputs = cases.trained(network), cases.samples()
    program = lower(trained, context(cases.STEPS, True))
    path = write_nir(program, tmp_path / "network.nir", dialect=library)
    theirs = cases.quietly(cases.RUNNERS[library], str(path), inputs)
    ours = Simulator(program)(inputs, record=True)
    spiking = [population.name for population in program.populations if population.spiking]
    assert len(spiking) >= 2
    for name in spiking:
        spikes = theirs[f"{name}_neurons"]
        assert spikes.shape == ours.spikes[name].shape
        assert 0.02 < float(spikes.mean()) < 0.9
        assert int((spikes != ours.spikes[name]).sum()) == 0, name
    logits = trained.logits(theirs["output"].double())
    assert torch.allclose(logits, ours.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("library", "neuron"),
    [
        ("snntorch", partial(LIF, decay=0.5, reset="zero")),
        ("spikingjelly", partial(IF, reset="zero")),
        ("norse", partial(IF, reset="zero")),
        ("sinabs", partial(IF, reset="subtract")),
    ],
)
def test_a_membrane_on_its_threshold_fires_everywhere(tmp_path, library, neuron):
    """Ours fire at the threshold, NIR's above it: weights of 1/4 put many membranes exactly there."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    torch.manual_seed(0)
    network = MLP((10,), 4, (16, 12), neuron, readout="spikes")
    with torch.no_grad():
        for _, block in network.named_blocks():
            block.norm = None
            block.synapses.weight.normal_(0.05, 0.4).mul_(4).round_().div_(4)
    inputs = (torch.rand(6, 12, 10) < 0.5).float()
    program = lower(network, context(6))
    path = write_nir(program, tmp_path / "network.nir", dialect=library)
    theirs = cases.quietly(cases.RUNNERS[library], str(path), inputs)
    ours = Simulator(program)(inputs, record=True)
    for name in ("fc1", "fc2", "readout"):
        assert int((ours.membranes[name] == 1).sum()) > 10
        assert torch.equal(theirs[f"{name}_neurons"].double(), ours.spikes[name])


def test_snntorch_s_idea_of_an_if_is_why_it_gets_none(tmp_path):
    """The refusal of the dialect is no caution: written for another library, an IF leaks in snnTorch."""
    pytest.importorskip("snntorch", reason="snntorch is not installed")
    import nir
    from snntorch.import_nir import _nir_to_snntorch_module

    neuron = _nir_to_snntorch_module(nir.IF(r=torch.ones(3).numpy(), v_threshold=torch.ones(3).numpy()))
    assert float(neuron.beta) == pytest.approx(0.9)
