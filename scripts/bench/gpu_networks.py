"""Networks of the GPU benchmark: those of spikefit, and networks of the same shapes from other libraries."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import VGG, ConvSNN, ResidualSNN
from spikefit.networks.blocks import Network
from spikefit.neurons import LIF
from spikefit.program.emulation import Emulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

Neurons = Callable[[], nn.Module]
Builder = Callable[[], tuple[nn.Module, Any]]
VGG11: tuple[int | str, ...] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class Residual(nn.Module):
    """Residual block: two convolutions with a shortcut to the current of the second."""

    def __init__(self, first: nn.Module, skip: nn.Module, conv: nn.Module, norm: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.first, self.skip, self.conv, self.norm, self.neuron = first, skip, conv, norm, neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.norm(self.conv(self.first(x)) + self.skip(x)))


class Layers:
    """Builder of the same networks from the layers of another library."""

    def __init__(self, neuron: Neurons, conv: Any, norm: Any, pool: Any, flatten: Any, linear: Any) -> None:
        self.neuron, self.conv, self.norm, self.pool = neuron, conv, norm, pool
        self.flatten, self.linear = flatten, linear

    def unit(self, inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        return [self.conv(inputs, outputs, 3, stride=stride, padding=1, bias=False), self.norm(outputs), self.neuron()]

    def vgg(self, width: float) -> nn.Sequential:
        layers, inputs = [], 3
        for entry in VGG11:
            if isinstance(entry, str):
                layers.append(self.pool(2))
            else:
                layers += self.unit(inputs, max(1, int(entry * width)))
                inputs = max(1, int(entry * width))
        return nn.Sequential(*layers, self.flatten(), self.linear(inputs, 10, bias=False))

    def resnet(self, width: float) -> nn.Sequential:
        """ResNet-18 with the shortcut added before the norm, as in :class:`~spikefit.networks.ResidualSNN`."""
        sizes = [int(64 * width * 2**stage) for stage in range(4)]
        layers, inputs = self.unit(3, sizes[0]), sizes[0]
        for stage, outputs in enumerate(sizes):
            for block in range(2):
                stride = 2 if stage and not block else 1
                skip = self.conv(inputs, outputs, 1, stride=stride, bias=False) if stride > 1 else nn.Identity()
                after = [self.conv(outputs, outputs, 3, padding=1, bias=False), self.norm(outputs), self.neuron()]
                layers.append(Residual(nn.Sequential(*self.unit(inputs, outputs, stride)), skip, *after))
                inputs = outputs
        return nn.Sequential(*layers, self.pool(4), self.flatten(), self.linear(inputs, 10, bias=False))

    def conv_snn(self, width: float) -> nn.Sequential:
        first, second = int(64 * width), int(128 * width)
        body = [*self.unit(3, first), self.pool(2), *self.unit(first, second), self.pool(2), self.flatten()]
        hidden = [self.linear(second * 64, 256, bias=False), self.neuron()]
        return nn.Sequential(*body, *hidden, self.linear(256, 10, bias=False))


def ours(name: str, width: float, steps: int, levels: int, chip: bool, device: torch.device) -> Network:
    """A network of spikefit, with codebooks of ``levels`` values (if not 0) and, if ``chip``, Loihi's integers."""
    neuron = partial(LIF, decay=0.5, reset="zero")
    if name == "VGG-11":
        network: Network = VGG((3, 32, 32), 10, plan="vgg11", width=width, neuron=neuron)
    elif name == "ResNet-18":
        channels = tuple(int(c * width) for c in (64, 128, 256, 512))
        network = ResidualSNN((3, 32, 32), 10, channels=channels, depth=2, neuron=neuron)
    else:
        channels = int(64 * width), int(128 * width)
        network = ConvSNN((3, 32, 32), 10, channels=channels, hidden=(256,), neuron=neuron)
    if levels:
        for _, layer in network.named_synapses():
            attach(layer, Codebook(layer.weight.detach(), levels=levels, bits=8))
    if chip:
        context = DeploymentContext(HardwareTarget.load("loihi"), steps, InputKind.SPIKES)
        network.emulation = Emulator(context)
    return network.to(device)


def peers(name: str, width: float, frames: Tensor, device: torch.device) -> dict[str, Builder]:
    """Builders of the ReLU network of the same shape, and of SpikingJelly's in both memory layouts."""
    steps, batch = frames.shape[:2]
    last = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)

    def make(layers: Layers) -> nn.Sequential:
        return {"VGG-11": layers.vgg, "ResNet-18": layers.resnet, "ConvSNN": layers.conv_snn}[name](width)

    def relu() -> tuple[nn.Module, Any]:
        layers = Layers(nn.ReLU, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.Flatten, nn.Linear)
        network = make(layers).to(device).to(memory_format=torch.channels_last)
        return network, lambda: network(last).unflatten(0, (steps, batch)).mean(0)

    def jelly(channels_last: bool) -> tuple[nn.Module, Any]:
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def lif() -> nn.Module:
            options = {"tau": 2.0, "decay_input": False, "v_reset": 0.0, "detach_reset": True, "step_mode": "m"}
            return neuron.LIFNode(**options, surrogate_function=surrogate.ATan())  # selects Triton by itself

        parts = layer.Conv2d, layer.BatchNorm2d, layer.AvgPool2d, layer.Flatten, layer.Linear
        network = make(Layers(lif, *parts)).to(device)
        functional.set_step_mode(network, "m")
        x = frames
        if channels_last:
            network, x = network.to(memory_format=torch.channels_last), last.unflatten(0, (steps, batch))

        def forward() -> Tensor:
            functional.reset_net(network)
            return network(x).mean(0)

        return network, forward

    return {
        "ReLU, channels last": relu,
        "SpikingJelly": partial(jelly, False),
        "SpikingJelly, channels last": partial(jelly, True),
    }
