"""What layers and neurons compute during a forward pass, recorded by hooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from spikefit.networks.blocks import Network


@contextmanager
def forward_hooks(
    network: Network, modules: Mapping[str, nn.Module], hook: Callable[[str, Tensor, Tensor], Tensor | None]
) -> Iterator[None]:
    """Have ``hook(name, input, output)`` called behind each of ``modules``; what it returns replaces the output.

    A compiled network runs uncompiled meanwhile: what was compiled knows nothing of hooks that are new.
    """

    def bound(name: str) -> Callable[..., Tensor | None]:
        return lambda _module, inputs, output: hook(name, inputs[0], output)

    handles = [module.register_forward_hook(bound(name)) for name, module in modules.items()]
    compiled = network._compiled_call_impl is not None
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_spikes(network: Network) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds each neuron's spikes ``[T, B, K, ...]``, by block, after every forward."""
    spikes: dict[str, Tensor] = {}
    neurons = {name: block.neuron for name, block in network.named_blocks() if block.neuron is not None}
    with forward_hooks(network, neurons, lambda name, _, output: spikes.__setitem__(name, output)):
        yield spikes
