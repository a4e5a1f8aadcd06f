"""Blocks, and networks as ordered lists of blocks.

A block is synapses -> norm -> neuron -> pool. Its input is the output of the previous block. Before its norm it may add
the output of one earlier block (a residual input). The last block is the readout, with or without neurons. Lowering,
pruning, statistics and reports all iterate over this list.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from spikefit.errors import ConfigurationError, check_choice
from spikefit.functional.lif import fusible, normed_multi_step
from spikefit.functional.neuron_protocol import require_parts
from spikefit.networks.emulated import FoldedBlock
from spikefit.networks.memory_format import laid_out_for
from spikefit.networks.norms import PositiveBatchNorm, require_folding
from spikefit.networks.synops import SynopCounter
from spikefit.neurons import SpikingNeuron

Readout = Literal["membrane", "spikes"]
PoolKind = Literal["avg", "max"]


class IdentitySkip(nn.Module):
    """Shortcut with one synapse per neuron; all share one learned weight.

    Args:
        weight: initial weight.

    Shape:
        ``[N, C, H, W]`` -> ``[N, C, H, W]``.

    Example:
        >>> IdentitySkip(0.5)(torch.ones(1, 1, 1, 2)).tolist()
        [[[[0.5, 0.5]]]]
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` by the weight."""
        return x * self.weight


class Block(nn.Module):
    """Synapses -> norm -> neuron -> pool, with an optional residual input added before the norm.

    Args:
        synapses: ``Conv2d`` or ``Linear``; the input of a linear layer is flattened, channel first.
        norm: normalises the current of each unit; None for no norm.
        neuron: spiking neurons; None makes the block a readout that returns its current.
        pool: side and stride of the pooling window after the neurons; 1 for no pooling.
        pool_kind: ``avg`` or ``max``.
        skip_from: name of the earlier block whose output is the residual input.
        skip: shortcut that the residual input passes through: :class:`IdentitySkip` or a 1x1 ``Conv2d``.

    Shape:
        ``[T, B, ...]`` -> ``[T, B, units, ...]``.

    Raises:
        ConfigurationError: for a neuron that lacks a part, an unknown ``pool_kind``, only one of ``skip`` and
            ``skip_from``, pooling after a linear layer, or a norm that does not fold into thresholds.

    Example:
        >>> from spikefit.neurons import IF
        >>> block = Block(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4), pool=2)
        >>> block(torch.zeros(5, 2, 1, 8, 8)).shape
        torch.Size([5, 2, 4, 4, 4])
    """

    def __init__(
        self,
        synapses: nn.Conv2d | nn.Linear,
        norm: PositiveBatchNorm | None = None,
        neuron: SpikingNeuron | None = None,
        pool: int = 1,
        pool_kind: PoolKind = "avg",
        skip_from: str | None = None,
        skip: IdentitySkip | nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        check_choice("pool_kind", pool_kind, ("avg", "max"))
        if (skip_from is None) != (skip is None):
            raise ConfigurationError("skip and skip_from: expected both or neither.")
        if pool > 1 and not isinstance(synapses, nn.Conv2d):
            raise ConfigurationError(f"pool: got {pool!r} after a linear layer, expected 1: it has no map to pool.")
        if norm is not None:
            require_folding(norm)
        if neuron is not None:
            require_parts(neuron)
        self.synapses = synapses
        self.norm = norm
        self.neuron = neuron
        self.skip = skip
        self.skip_from = skip_from
        self.pool = pool
        self.pool_kind = pool_kind

    @property
    def units(self) -> int:
        """Channels (convolution) or neurons (linear) of this block."""
        layer = self.synapses
        return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features

    @property
    def is_conv(self) -> bool:
        """Whether the synapses are a convolution."""
        return isinstance(self.synapses, nn.Conv2d)

    def synaptic(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Output of the synapses, before the norm: ``[T, B, units, ...]``.

        One frame expanded in time (stride 0, a directly coded image) is processed once: ``[1, B, units, ...]``.
        """
        if x.shape[0] > 1 and x.stride(0) == 0 and skip is None:
            x = x[:1]
        folded = laid_out_for(self.synapses, x.flatten(0, 1)) if self.is_conv else x.flatten(2).flatten(0, 1)
        y = self.synapses(folded)
        if skip is not None and self.skip is not None:
            y = y + self.skip(laid_out_for(self.skip, skip.flatten(0, 1)))
        return y.unflatten(0, (x.shape[0], -1))

    def current(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Input current of the neurons, ``[T, B, units, ...]``."""
        y = self.synaptic(x, skip)
        if self.neuron is not None and self.neuron.entry.synaptic:
            y = self.neuron.filtered(y.expand(x.shape[0], *y.shape[1:]))
        if self.norm is not None:
            y = self.norm(y.flatten(0, 1)).unflatten(0, y.shape[:2])
        return y.expand(x.shape[0], *y.shape[1:])

    def pooled(self, spikes: Tensor) -> Tensor:
        """Pool ``spikes`` ``[T, B, C, H, W]``."""
        if self.pool == 1:
            return spikes
        pool = F.avg_pool2d if self.pool_kind == "avg" else F.max_pool2d
        return pool(spikes.flatten(0, 1), self.pool).unflatten(0, spikes.shape[:2])

    def forward(self, x: Tensor, skip: Tensor | None = None, chip: FoldedBlock | None = None) -> Tensor:
        """Pooled spikes, or the current of a readout without neurons.

        With ``chip``, in the numbers of the chip: sums of spikes over the pooling windows instead of averages.
        """
        if chip is not None:
            return self._on_chip(chip, x, skip)
        if self._fusible(x):
            return self._fused(x, skip)
        current = self.current(x, skip)
        return current if self.neuron is None else self.pooled(self.neuron(current))

    def _on_chip(self, chip: FoldedBlock, x: Tensor, skip: Tensor | None) -> Tensor:
        """Sums of spikes over the pooling windows, or the current of a readout, in the numbers of ``chip``."""
        steps = x.shape[0]
        with torch.autocast(x.device.type, enabled=False):
            current = chip.synapses.deliver(self.synapses, x)
            if self.skip is not None and chip.skip is not None and skip is not None:
                current = current.double() + chip.skip.deliver(self.skip, skip).double()
            current = chip.current(current, steps, self.neuron)
            if self.neuron is None:
                return chip.readout(current, steps)
            window = self.pool if self.pool_kind == "avg" else 1
            if self._has_hooks():
                return self._summed(self.neuron(current.expand(steps, *current.shape[1:]), chip))
            spikes = chip.fire(current, steps, self.neuron, window)
            return spikes if window == self.pool else self.pooled(spikes)

    def _summed(self, spikes: Tensor) -> Tensor:
        """Sums of ``spikes`` over the pooling windows, or their maxima."""
        if self.pool == 1 or self.pool_kind == "max":
            return self.pooled(spikes)
        return F.avg_pool2d(spikes.flatten(0, 1), self.pool, divisor_override=1).unflatten(0, spikes.shape[:2])

    def _has_hooks(self) -> bool:
        """Whether the norm or the neurons have hooks."""
        parts = [part for part in (self.norm, self.neuron) if part is not None]
        return any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)

    def _fusible(self, x: Tensor) -> bool:
        """Whether norm, neurons and pooling can run as one operation: none of them is customised or has hooks."""
        return (
            fusible(x, x.shape[0], self.pool if self.pool_kind == "avg" else 1)
            and self.neuron is not None
            and not self.neuron.own_dynamics
            and not self.neuron.entry.synaptic
            and self.neuron.max_spikes == 1
            and (self.norm is None or type(self.norm).forward is PositiveBatchNorm.forward)
            and not self._has_hooks()
        )

    def _fused(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Compute :meth:`current`, neuron and :meth:`pooled` in one pass over memory."""
        neuron, norm = self.neuron, self.norm
        assert neuron is not None
        y = self.synaptic(x, skip)
        pool = self.pool if self.pool_kind == "avg" else 1
        terms = None if norm is None else norm.terms()
        spikes, mean, var = normed_multi_step(
            y, x.shape[0], neuron.dynamics, neuron.leak_amount(), terms, neuron.alive, pool
        )
        if norm is not None and norm.training and mean is not None and var is not None:
            norm.track(mean, var, y.numel() // y.shape[2])
        return spikes if pool == self.pool else self.pooled(spikes)

    def extra_repr(self) -> str:
        """Pooling and residual source."""
        parts = [f"pool={self.pool_kind} {self.pool}"] if self.pool > 1 else []
        parts += [f"skip_from={self.skip_from!r}"] if self.skip_from else []
        return ", ".join(parts)


def _first_and_second_pass(
    norm: PositiveBatchNorm | None,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a forward pass and of its recomputation, which must not update the running statistics again."""
    return nullcontext(), nullcontext() if norm is None else norm.untracked()


class Emulation(Protocol):
    """Provides the constants of a chip with which the blocks of a network compute."""

    def __call__(self, network: "Network") -> Mapping[str, FoldedBlock]:
        """Constants by name of the block."""

    def forget(self) -> None:
        """Discard all cached constants."""


class Network(nn.Module):
    """An ordered list of named blocks; the last one is the readout.

    Args:
        blocks: blocks by name, in the order of the forward pass.
        input_shape: ``(C, H, W)`` of one frame.

    Attributes:
        readout: ``membrane`` if the last block has no neurons (the logits are its current, averaged over time), else
            ``spikes`` (the logits are spike counts).
        gradient_checkpointing: whether training stores only the inputs of the blocks and recomputes the rest in the
            backward pass, which saves memory for a large T. Default: False.
        emulation: provides the constants of a chip with which each block computes instead of its own
            (:mod:`spikefit.program.emulation`). Default: None, no emulation.

    Shape:
        ``[T, B, C, H, W]`` -> ``[T, B, num_classes]``.

    Raises:
        ConfigurationError: if ``skip_from`` names no earlier block, or a block before the last has no neuron.

    Example:
        >>> from spikefit.neurons import IF
        >>> blocks = {"hidden": Block(nn.Linear(16, 8), neuron=IF(8)), "readout": Block(nn.Linear(8, 3))}
        >>> network = Network(blocks, input_shape=(1, 4, 4))
        >>> output = network(torch.zeros(5, 2, 1, 4, 4))
        >>> output.shape, network.logits(output).shape
        (torch.Size([5, 2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, blocks: dict[str, Block], input_shape: tuple[int, ...]) -> None:
        super().__init__()
        earlier: set[str] = set()
        names = list(blocks)
        for name, block in blocks.items():
            if block.skip_from is not None and block.skip_from not in earlier:
                raise ConfigurationError(
                    f"skip_from of block {name}: got {block.skip_from!r}, expected one of {sorted(earlier)}."
                )
            if block.neuron is None and name != names[-1]:
                raise ConfigurationError(f"block {name}: has no neuron; only the last block, {names[-1]}, may lack it.")
            earlier.add(name)
        self.blocks = nn.ModuleDict(blocks)
        self.input_shape = tuple(input_shape)
        self.gradient_checkpointing = False
        self.emulation: Emulation | None = None
        self._skip_sources = {block.skip_from for block in blocks.values()}

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """Names and blocks, in order."""
        for name, block in self.blocks.items():
            assert isinstance(block, Block)
            yield name, block

    def block(self, name: str) -> Block:
        """Return the block ``name``."""
        block = self.blocks[name]
        assert isinstance(block, Block)
        return block

    def named_synapses(self) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
        """Names and layers of all weight matrices: ``conv2``, ``conv2.skip``, ..."""
        for name, block in self.named_blocks():
            yield name, block.synapses
            if isinstance(block.skip, nn.Conv2d):
                yield f"{name}.skip", block.skip

    @property
    def readout(self) -> Readout:
        """How the output of the last block becomes logits: ``membrane`` or ``spikes``."""
        last = list(self.named_blocks())[-1][1]
        return "membrane" if last.neuron is None else "spikes"

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; an emulation discards its cache, as weights may have changed unnoticed."""
        if self.emulation is not None:
            self.emulation.forget()
        return super().train(mode)

    def forward(self, x: Tensor, counter: SynopCounter | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Output of the readout at every step, ``[T, B, num_classes]``.

        With ``counter``, also the synaptic operations of every layer, float64 ``[layers]``, summed over the batch; each
        block's layer is followed by its shortcut.
        """
        if counter is None:
            return self._pass(x, None)[0]
        with parametrize.cached():  # the counter and the layer read the same quantised weight
            output, counts = self._pass(x, counter)
        return output, torch.stack(counts)

    def _pass(self, x: Tensor, counter: SynopCounter | None) -> tuple[Tensor, list[Tensor]]:
        kept: dict[str | None, Tensor] = {}
        counts: list[Tensor] = []
        before = None
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        chips = {} if self.emulation is None else self.emulation(self)
        for name, block in self.named_blocks():
            skip, chip = kept.get(block.skip_from), chips.get(name)
            skip_from = None if block.skip_from is None else self.block(block.skip_from)
            sent = [] if counter is None else counter.arriving(x, before, skip, skip_from, chip)
            if recompute:
                contexts = partial(_first_and_second_pass, block.norm)
                y = checkpoint(block, x, skip, chip, use_reentrant=False, context_fn=contexts)
            else:
                y = block(x, skip, chip)
            if counter is not None:
                counts += counter.received(name, block, sent, chip)
            if name in self._skip_sources:
                kept[name] = y
            x, before = y, block
        return x, counts

    def logits(self, output: Tensor) -> Tensor:
        """Class scores ``[B, num_classes]`` from the output ``[T, B, num_classes]``: mean current or spike count."""
        if self.readout == "spikes":
            return output.sum(dim=0)
        return output[0] if output.stride(0) == 0 else output.mean(dim=0)  # exact, unlike the mean of equal numbers
