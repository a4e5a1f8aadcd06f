"""The one description of a network: an ordered list of blocks.

A block is synapses -> norm -> neuron -> pool. It reads the block before it and may add, in front of its norm, the
output
of one earlier block (a residual input). The last block is the readout, with or without neurons. Lowering, pruning,
statistics and reports all walk this list.
"""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikefit.errors import ConfigurationError, check_choice
from spikefit.neurons import SpikingNeuron

Readout = Literal["membrane", "spikes"]
PoolKind = Literal["avg", "max"]


class PositiveBatchNorm(_BatchNorm):
    """Batch normalisation whose gain is positive, so that it folds into thresholds and never into weights.

    With ``g = gain / sqrt(running_var + eps)`` a neuron behind it fires exactly as one without a norm, with threshold
    ``theta / g`` and bias ``(beta - g * running_mean) / g``.

    Shape:
        ``[N, C]`` or ``[N, C, H, W]``, same out.
    """

    minimum_gain = 1e-3

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected a 2D or 4D input, got {input.dim()}D.")

    @property
    def gain(self) -> Tensor:
        """The positive gain ``[C]``: the magnitude of ``weight``, kept away from zero."""
        return self.weight.abs().clamp_min(self.minimum_gain)

    def forward(self, input: Tensor) -> Tensor:
        """Normalised ``input``, by batch statistics in training and by running ones in evaluation."""
        self._check_input_dim(input)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # a cumulative average
                momentum = 1 / float(self.num_batches_tracked)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.gain,
            self.bias,
            self.training,
            momentum or 0.0,
            self.eps,
        )

    def folded(self) -> tuple[Tensor, Tensor]:
        """Per channel ``g`` and ``bias / g`` such that the norm is ``y = g * (x + bias / g)``, in float64."""
        assert self.running_mean is not None
        assert self.running_var is not None
        g = self.gain.double() / (self.running_var.double() + self.eps).sqrt()
        return g, self.bias.double() / g - self.running_mean.double()


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
        return len(self.synapses.weight)

    @property
    def is_conv(self) -> bool:
        """Whether the synapses are a convolution."""
        return isinstance(self.synapses, nn.Conv2d)

    def current(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Input current of the neurons, ``[T, B, units, ...]``.

        Frames that are one frame expanded in time (stride 0, a directly coded image) are computed once.
        """
        steps = x.shape[0]
        constant = steps > 1 and x.stride(0) == 0 and skip is None
        if constant:
            x = x[:1]
        folded = x.flatten(0, 1) if self.is_conv else x.flatten(2).flatten(0, 1)
        y = self.synapses(folded)
        if skip is not None and self.skip is not None:
            y = y + self.skip(skip.flatten(0, 1))
        if self.norm is not None:
            y = self.norm(y)
        y = y.unflatten(0, (x.shape[0], -1))
        return y.expand(steps, *y.shape[1:]) if constant else y

    def pooled(self, spikes: Tensor) -> Tensor:
        """``spikes`` ``[T, B, C, H, W]`` behind the pooling."""
        if self.pool == 1:
            return spikes
        pool = F.avg_pool2d if self.pool_kind == "avg" else F.max_pool2d
        return pool(spikes.flatten(0, 1), self.pool).unflatten(0, spikes.shape[:2])

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Pooled spikes, or the current of a readout without neurons."""
        current = self.current(x, skip)
        return current if self.neuron is None else self.pooled(self.neuron(current))

    def extra_repr(self) -> str:
        """Pooling and residual source."""
        parts = [f"pool={self.pool_kind} {self.pool}"] if self.pool > 1 else []
        parts += [f"skip_from={self.skip_from!r}"] if self.skip_from else []
        return ", ".join(parts)


class Network(nn.Module):
    """An ordered list of named blocks; the last one is the readout.

    Args:
        blocks: in the order in which spikes pass through them.
        input_shape: ``(C, H, W)`` of one frame.

    Attributes:
        readout: ``membrane`` when the last block has no neurons (its current, averaged over time, is the logit), else
            ``spikes`` (spike counts are the logits).

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

    def forward(self, x: Tensor) -> Tensor:
        """Output of the readout at every step, ``[T, B, num_classes]``."""
        kept: dict[str | None, Tensor] = {}
        for name, block in self.named_blocks():
            x = block(x, kept.get(block.skip_from))
            if name in self._skip_sources:
                kept[name] = x
        return x

    def logits(self, output: Tensor) -> Tensor:
        """Class scores ``[B, num_classes]`` from the output ``[T, B, num_classes]``: mean current or spike count."""
        return output.mean(dim=0) if self.readout == "membrane" else output.sum(dim=0)
