"""Training passes of a network as CUDA graphs: one order of the host for a forward pass, one for its backward pass.

A step of a small or thin network costs the host more time than the GPU: each of its several hundred kernels is launched
from Python. A CUDA graph records them once and replays them (``torch.cuda.make_graphed_callables``).
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikefit.networks.blocks import Network


class _OnFrames(nn.Module):
    """The network on frames; ``steps`` says how often one frame is repeated, None that there is one a step."""

    def __init__(self, network: Network, steps: int | None) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x if self.steps is None else x.expand(self.steps, *x.shape[1:]))


class CapturedNetwork:
    """A network whose training passes are replayed from a CUDA graph as long as nothing about them changes.

    A graph holds what Python decided when it was recorded: sizes, modes, switches of quantizers, thresholds and other
    numbers of modules, the tensors that the kernels read. All of that is compared before each pass. What was not
    recorded yet runs as ever, and is recorded once it has come up more than ``patience`` times; the last batch of an
    epoch, which may be smaller, has a recording of its own. Values of tensors may change in place at any time.

    Passes are never replayed on a CPU, in evaluation, without gradients, with gradient checkpointing, or while a hook
    watches a module. Gradients must be set to None between two backward passes: a graph writes them to the same place
    every time.

    Args:
        network: to be trained.
        patience: passes of a kind before one is recorded.
    """

    KEPT = 2  # kinds of passes that are remembered, the latest

    def __init__(self, network: Network, patience: int = 3) -> None:
        self.network, self.patience = network, patience
        self._times: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, nn.Module] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the graph: a copy records its own."""
        return {**self.__dict__, "_times": {}, "_recorded": {}}

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output for ``x`` ``[T, B, ...]``."""
        if not self._possible(x):
            return self.network(x)
        constant = len(x) > 1 and x.stride(0) == 0
        frames = x[:1] if constant else x
        kind = self._kind(x, constant)
        self._times[kind] = self._times.pop(kind, 0) + 1  # the latest is the last
        for old in list(self._times)[: -self.KEPT]:
            del self._times[old]
            self._recorded.pop(old, None)
        if self._times[kind] <= self.patience:
            return self.network(x)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(frames, len(x) if constant else None)
        return self._recorded[kind](frames)

    def _possible(self, x: Tensor) -> bool:
        network = self.network
        if not (x.is_cuda and network.training and torch.is_grad_enabled()) or network.gradient_checkpointing:
            return False
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        hooked = (getattr(module, kind) for module in network.modules() for kind in hooks)
        return not any(hooked)

    def _kind(self, x: Tensor, constant: bool) -> Hashable:
        """All that a recorded pass takes for granted."""
        network = self.network
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        plain = tuple(
            (id(module), *(value for value in vars(module).values() if isinstance(value, bool | int | float | str)))
            for module in network.modules()
        )
        weights = tuple((p.data_ptr(), p.requires_grad) for p in network.parameters())
        buffers = tuple(buffer.data_ptr() for buffer in network.buffers())
        return x.shape, x.dtype, constant, autocast, plain, weights, buffers, id(network.emulation)

    def _record(self, frames: Tensor, steps: int | None) -> nn.Module:
        module = _OnFrames(self.network, steps)  # in training, whatever single modules of the network are
        dtype = torch.get_autocast_dtype("cuda")
        # A weight that autocast has converted outside of the graph would not be converted anew in it.
        uncached = torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False)
        with unchanged_buffers(self.network), uncached:
            sample = (frames.detach().clone(),)
            torch.cuda.make_graphed_callables(module, sample, allow_unused_input=True)  # in place
        return module


@contextmanager
def unchanged_buffers(network: Network) -> Iterator[None]:
    """Passes in here leave the values of the network's buffers as they are: the recording warms up with three."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
