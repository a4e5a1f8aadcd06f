"""Recording of the outputs of layers and neurons during a forward pass, with hooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from spikefit.networks.blocks import Network


@contextmanager
def forward_hooks(
    network: Network, modules: Mapping[str, nn.Module], hook: Callable[[str, Tensor, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call ``hook(name, input, output)`` after each of ``modules``; a returned tensor replaces the output.

    Within the context a compiled network runs uncompiled, because the compiled code does not contain the new hooks.
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
    """A dictionary with the spikes ``[T, B, K, ...]`` of each block's neurons, updated by every forward pass."""
    spikes: dict[str, Tensor] = {}
    neurons = {name: block.neuron for name, block in network.named_blocks() if block.neuron is not None}
    with forward_hooks(network, neurons, lambda name, _, output: spikes.__setitem__(name, output)):
        yield spikes
