"""Checks of what this machine computes, on the CPU and the GPU, for ``spikefit doctor --compute``."""

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefit.cli.installed import Check
from spikefit.cuda_graphs import CapturedNetwork
from spikefit.functional.devices import has_triton
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import ConvSNN
from spikefit.networks.blocks import Network
from spikefit.program.emulation import Emulator
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

TOLERANCE = 0.05  # relative: convolutions round differently, which can make a neuron near its threshold fire


def _network() -> Network:
    torch.manual_seed(0)
    network = ConvSNN((2, 16, 16), 10, channels=(16, 32), hidden=(64,))
    for _, layer in network.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
    return network


def _trained(network: Network, device: torch.device, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Change of the network's parameters by three steps of SGD on ``device``, as CPU tensors."""
    network = network.to(device)
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = (torch.rand(4, 8, 2, 16, 16, generator=generator) < 0.4).float().to(device)
        optimizer.zero_grad(set_to_none=True)
        logits = network.logits((run or network)(x))
        F.cross_entropy(logits, torch.arange(8, device=device)).backward()
        optimizer.step()
    return [(p.detach() - old).cpu() for p, old in zip(network.parameters(), before, strict=True)]


def _on_chip() -> Network:
    network = _network()
    network.emulation = Emulator(DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES))
    return network


def _same(found: list[Tensor], expected: list[Tensor]) -> str | None:
    """Describe the difference between ``found`` and ``expected``; None if it is within the tolerance."""
    a, b = torch.cat([x.flatten() for x in found]), torch.cat([x.flatten() for x in expected])
    difference = float((a - b).norm() / b.norm())
    return None if difference < TOLERANCE else f"the change of the weights differs by {difference:.0%}"


def attempt(name: str, check: Callable[[], str | None], good: str) -> Check:
    """Run ``check`` and report its result: ``good`` if it returns None, else the problem that it returns."""
    start = time.perf_counter()
    try:
        wrong = check()
    except Exception as error:  # a broken driver or compiler may raise anything; the report shows it
        wrong = f"{type(error).__name__}: {error}".splitlines()[0]
    seconds = time.perf_counter() - start
    return Check(name, f"{good} ({seconds:.1f} s)" if wrong is None else wrong, wrong is None)


def steps(device: torch.device) -> Iterator[Check]:
    """Compare training steps on ``device`` with the same steps on the CPU."""

    def plain() -> str | None:
        return _same(_trained(_network(), device), _trained(_network(), torch.device("cpu")))

    def chip() -> str | None:
        return _same(_trained(_on_chip(), device), _trained(_on_chip(), torch.device("cpu")))

    def captured() -> str | None:
        network = _network().to(device)
        return _same(_trained(network, device, CapturedNetwork(network, patience=1)), _trained(_network(), device))

    yield attempt(f"training, {device.type}", plain, "three steps of a network with codebooks")
    yield attempt(f"chip's integers, {device.type}", chip, "three steps on the integers of loihi")
    if device.type == "cuda":
        yield attempt("CUDA graph", captured, "the same steps, replayed")


def copy_bandwidth(device: torch.device, count: int = 1 << 26) -> float:
    """Memory bandwidth of a copy on a CUDA device in GB/s, reads plus writes."""
    source = torch.empty(count, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    torch.cuda.synchronize()
    return 10 * 8 * count / 1e9 / (time.perf_counter() - start)


def gpu() -> Iterator[Check]:
    """Describe the GPU and check that its kernels compile and agree with the CPU."""
    if not torch.cuda.is_available():
        built = (
            f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch was built without CUDA"
        )
        yield Check("GPU", f"none ({built}); everything runs on the CPU")
        return
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    capability = f"compute capability {properties.major}.{properties.minor}"
    yield Check("GPU", f"{properties.name}, {memory}, {capability}", properties.major >= 7)
    triton = has_triton()
    text = version("triton") if triton else "not installed: neurons run in plain torch, which is slow"
    yield Check("triton", text, triton)
    yield Check("copy", f"{copy_bandwidth(torch.device('cuda')):.0f} GB/s")
    yield from steps(torch.device("cuda"))


def computed() -> Iterator[Check]:
    """Compare training steps on the CPU, and on the GPU if there is one."""
    yield from steps(torch.device("cpu"))
    yield from gpu()
