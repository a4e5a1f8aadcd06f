"""Training passes of a network as CUDA graphs: one launch for a forward pass and one for its backward pass.

A step of a small network takes more time on the host than on the GPU, because each of its several hundred kernels is
launched from Python. A CUDA graph records the launches once and replays them (``torch.cuda.make_graphed_callables``).
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikefit.networks.blocks import Network
from spikefit.networks.synops import SynopCounter


class _OnFrames(nn.Module):
    """The network applied to frames: one frame repeated ``steps`` times, or one per step if ``steps`` is None."""

    def __init__(self, network: Network, steps: int | None, counter: SynopCounter | None) -> None:
        super().__init__()
        self.network, self.steps, self.counter = network, steps, counter

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.network(x if self.steps is None else x.expand(self.steps, *x.shape[1:]), self.counter)


class CapturedNetwork:
    """Wrapper of a network that replays training passes from CUDA graphs while their configuration is unchanged.

    A graph fixes everything that Python decided during recording: sizes, modes, switches of quantizers, thresholds and
    other numbers of modules, and the addresses of tensors. All of this is compared before each pass. A configuration
    without a recording runs normally; it is recorded after it has occurred more than ``patience`` times. The last batch
    of an epoch, which may be smaller, has a separate recording. Values of tensors may change in place at any time.

    Passes are never replayed on a CPU, in evaluation, without gradients, with gradient checkpointing, or while a module
    has hooks. Gradients must be set to None between two backward passes, because a graph always writes them to the same
    memory.

    Args:
        network: the network to be trained.
        patience: number of passes with one configuration before it is recorded.

    Example:
        >>> from spikefit.networks import MLP
        >>> captured = CapturedNetwork(MLP((4,), num_classes=2))
        >>> captured(torch.zeros(3, 1, 4)).shape  # on a CPU, nothing is recorded
        torch.Size([3, 1, 2])
    """

    KEPT = 2  # most recent configurations to keep

    def __init__(self, network: Network, patience: int = 3) -> None:
        self.network, self.patience = network, patience
        self._times: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, nn.Module] = {}

    def __getstate__(self) -> dict[str, Any]:
        """State without the graphs, so that a copy records its own."""
        return {**self.__dict__, "_times": {}, "_recorded": {}}

    def __call__(self, x: Tensor, counter: SynopCounter | None = None) -> Any:
        """The network's output for ``x`` ``[T, B, ...]``; with ``counter``, also the synaptic operations."""
        if not self._possible(x):
            return self.network(x, counter)
        constant = len(x) > 1 and x.stride(0) == 0
        frames = x[:1] if constant else x
        kind = self._kind(x, constant), counter
        self._times[kind] = self._times.pop(kind, 0) + 1  # moves it to the end
        for old in list(self._times)[: -self.KEPT]:
            del self._times[old]
            self._recorded.pop(old, None)
        if self._times[kind] <= self.patience:
            return self.network(x, counter)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(frames, len(x) if constant else None, counter)
        return self._recorded[kind](frames)

    def _possible(self, x: Tensor) -> bool:
        network = self.network
        if not (x.is_cuda and network.training and torch.is_grad_enabled()) or network.gradient_checkpointing:
            return False
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        hooked = (getattr(module, kind) for module in network.modules() for kind in hooks)
        return not any(hooked)

    def _kind(self, x: Tensor, constant: bool) -> Hashable:
        """Configuration that a recording depends on."""
        network = self.network
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        plain = tuple(
            (id(module), *(value for value in vars(module).values() if isinstance(value, bool | int | float | str)))
            for module in network.modules()
        )
        weights = tuple((p.data_ptr(), p.requires_grad) for p in network.parameters())
        buffers = tuple(buffer.data_ptr() for buffer in network.buffers())
        return x.shape, x.dtype, constant, autocast, plain, weights, buffers, id(network.emulation)

    def _record(self, frames: Tensor, steps: int | None, counter: SynopCounter | None) -> nn.Module:
        module = _OnFrames(
            self.network, steps, counter
        )  # in training mode, even if some modules of the network are not
        dtype = torch.get_autocast_dtype("cuda")
        # With the cache, a weight that autocast converted before the recording would not be converted in the graph.
        uncached = torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False)
        with unchanged_buffers(self.network), uncached:
            sample = (frames.detach().clone(),)
            torch.cuda.make_graphed_callables(module, sample, allow_unused_input=True)  # in place
        return module


@contextmanager
def unchanged_buffers(network: Network) -> Iterator[None]:
    """Context that restores the network's buffers afterwards, because a recording starts with three warm-up passes."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
