"""No training step waits for the device.

Waiting cannot be observed on a CPU. A step therefore runs on torch's ``meta`` device, which has shapes but no values:
every read of a value (``item()``, ``float()``, ``bool()``, ``cpu()``, indexing by a mask) fails there, and so does a
tensor made from Python numbers. On a GPU, torch itself raises an error when the host waits.
"""

from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spikefit.distillation import Distillation
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.losses import CrossEntropy, EnergyPenalty
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, VGG, ConvSNN, ResidualSNN
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.neurons import IF, LIF, CubaLIF, LinearLeakIF, ParametricLIF
from spikefit.program.emulation import Emulator
from spikefit.quantize import AxonCodebook, Codebook, PostTraining, RescaledUniform, Ternary, Uniform
from spikefit.quantize.base import latent_weight

DEVICE = "cuda" if torch.cuda.is_available() else "meta"
NETWORKS = {
    "mlp": partial(MLP, hidden=(16,)),
    "conv": partial(ConvSNN, channels=(8, 8), hidden=(12,)),
    "max_pool": partial(ConvSNN, channels=(8,), hidden=(12,), pool_kind="max"),
    "gain_norm": partial(ConvSNN, channels=(8,), hidden=(12,), norm="gain"),
    "vgg": partial(VGG, plan="vgg9", width=0.125),
    "residual": partial(ResidualSNN, channels=(8, 16)),
    "spike_counts": partial(MLP, hidden=(16,), readout="spikes"),
}
NEURONS = {
    "if": partial(IF, reset="zero"),
    "lif": LIF,
    "parametric": ParametricLIF,
    "linear": LinearLeakIF,
    "cuba": partial(CubaLIF, max_spikes=3),
}
QUANTIZERS = {
    "codebook": Codebook,
    "channel": partial(Codebook, scope="channel", zero="free"),
    "core": partial(Codebook, scope="core", core_outputs=4, zero="none"),
    "learned": partial(Codebook, grid="learned"),
    "power_of_two": partial(Codebook, grid="power_of_two", bits=8),
    "axon": AxonCodebook,
    "lsq": Uniform,
    "rescaled": RescaledUniform,
    "rescaled_layer": partial(RescaledUniform, scope="layer", coefficient="max"),
    "ternary": Ternary,
    "kmeans_after": PostTraining,
    "uniform_after": partial(PostTraining, method="uniform"),
}


class NoNumbers(TorchFunctionMode):
    """Refuses to make a tensor on the device from Python numbers, because the host waits for the copy."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.new_tensor:
            made, device = args[1], args[0].device
        elif function in (torch.tensor, torch.as_tensor):
            made, device = args[0], torch.device(kwargs.get("device") or "cpu")
        else:
            return function(*args, **kwargs)
        if device.type != "cpu" and not isinstance(made, torch.Tensor):
            raise AssertionError(f"{function.__name__}({made}) waits for the device")
        return function(*args, **kwargs)


@contextmanager
def refused():
    """Context in which waiting for the device is an error."""
    if DEVICE == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with NoNumbers():
            yield
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def make(network="conv", neuron="lif", quantizer="codebook", **options):
    module = SpikingClassifier(
        lambda shape, classes: NETWORKS[network](shape, classes, neuron=NEURONS[neuron]),
        (2, 16, 16),
        5,
        QUANTIZERS[quantizer],
        **options,
    )
    for _, _, found in module.quantized_layers():
        found.strength = 1
    return module


def step(module):
    """Check the second of two steps, because the first may load kernels and fill caches."""
    module.to(DEVICE).train()
    x, y = torch.rand(4, 8, 2, 16, 16, device=DEVICE), torch.zeros(8, dtype=torch.int64, device=DEVICE)
    optimizer = module.configure_optimizers()
    for guard in (nullcontext(), refused()):
        with guard:
            optimizer.zero_grad()
            loss = module.training_step((x, y), 1)
            loss.backward()
            module.note({name: each.grad for name, each in module.named_parameters() if each.grad is not None})
            optimizer.step()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network(network):
    step(make(network))


@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron(neuron):
    step(make("mlp", neuron))


@pytest.mark.parametrize("strength", [0, 0.5, 1])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer(quantizer, strength):
    module = make(quantizer=quantizer, prunable_synapses=True)
    for _, _, found in module.quantized_layers():
        found.strength = strength
    step(module)


@pytest.mark.parametrize("strength", [0.5, 1])
@pytest.mark.parametrize("quantizer", [name for name, factory in QUANTIZERS.items() if "Codebook" in str(factory)])
def test_frozen_codebooks(quantizer, strength):
    module = make(quantizer=quantizer)
    for _, layer, found in module.quantized_layers():
        found.strength = strength
        if isinstance(found, Codebook):
            found.freeze(latent_weight(layer))
    step(module)


def test_a_step_that_switches():
    """Callbacks raise the strength at the start of a step, while a codebook takes over."""
    module = make()
    step(module)
    with refused():
        for _, _, found in module.quantized_layers():
            found.strength = 0.3
            assert found.strength == pytest.approx(0.3)


@pytest.mark.parametrize("network", ["conv", "gain_norm"])
def test_norms_with_a_cumulative_average(network):
    module = make(network)
    for norm in module.modules():
        if isinstance(norm, PositiveBatchNorm):
            norm.momentum = None
    step(module)


def test_losses():
    step(make(loss=CrossEntropy(label_smoothing=0.1)))
    taught = Distillation("teacher.ckpt")
    taught._teacher.append(make().to(DEVICE).eval().requires_grad_(False))
    step(make(loss=taught))


PRICED = {"hardware": "loihi", "input_kind": "graded", "time_steps": 4}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_price_on_energy(network):
    step(make(network, loss=EnergyPenalty(weight=0.1), **PRICED))


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"prunable_synapses": True}])
def test_a_budget_of_energy(options):
    step(make(loss=EnergyPenalty(budget_j=1e-6), **PRICED, **options))


def test_a_price_on_energy_in_integers(no_autocast):
    emulated(network="residual", loss=EnergyPenalty(weight=0.1), **PRICED)


def test_gradient_checkpointing():
    step(make(gradient_checkpointing=True))


@pytest.fixture
def no_autocast(monkeypatch):
    """An emulated block disables autocast, which ``meta`` does not support."""
    if DEVICE == "meta":
        monkeypatch.setattr(torch, "autocast", lambda device, enabled: nullcontext())


def emulated(chip="loihi", **options):
    module = make(**options)
    context = DeploymentContext(HardwareTarget.load(chip), 4, InputKind.GRADED)
    module.network.emulation = Emulator(context)
    step(module)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "gain_norm"])
def test_every_network_in_integers(network, no_autocast):
    emulated(network=network)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_in_integers(quantizer, no_autocast):
    emulated(quantizer=quantizer)


@pytest.mark.parametrize(("neuron", "chip"), [("if", "truenorth"), ("linear", "truenorth"), ("cuba", "xylo_audio2")])
def test_other_neurons_in_integers(neuron, chip, no_autocast):
    emulated(chip, network="mlp", neuron=neuron)


@pytest.mark.parametrize(
    "read", [float, bool, Tensor.cpu, Tensor.nonzero, lambda x: x[x > 0], lambda x: x + x.new_tensor(1.0)]
)
def test_a_step_that_waits_is_found(read):
    """The check itself detects a step that waits."""
    x = torch.ones((), device=DEVICE)
    with refused(), pytest.raises((RuntimeError, AssertionError)):
        read(x)
