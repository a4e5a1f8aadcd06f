"""The size in a report equals the size of the bundle's tensors."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context

from spikefit.deploy.deployment import Deployment
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.neurons import LIF, CubaLIF, LinearLeakIF
from spikefit.program.bundle import read_bundle, write_bundle
from spikefit.program.ir import Population, Program, Projection
from spikefit.program.model_size import float_bytes, model_size
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize import AxonCodebook, Codebook, RescaledUniform, Ternary, Uniform
from spikefit.quantize.base import attach

RESETTING = partial(LIF, reset="zero")


def network(wake, quantizer=Codebook, cls=ConvSNN, neuron=RESETTING, mask=False, readout="membrane"):
    torch.manual_seed(0)
    options = {} if cls is MLP else {"channels": (4, 6)}
    options |= {} if cls is ResidualSNN else {"hidden": (8,)}
    net = cls((1, 8, 8), 4, neuron=neuron, readout=readout, **options)
    for _, synapses in net.named_synapses():
        if quantizer:
            attach(synapses, quantizer(synapses.weight.detach()))
        if mask:
            attach_mask(synapses).live.copy_(torch.rand(synapses.weight.shape) < 0.4)
    return wake(net, (torch.rand(4, 8, 1, 8, 8) < 0.5).float())


CASES = {
    "float": {"quantizer": None},
    "layer": {},
    "channel": {"quantizer": partial(Codebook, scope="channel")},
    "core": {"quantizer": partial(Codebook, scope="core", core_outputs=3)},
    "uniform": {"quantizer": Uniform},
    "rescaled": {"quantizer": RescaledUniform, "cls": ResidualSNN},
    "axon": {
        "quantizer": AxonCodebook,
        "chip": "truenorth",
        "neuron": partial(LinearLeakIF, reset="zero"),
        "readout": "spikes",
    },
    "pruned": {"quantizer": partial(Codebook, zero="none"), "mask": True},
    "residual": {"cls": ResidualSNN},
    "cuba": {"cls": MLP, "neuron": CubaLIF, "chip": "xylo_audio2", "readout": "spikes"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_report_s_bytes_are_those_of_the_tensors_in_the_file(wake, tmp_path, case):
    safetensors = pytest.importorskip("safetensors", reason="bundles need safetensors")
    options = dict(CASES[case])
    target = HardwareTarget.load(options.pop("chip", "loihi"))
    net = network(wake, **options)
    deployment = Deployment(net, context(4, target=target), parity_samples=0)
    x = (torch.rand(4, 2, 1, 8, 8) < 0.5).float()
    with torch.no_grad():
        deployment.update(x, torch.zeros(2, dtype=torch.int64), net.logits(net(x)))
    report = deployment.report()
    path = write_bundle(deployment.program, tmp_path / "bundle.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
    assert report.model_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert report.model_bytes == model_size(read_bundle(path), deployment.exact).bytes
    assert any("synaptic_leak" in name for name in tensors) == (case == "cuba")
    weights = [projection.weight for projection in deployment.program.projections]
    assert sum(f".weight.{part}" in name for name in tensors for part in ("values",)) == len(weights)
    assert report.float_bytes == float_bytes(deployment.exact) >= 4 * sum(weight.numel() for weight in weights)


# 4 x 1 x 9, 6 x 4 x 9, 8 x (6 x 2 x 2), 4 x 8; kernels count once, not at each of 64 and 16 positions.
WEIGHTS = 36 + 216 + 192 + 32
# Threshold and bias of 4 + 6 + 8 units, one leak a layer; the readout's bias, which is zero, once.
CONSTANTS = 2 * 18 + 3 + 1


def sizes(net):
    deployment = Deployment(net, context(4, target="loihi"))
    return model_size(deployment.program, deployment.exact)


@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [(partial(Codebook, levels=4, bits=8), 2), (partial(Codebook, levels=2, bits=4), 1), (Ternary, 2)],
)
def test_networks_as_they_are_lowered(wake, quantizer, bits):
    size = sizes(network(wake, quantizer))
    assert size.bits_per_weight == bits
    assert size.float_bytes == 4 * (WEIGHTS + CONSTANTS)
    assert size.bytes < size.float_bytes


def test_a_float_network_is_stored_as_the_integers_that_it_was_rounded_to(wake):
    size = sizes(network(wake, None))
    assert 5 < size.bits_per_weight <= 8
    assert size.float_bytes == 4 * (WEIGHTS + CONSTANTS)


def test_dead_units_take_nothing(wake):
    """Channels 1 and 3 of the first convolution: with them go 2 x 9 kernels of their own and 6 x 2 x 9 of the next."""
    net = network(wake, partial(Codebook, levels=4, bits=8))
    whole = sizes(net)
    net.block("conv1").neuron.alive[[1, 3]] = False
    left = sizes(net)
    assert left.float_bytes == 4 * (WEIGHTS - 18 - 108 + CONSTANTS - 2 * 2)
    assert left.bytes <= whole.bytes - (18 + 108) * 2 // 8


def test_types_of_inputs_are_shared_out_to_the_weights():
    """64 inputs of 2 types and 2 outputs: a bit a synapse and a bit an input."""
    rows = torch.tensor([[5, 7] * 31 + [0, 0], [3, 0] + [3, 9] * 31])
    source, target = Population("input", (64,), "input"), Population("out", (2,), "readout", bias=torch.zeros(2))
    out = Projection("out", "input", "out", "dense", rows, axon_types=torch.tensor([0, 1] * 32))
    program = Program((source, target), (out,), 4)
    size = model_size(program, program)
    assert size.bits_per_weight == (128 + 64) / 128
    # 16 bytes of bits and 4 values; 8 of types and 2 values; one bias.
    assert (size.bytes, size.float_bytes) == (16 + 4 + 8 + 2 + 4, 4 * (128 + 1))
