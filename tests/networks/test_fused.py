"""Fused blocks compared with blocks that run part by part; gradient checkpointing and torch.compile."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from spikefit.networks import MLP, Block, ConvSNN, PositiveBatchNorm, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.prune.scores.recording import recorded_spikes

NEURONS = [LIF, IF, ParametricLIF, partial(LinearLeakIF, reset="zero"), partial(LIF, surrogate="triangle")]
NETWORKS = {
    "conv": partial(ConvSNN, channels=(4, 6), hidden=(8,)),
    "max pool": partial(ConvSNN, channels=(4,), hidden=(), pool_kind="max"),
    "uneven pool": partial(ConvSNN, channels=(4,), hidden=(), pool=3, readout="spikes"),
    "dense": partial(MLP, hidden=(9, 7)),
    "residual": partial(ResidualSNN, channels=(4, 6)),
}


def outcome(network, x):
    """Output, gradients and running statistics after one step of training."""
    network.zero_grad()
    output = network(x)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"output": output.detach(), **gradients, **dict(network.named_buffers())}


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("constant", [True, False])
def test_watching_a_network_changes_nothing(name, neuron, training, constant, wake):
    """Hooks on the neurons make every block run part by part."""
    torch.manual_seed(0)
    network = NETWORKS[name]((2, 9, 9), 3, neuron=neuron).double()
    x = torch.rand(1 if constant else 4, 5, 2, 9, 9, dtype=torch.float64).expand(4, -1, -1, -1, -1)
    wake(network, x)
    for _, block in network.named_blocks():
        if block.neuron is not None and len(block.neuron.alive) > 3:
            block.neuron.alive[1] = False
    network.train(training)
    watched = copy.deepcopy(network)
    with recorded_spikes(watched) as spikes:
        expected = outcome(watched, x)
    for key, value in outcome(network, x).items():
        if value is not None or expected[key] is not None:
            torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9, msg=key)
    assert all(s.any() for s in spikes.values()), "a network that is silent shows nothing"


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_checkpointing_changes_nothing(name):
    """Running statistics included, although every block runs twice."""
    torch.manual_seed(0)
    network = NETWORKS[name]((2, 9, 9), 3)
    other = copy.deepcopy(network)
    other.gradient_checkpointing = True
    x = torch.rand(4, 5, 2, 9, 9) * 3
    for _ in range(2):
        expected, ours = outcome(network, x), outcome(other, x)
    for key, value in ours.items():
        assert torch.equal(value, expected[key]), key


def test_gradient_checkpointing_keeps_less():
    """What autograd saves for the backward pass, in bytes: the inputs of the blocks instead of the currents."""
    saved = {}
    for checkpointing in (False, True):
        network = ConvSNN((2, 16, 16), 3, channels=(16, 16), hidden=())
        network.gradient_checkpointing = checkpointing
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.rand(8, 4, 2, 16, 16)).sum()
        saved[checkpointing] = sum(storages.values())
    assert saved[True] < 0.5 * saved[False]


def test_only_the_current_of_a_block_is_kept_for_the_backward_pass():
    block = Block(nn.Conv2d(2, 8, 3, padding=1, bias=False), PositiveBatchNorm(8), LIF(8), pool=2)
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.rand(4, 3, 2, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x)
    current = 4 * 3 * 8 * 8 * 8 * 4
    small = 4096  # weights, and vectors of one value a channel
    assert sum(storages.values()) <= current + x.numel() * 4 + small


def test_a_compiled_network_is_the_network_and_can_still_be_watched():
    """torch.compile without its code generator, which would need a C++ compiler."""
    torch.manual_seed(0)
    network = ConvSNN((1, 8, 8), 3, channels=(4,), hidden=(6,))
    x = torch.rand(3, 2, 1, 8, 8)
    compiled = copy.deepcopy(network)
    compiled.compile(backend="eager")
    for key, value in outcome(compiled, x).items():
        torch.testing.assert_close(value, outcome(copy.deepcopy(network), x)[key], msg=key)
    with recorded_spikes(compiled) as spikes:
        compiled(x)
    assert set(spikes) == {"conv1", "fc1"}


def test_a_network_with_other_neurons_runs_part_by_part():
    class Silent(LIF):
        def forward(self, current):
            return torch.zeros_like(current)

    block = Block(nn.Conv2d(1, 2, 3), PositiveBatchNorm(2), Silent(2))
    assert not block(torch.rand(2, 1, 1, 5, 5) * 10).any()
