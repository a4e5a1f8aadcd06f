"""The one description of a network: an ordered list of blocks.

A block is synapses -> norm -> neuron -> pool. It reads the block before it and may add, in front of its norm, the
output of one earlier block (a residual input). The last block is the readout, with or without neurons. Lowering,
pruning, statistics and reports all walk this list.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikefit.errors import ConfigurationError, check_choice
from spikefit.functional.lif import fusible, normed_multi_step
from spikefit.networks.emulated import FoldedBlock
from spikefit.networks.memory_format import laid_out_for
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.neurons import SpikingNeuron

Readout = Literal["membrane", "spikes"]
PoolKind = Literal["avg", "max"]


class IdentitySkip(nn.Module):
    """A residual input through one synapse a neuron, all with the same learned weight.

    Shape:
        ``[N, C, H, W]`` -> ``[N, C, H, W]``.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` times the weight."""
        return x * self.weight


class Block(nn.Module):
    """Synapses -> norm -> neuron -> pool, with an optional residual input added before the norm.

    Args:
        synapses: ``Conv2d`` or ``Linear``; a linear layer flattens what it reads, channel first.
        norm: normalises the current of each unit; None for none.
        neuron: fires; None makes the block a readout that returns its current.
        pool: side and stride of the pooling window behind the neuron; 1 for none.
        pool_kind: ``avg`` or ``max``.
        skip_from: name of the earlier block whose output is the residual input.
        skip: what the residual input passes: :class:`IdentitySkip` or a 1x1 ``Conv2d``.

    Shape:
        ``[T, B, ...]`` -> ``[T, B, units, ...]``.

    Raises:
        ConfigurationError: for an unknown ``pool_kind``, one of ``skip`` and ``skip_from`` without the other, or a
            pooling behind a linear layer.
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
            raise ConfigurationError("skip and skip_from: give both or neither.")
        if pool > 1 and not isinstance(synapses, nn.Conv2d):
            raise ConfigurationError(f"pool: got {pool!r} behind a linear layer, expected 1: it has no map to pool.")
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
        """What the synapses deliver, in front of the norm: ``[T, B, units, ...]``.

        What is one frame expanded in time (stride 0, a directly coded image) is computed once: ``[1, B, ...]``.
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
        """``spikes`` ``[T, B, C, H, W]`` behind the pooling."""
        if self.pool == 1:
            return spikes
        pool = F.avg_pool2d if self.pool_kind == "avg" else F.max_pool2d
        return pool(spikes.flatten(0, 1), self.pool).unflatten(0, spikes.shape[:2])

    def forward(self, x: Tensor, skip: Tensor | None = None, chip: FoldedBlock | None = None) -> Tensor:
        """Pooled spikes, or the current of a readout without neurons.

        With ``chip`` as that computes them: sums of spikes over the pooling windows instead of their averages.
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
        """Whether somebody looks at what passes from the norm to the neurons or from these to the pooling."""
        parts = [part for part in (self.norm, self.neuron) if part is not None]
        return any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)

    def _fusible(self, x: Tensor) -> bool:
        """Whether norm, neurons and pooling may run as one operation: nobody watches or replaces one of them."""
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
        """The same as :meth:`current`, neuron and :meth:`pooled`, in one pass over memory."""
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
    """Contexts of a forward pass and of its repetition in the backward pass, which must not be tracked again."""
    return nullcontext(), nullcontext() if norm is None else norm.untracked()


class Emulation(Protocol):
    """Gives the integers with which the blocks of a network are to compute."""

    def __call__(self, network: "Network") -> Mapping[str, FoldedBlock]:
        """By block."""

    def forget(self) -> None:
        """Give nothing again that was worked out before."""


class Network(nn.Module):
    """An ordered list of named blocks; the last one is the readout.

    Args:
        blocks: in the order in which spikes pass through them.
        input_shape: ``(C, H, W)`` of one frame.

    Attributes:
        readout: ``membrane`` when the last block has no neurons (its current, averaged over time, is the logit), else
            ``spikes`` (spike counts are the logits).
        gradient_checkpointing: whether training keeps the inputs of the blocks alone and computes what lies between
            anew in the backward pass: memory for time, where T is large. Off at first.
        emulation: gives, for the network, the integers with which each block is to compute instead of its own numbers
            (:mod:`spikefit.program.emulation`); None, as at first, for the network as it is.

    Shape:
        ``[T, B, C, H, W]`` -> ``[T, B, num_classes]``.

    Raises:
        ConfigurationError: when a residual input names a block that is not an earlier one, a block before the last has
            no neuron, or a layer's map shrinks to nothing.
    """

    def __init__(self, blocks: dict[str, Block], input_shape: tuple[int, ...]) -> None:
        super().__init__()
        seen: set[str] = set()
        names = list(blocks)
        for name, block in blocks.items():
            if block.skip_from is not None and block.skip_from not in seen:
                raise ConfigurationError(
                    f"skip_from of block {name}: got {block.skip_from!r}, expected one of {sorted(seen)}."
                )
            if block.neuron is None and name != names[-1]:
                raise ConfigurationError(f"block {name}: only the last block, {names[-1]}, may lack a neuron.")
            seen.add(name)
        self.blocks = nn.ModuleDict(blocks)
        self.input_shape = tuple(input_shape)
        self.gradient_checkpointing = False
        self.emulation: Emulation | None = None
        self._skip_sources = {block.skip_from for block in blocks.values()}

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """Name and block, in order."""
        for name, block in self.blocks.items():
            assert isinstance(block, Block)
            yield name, block

    def block(self, name: str) -> Block:
        """The block called ``name``."""
        block = self.blocks[name]
        assert isinstance(block, Block)
        return block

    def named_synapses(self) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
        """Name and layer of everything that holds a weight matrix: ``conv2``, ``conv2.skip``, ..."""
        for name, block in self.named_blocks():
            yield name, block.synapses
            if isinstance(block.skip, nn.Conv2d):
                yield f"{name}.skip", block.skip

    @property
    def readout(self) -> Readout:
        """How the last block is read."""
        last = list(self.named_blocks())[-1][1]
        return "membrane" if last.neuron is None else "spikes"

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; an emulation begins anew, as what it can't see may have changed."""
        if self.emulation is not None:
            self.emulation.forget()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the readout at every step, ``[T, B, num_classes]``."""
        kept: dict[str | None, Tensor] = {}
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        chips = {} if self.emulation is None else self.emulation(self)
        for name, block in self.named_blocks():
            skip, chip = kept.get(block.skip_from), chips.get(name)
            if recompute:
                contexts = partial(_first_and_second_pass, block.norm)
                x = checkpoint(block, x, skip, chip, use_reentrant=False, context_fn=contexts)
            else:
                x = block(x, skip, chip)
            if name in self._skip_sources:
                kept[name] = x
        return x

    def logits(self, output: Tensor) -> Tensor:
        """Class scores ``[B, num_classes]`` from the output ``[T, B, num_classes]``: mean current or spike count."""
        if self.readout == "spikes":
            return output.sum(dim=0)
        return output[0] if output.stride(0) == 0 else output.mean(dim=0)  # the mean of equal numbers would be rounded
