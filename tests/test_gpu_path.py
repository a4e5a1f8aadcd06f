"""A training step with the kernels of a CUDA device, in Triton's interpreter, compared with the same step on a CPU.

The tensors are on the CPU; only the choice of kernels is that of a GPU. If a GPU is available, they are on the GPU.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from spikefit.functional import lif, quantize
from spikefit.networks import MLP, VGG, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

NETWORKS = {
    "ConvSNN": lambda neuron: ConvSNN((2, 9, 9), 3, channels=(4, 5), hidden=(6,), neuron=neuron),
    "VGG": lambda neuron: VGG((1, 16, 16), 3, plan="vgg9", width=0.06, neuron=neuron),
    "ResidualSNN": lambda neuron: ResidualSNN((2, 8, 8), 3, channels=(8, 9), neuron=neuron),
    "MLP": lambda neuron: MLP((7,), 3, hidden=(6, 5), neuron=neuron),
}
NEURONS = {
    "IF": IF,
    "LIF": partial(LIF, decay=0.7, reset="zero"),
    "ParametricLIF": ParametricLIF,
    "LinearLeakIF": LinearLeakIF,
}


def step(network, x, labels):
    network.zero_grad()
    loss = F.cross_entropy(network.logits(network(x)), labels)
    loss.backward()
    grads = {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}
    state = {name: buffer.cpu().clone() for name, buffer in network.named_buffers() if "running" in name}
    return {"loss": loss.detach().cpu(), **grads, **state}


# Every neuron in the two small networks, the large ones with one, and more steps than the fused kernels take.
CASES = [
    *((name, neuron, 3) for name in ("ConvSNN", "MLP") for neuron in NEURONS),
    ("VGG", "LIF", 3),
    ("ResidualSNN", "ParametricLIF", 3),
    ("ConvSNN", "LIF", 17),
    ("MLP", "ParametricLIF", 17),
]


@pytest.mark.parametrize(("name", "neuron", "steps"), CASES)
def test_a_step_is_that_of_the_cpu(name, neuron, steps, monkeypatch):
    results = []
    for gpu in (False, True):
        torch.manual_seed(0)
        network = NETWORKS[name](NEURONS[neuron]).double()
        for _, layer in network.named_synapses():
            attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
        shape = (7,) if name == "MLP" else network.input_shape
        x, labels = (torch.rand(steps, 5, *shape) < 0.5).double() * 2, torch.arange(5) % 3
        if gpu:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            network, x, labels = network.to(device), x.to(device), labels.to(device)
            for module in (lif, quantize):
                monkeypatch.setattr(module, "runs_triton", lambda tensor: True)
        results.append(step(network, x, labels))
    expected, found = results
    assert found.keys() == expected.keys()
    assert any(value.abs().max() > 0 for key, value in expected.items() if "blocks" in key)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-10, check_dtype=False, msg=key)
