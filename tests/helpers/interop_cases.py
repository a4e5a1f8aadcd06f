"""Small networks trained on digits, and NIR graphs run by reference libraries."""

import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from spikefit.networks import MLP, ConvSNN
from spikefit.networks.blocks import Network
from spikefit.neurons import IF, LIF

STEPS = 4
SHAPE = (1, 8, 8)
CLASSES = 10

NETWORKS: dict[str, Callable[[], Network]] = {
    "conv lif": lambda: ConvSNN(SHAPE, CLASSES, (6, 8), (24,), neuron=partial(LIF, decay=0.6, reset="zero")),
    "conv if": lambda: ConvSNN(SHAPE, CLASSES, (6, 8), (24,), neuron=partial(IF, reset="zero"), readout="spikes"),
    "mlp lif": lambda: MLP(SHAPE, CLASSES, (32, 24), neuron=partial(LIF, decay=0.6, reset="zero"), readout="spikes"),
    "conv if, subtract": lambda: ConvSNN(SHAPE, CLASSES, (6, 8), (24,), neuron=partial(IF, reset="subtract")),
    "mlp lif, subtract": lambda: MLP(SHAPE, CLASSES, (32, 24), neuron=partial(LIF, decay=0.6, reset="subtract")),
}


@lru_cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images ``[N, 1, 8, 8]`` and labels, test images and labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1440], order[1440:]
    return images[train], labels[train], images[test], labels[test]


def train(network: Network, epochs: int = 5, rate: float = 3e-3) -> Network:
    """``network``, trained on directly coded digits."""
    images, labels, _, _ = digits()
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(48):
            optimizer.zero_grad()
            logits = network.logits(network(coded(images[batch])))
            nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
    return network.eval()


@lru_cache
def trained(name: str) -> Network:
    """One of :data:`NETWORKS`, trained; it classifies at least 85 % of the test images correctly."""
    torch.manual_seed(0)
    network = train(NETWORKS[name]())
    assert accuracy(network) > 0.85
    return network


def coded(images: Tensor) -> Tensor:
    """The same images in every step, ``[T, B, ...]``."""
    return images.expand(STEPS, *images.shape)


@torch.no_grad()
def accuracy(network: Network) -> float:
    """Share of the test images."""
    _, _, images, labels = digits()
    return float((network.logits(network(coded(images))).argmax(1) == labels).float().mean())


def samples(count: int = 12) -> Tensor:
    """Test images, coded, ``[T, count, 1, 8, 8]``."""
    return coded(digits()[2][:count])


Recorded = dict[str, Tensor]


def recording(module: nn.Module, wanted: Callable[[str], bool]) -> tuple[dict[str, list[Tensor]], list]:
    """What modules with a wanted name gave, call by call, and the hooks to remove."""
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        kept.setdefault(name, []).append((output[0] if isinstance(output, tuple) else output).detach().clone())

    hooks = [part.register_forward_hook(partial(keep, name)) for name, part in module.named_modules() if wanted(name)]
    return kept, hooks


@torch.no_grad()
def _step_by_step(
    load: Callable[[], nn.Module], inputs: Tensor, *, stateful: bool, batched: bool, dtype: torch.dtype
) -> Recorded:
    """Spikes of all nodes called ``..._neurons``, and ``output``, of a module that takes one step at a time.

    Args:
        load: makes the module at rest.
        inputs: ``[T, B, ...]``.
        stateful: whether it takes and returns its state.
        batched: whether it takes a batch, or single samples.
        dtype: that it can compute in: spikes of some libraries are float32 whatever reaches the neurons.
    """
    parts = [inputs] if batched else list(inputs.unbind(1))
    found: list[Recorded] = []
    for part in parts:
        module = load().to(dtype)
        kept, hooks = recording(module, lambda name: name.endswith("_neurons"))
        state, outputs = None, []
        for step in part.to(dtype):
            result = module(step, state) if stateful else module(step)
            output, state = result if isinstance(result, tuple) else (result, None)
            outputs.append(output)
        for hook in hooks:
            hook.remove()
        found.append({**{name: torch.stack(steps) for name, steps in kept.items()}, "output": torch.stack(outputs)})
    if batched:
        return found[0]
    return {name: torch.stack([one[name] for one in found], dim=1) for name in found[0]}


def run_snntorch(path: str, inputs: Tensor) -> Recorded:
    """One sample at a time: its Flatten takes the batch too."""
    import nir
    from snntorch.import_nir import import_from_nir

    def load() -> nn.Module:
        return import_from_nir(nir.read(path))

    return _step_by_step(load, inputs, stateful=False, batched=False, dtype=torch.float32)


def run_norse(path: str, inputs: Tensor) -> Recorded:
    """One sample at a time: its Flatten takes the batch too."""
    import nir
    import norse.torch

    def load() -> nn.Module:
        return norse.torch.from_nir(nir.read(path))

    return _step_by_step(load, inputs, stateful=True, batched=False, dtype=torch.float64)


def run_spikingjelly(path: str, inputs: Tensor) -> Recorded:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return _step_by_step(
        lambda: import_from_nir(path, dtype=torch.float64), inputs, stateful=True, batched=True, dtype=torch.float64
    )


@torch.no_grad()
def run_sinabs(path: str, inputs: Tensor) -> Recorded:
    """All steps at once, with neurons that send one spike a step and whose membrane has no floor; in float32."""
    import nir
    import sinabs.activation
    import sinabs.layers
    import sinabs.nir

    steps, batch = inputs.shape[:2]
    module = sinabs.nir.from_nir(nir.read(path), batch_size=batch)
    for part in module.modules():
        if isinstance(part, sinabs.layers.LIF | sinabs.layers.IAF):
            part.spike_fn, part.min_v_mem = sinabs.activation.SingleSpike, None
    kept, _ = recording(module, lambda name: name.endswith("_neurons"))
    output, _ = module(inputs.transpose(0, 1).flatten(0, 1))
    found = {name: calls[0] for name, calls in kept.items()} | {"output": output}
    return {name: value.unflatten(0, (batch, steps)).transpose(0, 1) for name, value in found.items()}


RUNNERS = {
    "snntorch": run_snntorch,
    "norse": run_norse,
    "sinabs": run_sinabs,
    "spikingjelly": run_spikingjelly,
}


def quietly(function: Callable[..., Recorded], *arguments: object) -> Recorded:
    """Without the libraries' warnings about their own parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)
